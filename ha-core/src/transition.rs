//! The one table that decides. Nothing that decides lives outside it.

use std::fmt;

use crate::distribution::ServiceState;
use crate::health::{Surroundings, Verdict};
use crate::role::Role;

/// Everything that a decision depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Situation {
    /// What this node is.
    pub role: Role,
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
}

impl Guard {
    /// All of them.
    pub const ALL: [Guard; 10] = [
        Guard::Clear,
        Guard::Maintenance,
        Guard::Asking,
        Guard::Isolated,
        Guard::Settling,
        Guard::Yielded,
        Guard::Latched,
        Guard::Policy,
        Guard::HoldDown,
        Guard::Hold,
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
            (!s.held, Guard::Hold),
        ]
        .into_iter()
        .filter_map(|(in_the_way, guard)| in_the_way.then_some(guard))
    }

    /// The one guard that the table's column speaks of.
    pub fn of(s: &Situation) -> Guard {
        match (s.role, s.active, s.to) {
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
}

/// Start it.
const START: Move = Move::Want(ServiceState::Running);
/// Stop it.
const STOP: Move = Move::Want(ServiceState::Stopped);

/// One row. A situation matches exactly one; a test proves it.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// How the journal, `status` and `why` name it.
    pub id: &'static str,
    /// Roles it is for.
    pub roles: &'static [Role],
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

const DISABLED: &[Role] = &[Role::Disabled];
const MASTER: &[Role] = &[Role::Master];
const SLAVE: &[Role] = &[Role::Slave];
const ACTIVE: &[bool] = &[true];
const PASSIVE: &[bool] = &[false];
const EITHER: &[bool] = &[true, false];
const ANY: &[Verdict] = &Verdict::ALL;
const UNKNOWN: &[Verdict] = &[Verdict::Unknown];
const KNOWN: &[Verdict] = &[Verdict::Up, Verdict::Degraded, Verdict::Down];
const DOWN: &[Verdict] = &[Verdict::Down];
const NOT_UP: &[Verdict] = &[Verdict::Degraded, Verdict::Down];
const UP: &[Verdict] = &[Verdict::Up];
const DEGRADED: &[Verdict] = &[Verdict::Degraded];
const EVERY: &[Guard] = &Guard::ALL;
const CLEAR: &[Guard] = &[Guard::Clear];
/// Anything but maintenance.
const WORKING: &[Guard] = &[
    Guard::Clear,
    Guard::Asking,
    Guard::Isolated,
    Guard::Settling,
    Guard::Yielded,
    Guard::Latched,
    Guard::Policy,
    Guard::HoldDown,
    Guard::Hold,
];

/// `R(id, roles, active, from, to, guards, move, sentence)`, so that a row is a line.
macro_rules! rules {
    ($($id:literal $roles:ident $active:ident $from:ident $to:ident $guards:expr, $services:expr, $why:literal;)*) => {
        &[$(Rule { id: $id, roles: $roles, active: $active, from: $from, to: $to, guards: $guards, services: $services, why: $why },)*]
    };
}

/// The failover and failback table. Entering a role changes nothing here: `configure` does what a role change does.
#[rustfmt::skip]
pub static RULES: &[Rule] = rules! {
    "D1"  DISABLED EITHER  ANY      ANY      EVERY,                  Move::Keep, "this node is not part of a pair: nothing is decided";

    "S0"  SLAVE    EITHER  ANY      UNKNOWN  WORKING,                Move::Keep, "no verdict on the master yet: wait";
    "S1"  SLAVE    PASSIVE UNKNOWN  UP       WORKING,                STOP,       "master answers: stand by";
    "S2"  SLAVE    PASSIVE KNOWN    UP       WORKING,                STOP,       "master answers again: stand by";
    "S3"  SLAVE    PASSIVE UNKNOWN  DOWN     CLEAR,                  START,      "master does not answer: take over";
    "S4"  SLAVE    PASSIVE KNOWN    DOWN     CLEAR,                  START,      "master stopped answering: take over";
    "S5"  SLAVE    PASSIVE ANY      NOT_UP   &[Guard::Isolated],     Move::Keep, "master and all references are silent: this node is isolated and does not take over";
    "S6"  SLAVE    PASSIVE ANY      NOT_UP   &[Guard::Asking],       Move::Keep, "master is silent: ask the references before deciding";
    "S7"  SLAVE    PASSIVE ANY      DEGRADED &[Guard::Settling],     Move::Keep, "master's host answers, its telephony does not: give it time to restart";
    "S8"  SLAVE    PASSIVE ANY      DEGRADED CLEAR,                  START,      "master's telephony stayed silent: take over";
    "S9"  SLAVE    EITHER  ANY      ANY      &[Guard::Maintenance],  Move::Keep, "maintenance: nothing is started or stopped";
    "S10" SLAVE    ACTIVE  ANY      UP       CLEAR,                  STOP,       "master is back and ready: hand back";
    "S11" SLAVE    ACTIVE  ANY      UP       &[Guard::Hold],         Move::Keep, "master answers: keep serving until it has been ready for the hold time";
    "S12" SLAVE    ACTIVE  ANY      UP       &[Guard::HoldDown],     Move::Keep, "master answers: keep serving, the last failback was too recent";
    "S13" SLAVE    ACTIVE  ANY      UP       &[Guard::Policy],       Move::Keep, "master answers: keep serving until failback is asked for or its window opens";
    "S14" SLAVE    ACTIVE  ANY      UP       &[Guard::Latched],      Move::Keep, "the pair flaps: keep serving until a person acknowledges";
    "S15" SLAVE    ACTIVE  ANY      UP       &[Guard::Yielded],      Move::Keep, "master handed over on purpose: keep serving until it asks for failback";
    "S16" SLAVE    ACTIVE  ANY      DOWN     CLEAR,                  START,      "master is down: keep serving";
    "S17" SLAVE    ACTIVE  ANY      DEGRADED CLEAR,                  START,      "master's telephony is silent: keep serving";

    "M0"  MASTER   EITHER  ANY      UNKNOWN  WORKING,                Move::Keep, "no verdict on the slave yet: go on";
    "M1"  MASTER   ACTIVE  UNKNOWN  UP       WORKING,                Move::Keep, "slave answers: replicate to it";
    "M2"  MASTER   ACTIVE  KNOWN    UP       WORKING,                Move::Keep, "slave is back: replicate again";
    "M3"  MASTER   ACTIVE  UNKNOWN  DOWN     WORKING,                Move::Keep, "slave silent: keep serving alone";
    "M4"  MASTER   ACTIVE  KNOWN    DOWN     WORKING,                Move::Keep, "slave lost: keep serving alone";
    "M5"  MASTER   ACTIVE  ANY      DEGRADED WORKING,                Move::Keep, "slave's host answers and its telephony rests: go on";
    "M6"  MASTER   PASSIVE ANY      UP       WORKING,                Move::Keep, "slave serves, telephony was handed over to it: stand by";
    "M7"  MASTER   PASSIVE ANY      DOWN     CLEAR,                  START,      "slave lost after the handover: serve again";
    "M8"  MASTER   PASSIVE ANY      NOT_UP   &[Guard::Isolated],     Move::Keep, "slave and all references are silent: this node is isolated and does not take telephony back";
    "M9"  MASTER   PASSIVE ANY      NOT_UP   &[Guard::Asking],       Move::Keep, "slave is silent: ask the references before deciding";
    "M10" MASTER   PASSIVE ANY      DEGRADED &[Guard::Settling],     Move::Keep, "slave's host answers, its telephony does not: give it time to restart";
    "M11" MASTER   PASSIVE ANY      DEGRADED CLEAR,                  START,      "slave's telephony stayed silent after the handover: serve again";
    "M12" MASTER   EITHER  ANY      ANY      &[Guard::Maintenance],  Move::Keep, "maintenance: nothing is started or stopped";
};

/// The table as Markdown, for the README; a test writes it there.
pub fn markdown() -> String {
    let mut out = String::from(
        "| id | role | telephony | peer was | peer is | in the way | does | says |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for rule in RULES {
        out.push_str(&format!("{rule}\n"));
    }
    out
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roles: Vec<&str> = self.roles.iter().map(|role| role.word()).collect();
        let active = match self.active {
            [true] => "here",
            [false] => "not here",
            _ => "any",
        };
        let verdicts = |set: &[Verdict]| match set {
            set if set.len() == Verdict::ALL.len() => "any".to_owned(),
            set => {
                set.iter().map(|verdict| format!("{verdict:?}").to_lowercase()).collect::<Vec<_>>().join(", ")
            }
        };
        let guards = match self.guards {
            set if set.len() == Guard::ALL.len() => "any".to_owned(),
            set if set.len() == WORKING.len() => "not maintenance".to_owned(),
            [Guard::Clear] => "nothing".to_owned(),
            set => set.iter().map(|guard| guard.word()).collect::<Vec<_>>().join(", "),
        };
        let does = match self.services {
            Move::Keep => "keep",
            Move::Want(ServiceState::Running) => "start",
            Move::Want(ServiceState::Stopped) => "stop",
        };
        write!(
            f,
            "| {} | {} | {active} | {} | {} | {guards} | {does} | {} |",
            self.id,
            roles.join(", "),
            verdicts(self.from),
            verdicts(self.to),
            self.why
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_situation(mut visit: impl FnMut(Situation)) {
        let surroundings =
            [Surroundings::NotWatched, Surroundings::Seen, Surroundings::Asking, Surroundings::Silent];
        for role in Role::ALL {
            for (from, to) in Verdict::ALL.into_iter().flat_map(|from| Verdict::ALL.map(|to| (from, to))) {
                for surroundings in surroundings {
                    for bits in 0..256_u32 {
                        let bit = |n: u32| bits & (1 << n) != 0;
                        visit(Situation {
                            role,
                            active: bit(0),
                            from,
                            to,
                            surroundings,
                            maintenance: bit(1),
                            settled: bit(2),
                            peer_yielded: bit(3),
                            latched: bit(4),
                            permitted: bit(5),
                            hold_down: bit(6),
                            held: bit(7),
                        });
                    }
                }
            }
        }
    }

    #[test]
    fn every_situation_has_exactly_one_row() {
        every_situation(|situation| {
            let rows: Vec<&str> =
                RULES.iter().filter(|rule| rule.matches(&situation)).map(|rule| rule.id).collect();
            assert_eq!(rows.len(), 1, "{situation:?} matches {rows:?}");
        });
    }

    #[test]
    fn every_row_has_a_situation_and_an_id_of_its_own() {
        let mut seen = std::collections::BTreeSet::new();
        every_situation(|situation| {
            seen.insert(rule(&situation).id);
        });
        let ids: Vec<&str> = RULES.iter().map(|rule| rule.id).collect();
        assert_eq!(seen.len(), ids.len(), "unreachable or doubled rows: {ids:?} but {seen:?}");
    }

    #[test]
    fn only_a_slave_stops_and_a_disabled_node_does_nothing() {
        for rule in RULES {
            if rule.services == STOP {
                assert_eq!(rule.roles, SLAVE, "{}", rule.id);
            }
            if rule.roles == DISABLED {
                assert_eq!(rule.services, Move::Keep, "{}", rule.id);
            }
        }
    }

    #[test]
    fn a_latch_never_stands_in_the_way_of_a_takeover() {
        every_situation(|situation| {
            if situation.latched && situation.to == Verdict::Down && situation.role == Role::Slave {
                let without = Situation { latched: false, ..situation };
                assert_eq!(rule(&situation).id, rule(&without).id);
            }
        });
    }

    #[test]
    fn the_readme_shows_this_table() {
        let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
        let text = test_files::read(readme);
        let (begin, end) = ("<!-- transition table: begin -->\n", "<!-- transition table: end -->");
        let (head, rest) = text.split_once(begin).expect("README.md has the begin mark");
        let (_, tail) = rest.split_once(end).expect("README.md has the end mark");
        let wanted = format!("{head}{begin}{}{end}{tail}", markdown());
        if text != wanted {
            test_files::write(readme, &wanted);
            panic!("README.md showed another table; it has been rewritten: review the difference");
        }
    }

    /// The table's copy in the README is a file; the core itself touches none.
    #[allow(clippy::disallowed_methods)] // a test, not the core
    mod test_files {
        pub(super) fn read(path: &str) -> String {
            std::fs::read_to_string(path).expect("README.md is there")
        }
        pub(super) fn write(path: &str, text: &str) {
            std::fs::write(path, text).expect("README.md can be written");
        }
    }
}
