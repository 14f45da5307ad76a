//! The thread: waits for events, draws the conclusions, begins anew where something is not known.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::mounts::MountTable;
use super::tree::{NotWatched, Noticed, Watched, count};
use super::{Open, Shared};
use crate::far::Wake;
use crate::sync::Tree;

/// How often is looked whether the trees' directories are where they were.
const LOOK: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };
/// After so long everything is watched anew and counts as changed.
const ANEW: Duration = Duration::from_secs(3600);
/// How often what could not be watched is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// What the thread owns.
#[derive(Debug)]
pub(super) struct Worker {
    trees: Vec<Tree>,
    /// One for each tree; `None`: it does not exist. Empty: nothing is watched.
    watched: Vec<Option<Watched>>,
    mounts: MountTable,
    shared: Arc<Shared>,
    wake: Wake,
    /// When everything was begun anew.
    begun: Instant,
}

/// What a wait was ended by, other than events of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woken {
    /// Something may have been mounted somewhere.
    ByMounts,
    /// Nothing in particular.
    Otherwise,
}

impl Worker {
    pub(super) fn new(trees: &[Tree], shared: Arc<Shared>, wake: Wake) -> io::Result<Worker> {
        let (trees, mounts) = (trees.to_vec(), MountTable::open()?);
        Ok(Worker { trees, watched: Vec::new(), mounts, shared, wake, begun: Instant::now() })
    }

    /// Until the watch is dropped.
    pub(super) fn run(mut self) {
        let result = self.begin();
        self.conclude(result.map(|()| Noticed::Change));
        while !self.shared.ended.load(Ordering::Relaxed) {
            let woken = self.wait();
            // before anything is taken out of a queue
            self.shared.busy.store(true, Ordering::SeqCst);
            let result = self.turn(woken);
            self.conclude(result);
        }
    }

    /// For an event, a mount, the end, or the time to look.
    fn wait(&self) -> Woken {
        let mut fds = vec![PollFd::new(&self.wake, PollFlags::IN), PollFd::new(&self.mounts, PollFlags::PRI)];
        let queues = self.watched.iter().flatten();
        fds.extend(queues.map(|watched| PollFd::from_borrowed_fd(watched.queue().as_fd(), PollFlags::IN)));
        match poll(&mut fds, Some(&LOOK)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => {
                // out of kernel memory: no spinning
                tracing::warn!(%errno, "waiting for changes of files");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        if fds[1].revents().is_empty() { Woken::Otherwise } else { Woken::ByMounts }
    }

    fn turn(&mut self, woken: Woken) -> Result<Noticed, NotWatched> {
        let pause = if self.shared.lock().why_not.is_some() { AGAIN } else { ANEW };
        if self.begun.elapsed() >= pause {
            self.begin()?;
            return Ok(Noticed::Change);
        }
        let mut most = Noticed::Nothing;
        for (tree, watched) in self.trees.iter().zip(&mut self.watched) {
            most = most.max(look(tree, watched, woken, &self.shared)?);
        }
        Ok(most)
    }

    /// Watches everything anew.
    fn begin(&mut self) -> Result<(), NotWatched> {
        self.begun = Instant::now();
        // the old watches end first: the limit has no room for both. Meanwhile nothing is known
        self.shared.forget_queues();
        self.watched.clear();
        self.watched = self.trees.iter().map(Watched::new).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Tells what a turn gave; only then the thread is not busy any more.
    fn conclude(&mut self, result: Result<Noticed, NotWatched>) {
        let failed_before = self.shared.lock().why_not.is_some();
        let (changed, why_not) = match result {
            // in between two attempts
            Ok(Noticed::Nothing) if failed_before => return self.shared.busy.store(false, Ordering::SeqCst),
            Ok(noticed) => (noticed != Noticed::Nothing, None),
            Err(error) => {
                self.watched.clear();
                (!failed_before, Some(self.advice(&error)))
            }
        };
        if let (true, Some(reason)) = (changed, &why_not) {
            tracing::warn!("files are not watched, the schedule alone finds changes: {reason}");
        }
        let directories = self.watched.iter().flatten().map(Watched::directories).sum();
        self.shared.directories.store(directories, Ordering::Relaxed);
        let queues = self.watched.iter().flatten().map(|watched| watched.queue().clone()).collect();
        let old = std::mem::replace(&mut *self.shared.lock(), Open { queues, why_not });
        // not under the lock: the kernel takes its time to end watches, and whoever asks must not wait
        drop(old);
        if changed {
            self.shared.count_change();
        }
        self.shared.busy.store(false, Ordering::SeqCst);
    }

    /// What is wrong, and what would be right.
    fn advice(&self, error: &NotWatched) -> String {
        match error {
            NotWatched::TooManyDirectories => too_many(self.trees.iter().map(count).sum(), limit()),
            NotWatched::NoInstance(_)
            | NotWatched::Tree(_)
            | NotWatched::Kernel(_)
            | NotWatched::Mounts(_) => error.to_string(),
        }
    }
}

/// Takes what one tree has to tell; begins it anew where that is not enough.
fn look(
    tree: &Tree,
    place: &mut Option<Watched>,
    woken: Woken,
    shared: &Shared,
) -> Result<Noticed, NotWatched> {
    if let Some(watched) = place {
        let same = watched.is_in_place()?
            && match woken {
                Woken::ByMounts => watched.has_same_mounts()?,
                Woken::Otherwise => true,
            };
        let noticed = if same { watched.read()? } else { Noticed::Lost };
        match noticed {
            Noticed::Nothing | Noticed::Change => return Ok(noticed),
            Noticed::Lost => {}
        }
    }
    let was_there = place.is_some();
    // the old watches end first, as at every beginning
    shared.forget_queues();
    *place = None;
    *place = Watched::new(tree)?;
    Ok(if was_there || place.is_some() { Noticed::Change } else { Noticed::Nothing })
}

/// The kernel's limit of watches for all programs of a user together.
fn limit() -> Option<usize> {
    std::fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").ok()?.trim().parse().ok()
}

fn too_many(directories: usize, limit: Option<usize>) -> String {
    // other programs of the same user need some, too
    let enough = limit.unwrap_or(0).max(4096).saturating_add(directories).next_power_of_two();
    let limit = limit.map_or_else(|| "not readable".to_owned(), |limit| limit.to_string());
    format!(
        "fs.inotify.max_user_watches is {limit}, {directories} directories need one each, and other programs have theirs: \
         `sysctl fs.inotify.max_user_watches={enough}`, and the same line in a file below /etc/sysctl.d"
    )
}

#[cfg(test)]
mod tests {
    use ha_core::replication::filter::Filter;

    use super::*;
    use crate::root::Root;

    #[test]
    fn everything_counts_as_changed_after_an_hour_and_a_failure_is_tried_again_after_a_minute() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::new(&Root::new(dir.path()).unwrap(), "/data", Filter::default()).unwrap();
        let shared = Arc::new(Shared::new());
        let mut worker = Worker::new(&[tree], shared.clone(), Wake::new().unwrap()).unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        worker.begin().unwrap();
        let mut after = |pause: Duration| {
            worker.begun = Instant::now() - pause;
            let noticed = worker.turn(Woken::Otherwise).unwrap();
            (noticed, worker.begun.elapsed() < pause)
        };
        assert_eq!(after(ANEW - Duration::from_secs(30)), (Noticed::Nothing, false));
        assert_eq!(after(ANEW), (Noticed::Change, true));
        shared.lock().why_not = Some("no room".to_owned());
        assert_eq!(after(AGAIN - Duration::from_secs(30)), (Noticed::Nothing, false));
        assert_eq!(after(AGAIN), (Noticed::Change, true));
    }

    #[test]
    fn watches_are_not_had_twice_when_everything_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::new(&Root::new(dir.path()).unwrap(), "/data", Filter::default()).unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        let shared = Arc::new(Shared::new());
        let mut worker = Worker::new(&[tree], shared.clone(), Wake::new().unwrap()).unwrap();
        let mut old = Vec::new();
        for _ in 0..3 {
            worker.begin().unwrap();
            assert!(old.iter().all(|queue: &std::sync::Weak<_>| queue.upgrade().is_none()));
            worker.conclude(Ok(Noticed::Change));
            old.extend(shared.lock().queues.iter().map(Arc::downgrade));
        }
        assert_eq!(old.len(), 3);
    }

    #[test]
    fn the_advice_names_the_limit_the_need_and_what_is_enough() {
        let text = too_many(2522, Some(8192));
        assert!(
            text.contains("is 8192, 2522 directories") && text.contains("max_user_watches=16384"),
            "{text}"
        );
        assert!(too_many(100_000, None).contains("max_user_watches=131072"));
    }
}
