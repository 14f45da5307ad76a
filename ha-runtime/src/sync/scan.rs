//! A tree on this machine becomes a manifest.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use ha_core::replication::filter::Verdict;
use ha_core::replication::manifest::{Digest, Entry, Kind, Manifest, Meta};
use ha_core::replication::path::RelPath;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Statx, openat, readlinkat, statx};
use rustix::io::Errno;

use super::error::{SyncError, TreeError};
use super::meta;
use super::tree::{STAGE_PREFIX, Tree};

/// Directories inside directories that a scan goes into: each holds a descriptor open.
const MAX_DEPTH: usize = 200;

/// Whether contents are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Digests {
    /// Sizes and times must do, as for `rsync` without `--checksum`.
    No,
    /// Every file that takes part is read and digested.
    Yes,
}

/// What a scan found.
#[derive(Debug, Default)]
pub struct Scan {
    /// The tree; empty when there is none. What is excluded is listed, but not entered.
    pub manifest: Manifest,
    /// What is not copied although no rule excludes it, for a person.
    pub warnings: Vec<String>,
}

/// Lists a tree without ever leaving it or following a symbolic link.
///
/// Errors when any part cannot be read: a part that is missing from the list would be deleted on the replica.
pub fn scan(tree: &Tree, digests: Digests) -> Result<Scan, SyncError> {
    let Some(root) = tree.open()? else { return Ok(Scan::default()) };
    let mut walk = Walk { tree, digests, entries: Vec::new(), warnings: Vec::new(), links: BTreeMap::new() };
    let stat = meta::stat_fd(&root).map_err(|error| tree.error("read", &RelPath::root(), error))?;
    let mut own = meta::of_statx(&stat);
    own.xattrs = meta::xattrs_of(&root).map_err(|error| walk.attributes(&RelPath::root(), error))?;
    walk.entries.push((RelPath::root(), Entry { kind: Kind::Dir, meta: own }));
    walk.directory(&root, &RelPath::root(), 0)?;
    Ok(Scan { manifest: Manifest::from_entries(walk.entries)?, warnings: walk.warnings })
}

struct Walk<'a> {
    tree: &'a Tree,
    digests: Digests,
    entries: Vec<(RelPath, Entry)>,
    warnings: Vec<String>,
    /// Device and inode of files with several names.
    links: BTreeMap<(u32, u32, u64), u64>,
}

impl Walk<'_> {
    fn directory(&mut self, dir: &OwnedFd, path: &RelPath, depth: usize) -> Result<(), SyncError> {
        if depth > MAX_DEPTH {
            let deep = std::io::Error::other(format!("more than {MAX_DEPTH} directories inside each other"));
            return Err(self.tree.error("enter", path, deep).into());
        }
        for name in names(dir).map_err(|error| self.tree.error("list", path, error))? {
            let entry = path
                .join(name.to_bytes())
                .map_err(|why| SyncError::Path { directory: self.tree.display(path), why })?;
            let stat = match statx(dir, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW, meta::MASK) {
                Ok(stat) => stat,
                // removed since it was listed
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(self.tree.error("read", &entry, error).into()),
            };
            self.entry(dir, &name, entry, &stat, depth)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        dir: &OwnedFd,
        name: &CStr,
        path: RelPath,
        stat: &Statx,
        depth: usize,
    ) -> Result<(), SyncError> {
        let copied = self.tree.filter().verdict(&path) != Verdict::Excluded;
        let mut meta = meta::of_statx(stat);
        let kind = match FileType::from_raw_mode(stat.stx_mode.into()) {
            FileType::Directory => Kind::Dir,
            FileType::RegularFile => {
                let digest = match self.digests {
                    Digests::Yes if copied => self.digest(dir, name, &path)?,
                    Digests::Yes | Digests::No => None,
                };
                Kind::File { size: stat.stx_size, link: self.link(stat), digest }
            }
            FileType::Symlink => match readlinkat(dir, name, Vec::new()) {
                Ok(target) => {
                    meta.mode = 0;
                    Kind::Symlink { target: target.into_bytes().into() }
                }
                Err(Errno::NOENT) => return Ok(()),
                Err(error) => return Err(self.tree.error("read the link", &path, error).into()),
            },
            FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => {
                if copied {
                    let shown = self.tree.display(&path);
                    self.warnings.push(format!("{shown} is a device, socket or pipe and is not copied"));
                }
                Kind::Special
            }
        };
        if copied && matches!(kind, Kind::Dir | Kind::File { .. }) {
            match meta::xattrs_at(dir, name) {
                Ok(xattrs) => meta.xattrs = xattrs,
                Err(Errno::NOENT) => return Ok(()),
                Err(error) => return Err(self.attributes(&path, error).into()),
            }
        }
        let enter = copied && kind == Kind::Dir;
        self.entries.push((path.clone(), Entry { kind, meta }));
        if enter {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match openat(dir, name, flags, Mode::empty()) {
                Ok(below) => self.directory(&below, &path, depth + 1)?,
                Err(Errno::NOENT) => drop(self.entries.pop()),
                Err(error) => return Err(self.tree.error("enter", &path, error).into()),
            }
        }
        Ok(())
    }

    fn link(&mut self, stat: &Statx) -> Option<u64> {
        let next = self.links.len() as u64;
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

    fn attributes(&self, path: &RelPath, error: Errno) -> TreeError {
        self.tree.error("read the extended attributes of", path, error)
    }
}

/// The names in a directory, without our own temporary ones.
pub(crate) fn names(dir: &OwnedFd) -> rustix::io::Result<Vec<CString>> {
    let mut buffer = [MaybeUninit::uninit(); 32 << 10];
    // a second descriptor, because reading moves the position
    let own = openat(dir, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut list = RawDir::new(own, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = list.next() {
        let entry = entry?;
        let name = entry.file_name();
        let bytes = name.to_bytes();
        if bytes != b"." && bytes != b".." && !bytes.starts_with(STAGE_PREFIX) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
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
            entries: Vec::new(),
            warnings: Vec::new(),
            links: BTreeMap::new(),
        };
        let root = tree.open().unwrap().unwrap();
        let path = RelPath::new("was-a-file").unwrap();
        let error = walk.digest(&root, c"was-a-file", &path).unwrap_err().to_string();
        assert!(error.contains("was-a-file") && error.contains("no file any more"), "{error}");
    }
}
