//! The number of the last replication that is complete on this slave.

use std::io;
use std::path::Path;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::state::{StateError, read_sealed, write_sealed};

/// The document in the state directory.
const FILE: &str = "replica.json";

/// What is complete on this slave: files and database, both of the same replication.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// Counts the replications that changed something; 0: none was ever complete.
    pub number: u64,
    /// When it was complete.
    pub completed: DateTime<Utc>,
}

impl Replica {
    /// Reads it; 0 when there is none.
    ///
    /// Err: it cannot be read, or is not what was written.
    pub fn load(state_directory: &Path) -> Result<Replica, StateError> {
        Ok(read_sealed(&state_directory.join(FILE))?.unwrap_or_default())
    }

    /// Makes `number` the last complete one, down to the disk.
    pub(crate) fn complete(state_directory: &Path, number: u64) -> io::Result<()> {
        write_sealed(&state_directory.join(FILE), &Replica { number, completed: Utc::now() })
    }
}
