//! What a tree holds, without the contents.

use std::collections::btree_map::{self, BTreeMap};
use std::fmt;
use std::ops::Deref;

use thiserror::Error;

use super::path::{BadPath, RelPath};

/// A tree: every entry by its path, the root included. Empty: there is no such tree.
///
/// The parent of each entry is a directory of the same manifest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest(Vec<(RelPath, Entry)>);

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Whose it is, who may do what, and when it was last written.
    pub meta: Meta,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Bytes.
        size: u64,
        /// Entries with the same number are one file under several names (hard links). Numbers mean nothing else.
        link: Option<u32>,
        /// Of the whole content, when it was asked for: rarely, so entries have no room for it.
        digest: Option<Box<Digest>>,
    },
    /// A directory.
    Dir,
    /// A symbolic link; it is copied as such, wherever it points.
    Symlink {
        /// Its text.
        target: Box<[u8]>,
    },
    /// A device, socket or pipe: never copied, never removed.
    Special,
}

/// BLAKE3 of a whole content, or of all that a directory holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What an entry has beside its content, as `rsync -aX` keeps it. Owners are numbers: both nodes run the same system.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits with set-id and sticky: twelve bits. Zero for symbolic links, which have none of their own.
    pub mode: u16,
    /// When the content was last written.
    pub mtime: Mtime,
    /// Extended attributes, ACLs and file capabilities among them, by name.
    pub xattrs: Xattrs,
}

/// Extended attributes by name. Few entries have any, and the others need no more room than a pointer for them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Xattrs(Option<Box<XattrMap>>);

type XattrMap = BTreeMap<Box<[u8]>, Box<[u8]>>;

impl Xattrs {
    /// None.
    pub const NONE: Xattrs = Xattrs(None);

    /// Adds one, or gives it another value.
    pub fn insert(&mut self, name: Box<[u8]>, value: Box<[u8]>) {
        self.0.get_or_insert_default().insert(name, value);
    }
}

/// To look at: a map.
impl Deref for Xattrs {
    type Target = XattrMap;
    fn deref(&self) -> &XattrMap {
        static EMPTY: XattrMap = XattrMap::new();
        self.0.as_deref().unwrap_or(&EMPTY)
    }
}

impl<'a> IntoIterator for &'a Xattrs {
    type Item = (&'a Box<[u8]>, &'a Box<[u8]>);
    type IntoIter = btree_map::Iter<'a, Box<[u8]>, Box<[u8]>>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl FromIterator<(Box<[u8]>, Box<[u8]>)> for Xattrs {
    fn from_iter<I: IntoIterator<Item = (Box<[u8]>, Box<[u8]>)>>(all: I) -> Xattrs {
        let mut xattrs = Xattrs::NONE;
        all.into_iter().for_each(|(name, value)| xattrs.insert(name, value));
        xattrs
    }
}

/// A file system's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mtime {
    /// Since the epoch; negative before.
    pub seconds: i64,
    /// Less than a second.
    pub nanoseconds: u32,
}

/// Entries that make no tree. They are used for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ManifestError {
    /// One path twice.
    #[error("an entry is listed twice")]
    Duplicate,
    /// Its parent is missing, or not a directory; or it is the root and no directory.
    #[error("\"{0}\" has no directory above it")]
    Orphan(RelPath),
    /// The names of a directory are not in their order, or one comes twice.
    #[error("the entries of \"{0}\" are not in the order of their names")]
    Unsorted(RelPath),
    /// A path that the kernel would not accept.
    #[error(transparent)]
    Path(#[from] BadPath),
    /// More than [`MAX_ENTRIES`].
    #[error("there are more than {MAX_ENTRIES} entries; make datasets of its parts, or exclude some")]
    TooLarge,
}

/// Entries that one tree may have.
pub const MAX_ENTRIES: usize = 4_000_000;

impl Manifest {
    /// A tree from its entries, in any order.
    pub fn from_entries(
        entries: impl IntoIterator<Item = (RelPath, Entry)>,
    ) -> Result<Manifest, ManifestError> {
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        if entries.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(ManifestError::Duplicate);
        }
        // paths come parents first, so the directories above an entry are a stack
        let mut above: Vec<&RelPath> = Vec::new();
        for (path, entry) in &entries {
            while above.pop_if(|top| !path.is_below(top)).is_some() {}
            if path.depth() != above.len() || (path.is_root() && entry.kind != Kind::Dir) {
                return Err(ManifestError::Orphan(path.clone()));
            }
            if entry.kind == Kind::Dir {
                above.push(path);
            }
        }
        Ok(Manifest(entries))
    }

    /// The entry at `path`.
    pub fn get(&self, path: &RelPath) -> Option<&Entry> {
        let found = self.0.binary_search_by(|(other, _)| other.cmp(path)).ok()?;
        Some(&self.0[found].1)
    }

    /// All entries, parents before children.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&RelPath, &Entry)> + ExactSizeIterator {
        self.0.iter().map(|(path, entry)| (path, entry))
    }

    /// What lies below `directory`, parents before children.
    pub fn below<'a>(
        &'a self,
        directory: &'a RelPath,
    ) -> impl Iterator<Item = (&'a RelPath, &'a Entry)> + 'a {
        let from = self.0.partition_point(|(path, _)| path <= directory);
        let below = self.0[from..].iter().take_while(move |(path, _)| path.is_below(directory));
        below.map(|(path, entry)| (path, entry))
    }

    /// How many entries, the root included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no such tree.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl IntoIterator for Manifest {
    type Item = (RelPath, Entry);
    type IntoIter = std::vec::IntoIter<(RelPath, Entry)>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: Kind) -> Entry {
        Entry { kind, meta: Meta::default() }
    }

    fn file() -> Entry {
        entry(Kind::File { size: 1, link: None, digest: None })
    }

    fn tree(entries: &[(&str, Entry)]) -> Result<Manifest, ManifestError> {
        Manifest::from_entries(entries.iter().map(|(path, e)| (RelPath::new(path).unwrap(), e.clone())))
    }

    #[test]
    fn every_entry_lies_in_a_directory_of_the_same_tree() {
        let dir = || entry(Kind::Dir);
        assert!(tree(&[("a/b", file()), ("", dir()), ("a", dir()), ("a-b", file())]).is_ok());
        assert!(matches!(tree(&[("", file())]), Err(ManifestError::Orphan(_))));
        assert!(matches!(tree(&[("a", file())]), Err(ManifestError::Orphan(_))));
        assert!(matches!(tree(&[("", dir()), ("a/b", file())]), Err(ManifestError::Orphan(_))));
        assert!(matches!(
            tree(&[("", dir()), ("a", file()), ("a/b", file())]),
            Err(ManifestError::Orphan(_))
        ));
        assert_eq!(tree(&[("", dir()), ("", dir())]), Err(ManifestError::Duplicate));
    }

    #[test]
    fn an_entry_without_attributes_keeps_no_room_for_them() {
        assert_eq!(size_of::<Xattrs>(), size_of::<usize>());
        let mut some = Xattrs::from_iter([]);
        assert_eq!((&some, some.len()), (&Xattrs::NONE, 0));
        some.insert(b"user.b"[..].into(), b"1"[..].into());
        some.insert(b"user.a"[..].into(), b"2"[..].into());
        let names: Vec<&[u8]> = some.keys().map(|name| &**name).collect();
        assert_eq!(names, [b"user.a", b"user.b"]);
    }

    #[test]
    fn what_lies_below_is_found_without_its_neighbours() {
        let dir = || entry(Kind::Dir);
        let tree =
            tree(&[("", dir()), ("a", dir()), ("a/b", dir()), ("a/b/c", file()), ("a-", file())]).unwrap();
        let below: Vec<String> =
            tree.below(&RelPath::new("a").unwrap()).map(|(path, _)| path.to_string()).collect();
        assert_eq!(below, ["a/b", "a/b/c"]);
    }
}
