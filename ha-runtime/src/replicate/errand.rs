//! What a node that fetches asks of its source, and what it is told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::control::Answer;
use crate::sync::KnownTree;

/// One replication, as the node wants it that it goes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Errand {
    /// Whatever sizes and times say.
    pub(super) full: bool,
    /// Only plan.
    pub(super) dry_run: bool,
    /// Trees that are as they should be while they look like this.
    pub(super) known: Vec<KnownTree>,
}

/// What became of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Told {
    /// For people and programs.
    pub(super) outcome: Answer,
    /// Of the replication that the asker has now, if it has confirmed one.
    pub(super) number: Option<u64>,
    /// How each tree looked at the source, by its name; empty, if not all of it has arrived.
    pub(super) sources: BTreeMap<String, String>,
}
