//! Telephony on this node: what is wanted, what is seen, and the one action between them.

use crate::distribution::ServiceState;

/// What is seen of telephony on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Observed {
    /// It runs.
    Running,
    /// It does not.
    Stopped,
    /// Looking does not tell.
    Unknown,
}

impl From<ServiceState> for Observed {
    fn from(state: ServiceState) -> Observed {
        match state {
            ServiceState::Running => Observed::Running,
            ServiceState::Stopped => Observed::Stopped,
        }
    }
}

/// What became of telephony that was wanted running, beyond what is seen of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Condition {
    /// As far as anybody knows it does what it should.
    Sound,
    /// It died, or could not be started: it is left alone until somebody decides what becomes of it.
    Dead,
    /// It is to be started again; what is left of it is stopped first.
    Reviving,
}

/// Desired against observed, at most one action in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reconciler {
    desired: Option<ServiceState>,
    observed: Observed,
    in_flight: Option<ServiceState>,
    failures: u8,
    backing_off: bool,
    condition: Condition,
}

impl Reconciler {
    /// Nothing wanted yet.
    pub fn new(observed: Observed) -> Reconciler {
        let condition = Condition::Sound;
        Reconciler { desired: None, observed, in_flight: None, failures: 0, backing_off: false, condition }
    }

    /// What is wanted; `None`: hands off.
    pub fn desired(&self) -> Option<ServiceState> {
        self.desired
    }
    /// What was last seen, or last achieved.
    pub fn observed(&self) -> Observed {
        self.observed
    }
    /// The action that has not been reported yet.
    pub fn in_flight(&self) -> Option<ServiceState> {
        self.in_flight
    }
    /// Failures in a row of the wanted action.
    pub fn failures(&self) -> u8 {
        self.failures
    }
    /// Whether the next attempt waits for its time.
    pub fn backing_off(&self) -> bool {
        self.backing_off
    }
    /// Whether telephony that is wanted here died, and is left alone.
    pub fn is_dead(&self) -> bool {
        self.condition == Condition::Dead
    }

    /// Changes the wish. An action in flight goes on: a stop is never started beside a start.
    pub fn want(&mut self, state: Option<ServiceState>) {
        if self.desired != state {
            self.desired = state;
            self.failures = 0;
            self.backing_off = false;
        }
        if state != Some(ServiceState::Running) {
            self.condition = Condition::Sound;
        }
    }

    /// Telephony that is wanted here died, or could not be started: nothing more is done about it.
    pub fn died(&mut self) {
        if self.desired == Some(ServiceState::Running) {
            self.condition = Condition::Dead;
        }
    }

    /// Telephony that died is to be started again.
    pub fn revive(&mut self) {
        if self.is_dead() {
            self.condition = Condition::Reviving;
        }
    }

    /// Somebody has looked after telephony: it counts as what it is seen to be.
    pub fn trust(&mut self) {
        self.condition = Condition::Sound;
    }

    /// Takes what was seen. While an action is in flight what is seen is in between, and says nothing.
    ///
    /// Telephony that died and was started since, by whomever, lives.
    pub fn observe(&mut self, observed: Observed) {
        if self.in_flight.is_none() && observed != Observed::Unknown {
            if (self.observed, observed) == (Observed::Stopped, Observed::Running) && self.is_dead() {
                self.condition = Condition::Sound;
            }
            self.observed = observed;
        }
    }

    /// Takes the report of the action in flight; without one, nothing changes.
    ///
    /// `counted`: failures in a row that are told apart. The back-off stops doubling there, the trying does not stop.
    pub fn done(&mut self, succeeded: bool, counted: u8) {
        let Some(state) = self.in_flight.take() else { return };
        // a stop on the way to a start is what is wanted, too
        let is_wanted = self.desired == Some(state) || self.condition == Condition::Reviving;
        if succeeded {
            self.observed = state.into();
            if self.desired == Some(state) {
                self.failures = 0;
            }
            if self.condition == Condition::Reviving {
                self.condition = Condition::Sound;
            }
        } else {
            // half a list may have run: only a look can tell now
            self.observed = Observed::Unknown;
            if is_wanted {
                self.failures = self.failures.saturating_add(1).min(counted);
                self.backing_off = true;
            }
        }
    }

    /// The back-off is over.
    pub fn retry(&mut self) {
        self.backing_off = false;
    }

    /// The action that is due now; it is in flight from here on.
    pub fn next_action(&mut self) -> Option<ServiceState> {
        if self.condition == Condition::Reviving && self.observed == Observed::Stopped {
            self.condition = Condition::Sound;
        }
        let due = match self.condition {
            Condition::Sound => self.desired?,
            Condition::Dead => return None,
            Condition::Reviving => ServiceState::Stopped,
        };
        if self.in_flight.is_some() || self.backing_off || self.observed == due.into() {
            return None;
        }
        self.in_flight = Some(due);
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ServiceState::{Running, Stopped};

    #[test]
    fn a_reply_during_a_slow_start_waits_for_it() {
        let mut services = Reconciler::new(Observed::Stopped);
        services.want(Some(Running));
        assert_eq!(services.next_action(), Some(Running));
        services.want(Some(Stopped));
        assert_eq!(services.next_action(), None, "no stop beside a start");
        services.done(true, 7);
        assert_eq!(services.next_action(), Some(Stopped));
    }

    #[test]
    fn a_failed_start_is_tried_again_after_a_pause() {
        let mut services = Reconciler::new(Observed::Stopped);
        services.want(Some(Running));
        services.next_action();
        services.done(false, 7);
        assert_eq!((services.next_action(), services.failures()), (None, 1));
        services.retry();
        assert_eq!(services.next_action(), Some(Running));
    }

    #[test]
    fn telephony_that_died_is_left_alone_and_started_again_only_after_a_stop() {
        let mut services = Reconciler::new(Observed::Running);
        services.want(Some(Running));
        services.died();
        assert_eq!(services.next_action(), None, "nobody has decided what becomes of it");
        services.revive();
        assert_eq!(services.next_action(), Some(Stopped), "what hangs is stopped first");
        services.done(false, 7);
        assert_eq!((services.next_action(), services.failures()), (None, 1));
        services.retry();
        assert_eq!(services.next_action(), Some(Stopped));
        services.done(true, 7);
        assert_eq!((services.next_action(), services.failures()), (Some(Running), 1));
        services.done(true, 7);
        assert_eq!((services.next_action(), services.failures()), (None, 0));
    }

    #[test]
    fn telephony_that_died_and_was_started_by_a_person_lives() {
        let mut services = Reconciler::new(Observed::Running);
        services.want(Some(Running));
        services.died();
        services.observe(Observed::Stopped);
        assert!(services.is_dead());
        services.observe(Observed::Running);
        assert!(!services.is_dead());
    }

    #[test]
    fn what_died_and_is_not_wanted_any_more_is_only_stopped() {
        let mut services = Reconciler::new(Observed::Running);
        services.want(Some(Running));
        services.died();
        services.want(Some(Stopped));
        assert!(!services.is_dead());
        assert_eq!(services.next_action(), Some(Stopped));
        services.done(true, 7);
        assert_eq!(services.next_action(), None);
    }

    #[test]
    fn what_already_is_as_wanted_is_not_touched() {
        let mut services = Reconciler::new(Observed::Stopped);
        services.want(Some(Stopped));
        assert_eq!(services.next_action(), None);
    }
}
