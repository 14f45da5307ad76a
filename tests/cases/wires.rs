//! What breaks around a pair that shares one address: each wire alone and both, the rules of the gate, what beats.
//!
//! As in [`crate::address`] limits are generous and one rule has no tolerance: never do two nodes answer.

use std::time::Duration;

use ha_tests::wait::{self, pass, seconds};
use ha_tests::{Answers, Host, Moment, Pair, Probe, VipWatch};

/// Both wires are whole again and each node hears the other.
fn hear_each_other(pair: &Pair) {
    for host in [Host::Master, Host::Slave] {
        pair.await_status(host, "hearing the other node", seconds(20.0), |status| status.peer() == "up");
    }
}

#[track_caller]
fn comes_to_answer(watch: &VipWatch, host: Host, since: Moment) -> Duration {
    wait::until("the other node answers", seconds(10.0), || {
        watch.so_far().first(Probe::Options, host, since).is_some().then_some(())
    });
    watch.so_far().first(Probe::Ping, host, since).expect("it answers SIP").after(since)
}

#[track_caller]
fn only(host: Host, answers: &Answers) {
    let holders: Vec<Host> = answers.holdings(Probe::Both).iter().map(|holding| holding.by).collect();
    assert!(holders.iter().all(|holder| *holder == host), "{holders:?}\n{answers}");
    answers.never_both();
}

#[test]
fn each_wire_of_the_active_node_breaks_alone_and_both_at_once() {
    let Some(pair) = Pair::sark().up() else { return };
    let lab = &pair.lab;
    let watch = VipWatch::start(lab);
    pass(seconds(0.5));

    // the cross-over alone: nothing depends on it
    let begin = lab.cut_crossover(Host::Master);
    pass(seconds(3.0));
    let answers = watch.so_far().since(begin);
    only(Host::Master, &answers);
    let silences = answers.silences(Probe::Ping, seconds(0.5));
    assert!(silences.is_empty(), "{silences:?}\n{answers}");
    lab.heal_crossover(Host::Master);
    hear_each_other(&pair);

    // the phones' network alone: handed over through the cross-over, which no lease has to run out for
    let begin = lab.cut(Host::Master);
    let took = comes_to_answer(&watch, Host::Slave, begin);
    assert!(took < seconds(1.0), "{took:?}: a lease and a margin are longer");
    lab.heal(Host::Master);
    hear_each_other(&pair);
    pass(seconds(1.0));
    only(Host::Slave, &watch.so_far().since(begin + took));

    // both: isolated, it falls silent, and the other one waits until that is sure
    lab.cut_crossover(Host::Slave);
    let begin = lab.cut(Host::Slave);
    let took = comes_to_answer(&watch, Host::Master, begin);
    assert!(took < seconds(2.5) * 3, "{took:?}");
    lab.heal_crossover(Host::Slave);
    lab.heal(Host::Slave);
    hear_each_other(&pair);
    pass(seconds(1.0));
    let answers = watch.end();
    only(Host::Master, &answers.since(begin + took));
    answers.never_both();
    assert_eq!(answers.strays(), 0, "an answer came from another address");
}

/// `nft flush ruleset`, as a reload of Debian's nftables does it.
fn flush(pair: &Pair, host: Host) -> Moment {
    let begin = Moment::now();
    pair.lab.sh(host, "nft flush ruleset").ok();
    begin
}

#[test]
fn a_flush_of_all_rules_lets_nobody_else_answer_active_passive_frozen_or_killed() {
    let Some(pair) = Pair::sark().up() else { return };
    let watch = VipWatch::start(&pair.lab);
    pass(seconds(0.5));
    let has_a_gate = |host: Host| {
        wait::until("the gate is there again", seconds(5.0), || {
            pair.lab.sh(host, "nft list tables").ok().contains("inet pbx_ha\n").then_some(())
        });
    };
    for host in [Host::Slave, Host::Master] {
        let begin = flush(&pair, host);
        has_a_gate(host);
        pass(seconds(2.0));
        only(Host::Master, &watch.so_far().since(begin));
        let answered = watch.so_far().first(Probe::Options, Host::Master, Moment::now() - seconds(0.5));
        assert!(answered.is_some(), "nobody serves after a flush on {host}");
    }

    // frozen, then flushed: the other takes over, and who wakes takes nothing back
    let begin = Moment::now();
    pair.signal_daemon(Host::Master, "STOP");
    flush(&pair, Host::Master);
    comes_to_answer(&watch, Host::Slave, begin);
    pass(seconds(1.0));
    let woken = Moment::now();
    pair.signal_daemon(Host::Master, "CONT");
    has_a_gate(Host::Master);
    hear_each_other(&pair);
    only(Host::Slave, &watch.so_far().since(woken));

    // killed, cleared up after by its unit, then flushed
    let begin = Moment::now();
    pair.kill_daemon(Host::Slave);
    pair.clear_up_after_daemon(Host::Slave);
    flush(&pair, Host::Slave);
    comes_to_answer(&watch, Host::Master, begin);
    pass(seconds(3.0));
    let answers = watch.end();
    answers.never_both();
}
