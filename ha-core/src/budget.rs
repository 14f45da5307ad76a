//! The longest outage that the settings allow for, term by term, against what the documents promise.

use std::fmt;
use std::time::Duration;

use crate::profile::{SeedRound, ServicePlan};

/// How phones find the node that has taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phones {
    /// They know both nodes and change when a registration at the first one stays unanswered.
    Register {
        /// The longest registration that the PBX grants: so long a phone may not notice anything.
        sip_max_expiry: Duration,
        /// How long a phone tries the first node before it asks the other one.
        give_up: Duration,
    },
    /// They know one address, which moves.
    VirtualAddress,
}

/// One part of the outage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// What passes meanwhile.
    pub name: &'static str,
    /// At most.
    pub duration: Duration,
    /// Where the figure comes from.
    pub source: &'static str,
    /// Whether it adds to the total; otherwise it passes while a longer one does.
    pub counts: bool,
}

/// The outage of one phone in the worst case (`safety.md` 6.4).
///
/// ```
/// use std::time::Duration;
/// use ha_core::budget::{Budget, Phones};
///
/// let phones =
///     Phones::Register { sip_max_expiry: Duration::from_secs(300), give_up: Duration::from_secs(32) };
/// let seeds = Budget::new(
///     Duration::from_secs(90),
///     Duration::from_secs(120),
///     phones,
///     Duration::from_secs(300),
/// );
/// assert_eq!(seeds.total, Duration::from_secs(332));
/// assert_eq!(seeds.over(), Some(Duration::from_secs(32)));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// In the order in which they pass.
    pub terms: Vec<Term>,
    /// The sum of those that count.
    pub total: Duration,
    /// What the documents promise.
    pub promise: Duration,
}

impl Budget {
    /// From the figures in force: `detection` and `start` at their worst ([`detection_worst`], [`start_worst`]).
    pub fn new(detection: Duration, start: Duration, phones: Phones, promise: Duration) -> Budget {
        let takeover = detection.saturating_add(start);
        let (source, unnoticed, give_up) = match phones {
            Phones::Register { sip_max_expiry, give_up } => ("[probe]", Some(sip_max_expiry), Some(give_up)),
            Phones::VirtualAddress => ("[cluster], or the watchdog when Asterisk hangs", None, None),
        };
        let by_takeover = unnoticed.is_none_or(|expiry| takeover >= expiry);
        let term = |name, duration, source, counts| Term { name, duration, source, counts };
        let mut terms = vec![
            term("detection", detection, source, by_takeover),
            term("start of telephony", start, "time-outs of the start commands", by_takeover),
        ];
        terms.extend(
            unnoticed
                .map(|expiry| term("SIP maximum expiry", expiry, "the PBX's SIP settings", !by_takeover)),
        );
        terms.extend(give_up.map(|wait| term("phone gives up", wait, "[phones] give_up", true)));
        let total = terms
            .iter()
            .filter(|term| term.counts)
            .fold(Duration::ZERO, |sum, term| sum.saturating_add(term.duration));
        Budget { terms, total, promise }
    }

    /// How much longer than promised. `None`: the promise is kept.
    pub fn over(&self) -> Option<Duration> {
        self.total.checked_sub(self.promise).filter(|over| !over.is_zero())
    }

    /// The term to change when the promise is not kept: the longest of those that count.
    pub fn too_large(&self) -> Option<&Term> {
        self.over()?;
        self.terms.iter().filter(|term| term.counts).max_by_key(|term| term.duration)
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Term { name, duration, source, counts } in &self.terms {
            let remark = if *counts { "" } else { " (passes meanwhile)" };
            writeln!(f, "{name:<20} {:>10}  {source}{remark}", seconds(*duration))?;
        }
        writeln!(f, "{:<20} {:>10}", "worst-case outage", seconds(self.total))?;
        writeln!(f, "{:<20} {:>10}", "promise", seconds(self.promise))?;
        match (self.over(), self.too_large()) {
            (Some(over), Some(term)) => {
                match term.duration.checked_sub(over).filter(|left| !left.is_zero()) {
                    Some(left) => write!(
                        f,
                        "over by {}: {} is too large, {} would keep the promise",
                        seconds(over),
                        term.name,
                        seconds(left)
                    ),
                    None => write!(f, "over by {}: {} alone is too large", seconds(over), term.name),
                }
            }
            _ => write!(f, "within the promise"),
        }
    }
}

/// With a fraction only when there is one, and then rounded up: a budget is never printed as shorter than it is.
fn seconds(duration: Duration) -> String {
    let millis = duration.as_nanos().div_ceil(1_000_000);
    if millis.is_multiple_of(1000) {
        format!("{} s", millis / 1000)
    } else {
        format!("{}.{:03} s", millis / 1000, millis % 1000)
    }
}

/// From the death to the verdict at the latest, on a grid of probes that becomes denser at the first loss
/// (`safety.md` 1.1).
///
/// The host dies right after it has answered: up to `interval` until the next probe, its `timeout`, then the other
/// `down_after - 1` probes, one every `suspect_interval`, and the last one's `timeout`.
pub fn detection_worst(
    interval: Duration,
    timeout: Duration,
    suspect_interval: Duration,
    down_after: u32,
) -> Duration {
    let first = interval.saturating_add(timeout);
    match down_after {
        0 | 1 => first,
        more => first.saturating_add(suspect_interval.saturating_mul(more - 2)).saturating_add(timeout),
    }
}

/// From the death to the verdict at the latest, in rounds of pings.
///
/// The host dies right after it has answered the first ping of a round, which makes the round good: a whole round later every
/// ping is lost, and the last one's `timeout` ends it.
pub fn seed_detection_worst(round: &SeedRound, timeout: Duration) -> Duration {
    round
        .every
        .saturating_add(round.spacing.saturating_mul(round.pings.saturating_sub(1)))
        .saturating_add(timeout)
}

/// From the decision to the first answer at the latest: every start command that phones wait for runs into its time-out.
pub fn start_worst(plan: &ServicePlan) -> Duration {
    plan.start
        .iter()
        .filter(|step| step.before_service)
        .fold(Duration::ZERO, |sum, step| sum.saturating_add(step.timeout))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::OnFailure;
    use crate::profile::Step;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn the_seeds_own_figures_are_over_and_the_expiry_is_named() {
        let phones = Phones::Register { sip_max_expiry: s(300), give_up: s(32) };
        let budget = Budget::new(s(90), s(120), phones, s(300));
        assert_eq!(budget.total, s(332));
        assert_eq!(budget.over(), Some(s(32)));
        assert_eq!(budget.too_large().map(|term| term.name), Some("SIP maximum expiry"));
        assert_eq!(
            budget.to_string(),
            "\
detection                  90 s  [probe] (passes meanwhile)
start of telephony        120 s  time-outs of the start commands (passes meanwhile)
SIP maximum expiry        300 s  the PBX's SIP settings
phone gives up             32 s  [phones] give_up
worst-case outage         332 s
promise                   300 s
over by 32 s: SIP maximum expiry is too large, 268 s would keep the promise"
        );
    }

    #[test]
    fn a_takeover_slower_than_the_expiry_counts_instead_of_it() {
        let phones = Phones::Register { sip_max_expiry: s(60), give_up: s(32) };
        let budget = Budget::new(MS(3400), s(120), phones, s(300));
        assert_eq!(budget.total, MS(155_400));
        assert_eq!(budget.over(), None);
        assert_eq!(budget.too_large(), None);
        assert!(budget.to_string().contains("worst-case outage     155.400 s"), "{budget}");
        assert!(budget.to_string().ends_with("within the promise"));
    }

    #[test]
    fn phones_behind_a_virtual_address_wait_for_nothing_else() {
        let budget = Budget::new(s(1), s(400), Phones::VirtualAddress, s(300));
        assert_eq!(budget.total, s(401));
        assert_eq!(budget.too_large().map(|term| term.name), Some("start of telephony"));
        assert_eq!(budget.terms.len(), 2);
    }

    #[test]
    fn exactly_the_promise_is_kept() {
        let phones = Phones::Register { sip_max_expiry: s(268), give_up: s(32) };
        assert_eq!(Budget::new(s(1), s(1), phones, s(300)).over(), None);
    }

    #[test]
    fn detection_takes_what_the_safety_rules_work_out() {
        assert_eq!(detection_worst(s(1), MS(400), MS(200), 10), MS(3400));
        assert_eq!(detection_worst(MS(100), MS(80), MS(100), 3), MS(360));
        assert_eq!(detection_worst(s(1), MS(400), MS(200), 1), MS(1400));
        let round = SeedRound { pings: 3, spacing: s(10), every: s(60) };
        assert_eq!(seed_detection_worst(&round, s(10)), s(90));
    }

    #[test]
    fn only_the_commands_that_phones_wait_for_count() {
        const fn step(timeout: Duration, before_service: bool) -> Step {
            Step { argv: &["true"], timeout, on_failure: OnFailure::Fail, before_service }
        }
        const PLAN: ServicePlan = ServicePlan {
            start: &[step(s(10), true), step(s(120), false), step(s(90), true)],
            stop: &[step(s(1000), true)],
            status: step(s(5), true),
        };
        assert_eq!(start_worst(&PLAN), s(100));
    }
}
