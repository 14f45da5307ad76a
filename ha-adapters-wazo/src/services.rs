//! How telephony is started, stopped and observed.

use ha_core::effect::OnFailure;
use ha_core::profile::{Observation, ServicePlan, Step};

/// The order of `xivo-manage-slave-services`. Its time-outs are ours: the script has none. Those before service,
/// with the slowest detection of the documents (a round that begins a minute late and takes 30 s), fit into the
/// promised five minutes.
pub(crate) const PLAN: ServicePlan = ServicePlan {
    start: &[
        // The replicated settings into the files that the daemons read.
        Step::help(&["xivo-create-config"], 15),
        Step::help(&["xivo-update-config"], 20),
        // Downloads the phones' MAC prefixes. Without the network there is no download, and there must be telephony.
        Step::help(&["dhcpd-update", "-dr"], 15),
        // DHCP belongs to the active node: phones must be able to reboot.
        Step::help(&["service", "isc-dhcp-server", "start"], 10),
        Step::help(&["update-rc.d", "isc-dhcp-server", "defaults"], 10),
        // The cached SIP configuration comes from the database before the replication.
        Step::help(&["wazo-confgen", "asterisk/pjsip.conf", "--invalidate"], 15),
        Step::require(&["wazo-service", "enable"], 10),
        Step::require(&["wazo-service", "start"], 90),
        // agentd's own 60 s, and its start
        Step::after(&["wazo-agentd-cli", "-c", "relog all --timeout 60"], 75, OnFailure::GoOn),
    ],
    stop: &[
        Step::after(&["wazo-service", "stop", "wazo"], 90, OnFailure::Fail),
        Step::after(&["wazo-service", "disable"], 10, OnFailure::Fail),
        Step::after(&["update-rc.d", "isc-dhcp-server", "remove"], 10, OnFailure::GoOn),
        Step::after(&["service", "isc-dhcp-server", "stop"], 20, OnFailure::GoOn),
        // stop is not start reversed: the group that must run on a passive node comes back (it was stopped by the
        // same command until 2013, and nobody could configure the slave)
        Step::after(&["wazo-service", "start"], 90, OnFailure::Fail),
    ],
    // it asks systemd for two dozen units and the database for its schema revision
    status: Step::help(&["wazo-service", "status", "all"], 10),
};

/// `wazo-service` creates the file in `disable` and deletes it in `enable`; every telephony unit carries
/// `ConditionPathExists=!` on it. Asterisk's packaged unit writes the pid file.
pub(crate) const OBSERVATION: Observation = Observation {
    disabled_file: Some("/var/lib/wazo/disabled"),
    switches: &[],
    unit: "asterisk.service",
    pid_file: "/run/asterisk/asterisk.pid",
};

/// The documentation, "Master node": `wazo-service restart` on both nodes. It stops and starts everything; a failure
/// does not take the role back.
pub(crate) const RESTART: &[Step] = &[Step::after(&["wazo-service", "restart"], 240, OnFailure::GoOn)];
