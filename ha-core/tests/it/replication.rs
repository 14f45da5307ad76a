//! When a master replicates because something changed.

use std::time::Duration;

use ha_core::cluster::View;
use ha_core::event::{ActionId, Command, Input, Output, Refusal, Replicated, Target};
use ha_core::health::{ProbeOutcome, Rung, Verdict};
use ha_core::node::{ChangeWaits, Exclusive};
use ha_core::replication::flow::Flow;
use ha_core::services::Observed;
use ha_core::{Instant, Node, Now, Policy, Role, RoleConfig, Schedule, preset};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A master whose peer answers as it should, on a clock that only this advances.
struct Master {
    node: Node,
    now: Now,
    peer: Verdict,
    running: Option<ActionId>,
    /// When each replication began, and whether because of a change.
    began: Vec<(Instant, bool)>,
}

impl Master {
    fn new(policy: Policy) -> Master {
        let now = Now { mono: Instant(0), wall: "2026-11-20T12:00:00Z".parse().unwrap() };
        let role = RoleConfig::new(Role::Master, "10.77.0.12").unwrap();
        let node = Node::new(policy, role, None, Observed::Running, now);
        Master { node, now, peer: Verdict::Unknown, running: None, began: Vec::new() }
    }

    /// With a slave that is up.
    fn of_a_pair() -> Master {
        let mut master = Master::new(preset::modern());
        master.let_peer_be(Verdict::Up);
        master
    }

    fn give(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for output in self.node.handle(self.now, input) {
                match output {
                    Output::Replicate { id, after_change, .. } => {
                        assert_eq!(self.running.replace(id), None, "two at once");
                        self.began.push((self.now.mono, after_change));
                    }
                    Output::Probe { id, target, .. } => {
                        let answers = match (self.peer, target) {
                            (Verdict::Up, _) | (Verdict::Degraded, Target::Peer(Rung::Host)) => true,
                            (Verdict::Degraded | Verdict::Down | Verdict::Unknown, _) => false,
                        };
                        let outcome = if answers { ProbeOutcome::Reply } else { ProbeOutcome::Lost };
                        inputs.push(Input::Probe { id, outcome });
                    }
                    Output::Persist(record) => {
                        inputs.push(Input::Persisted { generation: record.generation, written: true });
                    }
                    _ => {}
                }
            }
        }
    }

    fn pass(&mut self, wait: Duration) {
        let end = self.now.mono + wait;
        while let Some(next) = self.node.deadline().filter(|at| *at <= end) {
            self.now.wall += next - self.now.mono;
            self.now.mono = next;
            self.give(Input::Tick);
        }
        self.now.wall += end - self.now.mono;
        self.now.mono = end;
    }

    fn let_peer_be(&mut self, verdict: Verdict) {
        self.peer = verdict;
        self.give(Input::Tick);
        if verdict != Verdict::Unknown {
            let seen = (0..100).any(|_| {
                self.pass(SECOND / 5);
                self.node.status().peer == verdict
            });
            assert!(seen, "the peer is {:?}, not {verdict:?}", self.node.status().peer);
        }
    }

    fn end(&mut self, succeeded: bool) {
        self.end_as(if succeeded { Replicated::Done { generation: 1 } } else { Replicated::Failed });
    }

    fn end_as(&mut self, how: Replicated) {
        // all the time that it ran, which the node knows
        self.end_after(how, Duration::MAX);
    }

    fn end_after(&mut self, how: Replicated, took: Duration) {
        let id = self.running.take().expect("a replication runs");
        self.give(Input::Replicated { id, how, took });
    }

    /// How many replications began since the last question.
    fn began(&mut self) -> usize {
        std::mem::take(&mut self.began).len()
    }

    fn waits(&self) -> Option<ChangeWaits> {
        self.node.status().change_waits
    }
}

#[test]
fn a_change_is_replicated_at_once_exactly_when_nothing_is_in_its_way() {
    let mut reached = 0;
    for bits in 0..32u8 {
        let [on_change, yields, maintenance, running, rests] =
            [0, 1, 2, 3, 4].map(|bit| bits & (1 << bit) != 0);
        for verdict in [Verdict::Unknown, Verdict::Up, Verdict::Degraded, Verdict::Down] {
            let mut master = Master::new(Policy { on_change, ..preset::modern() });
            if verdict != Verdict::Unknown {
                master.let_peer_be(Verdict::Up);
            }
            if rests {
                master.give(Input::Command(Command::Replicate));
                master.pass(10 * MINUTE);
                master.end(true);
            }
            if running {
                master.give(Input::Command(Command::Replicate));
            }
            if yields {
                master.give(Input::Command(Command::Yield));
            }
            master.let_peer_be(verdict);
            if maintenance {
                let lasts = Some(60 * MINUTE);
                master.give(Input::Command(Command::Maintenance { lasts }));
            }
            master.began();
            master.give(Input::Changed);

            let status = master.node.status();
            let expected = match (status.record.active, maintenance, status.peer) {
                _ if !on_change => None,
                (false, ..) => Some(ChangeWaits::Yielded),
                (true, true, _) => Some(ChangeWaits::Maintenance),
                (true, false, Verdict::Unknown | Verdict::Down) => Some(ChangeWaits::Peer),
                (true, false, Verdict::Up | Verdict::Degraded) if rests && !running => {
                    Some(ChangeWaits::Resting)
                }
                // whether it began now or before
                (true, false, Verdict::Up | Verdict::Degraded) => Some(ChangeWaits::Running),
            };
            let free = expected == Some(ChangeWaits::Running) && !running;
            let after_change = master.began.first().map(|(_, after_change)| *after_change);
            let case = format!(
                "on_change {on_change}, yields {yields}, {maintenance}, {running}, {rests}, {verdict:?}"
            );
            assert_eq!(status.change_waits, expected, "{case}");
            assert_eq!(after_change, free.then_some(true), "{case}");
            reached += usize::from(free);
        }
    }
    assert_eq!(reached, 2);
}

#[test]
fn a_change_that_waited_is_sent_when_the_slave_is_back_and_when_maintenance_ends() {
    let mut master = Master::of_a_pair();
    master.let_peer_be(Verdict::Down);
    master.give(Input::Changed);
    assert_eq!((master.began(), master.waits()), (0, Some(ChangeWaits::Peer)));
    master.let_peer_be(Verdict::Up);
    assert_eq!((master.began(), master.waits()), (1, Some(ChangeWaits::Running)));
    master.end(true);
    assert_eq!(master.waits(), None);
    master.pass(MINUTE);

    master.give(Input::Command(Command::Maintenance { lasts: Some(MINUTE) }));
    master.give(Input::Changed);
    assert_eq!((master.began(), master.waits()), (0, Some(ChangeWaits::Maintenance)));
    master.pass(2 * MINUTE);
    assert_eq!(master.began(), 1);
}

#[test]
fn a_change_during_a_replication_is_sent_by_another_one_after_the_rest() {
    let mut master = Master::of_a_pair();
    master.give(Input::Changed);
    master.pass(4 * SECOND);
    master.give(Input::Changed);
    master.end(true);
    assert_eq!((master.began(), master.waits()), (1, Some(ChangeWaits::Resting)));
    master.pass(Duration::from_millis(11_999));
    assert_eq!(master.began(), 0);
    master.pass(Duration::from_millis(1));
    assert_eq!(master.began(), 1);
    master.end(true);
    assert_eq!(master.waits(), None);
    master.pass(10 * MINUTE);
    assert_eq!(master.began(), 0, "nothing changed");
}

#[test]
fn a_change_that_could_not_be_sent_is_not_tried_in_a_loop() {
    let mut master = Master::of_a_pair();
    master.give(Input::Changed);
    master.end(false);
    assert_eq!((master.began(), master.waits()), (1, Some(ChangeWaits::Resting)));
    master.pass(59 * SECOND);
    assert_eq!((master.began(), master.waits()), (0, Some(ChangeWaits::Failed)));
    master.pass(SECOND);
    assert_eq!(master.began(), 1, "as any replication that failed");
    master.end(false);

    master.pass(10 * SECOND);
    master.give(Input::Changed);
    assert_eq!(master.began(), 1, "another change is another attempt");
    master.end(false);
    master.pass(5 * SECOND);
    master.let_peer_be(Verdict::Down);
    master.let_peer_be(Verdict::Up);
    assert_eq!(master.began(), 1, "so is the slave's return");
    master.end(true);
    assert_eq!(master.waits(), None);
    master.pass(10 * MINUTE);
    assert_eq!(master.began(), 0);
}

#[test]
fn a_change_that_failed_is_tried_again_when_the_slave_is_back_though_its_telephony_rests() {
    let mut master = Master::of_a_pair();
    master.give(Input::Changed);
    master.end(false);
    master.pass(5 * SECOND);
    master.began();
    master.let_peer_be(Verdict::Degraded);
    assert_eq!(master.began(), 1);
    master.end(true);
    assert_eq!(master.waits(), None);
}

#[test]
fn a_slave_that_serves_is_asked_again_each_minute_and_at_once_when_it_rests() {
    let mut master = Master::of_a_pair();
    master.give(Input::Changed);
    master.end_as(Replicated::SlaveServes);
    assert_eq!((master.began(), master.waits()), (1, Some(ChangeWaits::Serves)));
    master.pass(59 * SECOND);
    assert_eq!((master.began(), master.waits()), (0, Some(ChangeWaits::Serves)));
    master.pass(SECOND);
    assert_eq!(std::mem::take(&mut master.began).iter().filter(|(_, after_change)| *after_change).count(), 1);
    master.end_as(Replicated::SlaveServes);
    master.let_peer_be(Verdict::Degraded);
    assert_eq!((master.began(), master.waits()), (1, Some(ChangeWaits::Running)));
    master.end(true);
    assert_eq!(master.waits(), None);
}

#[test]
fn what_a_replication_waited_for_another_one_does_not_make_the_rest_longer() {
    let mut master = Master::of_a_pair();
    master.give(Input::Changed);
    master.pass(20 * MINUTE);
    master.give(Input::Changed);
    master.began();
    master.end_after(Replicated::Done { generation: 1 }, SECOND);
    assert_eq!(master.waits(), Some(ChangeWaits::Resting));
    master.pass(3 * SECOND);
    assert_eq!((master.began(), master.waits()), (1, Some(ChangeWaits::Running)));
}

#[test]
fn a_master_that_never_gets_through_tries_less_often_however_much_changes() {
    let mut master = Master::of_a_pair();
    for _ in 0..600 {
        master.give(Input::Changed);
        if master.running.is_some() {
            master.end(false);
        }
        master.pass(SECOND);
    }
    let tries = master.began();
    assert!((10..40).contains(&tries), "{tries} in ten minutes");
}

#[test]
fn settings_without_it_forget_a_change_that_waited() {
    let mut master = Master::of_a_pair();
    master.let_peer_be(Verdict::Down);
    master.give(Input::Changed);
    assert!(master.node.change_policy(preset::modern(), master.now));
    assert_eq!(master.waits(), Some(ChangeWaits::Peer));
    let without = Policy { on_change: false, ..preset::modern() };
    assert!(master.node.change_policy(without, master.now));
    assert_eq!(master.waits(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_changes_no_more_than_a_quarter_of_the_time_is_spent_on_it(
        every in 1u64..5_000, takes in prop::collection::vec((0u64..20_000, any::<bool>()), 1..40),
    ) {
        let mut master = Master::of_a_pair();
        let start = master.now.mono;
        let mut spent = Duration::ZERO;
        let mut last = Duration::ZERO;
        for (takes, succeeded) in takes {
            while master.running.is_none() {
                master.give(Input::Changed);
                if master.running.is_none() {
                    master.pass(Duration::from_millis(every));
                }
            }
            let began = master.now.mono;
            prop_assert!(spent * 4 <= began - start, "{spent:?} of {:?}", began - start);
            master.pass(Duration::from_millis(takes));
            master.end(succeeded);
            last = master.now.mono - began;
            spent += last;
        }
        prop_assert!(last <= spent);
    }
}

/// A pair of which the passive node fetches, every minute.
fn fetching(flow: Flow, role: Role, observed: Observed) -> Master {
    let schedule = Some(Schedule::parse("* * * * *").unwrap());
    let policy = Policy { flow, schedule, on_change: true, ..preset::modern() };
    let now = Now { mono: Instant(0), wall: "2026-11-20T12:00:00Z".parse().unwrap() };
    let role = RoleConfig::new(role, "10.77.0.12").unwrap();
    let node = Node::new(policy, role, None, observed, now);
    let mut node = Master { node, now, peer: Verdict::Unknown, running: None, began: Vec::new() };
    node.let_peer_be(Verdict::Up);
    node
}

#[test]
fn a_slave_that_fetches_does_so_each_minute_and_its_master_does_not() {
    for flow in [Flow::FromMaster, Flow::FromActive] {
        let mut slave = fetching(flow, Role::Slave, Observed::Stopped);
        for _ in 0..3 {
            slave.pass(MINUTE);
            assert_eq!(slave.began(), 1, "{flow:?}");
            slave.end_after(Replicated::Done { generation: 1 }, Duration::ZERO);
        }
        slave.give(Input::Changed);
        slave.pass(MINUTE / 20);
        assert_eq!(slave.began(), 1, "a change of the master is fetched at once");
        slave.end(true);
        assert_eq!(slave.waits(), None);

        let mut master = fetching(flow, Role::Master, Observed::Running);
        master.give(Input::Changed);
        master.pass(3 * MINUTE);
        assert_eq!(master.began(), 0, "{flow:?}");
    }
}

#[test]
fn nothing_is_fetched_while_telephony_runs_here() {
    let mut slave = fetching(Flow::FromActive, Role::Slave, Observed::Stopped);
    slave.let_peer_be(Verdict::Down);
    slave.began();
    assert!(slave.node.status().record.active, "it has taken over");
    slave.let_peer_be(Verdict::Up);
    slave.give(Input::Changed);
    slave.pass(3 * MINUTE / 4);
    assert_eq!((slave.began(), slave.waits()), (0, Some(ChangeWaits::Serves)));
    let refused = slave.node.handle(slave.now, Input::Command(Command::Replicate));
    assert_eq!(refused.refusal(), Some(&Refusal::ServesItself));

    // started by hand, whatever the record says
    let mut slave = fetching(Flow::FromMaster, Role::Slave, Observed::Stopped);
    slave.give(Input::Observed(Observed::Running));
    slave.pass(2 * MINUTE);
    assert_eq!(slave.began(), 0);
}

#[test]
fn what_a_node_holds_newer_is_carried_as_soon_as_the_other_one_is_there() {
    let mut slave = fetching(Flow::FromActive, Role::Slave, Observed::Stopped);
    let owes = |slave: &Master, owes| Input::Owes { generation: slave.node.record().generation, owes };
    slave.give(owes(&slave, true));
    assert_eq!((slave.began(), slave.node.status().owes), (1, true));
    // the other one did not take it: soon again, and then more and more seldom
    let mut pauses = Vec::new();
    for _ in 0..7 {
        slave.end(false);
        let ended = slave.now.mono;
        while slave.began.is_empty() {
            slave.pass(SECOND);
        }
        pauses.push((slave.began.remove(0).0 - ended).as_secs());
        slave.began();
    }
    assert_eq!(pauses[..4], [2, 4, 8, 16]);
    assert!(pauses[4..].iter().all(|pause| *pause <= 60), "{pauses:?}");

    // told of another time of standing by
    slave.give(Input::Owes { generation: slave.node.record().generation + 1, owes: false });
    assert!(slave.node.owes());
    slave.give(owes(&slave, false));
    slave.end(true);
    slave.pass(SECOND * 20);
    assert_eq!((slave.began(), slave.node.owes()), (0, false));
    // it has served, and nobody has said yet what came of it
    slave.let_peer_be(Verdict::Down);
    slave.began();
    assert!(slave.node.record().active && !slave.node.owes(), "what a node that serves has is in force");

    let mut wazo = fetching(Flow::Push, Role::Slave, Observed::Stopped);
    wazo.give(owes(&wazo, true));
    assert_eq!((wazo.began(), wazo.node.owes()), (0, false), "its master sends");
}

#[test]
fn a_node_that_served_before_it_was_started_anew_says_so_before_it_knows_where_the_address_is() {
    let policy = Policy {
        flow: Flow::FromActive,
        exclusive: Some(Exclusive { restart_alone: true, watchdog: None }),
        ..preset::modern()
    };
    let now = Now { mono: Instant(0), wall: "2026-11-20T12:00:00Z".parse().unwrap() };
    let role = RoleConfig::new(Role::Master, "10.77.0.12").unwrap();
    let peer = Verdict::Up;
    let mut node = Node::new(policy.clone(), role, None, Observed::Stopped, now);
    let _ = node.handle(now, Input::Cluster(View { held: true, peer, ..View::FIRST }));
    let record = node.record().clone();
    let mut node = Node::new(policy, role, Some(record), Observed::Stopped, now);
    let generation = node.record().generation;
    let _ = node.handle(now, Input::Owes { generation, owes: true });
    assert!(node.record().active && !node.owes(), "nothing is fetched before it is known");
    assert!(node.standing().carrying);
    for (held, carrying) in [(true, false), (false, true)] {
        let _ = node.handle(now, Input::Cluster(View { held, peer, ..View::FIRST }));
        assert_eq!(node.standing().carrying, carrying, "{held}");
    }
    let generation = node.record().generation;
    let _ = node.handle(now, Input::Owes { generation, owes: false });
    assert!(!node.standing().carrying);
}

#[test]
fn a_node_that_carried_begins_no_more_often_than_it_may() {
    let mut slave = fetching(Flow::FromActive, Role::Slave, Observed::Stopped);
    slave.give(Input::Owes { generation: slave.node.record().generation, owes: true });
    // whoever should say that nothing is owed any more does not
    for _ in 0..5 {
        assert_eq!(slave.began(), 1);
        slave.end(true);
        slave.pass(SECOND - Duration::from_millis(1));
        assert_eq!(slave.began(), 0);
        slave.pass(Duration::from_millis(1));
    }
}
