//! The same faults on every engine that moves the address, seen by the same client.

use std::fmt::Write;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use ha_tests::wait::{self, pass, seconds};
use ha_tests::{Answers, Host, Lab, Moment, Probe, VipWatch, skip_allowed};

use crate::cluster::{Engine, Heartbeat, Keepalived};

/// What happens to the active node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    HostCrash,
    LinkCut,
    EngineKilled,
    EngineFrozen,
    Switchover,
    AsteriskCrash,
    /// Nothing may move.
    BusyMachine,
}

impl Event {
    pub(crate) const ALL: [Event; 7] = [
        Event::HostCrash,
        Event::LinkCut,
        Event::EngineKilled,
        Event::EngineFrozen,
        Event::Switchover,
        Event::AsteriskCrash,
        Event::BusyMachine,
    ];

    fn name(self) -> &'static str {
        match self {
            Event::HostCrash => "host crash",
            Event::LinkCut => "link cut, then healed",
            Event::EngineKilled => "SIGKILL of the engine",
            Event::EngineFrozen => "SIGSTOP of the engine, then SIGCONT",
            Event::Switchover => "planned switchover",
            Event::AsteriskCrash => "Asterisk crash",
            Event::BusyMachine => "8 busy loops for 60 s",
        }
    }

    /// How many of so many runs are of this event: what counts most is measured most.
    fn share(self, runs: usize) -> usize {
        match self {
            Event::HostCrash | Event::LinkCut => runs,
            Event::EngineKilled | Event::EngineFrozen | Event::Switchover | Event::AsteriskCrash => runs / 2,
            Event::BusyMachine => runs / 10,
        }
    }

    fn strike(self, engine: &dyn Engine, lab: &Lab, active: Host) -> Moment {
        let begin = Moment::now();
        match self {
            Event::HostCrash => drop(lab.crash(active)),
            Event::LinkCut => drop(lab.cut(active)),
            Event::EngineKilled => engine.kill(lab, active),
            Event::EngineFrozen => engine.freeze(lab, active),
            Event::Switchover => engine.switchover(lab, active),
            Event::AsteriskCrash => {
                drop(lab.sh(active, "kill -KILL $(cat /run/asterisk/asterisk.pid)").ok());
            }
            Event::BusyMachine => {
                let loops =
                    "for i in 1 2 3 4 5 6 7 8; do timeout 60 sh -c 'while :; do :; done' & done; wait";
                drop(lab.sh(active, loops));
            }
        }
        begin
    }

    /// The end of what ends by itself in life, watched for a while: only then is seen what a node that was cut off or frozen
    /// does.
    fn undo(self, engine: &dyn Engine, lab: &Lab, active: Host) {
        match self {
            Event::LinkCut => drop(lab.heal(active)),
            Event::EngineFrozen => engine.thaw(lab, active),
            Event::HostCrash
            | Event::EngineKilled
            | Event::Switchover
            | Event::AsteriskCrash
            | Event::BusyMachine => return,
        }
        pass(AFTERWARDS);
    }
}

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
    fn new(lab: &Lab, answers: &Answers, begin: Moment, other: Host) -> Outcome {
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

/// How long the two nodes are watched after the takeover, and after the fault has ended.
const AFTERWARDS: Duration = Duration::from_secs(3);

/// One event on a fresh pair; `phase` comes before it, so that events and beats do not keep step. `None`: no lab here.
pub(crate) fn observe(engine: &dyn Engine, event: Event, phase: Duration) -> Option<Outcome> {
    let lab = Lab::up()?;
    let sark = format!("{}/lab/sark.sh", env!("CARGO_MANIFEST_DIR"));
    thread::scope(|scope| {
        for host in [Host::Master, Host::Slave] {
            let (lab, sark) = (&lab, &sark);
            scope.spawn(move || {
                lab.exec(host, &[sark]).ok();
                engine.install(lab, host);
                engine.start(lab, host);
            });
        }
    });
    let watch = VipWatch::start(&lab);
    let (active, other) = (Host::Master, Host::Slave);
    let started = Moment::now();
    let answered = |by: Host, since: Moment| watch.so_far().first(Probe::Options, by, since).is_some();
    let serves = |host: Host, limit: Duration, since: Moment| {
        let end = Instant::now() + limit;
        while Instant::now() < end && !answered(host, since) {
            pass(seconds(0.05));
        }
        answered(host, since)
    };
    let cold = seconds(60.0);
    assert!(serves(active, cold, started), "{} does not serve at all: {}", engine.name(), watch.so_far());
    // VRRP's lower priority may have been first, and what it started must have stopped again
    wait::until("the other node stands by", seconds(10.0), || {
        (lab.sh(other, "systemctl is-active asterisk").code == 3).then_some(())
    });
    // the dust of the start settles: announcements are repeated, the lower priority is heard
    pass(seconds(2.0) + phase);
    let begin = event.strike(engine, &lab, active);
    serves(other, 2 * engine.notices_within() + seconds(4.0), begin);
    pass(AFTERWARDS);
    event.undo(engine, &lab, active);
    Some(Outcome::new(&lab, &watch.end().since(begin), begin, other))
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
pub(crate) fn row(engine: &str, event: Event, outcomes: &[Outcome]) -> String {
    let (name, runs) = (event.name(), outcomes.len());
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
        "| {engine} | {name} | {runs} | {} | {} | {} | {both} | {:.1} | {moves} |",
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

/// Whether the engine is installed; says so when it is not.
fn installed(engine: &dyn Engine) -> bool {
    let (program, package) = engine.program();
    let there = Path::new(program).exists();
    if !there {
        skip_allowed(&format!("{program} is missing (package {package})"));
    }
    there
}

/// Each event's share of so many runs.
fn table(engine: &dyn Engine, runs: usize) {
    if !installed(engine) {
        return;
    }
    println!("{HEAD}");
    for event in Event::ALL {
        let mut outcomes = Vec::new();
        for run in 0..event.share(runs) {
            let Some(outcome) = observe(engine, event, Duration::from_millis(137 * run as u64 % 1000)) else {
                return;
            };
            eprintln!("{} {event:?} {outcome:?}", engine.name());
            outcomes.push(outcome);
        }
        println!("{}", row(&engine.name(), event, &outcomes));
    }
}

const KEEPALIVED: Keepalived = Keepalived { advert: Duration::from_millis(100) };
const HEARTBEAT: Heartbeat =
    Heartbeat { keepalive: Duration::from_millis(200), deadtime: Duration::from_secs(2) };

#[test]
#[ignore = "the long form: ./check --long"]
fn figures_of_keepalived_with_an_advert_every_100_ms() {
    table(&KEEPALIVED, 20);
}

#[test]
#[ignore = "the long form: ./check --long"]
fn figures_of_keepalived_with_an_advert_every_second() {
    table(&Keepalived { advert: Duration::from_secs(1) }, 10);
}

#[test]
#[ignore = "the long form: ./check --long"]
fn figures_of_heartbeat_with_a_deadtime_of_2_s() {
    table(&HEARTBEAT, 20);
}

#[test]
#[ignore = "the long form: ./check --long"]
fn figures_of_heartbeat_with_a_deadtime_of_10_s() {
    table(&Heartbeat { keepalive: Duration::from_secs(1), deadtime: Duration::from_secs(10) }, 10);
}

/// One crash, seen as the figures are: the comparison works on this machine.
fn takes_over(engine: &dyn Engine) {
    if !installed(engine) {
        return;
    }
    let Some(outcome) = observe(engine, Event::HostCrash, Duration::ZERO) else { return };
    let (Some(ping), Some(options)) = (outcome.ping, outcome.options) else {
        panic!("nobody took over: {outcome:?}");
    };
    // Asterisk's stand-in takes 0.2 s by itself, and Heartbeat starts it after the address
    assert!(ping <= options + seconds(0.05) && outcome.start >= Some(seconds(0.2)), "{outcome:?}");
    assert!(options <= 3 * engine.notices_within() + seconds(6.0), "{outcome:?}");
    assert_eq!((outcome.overlap, outcome.moves), (Duration::ZERO, 1), "a dead host answers nothing");
    println!("{HEAD}\n{}", row(&engine.name(), Event::HostCrash, &[outcome]));
}

#[test]
fn keepalived_of_debian_takes_over_from_a_crashed_host() {
    takes_over(&KEEPALIVED);
}

#[test]
fn heartbeat_of_debian_takes_over_from_a_crashed_host() {
    takes_over(&HEARTBEAT);
}

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
        row("some engine", Event::HostCrash, &outcomes),
        "| some engine | host crash | 3 | 0.300 (0.100 to 0.300), never in 1 | 0.500 (0.300 to 0.500), never in 1 | 0.190 (0.190 to 0.190), never in 1 | 1 | 70.0 | 3 |"
    );
    assert_eq!(HEAD.lines().next().map(|line| line.matches('|').count()), Some(10));
}
