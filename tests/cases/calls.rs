//! Calls to the address of a pair, answered by Asterisk 16 as Debian has it: with its own unit, and ours, under systemd.

use std::path::Path;
use std::time::Duration;

use ha_tests::wait::{self, seconds};
use ha_tests::{Host, Moment, Pair, Settings, Status, VIP, VipWatch};

use crate::asterisk::{self, AsteriskRoot, Phones};
use crate::{heartbeat, long};

/// What the phones say of their calls.
const LOG: &str = "call.log";
/// Calls a second.
const RATE: usize = 10;
/// SARK's page: "able to fail over in under 30 seconds".
const PROMISE: Duration = Duration::from_secs(30);

/// The hook by which Asterisk answers from the address.
const BIND: &str = r#"["sed", "-i", "s/^bind=.*/bind={cluster_ip}:5060/", "/etc/asterisk/pjsip.conf"]"#;

/// Starts and kills Asterisk seven times, or as often as systemd starts it: how often that was, and what systemd says.
const SEVEN_STARTS: &str = "n=0
    while [ $n -lt 7 ] && systemctl start asterisk 2>/dev/null; do
        n=$((n + 1)); kill -KILL $(systemctl show -p MainPID --value asterisk)
        while systemctl is-active -q asterisk; do sleep 0.02; done
    done
    echo $n; journalctl --no-pager -o cat -u asterisk | grep -o 'Start request repeated too quickly'";

/// A pair, and phones that call.
struct Site {
    // ended before their network is
    _sipp: Phones,
    pair: Pair,
    _root: AsteriskRoot,
}

/// Both nodes as their packages leave them: no role is configured, nothing runs.
fn nodes(settings: Settings) -> Option<(Pair, AsteriskRoot)> {
    if !Path::new("/lib/systemd/systemd").exists() {
        ha_tests::skip("/lib/systemd/systemd is missing (package systemd)");
        return None;
    }
    let root = AsteriskRoot::unpack()?;
    let settings = settings.with("sark", "bind", BIND);
    let pair = Pair::sark().settings(settings).lower(&root.lower()).systemd().unconfigured().up()?;
    let version = pair.lab.sh(Host::Master, "asterisk -V").ok();
    assert!(version.starts_with("Asterisk 16"), "{version}");
    Some((pair, root))
}

fn holds(status: &Status) -> bool {
    status.document()["address"]["held"] == true
}

impl Site {
    /// The master serves, the slave stands by, calls are answered.
    fn begin((pair, root): (Pair, AsteriskRoot)) -> Site {
        pair.start_daemon(Host::Master);
        pair.start_daemon(Host::Slave);
        let sipp = asterisk::phones(&pair.lab, VIP, "call.xml", RATE, LOG, &[]);
        let site = Site { _sipp: sipp, pair, _root: root };
        site.serves(Host::Master);
        site.stands_by(Host::Slave);
        site.answers_since(Moment::now());
        site
    }

    fn serves(&self, host: Host) {
        self.pair.await_status(host, "serving", PROMISE, |status| {
            holds(status) && status.services() == "running" && status.word("/health/state") == "alive"
        });
    }

    fn stands_by(&self, host: Host) {
        self.pair.await_status(host, "standing by", seconds(20.0), |status| {
            !holds(status) && status.services() == "stopped" && status.peer() == "up"
        });
        self.pair.await_status(host.peer(), "aware of it", seconds(20.0), |status| status.peer() == "up");
    }

    /// When calls were answered, in their order.
    fn answered(&self) -> Vec<Moment> {
        let said = asterisk::said(&self.pair.lab, LOG).into_iter();
        let mut answered: Vec<Moment> = said.filter(|call| call.rest == "ok").map(|call| call.at).collect();
        answered.sort_by(|one, other| one.partial_cmp(other).expect("times are numbers"));
        answered
    }

    /// Waits until calls are answered that were put after `since`.
    fn answers_since(&self, since: Moment) {
        wait::until("calls are answered", seconds(10.0), || {
            (self.answered().into_iter().filter(|at| *at > since).count() > RATE / 2).then_some(())
        });
    }

    /// Strikes the node that serves, and waits for the other one: the longest time in which no call was answered.
    fn pause_of(&self, from: Host, what: &str, strike: impl FnOnce(&Pair)) -> Duration {
        let begin = Moment::now();
        strike(&self.pair);
        self.serves(from.peer());
        self.answers_since(Moment::now());
        let answered = self.answered();
        let pauses = answered.windows(2).filter(|pair| pair[1] > begin).map(|pair| pair[1].after(pair[0]));
        let pause = pauses.max().expect("calls were answered");
        println!("{what}: no call was answered for {pause:.2?}");
        assert!(pause < PROMISE, "{what}: {pause:?}");
        pause
    }

    fn switchover(&self, from: Host) -> Duration {
        let pause = self.pause_of(from, "switchover", |pair| {
            pair.ha(from, "switchover").ok();
        });
        self.stands_by(from);
        pause
    }

    fn signal_asterisk(&self, from: Host, signal: &str) -> Duration {
        let kill = format!("kill -{signal} $(systemctl show -p MainPID --value asterisk)");
        let what = format!("SIG{signal} to Asterisk");
        let pause = self.pause_of(from, &what, |pair| {
            pair.lab.sh(from, &kill).ok();
        });
        self.stands_by(from);
        pause
    }

    fn kill_engine(&self, from: Host) -> Duration {
        let pause = self.pause_of(from, "SIGKILL to the engine", |pair| pair.signal_daemon(from, "KILL"));
        self.stands_by(from);
        pause
    }

    fn crash(&self, from: Host) -> Duration {
        let pause = self.pause_of(from, "crash of the machine", |pair| {
            pair.lab.crash(from);
        });
        self.pair.boot(from);
        self.stands_by(from);
        pause
    }

    /// What systemd itself does with Asterisk's unit.
    fn shown(&self, host: Host) -> String {
        show(&self.pair, host, "ActiveState NRestarts")
    }
}

/// Properties of Asterisk's unit, each as `Name=value`.
fn show(pair: &Pair, host: Host, properties: &str) -> String {
    let script = format!("for p in {properties}; do systemctl show -p $p asterisk; done");
    pair.lab.sh(host, &script).ok().lines().collect::<Vec<_>>().join(" ")
}

#[test]
fn calls_to_a_real_asterisk_are_answered_again_after_all_that_can_happen_to_it() {
    let Some(nodes) = nodes(Settings::sark().fast_lease()) else { return };
    let (pair, limits) = (&nodes.0, "Restart StartLimitIntervalUSec TimeoutStopUSec");
    let before = show(pair, Host::Slave, limits);
    assert_eq!(before, "Restart=on-failure StartLimitIntervalUSec=10s TimeoutStopUSec=1min 30s");
    pair.configure();
    for host in [Host::Master, Host::Slave] {
        assert_eq!(show(pair, host, limits), "Restart=no StartLimitIntervalUSec=0 TimeoutStopUSec=5s");
    }
    assert_eq!(pair.lab.sh(Host::Slave, SEVEN_STARTS).stdout, "7\n");

    let site = Site::begin(nodes);
    let watch = VipWatch::start(&site.pair.lab);
    let moves = Moment::now();
    for from in [Host::Master, Host::Slave].repeat(3) {
        site.pair.ha(from, "switchover").ok();
        site.pair.await_status(from.peer(), "serving", PROMISE, |status| {
            holds(status) && status.services() == "running" && status.peer() == "up"
        });
    }
    println!("six switchovers: {:.1?}", Moment::now().after(moves));
    site.serves(Host::Master);
    site.answers_since(Moment::now());

    site.switchover(Host::Master);
    site.signal_asterisk(Host::Slave, "KILL");
    assert_eq!(site.shown(Host::Slave), "ActiveState=failed NRestarts=0", "nobody else starts it");
    site.signal_asterisk(Host::Master, "STOP");
    assert_eq!(site.shown(Host::Master), "ActiveState=inactive NRestarts=0");
    site.kill_engine(Host::Slave);
    assert_eq!(site.shown(Host::Slave), "ActiveState=inactive NRestarts=0", "it does not outlive the engine");
    site.crash(Host::Master);

    let answers = watch.end();
    answers.never_both();
    assert_eq!(answers.strays(), 0, "{answers}");
}

#[test]
fn calls_to_a_real_asterisk_are_answered_again_where_heartbeat_moves_the_address_under_systemd() {
    if !heartbeat::is_installed() {
        return;
    }
    let Some(nodes) = nodes(heartbeat::quick(Settings::sark())) else { return };
    nodes.0.configure();
    let site = Site::begin(nodes);
    let shown = |host| site.pair.lab.sh(host, "systemctl show -p ActiveState --value heartbeat").ok();
    assert_eq!([Host::Master, Host::Slave].map(shown), ["active\n"; 2]);
    site.switchover(Host::Master);
    site.signal_asterisk(Host::Slave, "KILL");
    site.kill_engine(Host::Master);
    site.crash(Host::Slave);
    site.pair.lab.sh(Host::Slave, "systemctl stop sark-ha").ok();
    assert_eq!(shown(Host::Slave), "inactive\n", "it ends with the engine");
    site.serves(Host::Master);
}

#[test]
#[ignore = "the long form: ./check --long"]
fn as_packaged_a_real_asterisk_that_dies_often_is_not_started_any_more() {
    let Some((pair, _root)) = nodes(Settings::sark()) else { return };
    // the package's own restarts count as well
    let starts = pair.lab.sh(Host::Slave, SEVEN_STARTS).stdout;
    let (count, said) = starts.split_once('\n').expect("two lines");
    assert!(count.parse::<u32>().expect("a number") < 7, "{starts}");
    assert_eq!(said, "Start request repeated too quickly\n");
    // what the engine does before each start is enough by itself
    pair.lab.sh(Host::Slave, "systemctl reset-failed '[a]sterisk.service' && systemctl start asterisk").ok();
}

#[test]
#[ignore = "the long form: ./check --long"]
fn from_a_failure_to_the_next_answered_call_of_a_real_asterisk() {
    for (terms, settings) in [("1 s", Settings::sark()), ("300 ms", Settings::sark().fast_lease())] {
        let Some(nodes) = nodes(settings) else { return };
        nodes.0.configure();
        let site = Site::begin(nodes);
        let watch = VipWatch::start(&site.pair.lab);
        let mut times: [Vec<Duration>; 5] = Default::default();
        for from in [Host::Master, Host::Slave].repeat(3) {
            let to = from.peer();
            let pauses = [
                site.switchover(from),
                site.signal_asterisk(to, "KILL"),
                site.signal_asterisk(from, "STOP"),
                site.kill_engine(to),
                site.crash(from),
            ];
            times.iter_mut().zip(pauses).for_each(|(times, pause)| times.push(pause));
        }
        let answers = watch.end();
        answers.never_both();
        assert_eq!(answers.strays(), 0, "{answers}");
        let events =
            ["switchover", "SIGKILL to Asterisk", "SIGSTOP to Asterisk", "SIGKILL to the engine", "crash"];
        for (event, times) in events.into_iter().zip(&mut times) {
            times.sort();
            let (_, worst) = long::report(&format!("no call answered, lease {terms}, {event}"), times);
            assert!(worst < seconds(15.0));
        }
    }
}
