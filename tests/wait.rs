//! Waits that end.

use std::thread;
use std::time::{Duration, Instant};

/// How often a condition is asked.
const POLL: Duration = Duration::from_millis(25);

/// Limits are said for a machine that has nothing else to do; on one that is shared, starting a process alone can take a
/// second. What must be fast is asserted from recorded moments, never from such a limit.
const PATIENCE: u32 = 4;

/// The first answer of `ask`; panics naming `what` when there is none within `PATIENCE` times `limit`.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, ask: impl FnMut() -> Option<T>) -> T {
    match within(limit, ask) {
        Some(answer) => answer,
        None => panic!("not within {:?}: {what}", limit * PATIENCE),
    }
}

/// The first answer of `ask`; `None` when there is none within `PATIENCE` times `limit`.
pub fn within<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit * PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= end {
            return None;
        }
        thread::sleep(POLL);
    }
}

/// Lets time pass in the lab: for "nothing happens meanwhile".
pub fn pass(time: Duration) {
    thread::sleep(time);
}

/// Seconds as a duration.
pub fn seconds(count: f64) -> Duration {
    Duration::from_secs_f64(count)
}
