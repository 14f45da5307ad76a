//! SARK as data: what is copied, which commands start and stop telephony, what a role change does, and the two files in
//! which a pair's one address stands: `/etc/asha.conf` and, for Heartbeat, those below `/etc/ha.d`.
//!
//! SARK says *primary* and *standby*; here these are master and slave, as everywhere else, and this is the only place
//! that knows. Which of them serves is another matter: whoever has the address.
//!
//! No IO and nothing that decides: constants with their sources, and functions of text.
//!
//! | name | source |
//! | --- | --- |
//! | SARK's page | SARK documentation, "High Availability for SARK" |
//! | asha | the package `asha` 1.x; its files and keys are in `domain.md` 5 |

#![forbid(unsafe_code)]
// test code may say what it expects
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

pub mod asha_conf;
mod copying;
pub mod heartbeat;
mod role_change;
mod services;
mod share;

use std::time::Duration;

use ha_core::cluster::heartbeat::{Files, Pair};
use ha_core::distribution::{ShareError, Shared, Wish};
use ha_core::profile::{Api, Dataset, Direction};
use ha_core::replication::copying::{Copying, NotSaid};
use ha_core::{Distribution, Effect, Profile, RoleChange, RoleConfig, RoleError, role_file};

pub use asha_conf::{AshaConf, ConfError};

/// SARK, as its documentation describes it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sark;

/// SARK's constants.
pub const PROFILE: Profile = Profile {
    name: "sark",
    program: "sark-ha",
    // SARK's page: "the sync task will run every minute on the standby node".
    direction: Direction::Pull,
    schedule: "* * * * *",
    seed_round: services::DETECTION,
    datasets: DATASETS,
    // What SARK keeps is in SQLite: a file, not a server.
    database: None,
    services: services::PLAN,
    observe: services::OBSERVATION,
    // Phones know one address, so it does not matter how long they believe in it.
    sip: None,
    // SARK has neither confd nor provd; without SIP expiry nobody asks.
    api: Api::Provd,
    key_file: "/etc/pbx-ha/api-key.yml",
    scripts: &[],
    // SARK keeps no role: the primary is the node whose name is HAPRINODE. Ours stands beside the settings.
    role_file: "/etc/pbx-ha/role.json",
    conf_file: Some(asha_conf::PATH),
    // SARK's page orders no restart, and phones find the address where it is.
    restart: &[],
    restart_after: &[],
    resync: &[],
    key_comment: "SARK HA",
    // SARK's page: "quite common to have large systems (250->300 phones) able to fail over in under 30 seconds".
    promise: Duration::from_secs(30),
    same_subnet: Some("both nodes must be able to have the same address"),
    exclusive_address: true,
    // SARK's page, "HA Auto-Failback": "Most users run with this off".
    automatic_failback: false,
    // SARK's page: "A watchdog daemon looks for the Asterisk running task every few seconds."
    watchdog: true,
    followers: &[],
};

const PAGE: &str = "SARK's page, \"Synchronisation\"";

/// What `/etc/asha.conf` says where it says nothing. SARK's database is a file and stands there alone.
const DATASETS: &[Dataset] = &[
    Dataset::whole("/etc/asterisk", PAGE),
    Dataset::whole("/var/lib/asterisk/sounds", PAGE),
    Dataset::whole("/var/spool/asterisk/voicemail", PAGE),
];

impl Distribution for Sark {
    fn profile(&self) -> &'static Profile {
        &PROFILE
    }

    fn copying(&self, conf: Option<&str>) -> Result<Copying, NotSaid> {
        copying::of(conf)
    }

    fn parse_role(&self, text: Option<&str>) -> Result<RoleConfig, RoleError> {
        role_file::parse(PROFILE.role_file, text)
    }

    fn apply_role(&self, change: &RoleChange<'_>) -> Vec<Effect> {
        role_change::apply(change)
    }

    fn share(
        &self,
        conf: Option<&str>,
        wish: &Wish,
        to: &RoleConfig,
        node: &str,
    ) -> Result<Option<Shared>, ShareError> {
        share::share(conf, wish, to, node).map(Some)
    }

    fn heartbeat(&self, pair: &Pair<'_>, key: &str) -> Result<Files, ShareError> {
        heartbeat::files(pair, key).map_err(|error| ShareError(error.to_string()))
    }

    /// `RHINOSPF`. A file that cannot be used says nothing of a card.
    fn has_failover_card(&self, conf: &str) -> bool {
        AshaConf::parse(conf).is_ok_and(|conf| conf.rhino)
    }

    /// `RESTART`. A file that cannot be used does not allow it, as one that says nothing.
    fn restarts_alone(&self, conf: &str) -> bool {
        AshaConf::parse(conf).is_ok_and(|conf| conf.restart)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ha_core::Role;
    use ha_core::distribution::Synch;
    use ha_core::testkit::{goldens, lowered, plain};

    use super::*;

    #[test]
    fn sark_keeps_every_promise_of_a_distribution() {
        ha_core::testkit::conformance(&Sark);
    }

    /// After a wanted change: `UPDATE_GOLDENS=1 cargo test -p ha-adapters-sark`, then read the difference.
    #[test]
    fn the_profile_and_each_role_change_are_as_reviewed() {
        let master = RoleConfig::new(Role::Master, "10.77.0.12").unwrap();
        let shared = Shared {
            cluster_ip: Some("10.77.0.100".parse().unwrap()),
            primary_node: "sark1".to_owned(),
            standby_node: "sark2".to_owned(),
            synch: Synch::Lazy,
        };
        let joined = RoleChange { shared: Some(&shared), ..plain(&RoleConfig::Disabled, &master) };
        let alone = Shared { cluster_ip: None, ..shared.clone() };
        let left = RoleChange { shared: Some(&alone), ..plain(&master, &RoleConfig::Disabled) };
        let with_address = [
            ("join.txt".to_owned(), lowered(&Sark, &joined)),
            ("leave.txt".to_owned(), lowered(&Sark, &left)),
        ];
        for (name, text) in goldens(&Sark).into_iter().chain(with_address) {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens").join(name);
            if std::env::var_os("UPDATE_GOLDENS").is_some() {
                std::fs::write(&path, &text).unwrap();
            }
            let golden = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(golden == text, "{} differs; it would now be:\n{text}", path.display());
        }
    }

    #[test]
    fn a_card_switches_the_lines_where_one_is_installed() {
        assert!(Sark.has_failover_card("RHINOSPF=YES\n"));
        for not in ["", "RHINOSPF=NO\n", "RHINOSPF=YES\nHASYNCH=x\n"] {
            assert!(!Sark.has_failover_card(not), "{not}");
        }
    }

    #[test]
    fn asterisk_is_started_again_alone_only_where_the_file_says_so() {
        assert!(Sark.restarts_alone("RESTART=YES\n"));
        for not in ["", "RESTART=NO\n", "RESTART=YES\nHASYNCH=x\n"] {
            assert!(!Sark.restarts_alone(not), "{not}");
        }
    }

    #[test]
    fn a_start_never_comes_from_systemd_alone_in_a_pair() {
        let master = RoleConfig::new(Role::Master, "10.77.0.12").unwrap();
        let text = lowered(&Sark, &plain(&RoleConfig::Disabled, &master));
        assert!(
            text.contains("| Restart=no\n") && text.contains("run systemctl disable asterisk.service\n"),
            "{text}"
        );
        assert!(text.ends_with("run systemctl daemon-reload\n"), "{text}");
    }
}
