//! The ways to the far end: a program over there, its standard input and output over here.
//!
//! There are two: [`ssh::Ssh`](crate::ssh::Ssh), one SSH session with any number of channels, and [`Child`],
//! the same program started on this machine. Both speak the same fixed words; a caller cannot tell them apart.

mod child;
mod ending;
mod error;
mod stream;
mod wake;
mod word;

pub use child::Child;
pub(crate) use child::command_for;
pub use ending::{Ending, Exit};
pub(crate) use ending::{EndingSlot, Tail};
pub use error::{FarError, HostKeyChanged};
pub use stream::{FarEnd, FarStream};
pub(crate) use wake::Wake;
pub use word::{Word, WordError, requested_word};

use std::sync::atomic::{AtomicU64, Ordering};

/// A way to the far end.
///
/// Every call blocks; none takes longer than the way's own time limits.
pub trait Far: Send + Sync {
    /// Starts what the word stands for at the far end.
    ///
    /// Errors: [`FarError`]; nothing runs over there on our behalf then.
    fn open(&self, word: Word) -> Result<FarStream, FarError>;

    /// What has passed through all streams of this way so far.
    fn traffic(&self) -> Traffic;
}

/// Bytes that passed through the streams of a way, without what SSH adds to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// To the far end's standard input.
    pub sent: u64,
    /// From the far end's standard output.
    pub received: u64,
}

/// The counters behind [`Traffic`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Counters {
    pub(crate) fn add_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn add_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn traffic(&self) -> Traffic {
        Traffic { sent: self.sent.load(Ordering::Relaxed), received: self.received.load(Ordering::Relaxed) }
    }
}
