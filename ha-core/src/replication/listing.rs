//! A tree in little memory, with a digest for each directory.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use super::manifest::{Digest, Entry, Kind, Meta, Mtime, Xattrs};
use super::path::RelPath;

#[path = "draft.rs"]
mod draft;
pub use draft::Draft;

/// A tree as one walk found it: names in one piece of memory, and under 60 bytes an entry beside them.
///
/// Each directory has a digest of all that takes part in it, at any depth. Two listings, one of each [`Side`], have equal
/// digests for a directory only where a plan has no step below it, but for what nobody can find: BLAKE3 at its full
/// length.
#[derive(Debug, Clone)]
pub struct Listing {
    /// `None`: there is no such tree.
    root: Option<Meta>,
    /// Names, and the texts of symbolic links.
    names: Vec<u8>,
    records: Vec<Record>,
    directories: Vec<Directory>,
    extras: Vec<Extra>,
    files: u64,
}

/// Which part a tree plays. A file of the replica that is also known by an excluded name must be made anew, so its digest
/// is like none of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It is copied.
    Source,
    /// It is made equal.
    Replica,
}

/// A directory of a [`Listing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirectoryId(u32);

/// A tree in a few words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// What the tree's own directory has beside its content, and the digest of that; `None`: there is no such tree.
    pub root: Option<(Meta, Digest)>,
    /// How many entries take part, directories not counted.
    pub files: u64,
}

/// One line of a directory's list, as the nodes tell it to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// One segment; see [`RelPath::is_name`].
    pub name: Box<[u8]>,
    /// What it is.
    pub entry: Entry,
    /// What it holds, if it is a directory that was looked into.
    pub below: Option<Digest>,
}

/// An entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child<'a> {
    /// One segment.
    pub name: &'a [u8],
    /// What it is.
    pub entry: Entry,
    /// Whether the rules let it take part.
    pub takes_part: bool,
    /// Itself, if it is a directory that was looked into.
    pub directory: Option<DirectoryId>,
}

#[derive(Debug, Clone, Copy)]
struct Record {
    seconds: i64,
    /// Bytes of a file or of a link's text; the number of a directory, or [`NOT_ENTERED`].
    size: u64,
    uid: u32,
    gid: u32,
    nanoseconds: u32,
    name: u32,
    /// One more than the number of the file.
    link: Option<NonZeroU32>,
    /// One more than its place in [`Listing::extras`].
    extra: Option<NonZeroU32>,
    mode: u16,
    name_length: u8,
    class: Class,
    takes_part: bool,
}

const NOT_ENTERED: u64 = u64::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    File,
    Dir,
    Symlink,
    Special,
    /// It was there when its directory was read, and not when it was looked into.
    Vanished,
}

/// What few entries have.
#[derive(Debug, Clone, Default)]
struct Extra {
    xattrs: Xattrs,
    digest: Option<Digest>,
}

#[derive(Debug, Clone)]
struct Directory {
    /// Its own record; none for the root.
    record: Option<u32>,
    parent: DirectoryId,
    /// Bytes of its path.
    path_length: u32,
    first: u32,
    count: u32,
    digest: Digest,
}

impl Listing {
    /// There is no such tree.
    pub fn absent() -> Listing {
        Listing {
            root: None,
            names: Vec::new(),
            records: Vec::new(),
            directories: Vec::new(),
            extras: Vec::new(),
            files: 0,
        }
    }

    /// How many entries, the root not counted.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no entry, or no such tree.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The whole in a few words.
    pub fn summary(&self) -> Summary {
        let root = self.root.as_ref().map(|meta| (meta.clone(), self.digest(Draft::ROOT)));
        Summary { root, files: self.files }
    }

    /// Of all that takes part in `directory`, which is one of this listing.
    pub fn digest(&self, directory: DirectoryId) -> Digest {
        self.directories[directory.index()].digest
    }

    /// What lies directly in `directory`, in the order of the names.
    pub fn children(&self, directory: DirectoryId) -> impl Iterator<Item = Child<'_>> {
        self.present(directory).map(|record| Child {
            name: record.name(&self.names),
            entry: self.entry(record),
            takes_part: record.takes_part,
            directory: record.directory(),
        })
    }

    /// The same as the other node is told.
    pub fn listed(&self, directory: DirectoryId) -> impl Iterator<Item = Listed> {
        self.children(directory).map(|child| Listed {
            name: child.name.into(),
            entry: child.entry,
            below: child.directory.map(|id| self.digest(id)),
        })
    }

    /// The directory at `path`, if there is one that was looked into.
    pub fn find(&self, path: &RelPath) -> Option<DirectoryId> {
        let root = self.root.as_ref().map(|_| Draft::ROOT);
        path.segments().try_fold(root?, |here, segment| {
            let records = self.records_of(here);
            let found = records.binary_search_by(|record| record.name(&self.names).cmp(segment)).ok()?;
            records[found].directory()
        })
    }

    /// Names whose file has several, and what tells which other names those are: equal marks, equal names. A file with one
    /// name that takes part has no mark, unless a replica's name that does not is the same file.
    fn marks(&self, side: Side) -> BTreeMap<NonZeroU32, Digest> {
        #[derive(Default)]
        struct Group {
            names: Vec<RelPath>,
            protected: bool,
        }
        let mut groups: BTreeMap<NonZeroU32, Group> = BTreeMap::new();
        for id in (0..self.directories.len() as u32).map(DirectoryId) {
            let mut path = None;
            for record in self.present(id) {
                let Some(link) = record.link else { continue };
                let group = groups.entry(link).or_default();
                if record.takes_part {
                    let path = path.get_or_insert_with(|| self.path(id));
                    group.names.push(joined(path, record.name(&self.names)));
                } else {
                    group.protected |= side == Side::Replica;
                }
            }
        }
        groups.retain(|_, group| group.names.len() > usize::from(!group.protected));
        let digest = |mut group: Group| {
            group.names.sort_unstable();
            let mut encoded = vec![u8::from(group.protected)];
            group.names.iter().for_each(|name| put(&mut encoded, name.as_bytes()));
            digest_of(&encoded)
        };
        groups.into_iter().map(|(link, group)| (link, digest(group))).collect()
    }

    /// All that a plan looks at, so that equal bytes mean equal entries.
    fn encode(&self, record: &Record, mark: Option<&Digest>, out: &mut Vec<u8>) {
        put(out, record.name(&self.names));
        out.extend(record.uid.to_be_bytes());
        out.extend(record.gid.to_be_bytes());
        out.extend(record.mode.to_be_bytes());
        out.extend(record.seconds.to_be_bytes());
        out.extend(record.nanoseconds.to_be_bytes());
        let extra = record.extra.map(|extra| &self.extras[extra.get() as usize - 1]);
        out.extend(extra.map_or(0, |extra| extra.xattrs.len() as u32).to_be_bytes());
        for (name, value) in extra.into_iter().flat_map(|extra| &extra.xattrs) {
            put(out, name);
            put(out, value);
        }
        match record.class {
            Class::File => {
                out.push(0);
                out.extend(record.size.to_be_bytes());
                for digest in [mark, extra.and_then(|extra| extra.digest.as_ref())] {
                    out.push(digest.is_some().into());
                    out.extend(digest.map_or(&[][..], |digest| &digest.0));
                }
            }
            Class::Dir => {
                out.push(1);
                out.extend(record.directory().map_or([0; 32], |id| self.digest(id).0));
            }
            Class::Symlink => {
                out.push(2);
                put(out, record.target(&self.names));
            }
            // never takes part
            Class::Special | Class::Vanished => out.push(3),
        }
    }

    fn entry(&self, record: &Record) -> Entry {
        let extra = record.extra.map(|extra| &self.extras[extra.get() as usize - 1]);
        let kind = match record.class {
            Class::File => Kind::File {
                size: record.size,
                link: record.link.map(|link| link.get() - 1),
                digest: extra.and_then(|extra| extra.digest).map(Box::new),
            },
            Class::Dir => Kind::Dir,
            Class::Symlink => Kind::Symlink { target: record.target(&self.names).into() },
            Class::Special | Class::Vanished => Kind::Special,
        };
        let meta = Meta {
            uid: record.uid,
            gid: record.gid,
            mode: record.mode,
            mtime: Mtime { seconds: record.seconds, nanoseconds: record.nanoseconds },
            xattrs: extra.map(|extra| extra.xattrs.clone()).unwrap_or_default(),
        };
        Entry { kind, meta }
    }

    fn name(&self, directory: DirectoryId) -> &[u8] {
        let record = self.directories[directory.index()].record;
        record.map_or(&[], |record| self.records[record as usize].name(&self.names))
    }

    fn path(&self, directory: DirectoryId) -> RelPath {
        match self.directories[directory.index()].record {
            None => RelPath::root(),
            Some(_) => joined(&self.path(self.directories[directory.index()].parent), self.name(directory)),
        }
    }

    fn records_of(&self, directory: DirectoryId) -> &[Record] {
        let Directory { first, count, .. } = self.directories[directory.index()];
        &self.records[first as usize..][..count as usize]
    }

    fn present(&self, directory: DirectoryId) -> impl Iterator<Item = &Record> {
        self.records_of(directory).iter().filter(|record| record.class != Class::Vanished)
    }
}

impl DirectoryId {
    fn index(self) -> usize {
        self.0 as usize
    }
}

impl Record {
    fn name<'a>(&self, names: &'a [u8]) -> &'a [u8] {
        &names[self.name as usize..][..usize::from(self.name_length)]
    }

    /// A link's text lies behind its name.
    fn target<'a>(&self, names: &'a [u8]) -> &'a [u8] {
        &names[self.name as usize + usize::from(self.name_length)..][..self.size as usize]
    }

    fn directory(&self) -> Option<DirectoryId> {
        match self.class {
            Class::Dir => u32::try_from(self.size).ok().map(DirectoryId),
            Class::File | Class::Symlink | Class::Special | Class::Vanished => None,
        }
    }
}

fn joined(directory: &RelPath, name: &[u8]) -> RelPath {
    directory.join(name).expect("an entry's name and the length of its path were checked when it was pushed")
}

fn digest_of(encoded: &[u8]) -> Digest {
    Digest(*blake3::hash(encoded).as_bytes())
}

/// Its length first, so that no two lists have the same bytes.
fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
#[path = "listing_tests.rs"]
pub(super) mod tests;
