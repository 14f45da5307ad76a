//! What a replication that was cut left on this slave, for those who are not its agent: the daemon and its takeover.

use ha_core::replication::admission::Receiver;
use ha_core::replication::wire::Transaction;

use crate::context::Context;
use crate::db::Fate;
use crate::durable::STATE_DIRECTORY;
use crate::replicate;
use crate::state::StateError;
use crate::sync::{Decision, Ground, IntentDirectory, Occasion, Settled, TrashLimit, Unsettled};

/// What decides about the switch that is promised, if one is. Reads the disk.
pub(crate) fn promised(context: &Context) -> Result<Option<Decision>, StateError> {
    let directory = IntentDirectory::of(&context.root.path(STATE_DIRECTORY));
    match directory.intent() {
        Ok(intent) => Ok(intent.map(|intent| intent.decision)),
        // dropped by whoever settles it, whatever it said
        Err(StateError::Torn { .. }) => Ok(Some(Decision::Always)),
        Err(error @ (StateError::Io { .. } | StateError::Stalled { .. } | StateError::Foreign { .. })) => {
            Err(error)
        }
    }
}

/// Settles what is promised. The lock *replicate* is held.
pub(crate) fn settle(
    context: &Context,
    occasion: Occasion,
    now: Receiver,
    fate: &mut dyn FnMut(Transaction) -> Result<Fate, String>,
    cancelled: &dyn Fn() -> bool,
) -> Result<Settled, Unsettled> {
    on_the_ground(context, cancelled, |ground| ground.settle(occasion, now, fate))
}

/// Drops what is promised, because of that. The lock *replicate* is held.
pub(crate) fn give_up(context: &Context, why: &Unsettled) -> Result<Settled, Unsettled> {
    on_the_ground(context, &|| false, |ground| ground.drop_it(why.to_string()))
}

/// Where agents keep what they delete.
pub(crate) fn trash_directory(context: &Context) -> std::path::PathBuf {
    context.root.path(STATE_DIRECTORY).join("trash")
}

fn on_the_ground<T>(
    context: &Context,
    cancelled: &dyn Fn() -> bool,
    act: impl FnOnce(&Ground<'_>) -> Result<T, Unsettled>,
) -> Result<T, Unsettled> {
    let trees = replicate::trees(context).map_err(|failure| Unsettled::Unknown(failure.message))?;
    act(&Ground {
        trees: &trees,
        state_directory: &context.root.path(STATE_DIRECTORY),
        trash_directory: trash_directory(context),
        trash_limit: TrashLimit::default(),
        cancelled,
    })
}
