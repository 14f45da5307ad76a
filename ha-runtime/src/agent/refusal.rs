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
}

pub(super) fn refuse<T>(kind: ErrorKind, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { kind, message: message.into() })
}

impl From<TreeError> for Refusal {
    fn from(error: TreeError) -> Refusal {
        let kind = if error.is_full() { ErrorKind::NoSpace } else { ErrorKind::Failed };
        Refusal { kind, message: format!("{error}; nothing was changed, the old files are in place") }
    }
}

impl From<AgentError> for Refusal {
    fn from(error: AgentError) -> Refusal {
        Refusal { kind: ErrorKind::Failed, message: error.to_string() }
    }
}

/// The guards of `safety.md` 4: a passive slave, whose generation is the one that it stated.
pub(super) fn willing(state: NodeState, generation: u64) -> Result<(), Refusal> {
    state.admits(generation).map_err(|unwilling| Refusal {
        kind: match unwilling {
            Unwilling::NotSlave(_) => ErrorKind::NotSlave,
            Unwilling::Active => ErrorKind::Active,
            Unwilling::Stale { .. } => ErrorKind::Stale,
        },
        message: unwilling.to_string(),
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
        return refuse(
            ErrorKind::NotAccepted,
            format!("there is no dataset {dataset} here; nothing was changed"),
        );
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
            format!("{shown} is excluded on this node: set the same exclusions on both; nothing was changed"),
        );
    }
    Ok((index, tree))
}
