//! An engine that is stopped between any two calls of a grant: for a little less than a lease, for a little more, and for
//! long (`safety.md` 5.6).

use rustix::process::Signal;

use super::process::Process;
use super::watch::Watch;
use super::*;

/// The calls by which the gate is opened or kept open, in their order.
const CALLS: [&str; 5] = ["permit", "clock", "drain", "grant", "granted"];
/// Those by which it is mended while it is open.
const MENDS: [&str; 4] = ["mend", "mend-permit", "mend-clock", "mend-grant"];
/// A little less than a lease, a little more, and long.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(290), Duration::from_millis(310), Duration::from_secs(5)];

fn holder() -> usize {
    let mut holder = None;
    wait_until("somebody answers", || {
        holder = who_answers();
        holder.is_some()
    });
    holder.unwrap()
}

/// Stops the holder while it renews, and whoever takes while it does.
fn stopped_at(call: &str, pair: &Pair) {
    let engines = [PRIMARY, STANDBY].map(|index| Process::start(pair, index));
    pair.comes_to_answer(PRIMARY, PATIENCE);
    let watch = Watch::begin(pair);
    for pause in PAUSES {
        let renews = &engines[holder()];
        renews.is_to_stop_at(call);
        renews.stops();
        thread::sleep(pause);
        renews.signal(Signal::CONT);
        thread::sleep(FAST.lease + FAST.margin);

        let holder = holder();
        let (holds, takes) = (&engines[holder], &engines[1 - holder]);
        takes.is_to_stop_at(call);
        holds.signal(Signal::STOP);
        takes.stops();
        // who was too late for it may take again what the other has not taken yet
        holds.signal(Signal::CONT);
        thread::sleep(pause);
        takes.signal(Signal::CONT);
        thread::sleep(FAST.lease + FAST.margin);
    }
    holder();
    eprintln!("stopped at {call}");
    watch.finds_one_at_a_time();
}

/// Stops the holder while it makes good what somebody did to the gate.
fn stopped_while_it_mends(call: &str, pair: &Pair) {
    let engines = [PRIMARY, STANDBY].map(|index| Process::start(pair, index));
    pair.comes_to_answer(PRIMARY, PATIENCE);
    let watch = Watch::begin(pair);
    for pause in PAUSES {
        let index = holder();
        engines[index].is_to_stop_at(call);
        pair.nodes[index].machine.sh("nft flush ruleset");
        engines[index].stops();
        thread::sleep(pause);
        engines[index].signal(Signal::CONT);
        thread::sleep(FAST.lease + FAST.margin);
    }
    holder();
    eprintln!("stopped at {call}");
    watch.finds_one_at_a_time();
}

#[test]
fn never_do_both_answer_while_a_node_is_stopped_at_a_call_of_a_grant() {
    let at_once =
        CALLS.map(|call| thread::spawn(move || beside_a_pair(FAST, move |pair| stopped_at(call, pair))));
    let mends = MENDS.map(|call| {
        thread::spawn(move || beside_a_pair(FAST, move |pair| stopped_while_it_mends(call, pair)))
    });
    for pair in at_once.into_iter().chain(mends) {
        pair.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }
}
