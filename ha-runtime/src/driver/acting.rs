//! Telephony on this node: it is started and stopped, and looked at.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ha_core::event::{ActionFailed, ActionId};
use ha_core::services::Observed;
use ha_core::{Input, ServiceState};

use super::{Driver, Message, in_a_thread, leftovers, owing};
use crate::fence::{self, Moment, Takeover};
use crate::observe::observe;
use crate::telephony::{self, Brought};

impl Driver {
    /// Whether this node receives replications while it stands by.
    pub(super) fn may_be_replicated_to(&self) -> bool {
        self.context.settings.replication.flow.reaches(self.node.role().role())
    }

    /// Starts or stops telephony in a thread of its own. A slave that starts raises the fence first, so that no
    /// replication commits under running telephony (`safety.md` 4.2).
    pub(super) fn set_services(&mut self, id: ActionId, to: ServiceState, generation: u64) {
        let (context, performer) = (self.context.clone(), Arc::clone(&self.performer));
        let (current, to_self) = (Arc::clone(&self.generation), self.to_self.clone());
        let (fence, journal) = (Arc::clone(&self.fence), self.keeper.journal());
        let moment = self.beginnings.act(generation);
        let takeover = self.takeover(generation, moment);
        let is_replica = self.may_be_replicated_to();
        let still_wanted = move || current.load(Ordering::SeqCst) == generation;
        let work = async move {
            if is_replica && to == ServiceState::Running && still_wanted() {
                fence::keep(&fence, &context, &takeover).await;
            }
            in_a_thread("telephony", move || {
                let what = serde_json::json!({ "action": state_word(to), "generation": generation });
                journal.note("services", &what);
                telephony::bring(&context, &performer, to, still_wanted)
            })
            .await
        };
        tokio::spawn(async move {
            // in a task of its own, so that a report comes whatever happens to it: without one nothing would ever be
            // started or stopped again
            let result = match tokio::spawn(work).await {
                Ok(Ok(Ok(Brought::Done { complaints }))) => {
                    complaints.iter().for_each(|complaint| tracing::warn!("{complaint}"));
                    Ok(())
                }
                Ok(Ok(Ok(Brought::Already))) => Ok(()),
                Ok(Ok(Err(error))) => Err(ActionFailed(error.to_string())),
                Ok(Err(error)) => Err(ActionFailed(error.to_string())),
                Err(error) => Err(ActionFailed(error.to_string())),
            };
            if let Err(error) = &result {
                tracing::error!("telephony: {error}");
            }
            let _ = to_self.send(Message::Input(Input::Done { id, result })).await;
        });
    }

    fn takeover(&self, generation: u64, moment: Moment) -> Takeover {
        let (notes, alerts) = (self.keeper.journal(), Some(self.keeper.alerts()));
        Takeover { role: self.node.role().role(), generation, moment, notes, alerts }
    }

    /// Settles what a replication left that was cut, for as long as this node stands by as it does now.
    fn settle_leftovers(&self) {
        let Ok(settling) = Arc::clone(&self.settling).try_lock_owned() else { return };
        let (context, notes) = (self.context.clone(), self.keeper.journal());
        let (current, generation) = (Arc::clone(&self.generation), self.node.record().generation);
        let still = move || current.load(Ordering::SeqCst) == generation;
        tokio::spawn(async move {
            let _settling = settling;
            let ask = async |transaction| leftovers::ask(&context, transaction).await;
            leftovers::settle(&context, &notes, still, ask).await;
        });
    }

    /// Looks at telephony in a thread: a stalled disk must not stop the loop, nor may looks pile up before it. A slave that
    /// serves looks after its fence as well, which a restart of the engine or of the database takes away; one that stands
    /// by looks after what a replication left that was cut.
    pub(super) fn look(&self) {
        let Ok(looking) = Arc::clone(&self.looking).try_lock_owned() else { return };
        let (context, to_self) = (self.context.clone(), self.to_self.clone());
        let fence = Arc::clone(&self.fence);
        let status = self.node.status();
        let takeover = self.takeover(status.record.generation, Moment::Later);
        let stands_by = self.may_be_replicated_to() && !status.record.active;
        if stands_by {
            self.settle_leftovers();
        }
        let by_hand = stands_by && status.in_flight.is_none();
        let serves = self.may_be_replicated_to()
            && status.record.active
            && status.in_flight.is_none()
            && status.observed == Observed::Running;
        tokio::spawn(async move {
            let _looking = looking;
            if serves && context.profile().database.is_some() {
                fence::keep(&fence, &context, &takeover).await;
            }
            let look = tokio::task::spawn_blocking(move || {
                let observed = observe(&context.root, &context.profile().observe);
                if by_hand {
                    owing::seen(&context, observed);
                }
                // at once: telephony may be another matter after the rest
                let _ = to_self.blocking_send(Message::Input(Input::Observed(observed)));
                if stands_by {
                    owing::tell(&context, &to_self);
                }
            });
            // one that panicked has said so, and is looked for again
            let _ = look.await;
        });
    }
}

/// What the journal calls a state.
fn state_word(state: ServiceState) -> &'static str {
    match state {
        ServiceState::Running => "start",
        ServiceState::Stopped => "stop",
    }
}
