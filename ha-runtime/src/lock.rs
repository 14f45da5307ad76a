//! The locks of a node: a verb from cron and the daemon never act together.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::durable::private_directory;
use crate::root::Root;

/// Where the lock files lie, below the root. Mode 0700.
pub const LOCK_DIRECTORY: &str = "/run/pbx-ha";

/// What a lock is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// Changing roles, services and what belongs to them.
    Act,
    /// Sending, fetching and applying a replica.
    Replicate,
    /// Having an own agent fetch a replica: it is the agent that takes [`Lock::Replicate`].
    Fetch,
}

impl Lock {
    /// Its file's path on this machine.
    pub fn path(self, root: &Root) -> PathBuf {
        let name = match self {
            Lock::Act => "act.lock",
            Lock::Replicate => "replicate.lock",
            Lock::Fetch => "fetch.lock",
        };
        root.path(LOCK_DIRECTORY).join(name)
    }

    /// Takes it if it is free.
    pub fn try_lock(self, root: &Root) -> Result<Held, LockError> {
        hold(&self.path(root), Duration::ZERO)
    }

    /// Takes it as soon as it is free, within `patience`: the second of two jobs waits, it does not fail.
    pub fn lock_within(self, root: &Root, patience: Duration) -> Result<Held, LockError> {
        hold(&self.path(root), patience)
    }

    /// As [`Lock::lock_within`], for an agent; `Lock::agent` finds it.
    pub fn lock_for_agent(self, root: &Root, patience: Duration) -> Result<Held, LockError> {
        hold_as(&self.path(root), patience, &format!("{} {AGENT}", std::process::id()))
    }

    /// The process that holds it; `None`: nobody does, or it is just being taken.
    pub fn holder(self, root: &Root) -> Option<i32> {
        // not by trying the lock: that would refuse it to somebody who tries it at the same moment
        let path = self.path(root);
        holder(&path).map(|(pid, _)| pid).filter(|pid| locks(*pid, &path))
    }

    /// The agent that holds it; `None`: nobody does, or somebody else.
    pub fn agent(self, root: &Root) -> Option<i32> {
        let path = self.path(root);
        let (pid, word) = holder(&path)?;
        (word == AGENT && locks(pid, &path)).then_some(pid)
    }
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("{} is held{}", path.display(), holder.map_or(String::new(), |pid| format!(" by process {pid}")))]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Who, if it could be read.
        holder: Option<i32>,
    },
    /// The file cannot be locked.
    #[error("{}: {source}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A lock that is held until this is dropped or the process ends, however it ends. Commands do not inherit it.
#[derive(Debug)]
#[must_use = "the lock is free again when this is dropped"]
pub struct Held {
    file: File,
}

impl Drop for Held {
    fn drop(&mut self) {
        // the name would be wrong from now on; the lock itself goes with the descriptor
        let _ = self.file.set_len(0);
    }
}

/// Takes the lock of any file, which is created when missing and never removed (removing would make two locks of one).
pub fn hold(path: &Path, patience: Duration) -> Result<Held, LockError> {
    hold_as(path, patience, &std::process::id().to_string())
}

/// How an agent signs in a lock file, behind its number.
const AGENT: &str = "agent";

fn hold_as(path: &Path, patience: Duration, signature: &str) -> Result<Held, LockError> {
    const GLANCE: Duration = Duration::from_millis(20);
    let failed = |source| LockError::Io { path: path.to_owned(), source };
    if let Some(directory) = path.parent() {
        private_directory(directory).map_err(failed)?;
    }
    // std opens with O_CLOEXEC
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    let start = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let left = patience.saturating_sub(start.elapsed());
                if left.is_zero() {
                    let holder = holder(path).map(|(pid, _)| pid);
                    return Err(LockError::Held { path: path.to_owned(), holder });
                }
                std::thread::sleep(left.min(GLANCE));
            }
            Err(error) => return Err(failed(error.into())),
        }
    }
    let mut held = Held { file };
    // who holds it is for people; a full disk must not stop a takeover
    let _ = held.file.set_len(0).and_then(|()| writeln!(held.file, "{signature}"));
    Ok(held)
}

/// Who signed: a process, and the word behind its number.
fn holder(path: &Path) -> Option<(i32, String)> {
    let mut text = String::new();
    File::open(path).ok()?.take(32).read_to_string(&mut text).ok()?;
    let mut words = text.split_whitespace();
    Some((words.next()?.parse().ok()?, words.next().unwrap_or_default().to_owned()))
}

/// Whether the process holds this file's flock (proc_locks(5)): the file's own word may be that of a process that was
/// killed, and its number may by now be that of another one, which is not to be ended.
fn locks(pid: i32, file: &Path) -> bool {
    let Ok(file) = std::fs::metadata(file) else { return false };
    let (pid, inode) = (pid.to_string(), file.ino().to_string());
    std::fs::read_to_string("/proc/locks").unwrap_or_default().lines().any(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let locked = words.get(5).and_then(|file| file.rsplit(':').next());
        words.get(1) == Some(&"FLOCK")
            && words.get(4) == Some(&pid.as_str())
            && locked == Some(inode.as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn place() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path()).unwrap();
        (dir, root)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn the_second_is_refused_at_once_or_waits_as_it_asks() {
        let (_dir, root) = place();
        let first = Lock::Act.try_lock(&root).unwrap();
        let own = std::process::id().cast_signed();
        let Err(LockError::Held { holder, .. }) = Lock::Act.try_lock(&root) else { panic!("taken twice") };
        assert_eq!((holder, Lock::Act.holder(&root)), (Some(own), Some(own)));
        assert!(Lock::Act.lock_within(&root, Duration::from_millis(50)).is_err());
        let _other = Lock::Replicate.try_lock(&root).unwrap();

        std::thread::scope(|scope| {
            let second = scope.spawn(|| Lock::Act.lock_within(&root, LONG).map(drop));
            drop(first);
            second.join().unwrap().unwrap();
        });
        assert_eq!(Lock::Act.holder(&root), None);
    }

    #[test]
    #[ignore = "the other process of the_lock_of_a_killed_process_is_free"]
    fn hold_until_killed() {
        let root = Root::new(std::env::var_os("LOCK_ROOT").expect("started by the other test")).unwrap();
        let _held = Lock::Act.try_lock(&root).unwrap();
        println!("held");
        std::thread::sleep(LONG);
    }

    #[test]
    fn the_lock_of_a_killed_process_is_free() {
        use std::io::{BufRead, BufReader};
        let (_dir, root) = place();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--nocapture", "lock::tests::hold_until_killed"])
            .env("LOCK_ROOT", root.directory())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line.contains("held")));
        assert_eq!(Lock::Act.holder(&root), Some(child.id().cast_signed()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(Lock::Act.holder(&root), None);
        drop(Lock::Act.try_lock(&root).unwrap());
    }

    #[test]
    fn a_process_that_locks_another_file_is_not_the_holder_of_this_one() {
        let (_dir, root) = place();
        let _other = Lock::Replicate.try_lock(&root).unwrap();
        // what a killed process left, whose number somebody else has got
        std::fs::write(Lock::Act.path(&root), format!("{}\n", std::process::id())).unwrap();
        assert_eq!(Lock::Act.holder(&root), None);
        assert!(Lock::Replicate.holder(&root).is_some());
    }

    #[test]
    fn a_service_started_under_the_lock_does_not_keep_it() {
        let (_dir, root) = place();
        let held = Lock::Act.try_lock(&root).unwrap();
        let mut service = Command::new("sleep").arg("60").spawn().unwrap();
        drop(held);
        assert!(Lock::Act.try_lock(&root).is_ok());
        service.kill().unwrap();
        service.wait().unwrap();
    }
}
