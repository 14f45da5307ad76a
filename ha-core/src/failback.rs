//! How eager failback is.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::time::{Instant, Now};
use crate::window::DailyWindow;

/// Who or what permits a failback, once the peer is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailbackPolicy {
    /// Readiness is enough.
    Automatic,
    /// A person says so (`failback`).
    Manual,
    /// Only at this time of day.
    Window(DailyWindow),
}

impl FailbackPolicy {
    /// The word of the settings.
    pub fn word(&self) -> &'static str {
        match self {
            FailbackPolicy::Automatic => "automatic",
            FailbackPolicy::Manual => "manual",
            FailbackPolicy::Window(_) => "window",
        }
    }
}

/// When telephony goes back to a master that answers again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failback {
    /// Who permits it.
    pub policy: FailbackPolicy,
    /// How long the master must have been `Up` without a break.
    pub hold: Duration,
    /// The least time between two failbacks; doubles while the pair flaps.
    pub hold_down: Duration,
    /// Takeovers within `latch_window` after which failback waits for a person; zero: never.
    pub latch_after: u32,
    /// See `latch_after`.
    pub latch_window: Duration,
}

/// Doublings of the hold-down that are told apart: 10 minutes become at most 10 hours 40 minutes.
pub(crate) const HOLD_DOWN_LEVELS: u8 = 6;

/// The longest wait, in place of longer ones: ten years.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

/// A deadline that survives restarts and distrusts the wall clock.
///
/// Kept as wall time; a step of the wall clock may lengthen it, never shorten it (`safety.md` 2.2), so it is over only
/// when both clocks say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LastingDeadline {
    mono: Instant,
    pub(crate) wall: DateTime<Utc>,
}

impl LastingDeadline {
    pub(crate) fn after(now: Now, wait: Duration) -> LastingDeadline {
        // no calendar has room for the longest wait that can be asked for
        let wait = wait.min(LONGEST);
        LastingDeadline { mono: now.mono + wait, wall: now.wall + wait }
    }

    pub(crate) fn remembered(now: Now, wall: DateTime<Utc>) -> LastingDeadline {
        LastingDeadline { mono: now.mono + (wall - now.wall).to_std().unwrap_or_default(), wall }
    }

    pub(crate) fn left(&self, now: Now) -> Duration {
        (self.mono - now.mono).max((self.wall - now.wall).to_std().unwrap_or_default())
    }

    pub(crate) fn is_over(&self, now: Now) -> bool {
        self.left(now).is_zero()
    }
}
