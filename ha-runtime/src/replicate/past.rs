//! What became of past replications: written down on the master, for `status` and `doctor`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::report::{Failure, Verdict};
use crate::state::{Loaded, Store};

/// The document in the state directory.
const PAST: &str = "replication";

/// What became of a part the last times.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// When it last succeeded: what the slave has is the master's state of then.
    pub last_success: Option<DateTime<Utc>>,
    /// Why it failed since; `None`: it did not.
    pub last_error: Option<String>,
}

/// What became of both parts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// The last replication that the slave has confirmed; 0: none yet.
    #[serde(default)]
    pub number: u64,
    /// Trees.
    pub files: Part,
    /// Tables.
    pub database: Part,
}

impl Part {
    /// An attempt that began then has ended.
    pub(super) fn note(&mut self, began: DateTime<Utc>, outcome: &Verdict) {
        match outcome {
            Ok(_) => *self = Part { last_success: Some(began), last_error: None },
            Err(failure) => self.last_error = Some(failure.message.clone()),
        }
    }
}

/// Reads what became of past replications.
pub fn past(context: &Context) -> Result<Past, Failure> {
    Ok(open(context)?.load().map_err(Failure::environment)?.map(Loaded::into_value).unwrap_or_default())
}

/// Writes it down. A disk that does not take it is no reason to call a replication failed.
pub(super) fn save(context: &Context, past: &Past) {
    if let Ok(store) = open(context) {
        let _ = store.save(past);
    }
}

fn open(context: &Context) -> Result<Store<Past>, Failure> {
    Store::open(&context.root, PAST).map_err(Failure::environment)
}
