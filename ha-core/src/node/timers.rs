//! Everything of a node whose time has come.

use super::Node;
use crate::event::Output;
use crate::failback::FailbackPolicy;
use crate::machine::Event;
use crate::time::Instant;

impl Node {
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
        self.sharing_timers(out);
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
}
