//! Two clocks, both arguments: one to wait with, one for calendars.

use std::ops::{Add, Sub};
use std::time::Duration;

use chrono::{DateTime, LocalResult, NaiveDateTime, TimeZone, Utc};

/// A point on the monotonic clock. Milliseconds since the driver started.
///
/// The runtime feeds it from `CLOCK_BOOTTIME`, so that a suspended machine does not believe that no time has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(pub u64);

impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, wait: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Instant {
    type Output = Duration;
    /// Zero when `earlier` is later.
    fn sub(self, earlier: Instant) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// What time it is, on both clocks. Never subtract one from the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For waiting.
    pub mono: Instant,
    /// For calendars and for deadlines that survive a restart.
    pub wall: DateTime<Utc>,
}

/// The machine's time zone, for schedules and windows that people write in local time.
///
/// Implemented for every [`chrono::TimeZone`]: the runtime passes `chrono::Local`, tests pass a zone of `chrono-tz`.
pub trait Zone: Send + Sync {
    /// Local time at `wall`.
    fn local(&self, wall: DateTime<Utc>) -> NaiveDateTime;
    /// The instants that read `local` on the wall: none in the spring gap, two in the autumn repeat.
    fn instants(&self, local: NaiveDateTime) -> LocalResult<DateTime<Utc>>;
}

impl<Z: TimeZone + Send + Sync> Zone for Z {
    fn local(&self, wall: DateTime<Utc>) -> NaiveDateTime {
        wall.with_timezone(self).naive_local()
    }
    fn instants(&self, local: NaiveDateTime) -> LocalResult<DateTime<Utc>> {
        self.from_local_datetime(&local).map(|there| there.with_timezone(&Utc))
    }
}
