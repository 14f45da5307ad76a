//! What follows from a decision: records, actions on telephony, the latch.

use super::commands::command_row;
use super::{FAILURES_ALERTED, FIRST_RETRY, HeldBack, Node, PERSIST_PATIENCE, REWRITE_INTERVAL};
use crate::distribution::ServiceState;
use crate::event::{ActionId, Output};
use crate::failback::{Failback, HOLD_DOWN_LEVELS, LastingDeadline};
use crate::machine::{Cause, Event};
use crate::role::Role;

impl Node {
    /// Telephony belongs here from now on, or no longer does.
    pub(super) fn activity(&mut self, active: bool, cause: Cause, event: Event, out: &mut Vec<Output>) {
        let now = self.now;
        let (id, why) = match cause {
            Cause::Verdict => (self.machine.rule().id, self.machine.rule().why),
            Cause::Command => command_row(event),
        };
        self.record.turn(active, now.wall, id, why);
        self.owes_from_now_on();
        self.unwritten = Some(self.record.generation);
        if cause == Cause::Command {
            self.announce(id, why, self.machine.situation().from, self.machine.verdict(), out);
        }
        if self.policy.exclusive.is_some() {
            self.address_moved(active, out);
        }
        if self.role.role() != Role::Slave {
            return;
        }
        let failback = &self.policy.failback;
        if active {
            // a takeover while the hold-down of the last failback runs: the pair flaps
            let flaps = self.hold_down.is_some();
            let level = self.record.hold_down_level;
            self.record.hold_down_level = if flaps { (level + 1).min(HOLD_DOWN_LEVELS) } else { 0 };
            // an address that was handed over on purpose is no failover
            if cause == Cause::Verdict && !(self.policy.exclusive.is_some() && self.machine.peer_yielded()) {
                let window =
                    chrono::Duration::from_std(failback.latch_window).unwrap_or(chrono::Duration::MAX);
                self.record.failovers.retain(|time| now.wall - *time < window);
                self.record.failovers.push(now.wall);
            }
        } else if self.machine.hold_down() {
            let doubled = failback.hold_down.saturating_mul(2u32.pow(u32::from(self.record.hold_down_level)));
            self.hold_down = Some(LastingDeadline::after(now, doubled));
        }
    }

    /// Too many takeovers within the latch window: failback waits for a person. Takeovers never do.
    pub(super) fn latch_when_flapping(&mut self, out: &mut Vec<Output>) {
        let Failback { latch_after, latch_window, .. } = self.policy.failback;
        let count = u32::try_from(self.record.failovers.len()).unwrap_or(u32::MAX);
        if latch_after == 0 || count < latch_after || self.machine.latched() {
            return;
        }
        self.step(Event::Latch, out);
        let minutes = latch_window.as_secs() / 60;
        self.alert("latched", true, out, || {
            format!("{count} failovers within {minutes} min: failback waits until `acknowledge`")
        });
    }

    pub(super) fn set_services(&mut self, to: ServiceState, out: &mut Vec<Output>) {
        let id = ActionId(self.next_id());
        self.action = Some(id);
        let action = Output::SetServices { id, to, generation: self.record.generation };
        if self.unwritten.is_some() {
            self.held_back = Some(HeldBack { until: self.now.mono + PERSIST_PATIENCE, action });
        } else {
            out.push(action);
        }
    }

    pub(super) fn persisted(&mut self, generation: u64, written: bool, out: &mut Vec<Output>) {
        self.alert("state-not-written", !written, out, || {
            "the engine's state cannot be written beside its journal: after a restart it may not know what it decided"
                .to_owned()
        });
        // a restart must find what was decided as soon as the disk takes it
        self.rewrite_at = (!written).then(|| self.now.mono + REWRITE_INTERVAL);
        if self.unwritten == Some(generation) {
            self.release(out);
        }
    }

    pub(super) fn release(&mut self, out: &mut Vec<Output>) {
        self.unwritten = None;
        out.extend(self.held_back.take().map(|held| held.action));
    }

    pub(super) fn done(&mut self, failed: Option<String>, out: &mut Vec<Output>) {
        self.action = None;
        let was_start = self.machine.services().in_flight() == Some(ServiceState::Running);
        self.step(Event::Done { succeeded: failed.is_none() }, out);
        if was_start && self.policy.exclusive.is_some() {
            self.start_was_tried();
        }
        let failures = self.machine.services().failures();
        if failed.is_none() {
            let node = self.passive();
            self.alert("started-by-hand", false, out, || {
                format!("telephony is stopped again on this {node}")
            });
        }
        if self.machine.services().backing_off() {
            let doubled = FIRST_RETRY * 2u32.pow(u32::from(failures.saturating_sub(1)));
            self.retry_at = Some(self.now.mono + doubled);
        }
        let text = failed.unwrap_or_default();
        if failures >= FAILURES_ALERTED || failures == 0 {
            self.alert("services-failed", failures > 0, out, || {
                format!("telephony could not be brought to the wanted state {failures} times: {text}")
            });
        }
    }

    /// Brings the record up to what the machine says, and asks for it to be written, first of all, when it changed.
    pub(super) fn remember(&mut self, out: &mut Vec<Output>) {
        // a rung that was armed before a restart stays armed: forgetting it would change what its silence means
        if !self.machine.ladder().armed().eq(self.record.armed.iter().copied()) {
            self.record.armed = self.machine.ladder().armed().collect();
        }
        self.record.latched = self.machine.latched();
        self.record.peer_yielded = self.machine.peer_yielded();
        self.record.maintenance_until = self.maintenance.map(|deadline| deadline.wall);
        self.record.hold_down_until = self.hold_down.map(|deadline| deadline.wall);
        if !self.asked_to_write.as_ref().is_some_and(|asked| self.record.says_the_same(asked)) {
            self.asked_to_write = Some(self.record.clone());
            out.insert(0, Output::Persist(Box::new(self.record.clone())));
        }
    }
}
