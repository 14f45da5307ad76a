//! Who answered when: gaps, and whether two ever answered at the same time.

use std::time::{Duration, Instant};

use super::super::timeline::Who;

/// A node that took the address back lawfully has been silent for longer.
const SHORTLY: Duration = Duration::from_secs(2);

/// A question that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    /// The node, by its own word.
    pub(super) who: Who,
    pub(super) asked: Instant,
    /// Read; a busy machine may have kept it waiting.
    pub(super) heard: Instant,
    /// As a phone asks, wherever the address is; otherwise by an observer who asks one node.
    pub(super) by_phone: bool,
}

/// All of them, as they were heard.
#[derive(Debug, Clone, Default)]
pub(super) struct Answers(pub(super) Vec<Answer>);

impl Answers {
    /// The last one before then.
    pub(super) fn last(&self, who: Who, before: Instant) -> Option<Instant> {
        let mut answers = self.0.iter().rev().filter(|one| one.who == who);
        answers.find(|one| one.heard <= before).map(|one| one.heard)
    }

    /// The first one to a question that was asked since then.
    pub(super) fn first(&self, who: Who, since: Instant) -> Option<Instant> {
        let mut answers = self.0.iter().filter(|one| one.who == who);
        answers.find(|one| one.asked >= since).map(|one| one.heard)
    }

    /// The longest time between two answers to a phone.
    pub(super) fn gap(&self, since: Instant, until: Instant) -> Duration {
        let heard = self.0.iter().filter(|one| one.by_phone && one.heard >= since && one.heard <= until);
        let ends = heard.map(|one| one.heard).chain([until]);
        let mut longest = Duration::ZERO;
        ends.fold(since, |before, at| {
            longest = longest.max(at.saturating_duration_since(before));
            at
        });
        longest
    }

    /// How long two answered: from the first to the last answer of a node to a question that was asked after the other one
    /// had answered, and before that answered again. One that was only heard late is none: it was asked before.
    pub(super) fn overlap(&self) -> Duration {
        let of = |who: Who| -> (Vec<Answer>, Vec<Answer>) { self.0.iter().partition(|one| one.who == who) };
        let Some(one) = self.0.first() else { return Duration::ZERO };
        let (these, those) = of(one.who);
        let mut between: Vec<&Answer> = these.iter().filter(|one| is_between(one, &those)).collect();
        between.extend(those.iter().filter(|one| is_between(one, &these)));
        match (between.iter().map(|one| one.asked).min(), between.iter().map(|one| one.heard).max()) {
            (Some(first), Some(last)) => last.saturating_duration_since(first),
            _ => Duration::ZERO,
        }
    }
}

/// Whether the others, as they were heard, answered shortly before it was asked and shortly after it was heard.
fn is_between(one: &Answer, others: &[Answer]) -> bool {
    let before = &others[..others.partition_point(|other| other.heard <= one.asked)];
    let after = &others[others.partition_point(|other| other.heard <= one.heard)..];
    before.last().is_some_and(|other| one.asked - other.heard < SHORTLY)
        && after.iter().any(|other| other.asked >= one.heard && other.asked - one.heard < SHORTLY)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn answers(begun: Instant, all: &[(Who, u64, u64)]) -> Answers {
        let one = |(who, asked, heard): &(Who, u64, u64)| Answer {
            who: *who,
            asked: begun + MS(*asked),
            heard: begun + MS(*heard),
            by_phone: true,
        };
        Answers(all.iter().map(one).collect())
    }

    #[test]
    fn one_after_the_other_is_a_gap_and_no_overlap_also_when_an_answer_is_heard_late() {
        let begun = Instant::now();
        let (one, other) = (Who::Primary, Who::Standby);
        let all = [(one, 0, 1), (other, 500, 501), (other, 520, 521), (one, 20, 530), (one, 3000, 3002)];
        let answers = answers(begun, &all);
        assert_eq!(answers.overlap(), Duration::ZERO);
        assert_eq!(answers.first(other, begun), Some(begun + MS(501)));
        assert_eq!(answers.last(other, begun + MS(510)), Some(begun + MS(501)));
    }

    #[test]
    fn silence_counts_up_to_the_end() {
        let begun = Instant::now();
        let answers = answers(begun, &[(Who::Primary, 0, 1), (Who::Primary, 20, 21)]);
        assert_eq!(answers.gap(begun, begun + MS(30)), MS(20));
        assert_eq!(answers.gap(begun, begun + MS(500)), MS(479));
    }

    #[test]
    fn two_that_answer_in_turn_are_an_overlap() {
        let begun = Instant::now();
        let (one, other) = (Who::Primary, Who::Standby);
        let all = [(one, 0, 1), (other, 10, 11), (one, 20, 21), (other, 30, 31), (other, 50, 51)];
        assert_eq!(answers(begun, &all).overlap(), MS(11));
    }
}
