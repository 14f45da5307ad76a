//! How a program at the far end ended, and how its stream learns of it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::{FarError, Wake};

/// Bytes of a far program's stderr that are kept: its last ones.
pub(crate) const STDERR_KEPT: usize = 8 * 1024;

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// With this status.
    Code(i32),
    /// By this signal, named without `SIG`.
    Signal(String),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "status {code}"),
            Exit::Signal(name) => write!(f, "signal {name}"),
        }
    }
}

/// The end of a program at the far end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// How it ended.
    pub exit: Exit,
    /// The last 8 KiB of what it wrote to stderr, with every control character but line ends and tabs replaced.
    pub stderr: String,
}

impl Ending {
    /// Whether it ended with status 0.
    pub fn is_success(&self) -> bool {
        self.exit == Exit::Code(0)
    }

    /// The last line of its stderr that says something; empty when it said nothing.
    pub fn last_line(&self) -> &str {
        self.stderr.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default()
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.exit)?;
        match self.last_line() {
            "" => Ok(()),
            line => write!(f, ": {line}"),
        }
    }
}

/// The last bytes of a stream that may be endless.
#[derive(Debug, Default)]
pub(crate) struct Tail(Vec<u8>);

impl Tail {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        let surplus = self.0.len().saturating_sub(STDERR_KEPT);
        self.0.drain(..surplus);
    }

    /// The text, safe to print: a far end must not be able to drive this end's terminal.
    pub(crate) fn text(&self) -> String {
        let shown = |c: char| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c };
        String::from_utf8_lossy(&self.0).replace("\r\n", "\n").chars().map(shown).collect()
    }
}

/// Where the thread that carries a stream leaves the ending, and the stream's holder waits for it.
#[derive(Debug, Clone)]
pub(crate) struct EndingSlot(Arc<Slot>);

#[derive(Debug)]
struct Slot {
    ending: Mutex<Option<Result<Ending, FarError>>>,
    told: Condvar,
    released: AtomicBool,
    carrier: Wake,
}

impl EndingSlot {
    /// An empty slot; `carrier` wakes the thread that will fill it.
    pub(crate) fn new(carrier: Wake) -> EndingSlot {
        EndingSlot(Arc::new(Slot {
            ending: Mutex::new(None),
            told: Condvar::new(),
            released: AtomicBool::new(false),
            carrier,
        }))
    }

    /// Leaves the ending; the first one stays.
    pub(crate) fn tell(&self, ending: Result<Ending, FarError>) {
        self.0.ending.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(ending);
        self.0.told.notify_all();
    }

    /// The ending, or `None` when there is none within `patience`.
    pub(crate) fn wait(&self, patience: Duration) -> Option<Result<Ending, FarError>> {
        let guard = self.0.ending.lock().unwrap_or_else(PoisonError::into_inner);
        let (guard, _) = self
            .0
            .told
            .wait_timeout_while(guard, patience, |ending| ending.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        guard.clone()
    }

    /// Says that nobody will ask for the ending any more.
    pub(crate) fn release(&self) {
        self.0.released.store(true, Ordering::Release);
        self.0.carrier.wake();
    }

    pub(crate) fn is_released(&self) -> bool {
        self.0.released.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_stderr_leaves_its_last_bytes() {
        let mut tail = Tail::default();
        for _ in 0..1000 {
            tail.push(&[b'x'; 1000]);
        }
        tail.push(b"disk full");
        assert_eq!(tail.text().len(), STDERR_KEPT);
        assert!(tail.text().ends_with("xdisk full"));
    }

    #[test]
    fn a_far_end_cannot_drive_the_terminal() {
        let mut tail = Tail::default();
        tail.push(b"a\x1b]0;owned\x07b\r\nc\td\n");
        assert_eq!(tail.text(), "a\u{fffd}]0;owned\u{fffd}b\nc\td\n");
    }

    #[test]
    fn an_ending_says_its_last_words() {
        let ending = Ending { exit: Exit::Code(3), stderr: "first\nno such socket\n\n".into() };
        assert_eq!(ending.to_string(), "status 3: no such socket");
        assert_eq!(
            Ending { exit: Exit::Signal("KILL".into()), stderr: String::new() }.to_string(),
            "signal KILL"
        );
    }
}
