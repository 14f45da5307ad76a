//! A tree in little memory, with a digest for each directory.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use super::manifest::{Digest, Entry, Kind, MAX_ENTRIES, ManifestError, Meta, Mtime, Xattrs};
use super::path::RelPath;

/// A tree as one walk found it: names in one piece of memory, and under 60 bytes an entry beside them.
///
/// Each directory has a digest of all that takes part in it, at any depth. Two listings, one of each [`Side`], have equal
/// digests for a directory exactly where a plan has no step below it, but for what nobody can find: BLAKE3 at its full
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

/// A listing that is being made: directory by directory, each before those in it.
#[derive(Debug)]
pub struct Draft {
    listing: Listing,
    /// Where the records of the directory begin that is being listed.
    from: usize,
}

impl Draft {
    /// The tree's own directory.
    pub const ROOT: DirectoryId = DirectoryId(0);

    /// A tree whose own directory has `meta`.
    pub fn new(meta: Meta) -> Draft {
        let mut listing = Listing::absent();
        listing.root = Some(meta);
        listing.directories.push(Directory {
            record: None,
            parent: Draft::ROOT,
            path_length: 0,
            first: 0,
            count: 0,
            digest: Digest([0; 32]),
        });
        Draft { listing, from: 0 }
    }

    /// Adds an entry to `directory`, which is the one that is closed next. Entries come in any order.
    ///
    /// Errors when the tree grows beyond [`MAX_ENTRIES`], or the entry's path beyond what a path may be.
    pub fn push(
        &mut self,
        directory: DirectoryId,
        name: &[u8],
        takes_part: bool,
        entry: Entry,
    ) -> Result<(), ManifestError> {
        let listing = &mut self.listing;
        let above = listing.directories[directory.index()].path_length as usize;
        if !RelPath::is_name(name) || above + 1 + name.len() > RelPath::MAX {
            listing.path(directory).entry(name)?;
        }
        let at = u32::try_from(listing.names.len()).map_err(|_| ManifestError::TooLarge)?;
        if listing.records.len() >= MAX_ENTRIES {
            return Err(ManifestError::TooLarge);
        }
        listing.names.extend_from_slice(name);
        let Entry { kind, meta } = entry;
        let (class, size, link, digest) = match kind {
            Kind::File { size, link, digest } => (Class::File, size, link, digest),
            Kind::Dir => (Class::Dir, NOT_ENTERED, None, None),
            Kind::Symlink { target } => {
                listing.names.extend_from_slice(&target);
                (Class::Symlink, target.len() as u64, None, None)
            }
            Kind::Special => (Class::Special, 0, None, None),
        };
        let numbered = |number: u64| u32::try_from(number + 1).ok().and_then(NonZeroU32::new);
        let extra = (digest.is_some() || !meta.xattrs.is_empty()).then(|| {
            listing.extras.push(Extra { xattrs: meta.xattrs, digest });
            listing.extras.len() as u64 - 1
        });
        listing.files += u64::from(takes_part && class != Class::Dir);
        listing.records.push(Record {
            seconds: meta.mtime.seconds,
            size,
            uid: meta.uid,
            gid: meta.gid,
            nanoseconds: meta.mtime.nanoseconds,
            name: at,
            link: link.map(|link| numbered(link).ok_or(ManifestError::TooLarge)).transpose()?,
            extra: extra.and_then(numbered),
            mode: meta.mode,
            name_length: name.len() as u8,
            class,
            takes_part,
        });
        Ok(())
    }

    /// Ends the list of `directory` with what was pushed since the last one was closed, and says which directories in it
    /// take part, in the order of their names: each must be closed in its turn, or have vanished.
    pub fn close(&mut self, directory: DirectoryId) -> impl Iterator<Item = DirectoryId> + use<> {
        let Listing { names, records, directories, .. } = &mut self.listing;
        let (first, from) = (self.from, directories.len() as u32);
        records[first..].sort_unstable_by(|a, b| a.name(names).cmp(b.name(names)));
        let above = directories[directory.index()].path_length;
        for (index, record) in records.iter_mut().enumerate().skip(first) {
            if record.class == Class::Dir && record.takes_part {
                record.size = directories.len() as u64;
                directories.push(Directory {
                    record: Some(index as u32),
                    parent: directory,
                    path_length: above + u32::from(above > 0) + u32::from(record.name_length),
                    first: 0,
                    count: 0,
                    digest: Digest([0; 32]),
                });
            }
        }
        let own = &mut directories[directory.index()];
        own.first = first as u32;
        own.count = (records.len() - first) as u32;
        self.from = records.len();
        (from..directories.len() as u32).map(DirectoryId)
    }

    /// The last segment of a directory's path; empty for the root.
    pub fn name(&self, directory: DirectoryId) -> &[u8] {
        self.listing.name(directory)
    }

    /// The path of a directory.
    pub fn path(&self, directory: DirectoryId) -> RelPath {
        self.listing.path(directory)
    }

    /// Takes back a directory that was not there any more when it was to be looked into.
    pub fn vanish(&mut self, directory: DirectoryId) {
        if let Some(record) = self.listing.directories[directory.index()].record {
            let record = &mut self.listing.records[record as usize];
            record.class = Class::Vanished;
            record.takes_part = false;
        }
    }

    /// The listing, with its digests.
    pub fn finish(self, side: Side) -> Listing {
        let mut listing = self.listing;
        listing.names.shrink_to_fit();
        listing.records.shrink_to_fit();
        let marks = listing.marks(side);
        let mut encoded = Vec::new();
        // a directory comes after the one that holds it, so backwards the digests of what is below are there
        for index in (0..listing.directories.len()).rev() {
            encoded.clear();
            for record in listing.present(DirectoryId(index as u32)) {
                let mark = record.link.and_then(|link| marks.get(&link));
                // a replica's excluded name matters only to the file that must lose it
                if record.takes_part || (side == Side::Replica && mark.is_some()) {
                    listing.encode(record, mark, &mut encoded);
                }
            }
            listing.directories[index].digest = digest_of(&encoded);
        }
        listing
    }
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
                link: record.link.map(|link| u64::from(link.get()) - 1),
                digest: extra.and_then(|extra| extra.digest),
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
