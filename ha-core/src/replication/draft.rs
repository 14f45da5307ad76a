//! A listing while it is made.

use std::num::NonZeroU32;

use super::super::manifest::{Digest, Entry, Kind, MAX_ENTRIES, ManifestError, Meta};
use super::super::path::RelPath;
use super::{Class, Directory, DirectoryId, Extra, Listing, NOT_ENTERED, Record, Side, digest_of};

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
        let numbered = |number: u32| number.checked_add(1).and_then(NonZeroU32::new);
        let extra = (digest.is_some() || !meta.xattrs.is_empty()).then(|| {
            listing.extras.push(Extra { xattrs: meta.xattrs, digest: digest.map(|digest| *digest) });
            listing.extras.len() as u32 - 1
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
