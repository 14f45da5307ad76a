//! A node: the machine with deadlines, names for what is under way, and a record that survives.
//!
//! Total: any input in any state, no error, no panic. A failed action is an input.

mod acting;
mod arriving;
mod commands;
mod guarding;
mod replicating;
mod sharing;
mod status;
mod timers;
mod watching;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub use replicating::ChangeWaits;
pub use sharing::Exclusive;
pub use status::Status;

use replicating::Replicating;
use sharing::Sharing;

use crate::event::{ActionId, Decision, Input, Output, Outputs, Record, Target};
use crate::failback::{Failback, LastingDeadline};
use crate::health::{Counts, REFERENCE_DOWN_AFTER, Rung, RungPolicy, Verdict};
use crate::machine::{Event, Intent, Limits, Machine, Remembered, Shared};
use crate::probing::Probing;
use crate::replication::flow::Flow;
use crate::role::{Role, RoleConfig};
use crate::schedule::Schedule;
use crate::services::Observed;
use crate::time::{Instant, Now, Zone};
use crate::watchdog::Watchdog;

/// How long a start or stop waits for its record to be on disk (`safety.md` 3.4).
pub const PERSIST_PATIENCE: Duration = Duration::from_millis(500);
/// Between two questions to a reference in peace.
pub const REFERENCE_INTERVAL: Duration = Duration::from_secs(10);
/// Longest sleep: wall-clock deadlines are looked at again at least so often, in case the clock was set.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// First pause after a failed start or stop; doubles.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Failures that are told apart: the pause grows to 64 s.
const FAILURES_COUNTED: u8 = 7;
/// Failures in a row after which a person is told.
const FAILURES_ALERTED: u8 = 3;
/// Between two attempts to write a record that a disk refused.
const REWRITE_INTERVAL: Duration = Duration::from_secs(10);

/// Everything that is constant about a node's behaviour.
#[derive(Clone)]
pub struct Policy {
    /// Rungs in use, lowest first.
    pub rungs: Vec<(Rung, RungPolicy)>,
    /// Reference addresses.
    pub references: Vec<IpAddr>,
    /// How long `Degraded` must last before it counts as a death of telephony.
    pub degraded_after: Duration,
    /// When telephony goes back.
    pub failback: Failback,
    /// From which node data flow to which: who replicates, below.
    pub flow: Flow,
    /// When the master replicates, or whoever fetches; `None`: only when asked.
    pub schedule: Option<Schedule>,
    /// Whether the master replicates when something changed, too.
    pub on_change: bool,
    /// The pair shares one address, which telephony follows; `None`: each node has its own.
    pub exclusive: Option<Exclusive>,
    /// The machine's time zone.
    pub zone: Arc<dyn Zone>,
}

/// An action that waits until the record of its generation is on disk, but no longer than `until`.
#[derive(Debug, Clone)]
struct HeldBack {
    until: Instant,
    action: Output,
}

/// One node of a pair. See the crate's documentation for the loop around it.
#[derive(Clone)]
pub struct Node {
    policy: Policy,
    limits: Limits,
    role: RoleConfig,
    machine: Machine,
    record: Record,
    probing: Probing,
    now: Now,
    ids: u64,
    /// Something was heard since the paces and the alert of an isolation were brought up to date.
    heard: bool,
    action: Option<ActionId>,
    held_back: Option<HeldBack>,
    /// The generation whose record is not known to be on disk yet.
    unwritten: Option<u64>,
    /// What [`Output::Persist`] asked for last.
    asked_to_write: Option<Record>,
    /// When a record that could not be written is tried again.
    rewrite_at: Option<Instant>,
    settle_at: Option<Instant>,
    hold_at: Option<Instant>,
    retry_at: Option<Instant>,
    hold_down: Option<LastingDeadline>,
    maintenance: Option<LastingDeadline>,
    replicating: Replicating,
    sharing: Sharing,
    watchdog: Option<Watchdog>,
    decision: Option<Decision>,
    alerts: Vec<&'static str>,
    /// The machine was down, and since then the slave was neither heard nor found to be dead.
    away: bool,
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policy")
            .field("rungs", &self.rungs)
            .field("references", &self.references)
            .field("degraded_after", &self.degraded_after)
            .field("failback", &self.failback)
            .field("flow", &self.flow)
            .field("schedule", &self.schedule)
            .field("on_change", &self.on_change)
            .field("exclusive", &self.exclusive)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("record", &self.record)
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}

impl Node {
    /// A node at the engine's start. `record`: what survived; one of another role or peer gives only its generation.
    ///
    /// Nothing is started or stopped by this: the first verdict decides, and an active slave's failback policy.
    pub fn new(
        policy: Policy,
        role: RoleConfig,
        record: Option<Record>,
        observed: Observed,
        now: Now,
    ) -> Node {
        let generation = record.as_ref().map_or(0, |record| record.generation);
        let same =
            |record: &Record| record.role == role.role() && record.remote_address == role.remote_address();
        let known = record.filter(same);
        let record = known.clone().unwrap_or_else(|| Node::begin(&policy, &role, generation + 1, now));
        Node { asked_to_write: known, ..Node::assemble(policy, role, record, observed, now) }
    }

    /// The record of a node that has just got this role.
    fn begin(policy: &Policy, role: &RoleConfig, generation: u64, now: Now) -> Record {
        let fresh = Record::fresh(role, generation, now.wall);
        // with a shared address telephony belongs nowhere before the address is somewhere
        Record { active: fresh.active && policy.exclusive.is_none(), ..fresh }
    }

    fn assemble(policy: Policy, role: RoleConfig, mut record: Record, observed: Observed, now: Now) -> Node {
        let limits = Limits {
            rungs: policy.rungs.iter().map(|(rung, policy)| (*rung, Counts::from(policy))).collect(),
            reference_down_after: REFERENCE_DOWN_AFTER,
            settles: !policy.degraded_after.is_zero(),
            holds: !policy.failback.hold.is_zero(),
            holds_down: !policy.failback.hold_down.is_zero(),
            failures_counted: FAILURES_COUNTED,
            shared: policy.exclusive.as_ref().map(Shared::from),
        };
        let hold_down = record.hold_down_until.map(|until| LastingDeadline::remembered(now, until));
        let maintenance = record.maintenance_until.map(|until| LastingDeadline::remembered(now, until));
        let remembered = Remembered {
            active: record.active,
            armed: &record.armed,
            hold_down: hold_down.is_some(),
            latched: record.latched,
            maintenance: maintenance.is_some(),
            peer_yielded: record.peer_yielded,
            observed,
        };
        let machine = Machine::new(&limits, role.role(), policy.references.len(), &remembered);
        if machine.active() != record.active {
            // telephony runs on a slave whose record says that it does not: what is seen wins
            let why = "telephony was found running here when the engine started";
            record.turn(machine.active(), now.wall, "", why);
            // the master may serve as well
            record.arrived = None;
        }
        let mut probing = Probing::default();
        // where the pair shares an address its cluster tells of the peer
        if let Some(peer) = role.peer().filter(|_| policy.exclusive.is_none()) {
            for (rung, policy) in &policy.rungs {
                probing.add(now.mono, Target::Peer(*rung), peer, policy, policy.interval());
            }
            if let Some((_, base)) = policy.rungs.first() {
                for (index, address) in policy.references.iter().enumerate() {
                    let pace = REFERENCE_INTERVAL.max(base.interval());
                    probing.add(now.mono, Target::Reference(index), *address, base, pace);
                }
            }
        }
        let replicating = Replicating::new(&policy, now);
        Node {
            limits,
            machine,
            unwritten: None,
            asked_to_write: None,
            rewrite_at: None,
            record,
            probing,
            now,
            ids: 0,
            heard: true,
            action: None,
            held_back: None,
            settle_at: None,
            hold_at: None,
            retry_at: None,
            hold_down,
            maintenance,
            replicating,
            sharing: Sharing::default(),
            watchdog: policy.exclusive.as_ref().and_then(|one| one.watchdog).map(Watchdog::new),
            decision: None,
            alerts: Vec::new(),
            away: false,
            policy,
            role,
        }
    }

    /// The role with its peer.
    pub fn role(&self) -> &RoleConfig {
        &self.role
    }

    /// What is known of the peer.
    pub fn peer(&self) -> Verdict {
        self.machine.verdict()
    }

    /// The record in force; what [`Output::Persist`] asked to be written last.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Goes on under another policy, as after a restart of the engine: nothing is forgotten that survives one, and no
    /// service is changed by it. False, and nothing changed, while an action on telephony or a handover is under way.
    pub fn change_policy(&mut self, policy: Policy, now: Now) -> bool {
        if self.machine.services().in_flight().is_some() || self.machine.handing_over() {
            return false;
        }
        let observed = self.machine.services().observed();
        let replicating = self.replicating.clone().under(&policy, now);
        let next = Node::assemble(policy, self.role, self.record.clone(), observed, now);
        *self = Node {
            ids: self.ids,
            replicating,
            sharing: self.sharing.anew(),
            asked_to_write: self.asked_to_write.take(),
            rewrite_at: self.rewrite_at,
            // the wall clock may have been set since they began: both of their clocks go on
            hold_down: self.hold_down,
            maintenance: self.maintenance,
            alerts: std::mem::take(&mut self.alerts),
            away: self.away,
            decision: self.decision.take(),
            ..next
        };
        true
    }

    /// When [`Input::Tick`] is wanted, at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        if self.role.role() == Role::Disabled {
            return None;
        }
        let lasting = |deadline: &LastingDeadline| self.now.mono + deadline.left(self.now);
        let first = [
            self.probing.deadline(),
            self.settle_at,
            self.hold_at,
            self.retry_at,
            self.held_back.as_ref().map(|held| held.until),
            self.hold_down.as_ref().map(lasting),
            self.maintenance.as_ref().map(lasting),
            self.rewrite_at,
            self.guard_due(),
        ];
        let others =
            self.replicating.deadlines(self.now).into_iter().chain(self.sharing.deadlines(self.now.mono));
        first.into_iter().chain(others).flatten().chain([self.now.mono + LONGEST_SLEEP]).min()
    }

    /// One input; the answer is everything that is to be done now, in order.
    pub fn handle(&mut self, now: Now, input: Input) -> Outputs {
        let mut out = Vec::new();
        let patience = self.patience();
        // nothing was due before the last input, so whoever comes soon after it has not slept
        let slept = now.mono - self.now.mono > patience
            && self.deadline().is_some_and(|due| now.mono - due > patience);
        self.now = now;
        if slept {
            self.woke();
        }
        match input {
            Input::Tick => {}
            Input::Probe { id, outcome } => self.outcomes(|probing| probing.report(id, outcome), &mut out),
            Input::Done { id, result } if self.action == Some(id) => {
                self.done(result.err().map(|e| e.0), &mut out)
            }
            Input::Done { .. } => {}
            Input::Observed(observed) => {
                if let (Observed::Stopped, Some(watchdog)) = (observed, &mut self.watchdog) {
                    watchdog.look(now.mono);
                }
                self.step(Event::Observed(observed), &mut out);
            }
            Input::Persisted { generation, written } => self.persisted(generation, written, &mut out),
            Input::Replicated { id, how, took } => self.replicated(id, how, took),
            Input::Owes { generation, owes } => self.told_what_it_owes(generation, owes),
            Input::Changed => self.changed(),
            Input::SlaveRests => self.slave_rests(),
            Input::Booted => self.away = true,
            Input::Checked { id, outcome } => self.guarded(|watchdog| watchdog.report(id, outcome), &mut out),
            Input::Cluster(view) => self.cluster(view, &mut out),
            Input::Command(command) => self.command(command, &mut out),
        }
        self.cluster_again(&mut out);
        self.outcomes(|probing| probing.overdue(now.mono), &mut out);
        self.guarded(|watchdog| watchdog.overdue(now.mono), &mut out);
        self.timers(&mut out);
        self.watch_the_peer();
        self.remember(&mut out);
        self.probe(&mut out);
        self.guard(&mut out);
        Outputs(out)
    }

    /// The loop slept. What was on the way proves nothing, and no wait ends before a peer that died, or came back,
    /// meanwhile would have been noticed.
    fn woke(&mut self) {
        let now = self.now.mono;
        self.probing.start_over(now);
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.start_over(now);
        }
        let noticed =
            self.policy.rungs.iter().map(|(_, policy)| policy.detection_worst()).max().unwrap_or_default();
        let waits = [&mut self.settle_at, &mut self.hold_at, &mut self.sharing.answer_by];
        for at in waits.into_iter().flatten() {
            *at = (*at).max(now + noticed);
        }
    }

    /// A loop that comes later than this has slept: two grid points, and no less than half a second.
    fn patience(&self) -> Duration {
        let interval =
            self.policy.rungs.first().map_or(Duration::from_secs(1), |(_, policy)| policy.interval());
        interval.saturating_mul(2).max(Duration::from_millis(500))
    }

    fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// One event for the machine, and everything that follows from it.
    fn step(&mut self, event: Event, out: &mut Vec<Output>) {
        let verdict = self.machine.verdict();
        let intents = self.machine.step(&self.limits, event);
        if self.machine.verdict() != verdict {
            self.verdict_changed();
        }
        let failovers = self.record.failovers.len();
        for intent in intents {
            match intent {
                Intent::Announce { rule, from, to } => self.announce(rule.id, rule.why, from, to, out),
                Intent::Activity { active, cause } => self.activity(active, cause, event, out),
                Intent::SetServices(to) => self.set_services(to, out),
                Intent::HandOver => self.hand_over(out),
                Intent::Died => self.telephony_died(out),
                Intent::StartedByHand => {
                    let node = self.passive();
                    self.alert("started-by-hand", true, out, || {
                        format!("telephony was started on this {node} by something else than the engine; it is stopped")
                    });
                }
            }
        }
        if self.record.failovers.len() != failovers {
            self.latch_when_flapping(out);
        }
    }

    fn announce(&mut self, rule: &str, why: &str, from: Verdict, to: Verdict, out: &mut Vec<Output>) {
        let (time, generation) = (self.now.wall, self.record.generation);
        let decision = Decision { time, generation, from, to, rule: rule.to_owned(), why: why.to_owned() };
        self.decision = Some(decision.clone());
        out.push(Output::Announce(decision));
    }

    /// How a person calls this node when telephony does not belong to it.
    fn passive(&self) -> &'static str {
        if self.policy.exclusive.is_some() { "node without the address" } else { "passive slave" }
    }

    fn verdict_changed(&mut self) {
        let failback = &self.policy.failback;
        let verdict = self.machine.verdict();
        let in_wait = |wanted: bool, wait: Duration| wanted.then(|| self.now.mono + wait);
        self.settle_at =
            in_wait(verdict == Verdict::Degraded && self.limits.settles, self.policy.degraded_after);
        self.hold_at = in_wait(verdict == Verdict::Up && self.limits.holds, failback.hold);
        self.replicating.verdict_changed(verdict, self.now.mono);
    }

    /// One alert when a condition begins and one when it ends.
    fn alert(
        &mut self,
        key: &'static str,
        raised: bool,
        out: &mut Vec<Output>,
        text: impl FnOnce() -> String,
    ) {
        let standing = self.alerts.contains(&key);
        if standing == raised {
            return;
        }
        if raised {
            self.alerts.push(key);
        } else {
            self.alerts.retain(|one| *one != key);
        }
        out.push(Output::Alert { key, raised, text: text() });
    }
}
