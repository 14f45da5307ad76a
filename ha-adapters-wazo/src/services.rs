//! How telephony is started, stopped and observed.

use std::time::Duration;

use ha_core::effect::OnFailure;
use ha_core::profile::{Observation, ServicePlan, Step};

/// The order of `xivo-manage-slave-services`. Its time-outs are ours: the script has none. Those before service,
/// with the slowest detection of the documents (a round that begins a minute late and takes 30 s), fit into the
/// promised five minutes.
pub(crate) const PLAN: ServicePlan = ServicePlan {
    start: &[
        // The replicated settings into the files that the daemons read.
        help(&["xivo-create-config"], 15),
        help(&["xivo-update-config"], 20),
        // Downloads the phones' MAC prefixes. Without the network there is no download, and there must be telephony.
        help(&["dhcpd-update", "-dr"], 15),
        // DHCP belongs to the active node: phones must be able to reboot.
        help(&["service", "isc-dhcp-server", "start"], 10),
        help(&["update-rc.d", "isc-dhcp-server", "defaults"], 10),
        // The cached SIP configuration comes from the database before the replication.
        help(&["wazo-confgen", "asterisk/pjsip.conf", "--invalidate"], 15),
        require(&["wazo-service", "enable"], 10),
        require(&["wazo-service", "start"], 90),
        Step {
            argv: &["wazo-agentd-cli", "-c", "relog all --timeout 60"],
            // agentd's own 60 s, and its start
            timeout: Duration::from_secs(75),
            on_failure: OnFailure::GoOn,
            before_service: false,
        },
    ],
    stop: &[
        after(&["wazo-service", "stop", "wazo"], 90, OnFailure::Fail),
        after(&["wazo-service", "disable"], 10, OnFailure::Fail),
        after(&["update-rc.d", "isc-dhcp-server", "remove"], 10, OnFailure::GoOn),
        after(&["service", "isc-dhcp-server", "stop"], 20, OnFailure::GoOn),
        // stop is not start reversed: the group that must run on a passive node comes back (it was stopped by the
        // same command until 2013, and nobody could configure the slave)
        after(&["wazo-service", "start"], 90, OnFailure::Fail),
    ],
    status: Step {
        argv: &["wazo-service", "status", "all"],
        // it asks systemd for two dozen units and the database for its schema revision
        timeout: Duration::from_secs(10),
        on_failure: OnFailure::GoOn,
        before_service: true,
    },
};

/// `wazo-service` creates the file in `disable` and deletes it in `enable`; every telephony unit carries
/// `ConditionPathExists=!` on it. Asterisk's packaged unit writes the pid file.
pub(crate) const OBSERVATION: Observation = Observation {
    disabled_file: Some("/var/lib/wazo/disabled"),
    unit: "asterisk.service",
    pid_file: "/run/asterisk/asterisk.pid",
};

/// The documentation, "Master node": `wazo-service restart` on both nodes. It stops and starts everything; a failure
/// does not take the role back.
pub(crate) const RESTART: &[Step] = &[after(&["wazo-service", "restart"], 240, OnFailure::GoOn)];

/// A step whose failure is reported and does not keep telephony down.
const fn help(argv: &'static [&'static str], seconds: u64) -> Step {
    Step { argv, timeout: Duration::from_secs(seconds), on_failure: OnFailure::GoOn, before_service: true }
}

/// A step without which there is no telephony.
const fn require(argv: &'static [&'static str], seconds: u64) -> Step {
    Step { argv, timeout: Duration::from_secs(seconds), on_failure: OnFailure::Fail, before_service: true }
}

/// A step for which no phone waits.
const fn after(argv: &'static [&'static str], seconds: u64, on_failure: OnFailure) -> Step {
    Step { argv, timeout: Duration::from_secs(seconds), on_failure, before_service: false }
}
