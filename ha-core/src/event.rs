//! One way in, one way out: everything that a node is told and everything that it asks for, as data.

use std::net::IpAddr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::cluster::View;
use crate::distribution::ServiceState;
use crate::health::{ProbeOutcome, Rung, Verdict};
use crate::role::{Role, RoleConfig};
use crate::services::Observed;
use crate::watchdog::{Check, CheckId};

/// Names one probe. A report that names another one changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId(pub u64);

/// Names one action. A report that names another one changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActionId(pub u64);

/// Whom a probe asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// The peer, on this rung.
    Peer(Rung),
    /// The reference of this index.
    Reference(usize),
}

/// What a node is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// [`Node::deadline`](crate::node::Node::deadline) was reached.
    Tick,
    /// What came of a probe.
    Probe {
        /// As given out.
        id: ProbeId,
        /// What came.
        outcome: ProbeOutcome,
    },
    /// An action on telephony ended.
    Done {
        /// As given out.
        id: ActionId,
        /// Whether every required step did; otherwise what failed.
        result: Result<(), ActionFailed>,
    },
    /// What is seen of telephony here, without having run a command. Every ten seconds.
    Observed(Observed),
    /// A record is on disk, or could not be written.
    Persisted {
        /// The record's generation.
        generation: u64,
        /// Whether it is.
        written: bool,
    },
    /// A replication ended.
    Replicated {
        /// As given out.
        id: ActionId,
        /// How.
        how: Replicated,
        /// Without what it waited for another one to end.
        took: Duration,
    },
    /// To a node that fetches: whether what it holds newer is still to be carried to the serving node (`safety.md` 7). Until
    /// it is told, a node that has ceased to serve takes that for granted.
    Owes {
        /// The record's that this is about; another one's changes nothing.
        generation: u64,
        /// Whether it is.
        owes: bool,
    },
    /// Something that is replicated changed, or may have changed since it was last looked at.
    Changed,
    /// To a master: the slave was told to stand by, and does.
    SlaveRests,
    /// To a master that has been one before: the machine was started, and nothing watched until now.
    Booted,
    /// What the cluster says of the address that the pair shares; at every change.
    Cluster(View),
    /// What came of a check of telephony here.
    Checked {
        /// As given out.
        id: CheckId,
        /// What came.
        outcome: ProbeOutcome,
    },
    /// Somebody wants something.
    Command(Command),
}

/// How a replication ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Replicated {
    /// The slave has what this node had when it began.
    Done {
        /// The slave's: another one than before means that the slave served meanwhile.
        generation: u64,
    },
    /// The slave serves, so that what it has may be newer; nothing was changed there.
    SlaveServes,
    /// It failed, or something else refused it.
    Failed,
}

/// What a node asks for, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Ask this address.
    Probe {
        /// To be given back.
        id: ProbeId,
        /// On which rung, or that it is a reference.
        target: Target,
        /// Whom.
        address: IpAddr,
        /// When it counts as lost.
        timeout: Duration,
    },
    /// Write this record, then report [`Input::Persisted`]. Boxed: it is by far the largest.
    Persist(Box<Record>),
    /// Bring telephony to this state.
    SetServices {
        /// To be given back.
        id: ActionId,
        /// Which state.
        to: ServiceState,
        /// The generation that must still hold when it is acted on.
        generation: u64,
    },
    /// Send configuration and database to the slave.
    Replicate {
        /// To be given back.
        id: ActionId,
        /// The slave.
        peer: IpAddr,
        /// Because of nothing but a change: what is known to be unchanged need not be compared.
        after_change: bool,
    },
    /// Ask the cluster to give the shared address to the other node. The answer is the next [`Input::Cluster`] that says
    /// that it is not held here any more, or that one more handover failed.
    HandOver {
        /// For the journal.
        id: ActionId,
        /// The generation that decided so.
        generation: u64,
    },
    /// Check telephony here.
    Check {
        /// To be given back.
        id: CheckId,
        /// Which way.
        check: Check,
        /// When it counts as lost.
        timeout: Duration,
    },
    /// Another row of the table decides now: for the journal.
    Announce(Decision),
    /// Something that a person should know; `raised: false` says that it is over.
    Alert {
        /// Which condition: one message per condition, not one per occurrence.
        key: &'static str,
        /// It began, or it is over.
        raised: bool,
        /// A sentence.
        text: String,
    },
    /// The command is refused; nothing changed.
    Refused(Refusal),
}

/// What a node asks for. Dropping it loses actions.
#[must_use = "a node acts only through its outputs"]
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outputs(pub Vec<Output>);

impl Outputs {
    /// The refusal of a command, if it was refused.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.0.iter().find_map(|output| match output {
            Output::Refused(refusal) => Some(refusal),
            _ => None,
        })
    }
}

impl IntoIterator for Outputs {
    type Item = Output;
    type IntoIter = std::vec::IntoIter<Output>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// What people and the peer may ask of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The role was changed: everything that a role change does has been done.
    SetRole {
        /// The new role.
        role: RoleConfig,
        /// What is seen of telephony now.
        observed: Observed,
    },
    /// To a slave, by its master: serve (switchover).
    TakeOver,
    /// To a slave, by its master: rest, the master serves (failback).
    StandBy,
    /// To a master: the slave serves, rest (switchover).
    Yield,
    /// To a yielded master: serve again (failback).
    Resume,
    /// To the node that holds a shared address: give it to the other node (switchover).
    HandOver,
    /// To a slave that holds a shared address: give it back to the master (failback).
    HandBack,
    /// Start or stop nothing for so long.
    Maintenance {
        /// How long; `None` ends it.
        lasts: Option<Duration>,
    },
    /// A person has seen the latch.
    Acknowledge,
    /// Replicate now.
    Replicate,
    /// To the node that serves: what stands beside the pair follows anew, from the first step.
    Follow,
}

/// An action on telephony failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ActionFailed(
    /// Which step, and why.
    pub String,
);

/// A guard refuses a command; nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The command is for another role.
    #[error("guard \"role\": this node is {is}, and this is for a {wants}; run it on the {wants}")]
    Role {
        /// What the node is.
        is: Role,
        /// What it would have to be.
        wants: Role,
    },
    /// Maintenance is on.
    #[error("guard \"maintenance\": maintenance is on; `maintenance off` lifts it")]
    Maintenance,
    /// The node is cut off.
    #[error(
        "guard \"isolated\": the peer and all references are silent; it is lifted when one of them answers"
    )]
    Isolated,
    /// The master does not answer here.
    #[error(
        "guard \"not ready\": the master is {verdict:?} as seen from the slave; it is lifted when its telephony answers"
    )]
    NotReady {
        /// As seen from here.
        verdict: Verdict,
    },
    /// Telephony was handed over.
    #[error("guard \"yielded\": telephony was handed over to the slave; `failback` lifts it")]
    Yielded,
    /// This node fetches, and what it has may be newer.
    #[error(
        "guard \"active\": telephony runs here, and what this node has may be newer; it is lifted when it stands by"
    )]
    ServesItself,
    /// Nothing to do it with.
    #[error("guard \"peer\": the slave does not answer; it is lifted when it does")]
    PeerDown,
    /// Telephony is elsewhere, or on both nodes.
    #[error(
        "guard \"serves\": telephony does not belong to this node alone; run it on the node that serves, when only one does"
    )]
    ServesElsewhere,
    /// Each node has its own address.
    #[error("guard \"address\": each node of this pair has its own address: there is none to hand over")]
    OwnAddress,
    /// The pair shares an address, which telephony follows.
    #[error("guard \"address\": telephony follows the address that the pair shares: hand that over instead")]
    SharedAddress,
    /// The address is not here.
    #[error(
        "guard \"address\": the address that the pair shares is not here, so telephony is not started; run it on the node that serves"
    )]
    AddressElsewhere,
    /// The address is where it is wanted.
    #[error("guard \"home\": the master serves already: there is nothing to hand back")]
    AtHome,
    /// The other node could not serve.
    #[error(
        "guard \"not ready\": the other node is {verdict:?} as its cluster says; it is lifted when that node is able to serve, and has carried here what it holds newer"
    )]
    OtherNotReady {
        /// As the cluster says.
        verdict: Verdict,
    },
    /// It is asked for already.
    #[error(
        "guard \"handing over\": the cluster is asked to hand the address over; wait until it has answered"
    )]
    HandingOver,
    /// A replication is under way.
    #[error("guard \"replicating\": a replication is under way; wait until it ends")]
    Replicating,
}

/// One decision, for `why`, `timeline` and the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// When.
    pub time: DateTime<Utc>,
    /// The node's generation at that time, after the decision.
    pub generation: u64,
    /// The verdict before.
    pub from: Verdict,
    /// The verdict now.
    pub to: Verdict,
    /// The row's id.
    pub rule: String,
    /// The row's sentence.
    pub why: String,
}

/// What survives a restart of the engine; read before the first probe (`safety.md` 2.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The role and peer that the rest belongs to; with another one in the role file only the generation is kept.
    pub role: Role,
    /// See `role`.
    pub remote_address: String,
    /// Grows at every change of role or activity.
    pub generation: u64,
    /// Whether telephony belongs here.
    pub active: bool,
    /// Since when.
    pub since: DateTime<Utc>,
    /// The row or the command that made it so.
    pub rule: String,
    /// Its sentence.
    pub why: String,
    /// Rungs that have been up since the last role change.
    pub armed: Vec<Rung>,
    /// How often the hold-down has doubled.
    pub hold_down_level: u8,
    /// The end of the hold-down.
    pub hold_down_until: Option<DateTime<Utc>>,
    /// Takeovers that count for the latch.
    pub failovers: Vec<DateTime<Utc>>,
    /// Failback waits for a person.
    pub latched: bool,
    /// The end of maintenance.
    pub maintenance_until: Option<DateTime<Utc>>,
    /// The master handed over on purpose.
    pub peer_yielded: bool,
    /// When telephony last came to this node and to no other; `None`: not since the role was given, or the other
    /// one serves, or may serve, as well. What stands beside the pair follows it.
    #[serde(default)]
    pub arrived: Option<DateTime<Utc>>,
    /// To a master: the slave serves, or was not seen to rest since it did.
    #[serde(default)]
    pub peer_serves: bool,
    /// To a master: the slave's generation at the last replication.
    #[serde(default)]
    pub peer_generation: Option<u64>,
    /// To a slave: when it handed a shared address back, until that came again.
    #[serde(default)]
    pub handed_back: Option<DateTime<Utc>>,
}

impl Record {
    /// Whether an earlier record of the same node says the same. It is asked at every event, so what changes only
    /// together with the generation is not compared.
    pub(crate) fn says_the_same(&self, earlier: &Record) -> bool {
        let same = self.generation == earlier.generation
            && self.armed == earlier.armed
            && self.hold_down_until == earlier.hold_down_until
            && self.failovers == earlier.failovers
            && self.latched == earlier.latched
            && self.maintenance_until == earlier.maintenance_until
            && self.peer_yielded == earlier.peer_yielded
            && self.arrived == earlier.arrived
            && self.peer_serves == earlier.peer_serves
            && self.peer_generation == earlier.peer_generation
            && self.handed_back == earlier.handed_back;
        debug_assert_eq!(same, self == earlier, "a generation stands for two roles or activities");
        same
    }

    /// What a node remembers that has just got this role: a master serves, a slave waits for its first verdict.
    pub fn fresh(role: &RoleConfig, generation: u64, now: DateTime<Utc>) -> Record {
        Record {
            role: role.role(),
            remote_address: role.remote_address(),
            generation,
            active: role.role() == Role::Master,
            since: now,
            rule: String::new(),
            why: format!("this node was configured as {}", role.role()),
            armed: Vec::new(),
            hold_down_level: 0,
            hold_down_until: None,
            failovers: Vec::new(),
            latched: false,
            maintenance_until: None,
            peer_yielded: false,
            arrived: None,
            peer_serves: false,
            peer_generation: None,
            handed_back: None,
        }
    }

    /// Telephony belongs here from now on, or no longer does: another generation, because of that row.
    ///
    /// To a slave it has come with that. To a master it comes when the slave rests, which the slave may do later.
    pub fn turn(&mut self, active: bool, now: DateTime<Utc>, rule: &str, why: &str) {
        self.generation += 1;
        self.active = active;
        self.since = now;
        self.rule = rule.to_owned();
        self.why = why.to_owned();
        match self.role {
            Role::Slave if active => self.arrived = Some(now),
            Role::Master if !active => self.peer_serves = true,
            Role::Master | Role::Slave | Role::Disabled => {}
        }
    }
}
