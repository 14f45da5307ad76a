//! What a node that returns holds newer than the node that serves: which of its files are carried there, which are set
//! aside.
//!
//! Where two nodes share one address, the one that comes back pulls from the one that serves, and is then equal to it. What
//! it wrote in its last moments, and the other never had, would be gone (SARK's page, "synchronisation": what is left on the
//! standby is overwritten by the next pull). So before it pulls, [`newer`] compares three trees: *base*, what both had when
//! they were last equal; *mine*, the returning node's; *theirs*, the serving node's. Nothing newer is ever overwritten: a file
//! that changed on both stays as it is where telephony is, and the other one is set aside.
//!
//! Messages are more than files, because they have numbers and folders: see [`crate::voicemail`].

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::replication::manifest::Digest;
use crate::replication::path::RelPath;

mod text;

/// A content: equal states are equal contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileState {
    /// Bytes.
    pub size: u64,
    /// Of the whole content.
    pub digest: Digest,
}

/// The regular files of a tree, by their paths in it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, FileState>", into = "BTreeMap<String, FileState>")]
pub struct Files(pub BTreeMap<RelPath, FileState>);

/// What becomes of a file that only the returning node holds in this form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It is written on the serving node, provided that this is what lies there: `None`, nothing.
    Carry {
        /// What it replaces, and what both had before.
        over: Option<FileState>,
    },
    /// The serving node keeps what it has; the returning node keeps its own beside.
    Aside(Why),
}

/// What of a tree is carried; whatever else the returning node holds newer is set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Carried {
    /// Nothing: what the serving node has is in force.
    #[default]
    Nothing,
    /// Files that the serving node has nothing in the place of, as recorded greetings.
    NewFiles,
    /// Messages, as Asterisk's voicemail directory holds them, and the files beside them.
    Messages,
}

/// Why something is set aside rather than carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Both nodes changed it since they were equal, or it is not known when they were.
    ChangedOnBoth,
    /// It changed here, and was deleted where telephony went on.
    DeletedThere,
    /// A file lies there where a directory is needed, or the other way round.
    InTheWay,
    /// A message of which a part is missing: the node died while it was recorded.
    Incomplete,
    /// Its folder has as many messages as Asterisk can count.
    FolderFull,
    /// It is none of what is [`Carried`].
    NotCarried,
    /// It is larger than what is carried, [`MAX_SIZE`].
    TooLarge,
}

/// Bytes of the largest file that is carried. A day of speech has less.
pub const MAX_SIZE: u64 = 1 << 30;

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::ChangedOnBoth => "it differs on both nodes, and the serving node's is kept",
            Why::DeletedThere => "it changed here and was deleted on the serving node",
            Why::InTheWay => {
                "the serving node has a file where a directory is needed, or a directory in its place"
            }
            Why::Incomplete => "a part of the message is missing",
            Why::FolderFull => "its folder on the serving node holds as many messages as Asterisk can number",
            Why::NotCarried => "it is newer here, and what the serving node has is kept",
            Why::TooLarge => "it is larger than 1 GiB",
        })
    }
}

/// What of `mine` must not be lost when `mine` becomes equal to `theirs`, and how it is kept. In the order of the paths.
///
/// Nothing is known of `base`: it is empty, and what differs counts as changed on both. A file that `mine` does not have is
/// no reason to remove it from `theirs`: deletions are not carried.
pub fn newer(base: &Files, mine: &Files, theirs: &Files) -> Vec<(RelPath, Fate)> {
    let differs = mine.0.iter().filter(|(path, state)| theirs.0.get(path) != Some(state));
    let changed = differs.filter(|(path, state)| base.0.get(path) != Some(state));
    let fated = changed.map(|(path, _)| {
        let fate = match (base.0.get(path), theirs.0.get(path)) {
            (_, None) if theirs.is_in_the_way(path) => Fate::Aside(Why::InTheWay),
            (None, None) => Fate::Carry { over: None },
            (Some(_), None) => Fate::Aside(Why::DeletedThere),
            (base, Some(theirs)) if base == Some(theirs) => Fate::Carry { over: Some(*theirs) },
            (_, Some(_)) => Fate::Aside(Why::ChangedOnBoth),
        };
        (path.clone(), fate)
    });
    fated.collect()
}

impl Files {
    /// Whether a file at `path` could not lie beside these: one of them is above it, or below.
    pub fn is_in_the_way(&self, path: &RelPath) -> bool {
        let above = std::iter::successors(path.parent(), RelPath::parent).any(|up| self.0.contains_key(&up));
        // paths are ordered such that what lies below one comes right behind it
        let behind = self.0.range(path.clone()..).find(|(other, _)| *other != path);
        above || behind.is_some_and(|(other, _)| other.is_below(path))
    }
}

#[cfg(test)]
mod tests;
