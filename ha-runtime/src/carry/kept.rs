//! What both nodes had when they were last equal, on the disk of the node that pulled.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ha_core::carry::FileState;
use ha_core::replication::path::RelPath;
use ha_core::voicemail::{Base, Known, Spool};
use serde::{Deserialize, Serialize};

use super::point;
use crate::durable::{STATE_DIRECTORY, private_directory, read_if_exists, sync_directory};
use crate::root::Root;
use crate::state::{StateError, read_sealed, write_sealed};
use crate::sync::Tree;

/// The base of one tree, in a directory of its own: `base.json`, and `learned.N` with what was carried since.
#[derive(Debug)]
pub struct Kept {
    directory: PathBuf,
    document: Document,
    damage: Option<StateError>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Document {
    /// Counts pulls: what was learned belongs to one of them.
    number: u64,
    base: Base,
}

/// One thing that is on both nodes since it was carried.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Learned {
    Message(Known),
    File(RelPath, FileState),
}

impl Kept {
    /// Reads it; none yet, or a damaged one, is an empty base: nothing is known, so nothing counts as deleted.
    pub fn load(directory: &Path) -> Result<Kept, StateError> {
        let (document, damage) = match read_sealed(&directory.join("base.json")) {
            Ok(document) => (document.unwrap_or_default(), None),
            Err(damage @ (StateError::Torn { .. } | StateError::Foreign { .. })) => {
                tracing::warn!(
                    "{damage}: what both nodes had is not known, so that nothing counts as deleted"
                );
                (Document::default(), Some(damage))
            }
            Err(error) => return Err(error),
        };
        let mut kept = Kept { directory: directory.to_owned(), document, damage };
        let path = kept.learned();
        let lines =
            read_if_exists(&path).map_err(|source| StateError::Io { path, source })?.unwrap_or_default();
        // a line that a crash cut off tells of nothing that was finished
        let learned = lines.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
        learned.for_each(|learned| kept.remember(learned));
        Ok(kept)
    }

    /// Where the base of a tree is kept: below `/var/lib/pbx-ha/carry`, by the tree's name.
    pub fn directory_of(root: &Root, tree: &Tree) -> PathBuf {
        let name = tree.name().trim_matches('/').replace('%', "%25").replace('/', "%2f");
        root.path(STATE_DIRECTORY).join("carry").join(name)
    }

    /// What both had.
    pub fn base(&self) -> &Base {
        &self.document.base
    }

    /// Why nothing is known although something was kept, for an alert.
    pub fn damage(&self) -> Option<&StateError> {
        self.damage.as_ref()
    }

    /// After a pull: both have this.
    pub fn record(&mut self, spool: &Spool) -> Result<(), StateError> {
        let base = Base::of(spool);
        if base == self.document.base && self.damage.is_none() {
            return Ok(());
        }
        let (old, number) = (self.learned(), self.document.number + 1);
        let document = Document { number, base };
        let path = self.directory.join("base.json");
        write_sealed(&path, &document).map_err(|source| StateError::Io { path, source })?;
        (self.document, self.damage) = (document, None);
        // it belongs to the base before, so nobody reads it any more
        let _ = fs::remove_file(old);
        Ok(())
    }

    /// One thing more, down to the disk.
    pub(super) fn learn(&mut self, learned: Learned) -> Result<(), StateError> {
        let path = self.learned();
        self.append(&path, &learned).map_err(|source| StateError::Io { path, source })?;
        point();
        self.remember(learned);
        Ok(())
    }

    fn append(&self, path: &Path, learned: &Learned) -> io::Result<()> {
        private_directory(&self.directory)?;
        // it begins with a line end: a line before it may have been cut off
        let line = [b"\n".as_slice(), &serde_json::to_vec(learned)?].concat();
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        file.write_all(&line)?;
        file.sync_data()?;
        sync_directory(path)
    }

    fn remember(&mut self, learned: Learned) {
        match learned {
            Learned::Message(known) => self.document.base.learn(known),
            Learned::File(path, state) => drop(self.document.base.files.0.insert(path, state)),
        }
    }

    fn learned(&self) -> PathBuf {
        self.directory.join(format!("learned.{}", self.document.number))
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }
}
