//! What two nodes do in the situations that have a name.

use proptest::prelude::*;

use super::pair::{MS, Pair, default_terms, fast_terms};
use super::*;

const SECOND: Duration = Duration::from_secs(1);
/// How many sequences of faults.
const CASES: u32 = 400;

#[test]
fn nodes_that_hear_each_other_let_the_primary_serve_at_once() {
    let mut pair = Pair::new(default_terms(), [0, 0]);
    pair.boot(0);
    pair.boot(1);
    let took = pair.until(SECOND, |pair| pair.holder() == Some(0));
    assert!(took < MS * 500, "{took:?}");
}

#[test]
fn a_dead_holder_is_followed_within_lease_and_margin() {
    for (terms, limit) in [(default_terms(), MS * 1800), (fast_terms(), MS * 650)] {
        let mut pair = Pair::in_peace(terms, [300, -300]);
        pair.crash(0);
        let took = pair.until(terms.lease * 3, |pair| pair.holder() == Some(1));
        assert!(took >= terms.lease + terms.margin - terms.beat * 2 && took < limit, "{took:?}");
        pair.boot(0);
        pair.run(SECOND * 10);
        assert_eq!(pair.holder(), Some(1), "who comes back rests");
    }
}

#[test]
fn a_dead_standby_is_not_noticed_by_phones() {
    let mut pair = Pair::in_peace(default_terms(), [0, 0]);
    pair.crash(1);
    for _ in 0..1000 {
        pair.step();
        assert_eq!(pair.holder(), Some(0));
    }
    pair.boot(1);
    for _ in 0..1000 {
        pair.step();
        assert_eq!(pair.holder(), Some(0));
    }
}

#[test]
fn a_holder_that_is_cut_off_falls_silent_before_the_other_takes() {
    let mut pair = Pair::in_peace(default_terms(), [0, 0]);
    pair.part();
    pair.hosts[0].sees_reference = false;
    pair.until(SECOND * 2, |pair| !pair.hosts[0].entitled(pair.now));
    pair.until(SECOND * 2, |pair| pair.holder() == Some(1));
    pair.hosts[0].sees_reference = true;
    pair.heal();
    pair.run(SECOND * 10);
    assert_eq!((pair.holder(), pair.overlap), (Some(1), Duration::ZERO));
}

#[test]
fn one_direction_is_enough() {
    // the standby hears the holder: the holder goes on alone
    let mut pair = Pair::in_peace(default_terms(), [0, 0]);
    pair.delay[1] = None;
    pair.run(SECOND * 10);
    assert_eq!((pair.holder(), pair.overlap), (Some(0), Duration::ZERO));
    // the holder hears that it is not heard: it lets the lease lapse, and the standby takes
    let mut pair = Pair::in_peace(default_terms(), [0, 0]);
    pair.delay[0] = None;
    pair.run(SECOND * 10);
    assert_eq!((pair.holder(), pair.overlap), (Some(1), Duration::ZERO));
}

#[test]
fn outside_the_assumption_both_serve_and_the_lower_epoch_lets_go_within_a_beat_of_the_heal() {
    let mut pair = Pair::in_peace(default_terms(), [0, 0]);
    pair.part();
    pair.run(SECOND * 5);
    assert!(pair.overlap > SECOND, "nothing tells them apart");
    pair.heal();
    let took = pair.until(SECOND, |pair| pair.holder().is_some());
    assert!(took <= MS * 110, "{took:?}");
    assert_eq!(pair.holder(), Some(1), "the standby took it later");
}

#[test]
fn a_holder_that_was_started_anew_says_nothing_of_the_address_until_it_has_it_again() {
    let mut pair = Pair::in_peace(default_terms(), [0, 0]);
    pair.kill(0);
    pair.run(MS * 200);
    pair.boot(0);
    let view = |pair: &Pair, index: usize| pair.hosts[index].engine.as_ref().map(Native::view);
    let mut waited = Duration::ZERO;
    while view(&pair, 0) == Some(View::FIRST) {
        pair.step();
        waited += MS * 5;
    }
    assert!(
        view(&pair, 0).is_some_and(|view| view.held),
        "telephony would be stopped for moments: {pair:#?}"
    );
    assert!(waited < MS * 500, "{waited:?}");

    // who comes back to a holder hears that at once, and who comes back to nobody in time
    pair.kill(1);
    pair.boot(1);
    let peer_was_heard = |pair: &Pair| view(pair, 1).is_some_and(|view| view.peer != Verdict::Unknown);
    assert!(pair.until(SECOND, peer_was_heard) < MS * 300);
    pair.crash(0);
    pair.crash(1);
    pair.boot(1);
    let alone = pair.until(SECOND * 2, peer_was_heard);
    assert!(alone >= MS * 1400, "{alone:?}");
    assert_eq!(view(&pair, 1).map(|view| (view.held, view.peer)), Some((false, Verdict::Down)));
}

#[test]
fn a_planned_handover_takes_a_moment_and_comes_back() {
    let mut pair = Pair::in_peace(default_terms(), [0, 0]);
    pair.tell(0, Event::HandOver);
    let took = pair.until(SECOND, |pair| pair.holder() == Some(1));
    assert!(took < MS * 100, "{took:?}");
    pair.run(SECOND * 10);
    assert_eq!(pair.holder(), Some(1));
    assert!(!pair.hosts[0].disk.active, "a clean release is on record");
    pair.tell(1, Event::HandOver);
    pair.until(SECOND, |pair| pair.holder() == Some(0));
    assert_eq!(pair.overlap, Duration::ZERO);
}

#[test]
fn a_handover_that_nobody_takes_is_given_up() {
    let mut pair = Pair::in_peace(default_terms(), [0, 0]);
    pair.hosts[1].standing.able = false;
    pair.run(SECOND);
    pair.tell(0, Event::HandOver);
    pair.run(SECOND * 3);
    let failed = pair.hosts[0].engine.as_ref().map(|engine| engine.view().failed_handovers);
    assert_eq!((pair.holder(), failed), (Some(0), Some(1)));
}

#[test]
fn a_taker_that_dies_in_the_handover_costs_lease_and_margin() {
    let mut pair = Pair::in_peace(default_terms(), [0, 0]);
    pair.tell(0, Event::HandOver);
    pair.until(SECOND, |pair| !pair.hosts[0].entitled(pair.now));
    pair.crash(1);
    pair.until(SECOND * 3, |pair| pair.holder() == Some(0));
}

#[test]
fn an_engine_that_ends_gives_the_address_away() {
    let mut pair = Pair::in_peace(default_terms(), [0, 0]);
    pair.tell(0, Event::Leave);
    pair.until(SECOND, |pair| pair.holder() == Some(1));
    pair.run(SECOND * 5);
    assert_eq!(pair.holder(), Some(1), "who leaves takes nothing any more");
    // with nobody there it is let go
    pair.crash(0);
    pair.run(SECOND * 3);
    pair.tell(1, Event::Leave);
    pair.run(SECOND * 3);
    assert!(!pair.hosts[1].entitled(pair.now) && !pair.hosts[1].disk.active);
}

#[test]
fn a_holder_whose_network_is_gone_hands_over_at_once() {
    let mut pair = Pair::in_peace(default_terms(), [0, 0]);
    pair.hosts[0].link = false;
    let took = pair.until(SECOND, |pair| pair.holder() == Some(1));
    assert!(took < MS * 300, "{took:?}");
    // on the other side alone it changes nothing
    let mut pair = Pair::in_peace(default_terms(), [0, 0]);
    pair.hosts[1].link = false;
    pair.run(SECOND * 5);
    assert_eq!(pair.holder(), Some(0));
}

#[test]
fn after_a_power_cut_the_last_to_serve_serves() {
    // auto-failback off, the standby was active, both are started again
    let mut pair = Pair::in_peace(default_terms(), [0, 0]);
    pair.tell(0, Event::HandOver);
    pair.until(SECOND, |pair| pair.holder() == Some(1));
    pair.crash(0);
    pair.crash(1);
    pair.boot(0);
    pair.run(MS * 400);
    pair.boot(1);
    pair.until(SECOND * 2, |pair| pair.holder() == Some(1));
    assert_eq!(pair.overlap, Duration::ZERO);
}

#[test]
fn after_a_power_cut_with_a_slow_switch_the_primary_serves_alone_and_no_one_beside_it() {
    let mut pair = Pair::in_peace(default_terms(), [0, 0]);
    pair.crash(0);
    pair.crash(1);
    pair.part();
    for host in &mut pair.hosts {
        host.sees_reference = false;
        host.link = false;
    }
    pair.boot(0);
    pair.boot(1);
    pair.run(SECOND * 150);
    assert_eq!((pair.holder(), pair.overlap), (None, Duration::ZERO), "nobody knows where it is");
    pair.heal();
    for host in &mut pair.hosts {
        host.sees_reference = true;
        host.link = true;
    }
    pair.until(SECOND * 3, |pair| pair.holder() == Some(0));
    pair.run(SECOND * 10);
    assert_eq!(pair.overlap, Duration::ZERO);
}

#[test]
fn a_node_that_hears_nobody_waits_two_minutes_and_the_standby_longer() {
    for (index, least) in [(0, SECOND * 120), (1, MS * 121_500)] {
        let mut pair = Pair::new(default_terms(), [0, 0]);
        pair.boot(index);
        let took = pair.until(SECOND * 125, |pair| pair.holder() == Some(index));
        assert!(took >= least && took < least + SECOND, "{took:?}");
    }
    // an owner answers: it stays silent
    let mut pair = Pair::new(default_terms(), [0, 0]);
    pair.hosts[0].owner = true;
    pair.boot(0);
    pair.run(SECOND * 200);
    assert_eq!(pair.holder(), None);
}

#[test]
fn a_frozen_holder_that_wakes_serves_no_more() {
    for lasts in [MS * 990, MS * 1010, SECOND * 5] {
        let mut pair = Pair::in_peace(default_terms(), [0, 0]);
        pair.stop(0, lasts);
        pair.run(lasts + SECOND * 5);
        assert_eq!(pair.overlap, Duration::ZERO, "{lasts:?}");
        assert!(pair.holder().is_some(), "{lasts:?}");
    }
}

#[test]
fn an_engine_that_is_stopped_at_any_step_of_a_grant_opens_nothing_too_late() {
    for terms in [default_terms(), fast_terms()] {
        for lasts in [terms.lease - MS * 10, terms.lease + MS * 10, SECOND * 5] {
            // the steps of renewals while it holds
            for steps in 0..6 {
                let mut pair = Pair::in_peace(terms, [0, 0]);
                pair.hosts[0].stops_at = Some((steps, lasts));
                pair.run(lasts + SECOND * 5);
                assert_eq!(pair.hosts[0].stops_at, None);
                assert_eq!(pair.overlap, Duration::ZERO, "renewal, step {steps}, {lasts:?}");
                assert!(pair.holder().is_some());
            }
            // the steps of the first grant, which the other node waits for, or makes itself meanwhile
            for steps in 0..2 {
                let mut pair = Pair::in_peace(terms, [0, 0]);
                pair.hosts[1].stops_at = Some((steps, lasts));
                pair.tell(0, Event::HandOver);
                pair.run(lasts + SECOND * 5);
                assert_eq!(pair.hosts[1].stops_at, None);
                assert_eq!(pair.overlap, Duration::ZERO, "first grant, step {steps}, {lasts:?}");
                assert!(pair.holder().is_some());
            }
        }
    }
}

#[test]
fn a_loop_that_hangs_loses_the_address() {
    let mut pair = Pair::in_peace(default_terms(), [0, 0]);
    pair.hosts[0].hangs = true;
    pair.until(SECOND * 2, |pair| !pair.hosts[0].entitled(pair.now));
    pair.until(SECOND, |pair| pair.holder() == Some(1));
    pair.hosts[0].hangs = false;
    pair.run(SECOND * 3);
    assert_eq!((pair.holder(), pair.overlap), (Some(1), Duration::ZERO));
}

#[test]
fn recorded_beats_of_a_dead_node_are_not_believed() {
    let mut pair = Pair::in_peace(default_terms(), [0, 0]);
    pair.run(SECOND * 5);
    let recorded: Vec<Beat> =
        pair.recorded.iter().filter(|(from, _)| *from == 0).map(|(_, beat)| *beat).collect();
    pair.crash(0);
    let begin = pair.now;
    // played again and again, in order and backwards
    let replayed = recorded.iter().chain(recorded.iter().rev()).cycle();
    for beat in replayed.take(1000) {
        let received = pair.hosts[1].clock(pair.now);
        pair.tell(1, Event::Beat { beat: *beat, received });
        pair.step();
    }
    let taken = pair.hosts[1].entitled(pair.now) && pair.holder() == Some(1);
    assert!(taken, "after {:?}: {pair:#?}", pair.now - begin);
}

#[test]
fn a_state_file_from_long_ago_changes_nothing_among_the_living() {
    let mut pair = Pair::in_peace(default_terms(), [0, 0]);
    let old = pair.hosts[0].disk;
    pair.tell(0, Event::HandOver);
    pair.until(SECOND, |pair| pair.holder() == Some(1));
    pair.crash(0);
    pair.hosts[0].disk = old;
    pair.boot(0);
    pair.run(SECOND * 10);
    assert_eq!((pair.holder(), pair.overlap), (Some(1), Duration::ZERO));
}

#[test]
fn a_machine_that_was_set_back_begins_anew() {
    let mut pair = Pair::in_peace(default_terms(), [0, 0]);
    let snapshot = pair.hosts[1].engine.clone();
    pair.run(SECOND * 10);
    pair.hosts[1].engine = snapshot;
    pair.run(SECOND * 10);
    assert_eq!((pair.holder(), pair.overlap), (Some(0), Duration::ZERO));
    pair.crash(0);
    pair.until(SECOND * 3, |pair| pair.holder() == Some(1));
}

#[test]
fn the_address_is_announced_when_it_is_taken_and_again() {
    let mut pair = Pair::in_peace(default_terms(), [0, 0]);
    assert_eq!(pair.hosts[0].announced, 1);
    pair.run(SECOND * 6);
    assert_eq!(pair.hosts[0].announced, 2);
    pair.tell(0, Event::OwnerSeen);
    assert_eq!(pair.hosts[0].announced, 3, "another owner is heard");
}

#[test]
fn nobody_takes_over_while_somebody_works_on_the_pair() {
    let mut pair = Pair::in_peace(default_terms(), [0, 0]);
    pair.hosts[1].standing.maintenance = true;
    pair.run(SECOND);
    pair.crash(0);
    pair.run(SECOND * 10);
    assert_eq!(pair.holder(), None);
    pair.hosts[1].standing.maintenance = false;
    pair.until(SECOND * 3, |pair| pair.holder() == Some(1));
}

/// What befalls a pair, one after the other.
#[derive(Debug, Clone)]
enum Fault {
    Wait(u16),
    Delay(usize, u16),
    Lose(usize),
    Heal,
    Reference(usize, bool),
    Stop(usize, u16),
    Kill(usize),
    Crash(usize),
    Boot(usize),
    HandOver(usize),
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let node = || 0..2_usize;
    let fault = prop_oneof![
        4 => (1..2500_u16).prop_map(Fault::Wait),
        1 => (node(), 0..3000_u16).prop_map(|(from, ms)| Fault::Delay(from, ms)),
        2 => node().prop_map(Fault::Lose),
        2 => Just(Fault::Heal),
        2 => (node(), any::<bool>()).prop_map(|(index, sees)| Fault::Reference(index, sees)),
        2 => (node(), 1..2500_u16).prop_map(|(index, ms)| Fault::Stop(index, ms)),
        1 => node().prop_map(Fault::Kill),
        1 => node().prop_map(Fault::Crash),
        2 => node().prop_map(Fault::Boot),
        1 => node().prop_map(Fault::HandOver),
    ];
    prop::collection::vec(fault, 1..60)
}

impl Pair {
    fn befalls(&mut self, fault: &Fault) {
        match *fault {
            Fault::Wait(ms) => self.run(MS * u32::from(ms)),
            Fault::Delay(from, ms) => self.delay[from] = Some(MS * u32::from(ms)),
            Fault::Lose(from) => self.delay[from] = None,
            Fault::Heal => self.heal(),
            Fault::Reference(index, sees) => self.hosts[index].sees_reference = sees,
            Fault::Stop(index, ms) => self.stop(index, MS * u32::from(ms)),
            Fault::Kill(index) => self.kill(index),
            Fault::Crash(index) => self.crash(index),
            Fault::Boot(index) if self.hosts[index].engine.is_none() => self.boot(index),
            Fault::HandOver(index) => self.tell(index, Event::HandOver),
            Fault::Boot(_) => {}
        }
        // the adversary keeps to the assumption: a beat that needs long is one that does not come
        let works = |from: usize| self.delay[from].is_some_and(|delay| delay <= MS * 50);
        if !works(0) && !works(1) && self.hosts.iter().all(|host| host.sees_reference) {
            self.hosts[1].sees_reference = false;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    /// With the terms of the settings, clocks that drift apart as far as is allowed, and any faults.
    #[test]
    fn whatever_befalls_a_pair_never_both_serve_and_in_the_end_one_does(
        faults in faults(),
        fast in any::<bool>(),
        drift in prop::sample::select(vec![[500_i64, -500], [-500, 500], [0, 0]]),
    ) {
        let terms = if fast { fast_terms() } else { default_terms() };
        let mut pair = Pair::in_peace(terms, drift);
        for fault in &faults {
            pair.befalls(fault);
            prop_assert_eq!(pair.overlap, Duration::ZERO, "after {:?}: {:#?}", fault, pair);
        }
        pair.heal();
        for index in 0..2 {
            pair.hosts[index].sees_reference = true;
            pair.hosts[index].stopped_until = Duration::ZERO;
            pair.befalls(&Fault::Boot(index));
        }
        pair.run(SECOND * 10);
        prop_assert_eq!(pair.overlap, Duration::ZERO, "{:#?}", pair);
        prop_assert!(pair.holder().is_some(), "nobody serves: {:#?}", pair);
    }
}
