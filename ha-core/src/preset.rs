//! Two ways to run a pair: as engineers would today, and as the documents have it.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;

use crate::failback::{Failback, FailbackPolicy};
use crate::health::{Rung, RungPolicy};
use crate::node::Policy;
use crate::profile::SeedRound;
use crate::replication::flow::Flow;

const fn checked(
    interval: u64,
    timeout: u64,
    suspect_interval: u64,
    down_after: u8,
    up_after: u8,
) -> RungPolicy {
    let ms = Duration::from_millis;
    match RungPolicy::new(ms(interval), ms(timeout), ms(suspect_interval), down_after, up_after) {
        Ok(policy) => policy,
        Err(_) => panic!("a preset's rung is inconsistent"),
    }
}

/// One question a second and ten losses: a verdict 2.4 to 3.4 s after the death, and one false alarm in about two days
/// at 30 % one-way loss (`safety.md` 1.1).
pub const MODERN_RUNG: RungPolicy = checked(1000, 400, 200, 10, 3);

/// Telephony of a Wazo or XiVO takes up to half a minute to restart, which the documents order (`safety.md` 1.3).
pub const DEGRADED_AFTER: Duration = Duration::from_secs(30);

/// The failback of the `modern` preset: gated by a hold, a hold-down and a latch.
pub const MODERN_FAILBACK: Failback = Failback {
    policy: FailbackPolicy::Automatic,
    hold: Duration::from_secs(60),
    hold_down: Duration::from_secs(600),
    latch_after: 3,
    latch_window: Duration::from_secs(3600),
};

/// The failback of the documents: on the first good round, whatever happened before.
pub const SEED_FAILBACK: Failback = Failback {
    policy: FailbackPolicy::Automatic,
    hold: Duration::ZERO,
    hold_down: Duration::ZERO,
    latch_after: 0,
    latch_window: Duration::from_secs(3600),
};

/// A round of the documents as a rung: its pings follow each other at their spacing once the first is lost, all must be
/// lost, and one reply makes the round good.
///
/// # Panics
///
/// Never with a profile's constants, which the conformance kit checks: spacing not above the interval, one ping or more.
pub fn seed_rung(round: &SeedRound) -> RungPolicy {
    let pings = u8::try_from(round.pings).unwrap_or(u8::MAX);
    RungPolicy::new(round.every, round.spacing, round.spacing, pings, 1)
        .expect("a profile's round is consistent")
}

/// Host and service asked every second, failback gated, each change replicated. No reference, no schedule, UTC: these come from the settings.
pub fn modern() -> Policy {
    Policy {
        rungs: vec![(Rung::Host, MODERN_RUNG), (Rung::Service, MODERN_RUNG)],
        references: Vec::new(),
        degraded_after: DEGRADED_AFTER,
        failback: MODERN_FAILBACK,
        flow: Flow::Push,
        schedule: None,
        on_change: true,
        exclusive: None,
        zone: Arc::new(Utc),
    }
}

/// The documents' numbers and rules: a round of pings a minute, handed back on the first reply.
pub fn seed(round: &SeedRound) -> Policy {
    Policy {
        rungs: vec![(Rung::Host, seed_rung(round))],
        degraded_after: Duration::ZERO,
        failback: SEED_FAILBACK,
        on_change: false,
        ..modern()
    }
}
