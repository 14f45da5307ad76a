//! Two nodes on two hosts under a virtual clock, with faults that come as they like.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ha_core::event::Command;
use ha_core::node::Policy;
use ha_core::sim::{Disk, Pair, Side};
use ha_core::{Schedule, health::Verdict, preset};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const REFERENCE: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 254));

fn policy() -> Policy {
    Policy { references: vec![REFERENCE], ..preset::modern() }
}

fn replicating() -> Policy {
    Policy { schedule: Some(Schedule::parse("* * * * *").unwrap()), ..policy() }
}

fn pair(policy: &Policy) -> Pair {
    let began: DateTime<Utc> = "2026-11-20T12:00:00Z".parse().unwrap();
    Pair::new(policy, began)
}

/// When this host's engine said this, since the beginning.
fn said(pair: &Pair, side: Side, text: &str) -> Vec<Duration> {
    let lines = pair.transcript().iter();
    lines.filter(|line| line.side == side && line.text.starts_with(text)).map(|line| line.at).collect()
}

#[test]
fn ten_minutes_with_a_third_of_one_ways_packets_lost_are_no_takeover() {
    for lossy in Side::ALL {
        for seed in 1..=20 {
            let mut pair = pair(&policy());
            pair.seed(seed);
            pair.run(10 * SECOND);
            pair.loss[lossy as usize] = 30;
            pair.run(10 * MINUTE);
            assert_eq!(said(&pair, Side::Slave, "start telephony"), [], "seed {seed}, {lossy:?} loses");
        }
    }
}

#[test]
fn a_healthy_slave_runs_no_command_and_writes_nothing_for_ten_minutes() {
    let mut pair = pair(&policy());
    pair.run(10 * SECOND);
    let before = (pair.host(Side::Slave).written, pair.transcript().len());
    pair.run(10 * MINUTE);
    assert_eq!((pair.host(Side::Slave).written, pair.transcript().len()), before);
    assert_eq!(said(&pair, Side::Slave, "start telephony"), []);
    assert_eq!(said(&pair, Side::Slave, "stop telephony"), []);
}

#[test]
fn from_the_masters_death_to_the_start_pass_three_and_a_half_seconds_at_most() {
    for (disk, most) in [(Disk::Works, 3500), (Disk::Fails, 3500), (Disk::Stalls, 4000)] {
        let (mut shortest, mut longest) = (Duration::MAX, Duration::ZERO);
        for offset in (0..1000).step_by(50) {
            let mut pair = pair(&policy());
            pair.run(20 * SECOND + Duration::from_millis(offset));
            pair.host(Side::Slave).disk = disk;
            let cut = pair.elapsed();
            pair.host(Side::Master).cable = false;
            pair.run(MINUTE);
            let starts = said(&pair, Side::Slave, "start telephony");
            assert_eq!(starts.len(), 1);
            (shortest, longest) = (shortest.min(starts[0] - cut), longest.max(starts[0] - cut));
        }
        println!("{disk:?}: {shortest:?} to {longest:?}");
        assert!(longest <= Duration::from_millis(most), "{disk:?}: {longest:?}");
        assert!(shortest >= Duration::from_millis(2000), "{disk:?}: {shortest:?}");
    }
}

#[test]
fn a_record_that_a_full_disk_refused_is_written_as_soon_as_the_disk_takes_it() {
    let mut pair = pair(&policy());
    pair.run(10 * SECOND);
    pair.host(Side::Slave).disk = Disk::Fails;
    pair.crash(Side::Master);
    pair.run(20 * SECOND);
    assert!(pair.host(Side::Slave).record.as_ref().is_some_and(|record| !record.active));
    pair.host(Side::Slave).disk = Disk::Works;
    pair.run(15 * SECOND);
    assert!(pair.host(Side::Slave).record.as_ref().is_some_and(|record| record.active));
    assert_eq!(said(&pair, Side::Slave, "alert state-not-written is over").len(), 1);
}

#[test]
fn each_start_by_hand_is_told_not_the_first_alone() {
    let mut pair = pair(&policy());
    pair.run(10 * SECOND);
    for time in 1..=2 {
        pair.host(Side::Slave).telephony = true;
        pair.run(MINUTE);
        assert!(!pair.serves(Side::Slave));
        assert_eq!(said(&pair, Side::Slave, "alert started-by-hand: ").len(), time);
    }
}

#[test]
fn a_slave_that_slept_hands_back_to_no_master_that_died_meanwhile() {
    let mut pair = pair(&policy());
    pair.run(10 * SECOND);
    pair.crash(Side::Master);
    pair.run(MINUTE);
    assert!(pair.serves(Side::Slave));
    pair.boot(Side::Master, true);
    pair.run(20 * SECOND);
    // the master is up, and the slave waits for the hold time when it is paused
    pair.freeze(Side::Slave, true);
    pair.run(MINUTE);
    pair.crash(Side::Master);
    pair.run(10 * SECOND);
    pair.freeze(Side::Slave, false);
    pair.run(10 * MINUTE);
    assert_eq!(said(&pair, Side::Slave, "stop telephony"), []);
    assert!(pair.serves(Side::Slave));
}

#[test]
fn after_a_partition_both_serve_for_the_hold_time_and_no_longer() {
    for seconds in [30, 300, 3000] {
        let mut pair = pair(&policy());
        pair.run(10 * SECOND);
        pair.host(Side::Master).cable = false;
        pair.run(seconds * SECOND);
        // what Wazo's documents accept: each side of a partition has its telephony
        assert!(pair.serves(Side::Master) && pair.serves(Side::Slave));
        pair.host(Side::Master).cable = true;
        let healed = pair.elapsed();
        pair.run(10 * MINUTE);
        let stopped = said(&pair, Side::Slave, "telephony stopped");
        assert_eq!(stopped.len(), 1);
        let both = stopped[0] - healed;
        println!("both served for {both:?} after the heal");
        assert!(both >= MINUTE && both <= MINUTE + 5 * SECOND, "{both:?}");
        assert!(pair.serves(Side::Master));
    }
}

#[test]
fn a_start_that_a_frozen_host_could_not_end_ends_without_the_engine_that_was_killed_meanwhile() {
    let mut pair = pair(&policy());
    pair.run(10 * SECOND);
    pair.crash(Side::Master);
    pair.run(Duration::from_millis(3400));
    pair.freeze(Side::Slave, true);
    pair.kill_engine(Side::Slave);
    pair.run(2 * SECOND);
    pair.freeze(Side::Slave, false);
    pair.start_engine(Side::Slave);
    pair.run(MINUTE);
    assert_eq!(said(&pair, Side::Slave, "start telephony").len(), 1);
    assert!(pair.serves(Side::Slave));
}

/// Where telephony came last, as far as the two nodes know; `None`: it never moved.
fn last_arrival(pair: &Pair) -> Option<Side> {
    let arrived = |side| pair.node(side).and_then(|node| node.record().arrived).map(|at| (at, side));
    Side::ALL.into_iter().filter_map(arrived).max_by_key(|(at, _)| *at).map(|(_, side)| side)
}

#[test]
fn telephony_comes_to_the_slave_when_it_takes_over_and_to_the_master_when_the_slave_rests() {
    let mut pair = pair(&policy());
    pair.run(MINUTE);
    assert_eq!(last_arrival(&pair), None, "it never moved");
    pair.crash(Side::Master);
    pair.run(MINUTE);
    assert_eq!(last_arrival(&pair), Some(Side::Slave));
    pair.boot(Side::Master, true);
    pair.run(50 * SECOND);
    assert_eq!(last_arrival(&pair), Some(Side::Slave), "the slave still serves");
    pair.run(MINUTE);
    assert_eq!(last_arrival(&pair), Some(Side::Master));
    let came = pair.node(Side::Master).unwrap().record().arrived;
    for side in Side::ALL {
        pair.kill_engine(side);
        pair.run(SECOND);
        pair.start_engine(side);
        pair.run(MINUTE);
    }
    assert_eq!(pair.node(Side::Master).unwrap().record().arrived, came, "an engine's restart is no arrival");
}

#[test]
fn telephony_that_is_handed_over_and_asked_back_comes_once_each_way() {
    let mut pair = pair(&policy());
    pair.run(MINUTE);

    pair.command(Side::Slave, Command::TakeOver);
    pair.run(10 * SECOND);
    pair.command(Side::Master, Command::Yield);
    pair.run(MINUTE);
    assert_eq!(last_arrival(&pair), Some(Side::Slave));
    pair.command(Side::Master, Command::Resume);
    pair.run(10 * SECOND);
    assert_eq!(last_arrival(&pair), Some(Side::Slave), "both serve");
    pair.command(Side::Slave, Command::StandBy);
    pair.run(10 * SECOND);
    let came = pair.node(Side::Master).unwrap().record().arrived;
    assert_eq!(last_arrival(&pair), Some(Side::Master));
    pair.run(10 * MINUTE);
    assert_eq!(pair.node(Side::Master).unwrap().record().arrived, came);
}

#[test]
fn telephony_that_is_asked_back_before_it_was_heard_at_the_slave_comes_when_the_slave_says_that_it_rests() {
    for answers_sip in [false, true] {
        let mut pair = pair(&policy());
        pair.host(Side::Slave).answers_sip = answers_sip;
        pair.run(MINUTE);
        pair.command(Side::Slave, Command::TakeOver);
        pair.run(4 * SECOND);
        pair.command(Side::Master, Command::Yield);
        pair.command(Side::Master, Command::Resume);
        pair.run(4 * SECOND);
        pair.command(Side::Slave, Command::StandBy);
        pair.run(2 * SECOND);
        pair.slave_rests();
        pair.run(10 * SECOND);
        let came = pair.node(Side::Master).unwrap().record().arrived;
        assert_eq!(last_arrival(&pair), Some(Side::Master), "{answers_sip}");
        pair.run(10 * MINUTE);
        assert_eq!(pair.node(Side::Master).unwrap().record().arrived, came, "{answers_sip}: once");
    }
}

#[test]
fn while_the_slave_serves_once_more_it_alone_is_followed() {
    let mut pair = pair(&policy());
    pair.run(MINUTE);
    pair.crash(Side::Master);
    pair.run(MINUTE);
    pair.boot(Side::Master, true);
    pair.run(2 * MINUTE);
    assert_eq!(last_arrival(&pair), Some(Side::Master));
    pair.host(Side::Master).cable = false;
    pair.run(MINUTE);
    pair.host(Side::Master).cable = true;
    pair.run(30 * SECOND);
    assert!(pair.serves(Side::Master) && pair.serves(Side::Slave));
    assert_eq!(
        pair.node(Side::Master).unwrap().record().arrived,
        None,
        "it would undo what the slave has done"
    );
    pair.run(10 * MINUTE);
    assert_eq!(last_arrival(&pair), Some(Side::Master));
}

#[test]
fn a_slave_whose_telephony_is_found_running_beside_the_master_is_followed_only_when_the_master_falls_silent()
{
    let mut pair = pair(&policy());
    pair.run(MINUTE);
    pair.kill_engine(Side::Slave);
    pair.host(Side::Slave).telephony = true;
    pair.start_engine(Side::Slave);
    pair.run(20 * SECOND);
    assert!(pair.serves(Side::Master) && pair.serves(Side::Slave));
    assert_eq!(last_arrival(&pair), None, "the Edge stays with the master");
    pair.crash(Side::Master);
    pair.run(10 * SECOND);
    assert_eq!(last_arrival(&pair), Some(Side::Slave));
}

#[test]
fn a_master_that_comes_up_when_the_slave_has_died_meanwhile_is_followed() {
    let mut pair = pair(&policy());
    pair.run(MINUTE);
    pair.crash(Side::Slave);
    pair.kill_engine(Side::Master);
    pair.run(SECOND);
    pair.start_engine(Side::Master);
    pair.run(MINUTE);
    assert_eq!(last_arrival(&pair), None, "the master served all the time");
    pair.boot(Side::Slave, false);
    pair.run(MINUTE);
    pair.crash(Side::Master);
    pair.run(MINUTE);
    assert_eq!(last_arrival(&pair), Some(Side::Slave));
    pair.crash(Side::Slave);
    pair.boot(Side::Master, true);
    pair.run(MINUTE);
    assert_eq!(last_arrival(&pair), Some(Side::Master));
}

#[test]
fn what_follows_telephony_follows_anew_where_it_is_asked_for_and_nowhere_else() {
    let mut pair = pair(&policy());
    pair.run(MINUTE);
    pair.command(Side::Slave, Command::Follow);
    assert_eq!((last_arrival(&pair), said(&pair, Side::Slave, "refused: guard \"serves\"").len()), (None, 1));
    pair.command(Side::Master, Command::Follow);
    let first = pair.node(Side::Master).unwrap().record().arrived;
    assert!(first.is_some());
    pair.run(SECOND);
    pair.command(Side::Master, Command::Follow);
    assert!(pair.node(Side::Master).unwrap().record().arrived > first, "another arrival, another runbook");
}

#[test]
fn a_return_that_was_seen_is_not_taken_for_another_one_at_the_next_replication() {
    let mut pair = pair(&replicating());
    pair.run(2 * MINUTE);
    pair.command(Side::Slave, Command::TakeOver);
    pair.run(10 * SECOND);
    pair.command(Side::Master, Command::Yield);
    pair.run(MINUTE);
    pair.command(Side::Master, Command::Resume);
    pair.run(10 * SECOND);
    pair.command(Side::Slave, Command::StandBy);
    pair.run(10 * SECOND);
    let came = pair.node(Side::Master).unwrap().record().arrived;
    assert_eq!(last_arrival(&pair), Some(Side::Master));
    pair.run(10 * MINUTE);
    assert_eq!(
        pair.node(Side::Master).unwrap().record().arrived,
        came,
        "what follows is not restarted twice"
    );
}

#[test]
fn a_master_whose_engine_saw_nothing_of_it_learns_from_the_slaves_generation_that_telephony_came_back() {
    let mut pair = pair(&replicating());
    pair.run(2 * MINUTE);
    pair.kill_engine(Side::Master);
    pair.host(Side::Master).cable = false;
    pair.run(MINUTE);
    assert_eq!(last_arrival(&pair), Some(Side::Slave));
    pair.host(Side::Master).cable = true;
    pair.run(10 * MINUTE);
    assert!(!pair.serves(Side::Slave));
    pair.start_engine(Side::Master);
    pair.run(3 * MINUTE);
    assert_eq!(last_arrival(&pair), Some(Side::Master));
}

/// One thing that happens to the pair.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Crash(Side),
    Boot(Side),
    Freeze(Side, bool),
    Cable(Side, bool),
    KillEngine(Side),
    StartEngine(Side),
    Loss(Side, u8),
    References(bool),
    Disk(Side, Disk),
}

fn sides() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Master), Just(Side::Slave)]
}

fn faults() -> impl Strategy<Value = (Fault, u64)> {
    let disks = prop_oneof![Just(Disk::Works), Just(Disk::Fails), Just(Disk::Stalls)];
    let fault = prop_oneof![
        sides().prop_map(Fault::Crash),
        sides().prop_map(Fault::Boot),
        (sides(), any::<bool>()).prop_map(|(side, on)| Fault::Freeze(side, on)),
        (sides(), any::<bool>()).prop_map(|(side, on)| Fault::Cable(side, on)),
        sides().prop_map(Fault::KillEngine),
        sides().prop_map(Fault::StartEngine),
        (sides(), 0u8..60).prop_map(|(side, loss)| Fault::Loss(side, loss)),
        any::<bool>().prop_map(Fault::References),
        (sides(), disks).prop_map(|(side, disk)| Fault::Disk(side, disk)),
    ];
    (fault, prop_oneof![3 => 0u64..8_000, 1 => 0u64..180_000])
}

fn happen(pair: &mut Pair, fault: Fault) {
    match fault {
        Fault::Crash(side) => pair.crash(side),
        // a host that has power is not booted
        Fault::Boot(side) if pair.host(side).powered => {}
        Fault::Boot(side) => pair.boot(side, side == Side::Master),
        Fault::Freeze(side, on) if pair.host(side).powered => pair.freeze(side, on),
        Fault::Freeze(..) => {}
        Fault::Cable(side, whole) => pair.host(side).cable = whole,
        Fault::KillEngine(side) => pair.kill_engine(side),
        Fault::StartEngine(side) if pair.host(side).powered && pair.node(side).is_none() => {
            pair.start_engine(side)
        }
        Fault::StartEngine(_) => {}
        Fault::Loss(side, loss) => pair.loss[side as usize] = loss,
        Fault::References(answer) => pair.references = answer,
        Fault::Disk(side, disk) => pair.host(side).disk = disk,
    }
}

/// Everything is well again, except that a host without power stays without.
fn repair(pair: &mut Pair) {
    pair.references = true;
    pair.loss = [0, 0];
    for side in Side::ALL {
        pair.host(side).cable = true;
        pair.host(side).disk = Disk::Works;
        if pair.host(side).powered {
            pair.freeze(side, false);
            if pair.node(side).is_none() {
                pair.start_engine(side);
            }
        }
    }
}

/// Longer than three losses in a row of a suspected reference: a cut cable is known to be cut.
const CUT_IS_KNOWN: Duration = Duration::from_millis(1500);
/// From a repaired pair to somebody who serves: a verdict, a start that was under way with its back-off, a start.
const SERVES_AGAIN: Duration = Duration::from_secs(100);
/// After a partition both serve until the hold (60 s) and the longest hold-down of four flaps are over, unless latched.
const ONE_SERVES: Duration = Duration::from_secs(60 + 600 * 16 + 60);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The simulated host itself asserts that no action runs beside another.
    #[test]
    fn whatever_fails_somebody_serves_once_it_is_repaired_and_nobody_takes_over_while_cut_off(
        seed: u64,
        script in prop::collection::vec(faults(), 1..25),
    ) {
        let mut pair = pair(&replicating());
        pair.seed(seed);
        // the master has replicated once, and knows the slave's generation
        pair.run(70 * SECOND);
        let mut cut_since: Option<Duration> = None;
        // a reference that was silent while the master answered proves nothing any more
        let mut watched = true;
        for (fault, wait) in script {
            happen(&mut pair, fault);
            watched &= pair.references;
            // a host that stands still for a moment learns nothing in it
            let cut = !pair.host(Side::Slave).cable && !pair.host(Side::Slave).frozen;
            cut_since = if cut { cut_since.or(Some(pair.elapsed())) } else { None };
            let told = pair.transcript().len();
            pair.run(Duration::from_millis(wait));
            for line in &pair.transcript()[told..] {
                let takes_over = line.side == Side::Slave && ["S3 ", "S4 ", "S8 "].iter().any(|id| line.text.starts_with(id));
                let known = watched && cut_since.is_some_and(|since| line.at > since + CUT_IS_KNOWN);
                prop_assert!(!(takes_over && known), "took over while cut off: {line:?}");
            }
        }
        repair(&mut pair);
        let powered = Side::ALL.map(|side| pair.host(side).powered);
        pair.run(SERVES_AGAIN);
        match powered {
            [false, false] => {}
            // a slave alone: the master is down
            [false, true] => prop_assert!(pair.serves(Side::Slave), "nobody serves"),
            // nobody starts the telephony of an active master but its own system: it was started at its boot
            [true, _] => prop_assert!(pair.serves(Side::Master) || pair.serves(Side::Slave), "nobody serves"),
        }
        if powered == [true, true] {
            pair.run(ONE_SERVES);
            let slave = pair.node(Side::Slave).unwrap();
            let (latched, verdict) = (slave.record().latched, slave.status().peer);
            prop_assert_eq!(verdict, Verdict::Up);
            prop_assert!(pair.serves(Side::Master));
            prop_assert!(latched || !pair.serves(Side::Slave), "both serve");
            if !latched {
                // whoever follows telephony has found it, wherever it went meanwhile
                let last = last_arrival(&pair);
                prop_assert!(last != Some(Side::Slave), "what follows telephony is left at the slave");
            }
        }
    }
}
