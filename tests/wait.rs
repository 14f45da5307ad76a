//! Waits that end.

use std::thread;
use std::time::{Duration, Instant};

/// How often a condition is asked.
const POLL: Duration = Duration::from_millis(25);

/// The first answer of `ask`; panics naming `what` when there is none within `limit`.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, ask: impl FnMut() -> Option<T>) -> T {
    match within(limit, ask) {
        Some(answer) => answer,
        None => panic!("not within {limit:?}: {what}"),
    }
}

/// The first answer of `ask`; `None` when there is none within `limit`.
pub fn within<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
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
