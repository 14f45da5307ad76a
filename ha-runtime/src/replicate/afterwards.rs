//! What is run on a node after it has fetched something that changed it (SARK's page: POSTSYNC).
//!
//! Whether it is due is not remembered but seen: the replica has a number that grows with each replication that changed
//! something, and the number for which the command succeeded last is written down. So it is run once more after whatever
//! crash, and until it succeeds.
//!
//! What it changes in the replica itself (SARK's regenerates Asterisk's files, and marks the database) would come back as a
//! difference with the next fetch, and make that a change. So it is written down as well how each tree looked on both
//! nodes once it was done: while neither looks otherwise, the tree is as it should be.

use std::collections::BTreeMap;

use ha_core::effect::Command;
use serde::{Deserialize, Serialize};

use super::{copying, trees};
use crate::command;
use crate::context::Context;
use crate::driver::Notes;
use crate::durable::STATE_DIRECTORY;
use crate::report::Failure;
use crate::state::{Loaded, Store};
use crate::sync::{KnownTree, Replica, fingerprint};

/// The document in the state directory.
const DONE: &str = "afterwards";

/// What was done, and how things looked then.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Done {
    /// The replication after which the command succeeded last.
    number: u64,
    /// The trees that it left as they should be.
    trees: Vec<KnownTree>,
}

impl Done {
    pub(super) fn load(context: &Context) -> Result<Done, Failure> {
        Ok(open(context)?.load().map_err(Failure::environment)?.map(Loaded::into_value).unwrap_or_default())
    }

    /// Trees that need not be compared while they look as they did.
    pub(super) fn known(&self) -> &[KnownTree] {
        &self.trees
    }
}

fn open(context: &Context) -> Result<Store<Done>, Failure> {
    Store::open(&context.root, DONE).map_err(Failure::environment)
}

/// Runs the command if the replica is another one than when it succeeded last. `sources`: how the trees looked on the other
/// node when they were fetched just now; empty: they were not, or not wholly. What was run, if anything was.
///
/// Errors: the command failed; it is due again.
pub(super) fn catch_up(
    context: &Context,
    sources: &BTreeMap<String, String>,
) -> Result<Option<Command>, Failure> {
    let Some(command) = copying(context)?.afterwards else { return Ok(None) };
    let replica = Replica::load(&context.root.path(STATE_DIRECTORY)).map_err(Failure::environment)?;
    if replica.number == Done::load(context)?.number {
        return Ok(None);
    }
    let notes = Notes::open(context)?;
    command::run(&context.root, &command, &mut |record| notes.command(record))
        .map_err(Failure::environment)?;
    let mut known = Vec::new();
    for tree in trees(context)?.iter().filter(|_| !sources.is_empty()) {
        if let Some(source) = sources.get(tree.name()) {
            let replica = fingerprint(tree).map_err(Failure::environment)?;
            known.push(KnownTree { name: tree.name().to_owned(), source: source.clone(), replica });
        }
    }
    let done = Done { number: replica.number, trees: known };
    if open(context)?.save(&done).is_durable() {
        Ok(Some(command))
    } else {
        Err(Failure::environment(
            "that the command after a replication was run could not be written down: it is run again",
        ))
    }
}
