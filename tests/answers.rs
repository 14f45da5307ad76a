use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::{Host, Moment, ground};

/// Between two probes of a kind.
pub const PERIOD: Duration = Duration::from_millis(10);

/// A host that answers again within this time has answered all along, as far as anybody can tell.
const WINDOW: Duration = Duration::from_millis(100);

/// The ways in which the address is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Probe {
    /// Echo requests that go where the client's neighbour table sends them: what a phone finds.
    Ping,
    /// SIP OPTIONS, the same way.
    Options,
    /// Echo requests to both nodes' hardware addresses at once: who would answer, whatever a neighbour table says. A second
    /// holder shows here even while nobody happens to ask it.
    Both,
}

/// One answer from the address.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer {
    /// To what.
    pub probe: Probe,
    /// To which: counted from 1.
    pub number: u64,
    /// When that was asked.
    pub sent: Moment,
    /// When the client's kernel received it.
    pub at: Moment,
    /// Which node's kernel sent it, by its TTL.
    pub by: Host,
}

impl Answer {
    /// From when on it shows that the host held the address. What waited in a queue was asked long before.
    fn from(&self) -> Moment {
        self.sent.max(self.at - PERIOD)
    }
}

/// A time in which one host answered without a pause that anybody could notice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Holding {
    /// Which.
    pub by: Host,
    /// Its first answer.
    pub from: Moment,
    /// Its last one.
    pub to: Moment,
}

/// A time between two answers in which probes were sent and none was answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Silence {
    /// The last answer before it.
    pub from: Moment,
    /// The first one after it.
    pub to: Moment,
    /// Who gave the one before.
    pub before: Host,
    /// Who gave the one after.
    pub after: Host,
}

impl Silence {
    /// How long it was.
    pub fn length(&self) -> Duration {
        self.to.after(self.from)
    }
}

/// Who answered the address, and when.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answers {
    /// In the order of their receipt.
    pub(crate) answers: Vec<Answer>,
    /// Probes that were sent, of each kind.
    pub(crate) sent: u64,
    /// Answers that came from another address than the one that was asked: a phone drops them.
    pub(crate) strays: u64,
}

impl Answers {
    /// What was answered of so many probes of each kind.
    pub fn new(sent: u64, answers: impl IntoIterator<Item = Answer>) -> Answers {
        let mut answers: Vec<Answer> = answers.into_iter().collect();
        answers.sort_by(|one, other| one.at.seconds().total_cmp(&other.at.seconds()));
        Answers { answers, sent, strays: 0 }
    }

    /// What was answered from `since` on; the rest is forgotten.
    pub fn since(&self, since: Moment) -> Answers {
        let answers = self.answers.iter().filter(|answer| answer.at >= since).copied().collect();
        Answers { answers, ..*self }
    }

    /// The answers to one kind of probe, in the order of their receipt.
    pub fn to(&self, probe: Probe) -> impl Iterator<Item = &Answer> {
        self.answers.iter().filter(move |answer| answer.probe == probe)
    }

    /// Probes sent, of each kind.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Answers that came from another address than the one that was asked.
    pub fn strays(&self) -> u64 {
        self.strays
    }

    /// The host's first answer to a probe that was sent after `since`.
    pub fn first(&self, probe: Probe, by: Host, since: Moment) -> Option<Moment> {
        self.to(probe).find(|answer| answer.by == by && answer.sent > since).map(|answer| answer.at)
    }

    /// Times of at least that length in which nothing that was asked was answered, each between two answers.
    pub fn silences(&self, probe: Probe, at_least: Duration) -> Vec<Silence> {
        let answers: Vec<&Answer> = self.to(probe).collect();
        // where no number is missing, it was the client that did not ask: a busy machine
        let asked = answers.windows(2).filter(|pair| pair[1].number > pair[0].number + 1);
        let silences = asked.map(|pair| Silence {
            from: pair[0].at,
            to: pair[1].at,
            before: pair[0].by,
            after: pair[1].by,
        });
        silences.filter(|silence| silence.length() >= at_least).collect()
    }

    /// Who answered one kind of probe and from when to when, by its first answer; pauses shorter than 100 ms are none.
    pub fn holdings(&self, probe: Probe) -> Vec<Holding> {
        let mut holdings: Vec<Holding> = Vec::new();
        for answer in self.to(probe) {
            let running = holdings.iter_mut().rev().find(|holding| holding.by == answer.by);
            match running.filter(|holding| answer.at.after(holding.to) < WINDOW) {
                Some(holding) => holding.to = answer.at,
                None => holdings.push(Holding { by: answer.by, from: answer.from(), to: answer.at }),
            }
        }
        holdings
    }

    /// Who held the address at that moment, as far as one kind of probe shows.
    pub fn holders(&self, probe: Probe, at: Moment) -> Vec<Host> {
        let holdings = self.holdings(probe).into_iter();
        holdings.filter(|holding| holding.from <= at && at <= holding.to).map(|holding| holding.by).collect()
    }

    /// The times in which both nodes answered, by any probe; none wanted.
    pub fn overlaps(&self) -> Vec<(Moment, Moment)> {
        let all = [Probe::Ping, Probe::Options, Probe::Both];
        let holdings: Vec<Holding> = all.into_iter().flat_map(|probe| self.holdings(probe)).collect();
        let by = |host: Host| holdings.iter().filter(move |holding| holding.by == host);
        let mut both: Vec<(Moment, Moment)> = by(Host::Master)
            .flat_map(|one| by(Host::Slave).map(|other| (one.from.max(other.from), one.to.min(other.to))))
            .filter(|(from, to)| from < to)
            .collect();
        both.sort_by(|one, other| one.0.seconds().total_cmp(&other.0.seconds()));
        let mut merged: Vec<(Moment, Moment)> = Vec::new();
        for (from, to) in both {
            match merged.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        merged
    }

    /// For how long in all both nodes answered; 0 wanted.
    pub fn overlap(&self) -> Duration {
        self.overlaps().into_iter().map(|(from, to)| to.after(from)).sum()
    }

    /// Fails if both nodes ever answered, for good: it is a failure once among many attempts too.
    #[track_caller]
    pub fn never_both(&self) {
        let overlap = self.overlap();
        if !overlap.is_zero() {
            ground::unforgivable(&format!("both nodes answered for {overlap:?}"));
            panic!("both nodes answered for {overlap:?}\n{self}");
        }
    }

    /// Probes that both nodes answered.
    pub fn doubles(&self) -> usize {
        let mut hosts: BTreeMap<(Probe, u64), [bool; 2]> = BTreeMap::new();
        for answer in &self.answers {
            let seen = hosts.entry((answer.probe, answer.number)).or_default();
            seen[usize::from(answer.by == Host::Slave)] = true;
        }
        hosts.values().filter(|seen| **seen == [true; 2]).count()
    }
}

/// Each holding and each overlap as a line, in seconds since the first answer; for messages.
impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(begin) = self.answers.first().map(|answer| answer.at) else {
            return write!(f, "no answer to {} probes", self.sent);
        };
        let second = |moment: Moment| moment.seconds() - begin.seconds();
        for probe in [Probe::Ping, Probe::Options, Probe::Both] {
            for Holding { by, from, to } in self.holdings(probe) {
                writeln!(f, "{probe:?} {by} {:.3} to {:.3}", second(from), second(to))?;
            }
        }
        for (from, to) in self.overlaps() {
            writeln!(f, "both nodes {:.3} to {:.3}", second(from), second(to))?;
        }
        write!(f, "{} probes of each kind, {} strays, {} doubles", self.sent, self.strays, self.doubles())
    }
}
