//! A pair that shares one address, with the native cluster: telephony is where the address is.

use ha_tests::wait::{self, seconds};
use ha_tests::{Host, Moment, Pair, Settings, Status};

fn holds(status: &Status) -> bool {
    status.document()["address"]["held"] == true
}

#[test]
fn telephony_goes_with_the_address_by_request_and_when_the_daemon_ends() {
    let Some(pair) = Pair::sark().settings(Settings::sark().fast_lease()).up() else { return };
    let serves = |host: Host| {
        pair.await_status(host, "serving", seconds(20.0), |status| {
            holds(status) && status.services() == "running" && status.peer() == "up"
        });
        pair.await_status(host.peer(), "standing by", seconds(20.0), |status| {
            !holds(status) && status.services() == "stopped" && status.peer() == "up"
        });
    };
    serves(Host::Master);
    pair.ha(Host::Slave, "switchover").exits(3);
    pair.ha(Host::Slave, "services start").exits(3);
    pair.ha(Host::Master, "switchover").exits(0);
    serves(Host::Slave);
    pair.ha(Host::Slave, "failback").exits(0);
    serves(Host::Master);
    let status = pair.status(Host::Master);
    assert_eq!(status.word("/address/vip"), "10.77.0.100");

    // as a reload of Debian's nftables does
    let (epoch, flushed) = (status.document()["cluster"]["epoch"].clone(), Moment::now());
    pair.lab.exec(Host::Master, &["nft", "flush", "ruleset"]).ok();
    let mended = |status: &Status| holds(status) && status.document()["cluster"]["gate_lost"] == 1;
    let status = pair.await_status(Host::Master, "aware of the flush", seconds(5.0), mended);
    assert_eq!(status.document()["cluster"]["epoch"], epoch, "the address was let go");
    pair.lab.exec(Host::Master, &["nft", "list", "table", "inet", "pbx_ha"]).ok();
    pair.assert_untouched(Host::Master, flushed);
    assert!(status.word("/cluster/assumption").contains("at least one direction of one path"), "{status:?}");

    pair.signal_daemon(Host::Master, "TERM");
    let gone = || (!pair.daemon_runs(Host::Master)).then_some(());
    wait::until("the daemon ends", seconds(20.0), gone);
    pair.await_status(Host::Slave, "serving", seconds(20.0), |status| {
        holds(status) && status.services() == "running"
    });
    pair.lab.sh(Host::Master, "! systemctl is-active asterisk").ok();
}

#[test]
fn a_crash_of_asterisk_and_one_of_the_whole_node_move_address_and_telephony() {
    let Some(pair) = Pair::sark().settings(Settings::sark().fast_lease()).up() else { return };
    let serves = |host: Host| {
        pair.await_status(host, "serving", seconds(20.0), |status| {
            holds(status) && status.services() == "running" && status.word("/health/state") == "alive"
        });
    };
    serves(Host::Master);
    pair.await_status(Host::Master, "hearing the other node", seconds(20.0), |status| status.peer() == "up");
    pair.lab.sh(Host::Master, "kill -KILL $(cat /run/asterisk/asterisk.pid)").ok();
    serves(Host::Slave);
    let stands_by = |status: &Status| !holds(status) && status.services() == "stopped";
    pair.await_status(Host::Master, "standing by", seconds(20.0), stands_by);

    pair.lab.crash(Host::Slave);
    serves(Host::Master);
}

/// Where no systemd clears up after it: the packaged unit stops Asterisk then, because nobody knows when the next engine comes.
#[test]
fn an_engine_that_is_killed_and_started_anew_in_time_leaves_telephony_alone() {
    let Some(pair) = Pair::sark().up() else { return };
    let in_place = |status: &Status| holds(status) && status.services() == "running" && status.peer() == "up";
    let before = pair.await_status(Host::Master, "serving", seconds(20.0), in_place);
    let killed = Moment::now();
    pair.kill_daemon(Host::Master);
    pair.start_daemon(Host::Master);
    let taken_anew = |status: &Status| {
        in_place(status) && status.document()["cluster"]["epoch"] != before.document()["cluster"]["epoch"]
    };
    pair.await_status(Host::Master, "serving again", seconds(20.0), taken_anew);
    pair.assert_untouched(Host::Master, killed);
}

#[test]
fn a_node_that_leaves_the_pair_keeps_nothing_from_using_the_address() {
    let Some(pair) = Pair::sark().settings(Settings::sark().fast_lease()).up() else { return };
    let gates = |host: Host| pair.lab.sh(host, "nft list tables").ok();
    assert!(gates(Host::Slave).contains("pbx_ha"), "{}", gates(Host::Slave));
    pair.ha(Host::Slave, "configure disabled").ok();
    wait::until("the gate is gone", seconds(10.0), || (!gates(Host::Slave).contains("pbx_ha")).then_some(()));
    pair.await_status(Host::Master, "serving", seconds(20.0), holds);

    // without a daemon, the program itself takes away what the dead one has left
    pair.kill_daemon(Host::Master);
    assert!(gates(Host::Master).contains("pbx_ha"), "{}", gates(Host::Master));
    pair.ha(Host::Master, "configure disabled").ok();
    assert_eq!(gates(Host::Master), "");
}
