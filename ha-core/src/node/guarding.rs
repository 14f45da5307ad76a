//! Telephony that is looked after by a watchdog: what it is told, when it is due, and what its verdict does.

use super::Node;
use crate::event::Output;
use crate::machine::Event;
use crate::services::Observed;
use crate::time::Instant;
use crate::watchdog::{CheckId, Health, Watchdog};

impl Node {
    /// What the watchdog made of a report or of the time that passed.
    pub(super) fn guarded(&mut self, take: impl FnOnce(&mut Watchdog) -> bool, out: &mut Vec<Output>) {
        if self.watchdog.as_mut().is_some_and(take) {
            self.step(Event::Died, out);
        }
    }

    /// Whether telephony died here, or lives again, for a person.
    pub(super) fn telephony_died(&mut self, out: &mut Vec<Output>) {
        let why = match self.health() {
            Some(Health::Dead(death)) => death.to_string(),
            Some(Health::Starting | Health::Alive) | None => "it stopped, and not by the engine".to_owned(),
        };
        self.alert("telephony-died", true, out, || format!("telephony died here: {why}"));
    }

    /// Begins or ends the watch, and asks what is due.
    pub(super) fn guard(&mut self, out: &mut Vec<Output>) {
        let (now, is_dead, serves) =
            (self.now.mono, self.machine.services().is_dead(), self.machine.serves());
        // between two attempts to start it there is nothing to look after
        let serves = serves && self.machine.services().observed() == Observed::Running;
        let Some(watchdog) = &mut self.watchdog else {
            self.died_no_more(!is_dead, out);
            return;
        };
        // the verdict stays to be seen until something is done about it
        if !is_dead {
            watchdog.watch(now, serves);
        }
        let ids = &mut self.ids;
        let next = || {
            *ids += 1;
            CheckId(*ids)
        };
        watchdog.due(now, next, |id, check, timeout| out.push(Output::Check { id, check, timeout }));
        let lives = matches!(watchdog.health(), None | Some(Health::Alive));
        self.died_no_more(lives && !is_dead, out);
    }

    fn died_no_more(&mut self, lives: bool, out: &mut Vec<Output>) {
        let services = self.machine.services();
        if lives && services.in_flight().is_none() && !services.backing_off() {
            self.alert("telephony-died", false, out, String::new);
        }
    }

    /// The verdict on telephony that is looked after; `None`: it does not run here, or nobody looks after it.
    pub(super) fn health(&self) -> Option<Health> {
        self.watchdog.as_ref().and_then(Watchdog::health)
    }

    pub(super) fn guard_due(&self) -> Option<Instant> {
        self.watchdog.as_ref().and_then(Watchdog::deadline)
    }
}
