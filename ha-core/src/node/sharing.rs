//! A pair that shares one address: what its cluster says, what the node asks of it, and what comes of that.
//!
//! A cluster settles who holds the address; a node lets telephony follow it. The way back is the node's to decide, and the
//! cluster's to make: the node asks for a handover, and sees by the next [`View`] whether it came about.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Node;
use crate::cluster::{Standing, View};
use crate::event::{ActionId, Output};
use crate::machine::{Event, Shared};
use crate::role::Role;
use crate::time::Instant;
use crate::transition::Address;
use crate::watchdog::WatchdogPolicy;

/// How a pair behaves that shares one address (SARK); `None` in a [`Policy`](super::Policy): each node has its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exclusive {
    /// Telephony that died is started again here when the other node cannot take over: `RESTART` of SARK's page.
    pub restart_alone: bool,
    /// How telephony is looked after; `None`: only by the look that every PBX gets every ten seconds.
    pub watchdog: Option<WatchdogPolicy>,
}

impl From<&Exclusive> for Shared {
    fn from(exclusive: &Exclusive) -> Shared {
        Shared { restart_alone: exclusive.restart_alone, watched: exclusive.watchdog.is_some() }
    }
}

/// A handover that the cluster has not answered for so long counts as failed: telephony may be dead meanwhile.
const HANDOVER_PATIENCE: Duration = Duration::from_secs(30);
/// After a handover that failed none is asked for during this time.
const HANDOVER_PAUSE: Duration = Duration::from_secs(10);
/// Failbacks in a row that the master did not take, after which failback waits for a person.
const FAILBACKS_LATCHED: u32 = 2;
/// An address that is back on the slave so soon after a failback means that the master could not serve
/// (`safety.md` 2.7: it goes back, once, and failback latches).
const FAILBACK_ON_TRIAL: Duration = Duration::from_secs(120);
/// A start that failed so long ago says nothing of the next one.
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);

/// What a node knows of its shared address beyond what the table looks at.
#[derive(Debug, Clone, Default)]
pub(super) struct Sharing {
    view: Option<View>,
    /// What the cluster said to the node that this one was before: it still holds.
    again: Option<View>,
    /// When the handover that was asked for counts as failed.
    pub(super) answer_by: Option<Instant>,
    ask_again_at: Option<Instant>,
    forgive_at: Option<Instant>,
    /// Failbacks in a row that the master did not take.
    failbacks_failed: u32,
}

impl Sharing {
    /// Of the same pair under another role or policy.
    pub(super) fn anew(&self) -> Sharing {
        Sharing { again: self.view.or(self.again), ..Sharing::default() }
    }

    pub(super) fn deadlines(&self, now: Instant) -> [Option<Instant>; 4] {
        [self.answer_by, self.ask_again_at, self.forgive_at, self.again.map(|_| now)]
    }
}

impl Node {
    /// What this node's cluster is to tell the other one. Until it is known where the address is, a node that served may
    /// have to stand by: what it would owe then counts already.
    ///
    /// To be asked for after every input. An engine that ends on purpose says that it is not able before it hands the
    /// address over: the other node takes that for a failover, and no handover by request.
    pub fn standing(&self) -> Standing {
        let carrying = self.replicating.owes && self.machine.address() != Address::Held;
        Standing { able: self.machine.able(), carrying, maintenance: self.machine.maintenance() }
    }

    /// The cluster's view. Before the cluster knows anything it is [`View::FIRST`], and says nothing.
    pub(super) fn cluster(&mut self, view: View, out: &mut Vec<Output>) {
        let before = match self.sharing.view {
            None if view == View::FIRST => return,
            before => before.unwrap_or(view),
        };
        (self.sharing.view, self.sharing.again) = (Some(view), None);
        if self.policy.exclusive.is_none() || self.role.role() == Role::Disabled {
            return;
        }
        let View { held, peer, isolated, failed_handovers, ended } = view;
        let asked = self.machine.handing_over();
        self.step(Event::Cluster { held, peer, isolated }, out);
        if ended && !before.ended {
            self.step(Event::Ended, out);
        }
        if asked && !held {
            self.handed_over();
        } else if asked && failed_handovers != before.failed_handovers {
            self.not_taken("the cluster could not hand the address over", out);
        }
        self.alert("isolated", isolated, out, || {
            "neither the other node nor any reference is heard: this node is isolated".to_owned()
        });
    }

    /// What the cluster said before the role or the policy changed.
    pub(super) fn cluster_again(&mut self, out: &mut Vec<Output>) {
        if let Some(view) = self.sharing.again.take() {
            self.cluster(view, out);
        }
    }

    /// Asks the cluster, once.
    pub(super) fn hand_over(&mut self, out: &mut Vec<Output>) {
        let id = ActionId(self.next_id());
        self.sharing.answer_by = Some(self.now.mono + HANDOVER_PATIENCE);
        out.push(Output::HandOver { id, generation: self.record.generation });
    }

    fn handed_over(&mut self) {
        self.sharing.answer_by = None;
        self.sharing.failbacks_failed = 0;
        if self.role.role() == Role::Slave {
            self.record.handed_back = Some(self.now.wall);
        }
    }

    fn not_taken(&mut self, why: &str, out: &mut Vec<Output>) {
        let is_failback = self.role.role() == Role::Slave && self.machine.able();
        self.sharing.answer_by = None;
        self.sharing.ask_again_at = Some(self.now.mono + HANDOVER_PAUSE);
        self.hold_at = self.limits.holds.then(|| self.now.mono + self.policy.failback.hold);
        self.step(Event::NotTaken, out);
        self.alert("handover-failed", true, out, || format!("{why}: it stays here"));
        if is_failback {
            self.sharing.failbacks_failed += 1;
            if self.sharing.failbacks_failed >= FAILBACKS_LATCHED {
                self.latch("the master did not take the address, twice", out);
            }
        }
    }

    /// The address came or left, and telephony with it.
    pub(super) fn address_moved(&mut self, active: bool, out: &mut Vec<Output>) {
        // telephony is where the address is, and nowhere else
        self.record.arrived = active.then_some(self.now.wall);
        self.record.peer_serves = false;
        self.alert("handover-failed", false, out, String::new);
        if !active {
            return;
        }
        let since = |time: DateTime<Utc>| (self.now.wall - time).to_std().unwrap_or_default();
        if self.record.handed_back.take().is_some_and(|time| since(time) < FAILBACK_ON_TRIAL) {
            self.latch("the address came back soon after the failback: the master could not serve", out);
        }
    }

    fn latch(&mut self, why: &str, out: &mut Vec<Output>) {
        if !self.machine.latched() {
            self.step(Event::Latch, out);
            self.alert("latched", true, out, || format!("{why}: failback waits until `acknowledge`"));
        }
    }

    /// Everything about the shared address whose time has come.
    pub(super) fn sharing_timers(&mut self, out: &mut Vec<Output>) {
        let now = self.now.mono;
        let reached = |at: &mut Option<Instant>| at.take_if(|at| *at <= now).is_some();
        let Sharing { answer_by, ask_again_at, forgive_at, .. } = &mut self.sharing;
        let (late, again, forgive) = (reached(answer_by), reached(ask_again_at), reached(forgive_at));
        if late {
            self.not_taken("the cluster did not answer within 30 s whether it handed the address over", out);
        }
        if again {
            self.step(Event::AskAgain, out);
        }
        if forgive {
            self.step(Event::Forgive, out);
        }
    }

    /// A start that failed keeps the other node from handing the address back for some time.
    pub(super) fn start_was_tried(&mut self) {
        let failed = self.machine.start_failed();
        self.sharing.forgive_at = failed.then(|| self.now.mono + FORGIVEN_AFTER);
    }
}
