//! What is seen of the pair from outside.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::timeline::Who;
use crate::sip::Server;

/// How many phones there are.
pub(super) const PHONES: usize = 3;

/// What is seen of the pair from outside.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Who answers since when, or is silent since when; in the order in which it changed.
    pub(super) answers: Vec<Answer>,
    /// Where each phone is registered since when, in the order in which it moved.
    pub(super) phones: BTreeMap<String, Vec<(Instant, Server)>>,
    /// What the nodes have decided, each in its order.
    pub(super) decisions: Vec<Decided>,
}

/// A decision of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decided {
    pub(super) at: Instant,
    pub(super) who: Who,
    /// The row of the transition table.
    pub(super) rule: String,
}

/// A change of one node's telephony.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) at: Instant,
    pub(super) who: Who,
    pub(super) answers: bool,
}

impl Seen {
    /// Whether it answers now.
    pub(super) fn answers(&self, who: Who) -> bool {
        self.answers.iter().rev().find(|one| one.who == who).is_some_and(|one| one.answers)
    }

    /// When it began to answer, or fell silent, the first time since then.
    pub(super) fn changed(&self, who: Who, answers: bool, since: Instant) -> Option<Instant> {
        let mut changes = self.answers.iter().filter(|one| one.who == who && one.answers == answers);
        changes.find(|one| one.at >= since).map(|one| one.at)
    }

    /// When a node decided by this row, the first time since then.
    pub(super) fn decided(&self, who: Who, rules: &[&str], since: Instant) -> Option<Instant> {
        let mut decisions = self.decisions.iter().filter(|one| one.who == who && one.at >= since);
        decisions.find(|one| rules.contains(&one.rule.as_str())).map(|one| one.at)
    }

    /// Whether every phone is there.
    pub(super) fn all_at(&self, server: Server) -> bool {
        self.phones.len() == PHONES
            && self.phones.values().all(|moves| moves.last().is_some_and(|(_, at)| *at == server))
    }

    /// When the last of the phones came there, each the first time since then.
    pub(super) fn last_came(&self, server: Server, since: Instant) -> Option<Instant> {
        let came = |moves: &Vec<(Instant, Server)>| {
            moves.iter().find(|(at, where_to)| *at >= since && *where_to == server).map(|(at, _)| *at)
        };
        let all: Option<Vec<Instant>> = self.phones.values().map(came).collect();
        all?.into_iter().max()
    }

    /// The longest time since then during which as many nodes answered as asked for, up to `until`.
    pub(super) fn longest_with(&self, count: usize, since: Instant, until: Instant) -> Duration {
        let mut state = BTreeMap::new();
        let mut longest = Duration::ZERO;
        let mut from = since;
        for one in &self.answers {
            let at = one.at.clamp(since, until);
            if state.values().filter(|answers| **answers).count() == count {
                longest = longest.max(at.saturating_duration_since(from));
            }
            from = at;
            state.insert(one.who, one.answers);
        }
        if state.values().filter(|answers| **answers).count() == count {
            longest = longest.max(until.saturating_duration_since(from));
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_and_overlaps_are_measured() {
        let begun = Instant::now();
        let at = |ms: u64| begun + Duration::from_millis(ms);
        let one = |ms, who, answers| Answer { at: at(ms), who, answers };
        let seen = Seen {
            answers: vec![
                one(0, Who::Master, true),
                one(0, Who::Slave, false),
                one(1000, Who::Master, false),
                one(4000, Who::Slave, true),
                one(9000, Who::Master, true),
                one(15_000, Who::Slave, false),
            ],
            ..Seen::default()
        };
        let ms = Duration::from_millis;
        assert_eq!(seen.longest_with(0, at(500), at(20_000)), ms(3000));
        assert_eq!(seen.longest_with(2, at(500), at(20_000)), ms(6000));
        assert_eq!(seen.longest_with(1, at(500), at(30_000)), ms(15_000));
        assert_eq!(seen.changed(Who::Slave, true, at(500)), Some(at(4000)));
        assert_eq!(seen.changed(Who::Slave, false, at(500)), Some(at(15_000)));
        assert!(seen.answers(Who::Master) && !seen.answers(Who::Slave));
    }

    #[test]
    fn the_slowest_phone_counts() {
        let begun = Instant::now();
        let at = |ms: u64| begun + Duration::from_millis(ms);
        let mut seen = Seen::default();
        for (user, back) in [("1001", 5000), ("1002", 4000), ("1003", 4500)] {
            let moves = vec![(at(0), Server::Primary), (at(back), Server::Backup)];
            seen.phones.insert(user.to_owned(), moves);
        }
        assert!(seen.all_at(Server::Backup));
        assert_eq!(seen.last_came(Server::Backup, at(1000)), Some(at(5000)));
        assert_eq!(seen.last_came(Server::Primary, at(1000)), None);
    }
}
