//! The one table that decides. Nothing that decides lives outside it.

mod readme;
mod table;
#[cfg(test)]
mod tests;

pub use readme::markdown;
pub use table::RULES;

use crate::distribution::ServiceState;
use crate::health::{Surroundings, Verdict};
use crate::role::Role;

/// Where the address is that phones know and that telephony follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// Each node has its own: there is none to follow.
    Own,
    /// The pair shares one, and the cluster has not said yet who holds it.
    Unknown,
    /// The pair shares one, and it is here.
    Held,
    /// The pair shares one, and it is not here.
    Elsewhere,
}

impl Address {
    /// All of them.
    pub const ALL: [Address; 4] = [Address::Own, Address::Unknown, Address::Held, Address::Elsewhere];

    /// The word that the table uses.
    pub fn word(self) -> &'static str {
        match self {
            Address::Own => "own",
            Address::Unknown => "unknown",
            Address::Held => "here",
            Address::Elsewhere => "not here",
        }
    }

    /// Whether the pair shares one address.
    pub fn is_shared(self) -> bool {
        self != Address::Own
    }
}

/// Everything that a decision depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Situation {
    /// What this node is.
    pub role: Role,
    /// Where the address is that telephony follows.
    pub address: Address,
    /// Whether telephony belongs here now: a slave that took over, a master that has not handed over.
    pub active: bool,
    /// The verdict on the peer before the present one.
    pub from: Verdict,
    /// The verdict on the peer.
    pub to: Verdict,
    /// What the references say while the peer is silent; a peer that answers is reference enough (`Seen`).
    pub surroundings: Surroundings,
    /// Somebody works on the pair and wants no surprise.
    pub maintenance: bool,
    /// `Degraded` has lasted `degraded_after`.
    pub settled: bool,
    /// The peer handed telephony over on purpose.
    pub peer_yielded: bool,
    /// Too many failovers in a row: failback waits for a person.
    pub latched: bool,
    /// The failback policy permits it now.
    pub permitted: bool,
    /// The last failback is too recent.
    pub hold_down: bool,
    /// The peer has been `Up` for the hold time.
    pub held: bool,
    /// Telephony that belongs here died, or could not be started. Only of a pair that shares an address.
    pub died: bool,
    /// The other node did not take the address when it was asked, a moment ago.
    pub refused: bool,
    /// Telephony that died is started again here when the other node cannot serve either.
    pub restarts: bool,
}

/// What keeps a move from being made, or that nothing does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Guard {
    /// Nothing is in the way.
    Clear,
    /// Maintenance is on.
    Maintenance,
    /// References are still being asked.
    Asking,
    /// No reference answers either: this node is cut off.
    Isolated,
    /// The peer's telephony has not been silent for `degraded_after` yet.
    Settling,
    /// The peer handed over on purpose.
    Yielded,
    /// Failback is latched until acknowledged.
    Latched,
    /// The policy wants a person or a window.
    Policy,
    /// The hold-down after the last failback.
    HoldDown,
    /// The peer has not been up for the hold time.
    Hold,
    /// The peer did not take the address a moment ago.
    Refused,
    /// Telephony died here, and the peer is heard.
    Died,
    /// Telephony died here, and the peer is silent or did not take the address.
    DiedAlone,
    /// The same, and it may not be started again here.
    DiedForGood,
}

impl Guard {
    /// All of them; maintenance is the first, because rows speak of all the others together.
    pub const ALL: [Guard; 14] = [
        Guard::Maintenance,
        Guard::Clear,
        Guard::Asking,
        Guard::Isolated,
        Guard::Settling,
        Guard::Yielded,
        Guard::Latched,
        Guard::Policy,
        Guard::HoldDown,
        Guard::Hold,
        Guard::Refused,
        Guard::Died,
        Guard::DiedAlone,
        Guard::DiedForGood,
    ];

    /// The word that `status` uses.
    pub fn word(self) -> &'static str {
        match self {
            Guard::Clear => "clear",
            Guard::Maintenance => "maintenance",
            Guard::Asking => "asking",
            Guard::Isolated => "isolated",
            Guard::Settling => "settling",
            Guard::Yielded => "yielded",
            Guard::Latched => "latched",
            Guard::Policy => "policy",
            Guard::HoldDown => "hold_down",
            Guard::Hold => "hold",
            Guard::Refused => "refused",
            Guard::Died => "died",
            Guard::DiedAlone => "died alone",
            Guard::DiedForGood => "died for good",
        }
    }

    /// What is in the way of taking telephony over, most important first.
    pub fn of_takeover(s: &Situation) -> Guard {
        match (s.to, s.surroundings) {
            _ if s.maintenance => Guard::Maintenance,
            (Verdict::Down | Verdict::Degraded, Surroundings::Asking) => Guard::Asking,
            (Verdict::Down | Verdict::Degraded, Surroundings::Silent) => Guard::Isolated,
            (Verdict::Degraded, _) if !s.settled => Guard::Settling,
            _ => Guard::Clear,
        }
    }

    /// Everything that is in the way of handing telephony back, most important first.
    pub fn all_of_failback(s: &Situation) -> impl Iterator<Item = Guard> {
        [
            (s.maintenance, Guard::Maintenance),
            (s.peer_yielded, Guard::Yielded),
            (s.latched, Guard::Latched),
            (!s.permitted, Guard::Policy),
            (s.hold_down, Guard::HoldDown),
            (s.refused, Guard::Refused),
            (!s.held, Guard::Hold),
        ]
        .into_iter()
        .filter_map(|(in_the_way, guard)| in_the_way.then_some(guard))
    }

    /// What is in the way of the one move that telephony which follows an address still has to make: to the other node.
    fn of_handing_over(s: &Situation) -> Guard {
        let is_heard = matches!(s.to, Verdict::Up | Verdict::Degraded);
        match s.role {
            _ if s.maintenance => Guard::Maintenance,
            _ if s.address != Address::Held || !s.active => Guard::Clear,
            _ if s.died && is_heard && !s.refused => Guard::Died,
            _ if s.died && s.restarts => Guard::DiedAlone,
            _ if s.died => Guard::DiedForGood,
            Role::Slave if s.to == Verdict::Up => Guard::all_of_failback(s).next().unwrap_or(Guard::Clear),
            _ => Guard::Clear,
        }
    }

    /// The one guard that the table's column speaks of.
    pub fn of(s: &Situation) -> Guard {
        match (s.role, s.active, s.to) {
            (Role::Master | Role::Slave, ..) if s.address.is_shared() => Guard::of_handing_over(s),
            (Role::Slave, true, Verdict::Up) => Guard::all_of_failback(s).next().unwrap_or(Guard::Clear),
            (Role::Slave, true, _) | (Role::Disabled, ..) | (Role::Master, true, _) if !s.maintenance => {
                Guard::Clear
            }
            _ => Guard::of_takeover(s),
        }
    }
}

/// What a row does with telephony.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Move {
    /// Leave it as it is.
    Keep,
    /// Bring it to this state, and the node's activity with it.
    Want(ServiceState),
    /// Give the address to the other node; telephony stops here when it has left.
    HandOver,
}

/// One row. A situation matches exactly one; a test proves it.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// How the journal, `status` and `why` name it.
    pub id: &'static str,
    /// Roles it is for.
    pub roles: &'static [Role],
    /// Where the address may be.
    pub address: &'static [Address],
    /// Active, passive, or both.
    pub active: &'static [bool],
    /// Verdicts before.
    pub from: &'static [Verdict],
    /// Verdicts now.
    pub to: &'static [Verdict],
    /// What is in the way.
    pub guards: &'static [Guard],
    /// What happens.
    pub services: Move,
    /// The sentence that operators read.
    pub why: &'static str,
}

impl Rule {
    /// Whether this row is for `situation`.
    pub fn matches(&self, situation: &Situation) -> bool {
        self.roles.contains(&situation.role)
            && self.address.contains(&situation.address)
            && self.active.contains(&situation.active)
            && self.from.contains(&situation.from)
            && self.to.contains(&situation.to)
            && self.guards.contains(&Guard::of(situation))
    }
}

/// The row for `situation`.
pub fn rule(situation: &Situation) -> &'static Rule {
    RULES
        .iter()
        .find(|rule| rule.matches(situation))
        .expect("a test visits every situation and finds one row")
}
