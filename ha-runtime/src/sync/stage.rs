//! Where contents wait, complete and verified, until all of them are renamed into place.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ha_core::replication::manifest::{Meta, Mtime};
use ha_core::replication::path::RelPath;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, fsync, linkat, mkdirat, openat, symlinkat, syncfs, unlinkat,
};
use rustix::io::Errno;

use super::error::TreeError;
use super::incoming::Incoming;
use super::meta;
use super::scan::names;
use super::tree::{Cursor, STAGE_PREFIX, Tree, absent};

/// Up to this many files are brought to disk one by one; more, and the whole file system is told once.
const FSYNC_EACH: usize = 64;

/// A private directory inside a tree, so on the same file system; nobody else can look in or guess its name.
#[derive(Debug)]
pub(crate) struct Stage {
    tree: Tree,
    root: OwnedFd,
    dir: OwnedFd,
    name: String,
    /// Of the tree before we made a directory in it.
    mtime: Mtime,
    /// Directories that had to be made for it.
    made: usize,
    files: BTreeMap<RelPath, String>,
    count: u64,
}

impl Stage {
    pub(crate) fn new(tree: &Tree) -> Result<Stage, TreeError> {
        let (root, made) = tree.create()?;
        let fail = |error: io::Error| tree.error("make a temporary directory in", &RelPath::root(), error);
        let mtime = meta::of_statx(&meta::stat_fd(&root).map_err(|e| fail(e.into()))?).mtime;
        let name = stage_name().map_err(fail)?;
        mkdirat(&root, name.as_str(), Mode::RWXU).map_err(|e| fail(e.into()))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = openat(&root, name.as_str(), flags, Mode::empty()).map_err(|e| fail(e.into()))?;
        Ok(Stage { tree: tree.clone(), root, dir, name, mtime, made, files: BTreeMap::new(), count: 0 })
    }

    /// Removes what an earlier run that was killed left in the tree.
    pub(crate) fn sweep(tree: &Tree) -> Result<(), TreeError> {
        let Some(root) = tree.open()? else { return Ok(()) };
        let fail = |error: io::Error| tree.error("remove temporary files from", &RelPath::root(), error);
        let mtime = meta::of_statx(&meta::stat_fd(&root).map_err(|e| fail(e.into()))?).mtime;
        let mut found = false;
        for name in stage_names(&root).map_err(|e| fail(e.into()))? {
            found = true;
            remove(&root, &name).map_err(fail)?;
        }
        if found {
            meta::set_mtime(&root, mtime).map_err(fail)?;
        }
        Ok(())
    }

    /// Opens the file that the content of `path` is to be received into.
    pub(crate) fn receive(&mut self, path: RelPath, size: u64, meta: Meta) -> Result<Incoming, TreeError> {
        let name = self.next_name();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&self.dir, name.as_str(), flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| self.tree.error("make a temporary file for", &path, error))?;
        Ok(Incoming::new(path, name, size, meta, File::from(fd)))
    }

    /// Gives a complete content its metadata; from now on it waits for its path.
    pub(crate) fn keep(&mut self, incoming: Incoming) -> Result<(), TreeError> {
        meta::apply(incoming.file(), incoming.meta()).map_err(|error| {
            self.tree.error("set owner, mode, times and attributes of a new", &incoming.path, error)
        })?;
        let (path, name) = incoming.into_place();
        self.files.insert(path, name);
        Ok(())
    }

    /// Forgets a content that is not to be used.
    pub(crate) fn forget(&mut self, incoming: &Incoming) {
        // what cannot be removed now goes with the directory
        let _ = unlinkat(&self.dir, incoming.name(), AtFlags::empty());
    }

    /// Makes a symbolic link here, ready to be renamed; says its name.
    pub(crate) fn symlink(&mut self, target: &[u8], meta: &Meta) -> io::Result<String> {
        let name = self.next_name();
        symlinkat(target, &self.dir, name.as_str())?;
        meta::apply_to_symlink(&self.dir, &name, meta)?;
        Ok(name)
    }

    /// Makes a further name of the file `name` in `dir` here, ready to be renamed; says it.
    pub(crate) fn link(&mut self, dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<String> {
        let own = self.next_name();
        linkat(dir, name, &self.dir, own.as_str(), AtFlags::empty())?;
        Ok(own)
    }

    /// The waiting content of `path`, if there is one.
    pub(crate) fn name_of(&self, path: &RelPath) -> Option<String> {
        self.files.get(path).cloned()
    }

    pub(crate) fn len(&self) -> usize {
        self.files.len()
    }

    /// Brings every waiting content to disk.
    pub(crate) fn sync(&self) -> Result<(), TreeError> {
        let fail =
            |error: Errno| self.tree.error("bring to disk what was received for", &RelPath::root(), error);
        if self.files.len() > FSYNC_EACH {
            return syncfs(&self.dir).map_err(fail);
        }
        for name in self.files.values() {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = openat(&self.dir, name.as_str(), flags, Mode::empty()).map_err(fail)?;
            fsync(fd).map_err(fail)?;
        }
        Ok(())
    }

    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// The tree and the directories above it stay, now that something was put there.
    pub(crate) fn settle(&mut self) {
        self.made = 0;
    }

    fn next_name(&mut self) -> String {
        self.count += 1;
        self.count.to_string()
    }
}

impl Drop for Stage {
    /// Leaves the tree as it was found, its time included. What fails here is swept by the next run.
    fn drop(&mut self) {
        if let Err(error) = remove(&self.root, self.name.as_bytes()) {
            tracing::warn!(%error, directory = self.tree.name(), "temporary files are left until the next run");
        }
        let _ = meta::set_mtime(&self.root, self.mtime);
        self.tree.unmake(self.made);
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

/// Removes a directory of files, or whatever else has its name.
fn remove(root: &OwnedFd, name: &[u8]) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = match openat(root, name, flags, Mode::empty()) {
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
