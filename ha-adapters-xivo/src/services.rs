//! How telephony is started, stopped and observed.

use ha_core::effect::OnFailure;
use ha_core::profile::{Observation, ServicePlan, Step};

/// The order of `xivo-manage-slave-services`. Its time-outs are ours: the script has none. Those before service,
/// with the slowest detection of the documents (a round that begins a minute late and takes 40 s), fit into the
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
        Step::require(&["xivo-service", "enable"], 10),
        Step::require(&["xivo-service", "start"], 90),
        // Agents are to work on as they were logged in. One after the other: as long as there are many.
        Step::after(&["xivo-agentd-cli", "-c", "relog all"], 75, OnFailure::GoOn),
    ],
    stop: &[
        Step::after(&["xivo-service", "stop", "xivo"], 90, OnFailure::Fail),
        Step::after(&["xivo-service", "disable"], 10, OnFailure::Fail),
        Step::after(&["update-rc.d", "isc-dhcp-server", "remove"], 10, OnFailure::GoOn),
        Step::after(&["service", "isc-dhcp-server", "stop"], 20, OnFailure::GoOn),
        // stop is not start reversed: the group that must run on a passive node comes back
        Step::after(&["xivo-service", "start"], 90, OnFailure::Fail),
    ],
    // it asks for two dozen daemons and the database for its schema revision
    status: Step::help(&["xivo-service", "status", "all"], 10),
};

/// `xivo-service` creates the file in `disable` and deletes it in `enable`.
pub(crate) const OBSERVATION: Observation = Observation {
    disabled_file: Some("/var/lib/xivo/disabled"),
    switches: &[],
    unit: "asterisk.service",
    pid_file: "/run/asterisk/asterisk.pid",
};

/// The administration page: "You have to restart all services (xivo-service restart)". A failure does not take the role
/// back.
pub(crate) const RESTART: &[Step] = &[Step::after(&["xivo-service", "restart"], 240, OnFailure::GoOn)];
