//! What this node's trees hold, for the other end to compare with its own.

use std::collections::BTreeMap;
use std::io::Write;

use ha_core::replication::descent::MAX_ASKED;
use ha_core::replication::listing::{Listed, Listing, Side, Summary};
use ha_core::replication::manifest::Kind;
use ha_core::replication::path::RelPath;
use ha_core::replication::wire::{CHUNK, ErrorKind, Frame};

use super::refusal::{Refusal, refuse};
use super::replies::Replies;
use crate::sync::{Digests, SyncError, Tree, scan};

/// The trees by their number, each of the moment when it was read last: its digests and its lists cannot disagree.
#[derive(Default)]
pub(super) struct Listings(BTreeMap<usize, Listing>);

impl Listings {
    /// Reads a tree anew.
    pub(super) fn read(&mut self, index: usize, tree: &Tree, digests: Digests) -> Result<Summary, Refusal> {
        // the earlier one makes room first
        self.0.remove(&index);
        let found = match scan(tree, digests, Side::Replica) {
            Ok(found) => found,
            Err(SyncError::Tree(error)) => return Err(error.into()),
            Err(error) => return refuse(ErrorKind::Failed, error.to_string()),
        };
        let summary = found.listing.summary();
        self.0.insert(index, found.listing);
        Ok(summary)
    }

    /// Tells what directories of a tree that was read hold.
    pub(super) fn tell<W: Write>(
        &self,
        index: usize,
        tree: &Tree,
        paths: &[RelPath],
        replies: &mut Replies<'_, W>,
    ) -> Result<(), Refusal> {
        let Some(listing) = self.0.get(&index) else {
            return refuse(ErrorKind::Protocol, "nobody asked for the tree as a whole before");
        };
        if paths.len() > MAX_ASKED {
            return refuse(ErrorKind::Protocol, format!("more than {MAX_ASKED} directories at once"));
        }
        for path in paths {
            let Some(directory) = listing.find(path) else {
                let shown = tree.display(path);
                return refuse(
                    ErrorKind::Protocol,
                    format!("{shown} was no directory when the tree was read"),
                );
            };
            let mut entries = Vec::new();
            let mut size = 0;
            for listed in listing.listed(directory) {
                size += size_of(&listed);
                entries.push(listed);
                if size > CHUNK {
                    size = 0;
                    replies.add(&Frame::Directory { entries: std::mem::take(&mut entries), last: false })?;
                }
            }
            replies.add(&Frame::Directory { entries, last: true })?;
        }
        Ok(())
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Bytes that an entry takes in a frame, at most.
fn size_of(listed: &Listed) -> usize {
    let xattrs = listed.entry.meta.xattrs.iter().map(|(name, value)| name.len() + value.len() + 8);
    let target = match &listed.entry.kind {
        Kind::Symlink { target } => target.len(),
        Kind::File { .. } | Kind::Dir | Kind::Special => 0,
    };
    // fixed fields are under 100 bytes
    100 + listed.name.len() + target + xattrs.sum::<usize>()
}
