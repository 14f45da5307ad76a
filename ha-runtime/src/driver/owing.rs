//! Whether what this node holds newer is still to be carried to the serving one: seen on the disk, told to the node.

use ha_core::Input;
use ha_core::services::Observed;
use tokio::sync::mpsc;

use super::{Driver, Message};
use crate::context::Context;
use crate::replicate;
use crate::report::Failure;

/// Looks, and says for which generation it is so. Blocks. `None`: data do not flow to this node.
///
/// A pair that is copied by hand only keeps no address waiting for it.
pub(super) fn look(context: &Context) -> Result<Option<Input>, Failure> {
    if !context.settings.replication.flow.is_pull() {
        return Ok(None);
    }
    let by_hand = replicate::copying(context)?.by_hand_only.is_some();
    let now = replicate::look(context)?;
    Ok(Some(Input::Owes { generation: now.generation, owes: now.owes && !by_hand }))
}

/// The same, told to the loop. Blocks.
pub(super) fn tell(context: &Context, to_loop: &mpsc::Sender<Message>) {
    match look(context) {
        Ok(None) => {}
        Ok(Some(input)) => {
            let _ = to_loop.blocking_send(Message::Input(input));
        }
        // until it is known the node does what it was told last
        Err(failure) => tracing::warn!("whether anything is to be carried is not known: {failure}"),
    }
}

impl Driver {
    /// Before the loop turns, and before the other node hears of this one. Blocks.
    pub(super) fn look_what_is_owed(&mut self, booted: bool) {
        if booted
            && self.pulls()
            && let Err(failure) = replicate::ran_past_the_record(&self.context)
        {
            tracing::error!("that this machine was started anew is not written down: {failure}");
        }
        if let Err(failure) = replicate::end_leftovers(&self.context) {
            tracing::warn!("what was being carried here when that was cut off is not finished: {failure}");
        }
        match look(&self.context) {
            Ok(Some(input)) => self.feed(input),
            Ok(None) => {}
            Err(failure) => {
                tracing::warn!("whether anything is to be carried is not known: {failure}");
                // until it is, nobody is told that nothing is
                let generation = self.node.record().generation;
                self.feed(Input::Owes { generation, owes: true });
            }
        }
    }

    /// This node stands by in another way, or serves: what is owed may be another matter.
    pub(super) fn look_again_what_is_owed(&self) {
        if self.pulls() {
            let (context, to_self) = (self.context.clone(), self.to_self.clone());
            tokio::task::spawn_blocking(move || tell(&context, &to_self));
        }
    }
}

/// Telephony was seen where it does not belong: it may have taken messages. Blocks.
pub(super) fn seen(context: &Context, observed: Observed) {
    let pulls = context.settings.replication.flow.is_pull();
    if pulls
        && observed == Observed::Running
        && let Err(failure) = replicate::ran_past_the_record(context)
    {
        tracing::error!("telephony ran here, which is not written down: {failure}");
    }
}
