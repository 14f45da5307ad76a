//! The finite part of a node: health, the table and the reconciler, without time. A test enumerates it.

use crate::distribution::ServiceState;
use crate::health::{Counts, Ladder, ProbeOutcome, References, Rung, Surroundings, Verdict};
use crate::role::Role;
use crate::services::{Observed, Reconciler};
use crate::transition::{Address, Guard, Move, Rule, Situation, rule};

/// The numbers that the machine needs, and no others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Rungs in use with their counts, lowest first.
    pub rungs: Vec<(Rung, Counts)>,
    /// Losses in a row after which a reference is silent.
    pub reference_down_after: u8,
    /// Whether `Degraded` must last before it counts.
    pub settles: bool,
    /// Whether the peer must be `Up` for a hold time before failback.
    pub holds: bool,
    /// Whether a failback starts a hold-down.
    pub holds_down: bool,
    /// Failures of an action that are told apart, see [`Reconciler::done`].
    pub failures_counted: u8,
    /// The pair shares one address, which telephony follows; `None`: each node has its own.
    pub shared: Option<Shared>,
}

/// What a machine must know of a pair that shares an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shared {
    /// Telephony that died is started again here when the other node cannot take over.
    pub restart_alone: bool,
    /// A watchdog looks after telephony: it, and no passing look, says that telephony died ([`Event::Died`]).
    pub watched: bool,
}

impl Limits {
    fn counts(&self, rung: Rung) -> Counts {
        let found = self.rungs.iter().find(|(one, _)| *one == rung);
        found.map_or(Counts { down_after: 1, up_after: 1 }, |(_, counts)| *counts)
    }
}

/// What can happen to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// An outcome on a rung.
    Probe(Rung, ProbeOutcome),
    /// An outcome on a reference.
    Reference(usize, ProbeOutcome),
    /// `Degraded` has lasted `degraded_after`.
    Settled,
    /// The peer has been `Up` for the hold time.
    Held,
    /// The hold-down is over.
    HoldDownOver,
    /// The back-off of a failed action is over.
    Retry,
    /// Whether the policy permits failback now.
    Permit(bool),
    /// Too many failovers.
    Latch,
    /// A person has seen the latch.
    Acknowledge,
    /// Maintenance begins or ends.
    Maintenance(bool),
    /// What was seen of telephony here.
    Observed(Observed),
    /// The action in flight ended.
    Done {
        /// Whether every required step did.
        succeeded: bool,
    },
    /// The master tells its slave to serve (switchover).
    TakeOver,
    /// The slave serves: the master rests (switchover).
    Yield,
    /// The yielded master serves again (failback by hand).
    Resume,
    /// The master serves and tells its slave to rest (failback).
    StandBy,
    /// What the cluster says of the shared address and of the other node.
    Cluster {
        /// The address is here.
        held: bool,
        /// The verdict on the peer.
        peer: Verdict,
        /// Neither the peer nor any reference is heard.
        isolated: bool,
    },
    /// The other node, which gave the address, did not do so on purpose.
    Ended,
    /// Somebody wants the shared address to be at the other node.
    HandOver,
    /// The other node did not take it.
    NotTaken,
    /// The pause after that is over.
    AskAgain,
    /// Telephony that belongs here died.
    Died,
    /// A start that failed was long ago.
    Forgive,
}

/// What the machine asks its node to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// Another row decides now.
    Announce {
        /// The row.
        rule: &'static Rule,
        /// The verdict before.
        from: Verdict,
        /// The verdict now.
        to: Verdict,
    },
    /// Telephony belongs here, or no longer does.
    Activity {
        /// Which.
        active: bool,
        /// Whether this is a takeover or failback by verdict or by hand.
        cause: Cause,
    },
    /// Start this action.
    SetServices(ServiceState),
    /// Telephony was found running on a passive node, and is about to be stopped.
    StartedByHand,
    /// Ask the cluster to give the address to the other node.
    HandOver,
    /// Telephony that belongs here died.
    Died,
}

/// Why the activity of a node changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A row of the table.
    Verdict,
    /// Somebody asked for it.
    Command,
}

/// A node without time. Every field is finite, so that all states can be visited.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Machine {
    role: Role,
    active: bool,
    ladder: Ladder,
    references: References,
    from: Verdict,
    to: Verdict,
    settled: bool,
    held: bool,
    hold_down: bool,
    latched: bool,
    permitted: bool,
    maintenance: bool,
    peer_yielded: bool,
    services: Reconciler,
    address: Address,
    /// As the cluster says; where each node has its own address, references tell.
    cut_off: bool,
    /// The cluster was asked to give the address away, and has not answered.
    handing_over: bool,
    refused: bool,
    start_failed: bool,
    restart_alone: bool,
    rule: &'static str,
}

/// What of a machine survives a restart (`safety.md` 2.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered<'a> {
    /// See [`Machine::active`].
    pub active: bool,
    /// Rungs that have been up since the last role change.
    pub armed: &'a [Rung],
    /// A hold-down is running.
    pub hold_down: bool,
    /// Failback is latched.
    pub latched: bool,
    /// Maintenance is on.
    pub maintenance: bool,
    /// The peer handed over on purpose.
    pub peer_yielded: bool,
    /// What is seen of telephony now.
    pub observed: Observed,
}

impl Remembered<'_> {
    /// What a node remembers that has just got this role: a master serves, a slave waits for its first verdict.
    pub fn fresh(role: Role, observed: Observed) -> Remembered<'static> {
        Remembered {
            active: role == Role::Master,
            armed: &[],
            hold_down: false,
            latched: false,
            maintenance: false,
            peer_yielded: false,
            observed,
        }
    }
}

impl Machine {
    /// A machine at the engine's start: no verdict, nothing wanted, so that a restart changes no service.
    ///
    /// A slave whose telephony is seen running counts as active: its failback policy decides, not its first verdict.
    pub fn new(limits: &Limits, role: Role, references: usize, remembered: &Remembered<'_>) -> Machine {
        let rungs: Vec<Rung> = limits.rungs.iter().map(|(rung, _)| *rung).collect();
        // with a shared address it is the address that says where telephony belongs
        let decides = role == Role::Slave && limits.shared.is_none();
        let seen_running = decides && remembered.observed == Observed::Running;
        Machine {
            role,
            active: remembered.active || seen_running,
            ladder: Ladder::new(&rungs, remembered.armed),
            references: References::new(references),
            from: Verdict::Unknown,
            to: Verdict::Unknown,
            settled: !limits.settles,
            held: !limits.holds,
            hold_down: remembered.hold_down,
            latched: remembered.latched,
            permitted: true,
            maintenance: remembered.maintenance,
            peer_yielded: remembered.peer_yielded,
            services: Reconciler::new(remembered.observed),
            address: if limits.shared.is_some() { Address::Unknown } else { Address::Own },
            cut_off: false,
            handing_over: false,
            refused: false,
            start_failed: false,
            restart_alone: limits.shared.is_some_and(|shared| shared.restart_alone),
            rule: "",
        }
    }

    /// What this node is.
    pub fn role(&self) -> Role {
        self.role
    }
    /// Whether telephony belongs here.
    pub fn active(&self) -> bool {
        self.active
    }
    /// The verdict on the peer.
    pub fn verdict(&self) -> Verdict {
        self.to
    }
    /// The rungs.
    pub fn ladder(&self) -> &Ladder {
        &self.ladder
    }
    /// The references.
    pub fn references(&self) -> &References {
        &self.references
    }
    /// Telephony here.
    pub fn services(&self) -> &Reconciler {
        &self.services
    }
    /// The peer handed over on purpose.
    pub fn peer_yielded(&self) -> bool {
        self.peer_yielded
    }
    /// Failback waits for a person.
    pub fn latched(&self) -> bool {
        self.latched
    }
    /// Maintenance is on.
    pub fn maintenance(&self) -> bool {
        self.maintenance
    }
    /// The policy permits failback now.
    pub fn permitted(&self) -> bool {
        self.permitted
    }
    /// A hold-down is running.
    pub fn hold_down(&self) -> bool {
        self.hold_down
    }
    /// The peer has been `Up` for the hold time.
    pub fn held(&self) -> bool {
        self.held
    }
    /// `Degraded` has lasted long enough.
    pub fn settled(&self) -> bool {
        self.settled
    }
    /// Where the address is that telephony follows.
    pub fn address(&self) -> Address {
        self.address
    }
    /// The cluster was asked to give the address away, and has not answered.
    pub fn handing_over(&self) -> bool {
        self.handing_over
    }
    /// The last start of telephony failed, not long ago. Only of a pair that shares an address.
    pub fn start_failed(&self) -> bool {
        self.start_failed
    }
    /// Telephony could be started here: nothing says that it would fail, and nobody works on the pair.
    pub fn able(&self) -> bool {
        self.role != Role::Disabled && !self.maintenance && !self.start_failed && !self.services.is_dead()
    }
    /// The peer and all references are silent.
    pub fn isolated(&self) -> bool {
        self.role != Role::Disabled && self.surroundings() == Surroundings::Silent
    }

    /// Everything that the table looks at.
    pub fn situation(&self) -> Situation {
        Situation {
            role: self.role,
            address: self.address,
            active: self.active,
            from: self.from,
            to: self.to,
            surroundings: self.surroundings(),
            maintenance: self.maintenance,
            settled: self.settled,
            peer_yielded: self.peer_yielded,
            latched: self.latched,
            permitted: self.permitted,
            hold_down: self.hold_down,
            held: self.held,
            died: self.services.is_dead(),
            refused: self.refused,
            // a start that failed is tried again whatever is wanted of telephony that ran and died
            restarts: self.start_failed || self.restart_alone,
        }
    }

    fn surroundings(&self) -> Surroundings {
        if self.cut_off {
            Surroundings::Silent
        } else if self.ladder.silent() {
            self.references.surroundings()
        } else {
            Surroundings::Seen
        }
    }

    /// The row that decides now.
    pub fn rule(&self) -> &'static Rule {
        rule(&self.situation())
    }

    /// What is in the way of failback; empty when nothing is, or when there is nothing to hand back.
    pub fn failback_blocked_by(&self) -> Vec<Guard> {
        if self.role != Role::Slave || !self.active {
            return Vec::new();
        }
        Guard::all_of_failback(&self.situation()).collect()
    }

    /// One event; total: every event in every state. Returns what is to be done, in order.
    #[must_use]
    pub fn step(&mut self, limits: &Limits, event: Event) -> Vec<Intent> {
        let mut intents = Vec::new();
        if self.role == Role::Disabled {
            // it may still learn what it sees, so that `status` is true
            if let Event::Observed(observed) = event {
                self.services.observe(observed);
            }
            return intents;
        }
        let before = self.situation();
        self.take(limits, event, &mut intents);
        // the table looks at nothing else, so the same situation means the same row
        if self.rule.is_empty() || self.situation() != before {
            self.decide(limits, &mut intents);
        }
        if self.maintenance {
            return intents;
        }
        if let Some(state) = self.services.next_action() {
            intents.push(Intent::SetServices(state));
        }
        intents
    }

    fn take(&mut self, limits: &Limits, event: Event, intents: &mut Vec<Intent>) {
        match event {
            Event::Probe(rung, outcome) => self.probed(limits, rung, outcome),
            Event::Reference(index, outcome) => {
                let was_isolated = self.isolated();
                let peer_answers = self.to == Verdict::Up && !self.ladder.silent();
                self.references.record(index, limits.reference_down_after, outcome, peer_answers);
                if was_isolated && !self.isolated() {
                    // what was lost while nothing could be heard proves nothing: one further verdict
                    self.ladder.ask_again();
                    self.judge(limits);
                }
            }
            Event::Settled => self.settled |= self.to == Verdict::Degraded,
            Event::Held => self.held |= self.to == Verdict::Up,
            Event::HoldDownOver => self.hold_down = false,
            Event::Retry => self.services.retry(),
            Event::Permit(permitted) => self.permitted = permitted,
            Event::Latch => self.latched = true,
            Event::Acknowledge => {
                self.latched = false;
                self.was_seen_to();
            }
            Event::Maintenance(on) => {
                self.maintenance = on;
                self.was_seen_to();
            }
            Event::Observed(observed) => self.observed(limits, observed, intents),
            Event::Done { succeeded } => self.done(limits, succeeded),
            Event::TakeOver if self.role == Role::Slave => {
                self.peer_yielded = true;
                self.set_active(limits, true, Cause::Command, intents);
            }
            Event::StandBy if self.role == Role::Slave => {
                self.peer_yielded = false;
                self.set_active(limits, false, Cause::Command, intents);
            }
            Event::Yield if self.role == Role::Master => {
                self.set_active(limits, false, Cause::Command, intents)
            }
            Event::Resume if self.role == Role::Master => {
                self.set_active(limits, true, Cause::Command, intents)
            }
            Event::TakeOver | Event::StandBy | Event::Yield | Event::Resume => {}
            Event::Cluster { .. }
            | Event::Ended
            | Event::HandOver
            | Event::NotTaken
            | Event::AskAgain
            | Event::Died
            | Event::Forgive
                if limits.shared.is_none() => {}
            Event::Cluster { held, peer, isolated } => {
                self.heard_of_the_address(limits, held, peer, isolated)
            }
            Event::Ended => self.peer_yielded = false,
            Event::HandOver => {
                if self.address == Address::Held && !self.maintenance {
                    self.hand_over(intents);
                }
            }
            Event::NotTaken => self.not_taken(limits),
            Event::AskAgain => self.refused = false,
            Event::Died => self.died(intents),
            Event::Forgive => self.start_failed = false,
        }
    }

    fn probed(&mut self, limits: &Limits, rung: Rung, outcome: ProbeOutcome) {
        let was_silent = self.ladder.silent();
        self.ladder.record(rung, limits.counts(rung), outcome);
        if self.ladder.silent() && !was_silent {
            self.references.ask_again();
        }
        self.judge(limits);
    }

    fn judge(&mut self, limits: &Limits) {
        let verdict = self.ladder.verdict();
        if !self.turned(limits, verdict) {
            return;
        }
        if verdict == Verdict::Up && self.from != Verdict::Unknown && self.ladder.telephony_answers() {
            // its telephony was silent and answers again: it serves, whatever it had handed over
            self.peer_yielded = false;
        }
    }

    /// Another verdict: what lasts begins anew with it.
    fn turned(&mut self, limits: &Limits, verdict: Verdict) -> bool {
        if verdict == self.to {
            return false;
        }
        (self.from, self.to) = (self.to, verdict);
        self.settled = !limits.settles;
        self.held = !limits.holds;
        true
    }

    fn observed(&mut self, limits: &Limits, observed: Observed, intents: &mut Vec<Intent>) {
        let before = self.services.observed();
        let vanished = before == Observed::Running && observed == Observed::Stopped;
        if vanished && self.serves() {
            match limits.shared {
                // it may be a look from before the start
                Some(Shared { watched: true, .. }) => return,
                Some(Shared { watched: false, .. }) => self.died(intents),
                None => {}
            }
        }
        self.services.observe(observed);
        let started = before == Observed::Stopped && self.services.observed() == Observed::Running;
        let unwanted = self.services.desired() == Some(ServiceState::Stopped);
        let passive = self.role == Role::Slave || self.address.is_shared();
        if started && unwanted && passive && !self.maintenance {
            intents.push(Intent::StartedByHand);
        }
    }

    fn done(&mut self, limits: &Limits, succeeded: bool) {
        let state = self.services.in_flight();
        self.services.done(succeeded, limits.failures_counted);
        if limits.shared.is_some() && state == Some(ServiceState::Running) {
            self.start_failed = !succeeded;
            if !succeeded {
                self.services.died();
            }
        }
    }

    /// Telephony follows the address, it is here, and nothing is under way.
    pub(crate) fn serves(&self) -> bool {
        self.address == Address::Held
            && self.active
            && !self.maintenance
            && self.services.desired() == Some(ServiceState::Running)
            && self.services.in_flight().is_none()
            && !self.services.is_dead()
    }

    /// Somebody has looked at this node: what failed before may work now.
    fn was_seen_to(&mut self) {
        self.start_failed = false;
        self.services.trust();
    }

    fn died(&mut self, intents: &mut Vec<Intent>) {
        if self.serves() {
            self.services.died();
            intents.push(Intent::Died);
        }
    }

    fn heard_of_the_address(&mut self, limits: &Limits, held: bool, peer: Verdict, isolated: bool) {
        self.address = if held { Address::Held } else { Address::Elsewhere };
        self.cut_off = isolated;
        self.turned(limits, peer);
        if !held {
            self.refused = false;
            let handed_back = std::mem::take(&mut self.handing_over) && self.role == Role::Slave;
            self.hold_down |= handed_back && limits.holds_down;
        }
    }

    /// The peer was not ready, whatever it seemed to be: it must be so for the hold time once more.
    fn not_taken(&mut self, limits: &Limits) {
        if std::mem::take(&mut self.handing_over) {
            self.refused = true;
            self.held = !limits.holds;
        }
    }

    fn hand_over(&mut self, intents: &mut Vec<Intent>) {
        if !std::mem::replace(&mut self.handing_over, true) {
            intents.push(Intent::HandOver);
        }
    }

    fn decide(&mut self, limits: &Limits, intents: &mut Vec<Intent>) {
        let row = self.rule();
        if row.id != self.rule {
            intents.push(Intent::Announce { rule: row, from: self.from, to: self.to });
        }
        match row.services {
            Move::Keep => {}
            Move::Want(state) => {
                self.set_active(limits, state == ServiceState::Running, Cause::Verdict, intents);
                self.services.revive();
            }
            Move::HandOver => {
                // until it has left; telephony that died is left alone all the same
                self.services.want(Some(ServiceState::Running));
                self.hand_over(intents);
            }
        }
        // the row that follows from the move itself says nothing new
        self.rule = self.rule().id;
    }

    fn set_active(&mut self, limits: &Limits, active: bool, cause: Cause, intents: &mut Vec<Intent>) {
        self.services.want(Some(if active { ServiceState::Running } else { ServiceState::Stopped }));
        if self.active != active {
            self.active = active;
            if self.role == Role::Slave && self.address.is_shared() {
                // a node that could serve and gave the address away did so on purpose
                self.peer_yielded = active && self.to == Verdict::Up;
            } else if self.role == Role::Slave {
                self.hold_down |= !active && limits.holds_down;
            }
            intents.push(Intent::Activity { active, cause });
        }
    }
}
