//! Where contents wait, complete and verified, until all of them are renamed into place; and parts of large ones, whose
//! transfer was cut, until the rest comes.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ha_core::replication::manifest::Meta;
use ha_core::replication::path::RelPath;
use ha_core::replication::wire::Content;
use rustix::fs::{
    AtFlags, FallocateFlags, FileType, Mode, OFlags, fallocate, fsync, linkat, mkdirat, openat, statx,
    symlinkat, syncfs, unlinkat,
};
use rustix::io::Errno;

use super::error::TreeError;
use super::incoming::{Incoming, ReceiveError};
use super::meta;
use super::scan::{each_name, names};
use super::tree::{Cursor, STAGE_PREFIX, Tree, absent};

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Up to this many files are brought to disk one by one; more, and the whole file system is told once.
const FSYNC_EACH: usize = 64;

/// A private directory inside a tree, so on the same file system; nobody else can look in or guess its name.
///
/// Dropped, it stays on the disk, for [`Stage::reopen`].
#[derive(Debug)]
pub(crate) struct Stage {
    tree: Tree,
    root: OwnedFd,
    dir: OwnedFd,
    name: String,
    /// Directories that had to be made for it.
    made: usize,
    files: BTreeMap<RelPath, Waiting>,
    /// Contents of which the first bytes are here, as far as that is known.
    parts: BTreeMap<RelPath, Part>,
    count: u64,
    /// Whether files here have the times that they are given; `None`: that was not looked at.
    keeps_times: Option<bool>,
}

/// A content in a stage of which the first bytes are there, so many at least.
#[derive(Debug, Clone, Copy)]
struct Part {
    waiting: Waiting,
    length: u64,
}

/// A content in a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Its name there.
    number: u64,
    /// Its inode, by which it is known again once it has been renamed into place.
    pub(crate) inode: u64,
}

impl Waiting {
    pub(crate) const BYTES: usize = 16;

    pub(crate) fn to_bytes(self) -> [u8; Waiting::BYTES] {
        let mut bytes = [0; Waiting::BYTES];
        bytes[..8].copy_from_slice(&self.number.to_be_bytes());
        bytes[8..].copy_from_slice(&self.inode.to_be_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: [u8; Waiting::BYTES]) -> Waiting {
        let both = u128::from_be_bytes(bytes);
        Waiting { number: (both >> 64) as u64, inode: both as u64 }
    }

    /// Its name in the stage.
    pub(crate) fn name(self) -> String {
        self.number.to_string()
    }
}

/// What metadata are given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MetaOf {
    File,
    Directory,
    Symlink,
}

/// A file without content that keeps room free until the switch begins: after the decision a full disk must not stop it.
const BALLAST: &str = "ballast";

impl Stage {
    pub(crate) fn new(tree: &Tree) -> Result<Stage, TreeError> {
        let (root, made) = tree.create()?;
        let fail = |error: io::Error| tree.error("make a temporary directory in", &RelPath::root(), error);
        let name = stage_name().map_err(fail)?;
        unnoticed(&root, || Ok(mkdirat(&root, name.as_str(), Mode::RWXU)?)).map_err(fail)?;
        let dir = openat(&root, name.as_str(), DIRECTORY, Mode::empty()).map_err(|e| fail(e.into()))?;
        let (tree, files, parts) = (tree.clone(), BTreeMap::new(), BTreeMap::new());
        Ok(Stage { tree, root, dir, name, made, files, parts, count: 0, keeps_times: None })
    }

    /// The directory of that name in the tree, if it is there and nobody but us can have made it or looked in.
    pub(crate) fn reopen(tree: &Tree, name: &str, made: usize) -> Result<Option<Stage>, TreeError> {
        let Some(root) = tree.open()? else { return Ok(None) };
        let dir = match openat(&root, name, DIRECTORY, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(tree.error("open temporary files in", &RelPath::root(), error)),
        };
        let fail = |error: Errno| tree.error("look at temporary files in", &RelPath::root(), error);
        let stat = meta::stat_fd(&dir).map_err(fail)?;
        let own = stat.stx_uid == rustix::process::geteuid().as_raw() && stat.stx_mode & 0o7777 == 0o700;
        if !own || !name.as_bytes().starts_with(STAGE_PREFIX) {
            return Ok(None);
        }
        let mut count = 0;
        let mut note = |name: &CStr| {
            let number = name.to_str().ok().and_then(|name| name.parse().ok());
            count = count.max(number.unwrap_or(0));
        };
        each_name(&dir, &mut note).map_err(fail)?;
        let (tree, name) = (tree.clone(), name.to_owned());
        let (files, parts) = (BTreeMap::new(), BTreeMap::new());
        Ok(Some(Stage { tree, root, dir, name, made, files, parts, count, keeps_times: None }))
    }

    /// Removes what earlier runs that were killed left in the tree, but for the directory of that name.
    pub(crate) fn sweep(tree: &Tree, but: Option<&str>) -> Result<(), TreeError> {
        let Some(root) = tree.open()? else { return Ok(()) };
        let fail = |error: io::Error| tree.error("remove temporary files from", &RelPath::root(), error);
        for name in stage_names(&root).map_err(|e| fail(e.into()))? {
            if but.is_none_or(|but| but.as_bytes() != name) {
                unnoticed(&root, || remove(&root, &name)).map_err(fail)?;
            }
        }
        Ok(())
    }

    /// Removes it with all that waits in it, and leaves the tree as it was found, its time included.
    pub(crate) fn remove(self) -> Result<(), TreeError> {
        let removed = unnoticed(&self.root, || remove(&self.root, self.name.as_bytes()));
        self.tree.unmake(self.made);
        removed.map_err(|error| self.tree.error("remove temporary files from", &RelPath::root(), error))
    }

    /// What it is called in its tree.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Directories that had to be made for it.
    pub(crate) fn made(&self) -> usize {
        self.made
    }

    /// Tries on something that is made for it whether an entry of that kind can have these metadata here.
    pub(crate) fn try_on(&mut self, kind: MetaOf, meta: &Meta) -> io::Result<()> {
        let name = self.next_number().to_string();
        let (tried, flags) = match kind {
            MetaOf::File => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = openat(&self.dir, name.as_str(), flags, Mode::RUSR | Mode::WUSR)?;
                (meta::apply_to_path(file, meta).map(drop), AtFlags::empty())
            }
            MetaOf::Directory => {
                mkdirat(&self.dir, name.as_str(), Mode::RWXU)?;
                let opened = openat(&self.dir, name.as_str(), DIRECTORY, Mode::empty());
                let tried = opened
                    .map_err(io::Error::from)
                    .and_then(|directory| meta::apply_to_path(directory, meta).map(drop));
                (tried, AtFlags::REMOVEDIR)
            }
            MetaOf::Symlink => {
                symlinkat("tried", &self.dir, name.as_str())?;
                (meta::apply_to_symlink(&self.dir, &name, meta), AtFlags::empty())
            }
        };
        let removed = unlinkat(&self.dir, name.as_str(), flags);
        tried.and(removed.map_err(io::Error::from))
    }

    /// Keeps so many bytes free until [`Stage::release`], for what the switch will need.
    pub(crate) fn reserve(&self, bytes: u64) -> Result<(), TreeError> {
        let fail = |error: Errno| self.tree.error("keep room for the switch in", &RelPath::root(), error);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.dir, BALLAST, flags, Mode::RUSR | Mode::WUSR).map_err(fail)?;
        match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            // a file system that cannot promise room
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            result => result.map_err(fail),
        }
    }

    /// Gives the room back.
    pub(crate) fn release(&self) {
        // when it cannot be removed, there is nothing that needs its room either
        let _ = unlinkat(&self.dir, BALLAST, AtFlags::empty());
    }

    /// Opens the file that the content of `path` is to be received into.
    pub(crate) fn receive(&mut self, path: RelPath, size: u64, meta: Meta) -> Result<Incoming, TreeError> {
        let number = self.next_number();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&self.dir, number.to_string(), flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| self.tree.error("make a temporary file for", &path, error))?;
        Ok(Incoming::new(path, number, size, meta, File::from(fd)))
    }

    /// Gives a complete content its metadata; from now on it waits for its path.
    pub(crate) fn keep(&mut self, incoming: &Incoming) -> Result<Waiting, TreeError> {
        let fail =
            |error| self.tree.error("set owner, mode, times and attributes of a new", &incoming.path, error);
        let inode = meta::apply(incoming.file(), incoming.meta()).map_err(fail)?;
        let mtime = incoming.meta().mtime;
        // one file tells of all, if its time is as fine as times can be
        if self.keeps_times.is_none() && !mtime.nanoseconds.is_multiple_of(100) {
            let stat = meta::stat_fd(incoming.file()).map_err(|error| fail(error.into()))?;
            self.keeps_times = Some(meta::of_statx(&stat).mtime == mtime);
        }
        let waiting = Waiting { number: incoming.number(), inode };
        let earlier = self.files.insert(incoming.path.clone(), waiting);
        let part = self.parts.remove(&incoming.path).map(|part| part.waiting);
        let superseded = earlier.into_iter().chain(part.filter(|part| *part != waiting));
        self.unlink(superseded.map(|one| one.number));
        Ok(waiting)
    }

    /// Remembers that some of a content is here, unless that is known. `None`: it is.
    pub(crate) fn keep_part(&mut self, incoming: &Incoming) -> Result<Option<Waiting>, TreeError> {
        let number = incoming.number();
        if self.parts.get(&incoming.path).is_some_and(|part| part.waiting.number == number) {
            return Ok(None);
        }
        let fail = |error: Errno| self.tree.error("look at what was received for", &incoming.path, error);
        let waiting = Waiting { number, inode: meta::stat_fd(incoming.file()).map_err(fail)?.stx_ino };
        let part = Part { waiting, length: incoming.written() };
        let earlier = self.parts.insert(incoming.path.clone(), part);
        self.unlink(earlier.map(|part| part.waiting.number));
        Ok(Some(waiting))
    }

    /// A content that an earlier run received waits again, or its part does, if it is still the same file.
    pub(crate) fn take_up(&mut self, content: Content, waiting: Waiting) {
        let Content { path, size, part, .. } = content;
        let stat = statx(&self.dir, waiting.name(), AtFlags::SYMLINK_NOFOLLOW, meta::MASK);
        let same = stat.ok().filter(|stat| {
            FileType::from_raw_mode(stat.stx_mode.into()) == FileType::RegularFile
                && stat.stx_ino == waiting.inode
        });
        let length = same.map_or(0, |stat| stat.stx_size);
        self.parts.remove(&path);
        if part.is_some() {
            if (1..=size).contains(&length) {
                self.parts.insert(path, Part { waiting, length });
            }
        } else if same.is_some() && length == size {
            self.files.insert(path, waiting);
        } else {
            self.files.remove(&path);
        }
    }

    /// How many contents wait, whole or in part.
    pub(crate) fn count(&self) -> u64 {
        (self.files.len() + self.parts.len()) as u64
    }

    /// A content as it waits, if that file is still the one of its path.
    pub(crate) fn as_it_waits(&self, content: Content, waiting: Waiting) -> Option<Content> {
        if content.part.is_none() {
            return (self.waiting(&content.path) == Some(waiting)).then_some(content);
        }
        let part = self.parts.get(&content.path).filter(|part| part.waiting == waiting)?;
        Some(Content { part: Some(part.length), ..content })
    }

    /// Has a content that was just begun go on behind the part of it that waits here.
    pub(crate) fn resume(&self, incoming: &mut Incoming, length: u64) -> Result<(), ReceiveError> {
        let Some(part) = self.parts.get(&incoming.path) else {
            return Err(ReceiveError::Corrupt("no part of it waits here".to_owned()));
        };
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.dir, part.waiting.name(), flags, Mode::empty()).map_err(io::Error::from)?;
        let begun = incoming.number();
        incoming.resume(File::from(file), part.waiting.number, length)?;
        self.unlink([begun]);
        Ok(())
    }

    /// Forgets a content that is not to be used.
    pub(crate) fn forget(&mut self, incoming: &Incoming) {
        let number = incoming.number();
        if self.parts.get(&incoming.path).is_some_and(|part| part.waiting.number == number) {
            self.parts.remove(&incoming.path);
        }
        self.unlink([number]);
    }

    fn unlink(&self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            // what cannot be removed now goes with the directory
            let _ = unlinkat(&self.dir, number.to_string(), AtFlags::empty());
        }
    }

    /// Makes a symbolic link here, ready to be renamed; says its name.
    pub(crate) fn symlink(&mut self, target: &[u8], meta: &Meta) -> io::Result<String> {
        let name = self.next_number().to_string();
        symlinkat(target, &self.dir, name.as_str())?;
        meta::apply_to_symlink(&self.dir, &name, meta)?;
        Ok(name)
    }

    /// Makes a further name of the file `name` in `dir` here, ready to be renamed; says it.
    pub(crate) fn link(&mut self, dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<String> {
        let own = self.next_number().to_string();
        linkat(dir, name, &self.dir, own.as_str(), AtFlags::empty())?;
        Ok(own)
    }

    /// The waiting content of `path`, if there is one.
    pub(crate) fn waiting(&self, path: &RelPath) -> Option<Waiting> {
        self.files.get(path).copied()
    }

    /// What a person should know about where the tree lies.
    pub(crate) fn warning(&self) -> Option<String> {
        let tree = self.tree.name();
        (self.keeps_times == Some(false)).then(|| {
            format!("the file system below {tree} rounds times: its files look changed and are compared block by block each time")
        })
    }

    /// Brings every waiting content to disk.
    pub(crate) fn sync(&self) -> Result<(), TreeError> {
        let fail =
            |error: Errno| self.tree.error("bring to disk what was received for", &RelPath::root(), error);
        if self.files.len() > FSYNC_EACH {
            return syncfs(&self.dir).map_err(fail);
        }
        for waiting in self.files.values() {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = openat(&self.dir, waiting.name(), flags, Mode::empty()).map_err(fail)?;
            fsync(fd).map_err(fail)?;
        }
        fsync(&self.dir).and_then(|()| fsync(&self.root)).map_err(fail)
    }

    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// The tree and the directories above it stay, now that something was put there.
    pub(crate) fn settle(&mut self) {
        self.made = 0;
    }

    fn next_number(&mut self) -> u64 {
        self.count += 1;
        self.count
    }
}

/// Opens the regular file at `path`; `None`: there is none. Nothing else is opened, and no link followed.
pub(crate) fn open_regular(tree: &mut Cursor, path: &RelPath) -> io::Result<Option<File>> {
    let opened = tree.parent(path).and_then(|(dir, name)| {
        // a pipe in its place must not make us wait
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(openat(dir, name, flags, Mode::empty())?)
    });
    let fd = match opened {
        Ok(fd) => fd,
        Err(error) if absent(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mode = meta::stat_fd(&fd)?.stx_mode;
    let regular = FileType::from_raw_mode(mode.into()) == FileType::RegularFile;
    Ok(regular.then(|| File::from(fd)))
}

fn stage_name() -> io::Result<String> {
    let random = getrandom::u64().map_err(io::Error::other)?;
    Ok(format!("{}{random:016x}", String::from_utf8_lossy(STAGE_PREFIX)))
}

fn stage_names(root: &OwnedFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    for entry in rustix::fs::Dir::read_from(root)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name.starts_with(STAGE_PREFIX) {
            found.push(name);
        }
    }
    Ok(found)
}

/// Does something in a directory whose time stays as it is.
fn unnoticed(directory: &OwnedFd, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let mtime = meta::of_statx(&meta::stat_fd(directory)?).mtime;
    let done = act();
    meta::set_mtime(directory, mtime)?;
    done
}

/// Removes a directory of files, or whatever else has its name.
fn remove(root: &OwnedFd, name: &[u8]) -> io::Result<()> {
    let dir = match openat(root, name, DIRECTORY, Mode::empty()) {
        Ok(dir) => dir,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => return Ok(unlinkat(root, name, AtFlags::empty())?),
        Err(error) => return Err(error.into()),
    };
    for file in names(&dir)? {
        unlinkat(&dir, file.as_c_str(), AtFlags::empty())?;
    }
    Ok(unlinkat(root, name, AtFlags::REMOVEDIR)?)
}
