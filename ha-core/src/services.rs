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

/// Desired against observed, at most one action in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reconciler {
    desired: Option<ServiceState>,
    observed: Observed,
    in_flight: Option<ServiceState>,
    failures: u8,
    backing_off: bool,
}

impl Reconciler {
    /// Nothing wanted yet.
    pub fn new(observed: Observed) -> Reconciler {
        Reconciler { desired: None, observed, in_flight: None, failures: 0, backing_off: false }
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

    /// Changes the wish. An action in flight goes on: a stop is never started beside a start.
    pub fn want(&mut self, state: Option<ServiceState>) {
        if self.desired != state {
            self.desired = state;
            self.failures = 0;
            self.backing_off = false;
        }
    }

    /// Takes what was seen. While an action is in flight what is seen is in between, and says nothing.
    pub fn observe(&mut self, observed: Observed) {
        if self.in_flight.is_none() && observed != Observed::Unknown {
            self.observed = observed;
        }
    }

    /// Takes the report of the action in flight; without one, nothing changes.
    ///
    /// `counted`: failures in a row that are told apart. The back-off stops doubling there, the trying does not stop.
    pub fn done(&mut self, succeeded: bool, counted: u8) {
        let Some(state) = self.in_flight.take() else { return };
        if succeeded {
            self.observed = state.into();
            self.failures = 0;
        } else {
            // half a list may have run: only a look can tell now
            self.observed = Observed::Unknown;
            if self.desired == Some(state) {
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
        let desired = self.desired?;
        if self.in_flight.is_some() || self.backing_off || self.observed == desired.into() {
            return None;
        }
        self.in_flight = Some(desired);
        Some(desired)
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
    fn what_already_is_as_wanted_is_not_touched() {
        let mut services = Reconciler::new(Observed::Stopped);
        services.want(Some(Stopped));
        assert_eq!(services.next_action(), None);
    }
}
