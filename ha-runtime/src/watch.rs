//! Notices that a tree of files changed, without looking at all of it.
//!
//! One inotify watch for each directory that takes part (the tree's filter decides); no symbolic link is followed and no
//! tree is left. It says *that* something changed, not what: a scan finds out.
//!
//! What it does not see at once: a file that is kept open and written (seen when it is closed), one that is written through
//! a memory mapping, or through a name outside the tree (a hard link), `truncate` of a file that is not opened, and a time of
//! last write that is set alone. So everything counts as changed once an hour, and whoever relies on this module scans in
//! full then.

mod map;
mod mounts;
mod tree;
mod worker;

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;

use crate::far::Wake;
use crate::sync::Tree;
use worker::Worker;

/// Watches some trees, in a thread of its own, until it is dropped.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    wake: Wake,
}

/// A point in the history of the watched trees: two equal ones mean that nothing changed in between.
///
/// Two different ones mean that something may have: what is not known counts as a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seen(u64);

#[cfg(test)]
impl Seen {
    pub(crate) fn at(point: u64) -> Seen {
        Seen(point)
    }
}

/// The environment's fault: nothing is watched, and changes are found by the schedule alone.
#[derive(Debug, Error)]
#[error("files cannot be watched: {0}; changes are found by the schedule alone")]
pub struct WatchError(#[source] io::Error);

impl Watch {
    /// Begins to watch. Until all directories have their watches, [`Watch::seen`] gives another value each time.
    ///
    /// A tree that is missing is waited for. Err: no thread or descriptor can be had.
    pub fn start(trees: &[Tree]) -> Result<Watch, WatchError> {
        let wake = Wake::new().map_err(|error| WatchError(error.into()))?;
        let shared = Arc::new(Shared::new());
        let worker = Worker::new(trees, shared.clone(), wake.clone()).map_err(WatchError)?;
        std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || worker.run())
            .map_err(WatchError)?;
        Ok(Watch { shared, wake })
    }

    /// Where the history is now. Take it before a scan; as long as it stays equal, that scan is valid.
    ///
    /// Costs some microseconds and never waits. Every change that was over before the call is in it, also one that the thread
    /// has not come to yet. It differs, too: after the start, when the kernel's queue has overflown, when a tree's directory
    /// appears, disappears or is mounted over (within two seconds), and every hour. While [`Watch::why_not`] gives a reason
    /// it never repeats a value.
    pub fn seen(&self) -> Seen {
        self.shared.seen()
    }

    /// Waits until [`Watch::seen`] is no longer `since`. While [`Watch::why_not`] gives a reason, changes do not end the
    /// wait: the schedule has to.
    ///
    /// Dropping the future is safe.
    pub async fn changed(&self, since: Seen) {
        let mut history = self.shared.history.subscribe();
        // the sender lives in `self`
        let _ = history.wait_for(|now| *now != since.0).await;
    }

    /// Why nothing is watched at present, and what an administrator can do about it. It is tried again every minute.
    pub fn why_not(&self) -> Option<String> {
        self.shared.lock().why_not.clone()
    }

    /// How many directories are watched: of the kernel's limit `fs.inotify.max_user_watches`, one each.
    pub fn directories(&self) -> usize {
        self.shared.directories.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // not waited for: a file system that does not answer must not keep anyone from leaving
        self.shared.ended.store(true, Ordering::Relaxed);
        self.wake.wake();
    }
}

/// What the thread and whoever asks have in common.
#[derive(Debug)]
struct Shared {
    history: tokio::sync::watch::Sender<u64>,
    /// The thread has taken events out of a queue, and what they mean is not in the history yet.
    busy: AtomicBool,
    ended: AtomicBool,
    directories: AtomicUsize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// One for each tree that exists.
    queues: Vec<Arc<OwnedFd>>,
    why_not: Option<String>,
}

impl Shared {
    fn new() -> Shared {
        Shared {
            history: tokio::sync::watch::Sender::new(0),
            busy: AtomicBool::new(true),
            ended: AtomicBool::new(false),
            directories: AtomicUsize::new(0),
            open: Mutex::default(),
        }
    }

    fn seen(&self) -> Seen {
        let unknown = {
            let open = self.lock();
            let waits =
                |queue: &Arc<OwnedFd>| rustix::io::ioctl_fionread(queue).map_or(true, |bytes| bytes > 0);
            // in this order: the thread is busy before it takes anything out of a queue
            open.why_not.is_some() || open.queues.iter().any(waits) || self.busy.load(Ordering::SeqCst)
        };
        if unknown {
            self.count_change();
        }
        Seen(*self.history.borrow())
    }

    fn count_change(&self) {
        self.history.send_modify(|now| *now += 1);
    }

    /// Lets the queues go; only while the thread is busy, so that nobody takes them for all there is.
    fn forget_queues(&self) {
        let old = std::mem::take(&mut self.lock().queues);
        drop(old);
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // both fields are whole at any moment
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
