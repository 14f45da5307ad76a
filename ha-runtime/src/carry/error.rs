//! What can go wrong.

use std::time::Duration;

use thiserror::Error;

use crate::state::StateError;
use crate::sync::{SyncError, TreeError};

/// A step, or all of it, did not happen. Messages on the serving node are whole, and each is there once.
#[derive(Debug, Error)]
pub enum CarryError {
    /// A file system refused.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// What is kept of the last time when both nodes were equal cannot be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The other node refused, or the line was cut.
    #[error(transparent)]
    Link(#[from] SyncError),
    /// Asterisk, or who died as it, holds the folder's lock. Nothing was changed; it can be tried again.
    #[error(
        "{folder} is locked, for {} s already; remove its .lock if Asterisk does not run or hangs",
        .held.as_secs()
    )]
    Locked {
        /// On this machine, printable.
        folder: String,
        /// How long.
        held: Duration,
    },
    /// What was received is not what was offered. Nothing was changed.
    #[error("{path} is not what was offered: it changed, or was damaged on the way")]
    Differs {
        /// Relative to its tree, printable.
        path: String,
    },
    /// There is no such step. Nothing was changed.
    #[error("there is no step {0}: what is offered comes first, then the steps of its plan, counted from 0")]
    NoStep(usize),
    /// A tree with more files than can be compared. Nothing was changed.
    #[error("{tree} holds more than {max} files; they cannot be compared with the other node's", max = super::scan::MAX_FILES)]
    TooMany {
        /// Its name.
        tree: String,
    },
}
