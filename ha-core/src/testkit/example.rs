//! A distribution that nobody has, for tests that need one and must name none.

use std::time::Duration;

use crate::effect::OnFailure;
use crate::profile::{Api, Direction, Observation, Profile, SeedRound, ServicePlan, Step};

const STEP: Step = Step {
    argv: &["true"],
    timeout: Duration::from_secs(1),
    on_failure: OnFailure::Fail,
    before_service: true,
};

/// Nothing is copied, and every command is `true`. Replace what a test is about: `Profile { datasets, ..EXAMPLE }`.
pub const EXAMPLE: Profile = Profile {
    name: "example",
    program: "example-ha",
    direction: Direction::Push,
    schedule: "0 * * * *",
    seed_round: SeedRound { pings: 3, spacing: Duration::from_secs(10), every: Duration::from_secs(60) },
    datasets: &[],
    database: None,
    services: ServicePlan { start: &[STEP], stop: &[STEP], status: STEP },
    observe: Observation {
        disabled_file: None,
        switches: &[],
        unit: "example.service",
        pid_file: "/run/example.pid",
    },
    sip: None,
    api: Api::Confd,
    key_file: "/etc/example/key.yml",
    scripts: &[],
    role_file: "/etc/example/role",
    conf_file: None,
    restart: &[],
    restart_after: &[],
    resync: &[],
    key_comment: "example",
    promise: Duration::from_secs(300),
    same_subnet: None,
    exclusive_address: false,
    automatic_failback: true,
    watchdog: false,
    followers: &[],
};
