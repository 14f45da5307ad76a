//! XiVO as data: what is copied, which commands start and stop telephony, and what a role change does.
//!
//! No IO and nothing that decides: constants with their sources. Role file and role change are those of every descendant
//! of sysconfd (`ha-adapters-sysconfd`). Sources are named as follows.
//!
//! | name | source |
//! | --- | --- |
//! | the architecture page | XiVO documentation, "Resilience Architecture" |
//! | the administration page | XiVO documentation, "Resilience Administration" |
//! | the scripts | `xivo-check-master-status`, `xivo-manage-slave-services`, `xivo-master-slave-db-replication`, `xivo-sync` |

#![forbid(unsafe_code)]
// test code may say what it expects
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod edge;
mod release_1_2;
mod runbook;
mod services;
mod tables;

use std::time::Duration;

use ha_adapters_sysconfd::{SYSTEMD_RESTART_DATABASE, Sysconfd};
use ha_core::follow::{Edge, EnvFile, Followers, Step};
use ha_core::profile::{
    Api, Dataset, Direction, Follower, RestartAfter, Script, SeedRound, SipPlan, SipTimers,
};
use ha_core::{Distribution, Effect, Profile, Role, RoleChange, RoleConfig, RoleError, Side};

pub use release_1_2::{PROFILE as PROFILE_1_2, Xivo12};

/// XiVO, as its documentation describes it today.
#[derive(Debug, Clone, Copy, Default)]
pub struct Xivo;

/// XiVO's constants.
pub const PROFILE: Profile = Profile {
    name: "xivo",
    program: "xivo-ha",
    // The architecture page: "replicated from the master node to the slave every hour (:00)".
    direction: Direction::Push,
    schedule: "0 * * * *",
    // The architecture page: "every minutes", "if more than 3 ping fails". The scripts: 10 s apart.
    seed_round: SeedRound { pings: 4, spacing: Duration::from_secs(10), every: Duration::from_secs(60) },
    datasets: DATASETS,
    database: Some(tables::DATABASE),
    services: services::PLAN,
    observe: services::OBSERVATION,
    sip: Some(SipPlan { paired: SipTimers::seconds(60, 120, 300), shipped: SHIPPED }),
    api: Api::Confd,
    // The keys of the services in Access Web Services, where the common ancestor writes them.
    key_file: "/var/lib/xivo-auth-keys/xivo-upgrade-key.yml",
    scripts: SCRIPTS,
    role_file: "/etc/xivo/ha.conf",
    conf_file: None,
    restart: services::RESTART,
    // The administration page: "once the master node is configured", and "once the master node is disabled".
    restart_after: &[
        RestartAfter { from: &[Role::Disabled, Role::Master, Role::Slave], to: Role::Master, when: "now" },
        RestartAfter { from: &[Role::Master], to: Role::Disabled, when: "now" },
    ],
    // Devices are resynchronised over confd, which has a call for it: see `Effect::SynchronizeDevices`.
    resync: &[],
    // ssh-keygen's -C in `xivo-sync -i`.
    key_comment: "XiVO HA",
    // The architecture page: never "a downtime of more than 5 minutes of their basic telephony service".
    promise: Duration::from_secs(300),
    same_subnet: Some("DHCP is replicated, so both nodes must serve one VoIP network"),
    exclusive_address: false,
    automatic_failback: true,
    watchdog: false,
    followers: &[Follower::ContactCentre, Follower::MediaServers, Follower::Edge],
};

const PAGE: &str = "XiVO documentation, Resilience Architecture, \"File Replication\"";

const DATASETS: &[Dataset] = &[
    Dataset::whole("/etc/asterisk/extensions_extra.d", PAGE),
    Dataset::whole("/etc/xivo/asterisk", PAGE),
    Dataset::whole("/var/lib/asterisk/agi-bin", PAGE),
    Dataset::whole("/var/lib/asterisk/moh", PAGE),
    Dataset::whole("/var/lib/xivo/certificates", PAGE),
    Dataset::whole("/var/lib/xivo/sounds/acd", PAGE),
    Dataset::whole("/var/lib/xivo/sounds/playback", PAGE),
];

/// The administration page, "SIP Expiry", the values in parentheses.
const SHIPPED: SipTimers = SipTimers::seconds(60, 120, 3600);

/// The administration page, "Scripts".
const SCRIPTS: &[(&str, Script)] = &[
    ("xivo-check-master-status", Script::CheckMaster),
    ("xivo-manage-slave-services", Script::ManageServices),
    ("xivo-master-slave-db-replication", Script::ReplicateDatabase),
    ("xivo-sync", Script::Sync),
];

/// Sentinels are younger than the fork.
const SYSCONFD: Sysconfd = Sysconfd {
    profile: &PROFILE,
    sentinels: None,
    file_sync: Some("/usr/bin/xivo-sync"),
    restart_database: SYSTEMD_RESTART_DATABASE,
    slave_lines: &[],
};

impl Distribution for Xivo {
    fn profile(&self) -> &'static Profile {
        &PROFILE
    }

    fn parse_role(&self, text: Option<&str>) -> Result<RoleConfig, RoleError> {
        SYSCONFD.parse_role(text)
    }

    fn apply_role(&self, change: &RoleChange<'_>) -> Vec<Effect> {
        SYSCONFD.apply_role(change)
    }

    fn releases(&self) -> &'static [(&'static str, &'static dyn Distribution)] {
        &[("1.2", &Xivo12)]
    }

    fn runbook(&self, followers: &Followers, side: Side) -> Vec<Step> {
        runbook::steps(followers, side)
    }

    fn edge(&self, edge: &Edge) -> Option<EnvFile> {
        Some(edge::file(edge))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn xivo_keeps_every_promise_of_a_distribution() {
        ha_core::testkit::conformance(&Xivo);
    }

    #[test]
    fn the_profile_and_each_role_change_are_as_reviewed() {
        compare(&Xivo, "goldens");
    }

    /// After a wanted change: `UPDATE_GOLDENS=1 cargo test -p ha-adapters-xivo`, then read the difference.
    pub(crate) fn compare(distribution: &dyn Distribution, directory: &str) {
        for (name, text) in ha_core::testkit::goldens(distribution) {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory).join(name);
            if std::env::var_os("UPDATE_GOLDENS").is_some() {
                std::fs::write(&path, &text).unwrap();
            }
            let golden = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(golden == text, "{} differs; it would now be:\n{text}", path.display());
        }
    }
}
