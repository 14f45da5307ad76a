//! The figures of the README, by `./check --long`, with the release build and nothing beside them.

use std::fs;
use std::process::Command;
use std::time::Duration;

use ha_tests::wait::{pass, seconds};
use ha_tests::{Host, Moment, Pair, Settings};

/// Runs per figure.
const RUNS: usize = 20;

/// From the pulled cable to the call of the start command, sorted.
fn takeovers(settings: Settings) -> Option<Vec<Duration>> {
    // the pair may move as often as it is asked to: what is measured is the way there
    let settings = settings.with("failback", "hold", "\"1s\"").with("failback", "latch_after", "0");
    let pair = Pair::wazo().settings(settings.with("failback", "hold_down", "\"0s\"")).up()?;
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

fn report(what: &str, times: &[Duration]) -> (Duration, Duration) {
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
