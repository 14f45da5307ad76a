//! When whom is asked: probes on a fixed grid, outcomes taken in the order in which the probes were sent.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use crate::event::{ProbeId, Target};
use crate::health::{ProbeOutcome, RungPolicy};
use crate::time::Instant;

/// A report that has not come this long after its time-out never comes: the probe counts as lost.
const OVERDUE: Duration = Duration::from_secs(1);

/// One address that is asked again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    target: Target,
    address: IpAddr,
    timeout: Duration,
    pace: Duration,
    next: Instant,
    last_sent: Option<Instant>,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Waiting {
    id: ProbeId,
    sent: Instant,
    outcome: Option<ProbeOutcome>,
}

/// A probe that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) id: ProbeId,
    pub(crate) target: Target,
    pub(crate) address: IpAddr,
    pub(crate) timeout: Duration,
}

/// All lines of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Probing {
    lines: Vec<Line>,
}

impl Probing {
    /// Asks `target` at `address` from `now` on, as `policy` says.
    pub(crate) fn add(
        &mut self,
        now: Instant,
        target: Target,
        address: IpAddr,
        policy: &RungPolicy,
        pace: Duration,
    ) {
        let (timeout, waiting) = (policy.timeout(), VecDeque::new());
        self.lines.push(Line { target, address, timeout, pace, next: now, last_sent: None, waiting });
    }

    /// When something is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let overdue = |line: &Line| line.waiting.front().map(|one| one.sent + line.timeout + OVERDUE);
        self.lines.iter().flat_map(|line| [Some(line.next), overdue(line)]).flatten().min()
    }

    /// The loop slept: what was on the way then proves nothing, and everybody is asked anew.
    pub(crate) fn start_over(&mut self, now: Instant) {
        for line in &mut self.lines {
            line.waiting.clear();
            line.next = now;
        }
    }

    /// How long `target` waits between probes from now on. A shorter pace begins at once.
    pub(crate) fn pace(&mut self, now: Instant, target: Target, pace: Duration) {
        let Some(line) = self.lines.iter_mut().find(|line| line.target == target) else { return };
        if pace < line.pace {
            line.next = line.next.min(now);
        } else if pace > line.pace {
            line.next = line.last_sent.map_or(now, |sent| sent + pace);
        }
        line.pace = pace;
    }

    /// Takes a report. Returns the outcomes that can now be counted, oldest probe first; none for an unknown id.
    pub(crate) fn report(&mut self, id: ProbeId, outcome: ProbeOutcome) -> Vec<(Target, ProbeOutcome)> {
        for line in &mut self.lines {
            if let Some(one) = line.waiting.iter_mut().find(|one| one.id == id && one.outcome.is_none()) {
                one.outcome = Some(outcome);
                return line.settled();
            }
        }
        Vec::new()
    }

    /// Outcomes of probes whose report never came.
    pub(crate) fn overdue(&mut self, now: Instant) -> Vec<(Target, ProbeOutcome)> {
        let mut outcomes = Vec::new();
        for line in &mut self.lines {
            for one in &mut line.waiting {
                if one.outcome.is_none() && one.sent + line.timeout + OVERDUE <= now {
                    one.outcome = Some(ProbeOutcome::Lost);
                }
            }
            outcomes.extend(line.settled());
        }
        outcomes
    }

    /// Probes that are due; a grid point that was missed is skipped, not caught up with.
    pub(crate) fn due(&mut self, now: Instant, mut id: impl FnMut() -> ProbeId, mut ask: impl FnMut(Due)) {
        for line in &mut self.lines {
            if line.next > now {
                continue;
            }
            while line.next <= now {
                line.next = line.next + line.pace;
            }
            let id = id();
            line.last_sent = Some(now);
            line.waiting.push_back(Waiting { id, sent: now, outcome: None });
            ask(Due { id, target: line.target, address: line.address, timeout: line.timeout });
        }
    }
}

impl Line {
    fn settled(&mut self) -> Vec<(Target, ProbeOutcome)> {
        let mut outcomes = Vec::new();
        while let Some(outcome) = self.waiting.front().and_then(|one| one.outcome) {
            self.waiting.pop_front();
            outcomes.push((self.target, outcome));
        }
        outcomes
    }
}
