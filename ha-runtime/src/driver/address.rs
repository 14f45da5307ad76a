//! What people ask of a pair that shares one address.

use std::sync::Arc;

use ha_core::cluster::View;
use ha_core::event::Command;
use ha_core::health::Verdict as Heard;
use ha_core::node::Status;
use ha_core::services::Observed;
use ha_core::{Input, Role, ServiceState};
use tokio::sync::oneshot;

use super::handover::{Waiter, Wish};
use super::{Driver, Message, in_a_thread};
use crate::cli::services;
use crate::observe::observe;
use crate::report::{Failure, Report, Verdict};

impl Driver {
    /// Whether telephony follows an address here.
    pub(super) fn shares_an_address(&self) -> bool {
        self.context.profile().exclusive_address && self.node.role().role() != Role::Disabled
    }

    /// Switchover and failback: asked of the node that has the address, answered when it has gone and telephony with it.
    pub(super) fn hand_over(&mut self, command: Command, answer: oneshot::Sender<Verdict>) {
        match self.give(Input::Command(command)) {
            Some(refusal) => {
                let _ = answer.send(Err(refusal));
            }
            // the cluster may have answered already
            None => {
                self.waiters.push(Waiter::new(Wish::AddressGone, answer));
                super::handover::answer_waiters(&self.node, &mut self.waiters);
            }
        }
    }
}

impl Driver {
    /// Whether a failback could be asked for from here: a master that is able, and stands by for a slave that serves.
    pub(super) fn may_fetch(&self) -> bool {
        let status = self.node.status();
        self.shares_an_address()
            && self.node.role().role() == Role::Master
            && status.address_held == Some(false)
            && status.peer == Heard::Up
            && self.node.standing().able
    }

    /// Failback, asked of the master: some clusters bring the address. Any other way is the slave's, and refused here.
    pub(super) fn fetch(&mut self, answer: oneshot::Sender<Verdict>) {
        if self.node.standing().carrying {
            let text = "guard \"carry\": what this node holds newer has not been carried to the one that serves; it is lifted \
                        when it has been (`owes` in `status --json`), and by `failback` on that node";
            let _ = answer.send(Err(Failure::guard(text)));
        } else if self.clustering.fetch() {
            tracing::info!("failback: the cluster was asked for the address");
            self.waiters.push(Waiter::new(Wish::Telephony(ServiceState::Running), answer));
        } else {
            self.hand_over(Command::HandBack, answer);
        }
    }

    /// The cluster's own script waits until telephony has stopped, and lets the address go then. In maintenance too: nobody
    /// would reach telephony whose address has gone.
    pub(super) fn address_leaves(&mut self, answer: oneshot::Sender<Verdict>) {
        match self.clustering.told(false) {
            Ok(()) => self.hear_the_cluster(),
            // the cluster is being closed: what it held goes
            Err(_) => self.address_has_gone(),
        }
        let (context, performer) = (self.context.clone(), Arc::clone(&self.performer));
        let to_self = self.to_self.clone();
        tokio::spawn(async move {
            let stopping = in_a_thread("telephony", move || {
                // an action under way, the node's own stop among them, ends first
                let verdict = services::bring(&context, &performer, ServiceState::Stopped, || true);
                (verdict, observe(&context.root, &context.profile().observe))
            });
            let (verdict, observed) = match stopping.await {
                Ok(done) => done,
                Err(error) => (Err(Failure::environment(error)), Observed::Unknown),
            };
            let _ = to_self.send(Message::Input(Input::Observed(observed))).await;
            let _ = answer.send(verdict);
        });
    }

    /// From here on the node's own table says what that means.
    pub(super) fn address_has_gone(&mut self) {
        let status = self.node.status();
        if status.address_held == Some(true) {
            let (peer, isolated) = (status.peer, status.isolated);
            self.feed(Input::Cluster(View { held: false, peer, isolated, ..View::FIRST }));
        }
    }
}

/// What became of a handover; `None`: nothing yet.
pub(super) fn handed_over(status: &Status) -> Option<Verdict> {
    match (status.address_held, status.handing_over) {
        (Some(true), false) => {
            let text = "the other node did not take the address: it stays here, and telephony goes on; `timeline` says why";
            Some(Err(Failure::environment(text)))
        }
        (Some(false), _) if status.in_flight.is_none() && status.observed != Observed::Running => {
            Some(Ok(Report::done("the other node has the address; telephony is stopped here")))
        }
        _ => None,
    }
}
