//! A pair that shares one address, held by a lease that the kernel ends.
//!
//! Limits are three times what is promised: the machine is shared. That never two nodes answer has no tolerance.

use std::time::Duration;

use ha_tests::wait::{pass, seconds};
use ha_tests::{Answers, Host, Moment, Pair, Probe, Settings, VipWatch, wait};

const TOLERANCE: u32 = 3;

/// Waits until the slave answers, and for a while longer; what the client saw since `begin`.
#[track_caller]
fn until_the_slave_answers(watch: VipWatch, begin: Moment) -> Answers {
    wait::until("the slave answers", seconds(10.0), || {
        watch.so_far().first(Probe::Options, Host::Slave, begin).is_some().then_some(())
    });
    pass(seconds(2.0));
    watch.end().since(begin)
}

#[track_caller]
fn moved_within(answers: &Answers, begin: Moment, promised: Duration) {
    let first = answers.first(Probe::Ping, Host::Slave, begin).expect("it answered");
    let took = first.after(begin);
    assert!(took <= promised * TOLERANCE, "{took:?} to the first ping\n{answers}");
    answers.never_both();
    assert_eq!(answers.strays(), 0, "an answer came from another address");
}

#[test]
fn a_host_that_dies_is_followed_at_the_address() {
    for (settings, promised) in
        [(Settings::sark(), seconds(2.5)), (Settings::sark().fast_lease(), seconds(0.7))]
    {
        let Some(pair) = Pair::sark().settings(settings).up() else { return };
        let watch = VipWatch::start(&pair.lab);
        pass(seconds(1.0));
        let begin = pair.lab.crash(Host::Master);
        moved_within(&until_the_slave_answers(watch, begin), begin, promised);
    }
}

#[test]
fn an_engine_that_is_killed_or_frozen_never_has_two_nodes_answer() {
    for signal in ["KILL", "STOP"] {
        let Some(pair) = Pair::sark().up() else { return };
        let watch = VipWatch::start(&pair.lab);
        pass(seconds(1.0));
        let begin = Moment::now();
        pair.signal_daemon(Host::Master, signal);
        let answers = if signal == "STOP" {
            let so_far = wait::until("the slave answers", seconds(10.0), || {
                let so_far = watch.so_far();
                so_far.first(Probe::Options, Host::Slave, begin).is_some().then_some(so_far)
            });
            drop(so_far);
            // a frozen engine that wakes takes nothing back
            pair.signal_daemon(Host::Master, "CONT");
            pass(seconds(3.0));
            watch.end().since(begin)
        } else {
            until_the_slave_answers(watch, begin)
        };
        moved_within(&answers, begin, seconds(2.5));
        let mut holders: Vec<Host> = answers.holdings(Probe::Ping).iter().map(|holding| holding.by).collect();
        // a pause of the same node is no move
        holders.dedup();
        assert!(holders.len() <= 2, "it moved more than once: {holders:?}\n{answers}");
    }
}

#[test]
fn a_switchover_takes_a_moment() {
    let Some(pair) = Pair::sark().up() else { return };
    let watch = VipWatch::start(&pair.lab);
    pass(seconds(1.0));
    let begin = Moment::now();
    pair.ha(Host::Master, "switchover").exits(0);
    moved_within(&until_the_slave_answers(watch, begin), begin, seconds(0.3));
}

#[test]
fn an_asterisk_that_crashes_is_followed_by_the_other_node() {
    let Some(pair) = Pair::sark().up() else { return };
    let watch = VipWatch::start(&pair.lab);
    pass(seconds(1.0));
    let begin = Moment::now();
    pair.lab.sh(Host::Master, "kill -KILL $(cat /run/asterisk/asterisk.pid)").ok();
    moved_within(&until_the_slave_answers(watch, begin), begin, seconds(5.0));
}
