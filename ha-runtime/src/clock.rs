//! The machine's clocks as the core wants them.

use std::time::Duration;

use chrono::{SubsecRound, Utc};
use ha_core::{Instant, Now};
use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_BOOTTIME`: it goes on while the machine sleeps, so that a suspended node does not believe that no time passed.
pub fn now() -> Now {
    let time = clock_gettime(ClockId::Boottime);
    let millis = u64::try_from(time.tv_sec).unwrap_or_default() * 1000
        + u64::try_from(time.tv_nsec).unwrap_or_default() / 1_000_000;
    Now { mono: Instant(millis), wall: Utc::now().trunc_subsecs(3) }
}

/// `CLOCK_BOOTTIME` as finely as it is counted: from the start of the machine, its sleep included.
pub fn boottime() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.try_into().unwrap_or_default(), time.tv_nsec.try_into().unwrap_or_default())
}
