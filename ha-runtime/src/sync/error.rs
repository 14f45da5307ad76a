//! What can go wrong, by whose fault it is.

use std::io;

use ha_core::replication::guard::Refused;
use ha_core::replication::manifest::ManifestError;
use ha_core::replication::path::BadPath;
use ha_core::replication::wire::{ErrorKind, WireError};
use thiserror::Error;

/// A file system refused. What was being done is named; the caller knows in which state that leaves things.
#[derive(Debug, Error)]
#[error("could not {doing} {path}: {source}")]
pub struct TreeError {
    /// As in "could not ... PATH".
    pub doing: &'static str,
    /// On this machine, printable.
    pub path: String,
    /// Why.
    pub source: io::Error,
}

impl TreeError {
    /// Whether room or quota has run out.
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// A file replication did not happen, or not to its end.
#[derive(Debug, Error)]
pub enum SyncError {
    /// A guard of this node: too many deletions, or nothing to copy. The replica is unchanged.
    #[error("replication of {dataset} refused: {why}; nothing was changed")]
    Guard {
        /// Its name.
        dataset: String,
        /// What was counted, and what lifts it.
        why: Refused,
    },
    /// The far end refuses or failed.
    #[error("the other node answers: {message}")]
    Remote {
        /// What kind of no; [`ErrorKind::is_refusal`] tells a guard from a failure.
        kind: ErrorKind,
        /// In its words, with the state that it left things in.
        message: String,
    },
    /// The far end does not have this dataset. Nothing was changed.
    #[error("the other node does not accept the dataset {0}: do both run the same version and settings?")]
    UnknownDataset(String),
    /// The far end's list of files makes no tree. Nothing was changed.
    #[error("the other node's list of files makes no sense: {0}")]
    Manifest(#[from] ManifestError),
    /// A file of this node could not be read. The replica is unchanged.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A path of this node that cannot be replicated. The replica is unchanged.
    #[error("in {directory}: {why}")]
    Path {
        /// Where it lies.
        directory: String,
        /// What is wrong with it.
        why: BadPath,
    },
    /// Bytes that are no frame, or a frame where another one belongs.
    #[error("the other node does not speak this program's language: {0}")]
    Wire(#[from] WireError),
    /// A frame where another one belongs.
    #[error("the other node answered {asked} with something else: do both run the same version?")]
    Unexpected {
        /// What was asked.
        asked: &'static str,
    },
    /// The connection ended. The replica is unchanged, or switches to all of what was sent: it settles that by itself.
    #[error(
        "the connection to the other node was cut: {0}; the slave has all of this replication or nothing of it, and the \
         next one goes on from there"
    )]
    Cut(#[source] io::Error),
}

impl SyncError {
    /// Whether the conversation can go on, once both ends have forgotten what was asked.
    pub(crate) fn leaves_the_link(&self) -> bool {
        match self {
            SyncError::Cut(_) | SyncError::Wire(_) => false,
            SyncError::Guard { .. }
            | SyncError::Remote { .. }
            | SyncError::UnknownDataset(_)
            | SyncError::Manifest(_)
            | SyncError::Tree(_)
            | SyncError::Path { .. }
            | SyncError::Unexpected { .. } => true,
        }
    }

    /// Whether a guard refused (exit code 3), rather than something failed.
    pub fn is_refusal(&self) -> bool {
        match self {
            SyncError::Guard { .. } => true,
            SyncError::Remote { kind, .. } => kind.is_refusal(),
            SyncError::UnknownDataset(_)
            | SyncError::Manifest(_)
            | SyncError::Tree(_)
            | SyncError::Path { .. }
            | SyncError::Wire(_)
            | SyncError::Unexpected { .. }
            | SyncError::Cut(_) => false,
        }
    }
}
