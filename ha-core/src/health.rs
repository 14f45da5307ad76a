//! What is known about the peer: rungs, the ladder they make, and references that tell a dead peer from an isolated self.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::budget;

/// What came of one probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeOutcome {
    /// The right answer came in time.
    Reply,
    /// It did not.
    Lost,
}

/// A level at which the peer is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rung {
    /// ICMP echo.
    Host,
    /// A TCP connection.
    Port,
    /// SIP OPTIONS, answered with any final response.
    Service,
}

/// How one rung is asked and believed. Checked by [`RungPolicy::new`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RungPolicy {
    interval: Duration,
    timeout: Duration,
    suspect_interval: Duration,
    down_after: u8,
    up_after: u8,
}

/// The settings' fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// Probes would overlap in peace.
    #[error("timeout must not be longer than interval")]
    TimeoutOverInterval,
    /// A suspected rung would be asked less often than a trusted one.
    #[error("suspect_interval must not be longer than interval")]
    SuspectOverInterval,
    /// Zero is no count and no time.
    #[error("{0} must be at least {1}")]
    TooSmall(&'static str, &'static str),
}

impl RungPolicy {
    /// Checks that `timeout` and `suspect_interval` are at most `interval` (`safety.md` 1.1) and that nothing is zero.
    pub const fn new(
        interval: Duration,
        timeout: Duration,
        suspect_interval: Duration,
        down_after: u8,
        up_after: u8,
    ) -> Result<RungPolicy, PolicyError> {
        // sub-millisecond figures would be rounded to a busy loop
        if interval.as_millis() == 0 || timeout.as_millis() == 0 || suspect_interval.as_millis() == 0 {
            return Err(PolicyError::TooSmall("interval, timeout and suspect_interval", "1ms"));
        }
        if down_after == 0 || up_after == 0 {
            return Err(PolicyError::TooSmall("down_after and up_after", "1"));
        }
        if timeout.as_millis() > interval.as_millis() {
            return Err(PolicyError::TimeoutOverInterval);
        }
        if suspect_interval.as_millis() > interval.as_millis() {
            return Err(PolicyError::SuspectOverInterval);
        }
        Ok(RungPolicy { interval, timeout, suspect_interval, down_after, up_after })
    }

    /// Between two probes in peace.
    pub const fn interval(&self) -> Duration {
        self.interval
    }
    /// When a probe counts as lost.
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }
    /// Between two probes after the first loss, until the rung is up or down.
    pub const fn suspect_interval(&self) -> Duration {
        self.suspect_interval
    }
    /// Consecutive losses that make the rung down.
    pub const fn down_after(&self) -> u8 {
        self.down_after
    }
    /// Consecutive replies that make the rung up.
    pub const fn up_after(&self) -> u8 {
        self.up_after
    }
    /// From the peer's death to the verdict, at worst: a whole interval, the first timeout, the suspected probes.
    pub fn detection_worst(&self) -> Duration {
        let down_after = u32::from(self.down_after);
        budget::detection_worst(self.interval, self.timeout, self.suspect_interval, down_after)
    }
}

/// What one rung says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RungVerdict {
    /// Not enough outcomes in a row yet.
    Unknown,
    /// `up_after` replies in a row.
    Up,
    /// `down_after` losses in a row.
    Down,
}

/// One rung's memory: a verdict and how many outcomes in a row speak against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RungState {
    verdict: RungVerdict,
    losses: u8,
    replies: u8,
    armed: bool,
}

impl RungState {
    /// Nothing known. `armed`: it has been up since the last role change.
    pub fn new(armed: bool) -> RungState {
        RungState { verdict: RungVerdict::Unknown, losses: 0, replies: 0, armed }
    }

    /// What it says.
    pub fn verdict(&self) -> RungVerdict {
        self.verdict
    }

    /// Whether it may decide: it has been up since the last role change (`safety.md` 1.2).
    pub fn armed(&self) -> bool {
        self.armed
    }

    /// Whether the last outcome was a loss.
    pub fn suspected(&self) -> bool {
        self.losses > 0
    }

    /// Takes one outcome; only outcomes in a row count.
    pub fn record(&mut self, policy: Counts, outcome: ProbeOutcome) {
        match outcome {
            ProbeOutcome::Reply => {
                self.losses = 0;
                self.replies = self.replies.saturating_add(1).min(policy.up_after);
                if self.replies == policy.up_after {
                    self.verdict = RungVerdict::Up;
                    self.armed = true;
                }
            }
            ProbeOutcome::Lost => {
                self.replies = 0;
                self.losses = self.losses.saturating_add(1).min(policy.down_after);
                if self.losses == policy.down_after {
                    self.verdict = RungVerdict::Down;
                }
            }
        }
    }
}

/// The two counts of a rung, which is all of its policy that the finite machine needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// See [`RungPolicy::down_after`].
    pub down_after: u8,
    /// See [`RungPolicy::up_after`].
    pub up_after: u8,
}

impl From<&RungPolicy> for Counts {
    fn from(policy: &RungPolicy) -> Counts {
        Counts { down_after: policy.down_after, up_after: policy.up_after }
    }
}

/// The verdict on the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Not asked often enough yet.
    Unknown,
    /// Every rung that may decide answers.
    Up,
    /// The host answers, telephony does not.
    Degraded,
    /// Nothing answers.
    Down,
}

impl Verdict {
    /// All four, best first.
    pub const ALL: [Verdict; 4] = [Verdict::Unknown, Verdict::Up, Verdict::Degraded, Verdict::Down];
}

/// The rungs in use, lowest first. The lowest one decides even if it never answered: a master that was dead before the
/// slave came up is dead all the same. Higher ones decide only when armed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ladder {
    rungs: Vec<(Rung, RungState)>,
}

impl Ladder {
    /// A ladder of these rungs, lowest first; `armed` ones are believed from the start.
    pub fn new(rungs: &[Rung], armed: &[Rung]) -> Ladder {
        Ladder { rungs: rungs.iter().map(|rung| (*rung, RungState::new(armed.contains(rung)))).collect() }
    }

    /// The rungs with what they say.
    pub fn rungs(&self) -> &[(Rung, RungState)] {
        &self.rungs
    }

    /// The rungs that have been up since the last role change.
    pub fn armed(&self) -> impl Iterator<Item = Rung> + '_ {
        self.rungs.iter().filter(|(_, state)| state.armed).map(|(rung, _)| *rung)
    }

    /// One rung's memory.
    pub fn state(&self, rung: Rung) -> Option<&RungState> {
        self.rungs.iter().find(|(one, _)| *one == rung).map(|(_, state)| state)
    }

    /// Takes one outcome of one rung; a rung that is not in use changes nothing.
    pub fn record(&mut self, rung: Rung, counts: Counts, outcome: ProbeOutcome) {
        if let Some((_, state)) = self.rungs.iter_mut().find(|(one, _)| *one == rung) {
            state.record(counts, outcome);
        }
    }

    /// Forgets what the rungs said, but not which of them may decide.
    pub fn ask_again(&mut self) {
        for (_, state) in &mut self.rungs {
            *state = RungState::new(state.armed);
        }
    }

    /// Whether nothing in use answers at this moment: the lowest rung's last probe was lost and no higher one is up.
    pub fn silent(&self) -> bool {
        match self.rungs.split_first() {
            Some(((_, base), higher)) => {
                (base.suspected() || base.verdict == RungVerdict::Down)
                    && !higher.iter().any(|(_, state)| state.verdict == RungVerdict::Up && !state.suspected())
            }
            None => false,
        }
    }

    /// Whether the highest rung may decide and says that telephony answers.
    pub fn telephony_answers(&self) -> bool {
        self.state(Rung::Service).is_some_and(|state| state.verdict == RungVerdict::Up)
    }

    /// The verdict that follows from all rungs.
    pub fn verdict(&self) -> Verdict {
        let Some(((_, base), higher)) = self.rungs.split_first() else { return Verdict::Unknown };
        let any = |wanted| higher.iter().any(|(_, state)| state.armed && state.verdict == wanted);
        match base.verdict {
            RungVerdict::Unknown => Verdict::Unknown,
            // a firewall that eats pings is not a death while telephony answers
            RungVerdict::Down if any(RungVerdict::Up) => Verdict::Up,
            RungVerdict::Down => Verdict::Down,
            RungVerdict::Up if any(RungVerdict::Down) => Verdict::Degraded,
            RungVerdict::Up if any(RungVerdict::Unknown) => Verdict::Unknown,
            RungVerdict::Up => Verdict::Up,
        }
    }
}

/// What the references say about this node's own connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Surroundings {
    /// No reference is configured, or none counts: the rule is off.
    NotWatched,
    /// One answers.
    Seen,
    /// None has answered yet, and not all have been silent for long enough.
    Asking,
    /// All that count are silent.
    Silent,
}

/// Losses in a row after which a reference counts as silent. One lost packet is not an isolation.
pub const REFERENCE_DOWN_AFTER: u8 = 3;

/// One reference address' memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReferenceState {
    counts: bool,
    rung: RungState,
}

/// Reference addresses: a router, another server. They tell a dead peer from an isolated self (`safety.md` 1.4).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct References {
    each: Vec<ReferenceState>,
}

impl References {
    /// `count` references of which nothing is known.
    pub fn new(count: usize) -> References {
        References { each: vec![ReferenceState { counts: true, rung: RungState::new(false) }; count] }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.each.len()
    }

    /// Whether none is configured.
    pub fn is_empty(&self) -> bool {
        self.each.is_empty()
    }

    /// Whether reference `index` counts: it has not been silent while the peer answered.
    pub fn counts(&self, index: usize) -> bool {
        self.each.get(index).is_some_and(|one| one.counts)
    }

    /// Takes one outcome. `peer_answers`: the peer is up and its last probe was answered; a reference that is silent
    /// then proves nothing about this node's cable and stops counting until it answers.
    pub fn record(&mut self, index: usize, down_after: u8, outcome: ProbeOutcome, peer_answers: bool) {
        let Some(one) = self.each.get_mut(index) else { return };
        one.rung.record(Counts { down_after, up_after: 1 }, outcome);
        match one.rung.verdict {
            RungVerdict::Up => one.counts = true,
            RungVerdict::Down if peer_answers => one.counts = false,
            RungVerdict::Down | RungVerdict::Unknown => {}
        }
    }

    /// Forgets what they said: the peer has just fallen silent and they are all asked again.
    pub fn ask_again(&mut self) {
        for one in &mut self.each {
            one.rung = RungState::new(one.rung.armed);
        }
    }

    /// What they say together.
    pub fn surroundings(&self) -> Surroundings {
        let mut counting = self.each.iter().filter(|one| one.counts).map(|one| one.rung.verdict).peekable();
        if counting.peek().is_none() {
            return Surroundings::NotWatched;
        }
        counting.fold(Surroundings::Silent, |so_far, verdict| match (so_far, verdict) {
            (Surroundings::Seen, _) | (_, RungVerdict::Up) => Surroundings::Seen,
            (_, RungVerdict::Unknown) => Surroundings::Asking,
            (other, RungVerdict::Down) => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: Counts = Counts { down_after: 2, up_after: 2 };

    fn after(ladder: &mut Ladder, rung: Rung, outcomes: &str) -> Verdict {
        for c in outcomes.chars() {
            ladder.record(rung, TWO, if c == 'r' { ProbeOutcome::Reply } else { ProbeOutcome::Lost });
        }
        ladder.verdict()
    }

    #[test]
    fn only_outcomes_in_a_row_count() {
        let mut ladder = Ladder::new(&[Rung::Host], &[]);
        assert_eq!(after(&mut ladder, Rung::Host, "rlrl"), Verdict::Unknown);
        assert_eq!(after(&mut ladder, Rung::Host, "l"), Verdict::Down);
        assert_eq!(after(&mut ladder, Rung::Host, "rlr"), Verdict::Down);
        assert_eq!(after(&mut ladder, Rung::Host, "r"), Verdict::Up);
    }

    #[test]
    fn a_higher_rung_that_never_answered_decides_nothing() {
        let mut ladder = Ladder::new(&[Rung::Host, Rung::Service], &[]);
        after(&mut ladder, Rung::Host, "rr");
        assert_eq!(after(&mut ladder, Rung::Service, "llll"), Verdict::Up);
        assert_eq!(after(&mut ladder, Rung::Service, "rr"), Verdict::Up);
        assert_eq!(after(&mut ladder, Rung::Service, "ll"), Verdict::Degraded);
        assert_eq!(after(&mut ladder, Rung::Host, "ll"), Verdict::Down);
    }

    #[test]
    fn a_rung_that_was_armed_before_a_restart_is_waited_for() {
        let mut ladder = Ladder::new(&[Rung::Host, Rung::Service], &[Rung::Service]);
        assert_eq!(after(&mut ladder, Rung::Host, "rr"), Verdict::Unknown);
        assert_eq!(after(&mut ladder, Rung::Service, "ll"), Verdict::Degraded);
    }

    #[test]
    fn lost_pings_are_not_a_death_while_telephony_answers() {
        let mut ladder = Ladder::new(&[Rung::Host, Rung::Service], &[]);
        after(&mut ladder, Rung::Host, "rr");
        after(&mut ladder, Rung::Service, "rr");
        assert_eq!(after(&mut ladder, Rung::Host, "llll"), Verdict::Up);
    }

    #[test]
    fn a_reference_that_is_silent_while_the_peer_answers_does_not_count() {
        let mut references = References::new(2);
        assert_eq!(references.surroundings(), Surroundings::Asking);
        for _ in 0..REFERENCE_DOWN_AFTER {
            references.record(0, REFERENCE_DOWN_AFTER, ProbeOutcome::Lost, true);
        }
        assert!(!references.counts(0));
        for _ in 0..REFERENCE_DOWN_AFTER {
            references.record(1, REFERENCE_DOWN_AFTER, ProbeOutcome::Lost, false);
        }
        assert_eq!(references.surroundings(), Surroundings::Silent);
        references.record(0, REFERENCE_DOWN_AFTER, ProbeOutcome::Reply, false);
        assert_eq!(references.surroundings(), Surroundings::Seen);
    }

    #[test]
    fn the_modern_detection_takes_at_most_three_and_a_half_seconds() {
        let ms = Duration::from_millis;
        let modern = RungPolicy::new(ms(1000), ms(400), ms(200), 10, 3).unwrap();
        assert_eq!(modern.detection_worst(), ms(3400));
        let fast = RungPolicy::new(ms(100), ms(80), ms(100), 3, 3).unwrap();
        assert_eq!(fast.detection_worst(), ms(360));
        assert_eq!(RungPolicy::new(ms(100), ms(200), ms(100), 3, 3), Err(PolicyError::TimeoutOverInterval));
    }
}
