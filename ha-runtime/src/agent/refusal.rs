//! What the agent refuses, and in which words.

use ha_core::replication::admission::Unwilling;
use ha_core::replication::filter::Verdict;
use ha_core::replication::path::RelPath;
use ha_core::replication::wire::ErrorKind;

use super::{AgentError, NodeState};
use crate::sync::{STAGE_PREFIX, Tree, TreeError};

/// A no, before it is said.
pub(super) struct Refusal {
    pub(super) kind: ErrorKind,
    pub(super) message: String,
    pub(super) leaves: Leaves,
}

/// In which state a refusal leaves the replica, as far as that is to be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaves {
    /// As the promise says, if one was given; as it was, if none was.
    AsPromised,
    /// The message says it, or it goes without saying.
    Said,
}

/// A no to one of the steps of a replication.
pub(super) fn refuse<T>(kind: ErrorKind, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { kind, message: message.into(), leaves: Leaves::AsPromised })
}

/// A no whose message says all there is to say.
pub(super) fn refuse_plainly<T>(kind: ErrorKind, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { kind, message: message.into(), leaves: Leaves::Said })
}

impl From<TreeError> for Refusal {
    fn from(error: TreeError) -> Refusal {
        let kind = if error.is_full() { ErrorKind::NoSpace } else { ErrorKind::Failed };
        Refusal { kind, message: error.to_string(), leaves: Leaves::AsPromised }
    }
}

impl From<AgentError> for Refusal {
    fn from(error: AgentError) -> Refusal {
        Refusal { kind: ErrorKind::Failed, message: error.to_string(), leaves: Leaves::AsPromised }
    }
}

/// The guards of `safety.md` 4: a passive slave, whose generation is the one that it stated.
pub(super) fn willing(state: NodeState, generation: u64) -> Result<(), Refusal> {
    state.admits(generation).map_err(|unwilling| Refusal {
        kind: match unwilling {
            Unwilling::NotSlave(_) => ErrorKind::NotSlave,
            // what it has may be newer, as that of one that serves
            Unwilling::Active | Unwilling::Owes => ErrorKind::Active,
            Unwilling::Stale { .. } => ErrorKind::Stale,
        },
        message: unwilling.to_string(),
        leaves: Leaves::AsPromised,
    })
}

/// The tree with this number, if our own rules let this path of it be changed.
pub(super) fn accepted<'t>(
    trees: &'t [Tree],
    dataset: u16,
    path: &RelPath,
    content: bool,
) -> Result<(usize, &'t Tree), Refusal> {
    let index = usize::from(dataset);
    let Some(tree) = trees.get(index) else {
        return refuse(ErrorKind::NotAccepted, format!("there is no dataset {dataset} here"));
    };
    let ours = path.segments().any(|segment| segment.starts_with(STAGE_PREFIX));
    let allowed = match tree.filter().verdict(path) {
        _ if ours || (content && path.is_root()) => false,
        Verdict::Copied => true,
        Verdict::Above => !content,
        Verdict::Excluded => false,
    };
    if !allowed {
        let shown = tree.display(path);
        return refuse(
            ErrorKind::NotAccepted,
            format!("{shown} is excluded on this node: set the same exclusions on both"),
        );
    }
    Ok((index, tree))
}
