//! One tree, watched: an inotify instance of its own, because two trees may overlap.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use ha_core::replication::filter::Verdict;
use ha_core::replication::path::RelPath;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, StatxFlags, openat, statx};
use rustix::io::Errno;
use thiserror::Error;

use super::map::{Map, Wd};
use super::mounts;
use crate::sync::{STAGE_PREFIX, Tree, TreeCursor, TreeError};

/// What a directory is watched for. No MODIFY: 40,000 writes make 120,900 events. No OPEN, ACCESS or CLOSE_NOWRITE: our own
/// scans would count as changes.
const ENTRIES: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::ONLYDIR);
/// The root's own end; of the others the directory above tells.
const ROOT: WatchFlags = ENTRIES.union(WatchFlags::DELETE_SELF).union(WatchFlags::MOVE_SELF);

/// As deep as a scan goes.
const MAX_DEPTH: usize = 200;

/// Room for some hundred events.
const BUFFER: usize = 32 << 10;

/// What the events of one turn mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Noticed {
    /// Nothing that takes part.
    Nothing,
    /// Something that takes part is other than before.
    Change,
    /// Events are missing, or the tree is not the same any more: it must be watched anew.
    Lost,
}

/// Why a tree cannot be watched.
#[derive(Debug, Error)]
pub(super) enum NotWatched {
    /// The user's limit of watches, which all programs share.
    #[error("the limit of inotify watches is reached")]
    TooManyDirectories,
    /// The user's limit of inotify instances, or of open files.
    #[error("no inotify instance can be had ({0}): `sysctl fs.inotify.max_user_instances` shows the limit")]
    NoInstance(Errno),
    /// Something in the tree cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The kernel refuses.
    #[error("inotify gives an error: {0}")]
    Kernel(#[from] Errno),
    /// The table of mounts.
    #[error("mounts cannot be seen: {0}")]
    Mounts(io::Error),
}

/// One event of the kernel.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) wd: Wd,
    pub(super) flags: ReadFlags,
    /// The entry's name; `None`: the directory itself is meant.
    pub(super) name: Option<CString>,
}

/// A tree whose directories that take part are all watched.
#[derive(Debug)]
pub(super) struct Watched {
    tree: Tree,
    inotify: Arc<OwnedFd>,
    map: Map,
    identity: Identity,
    mounts: Vec<Box<[u8]>>,
}

/// Which directory the tree's path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: (u32, u32),
    inode: u64,
}

impl Watched {
    /// Watches all of a tree; `None`: there is none. What happens from now on is in the queue.
    pub(super) fn new(tree: &Tree) -> Result<Option<Watched>, NotWatched> {
        let Some(root) = tree.open()? else { return Ok(None) };
        let inotify =
            inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(NotWatched::NoInstance)?;
        let wd = watch(&inotify, &root, ROOT)?;
        let mut watched = Watched {
            tree: tree.clone(),
            inotify: Arc::new(inotify),
            map: Map::new(wd),
            identity: Identity::of(&root)?,
            mounts: mounts::below(&root).map_err(NotWatched::Mounts)?,
        };
        watched.directories_in(&root, wd, &RelPath::root(), 0)?;
        Ok(Some(watched))
    }

    /// Readable when something happened.
    pub(super) fn queue(&self) -> &Arc<OwnedFd> {
        &self.inotify
    }

    /// How many directories are watched.
    pub(super) fn directories(&self) -> usize {
        self.map.len()
    }

    /// Whether the tree's path still leads where it led. Neither a new directory above the tree nor a mount there is an
    /// event of the tree.
    pub(super) fn is_in_place(&self) -> Result<bool, NotWatched> {
        match self.tree.open()? {
            Some(root) => Ok(Identity::of(&root)? == self.identity),
            None => Ok(false),
        }
    }

    /// Whether the same file systems are mounted inside the tree.
    pub(super) fn has_same_mounts(&self) -> Result<bool, NotWatched> {
        let Some(root) = self.tree.open()? else { return Ok(false) };
        Ok(mounts::below(&root).map_err(NotWatched::Mounts)? == self.mounts)
    }

    /// Takes what one read of the queue gives, and watches what is new.
    pub(super) fn read(&mut self) -> Result<Noticed, NotWatched> {
        let mut noticed = Noticed::Nothing;
        for event in self.events()? {
            noticed = noticed.max(self.take(&event)?);
        }
        Ok(noticed)
    }

    /// Draws the conclusions from one event.
    pub(super) fn take(&mut self, event: &Event) -> Result<Noticed, NotWatched> {
        if event.flags.intersects(ReadFlags::QUEUE_OVERFLOW | ReadFlags::UNMOUNT) {
            return Ok(Noticed::Lost);
        }
        // of a directory that was given up after the event came into the queue, which was a change of its own
        let Some(directory) = self.map.path(event.wd) else { return Ok(Noticed::Nothing) };
        if event.flags.intersects(ReadFlags::IGNORED | ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF) {
            if event.wd == self.map.root() {
                return Ok(Noticed::Lost);
            }
            let given_up = self.map.forget(event.wd);
            self.unwatch(&given_up);
            return Ok(Noticed::Nothing);
        }
        let Some(name) = &event.name else { return Ok(Noticed::Change) };
        if name.to_bytes().starts_with(STAGE_PREFIX) {
            return Ok(Noticed::Nothing);
        }
        // a name that no replication can carry: its scan says so
        let Ok(path) = directory.join(name.to_bytes()) else { return Ok(Noticed::Change) };
        let is_directory = event.flags.contains(ReadFlags::ISDIR);
        match self.tree.filter().verdict(&path) {
            Verdict::Excluded => return Ok(Noticed::Nothing),
            Verdict::Above if !is_directory => return Ok(Noticed::Nothing),
            Verdict::Above | Verdict::Copied => {}
        }
        let entries = ReadFlags::CREATE | ReadFlags::DELETE | ReadFlags::MOVED_FROM | ReadFlags::MOVED_TO;
        if is_directory && event.flags.intersects(entries) {
            self.look_at(event.wd, name, &path)?;
        }
        Ok(Noticed::Change)
    }

    fn events(&self) -> Result<Vec<Event>, NotWatched> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = Reader::new(&*self.inotify, &mut buffer);
        let mut events = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => events.push(Event {
                    wd: Wd(event.wd()),
                    flags: event.events(),
                    name: event.file_name().map(CStr::to_owned),
                }),
                Err(Errno::AGAIN) => return Ok(events),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            // one read a turn: whoever writes without end must not keep the others waiting
            if reader.is_buffer_empty() {
                return Ok(events);
            }
        }
    }

    /// The entry `name` of `parent` appeared, disappeared or became another: whatever it is now counts, not the event.
    fn look_at(&mut self, parent: Wd, name: &CStr, path: &RelPath) -> Result<(), NotWatched> {
        let Some(root) = self.tree.open()? else { return Ok(()) };
        let mut cursor = TreeCursor::new(root);
        let directory = match cursor.parent(path) {
            Ok((directory, _)) => self.enter(directory, name, path)?,
            // a directory on the way is gone or another: its own event is still to come
            Err(_) => None,
        };
        match directory {
            Some(directory) => self.directory(&directory, parent, name, path, path.depth()),
            None => {
                let given_up = self.map.forget_child(parent, name.to_bytes());
                self.unwatch(&given_up);
                Ok(())
            }
        }
    }

    /// Opens a directory; `None`: it is none, or none any more.
    fn enter(&self, parent: impl AsFd, name: &CStr, path: &RelPath) -> Result<Option<OwnedFd>, NotWatched> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(parent, name, flags, Mode::empty()) {
            Ok(directory) => Ok(Some(directory)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(self.tree.error("watch", path, error).into()),
        }
    }

    /// Watches the open directory, at `name` in `parent`, and all below.
    fn directory(
        &mut self,
        directory: &OwnedFd,
        parent: Wd,
        name: &CStr,
        path: &RelPath,
        depth: usize,
    ) -> Result<(), NotWatched> {
        if depth > MAX_DEPTH {
            let deep = io::Error::other(format!("more than {MAX_DEPTH} directories inside each other"));
            return Err(self.tree.error("watch", path, deep).into());
        }
        // the root mounted again inside itself keeps the root's events
        let flags = if Identity::of(directory)? == self.identity { ROOT } else { ENTRIES };
        let wd = watch(&self.inotify, directory, flags)?;
        // watched in this place before: since then all that happened below was an event, or still is one in the queue
        if self.map.child(parent, name.to_bytes()) == Some(wd) || self.map.is_at_or_above(wd, parent) {
            return Ok(());
        }
        let given_up = self.map.place(wd, parent, name.to_bytes());
        self.unwatch(&given_up);
        self.directories_in(directory, wd, path, depth)
    }

    /// Watches the directories inside one that is watched by now: what is made after the list was read is an event.
    fn directories_in(
        &mut self,
        directory: &OwnedFd,
        wd: Wd,
        path: &RelPath,
        depth: usize,
    ) -> Result<(), NotWatched> {
        let names = match subdirectories(directory) {
            Ok(names) => names,
            // removed since it was opened
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(self.tree.error("list", path, error).into()),
        };
        for name in names {
            // a scan refuses a path that is too long
            let Ok(path) = path.join(name.to_bytes()) else { continue };
            match self.tree.filter().verdict(&path) {
                Verdict::Excluded => continue,
                Verdict::Above | Verdict::Copied => {}
            }
            if let Some(below) = self.enter(directory, &name, &path)? {
                self.directory(&below, wd, &name, &path, depth + 1)?;
            }
        }
        Ok(())
    }

    fn unwatch(&self, given_up: &[Wd]) {
        for wd in given_up {
            // the kernel has dropped the watch of a directory that is gone
            let _ = inotify::remove_watch(&*self.inotify, wd.0);
        }
    }
}

impl Identity {
    fn of(directory: impl AsFd) -> Result<Identity, Errno> {
        let stat = statx(directory, c"", AtFlags::EMPTY_PATH, StatxFlags::INO)?;
        Ok(Identity { device: (stat.stx_dev_major, stat.stx_dev_minor), inode: stat.stx_ino })
    }
}

/// How many directories of a tree take part: what a limit has to allow. What cannot be read is not counted.
pub(super) fn count(tree: &Tree) -> usize {
    fn below(tree: &Tree, directory: &OwnedFd, path: &RelPath, depth: usize) -> usize {
        let names =
            if depth > MAX_DEPTH { Vec::new() } else { subdirectories(directory).unwrap_or_default() };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let each = names.iter().map(|name| {
            let path = path.join(name.to_bytes()).ok()?;
            let takes_part = tree.filter().verdict(&path) != Verdict::Excluded;
            let inner = takes_part.then(|| openat(directory, name, flags, Mode::empty()).ok()).flatten()?;
            Some(below(tree, &inner, &path, depth + 1))
        });
        1 + each.flatten().sum::<usize>()
    }
    match tree.open() {
        Ok(Some(root)) => below(tree, &root, &RelPath::root(), 0),
        Ok(None) | Err(_) => 0,
    }
}

/// By descriptor, so that no name is resolved a second time: the path names the open directory itself.
fn watch(inotify: impl AsFd, directory: &OwnedFd, flags: WatchFlags) -> Result<Wd, NotWatched> {
    let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
    match inotify::add_watch(inotify, path, flags) {
        Ok(wd) => Ok(Wd(wd)),
        Err(Errno::NOSPC) => Err(NotWatched::TooManyDirectories),
        Err(error) => Err(error.into()),
    }
}

/// The names of the directories in a directory, without our own temporary ones.
fn subdirectories(directory: &OwnedFd) -> rustix::io::Result<Vec<CString>> {
    let mut buffer = [MaybeUninit::uninit(); BUFFER];
    // a second descriptor, because reading moves the position
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut list = RawDir::new(openat(directory, c".", flags, Mode::empty())?, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = list.next() {
        let entry = entry?;
        let name = entry.file_name();
        let bytes = name.to_bytes();
        // a file system that does not tell the type: whoever opens it finds out
        let may_be_one = matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
        if may_be_one && bytes != b"." && bytes != b".." && !bytes.starts_with(STAGE_PREFIX) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}
