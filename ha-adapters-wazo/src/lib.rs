//! Wazo as data: what is copied, which commands start and stop telephony, and what a role change does.
//!
//! No IO and nothing that decides: constants with their sources. Role file and role change are those of every descendant
//! of sysconfd (`ha-adapters-sysconfd`). Sources are named as follows.
//!
//! | name | source |
//! | --- | --- |
//! | the documentation | Wazo documentation, "High availability (HA)" |
//! | the scripts | `xivo-check-master-status`, `xivo-manage-slave-services`, `xivo-master-slave-db-replication`, `wazo-sync` |

#![forbid(unsafe_code)]
// test code may say what it expects
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod files;
mod services;
mod tables;

use std::time::Duration;

use ha_adapters_sysconfd::{SYSTEMD_RESTART_DATABASE, Sentinels, Sysconfd};
use ha_core::profile::{Api, Direction, RestartAfter, Script, SeedRound, SipPlan, SipTimers};
use ha_core::{Distribution, Effect, Profile, Role, RoleChange, RoleConfig, RoleError};

/// Wazo, as its documentation describes it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wazo;

/// Wazo's constants.
pub const PROFILE: Profile = Profile {
    name: "wazo",
    program: "wazo-ha",
    // The documentation: the master's two scripts run "every hour (:00)" and send.
    direction: Direction::Push,
    schedule: "0 * * * *",
    // xivo-check-master-status: ping -c 3 -i 10, from cron every minute.
    seed_round: SeedRound { pings: 3, spacing: Duration::from_secs(10), every: Duration::from_secs(60) },
    datasets: files::DATASETS,
    database: Some(tables::DATABASE),
    services: services::PLAN,
    observe: services::OBSERVATION,
    sip: Some(SIP),
    api: Api::Confd,
    key_file: "/var/lib/wazo-auth-keys/wazo-upgrade-key.yml",
    scripts: SCRIPTS,
    // sysconfd's file
    role_file: "/etc/xivo/ha.conf",
    conf_file: None,
    restart: services::RESTART,
    // The documentation, "Master node": on the master, then on the slave once the replication has been there.
    restart_after: &[
        RestartAfter { from: ANY, to: Role::Master, when: "now" },
        RestartAfter { from: ANY, to: Role::Slave, when: "after the first replication" },
    ],
    // Devices are resynchronised over confd, which has a call for it: see `Effect::SynchronizeDevices`.
    resync: &[],
    // ssh-keygen's -C in `wazo-sync -i`.
    key_comment: "XiVO HA",
    // The documentation: never "a downtime of more than 5 minutes of their basic telephony service".
    promise: Duration::from_secs(300),
    same_subnet: None,
    exclusive_address: false,
    automatic_failback: true,
    watchdog: false,
    followers: &[],
};

/// Whatever the node was.
const ANY: &[Role] = &[Role::Disabled, Role::Master, Role::Slave];

/// The documentation: minexpiry 3 minutes, maxexpiry 5, defaultexpiry 4. Outside a pair: what the products ship.
const SIP: SipPlan =
    SipPlan { paired: SipTimers::seconds(180, 240, 300), shipped: SipTimers::seconds(60, 120, 3600) };

/// The documentation, "Internals": four scripts. `xivo-sync` is `wazo-sync`'s former name, still installed.
const SCRIPTS: &[(&str, Script)] = &[
    ("xivo-check-master-status", Script::CheckMaster),
    ("xivo-manage-slave-services", Script::ManageServices),
    ("xivo-master-slave-db-replication", Script::ReplicateDatabase),
    ("wazo-sync", Script::Sync),
    ("xivo-sync", Script::Sync),
];

/// The scripts look for the sentinels since 2023 (WAZO-2858).
const SYSCONFD: Sysconfd = Sysconfd {
    profile: &PROFILE,
    sentinels: Some(Sentinels {
        primary: "/var/lib/wazo/is-primary",
        secondary: "/var/lib/wazo/is-secondary",
    }),
    file_sync: Some("/usr/bin/wazo-sync"),
    restart_database: SYSTEMD_RESTART_DATABASE,
    slave_lines: &[],
};

impl Distribution for Wazo {
    fn profile(&self) -> &'static Profile {
        &PROFILE
    }

    fn parse_role(&self, text: Option<&str>) -> Result<RoleConfig, RoleError> {
        SYSCONFD.parse_role(text)
    }

    fn apply_role(&self, change: &RoleChange<'_>) -> Vec<Effect> {
        SYSCONFD.apply_role(change)
    }
}

#[cfg(test)]
mod golden;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wazo_keeps_every_promise_of_a_distribution() {
        ha_core::testkit::conformance(&Wazo);
    }
}
