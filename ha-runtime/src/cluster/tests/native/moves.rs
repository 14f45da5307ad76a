//! The address goes where it should, and soon.

use super::*;

#[test]
fn a_pair_that_hears_each_other_serves_on_the_primary() {
    beside_a_pair(DEFAULT, |pair| {
        let begin = Instant::now();
        pair.serving();
        eprintln!("served {:?} after the first engine's start", begin.elapsed());
        assert!(begin.elapsed() < Duration::from_secs(6));
        let [primary, standby] = &pair.nodes;
        wait_until("both know each other", || {
            let views = [primary, standby].map(|node| node.engine().view());
            views.map(|view| (view.held, view.peer)) == [(true, Verdict::Up), (false, Verdict::Up)]
        });
        let facts = primary.engine().known();
        assert_eq!((facts.act, facts.epoch, facts.foreign_datagrams), ("holds", 1, 0));
        assert!(facts.paths.iter().all(|path| path.heard_ago.is_some_and(|ago| ago < 1.0)), "{facts:?}");
        assert!(facts.real_time && facts.locked, "root may: {facts:?}");
        wait_until("it is written down", || primary.memory().exists());
        assert!(std::fs::read_to_string(primary.memory()).unwrap().contains(r#"{"epoch":1,"active":true}"#));
        assert!(!primary.machine.sh(&format!("ip -o addr show to {VIP}")).is_empty());
        assert_eq!(standby.machine.sh(&format!("ip -o addr show to {VIP}")), "");
        thread::sleep(DEFAULT.lease * 4);
        assert_eq!(who_answers(), Some(PRIMARY), "the lease and the address are renewed");
    });
}

fn a_dead_primary_is_followed(terms: Terms, limit: Duration) {
    beside_a_pair(terms, move |pair| {
        pair.serving();
        thread::sleep(terms.lease);
        let begin = Instant::now();
        pair.unplug(PRIMARY);
        pair.comes_to_answer(STANDBY, limit);
        eprintln!("the standby answered {:?} after the plugs were pulled", begin.elapsed());
        wait_until("the primary knows", || {
            let view = pair.nodes[PRIMARY].engine().view();
            !view.held && view.isolated && view.peer == Verdict::Down
        });
        pair.plug(PRIMARY);
        wait_until("they hear each other", || pair.nodes[PRIMARY].engine().view().peer == Verdict::Up);
        thread::sleep(terms.lease);
        assert_eq!(who_answers(), Some(STANDBY), "who served last goes on");
    });
}

#[test]
fn a_dead_primary_is_followed_by_the_standby() {
    a_dead_primary_is_followed(DEFAULT, Duration::from_millis(7500));
}

#[test]
fn a_dead_primary_is_followed_at_once_with_fast_terms() {
    a_dead_primary_is_followed(FAST, Duration::from_millis(2100));
}

#[test]
fn a_handover_takes_less_than_a_second_both_ways() {
    beside_a_pair(DEFAULT, |pair| {
        pair.serving();
        for (from, to) in [(PRIMARY, STANDBY), (STANDBY, PRIMARY)] {
            wait_until("the other one is ready", || pair.nodes[from].engine().view().peer == Verdict::Up);
            pair.nodes[from].engine().hand_over();
            let took = pair.comes_to_answer(to, Duration::from_secs(3));
            eprintln!("handed over in {took:?}");
            assert!(!pair.nodes[from].engine().view().held);
            assert_eq!(pair.nodes[from].engine().view().failed_handovers, 0);
        }
    });
}

#[test]
fn an_engine_that_ends_leaves_the_address_to_the_other_one() {
    beside_a_pair(DEFAULT, |pair| {
        pair.serving();
        wait_until("the standby is ready", || pair.nodes[PRIMARY].engine().view().peer == Verdict::Up);
        let begin = Instant::now();
        pair.nodes[PRIMARY].leave();
        eprintln!("it left in {:?}", begin.elapsed());
        assert!(begin.elapsed() < DEFAULT.lease, "it waited for nothing");
        pair.comes_to_answer(STANDBY, Duration::from_secs(3));
        let memory = std::fs::read_to_string(pair.nodes[PRIMARY].memory()).unwrap();
        assert!(memory.contains(r#""active":false"#), "{memory}");
        // alone, nobody takes it
        let begin = Instant::now();
        pair.nodes[STANDBY].leave();
        assert!(begin.elapsed() < (DEFAULT.lease + DEFAULT.margin) * 3);
        assert_eq!(who_answers(), None);
    });
}

#[test]
fn an_engine_that_is_started_anew_beside_a_dead_node_does_not_wait_for_its_boot() {
    beside_a_pair(DEFAULT, |pair| {
        pair.serving();
        wait_until("the standby is heard", || pair.nodes[PRIMARY].engine().view().peer == Verdict::Up);
        for index in [STANDBY, PRIMARY] {
            drop(pair.nodes[index].engine.take().unwrap().end());
        }
        pair.start(PRIMARY);
        let took = pair.comes_to_answer(PRIMARY, Duration::from_secs(30));
        eprintln!("served again after {took:?}");
        assert!(took >= Duration::from_secs(4), "{took:?}: the other node's lease may be longer");
    });
}

#[test]
fn an_engine_whose_loop_stands_still_loses_the_address() {
    beside_a_pair(FAST, |pair| {
        pair.serving();
        let standing_still = pair.nodes[PRIMARY].engine.take().unwrap().end();
        wait_until("its lease has run out", || !standing_still.view().held);
        standing_still.standing(Standing { able: false, ..ABLE });
        pair.comes_to_answer(STANDBY, PATIENCE);
    });
}
