//! A tree on this machine becomes a listing.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use ha_core::replication::filter::Verdict;
use ha_core::replication::listing::{DirectoryId, Draft, Listing, Side};
use ha_core::replication::manifest::{Digest, Entry, Kind, ManifestError, Meta, Mtime};
use ha_core::replication::path::RelPath;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Statx, openat, readlinkat, statx};
use rustix::io::Errno;

use super::error::{SyncError, TreeError};
use super::meta::{self, Attributes};
use super::tree::{STAGE_PREFIX, Tree};

/// Directories inside directories that a scan goes into: each holds a descriptor open.
const MAX_DEPTH: usize = 200;

/// Bytes of names that the kernel is asked for at once.
const NAMES: usize = 32 << 10;

/// Whether contents are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Digests {
    /// Sizes and times must do, as for `rsync` without `--checksum`.
    No,
    /// Every file that takes part is read and digested.
    Yes,
}

/// What a scan found.
#[derive(Debug)]
pub struct Scan {
    /// The tree; absent when there is none. What is excluded is listed, but not entered.
    pub listing: Listing,
    /// What is not copied although no rule excludes it, for a person.
    pub warnings: Vec<String>,
    /// The source's directories that were entered, with the time of their last change before they were listed.
    pub directories: Vec<(RelPath, Mtime)>,
}

/// Lists a tree without ever leaving it or following a symbolic link.
///
/// Errors when any part cannot be read: a part that is missing from the list would be deleted on the replica.
pub fn scan(tree: &Tree, digests: Digests, side: Side) -> Result<Scan, SyncError> {
    // a thread of its own may have a working directory of its own, which makes attributes cheap to read
    let walked = std::thread::scope(|scope| scope.spawn(|| walk(tree, digests, side)).join());
    walked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn walk(tree: &Tree, digests: Digests, side: Side) -> Result<Scan, SyncError> {
    let Some(root) = tree.open()? else {
        return Ok(Scan { listing: Listing::absent(), warnings: Vec::new(), directories: Vec::new() });
    };
    let fail = |error| tree.error("read", &RelPath::root(), error);
    let stat = meta::stat_fd(&root).map_err(fail)?;
    let mut own = meta::of_statx(&stat);
    own.xattrs = meta::xattrs_of(&root).map_err(|e| tree.error(READ_ATTRIBUTES, &RelPath::root(), e))?;
    let mut walk = Walk {
        tree,
        digests,
        draft: Draft::new(own),
        attributes: Attributes::new(),
        warnings: Vec::new(),
        links: HashMap::new(),
        buffer: vec![MaybeUninit::uninit(); NAMES],
        side,
        directories: Vec::new(),
    };
    walk.directory(&root, Draft::ROOT, 0)?;
    Ok(Scan { listing: walk.draft.finish(side), warnings: walk.warnings, directories: walk.directories })
}

const READ_ATTRIBUTES: &str = "read the extended attributes of";

struct Walk<'a> {
    tree: &'a Tree,
    digests: Digests,
    draft: Draft,
    attributes: Attributes,
    warnings: Vec<String>,
    /// Device and inode of files with several names.
    links: HashMap<(u32, u32, u64), u32>,
    buffer: Vec<MaybeUninit<u8>>,
    side: Side,
    directories: Vec<(RelPath, Mtime)>,
}

/// A directory while it is listed.
struct Here<'a> {
    fd: &'a OwnedFd,
    id: DirectoryId,
    path: RelPath,
}

impl Here<'_> {
    fn path(&self, name: &CStr) -> Result<RelPath, ManifestError> {
        Ok(self.path.entry(name.to_bytes())?)
    }
}

impl Walk<'_> {
    fn directory(&mut self, fd: &OwnedFd, id: DirectoryId, depth: usize) -> Result<(), SyncError> {
        let here = Here { fd, id, path: self.draft.path(id) };
        if depth > MAX_DEPTH {
            let deep = std::io::Error::other(format!("more than {MAX_DEPTH} directories inside each other"));
            return Err(self.tree.error("enter", &here.path, deep).into());
        }
        let fail = |error| self.tree.error("list", &here.path, error);
        self.attributes.enter(fd).map_err(fail)?;
        if self.side == Side::Source {
            let stat = meta::stat_fd(fd).map_err(|error| self.tree.error("list", &here.path, error))?;
            self.directories.push((here.path.clone(), meta::of_statx(&stat).mtime));
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut names = RawDir::new(fd, &mut buffer);
        while let Some(name) = names.next() {
            let name = match name {
                // removed since it was opened: there is nothing in it any more
                Err(Errno::NOENT) => break,
                name => name.map_err(|error| self.tree.error("list", &here.path, error))?,
            };
            if is_listed(name.file_name()) {
                self.entry(&here, name.file_name())?;
            }
        }
        self.buffer = buffer;
        for below in self.draft.close(id) {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match openat(fd, self.draft.name(below), flags, Mode::empty()) {
                Ok(inside) => self.directory(&inside, below, depth + 1)?,
                // removed since it was listed, or something else by now
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => self.draft.vanish(below),
                Err(error) => {
                    return Err(self.tree.error("enter", &self.draft.path(below), error).into());
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, here: &Here<'_>, name: &CStr) -> Result<(), SyncError> {
        let stat = match statx(here.fd, name, AtFlags::SYMLINK_NOFOLLOW, meta::MASK) {
            Ok(stat) => stat,
            // removed since it was listed
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(self.refused("read", here, name, error)),
        };
        let mut meta = meta::of_statx(&stat);
        let mut kind = match FileType::from_raw_mode(stat.stx_mode.into()) {
            FileType::Directory => Kind::Dir,
            FileType::RegularFile => Kind::File { size: stat.stx_size, link: self.link(&stat), digest: None },
            FileType::Symlink => match readlinkat(here.fd, name, Vec::new()) {
                Ok(target) => {
                    meta.mode = 0;
                    Kind::Symlink { target: target.into_bytes().into() }
                }
                // removed since, or no link any more
                Err(Errno::NOENT | Errno::INVAL) => return Ok(()),
                Err(error) => return Err(self.refused("read the link", here, name, error)),
            },
            FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => Kind::Special,
        };
        let takes_part = self.takes_part(here, name, &kind)?;
        if takes_part && matches!(kind, Kind::Dir | Kind::File { .. }) {
            match self.attributes.of(name) {
                Ok(xattrs) => meta.xattrs = xattrs,
                Err(Errno::NOENT) => return Ok(()),
                Err(error) => return Err(self.refused(READ_ATTRIBUTES, here, name, error)),
            }
        }
        if let Kind::File { digest, .. } = &mut kind
            && takes_part
            && self.digests == Digests::Yes
        {
            let path = here.path(name).map_err(|error| self.unlistable(here, error))?;
            *digest = self.digest(here.fd, name, &path)?.map(Box::new);
        }
        let pushed = self.draft.push(here.id, name.to_bytes(), takes_part, Entry { kind, meta });
        pushed.map_err(|error| self.unlistable(here, error))
    }

    fn takes_part(&mut self, here: &Here<'_>, name: &CStr, kind: &Kind) -> Result<bool, SyncError> {
        let filter = self.tree.filter();
        if filter.is_empty() && *kind != Kind::Special {
            return Ok(true);
        }
        let path = here.path(name).map_err(|error| self.unlistable(here, error))?;
        if *kind == Kind::Special && filter.verdict(&path) != Verdict::Excluded {
            let shown = self.tree.display(&path);
            self.warnings.push(format!("{shown} is a device, socket or pipe and is not copied"));
        }
        Ok(filter.takes_part(&path, kind))
    }

    fn link(&mut self, stat: &Statx) -> Option<u32> {
        let next = self.links.len() as u32;
        let inode = (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino);
        (stat.stx_nlink > 1).then(|| *self.links.entry(inode).or_insert(next))
    }

    fn digest(&self, dir: &OwnedFd, name: &CStr, path: &RelPath) -> Result<Option<Digest>, TreeError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(dir, name, flags, Mode::empty()) {
            Ok(fd) => std::fs::File::from(fd),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(self.tree.error("open", path, error)),
        };
        // what was a file when it was listed may be a device by now, and reading that never ends
        let stat = meta::stat_fd(&file).map_err(|error| self.tree.error("read", path, error))?;
        if FileType::from_raw_mode(stat.stx_mode.into()) != FileType::RegularFile {
            let swapped = std::io::Error::other("it is no file any more");
            return Err(self.tree.error("read", path, swapped));
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(file).map_err(|error| self.tree.error("read", path, error))?;
        Ok(Some(Digest(*hasher.finalize().as_bytes())))
    }

    fn refused(&self, doing: &'static str, here: &Here<'_>, name: &CStr, error: Errno) -> SyncError {
        match here.path(name) {
            Ok(path) => self.tree.error(doing, &path, error).into(),
            Err(error) => self.unlistable(here, error),
        }
    }

    fn unlistable(&self, here: &Here<'_>, error: ManifestError) -> SyncError {
        match error {
            ManifestError::Path(why) => SyncError::Path { directory: self.tree.display(&here.path), why },
            other => self.tree.error("list", &here.path, std::io::Error::other(other)).into(),
        }
    }
}

/// Whether a name in a directory is an entry of its own, and none of our temporary ones.
fn is_listed(name: &CStr) -> bool {
    let bytes = name.to_bytes();
    bytes != b"." && bytes != b".." && !bytes.starts_with(STAGE_PREFIX)
}

/// The names in a directory, without our own temporary ones.
pub(crate) fn names(dir: &OwnedFd) -> rustix::io::Result<Vec<CString>> {
    let mut names = Vec::new();
    each_name(dir, &mut |name| names.push(name.to_owned()))?;
    Ok(names)
}

/// The same one by one: there may be many.
pub(crate) fn each_name(dir: &OwnedFd, tell: &mut dyn FnMut(&CStr)) -> rustix::io::Result<()> {
    let mut buffer = [MaybeUninit::uninit(); NAMES];
    // a second descriptor, because reading moves the position
    let own = openat(dir, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut list = RawDir::new(own, &mut buffer);
    while let Some(entry) = list.next() {
        let entry = entry?;
        if is_listed(entry.file_name()) {
            tell(entry.file_name());
        }
    }
    Ok(())
}

/// What a file is now, or was: equal answers before and after reading mean that what was read is one content.
pub(crate) fn stamp(stat: &Statx) -> (u64, u64, (i64, u32), (i64, u32)) {
    let (m, c) = (&stat.stx_mtime, &stat.stx_ctime);
    (stat.stx_ino, stat.stx_size, (m.tv_sec, m.tv_nsec), (c.tv_sec, c.tv_nsec))
}

/// Metadata of an open file with its attributes.
pub(crate) fn meta_of(file: &std::fs::File, stat: &Statx) -> rustix::io::Result<Meta> {
    let mut own = meta::of_statx(stat);
    own.xattrs = meta::xattrs_of(file)?;
    Ok(own)
}

#[cfg(test)]
mod tests {
    use ha_core::replication::filter::Filter;

    use super::*;
    use crate::root::Root;

    #[test]
    fn what_is_no_file_any_more_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("was-a-file"), Mode::RWXU).unwrap();
        let tree =
            Tree::new(&Root::new(dir.path()).unwrap(), "/", Filter::new::<&str>(&[], &[]).unwrap()).unwrap();
        let walk = Walk {
            tree: &tree,
            digests: Digests::Yes,
            draft: Draft::new(Meta::default()),
            attributes: Attributes::new(),
            warnings: Vec::new(),
            links: HashMap::new(),
            buffer: Vec::new(),
            side: Side::Source,
            directories: Vec::new(),
        };
        let root = tree.open().unwrap().unwrap();
        let path = RelPath::new("was-a-file").unwrap();
        let error = walk.digest(&root, c"was-a-file", &path).unwrap_err().to_string();
        assert!(error.contains("was-a-file") && error.contains("no file any more"), "{error}");
    }
}
