//! XiVO 1.2, of 2012: telephony is Asterisk and its supervisor, and files are not copied.
//!
//! | name | source |
//! | --- | --- |
//! | the 1.2 page | XiVO 1.2 documentation, "High Availability" |
//! | the 1.2 scripts | `xivo-check-master-status`, `xivo-manage-slave-services`, `xivo-master-slave-db-replication` of 2012 (`domain.md` 4.2) |

use std::time::Duration;

use ha_adapters_sysconfd::{SlaveLine, Sysconfd};
use ha_core::effect::OnFailure;
use ha_core::profile::{
    Api, Database, Observation, SeedRound, ServicePlan, SipPlan, SipTimers, Step, Switch,
};
use ha_core::{Distribution, Effect, Profile, Role, RoleChange, RoleConfig, RoleError, ServiceState};

use crate::{SCRIPTS, SHIPPED, tables};

/// XiVO 1.2: `release = "1.2"` in the settings.
#[derive(Debug, Clone, Copy, Default)]
pub struct Xivo12;

/// What differs from XiVO's constants of today.
pub const PROFILE: Profile = Profile {
    // The 1.2 scripts: ping -c 3 -i 10, from cron every minute.
    seed_round: SeedRound { pings: 3, spacing: Duration::from_secs(10), every: Duration::from_secs(60) },
    // The 1.2 page: custom sounds, music on hold and custom dialplan are not on the slave.
    datasets: &[],
    database: Some(Database { name: "asterisk", exclude: tables::EXCLUDE_1_2 }),
    services: PLAN,
    observe: Observation {
        disabled_file: None,
        switches: SWITCHES,
        unit: "asterisk.service",
        pid_file: "/var/run/asterisk/asterisk.pid",
    },
    // The 1.2 page: 20 s, 2 minutes, 40 s.
    sip: Some(SipPlan { paired: SipTimers::seconds(20, 40, 120), shipped: SHIPPED }),
    api: Api::Provd,
    // The 1.2 page: "3 scripts"; the fourth, of today, copies files.
    scripts: SCRIPTS.split_at(3).0,
    role_file: "/etc/pf-xivo/ha.conf",
    restart: &[],
    restart_after: &[],
    // The 1.2 page asks for nothing of the kind; contact centres, media servers and the Edge are younger.
    same_subnet: None,
    watchdog: false,
    followers: &[],
    ..crate::PROFILE
};

/// The 1.2 scripts. Its time-outs are ours.
const PLAN: ServicePlan = ServicePlan {
    start: &[
        Step::require(&["service", "asterisk", "start"], 60),
        // Last of the two: a supervisor that runs earlier starts Asterisk as well.
        Step::help(&["service", "monit", "start"], 20),
    ],
    stop: &[
        // First of the two: it starts again what it sees stopped.
        Step::after(&["service", "monit", "stop"], 20, OnFailure::Fail),
        Step::after(&["service", "asterisk", "stop"], 60, OnFailure::Fail),
    ],
    // There is no `xivo-service` yet. Asterisk answers when it runs, and the command fails when it does not.
    status: Step::help(&["asterisk", "-rx", "core show uptime"], 10),
};

/// The relay that leads ISDN lines to one of the nodes. Most pairs have none.
const fn relay(to: &'static [&'static str]) -> Step {
    Step::after(to, 10, OnFailure::GoOn)
}
const RELAY_TO_MASTER: Step = relay(&["xivo-berofos", "--syslog", "master"]);
const RELAY_TO_SLAVE: Step = relay(&["xivo-berofos", "--syslog", "slave"]);

/// The 1.2 scripts write these values, and there is no file that forbids telephony.
const SWITCHES: &[Switch] = &[
    Switch { path: "/etc/default/asterisk", name: "RUNASTERISK", on: "yes", off: "no" },
    Switch { path: "/etc/default/monit", name: "startup", on: "1", off: "0" },
];

const SYSCONFD: Sysconfd = Sysconfd {
    profile: &PROFILE,
    sentinels: None,
    file_sync: None,
    // Older than systemd.
    restart_database: &["service", "postgresql", "restart"],
    // The 1.2 page. Users come with the master's identifiers, which a slave must accept.
    slave_lines: &[SlaveLine {
        path: "/etc/pf-xivo/web-interface/ipbx.ini",
        section: "user",
        line: "readonly-idpwd = \"false\"",
    }],
};

impl Distribution for Xivo12 {
    fn profile(&self) -> &'static Profile {
        &PROFILE
    }

    fn parse_role(&self, text: Option<&str>) -> Result<RoleConfig, RoleError> {
        SYSCONFD.parse_role(text)
    }

    fn apply_role(&self, change: &RoleChange<'_>) -> Vec<Effect> {
        SYSCONFD.apply_role(change)
    }

    /// The scripts run on slaves only: to the slave after its start, to the master before its stop. A master hands over
    /// here as well, and then it is the other way round.
    fn set_services(&self, to: ServiceState, role: Role) -> Vec<Effect> {
        let mut effects = PROFILE.set_services(to);
        let (here, there) = match role {
            Role::Disabled => return effects,
            Role::Master => (RELAY_TO_MASTER, RELAY_TO_SLAVE),
            Role::Slave => (RELAY_TO_SLAVE, RELAY_TO_MASTER),
        };
        match to {
            ServiceState::Running => effects.push(Effect::Run(here.command())),
            ServiceState::Stopped => effects.insert(0, Effect::Run(there.command())),
        }
        effects
    }
}

#[cfg(test)]
mod tests {
    use Role::{Disabled, Master, Slave};
    use ServiceState::{Running, Stopped};

    use super::*;

    #[test]
    fn xivo_1_2_keeps_every_promise_of_a_distribution() {
        ha_core::testkit::conformance(&Xivo12);
    }

    #[test]
    fn the_profile_and_each_role_change_are_as_reviewed() {
        crate::tests::compare(&Xivo12, "goldens/1.2");
    }

    #[test]
    fn asterisk_may_start_before_it_is_started_and_may_not_once_it_is_stopped() {
        let list = |to, role| {
            Xivo12.set_services(to, role).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        let start = "set our lines in /etc/default/asterisk\n    | RUNASTERISK=yes\n\
                     set our lines in /etc/default/monit\n    | startup=1\n\
                     run service asterisk start\nrun service monit start";
        assert_eq!(list(Running, Disabled), start);
        assert_eq!(list(Running, Slave), format!("{start}\nrun xivo-berofos --syslog slave"));
        let stop = "run service monit stop\nrun service asterisk stop\n\
                    set our lines in /etc/default/asterisk\n    | RUNASTERISK=no\n\
                    set our lines in /etc/default/monit\n    | startup=0";
        assert_eq!(list(Stopped, Slave), format!("run xivo-berofos --syslog master\n{stop}"));
        assert_eq!(list(Stopped, Master), format!("run xivo-berofos --syslog slave\n{stop}"));
    }
}
