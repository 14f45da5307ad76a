//! The figures of the README, by `./check --long`, with the release build and nothing beside them.

use std::fs;
use std::process::Command;
use std::time::Duration;

use ha_tests::wait::{pass, seconds};
use ha_tests::{Host, Moment, Pair, Settings};

use crate::followers::{self, MASTER, SLAVE, followed};

/// Runs per figure.
const RUNS: usize = 20;

/// The pair may move as often as it is asked to: what is measured is the way there.
fn moving_at_will(settings: Settings) -> Settings {
    let settings = settings.with("failback", "hold", "\"1s\"").with("failback", "latch_after", "0");
    settings.with("failback", "hold_down", "\"0s\"")
}

/// From the pulled cable to the call of the start command, sorted.
fn takeovers(settings: Settings) -> Option<Vec<Duration>> {
    let pair = Pair::wazo().settings(moving_at_will(settings)).up()?;
    let mut times = Vec::new();
    for run in 0..RUNS {
        // the probes' grid and the cut must not keep step
        pass(Duration::from_millis(137 * run as u64 % 1000));
        let cut = pair.lab.cut(Host::Master);
        times.push(pair.await_start(Host::Slave, cut, seconds(10.0)).at.after(cut));
        pair.lab.heal(Host::Master);
        pair.await_peace(seconds(120.0));
    }
    times.sort();
    Some(times)
}

pub(crate) fn report(what: &str, times: &[Duration]) -> (Duration, Duration) {
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{what}: median {median:.3?}, best {:.3?}, worst {worst:.3?}, {} runs", times[0], times.len());
    (median, worst)
}

#[test]
#[ignore = "the long form: ./check --long"]
fn from_link_cut_to_start_command_with_the_modern_preset() {
    let Some(times) = takeovers(Settings::modern()) else { return };
    let (median, worst) = report("link cut to start command, modern preset", &times);
    assert!(median <= seconds(3.5) && worst <= seconds(4.5));
}

#[test]
#[ignore = "the long form: ./check --long"]
fn from_link_cut_to_start_command_with_probes_every_100_ms() {
    let Some(times) = takeovers(Settings::modern().quick_probes()) else { return };
    let (median, worst) = report("link cut to start command, 100 ms probes", &times);
    assert!(median <= seconds(0.6) && worst <= seconds(0.6));
}

#[test]
#[ignore = "the long form: ./check --long"]
fn from_ready_services_to_the_cc_and_the_edge_that_have_followed() {
    let Some(pair) = followers::pair(moving_at_will(Settings::modern())) else { return };
    let (mut cc, mut edge) = (Vec::new(), Vec::new());
    for _ in 0..RUNS / 2 {
        let cut = pair.lab.cut(Host::Master);
        let start = pair.await_start(Host::Slave, cut, seconds(10.0));
        let there = followed(&pair, SLAVE, start.at);
        let healed = pair.lab.heal(Host::Master);
        let stop = pair.await_stop(Host::Slave, healed, seconds(60.0));
        let back = followed(&pair, MASTER, stop.at);
        for times in [there, back] {
            cc.push(times.cc);
            edge.push(times.edge);
        }
        pair.await_peace(seconds(120.0));
    }
    for (what, times) in [("answering xuc", &mut cc), ("switched Edge", &mut edge)] {
        times.sort();
        // a second of it is xuc's own, in the lab
        let (_, worst) = report(&format!("ready services to {what}"), times);
        assert!(worst <= seconds(5.0));
    }
}

/// What the kernel counted for the daemon: CPU time in ticks of 10 ms, and resident memory now and at most, in KiB.
fn counters(pair: &Pair, host: Host) -> [u64; 3] {
    let script = "p=$(cat /run/lab/daemon.pid); awk '{print $14 + $15 + $16 + $17}' /proc/$p/stat
        awk '/VmRSS/ {print $2}' /proc/$p/status; awk '/VmHWM/ {print $2}' /proc/$p/status";
    let text = pair.lab.sh(host, script).ok();
    let numbers: Vec<u64> = text.lines().filter_map(|line| line.trim().parse().ok()).collect();
    numbers.try_into().expect("three numbers")
}

/// Files that the slave has written on its own disk and in /run since the mark.
fn written_since_mark(pair: &Pair) -> String {
    // its disk is looked at from outside: from inside, what others write on the machine shows through
    let (disk, mark) = (pair.lab.disk(Host::Slave, "/"), pair.lab.mailbox(Host::Slave, "mark"));
    let found = Command::new("find")
        .arg(disk)
        .args(["-type", "f", "-newer"])
        .arg(mark)
        .output()
        .expect("find is installed");
    let run = pair.lab.sh(Host::Slave, "find /run -xdev -type f -newer /run/lab/mark").ok();
    String::from_utf8_lossy(&found.stdout).into_owned() + &run
}

#[test]
#[ignore = "the long form: ./check --long"]
fn a_healthy_slave_does_nothing_for_ten_minutes_and_costs_next_to_nothing() {
    let Some(pair) = Pair::wazo().up() else { return };
    pass(seconds(5.0));
    fs::write(pair.lab.mailbox(Host::Slave, "mark"), "").expect("the mailbox can be written");
    let (begin, before) = (Moment::now(), [Host::Master, Host::Slave].map(|host| counters(&pair, host)));
    let calls = pair.calls(Host::Slave).len();
    pass(seconds(600.0));
    let elapsed = Moment::now().after(begin).as_secs_f64();
    for (host, before) in [Host::Master, Host::Slave].into_iter().zip(before) {
        let [ticks, resident, peak] = counters(&pair, host);
        let cpu = (ticks - before[0]) as f64 / elapsed;
        println!(
            "{host}: {cpu:.2} % of a core, {:.1} MiB resident, {:.1} MiB at most",
            resident as f64 / 1024.0,
            peak as f64 / 1024.0
        );
        assert!(cpu < 0.5, "idle CPU of the {host}");
        assert!(peak <= 20 * 1024, "resident memory of the {host}");
    }
    assert_eq!(pair.calls(Host::Slave).len(), calls, "a healthy slave runs no command");
    assert_eq!(written_since_mark(&pair), "", "a healthy slave writes no file");
    let log = fs::read_to_string(pair.lab.mailbox(Host::Slave, "daemon.log")).unwrap_or_default();
    println!("lines in the slave's log: {}", log.lines().count());
}

/// CPU time, in ticks of 10 ms, of all that looks for changes: the daemon, its relays, and the server's side of their logins.
fn ticks_of_looking(pair: &Pair) -> u64 {
    let logins = "select pid from pg_stat_activity where application_name = 'pbx-ha replication'";
    let backends = pair.sql(Host::Master, logins).split_whitespace().collect::<Vec<_>>().join(" ");
    let script = format!(
        "p=$(cat /run/lab/daemon.pid); for one in $p $(pgrep -P $p) {backends}; do awk '{{print $14 + $15}}' /proc/$one/stat; done"
    );
    pair.lab.sh(Host::Master, &script).ok().lines().filter_map(|line| line.trim().parse::<u64>().ok()).sum()
}

#[test]
#[ignore = "the long form: ./check --long"]
fn looking_for_changes_costs_next_to_nothing_while_fifty_call_events_a_second_are_logged() {
    let settings = Settings::modern().with("replication", "on_change", "true");
    let Some(pair) = Pair::wazo().settings(settings).database(500, 1).up() else { return };
    let everything = |status: &ha_tests::Status| {
        status.document()["replication"]["database"]["would_lose_seconds"].as_u64() == Some(0)
    };
    pair.await_status(Host::Master, "known to have sent everything", seconds(60.0), everything);
    // a transaction of its own each, so that each is counted when it is written
    let logging = "insert into cel select (jsonb_populate_record(c, jsonb_build_object('id', nextval(pg_get_serial_sequence('cel', 'id'))))).* from cel c limit 1 \\watch 0.02\n";
    pair.write(Host::Master, "/run/lab/log.sql", logging);
    let psql = "cd /; chmod 644 /run/lab/log.sql; setsid setpriv --reuid postgres --regid postgres --init-groups psql -X asterisk < /run/lab/log.sql >/run/lab/log.out 2>&1 &";
    pair.lab.sh(Host::Master, psql).ok();
    let events =
        || pair.sql(Host::Master, "select count(*) from cel").trim().parse::<u64>().expect("a count");
    let replicated = || {
        let status = pair.status(Host::Master);
        status.word("/replication/database/last_success").to_owned()
    };
    let (begin, before, logged, last) = (Moment::now(), ticks_of_looking(&pair), events(), replicated());
    pass(seconds(120.0));
    let elapsed = Moment::now().after(begin).as_secs_f64();
    let cpu = (ticks_of_looking(&pair) - before) as f64 / elapsed;
    let rate = (events() - logged) as f64 / elapsed;
    println!("looking for changes beside {rate:.0} call events a second: {cpu:.2} % of a core");
    assert!(rate > 30.0, "{rate} a second: {}", pair.lab.sh(Host::Master, "cat /run/lab/log.out").stdout);
    assert_eq!(replicated(), last, "call events are no change");
    assert!(cpu < 1.0, "{cpu} % of a core");
}
