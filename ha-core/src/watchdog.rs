//! Whether telephony that runs here lives: three checks on a fixed grid, outcomes to a verdict.
//!
//! SARK's page has a daemon that looks for the Asterisk process every few seconds. That finds a crash and no hang, so
//! Asterisk is asked at its own console and over SIP, too (`domain.md` 6). Each check counts only once it has succeeded
//! since telephony was started: SIP answers later than the console, and a console that nobody may use says nothing.

use std::fmt;
use std::time::Duration;

use crate::health::ProbeOutcome;
use crate::time::Instant;

/// Names one check that was given out. A report that names another one changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckId(pub u64);

/// What is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Check {
    /// The telephony daemon's process exists: one look, nothing that can hang.
    Process,
    /// The daemon answers at its console, by a command with a deadline and SIGKILL of its own.
    Console,
    /// It answers SIP OPTIONS; any answer is one.
    Sip,
}

impl Check {
    /// All of them, in the order in which telephony comes up.
    pub const ALL: [Check; 3] = [Check::Process, Check::Console, Check::Sip];
}

/// How often and how patiently telephony is looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchdogPolicy {
    /// Between two checks of a kind. Not zero.
    pub interval: Duration,
    /// When a check counts as lost; not longer than `interval`.
    pub timeout: Duration,
    /// Losses in a row, of the console or of SIP, that are a death. A process is missed once. At least 1.
    pub down_after: u8,
    /// How long after its start telephony may take until all three have succeeded: the time-outs of the start commands.
    pub grace: Duration,
}

impl WatchdogPolicy {
    /// A hang is found within 8 s, a crash within 2 s; three losses, so that one reload of a large dialplan is no death.
    pub const fn modern(grace: Duration) -> WatchdogPolicy {
        let two = Duration::from_secs(2);
        WatchdogPolicy { interval: two, timeout: two, down_after: 3, grace }
    }

    /// From a hang to the verdict at the latest: it begins right after an answer.
    pub fn detection_worst(&self) -> Duration {
        self.interval.saturating_mul(u32::from(self.down_after)).saturating_add(self.timeout)
    }
}

/// The verdict on telephony that runs here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Health {
    /// It was started, and not every check has succeeded since.
    Starting,
    /// It answers.
    Alive,
    /// It does not.
    Dead(Death),
}

/// Why telephony counts as dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Death {
    /// There is no process any more.
    Gone,
    /// It does not answer at its console.
    Hangs,
    /// It does not answer SIP.
    Deaf,
    /// Its start succeeded, and this check never did.
    Never(Check),
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Death::Gone => "its process is gone",
            Death::Hangs => "it does not answer at its console",
            Death::Deaf => "it does not answer SIP",
            Death::Never(Check::Process) => "its process was not seen within the start time",
            Death::Never(Check::Console) => "it did not answer at its console within the start time",
            Death::Never(Check::Sip) => "it did not answer SIP within the start time",
        })
    }
}

/// A report that has not come this long after its time-out never comes: the check counts as lost.
const OVERDUE: Duration = Duration::from_secs(1);

/// Looks after telephony from its start to its end, and then after the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Watchdog {
    policy: WatchdogPolicy,
    /// `None`: telephony is not wanted here, or is being started or stopped.
    watch: Option<Watch>,
}

/// What is known of telephony since one start.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Watch {
    health: Health,
    answers_by: Instant,
    lines: [Line; 3],
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    check: Check,
    next: Instant,
    waiting: Option<(CheckId, Instant)>,
    /// It has succeeded since the start.
    armed: bool,
    losses: u8,
}

impl Watchdog {
    pub(crate) fn new(policy: WatchdogPolicy) -> Watchdog {
        Watchdog { policy, watch: None }
    }

    pub(crate) fn health(&self) -> Option<Health> {
        self.watch.as_ref().map(|watch| watch.health)
    }

    /// Telephony runs here and is to be looked after, or no longer. One that died and runs again is another one.
    pub(crate) fn watch(&mut self, now: Instant, runs: bool) {
        let goes_on = self.watch.as_ref().is_some_and(|watch| !matches!(watch.health, Health::Dead(_)));
        if !runs {
            self.watch = None;
        } else if !goes_on {
            let line = |check| Line { check, next: now, waiting: None, armed: false, losses: 0 };
            let (health, answers_by) = (Health::Starting, now + self.policy.grace);
            self.watch = Some(Watch { health, answers_by, lines: Check::ALL.map(line) });
        }
    }

    /// Something saw no process: look at once.
    pub(crate) fn look(&mut self, now: Instant) {
        if let Some(watch) = &mut self.watch {
            watch.lines[Check::Process as usize].next = now;
        }
    }

    /// The loop slept: what was on the way then proves nothing, and telephony slept as well.
    pub(crate) fn start_over(&mut self, now: Instant) {
        let Some(watch) = &mut self.watch else { return };
        watch.answers_by = watch.answers_by.max(now + self.policy.grace);
        for line in &mut watch.lines {
            (line.waiting, line.losses, line.next) = (None, 0, now);
        }
    }

    /// When something is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let watch = self.watch.as_ref().filter(|watch| !matches!(watch.health, Health::Dead(_)))?;
        let grace = (watch.health == Health::Starting).then_some(watch.answers_by);
        let lines = watch.lines.iter().map(|line| match line.waiting {
            Some((_, sent)) => Some(sent + self.policy.timeout + OVERDUE),
            None => watch.may_ask(line.check).then_some(line.next),
        });
        lines.chain([grace]).flatten().min()
    }

    /// Takes a report; one of an unknown id changes nothing. True: telephony died of it.
    pub(crate) fn report(&mut self, id: CheckId, outcome: ProbeOutcome) -> bool {
        let down_after = self.policy.down_after;
        self.watch.as_mut().is_some_and(|watch| {
            let waiting = |line: &&mut Line| line.waiting.is_some_and(|(one, _)| one == id);
            let Some(line) = watch.lines.iter_mut().find(waiting) else { return false };
            line.take(outcome);
            watch.judge(down_after)
        })
    }

    /// Checks whose report never came, and telephony that never answered. True: it died of it.
    pub(crate) fn overdue(&mut self, now: Instant) -> bool {
        let WatchdogPolicy { timeout, down_after, .. } = self.policy;
        self.watch.as_mut().is_some_and(|watch| {
            for line in &mut watch.lines {
                if line.waiting.is_some_and(|(_, sent)| sent + timeout + OVERDUE <= now) {
                    line.take(ProbeOutcome::Lost);
                }
            }
            watch.judge(down_after) || watch.hurry(now)
        })
    }

    /// Checks that are due; a grid point that was missed is skipped, and so is one whose predecessor is on the way.
    pub(crate) fn due(
        &mut self,
        now: Instant,
        mut id: impl FnMut() -> CheckId,
        mut ask: impl FnMut(CheckId, Check, Duration),
    ) {
        let WatchdogPolicy { interval, timeout, .. } = self.policy;
        let Some(watch) = self.watch.as_mut().filter(|watch| !matches!(watch.health, Health::Dead(_))) else {
            return;
        };
        for check in Check::ALL {
            let may_ask = watch.may_ask(check);
            let line = &mut watch.lines[check as usize];
            if !may_ask || line.waiting.is_some() || line.next > now {
                continue;
            }
            while line.next <= now {
                line.next = line.next + interval;
            }
            let id = id();
            line.waiting = Some((id, now));
            ask(id, check, timeout);
        }
    }
}

impl Watch {
    /// SIP is not asked before the console has answered: an Asterisk that is coming up would refuse, and count it.
    fn may_ask(&self, check: Check) -> bool {
        check != Check::Sip || self.lines[Check::Console as usize].armed
    }

    /// True: it died just now.
    fn judge(&mut self, down_after: u8) -> bool {
        if matches!(self.health, Health::Dead(_)) {
            return false;
        }
        let dead = self.lines.iter().find_map(|line| match line.check {
            _ if !line.armed => None,
            Check::Process => (line.losses >= 1).then_some(Death::Gone),
            Check::Console => (line.losses >= down_after).then_some(Death::Hangs),
            Check::Sip => (line.losses >= down_after).then_some(Death::Deaf),
        });
        if let Some(death) = dead {
            self.health = Health::Dead(death);
        } else if self.lines.iter().all(|line| line.armed) {
            self.health = Health::Alive;
        }
        dead.is_some()
    }

    fn hurry(&mut self, now: Instant) -> bool {
        let is_late = self.health == Health::Starting && self.answers_by <= now;
        let never = self.lines.iter().find(|line| is_late && !line.armed);
        if let Some(line) = never {
            self.health = Health::Dead(Death::Never(line.check));
        }
        matches!(self.health, Health::Dead(_)) && is_late
    }
}

impl Line {
    fn take(&mut self, outcome: ProbeOutcome) {
        self.waiting = None;
        match outcome {
            ProbeOutcome::Reply => (self.armed, self.losses) = (true, 0),
            ProbeOutcome::Lost => self.losses = self.losses.saturating_add(1),
        }
    }
}

#[cfg(test)]
mod tests;
