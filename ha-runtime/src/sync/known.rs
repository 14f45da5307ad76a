//! Trees that are as they should be although they differ.

use ha_core::replication::listing::{Side, Summary};
use ha_core::replication::wire::{Frame, encode};
use serde::{Deserialize, Serialize};

use super::error::SyncError;
use super::scan::{Digests, scan};
use super::tree::Tree;

/// How a tree looked on both nodes when it was as it should be. While neither looks otherwise nothing of it is copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownTree {
    /// Its name.
    pub name: String,
    /// What the source's list comes to, as a digest.
    pub source: String,
    /// The replica's.
    pub replica: String,
}

/// How a replica's tree looks now, by sizes, times and whatever else a listing has.
pub(crate) fn fingerprint(tree: &Tree) -> Result<String, SyncError> {
    of(&scan(tree, Digests::No, Side::Replica)?.listing.summary())
}

/// How a tree that was listed looks.
pub(super) fn of(summary: &Summary) -> Result<String, SyncError> {
    let mut bytes = Vec::new();
    encode(&Frame::Tree(summary.clone()), &mut bytes)?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}
