//! Asterisk's own lock of a mailbox's folder, so that messages can be added while it serves.
//!
//! Asterisk has two ways (`lockmode` in asterisk.conf). `lockfile`, the default: an empty file is made in the folder and linked to
//! the name `.lock`, which fails while somebody has it; it tries for 5 s and then gives up, and so cannot store a message. Nobody
//! ever removes the lock of a process that died. `flock`: an exclusive `flock` of a file `lock`, which the kernel ends.
//!
//! So that a killed engine does not close a mailbox, its `.lock` is a second name of a file in its own directory, which says which folder
//! is meant: whoever comes next knows the lock again by its inode, finishes what it protected, and ends it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use ha_core::replication::path::RelPath;
use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, Statx, flock, fsync, linkat, openat, renameat, statx, unlinkat,
};
use rustix::io::Errno;

use super::error::CarryError;
use super::point;
use crate::sync::{META, Tree, TreeCursor, names, stat_fd};

/// How Asterisk locks, `lockmode` in the `[options]` of asterisk.conf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LockWay {
    /// `lockfile`, which it does when nothing is said.
    #[default]
    LockFile,
    /// `flock`.
    Flock,
}

impl LockWay {
    /// What asterisk.conf says: the last `lockmode` of its section `[options]`, as Asterisk takes it.
    pub fn of_conf(text: &str) -> LockWay {
        let mut section = "";
        let mut way = LockWay::default();
        for line in text.lines() {
            let line = line.split(';').next().unwrap_or_default().trim();
            if let Some(name) = line.strip_prefix('[') {
                section = name.split(']').next().unwrap_or_default();
            } else if let Some((key, value)) = line.split_once('=').filter(|_| section == "options")
                && key.trim().eq_ignore_ascii_case("lockmode")
            {
                let value = value.trim_start_matches('>').trim();
                // whatever else it says is a file to Asterisk as well
                way = if value.eq_ignore_ascii_case("flock") { LockWay::Flock } else { LockWay::LockFile };
            }
        }
        way
    }
}

/// How long others' locks are respected.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For one that is younger than `stale`, so long is waited.
    pub(super) wait: Duration,
    /// One that is older belongs to no living process, and is removed: Asterisk holds one for the time of some renames.
    pub(super) stale: Duration,
}

impl Patience {
    /// Asterisk waits as long; the other is far longer than a disk hangs without the watchdog's notice.
    pub(super) const USUAL: Patience =
        Patience { wait: Duration::from_secs(5), stale: Duration::from_secs(600) };
}

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(10);

const LOCK: &str = ".lock";
/// Beginning of the names of our ends of locks.
const OURS: &str = "lock.";
const BROKEN: &str = "broken";

/// A folder that nobody else changes. Dropped, it is free again.
#[derive(Debug)]
pub(super) struct FolderLock {
    folder: OwnedFd,
    held: Held,
}

#[derive(Debug)]
enum Held {
    /// Our end, in our own directory.
    Link { stage: OwnedFd, ours: String },
    /// The locked file, called `lock` in the folder; it stays there, for whoever waits for it.
    Flock { _file: File },
}

impl FolderLock {
    /// Takes it, also when this program has it since before it was killed.
    pub(super) fn take(
        tree: &Tree,
        stage: &OwnedFd,
        folder: &OwnedFd,
        path: &RelPath,
        (way, patience): (LockWay, Patience),
    ) -> Result<FolderLock, CarryError> {
        let fail = |error: io::Error| tree.error("lock", path, error);
        let taken = match way {
            LockWay::LockFile => Attempt::new(stage, path).map_err(fail)?.finish(stage, folder, patience),
            LockWay::Flock => take_flock(folder, patience),
        };
        match taken.map_err(fail)? {
            Ok(held) => Ok(FolderLock { folder: folder.try_clone().map_err(fail)?, held }),
            Err(held) => Err(CarryError::Locked { folder: tree.display(path), held }),
        }
    }

    /// Ends the locks that a killed process left, and nobody took over.
    pub(super) fn end_leftovers(tree: &Tree, root: &OwnedFd, stage: &OwnedFd) -> io::Result<()> {
        let mut cursor = TreeCursor::new(root.try_clone()?);
        for name in names(stage)? {
            let Some(ours) = name.to_str().ok().filter(|name| name.starts_with(OURS)) else { continue };
            let mut path = Vec::new();
            let opened =
                openat(stage, ours, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
            File::from(opened).read_to_end(&mut path)?;
            let folder = RelPath::new(&path).ok().and_then(|path| {
                let folder = cursor.directory(&path).ok()?.try_clone_to_owned().ok()?;
                tracing::warn!("a lock of {} that was left over is ended", tree.display(&path));
                Some(folder)
            });
            match folder {
                Some(folder) => end(&folder, stage, ours)?,
                None => unlinkat(stage, ours, AtFlags::empty())?,
            }
        }
        Ok(())
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        let ended = match &self.held {
            Held::Link { stage, ours } => end(&self.folder, stage, ours),
            Held::Flock { .. } => Ok(()),
        };
        if let Err(error) = ended {
            // the next start ends it
            tracing::error!("a voicemail folder stays locked: {error}");
        }
    }
}

/// Our end of a lock that is to be taken.
struct Attempt {
    ours: String,
    made: Statx,
}

impl Attempt {
    fn new(stage: &OwnedFd, path: &RelPath) -> io::Result<Attempt> {
        let ours = format!("{OURS}{}", &blake3::hash(path.as_bytes()).to_hex()[..16]);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut end = File::from(openat(stage, ours.as_str(), flags, Mode::RUSR | Mode::WUSR)?);
        end.write_all(path.as_bytes())?;
        // before anybody can see the lock, so that it can always be told whose it is
        end.sync_all()?;
        fsync(stage)?;
        point();
        Ok(Attempt { ours, made: stat_fd(&end)? })
    }

    /// Err: somebody has had it for so long.
    fn finish(
        self,
        stage: &OwnedFd,
        folder: &OwnedFd,
        patience: Patience,
    ) -> io::Result<Result<Held, Duration>> {
        let since = Instant::now();
        loop {
            match linkat(stage, self.ours.as_str(), folder, LOCK, AtFlags::empty()) {
                Ok(()) => break,
                Err(Errno::EXIST) => {}
                Err(error) => {
                    unlinkat(stage, self.ours.as_str(), AtFlags::empty())?;
                    return Err(error.into());
                }
            }
            let Some(other) = look(folder, LOCK)? else { continue };
            if other.stx_ino == self.made.stx_ino {
                break;
            }
            // both by the file system's own clock
            let age = since.elapsed().saturating_add(between(&other, &self.made));
            if age > patience.stale {
                break_lock(stage, folder, &other)?;
            } else if since.elapsed() > patience.wait {
                unlinkat(stage, self.ours.as_str(), AtFlags::empty())?;
                return Ok(Err(age));
            }
            thread::sleep(PAUSE);
        }
        point();
        let stage = stage.try_clone()?;
        Ok(Ok(Held::Link { stage, ours: self.ours }))
    }
}

/// From the one's last change to the other's making; zero when it is the other way round.
fn between(earlier: &Statx, later: &Statx) -> Duration {
    Duration::from_secs((later.stx_ctime.tv_sec - earlier.stx_ctime.tv_sec).max(0).unsigned_abs())
}

/// Removes the lock that was looked at, and no other one: what has its name may be a living process's by now.
fn break_lock(stage: &OwnedFd, folder: &OwnedFd, seen: &Statx) -> io::Result<()> {
    match renameat(folder, LOCK, stage, BROKEN) {
        Err(Errno::NOENT) => return Ok(()),
        result => result?,
    }
    if look(stage, BROKEN)?.is_some_and(|broken| broken.stx_ino != seen.stx_ino) {
        linkat(stage, BROKEN, folder, LOCK, AtFlags::empty())?;
    }
    Ok(unlinkat(stage, BROKEN, AtFlags::empty())?)
}

fn take_flock(folder: &OwnedFd, patience: Patience) -> io::Result<Result<Held, Duration>> {
    let since = Instant::now();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    loop {
        let file = File::from(openat(folder, "lock", flags, Mode::RUSR | Mode::WUSR)?);
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // its owner removes it before it lets go: then another file has the name
            Ok(())
                if look(folder, "lock")?
                    .is_some_and(|named| stat_fd(&file).is_ok_and(|own| own.stx_ino == named.stx_ino)) =>
            {
                return Ok(Ok(Held::Flock { _file: file }));
            }
            Ok(()) | Err(Errno::WOULDBLOCK) => {}
            Err(error) => return Err(error.into()),
        }
        if since.elapsed() > patience.wait {
            return Ok(Err(since.elapsed()));
        }
        thread::sleep(PAUSE);
    }
}

/// Ends a lock if it is ours, then forgets our end of it.
fn end(folder: &OwnedFd, stage: &OwnedFd, ours: &str) -> io::Result<()> {
    let inode = |found: Option<Statx>| found.map(|stat| stat.stx_ino);
    let own = inode(look(stage, ours)?);
    if own.is_some() && own == inode(look(folder, LOCK)?) {
        unlinkat(folder, LOCK, AtFlags::empty())?;
        point();
    }
    match unlinkat(stage, ours, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        result => Ok(result?),
    }
}

/// What has this name in a directory; a symbolic link is not followed.
pub(super) fn look(dir: impl AsFd, name: &str) -> io::Result<Option<Statx>> {
    let dir: BorrowedFd<'_> = dir.as_fd();
    match statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, META) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
