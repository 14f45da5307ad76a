//! What people ask of a pair that shares one address.

use ha_core::event::Command;
use ha_core::node::Status;
use ha_core::services::Observed;
use ha_core::{Input, Role};
use tokio::sync::oneshot;

use super::Driver;
use super::handover::{Waiter, Wish};
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
