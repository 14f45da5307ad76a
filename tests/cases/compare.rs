//! The same faults on every engine that moves the address, seen by the same client.

use std::env;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ha_tests::wait::{self, pass, seconds};
use ha_tests::{Host, Lab, Moment, Probe, VipWatch, skip_allowed};

use crate::cluster::{Engine, Heartbeat, Keepalived, Native};
use crate::outcome::{HEAD, Outcome, row};

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

    /// How often it is looked at where the others are so often: it takes a minute, and has the machine for itself.
    fn runs(self, others: usize) -> usize {
        if self == Event::BusyMachine { others.div_ceil(10) } else { others }
    }

    /// How many pairs are looked at side by side: all of it is waiting, but for the busy machine.
    fn at_once(self) -> usize {
        if self == Event::BusyMachine { 1 } else { 4 }
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
            });
        }
    });
    // the primary first: what VRRP's lower priority starts in the meantime, keepalived stops in no certain order
    for host in [Host::Master, Host::Slave] {
        engine.start(&lab, host);
    }
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

/// Whether the engine is installed; says so when it is not.
fn installed(engine: &dyn Engine) -> bool {
    let (program, package) = engine.program();
    let there = Path::new(program).exists();
    if !there {
        skip_allowed(&format!("{program} is missing (package {package})"));
    }
    there
}

/// The events that `COMPARE_EVENTS` lists by their names in [`Event`], such as `HostCrash,LinkCut`; all without it.
fn events() -> Vec<Event> {
    let Ok(wanted) = env::var("COMPARE_EVENTS") else { return Event::ALL.to_vec() };
    let named = |name: &str| Event::ALL.into_iter().find(|event| format!("{event:?}") == name);
    let event = |name| named(name).unwrap_or_else(|| panic!("no event {name:?}, but {:?}", Event::ALL));
    wanted.split(',').map(event).collect()
}

/// Each event so often.
fn table(engine: &dyn Engine, runs: usize) {
    if !installed(engine) {
        return;
    }
    println!("{HEAD}");
    for event in events() {
        let (next, outcomes) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        thread::scope(|scope| {
            for _ in 0..event.at_once() {
                scope.spawn(|| {
                    loop {
                        let run = next.fetch_add(1, Ordering::Relaxed);
                        if run >= event.runs(runs) {
                            return;
                        }
                        let phase = Duration::from_millis(137 * run as u64 % 1000);
                        let Some(outcome) = observe(engine, event, phase) else { return };
                        eprintln!("{} {event:?} {outcome:?}", engine.name());
                        outcomes.lock().expect("nobody panics with it").push(outcome);
                    }
                });
            }
        });
        let outcomes = outcomes.into_inner().expect("nobody panics with it");
        if outcomes.is_empty() {
            return;
        }
        println!("{}", row(&engine.name(), event.name(), &outcomes));
        let both = outcomes.iter().any(|outcome| !outcome.overlap.is_zero());
        assert!(!both || !engine.is_exclusive(), "two nodes answered");
    }
}

const KEEPALIVED: Keepalived = Keepalived { advert: Duration::from_millis(100) };
const HEARTBEAT: Heartbeat =
    Heartbeat { keepalive: Duration::from_millis(200), deadtime: Duration::from_secs(2) };

#[test]
#[ignore = "the long form: ./check --long"]
fn figures_of_our_own_cluster() {
    table(&Native::default_terms(), 20);
}

#[test]
#[ignore = "the long form: ./check --long"]
fn figures_of_our_own_cluster_with_the_shortest_lease() {
    table(&Native::fast_terms(), 20);
}

#[test]
#[ignore = "the long form: ./check --long"]
fn figures_of_keepalived_with_an_advert_every_100_ms() {
    table(&KEEPALIVED, 10);
}

#[test]
#[ignore = "the long form: ./check --long"]
fn figures_of_keepalived_with_an_advert_every_second() {
    table(&Keepalived { advert: Duration::from_secs(1) }, 6);
}

#[test]
#[ignore = "the long form: ./check --long"]
fn figures_of_heartbeat_with_a_deadtime_of_2_s() {
    table(&HEARTBEAT, 10);
}

#[test]
#[ignore = "the long form: ./check --long"]
fn figures_of_heartbeat_with_a_deadtime_of_10_s() {
    table(&Heartbeat { keepalive: Duration::from_secs(1), deadtime: Duration::from_secs(10) }, 6);
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
    println!("{HEAD}\n{}", row(&engine.name(), Event::HostCrash.name(), &[outcome]));
}

#[test]
fn keepalived_of_debian_takes_over_from_a_crashed_host() {
    takes_over(&KEEPALIVED);
}

#[test]
fn heartbeat_of_debian_takes_over_from_a_crashed_host() {
    takes_over(&HEARTBEAT);
}
