//! What a node knows of its replication: what is due, what runs, and whether a change waits for it.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Node, Policy};
use crate::event::{ActionId, Output, Replicated};
use crate::health::Verdict;
use crate::replication::flow::Flow;
use crate::role::Role;
use crate::services::Observed;
use crate::time::{Instant, Now};

/// First pause after a failed replication; doubles up to the schedule's next run.
const FIRST_RETRY: Duration = Duration::from_secs(60);
/// After a replication none begins because of a change for so many times as long as it took: whatever changes, at most a
/// quarter of the time is spent on it.
const REST_FACTOR: u32 = 3;
/// The shortest rest; doubles with each failure.
const SHORTEST_REST: Duration = Duration::from_secs(1);
/// First pause after a failed replication that would have carried what this node holds newer: the serving one may just
/// be about to serve, and no way back is open meanwhile. It doubles up to [`FIRST_RETRY`].
const FIRST_RETRY_OWING: Duration = Duration::from_secs(2);
/// Failures that are told apart: the pause grows to 32 min, the shortest rest to 32 s.
const FAILURES_COUNTED: u32 = 5;

/// Why a change is not on the slave yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChangeWaits {
    /// A replication runs, which brings it, or after which it comes.
    Running,
    /// The node rests after the last replication.
    Resting,
    /// The slave is down, or not heard of yet.
    Peer,
    /// The slave serves, or this node that fetches does: what it has may be newer.
    Serves,
    /// Maintenance is on.
    Maintenance,
    /// Telephony was handed over: what this node has is not the newest.
    Yielded,
    /// The last attempt failed: it waits for the next one that is due, for the slave's return, or for another change.
    Failed,
}

/// A change of something that is replicated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// None that is not under way.
    None,
    /// To be sent as soon as that is possible.
    Waits,
    /// The slave serves, and did not take it: tried again when its verdict changes, or after the rest.
    Declined,
    /// An attempt to send it failed: the next attempt is not made because of it.
    Failed,
}

#[derive(Debug, Clone, Copy)]
struct Running {
    id: ActionId,
    began: Instant,
    after_change: bool,
    /// A change waited when it began.
    carries: bool,
}

/// Everything about replication that lasts from one input to the next.
#[derive(Debug, Clone)]
pub(super) struct Replicating {
    running: Option<Running>,
    /// The schedule's next run.
    scheduled_at: Option<DateTime<Utc>>,
    /// `scheduled_at` is the schedule's first run after this.
    scheduled_after: DateTime<Utc>,
    again_at: Option<Instant>,
    failures: u32,
    /// One was due while the slave was down.
    missed: bool,
    change: Change,
    rests_until: Option<Instant>,
    /// What this node holds newer is to be carried first, which a replication begins with.
    pub(super) owes: bool,
}

impl Replicating {
    pub(super) fn new(policy: &Policy, now: Now) -> Replicating {
        Replicating {
            running: None,
            scheduled_at: next_run(policy, now.wall),
            scheduled_after: now.wall,
            again_at: None,
            failures: 0,
            missed: false,
            change: Change::None,
            rests_until: None,
            owes: false,
        }
    }

    /// The same under another policy.
    pub(super) fn under(self, policy: &Policy, now: Now) -> Replicating {
        let change = if policy.on_change { self.change } else { Change::None };
        let Replicating { scheduled_at, scheduled_after, .. } = Replicating::new(policy, now);
        Replicating { scheduled_at, scheduled_after, change, ..self }
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub(super) fn deadlines(&self, now: Now) -> [Option<Instant>; 3] {
        let wall = |at: DateTime<Utc>| now.mono + (at - now.wall).to_std().unwrap_or_default();
        [
            self.scheduled_at.map(wall),
            self.again_at,
            self.rests_until.filter(|_| self.owes || matches!(self.change, Change::Waits | Change::Declined)),
        ]
    }

    /// The slave's verdict is another one.
    pub(super) fn verdict_changed(&mut self, verdict: Verdict, now: Instant) {
        if verdict != Verdict::Down && std::mem::take(&mut self.missed) {
            self.again_at = Some(now);
        }
        match (verdict, self.change) {
            (Verdict::Up | Verdict::Degraded, Change::Declined) => {
                self.change = Change::Waits;
                self.rests_until = None;
            }
            (Verdict::Up | Verdict::Degraded, Change::Failed) => self.change = Change::Waits,
            (Verdict::Up | Verdict::Degraded, Change::None | Change::Waits)
            | (Verdict::Unknown | Verdict::Down, _) => {}
        }
    }

    /// It took so long; what it waited before that, for another one, costs nobody anything. False: there is no such one.
    fn ended(&mut self, id: ActionId, how: Replicated, took: Duration, now: Instant) -> bool {
        let Some(ended) = self.running.take_if(|running| running.id == id) else { return false };
        let rest = took.min(now - ended.began).saturating_mul(REST_FACTOR);
        let succeeded = match how {
            Replicated::Done { .. } => true,
            Replicated::SlaveServes if ended.after_change => {
                if self.change == Change::None {
                    self.change = Change::Declined;
                }
                self.rests_until = Some(now + rest.max(FIRST_RETRY));
                return true;
            }
            Replicated::SlaveServes | Replicated::Failed => false,
        };
        self.failures = if succeeded { 0 } else { (self.failures + 1).min(FAILURES_COUNTED + 1) };
        let doubled = 2u32.pow(self.failures.saturating_sub(1));
        let pause = match self.owes {
            true => FIRST_RETRY.min(FIRST_RETRY_OWING * doubled),
            false => FIRST_RETRY * doubled,
        };
        self.again_at = (!succeeded).then(|| now + pause);
        if !succeeded && ended.carries && self.change == Change::None {
            self.change = Change::Failed;
        }
        self.rests_until = Some(now + rest.max(SHORTEST_REST * doubled));
        true
    }

    fn began(&mut self, id: ActionId, after_change: bool, now: Instant) {
        let carries = self.change != Change::None;
        self.change = Change::None;
        self.running = Some(Running { id, began: now, after_change, carries });
    }

    /// Whether the schedule, or an attempt that failed, wants one now.
    fn is_due(&mut self, policy: &Policy, now: Now) -> bool {
        let scheduled = self.scheduled_at.is_some_and(|at| at <= now.wall);
        // the calendar is asked only when its answer changes: the run has come, or the clock was set back
        if scheduled || now.wall < self.scheduled_after {
            self.scheduled_at = next_run(policy, now.wall);
            self.scheduled_after = now.wall;
        }
        let again = self.again_at.take_if(|at| *at <= now.mono).is_some();
        scheduled || again
    }
}

fn next_run(policy: &Policy, wall: DateTime<Utc>) -> Option<DateTime<Utc>> {
    policy.schedule.as_ref()?.next_after(wall, policy.zone.as_ref())
}

impl Node {
    /// A replication ended; one that the slave refuses because it serves says so.
    pub(super) fn replicated(&mut self, id: ActionId, how: Replicated, took: Duration) {
        if !self.replicating.ended(id, how, took, self.now.mono) {
            return;
        }
        match how {
            // what is fetched tells nothing of who serves: this node stands by
            _ if self.policy.flow.is_pull() => {}
            Replicated::Done { generation } => self.slave_was_heard(generation),
            Replicated::SlaveServes => self.slave_serves(),
            Replicated::Failed => {}
        }
    }

    /// Whether a node of this role begins replications at all.
    pub(super) fn replicates(&self) -> bool {
        match self.policy.flow {
            Flow::Push => self.role.role() == Role::Master,
            flow @ (Flow::FromMaster | Flow::FromActive) => flow.reaches(self.role.role()),
        }
    }

    /// Telephony belongs here, or runs here all the same.
    pub(super) fn serves_itself(&self) -> bool {
        self.machine.active() || self.machine.services().observed() == Observed::Running
    }

    /// Why none may begin now, whoever is asked: it sends what is newest, or fetches while it has nothing newer.
    fn in_the_way(&self) -> Option<ChangeWaits> {
        match self.policy.flow {
            Flow::Push if !self.machine.active() => Some(ChangeWaits::Yielded),
            Flow::FromMaster | Flow::FromActive if self.serves_itself() => Some(ChangeWaits::Serves),
            Flow::Push | Flow::FromMaster | Flow::FromActive => {
                self.machine.maintenance().then_some(ChangeWaits::Maintenance)
            }
        }
    }

    /// Something that is replicated changed.
    pub(super) fn changed(&mut self) {
        if self.policy.on_change && self.replicates() {
            self.replicating.change = Change::Waits;
        }
    }

    /// Whether what this node holds newer is to be carried to the serving one before anything is fetched.
    pub fn owes(&self) -> bool {
        self.replicating.owes && !self.machine.active()
    }

    pub(super) fn told_what_it_owes(&mut self, generation: u64, owes: bool) {
        if generation == self.record.generation {
            self.replicating.owes = owes && self.fetches();
        }
    }

    /// Telephony comes here, or has been here.
    pub(super) fn owes_from_now_on(&mut self) {
        self.replicating.owes = self.fetches();
    }

    fn fetches(&self) -> bool {
        self.policy.flow.is_pull() && self.replicates()
    }

    /// Begins one. `after_change`: because of nothing but a change.
    pub(super) fn replicate(&mut self, after_change: bool, out: &mut Vec<Output>) {
        let Some(peer) = self.role.peer() else { return };
        let id = ActionId(self.next_id());
        self.replicating.began(id, after_change, self.now.mono);
        out.push(Output::Replicate { id, peer, after_change });
    }

    pub(super) fn replicate_when_due(&mut self, out: &mut Vec<Output>) {
        let due = self.replicating.is_due(&self.policy, self.now);
        let rested = self.replicating.rests_until.take_if(|until| *until <= self.now.mono).is_some();
        if rested && self.replicating.change == Change::Declined {
            self.replicating.change = Change::Waits;
        }
        let may = self.replicates() && self.in_the_way().is_none();
        // at once, since the address is not given back before; the other node must be there to take it
        let owed = self.replicating.owes
            && self.replicating.again_at.is_none()
            && self.replicating.rests_until.is_none()
            && !self.replicating.is_running()
            && matches!(self.machine.verdict(), Verdict::Up | Verdict::Degraded);
        if (due || owed) && may {
            if !self.replicating.is_running() && self.machine.verdict() != Verdict::Down {
                self.replicate(false, out);
            } else {
                // made up for as soon as the slave answers
                self.replicating.missed = !self.replicating.is_running();
            }
        }
        if self.replicating.change == Change::Waits && self.in_the_way_of_a_change().is_none() {
            self.replicate(true, out);
        }
    }

    /// Why the slave does not have everything, as far as this node was told of changes.
    pub(super) fn change_waits(&self) -> Option<ChangeWaits> {
        let carried = self.replicating.running.is_some_and(|running| running.carries);
        match self.replicating.change {
            Change::None => carried.then_some(ChangeWaits::Running),
            Change::Waits => self.in_the_way_of_a_change(),
            Change::Declined => {
                let way = self.in_the_way_of_a_change().filter(|way| *way != ChangeWaits::Resting);
                Some(way.unwrap_or(ChangeWaits::Serves))
            }
            Change::Failed => Some(self.in_the_way_of_a_change().unwrap_or(ChangeWaits::Failed)),
        }
    }

    fn in_the_way_of_a_change(&self) -> Option<ChangeWaits> {
        let is_away = match self.machine.verdict() {
            Verdict::Unknown | Verdict::Down => true,
            // its telephony rests: that is how a slave that has served once stands by
            Verdict::Up | Verdict::Degraded => false,
        };
        let ways = [
            (is_away, ChangeWaits::Peer),
            (self.replicating.is_running(), ChangeWaits::Running),
            (self.replicating.rests_until.is_some(), ChangeWaits::Resting),
        ];
        self.in_the_way().or_else(|| ways.into_iter().find_map(|(is_so, why)| is_so.then_some(why)))
    }
}
