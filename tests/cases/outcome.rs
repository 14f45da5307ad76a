//! What the client saw of an event, and many of them as a table.

use std::fmt::Write;
use std::time::Duration;

use ha_tests::{Answers, Host, Lab, Moment, Probe};

/// What the client saw of one event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Outcome {
    /// To the first ping that the other node answered; `None`: it never did.
    pub(crate) ping: Option<Duration>,
    /// To its first answer to OPTIONS.
    pub(crate) options: Option<Duration>,
    /// How long Asterisk's stand-in took there from the call of its start to its first answer, which is part of that.
    pub(crate) start: Option<Duration>,
    /// How long both nodes answered, of the time that they were watched.
    pub(crate) overlap: Duration,
    /// How often another node than before answered the pings: once is enough.
    pub(crate) moves: usize,
}

impl Outcome {
    /// Of what was answered since `begin`, when the other node stood by.
    pub(crate) fn new(lab: &Lab, answers: &Answers, begin: Moment, other: Host) -> Outcome {
        let after = |probe| answers.first(probe, other, begin).map(|first| first.after(begin));
        let holdings = answers.holdings(Probe::Ping);
        let before = std::iter::once(other.peer()).chain(holdings.iter().map(|holding| holding.by));
        let moves = before.zip(&holdings).filter(|(before, holding)| *before != holding.by).count();
        Outcome {
            ping: after(Probe::Ping),
            options: after(Probe::Options),
            start: start_of_asterisk(lab, other, begin),
            overlap: answers.overlap(),
            moves,
        }
    }
}

/// How long the stand-in took to answer in the host when it was first started after `begin`.
fn start_of_asterisk(lab: &Lab, host: Host, begin: Moment) -> Option<Duration> {
    let first = |log, name, rest| {
        let mut events = lab.events(host, log).into_iter();
        events.find(|event| event.at > begin && event.is(name, rest)).map(|event| event.at)
    };
    let called = first("calls.log", "systemctl", "start asterisk")?;
    Some(first("sip.log", "booted", "")?.after(called))
}

/// Median, least and most of what is there, in seconds.
fn spread(times: impl Iterator<Item = Duration>) -> Option<String> {
    let mut times: Vec<Duration> = times.collect();
    times.sort();
    let [first, .., last] = times.as_slice() else {
        return times.first().map(|only| format!("{:.3}", only.as_secs_f64()));
    };
    let median = times[times.len() / 2].as_secs_f64();
    Some(format!("{median:.3} ({:.3} to {:.3})", first.as_secs_f64(), last.as_secs_f64()))
}

/// The figures of one event, as a line of the table below [`HEAD`].
pub(crate) fn row(engine: &str, event: &str, outcomes: &[Outcome]) -> String {
    let runs = outcomes.len();
    let column = |time: fn(&Outcome) -> Option<Duration>| {
        let never = outcomes.iter().filter(|outcome| time(outcome).is_none()).count();
        let mut text = spread(outcomes.iter().filter_map(time)).unwrap_or_default();
        if never > 0 {
            let sep = if text.is_empty() { "" } else { ", " };
            write!(text, "{sep}never in {never}").expect("a string takes everything");
        }
        text
    };
    let both = outcomes.iter().filter(|outcome| !outcome.overlap.is_zero()).count();
    let longest = outcomes.iter().map(|outcome| outcome.overlap).max().unwrap_or_default();
    let moves = outcomes.iter().map(|outcome| outcome.moves).max().unwrap_or_default();
    format!(
        "| {engine} | {event} | {runs} | {} | {} | {} | {both} | {:.1} | {moves} |",
        column(|outcome| outcome.ping),
        column(|outcome| outcome.options),
        column(|outcome| outcome.start),
        longest.as_secs_f64() * 1000.0,
    )
}

/// The head of the table. Times are seconds from the event: median (least to most). Nodes are watched for 3 s after the
/// takeover, and after the end of a cut or freeze: two owners for that long are two owners for good.
pub(crate) const HEAD: &str = "| engine | event | runs | first ping, s | first OPTIONS, s | of it start, s | runs with two owners | both answer at most, ms | moves at most |\n\
    | --- | --- | ---: | --- | --- | --- | ---: | ---: | ---: |";

#[test]
fn a_row_of_figures_says_how_often_nobody_took_over_and_both_did() {
    let ms = Duration::from_millis;
    let outcome = |time: Option<u64>, overlap: u64, moves: usize| Outcome {
        ping: time.map(ms),
        options: time.map(|time| ms(time + 200)),
        start: time.map(|_| ms(190)),
        overlap: ms(overlap),
        moves,
    };
    let outcomes = [outcome(Some(300), 0, 1), outcome(None, 0, 0), outcome(Some(100), 70, 3)];
    assert_eq!(
        row("some engine", "host crash", &outcomes),
        "| some engine | host crash | 3 | 0.300 (0.100 to 0.300), never in 1 | 0.500 (0.300 to 0.500), never in 1 | 0.190 (0.190 to 0.190), never in 1 | 1 | 70.0 | 3 |"
    );
    assert_eq!(HEAD.lines().next().map(|line| line.matches('|').count()), Some(10));
}
