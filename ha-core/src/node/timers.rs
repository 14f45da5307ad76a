//! Everything of a node whose time has come.

use super::{FIRST_REPLICATION_RETRY, Node};
use crate::event::{ActionId, Output};
use crate::failback::FailbackPolicy;
use crate::health::Verdict;
use crate::machine::Event;
use crate::role::Role;
use crate::time::Instant;

impl Node {
    pub(super) fn replicated(&mut self, id: ActionId, succeeded: bool) {
        if self.replication != Some(id) {
            return;
        }
        self.replication = None;
        if succeeded {
            self.failed_replications = 0;
            self.replicate_again_at = None;
        } else {
            let wait = FIRST_REPLICATION_RETRY * 2u32.pow(self.failed_replications.min(5));
            self.failed_replications += 1;
            self.replicate_again_at = Some(self.now.mono + wait);
        }
    }

    pub(super) fn replicate(&mut self, out: &mut Vec<Output>) {
        let Some(peer) = self.role.peer() else { return };
        let id = ActionId(self.next_id());
        self.replication = Some(id);
        out.push(Output::Replicate { id, peer });
    }

    /// Everything whose time has come.
    pub(super) fn timers(&mut self, out: &mut Vec<Output>) {
        let now = self.now;
        let reached = |at: &mut Option<Instant>| at.take_if(|at| *at <= now.mono).is_some();
        let (settled, held, retry) =
            (reached(&mut self.settle_at), reached(&mut self.hold_at), reached(&mut self.retry_at));
        if settled {
            self.step(Event::Settled, out);
        }
        if held {
            self.step(Event::Held, out);
        }
        if retry {
            self.step(Event::Retry, out);
        }
        if reached(&mut self.rewrite_at) {
            self.asked_to_write = None;
        }
        if self.hold_down.take_if(|deadline| deadline.is_over(now)).is_some() {
            self.step(Event::HoldDownOver, out);
        }
        if self.maintenance.take_if(|deadline| deadline.is_over(now)).is_some() {
            self.step(Event::Maintenance(false), out);
            out.push(Output::Alert {
                key: "maintenance-over",
                raised: true,
                text: "maintenance is over by its deadline: the engine decides again".to_owned(),
            });
        }
        self.permit(out);
        self.replicate_when_due(out);
        if self.held_back.as_ref().is_some_and(|held| held.until <= now.mono) {
            self.alert("state-not-written", true, out, || {
                "the engine's state was not written beside its journal within 500 ms: it acts without waiting longer"
                    .to_owned()
            });
            self.release(out);
        }
    }

    pub(super) fn permit(&mut self, out: &mut Vec<Output>) {
        let permitted = match &self.policy.failback.policy {
            FailbackPolicy::Automatic => true,
            FailbackPolicy::Manual => false,
            FailbackPolicy::Window(window) => window.contains(self.now.wall, self.policy.zone.as_ref()),
        };
        if self.machine.permitted() != permitted {
            self.step(Event::Permit(permitted), out);
        }
    }

    pub(super) fn replicate_when_due(&mut self, out: &mut Vec<Output>) {
        let now = self.now;
        let scheduled = self.replicate_at.is_some_and(|at| at <= now.wall);
        // the calendar is asked only when its answer changes: the run has come, or the clock was set back
        if scheduled || now.wall < self.replicate_after {
            let (schedule, zone) = (self.policy.schedule.as_ref(), self.policy.zone.as_ref());
            self.replicate_at = schedule.and_then(|schedule| schedule.next_after(now.wall, zone));
            self.replicate_after = now.wall;
        }
        let again = self.replicate_again_at.take_if(|at| *at <= now.mono).is_some();
        let may = self.role.role() == Role::Master && self.machine.active() && !self.machine.maintenance();
        let idle = self.replication.is_none() && self.machine.verdict() != Verdict::Down;
        if !(scheduled || again) || !may {
            return;
        }
        if idle {
            self.replicate(out);
        } else {
            // made up for as soon as the slave answers
            self.missed_replication = self.replication.is_none();
        }
    }
}
