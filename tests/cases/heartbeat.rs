//! A pair that shares one address, with Debian's Heartbeat as the cluster: it decides, and telephony follows.

use std::path::Path;
use std::time::Duration;

use ha_tests::wait::{self, pass, seconds};
use ha_tests::{Host, Moment, Pair, Probe, Settings, Status, VIP, VipWatch, skip_allowed};

const LIMIT: Duration = Duration::from_secs(20);
/// Heartbeat needs 13 s from its start to its first move, whatever its settings.
const AFTER_A_START: Duration = Duration::from_secs(40);

/// Whether the real one is here; says so when it is not.
pub(crate) fn is_installed() -> bool {
    let program = "/usr/libexec/heartbeat/heartbeat";
    let is_there = Path::new(program).exists();
    if !is_there {
        skip_allowed(&format!("{program} is missing (package heartbeat)"));
    }
    is_there
}

/// It finds a dead node after two seconds.
pub(crate) fn quick(settings: Settings) -> Settings {
    settings.heartbeat("200ms", "2s")
}

/// A pair in peace.
fn pair(settings: Settings) -> Option<Pair> {
    if !is_installed() {
        return None;
    }
    let pair = Pair::sark().settings(quick(settings)).up()?;
    // Asterisk may have run before Heartbeat brought the address
    serves_alone(&pair, Host::Master, AFTER_A_START);
    fetches(&pair);
    Some(pair)
}

fn holds(status: &Status) -> bool {
    status.document()["address"]["held"] == true
}

/// The slave has asked the master's engine, which has carried what its node held newer.
fn could_hand_back(status: &Status) -> bool {
    status.peer() == "up" && status.document()["cluster"]["other_node_says"] == "it could serve"
}

fn has_address(pair: &Pair, host: Host) -> bool {
    pair.lab.sh(host, "ip -o address show dev eth0").ok().contains(&format!(" {VIP}/24 "))
}

/// The slave has the master's data: no master that comes back would be emptied by becoming equal to it.
fn fetches(pair: &Pair) {
    pair.ha(Host::Slave, "replicate").exits(0);
}

/// Waits until this node alone has the address and telephony, and the other one stands by.
#[track_caller]
fn serves_alone(pair: &Pair, host: Host, limit: Duration) {
    pair.await_status(host, "serving", limit, |status| holds(status) && status.services() == "running");
    pair.await_status(host.peer(), "standing by", limit, |status| {
        !holds(status) && status.services() == "stopped" && status.peer() == "up"
    });
    assert!(has_address(pair, host) && !has_address(pair, host.peer()));
}

/// Heartbeat passes over what it is asked for while it moves something.
fn by_hand(pair: &Pair, host: Host, command: &str) {
    wait::until("nothing moves", LIMIT, || {
        let moves = |host| pair.lab.sh(host, "cl_status rscstatus").stdout.contains("transition");
        (!moves(host) && !moves(host.peer())).then_some(())
    });
    pair.lab.exec(host, &[&format!("/usr/share/heartbeat/{command}")]).ok();
}

/// To all of its processes.
fn signal_heartbeat(pair: &Pair, host: Host, signal: &str) {
    pair.lab.sh(host, &format!("kill -{signal} $(pgrep -f '^heartbeat: ')")).ok();
}

#[track_caller]
fn answers(watch: &VipWatch, host: Host, since: Moment) {
    let first = || watch.so_far().first(Probe::Options, host, since);
    wait::until("it answers", AFTER_A_START, first);
}

#[test]
fn telephony_goes_where_heartbeat_moves_the_address() {
    use Host::{Master, Slave};
    if !is_installed() {
        return;
    }
    // the native cluster keeps the address closed where its engine has ended
    let Some(pair) = Pair::sark().up() else { return };
    for host in [Master, Slave] {
        pair.signal_daemon(host, "TERM");
        pair.write(host, "/etc/pbx-ha/pbx-ha.toml", &quick(Settings::sark()).on(host).to_string());
    }
    for host in [Master, Slave] {
        wait::until("the engine has ended", LIMIT, || (!pair.daemon_runs(host)).then_some(()));
        pair.start_daemon(host);
    }
    serves_alone(&pair, Master, AFTER_A_START);
    fetches(&pair);
    let watch = VipWatch::start(&pair.lab);
    let begin = Moment::now();
    answers(&watch, Master, begin);

    let files = "cat /etc/ha.d/haresources; stat -c '%a %n' /etc/ha.d/authkeys";
    let written = pair.lab.sh(Master, files).ok();
    assert_eq!(written, pair.lab.sh(Slave, files).ok());
    assert!(written.contains("\nmaster IPaddr2::10.77.0.100/24/eth0 sark-ha\n600 "), "{written}");
    let status = pair.status(Master);
    assert!(status.word("/cluster/assumption").contains("each Heartbeat hears the other"), "{status:?}");
    let well = [
        "the resource script are as the settings say",
        "the other node has the same address, names and kind of cluster",
    ];
    for host in [Master, Slave] {
        pair.ha(host, "doctor").says(&well);
    }
    pair.ha(Slave, "services start").exits(3).says(&["address"]);

    // Asterisk dies
    pair.lab.sh(Master, "kill -KILL $(cat /run/asterisk/asterisk.pid)").ok();
    serves_alone(&pair, Slave, LIMIT);
    // by hand, past the engine
    by_hand(&pair, Slave, "hb_standby");
    serves_alone(&pair, Master, LIMIT);
    by_hand(&pair, Slave, "hb_takeover");
    serves_alone(&pair, Slave, LIMIT);
    // through the engine
    pair.await_status(Slave, "aware of it", LIMIT, could_hand_back);
    pair.ha(Slave, "failback").exits(0);
    serves_alone(&pair, Master, LIMIT);

    // the engine ends, and Heartbeat with it
    pair.signal_daemon(Master, "TERM");
    wait::until("the engine has ended", LIMIT, || (!pair.daemon_runs(Master)).then_some(()));
    pair.await_status(Slave, "serving", LIMIT, |status| holds(status) && status.services() == "running");
    assert!(!has_address(&pair, Master));
    pair.lab.sh(Master, "! systemctl is-active asterisk && ! pgrep -f '^heartbeat: '").ok();
    pair.start_daemon(Master);
    serves_alone(&pair, Slave, AFTER_A_START);

    // the engine is killed, and systemd does what its unit says
    pair.kill_daemon(Slave);
    for ran in pair.clear_up_after_daemon(Slave) {
        ran.ok();
    }
    pair.await_status(Master, "serving", LIMIT, |status| holds(status) && status.services() == "running");
    assert!(!has_address(&pair, Slave));
    pair.start_daemon(Slave);
    serves_alone(&pair, Master, LIMIT);
    let answers = watch.end().since(begin);
    assert_eq!(answers.overlap(), Duration::ZERO, "{answers}");

    let ha_cf = pair.lab.root(Slave).join("etc/ha.d/ha.cf");
    assert!(ha_cf.exists());
    pair.ha(Slave, "configure disabled").ok();
    wait::until("what the engine wrote is gone", LIMIT, || (!ha_cf.exists()).then_some(()));
}

/// A node that dies and comes back, then a line that is cut and healed; `home`: who serves after the first.
fn breaks_and_mends(pair: &Pair, home: Host) {
    let watch = VipWatch::start(&pair.lab);
    let crash = pair.lab.crash(Host::Master);
    answers(&watch, Host::Slave, crash);
    let boot = pair.boot(Host::Master);
    serves_alone(pair, home, AFTER_A_START);
    pass(seconds(2.0));
    let seen = watch.end().since(boot);
    let came_home = seen.first(Probe::Options, Host::Master, boot).is_some();
    assert_eq!((seen.overlap(), came_home), (Duration::ZERO, home == Host::Master), "{seen}");

    pair.lab.part(Host::Master, Host::Slave);
    // what Heartbeat cannot do better, and `status` says so
    wait::until("both serve", LIMIT, || {
        [Host::Master, Host::Slave]
            .iter()
            .all(|host| pair.try_status(*host).is_some_and(|it| holds(&it)))
            .then_some(())
    });
    pair.lab.mend();
    settles(pair);
}

/// Heartbeat begins anew at one node or at both, in its own time; then one serves, and it stays so.
#[track_caller]
fn settles(pair: &Pair) {
    let mut since = None;
    wait::until("one of them serves, and it stays so", 4 * LIMIT, || {
        let serves = |host: Host| {
            let status = pair.try_status(host)?;
            let runs = status.services() == "running";
            (holds(&status) == runs && status.peer() == "up" && has_address(pair, host) == runs)
                .then_some(runs)
        };
        let one =
            matches!((serves(Host::Master), serves(Host::Slave)), (Some(one), Some(other)) if one != other);
        if !one {
            since = None;
        }
        let begin = *since.get_or_insert_with(Moment::now);
        (one && Moment::now().after(begin) > seconds(4.0)).then_some(())
    });
}

#[test]
fn a_master_that_was_dead_stands_by_and_one_serves_after_a_line_was_cut() {
    let Some(pair) = pair(Settings::sark()) else { return };
    let watch = VipWatch::start(&pair.lab);
    let begin = Moment::now();
    signal_heartbeat(&pair, Host::Master, "KILL");
    answers(&watch, Host::Slave, begin);
    // it is started again when the slave must have missed it
    serves_alone(&pair, Host::Slave, AFTER_A_START);
    assert_eq!(watch.end().since(begin).overlap(), Duration::ZERO, "one that was killed holds nothing");
    pair.await_status(Host::Slave, "aware of it", LIMIT, could_hand_back);
    pair.ha(Host::Slave, "failback").exits(0);
    serves_alone(&pair, Host::Master, LIMIT);
    breaks_and_mends(&pair, Host::Slave);
}

#[test]
fn a_master_gets_the_address_back_where_the_policy_waits_for_nothing_but_the_carry() {
    let settings =
        Settings::sark().with("failback", "policy", "\"automatic\"").with("failback", "hold", "\"0s\"");
    let Some(pair) = pair(settings) else { return };
    breaks_and_mends(&pair, Host::Master);
}

#[test]
fn a_heartbeat_that_is_frozen_loses_the_address_and_one_serves_after_it_wakes() {
    let Some(pair) = pair(Settings::sark()) else { return };
    let watch = VipWatch::start(&pair.lab);
    let begin = Moment::now();
    signal_heartbeat(&pair, Host::Master, "STOP");
    answers(&watch, Host::Slave, begin);
    // a machine may be busy: an answer is waited for longer than the slave waits for a beat
    pair.await_status(Host::Master, "at rest", LIMIT, |status| {
        !holds(status) && status.services() == "stopped"
    });
    assert!(!has_address(&pair, Host::Master));
    let alone = Moment::now();
    pass(seconds(3.0));
    assert_eq!(watch.so_far().since(alone).overlap(), Duration::ZERO);
    signal_heartbeat(&pair, Host::Master, "CONT");
    settles(&pair);
    println!("{}", watch.end().since(begin));
}
