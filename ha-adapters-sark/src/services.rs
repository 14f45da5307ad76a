//! How Asterisk is started, stopped and observed.

use ha_core::effect::OnFailure;
use ha_core::profile::{Observation, SeedRound, ServicePlan, Step};
use std::time::Duration;

/// Nobody is pinged: the cluster hears the other node. This stands for its slowest, Heartbeat as SARK's page has it
/// (under 30 s, Asterisk's start included), with a beat every 2 s and a deadtime of 10 s.
pub(crate) const DETECTION: SeedRound =
    SeedRound { pings: 5, spacing: Duration::from_secs(2), every: Duration::from_secs(2) };

/// The time-outs are ours. Those before service fit, with [`DETECTION`], into the promised 30 s; what they cut off goes
/// on in systemd, and the next try finds it done.
pub(crate) const PLAN: ServicePlan = ServicePlan {
    start: &[
        // The sixth start within 10 s would be refused, and an address that comes and goes needs as many. A pattern means
        // such units as are loaded: one that is not has nothing to be reset, and by its name that would be an error.
        Step::help(&["systemctl", "reset-failed", "[a]sterisk.service"], 2),
        Step::require(&["systemctl", "start", "asterisk.service"], 8),
        // Asterisk's older unit calls it started before it is. Without HOME: `asterisk -rx` leaves a history there.
        Step::help(&["env", "-u", "HOME", "asterisk", "-rx", "core waitfullybooted"], 5),
    ],
    // A process that is stopped (SIGSTOP) hears no SIGTERM, but systemd sends SIGCONT with it and, by our own drop-in,
    // SIGKILL after 5 s, which needs nobody to hear it. `core stop now` would hang with it.
    stop: &[Step::after(&["systemctl", "stop", "asterisk.service"], 15, OnFailure::Fail)],
    // systemd calls a hung Asterisk active, and the older unit even one that has crashed: Asterisk itself is asked
    status: Step::help(&["env", "-u", "HOME", "asterisk", "-rx", "core show uptime"], 3),
};

/// Asterisk's own pid file, and the unit of Debian's package.
pub(crate) const OBSERVATION: Observation = Observation {
    disabled_file: None,
    switches: &[],
    unit: "asterisk.service",
    pid_file: "/run/asterisk/asterisk.pid",
};
