//! From two trees' digests down to what differs, without the rest.

use std::cmp::Ordering;
use std::collections::VecDeque;

use super::filter::{Filter, Verdict};
use super::guard::Counts;
use super::listing::{Child, DirectoryId, Draft, Listed, Listing, Summary};
use super::manifest::{Entry, Kind, MAX_ENTRIES, Manifest, ManifestError};
use super::path::RelPath;
use super::plan::{Plan, Rules, plan};

/// Directories that are asked for at once.
pub const MAX_ASKED: usize = 4096;
/// Bytes of their paths, or one more path.
const MAX_ASKED_BYTES: usize = 256 << 10;

/// A comparison of a source with a replica that is elsewhere: asks for the lists of the directories whose digests differ,
/// level by level, and ends with the two trees cut down to that.
///
/// 1. [`Descent::new`] with what the other node says of its tree as a whole.
/// 2. [`Descent::ask`] until nothing is left to ask; [`Descent::answer`] for each directory, in the order of the question.
/// 3. [`Descent::finish`].
#[derive(Debug)]
pub struct Descent<'a> {
    source: &'a Listing,
    filter: &'a Filter,
    /// What is to be asked for, and the source's directory there.
    pending: VecDeque<(RelPath, Option<DirectoryId>)>,
    asked: VecDeque<(RelPath, Option<DirectoryId>)>,
    here: Vec<(RelPath, Entry)>,
    there: Vec<(RelPath, Entry)>,
    /// Files that take part, less those that were found in a difference.
    alike: Counts,
    answered: usize,
}

/// Two trees without what is equal in both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Differing {
    source: Manifest,
    replica: Manifest,
    alike: Counts,
}

impl Differing {
    /// The plan for the whole trees.
    pub fn plan(&self, rules: &Rules) -> Plan {
        let mut plan = plan(&self.source, &self.replica, rules);
        plan.counts = plan.counts.and(self.alike);
        plan
    }
}

impl<'a> Descent<'a> {
    /// Begins with the digests of both trees. `filter` is what the source was listed with.
    pub fn new(source: &'a Listing, replica: &Summary, filter: &'a Filter) -> Descent<'a> {
        let own = source.summary();
        let mut descent = Descent {
            source,
            filter,
            pending: VecDeque::new(),
            asked: VecDeque::new(),
            here: Vec::new(),
            there: Vec::new(),
            alike: Counts { source: own.files, replica: replica.files, deleted: 0 },
            answered: 0,
        };
        let root = |meta| (RelPath::root(), Entry { kind: Kind::Dir, meta });
        let digests = [&own.root, &replica.root].map(|root| root.as_ref().map(|(_, digest)| *digest));
        descent.here.extend(own.root.map(|(meta, _)| root(meta)));
        descent.there.extend(replica.root.as_ref().map(|(meta, _)| root(meta.clone())));
        match digests {
            [None, None] => {}
            [Some(_), None] => {
                descent.here.reserve_exact(source.len());
                descent.include(&RelPath::root(), Draft::ROOT);
            }
            [None, Some(_)] => descent.pending.push_back((RelPath::root(), None)),
            [Some(new), Some(old)] if new == old => {}
            [Some(_), Some(_)] => descent.pending.push_back((RelPath::root(), Some(Draft::ROOT))),
        }
        descent
    }

    /// The directories to ask for next, [`MAX_ASKED`] at most; none: the comparison is at its end.
    pub fn ask(&mut self) -> Vec<RelPath> {
        let mut bytes = 0;
        while self.asked.len() < MAX_ASKED && bytes < MAX_ASKED_BYTES {
            let Some(next) = self.pending.pop_front() else { break };
            bytes += next.0.as_bytes().len();
            self.asked.push_back(next);
        }
        self.asked.iter().map(|(path, _)| path.clone()).collect()
    }

    /// Takes what the replica has in the first of the directories that were asked for and not answered. The other node is
    /// not believed: what makes no list is an error.
    pub fn answer(&mut self, listed: Vec<Listed>) -> Result<(), ManifestError> {
        let Some((path, directory)) = self.asked.pop_front() else { return Ok(()) };
        self.answered += listed.len();
        if self.answered > MAX_ENTRIES {
            return Err(ManifestError::TooLarge);
        }
        if listed.windows(2).any(|pair| pair[0].name >= pair[1].name) {
            return Err(ManifestError::Unsorted(path));
        }
        let source = self.source;
        if listed.is_empty() && path.is_root() {
            // all of it is coming: a list that grows would for a moment be there twice
            self.here.reserve_exact(source.len());
        }
        let mut ours = directory.into_iter().flat_map(|id| source.children(id)).peekable();
        for theirs in listed {
            while let Some(child) = ours.next_if(|child| child.name < &*theirs.name) {
                self.only_here(path.join(child.name)?, child);
            }
            match ours.next_if(|child| child.name.cmp(&theirs.name) == Ordering::Equal) {
                Some(child) if is_alike(source, &child, &theirs) => {}
                child => self.differs(path.entry(&theirs.name)?, child, theirs),
            }
        }
        for child in ours {
            self.only_here(path.join(child.name)?, child);
        }
        Ok(())
    }

    /// What differs.
    pub fn finish(self) -> Result<Differing, ManifestError> {
        Ok(Differing {
            source: Manifest::from_entries(self.here)?,
            replica: Manifest::from_entries(self.there)?,
            alike: self.alike,
        })
    }

    /// An entry that the replica has, and perhaps the source.
    fn differs(&mut self, path: RelPath, child: Option<Child<'_>>, theirs: Listed) {
        let ours = child.as_ref().and_then(|child| child.directory);
        match theirs.below {
            Some(digest) if ours.is_some_and(|id| self.source.digest(id) == digest) => {}
            // neither read nor removed, whatever it holds
            Some(_) if self.filter.verdict(&path) == Verdict::Excluded => {}
            Some(_) => self.pending.push_back((path.clone(), ours)),
            None => ours.into_iter().for_each(|id| self.include(&path, id)),
        }
        if self.filter.takes_part(&path, &theirs.entry.kind) && theirs.entry.kind != Kind::Dir {
            self.alike.replica = self.alike.replica.saturating_sub(1);
        }
        self.there.push((path.clone(), theirs.entry));
        self.keep(path, child);
    }

    /// An entry that the replica does not have, with all below it.
    fn only_here(&mut self, path: RelPath, child: Child<'_>) {
        if let Some(id) = child.directory {
            self.include(&path, id);
        }
        self.keep(path, Some(child));
    }

    fn include(&mut self, path: &RelPath, directory: DirectoryId) {
        let source = self.source;
        for child in source.children(directory) {
            let below = path.join(child.name).expect("the listing holds no path that is too long");
            self.only_here(below, child);
        }
    }

    fn keep(&mut self, path: RelPath, child: Option<Child<'_>>) {
        if let Some(child) = child.filter(|child| child.takes_part) {
            self.alike.source -= u64::from(child.entry.kind != Kind::Dir);
            self.here.push((path, child.entry));
        }
    }
}

/// Whether a plan has nothing to do here or below. Which other names a file has is not known to a single entry, so files
/// with several are always looked at.
fn is_alike(source: &Listing, child: &Child<'_>, theirs: &Listed) -> bool {
    let linked = matches!(child.entry.kind, Kind::File { link: Some(_), .. });
    let below = child.directory.map(|id| source.digest(id));
    child.takes_part && !linked && below == theirs.below && child.entry == theirs.entry
}

#[cfg(test)]
#[path = "descent_tests.rs"]
mod tests;
