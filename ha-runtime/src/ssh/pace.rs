//! A limit on bytes a second.

use std::time::{Duration, Instant};

/// Bytes that may pass now, filled up as time goes by. Without a limit, always as many as one likes.
#[derive(Debug)]
pub(super) struct Pace {
    limit: Option<Limit>,
}

#[derive(Debug)]
struct Limit {
    per_second: u64,
    allowed: u64,
    counted: Instant,
}

/// What may pass at once after a pause, as a part of a second's worth.
const BURST: u64 = 10;

impl Pace {
    pub(super) fn new(per_second: Option<u64>, now: Instant) -> Pace {
        let limit = per_second.filter(|rate| *rate > 0).map(|per_second| Limit {
            per_second,
            allowed: 0,
            counted: now,
        });
        Pace { limit }
    }

    /// How many bytes may pass at `now`; 0: wait.
    pub(super) fn allowed(&mut self, now: Instant) -> usize {
        let Some(limit) = &mut self.limit else { return usize::MAX };
        let earned = now.saturating_duration_since(limit.counted).as_micros() * u128::from(limit.per_second)
            / 1_000_000;
        let earned = u64::try_from(earned).unwrap_or(u64::MAX);
        if earned > 0 {
            let burst = (limit.per_second / BURST).max(1);
            limit.allowed = limit.allowed.saturating_add(earned).min(burst);
            limit.counted = now;
        }
        usize::try_from(limit.allowed).unwrap_or(usize::MAX)
    }

    pub(super) fn spend(&mut self, bytes: usize) {
        if let Some(limit) = &mut self.limit {
            limit.allowed = limit.allowed.saturating_sub(bytes as u64);
        }
    }

    /// How long to wait before bytes may pass again; `None`: they may now.
    pub(super) fn wait(&self) -> Option<Duration> {
        let limit = self.limit.as_ref().filter(|limit| limit.allowed == 0)?;
        // A hundredth of a second's worth at once, not byte by byte.
        let microseconds = 1_000_000 / limit.per_second.min(100);
        Some(Duration::from_micros(microseconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paced_stream_keeps_its_rate_whatever_the_steps() {
        let start = Instant::now();
        let mut pace = Pace::new(Some(1_000_000), start);
        let mut passed = 0;
        for millisecond in 0..2000 {
            let bytes = pace.allowed(start + Duration::from_millis(millisecond)).min(32_000);
            pace.spend(bytes);
            passed += bytes;
        }
        assert!((1_990_000..=2_000_000).contains(&passed), "{passed}");
    }

    #[test]
    fn a_pause_earns_no_more_than_a_burst() {
        let start = Instant::now();
        let mut pace = Pace::new(Some(1_000_000), start);
        assert_eq!(pace.allowed(start), 0);
        assert!(pace.wait().is_some());
        assert_eq!(pace.allowed(start + Duration::from_secs(3600)), 100_000);
        assert!(pace.wait().is_none());
    }

    #[test]
    fn without_a_limit_nothing_waits() {
        let mut pace = Pace::new(None, Instant::now());
        assert_eq!(pace.allowed(Instant::now()), usize::MAX);
        assert!(Pace::new(Some(0), Instant::now()).wait().is_none());
    }
}
