//! Whether the steps of a switch can be done, asked before anything decides that they will be: what can only be refused
//! must be refused now.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use ha_core::replication::manifest::{Meta, Xattrs};
use ha_core::replication::path::RelPath;
use ha_core::replication::wire::Action;
use rustix::fs::{FileType, Statx};

use super::apply::{is_absent, look};
use super::error::TreeError;
use super::meta;
use super::stage::{MetaOf, Stage};
use super::tree::{Cursor, Tree};

/// Bytes that a new inode or a block of extended attributes needs, beside its name.
const BLOCK: u64 = 4096;
/// Bytes that a name needs in its directory, beside its letters.
const ENTRY: u64 = 64;
/// Bytes that are kept free once anything is made: directories grow by blocks.
const ROOM: u64 = 64 << 10;

/// What makes inodes immutable or append-only, which neither a rename nor a deletion gets past (`statx(2)`).
const UNCHANGEABLE: u64 = 0x10 | 0x20;

/// The steps of one tree, gone through without doing any.
pub(crate) struct Rehearsal<'a> {
    tree: &'a Tree,
    stage: Option<&'a Stage>,
    /// `None`: the tree is not there yet.
    cursor: Option<Cursor>,
    device: Option<(u32, u32)>,
    /// The directory that was looked at last.
    above: Option<(RelPath, Above)>,
    /// Directories that an earlier step makes.
    made: BTreeSet<RelPath>,
    /// What an earlier step removes.
    removed: BTreeSet<RelPath>,
    room: u64,
    /// What entries are to be given, once for each owner and set of attributes, and whom as an example.
    given: BTreeMap<(MetaOf, u32, u32, Xattrs), (RelPath, Meta)>,
}

/// What the directory is that a step changes.
#[derive(Clone, Copy)]
enum Above {
    /// It is there.
    There,
    /// It is not, but an earlier step makes it.
    Made,
}

/// What stands where a step leads to.
enum Found {
    /// Nothing, or only what earlier steps make.
    Free,
    Entry {
        kind: FileType,
        device: (u32, u32),
    },
}

impl Found {
    fn is_other_than_dir(&self) -> bool {
        matches!(self, Found::Entry { kind, .. } if *kind != FileType::Directory)
    }

    fn is_dir(&self) -> bool {
        matches!(self, Found::Entry { kind: FileType::Directory, .. })
    }

    fn is_file(&self) -> bool {
        matches!(self, Found::Entry { kind: FileType::RegularFile, .. })
    }
}

impl<'a> Rehearsal<'a> {
    pub(crate) fn new(tree: &'a Tree, stage: Option<&'a Stage>) -> Result<Rehearsal<'a>, TreeError> {
        let root = tree.open()?;
        let fail = |error| tree.error("look at", &RelPath::root(), error);
        let stat = root.as_ref().map(meta::stat_fd).transpose().map_err(fail)?;
        Ok(Rehearsal {
            tree,
            stage,
            device: stat.map(|stat| device(&stat)),
            cursor: root.map(Cursor::new),
            above: None,
            made: BTreeSet::new(),
            removed: BTreeSet::new(),
            room: 0,
            given: BTreeMap::new(),
        })
    }

    /// Bytes that the steps so far may need where their tree lies.
    pub(crate) fn room(&self) -> u64 {
        if self.room == 0 { 0 } else { ROOM + self.room }
    }

    /// The metadata that the steps so far give: what a file system or a kernel refuses must be tried.
    pub(crate) fn given(self) -> impl Iterator<Item = (MetaOf, RelPath, Meta)> {
        self.given.into_iter().map(|((kind, ..), (path, meta))| (kind, path, meta))
    }

    /// Goes through the next step.
    pub(crate) fn step(&mut self, action: Action) -> Result<(), TreeError> {
        let path = action.path().clone();
        self.try_step(action).map_err(|error| self.tree.error("accept a step for", &path, error))
    }

    fn try_step(&mut self, action: Action) -> io::Result<()> {
        match action {
            Action::MakeDir { path } => {
                if self.at(&path)?.is_other_than_dir() && !self.removed.contains(&path) {
                    return Err(io::Error::other("something else is in the way of the directory"));
                }
                self.room += 2 * BLOCK + name_of(&path);
                self.made.insert(path);
            }
            Action::Place { path } => {
                if self.waiting(&path).is_none() {
                    return Err(io::Error::other("it was never received"));
                }
                self.replace(&path)?;
                self.room += name_of(&path);
            }
            Action::Link { path, to } => {
                let there = self.waiting(&to).is_some() || self.at(&to)?.is_file();
                if !there {
                    return Err(io::Error::other(format!("{to} is no file to link to")));
                }
                self.replace(&path)?;
                self.room += 2 * name_of(&path);
            }
            Action::Symlink { path, target, meta } => {
                self.replace(&path)?;
                self.room += BLOCK + target.len() as u64 + 2 * name_of(&path);
                // of a link's own attributes none is copied
                self.give(MetaOf::Symlink, path, Meta { xattrs: Xattrs::NONE, ..meta });
            }
            Action::SetMeta { path, meta } => {
                let kind = if path.is_root() || self.made.contains(&path) {
                    MetaOf::Directory
                } else {
                    match self.at(&path)? {
                        found if found.is_dir() => MetaOf::Directory,
                        found if found.is_file() => MetaOf::File,
                        Found::Free | Found::Entry { .. } => {
                            return Err(io::Error::other("it is no file or directory"));
                        }
                    }
                };
                self.room += room_of(&meta);
                self.give(kind, path, meta);
            }
            Action::Delete { path, directory } => {
                match self.at(&path) {
                    Ok(Found::Entry { kind: FileType::Directory, device })
                        if directory && Some(device) != self.device =>
                    {
                        return Err(io::Error::other("another file system is mounted there"));
                    }
                    Ok(Found::Entry { .. } | Found::Free) => {}
                    // it is gone already
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
                self.removed.insert(path);
            }
        }
        Ok(())
    }

    fn give(&mut self, kind: MetaOf, path: RelPath, meta: Meta) {
        let key = (kind, meta.uid, meta.gid, meta.xattrs.clone());
        self.given.entry(key).or_insert((path, meta));
    }

    fn waiting(&self, path: &RelPath) -> Option<super::stage::Waiting> {
        self.stage.and_then(|stage| stage.waiting(path))
    }

    /// A rename to `path` must be possible.
    fn replace(&mut self, path: &RelPath) -> io::Result<()> {
        if self.at(path)?.is_dir() && !self.removed.contains(path) {
            return Err(io::Error::other("a directory is in its way"));
        }
        Ok(())
    }

    /// What is at `path`; its directory must be there, now or by then, and on the tree's own file system.
    fn at(&mut self, path: &RelPath) -> io::Result<Found> {
        let (Some(parent), Some(name)) = (path.parent(), path.name()) else { return Ok(Found::Free) };
        // steps come directory by directory
        let above = match self.above.take() {
            Some((last, above)) if last == parent => above,
            _ => self.look_at_directory(&parent)?,
        };
        self.above = Some((parent.clone(), above));
        let (Above::There, Some(cursor)) = (above, &mut self.cursor) else { return Ok(Found::Free) };
        match cursor.directory(&parent).and_then(|dir| look(dir, name)) {
            Ok(stat) => {
                check_changeable(&stat)?;
                let kind = FileType::from_raw_mode(stat.stx_mode.into());
                Ok(Found::Entry { kind, device: device(&stat) })
            }
            Err(error) if is_absent(&error) => Ok(Found::Free),
            Err(error) => Err(error),
        }
    }

    /// Whether entries of a directory can be changed, now or once earlier steps have made it.
    fn look_at_directory(&mut self, path: &RelPath) -> io::Result<Above> {
        let found = self
            .cursor
            .as_mut()
            .map(|cursor| meta::stat_fd(cursor.directory(path)?).map_err(io::Error::from));
        match found {
            Some(Ok(stat)) => {
                check_changeable(&stat)?;
                if Some(device(&stat)) != self.device {
                    return Err(io::Error::other(
                        "another file system is mounted inside the dataset: make that directory a dataset of its own, or \
                         exclude it",
                    ));
                }
                Ok(Above::There)
            }
            Some(Err(error)) if !is_absent(&error) => Err(error),
            Some(Err(_)) | None => self.made_only(path),
        }
    }

    fn made_only(&self, parent: &RelPath) -> io::Result<Above> {
        if parent.is_root() || self.made.contains(parent) {
            Ok(Above::Made)
        } else {
            Err(io::Error::new(io::ErrorKind::NotFound, "its directory is not there"))
        }
    }
}

fn device(stat: &Statx) -> (u32, u32) {
    (stat.stx_dev_major, stat.stx_dev_minor)
}

fn check_changeable(stat: &Statx) -> io::Result<()> {
    let set = stat.stx_attributes.bits() & stat.stx_attributes_mask.bits();
    if set & UNCHANGEABLE == 0 {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is immutable or append-only: see chattr(1)"))
    }
}

fn name_of(path: &RelPath) -> u64 {
    ENTRY + path.name().map_or(0, <[u8]>::len) as u64
}

fn room_of(meta: &Meta) -> u64 {
    let bytes = meta.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    if bytes == 0 { 0 } else { BLOCK + bytes as u64 }
}
