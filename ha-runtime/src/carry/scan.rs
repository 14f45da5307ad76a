//! A tree on this machine becomes what the planner compares.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use ha_core::carry::{FileState, Files};
use ha_core::replication::manifest::{Digest, Kind};
use ha_core::replication::path::RelPath;
use ha_core::voicemail::{Found, Spool};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, statx};
use rustix::io::Errno;

use super::error::CarryError;
use crate::sync::{META, Tree, TreeCursor, TreeError, absent, names, stamp, stat_fd};

/// Files in one tree that are compared; more is an error.
pub(super) const MAX_FILES: usize = 500_000;

/// Directories inside directories.
const MAX_DEPTH: usize = 40;

/// Of a message's text, so much is read; Asterisk writes some hundred bytes.
const MAX_TEXT: u64 = 64 << 10;

/// How a tree is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Messages, as Asterisk's voicemail directory.
    Voicemail,
    /// Files and nothing more: greetings, recordings, a directory with a database.
    Files,
}

/// Contents that were read once and have not changed since: a tree is compared each minute, and seldom changes.
#[derive(Debug, Default)]
pub struct Seen(BTreeMap<RelPath, (Stamp, Found)>);

impl Seen {
    /// What is known of the files below a directory; what is still so is put back.
    fn take(&mut self, below: &RelPath) -> BTreeMap<RelPath, (Stamp, Found)> {
        let known = self.0.range(below.clone()..).map(|(path, _)| path);
        let paths: Vec<RelPath> =
            known.filter(|path| *path != below).take_while(|path| path.is_below(below)).cloned().collect();
        paths.into_iter().filter_map(|path| self.0.remove_entry(&path)).collect()
    }
}

type Stamp = (u64, u64, (i64, u32), (i64, u32));

/// What the tree holds. Symbolic links are neither followed nor listed; what cannot be read is an error, because it would
/// count as absent.
pub fn scan(tree: &Tree, holds: Holds, seen: &mut Seen) -> Result<Spool, CarryError> {
    let found = walk(tree, &RelPath::root(), seen)?;
    Ok(match holds {
        Holds::Voicemail => Spool::new(found),
        Holds::Files => {
            let files = found.into_iter().map(|file| (file.path, file.state)).collect();
            Spool { files: Files(files), ..Spool::default() }
        }
    })
}

/// The files below one directory of the tree.
pub(super) fn walk(tree: &Tree, below: &RelPath, seen: &mut Seen) -> Result<Vec<Found>, CarryError> {
    let Some(root) = tree.open()? else { return Ok(Vec::new()) };
    let mut cursor = TreeCursor::new(root);
    let start = match cursor.directory(below) {
        Ok(directory) => directory.try_clone_to_owned(),
        Err(error) if absent(&error) => return Ok(Vec::new()),
        Err(error) => Err(error),
    };
    let start = start.map_err(|error| tree.error("open", below, error))?;
    let old = seen.take(below);
    let mut walk = Walk { tree, old, seen, found: Vec::new() };
    walk.directory(&start, below, 0)?;
    Ok(walk.found)
}

struct Walk<'a> {
    tree: &'a Tree,
    old: BTreeMap<RelPath, (Stamp, Found)>,
    seen: &'a mut Seen,
    found: Vec<Found>,
}

impl Walk<'_> {
    fn directory(&mut self, here: &OwnedFd, path: &RelPath, depth: usize) -> Result<(), CarryError> {
        if depth > MAX_DEPTH {
            let deep = io::Error::other(format!("more than {MAX_DEPTH} directories inside each other"));
            return Err(self.tree.error("enter", path, deep).into());
        }
        for name in names(here).map_err(|error| self.tree.error("list", path, error))? {
            let inside = path.entry(name.to_bytes());
            let inside = inside.map_err(|error| self.tree.error("list", path, io::Error::other(error)))?;
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let kind = match statx(here, &name, AtFlags::SYMLINK_NOFOLLOW, META) {
                Ok(stat) => FileType::from_raw_mode(stat.stx_mode.into()),
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(self.tree.error("look at", &inside, error).into()),
            };
            let as_entry = match kind {
                FileType::Directory => Kind::Dir,
                FileType::RegularFile => Kind::File { size: 0, link: None, digest: None },
                _ => continue,
            };
            if !self.tree.filter().takes_part(&inside, &as_entry) {
                continue;
            }
            match openat(here, &name, flags, Mode::empty()) {
                Ok(fd) if kind == FileType::Directory => self.directory(&fd, &inside, depth + 1)?,
                Ok(fd) => self.file(&File::from(fd), inside)?,
                // moved since it was listed, as Asterisk does
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => {}
                Err(error) => return Err(self.tree.error("open", &inside, error).into()),
            }
        }
        Ok(())
    }

    fn file(&mut self, file: &File, path: RelPath) -> Result<(), CarryError> {
        let fail = |error: io::Error| self.tree.error("read", &path, error);
        let before = stat_fd(file).map_err(|error| fail(error.into()))?;
        if FileType::from_raw_mode(before.stx_mode.into()) != FileType::RegularFile {
            return Ok(());
        }
        let known = self.old.remove(&path).filter(|(known, _)| *known == stamp(&before));
        let found = match known {
            Some((_, found)) => found,
            None => {
                let found = read(file, path.clone()).map_err(fail)?;
                let after = stat_fd(file).map_err(|error| fail(error.into()))?;
                if stamp(&before) != stamp(&after) {
                    // being written: neither what it was nor what it will be
                    return Ok(());
                }
                found
            }
        };
        if self.found.len() == MAX_FILES {
            return Err(CarryError::TooMany { tree: self.tree.name().to_owned() });
        }
        self.seen.0.insert(path, (stamp(&before), found.clone()));
        self.found.push(found);
        Ok(())
    }
}

fn read(mut file: &File, path: RelPath) -> io::Result<Found> {
    let mut text = Vec::new();
    if path.as_bytes().ends_with(b".txt") {
        file.take(MAX_TEXT).read_to_end(&mut text)?;
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&text);
    let rest = io::copy(&mut file, &mut hasher)?;
    let state = FileState { size: text.len() as u64 + rest, digest: Digest(*hasher.finalize().as_bytes()) };
    Ok(Found { text: path.as_bytes().ends_with(b".txt").then_some(text), state, path })
}

/// What an open file holds.
pub(super) fn state(mut file: &File) -> io::Result<FileState> {
    let mut hasher = blake3::Hasher::new();
    let size = io::copy(&mut file, &mut hasher)?;
    Ok(FileState { size, digest: Digest(*hasher.finalize().as_bytes()) })
}

/// Opens a file of the tree for reading; symbolic links are not followed on the way.
pub fn open_file(tree: &Tree, path: &RelPath) -> Result<File, TreeError> {
    let fail = |error: io::Error| tree.error("open", path, error);
    let root = tree.open()?.ok_or_else(|| fail(Errno::NOENT.into()))?;
    let mut cursor = TreeCursor::new(root);
    let (dir, name) = cursor.parent(path).map_err(fail)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = openat(dir, name, flags, Mode::empty()).map_err(|error| fail(error.into()))?;
    let stat = stat_fd(fd.as_fd()).map_err(|error| fail(error.into()))?;
    match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::RegularFile => Ok(File::from(fd)),
        _ => Err(fail(io::Error::other("it is no file"))),
    }
}
