//! Any input in any state: `handle` never fails, and what it promises about its outputs holds.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ha_core::cluster::View;
use ha_core::event::{ActionFailed, ActionId, Command, Input, Output, ProbeId, Refusal, Replicated};
use ha_core::failback::FailbackPolicy;
use ha_core::health::{ProbeOutcome, Verdict};
use ha_core::node::{Exclusive, Node, Policy};
use ha_core::role::{PeerAddress, Role, RoleConfig};
use ha_core::services::Observed;
use ha_core::time::{Instant, Now};
use ha_core::watchdog::{CheckId, WatchdogPolicy};
use ha_core::{Schedule, ServiceState, preset};
use proptest::prelude::*;

/// An input before the ids that the node gave out are known.
#[derive(Debug, Clone)]
enum Given {
    Tick,
    /// The outcome of the probe given out so many before the last.
    Probe(u64, ProbeOutcome),
    /// The report of the action in flight.
    Done(bool),
    /// A report with any id.
    Foreign(u64, bool),
    Observed(Observed),
    Persisted(bool),
    Replicated(Replicated, Duration),
    Owes(bool),
    Changed,
    SlaveRests,
    Booted,
    Cluster(View),
    /// The outcome of the check given out so many before the last.
    Checked(u64, ProbeOutcome),
    Command(Command),
    Reload,
}

fn peer(last: u8) -> PeerAddress {
    PeerAddress::new([10, 0, 0, last].into()).unwrap()
}

fn roles() -> impl Strategy<Value = RoleConfig> {
    prop_oneof![
        Just(RoleConfig::Disabled),
        (1u8..4).prop_map(|last| RoleConfig::Master { slave: peer(last) }),
        (1u8..4).prop_map(|last| RoleConfig::Slave { master: peer(last) }),
    ]
}

fn outcomes() -> impl Strategy<Value = ProbeOutcome> {
    prop_oneof![Just(ProbeOutcome::Reply), Just(ProbeOutcome::Lost)]
}

fn observations() -> impl Strategy<Value = Observed> {
    prop_oneof![Just(Observed::Running), Just(Observed::Stopped), Just(Observed::Unknown)]
}

fn commands() -> impl Strategy<Value = Command> {
    let lasts = prop_oneof![
        Just(None),
        (0u64..100).prop_map(|seconds| Some(Duration::from_secs(seconds))),
        (0u32..64).prop_map(|bits| Some(Duration::from_secs(1 << bits))),
    ];
    prop_oneof![
        (roles(), observations()).prop_map(|(role, observed)| Command::SetRole { role, observed }),
        Just(Command::TakeOver),
        Just(Command::StandBy),
        Just(Command::Yield),
        Just(Command::Resume),
        Just(Command::HandOver),
        Just(Command::HandBack),
        lasts.prop_map(|lasts| Command::Maintenance { lasts }),
        Just(Command::Acknowledge),
        Just(Command::Replicate),
        Just(Command::Follow),
    ]
}

fn views() -> impl Strategy<Value = View> {
    let peer = prop::sample::select(Verdict::ALL.to_vec());
    let bits = (any::<bool>(), any::<bool>(), any::<bool>());
    (bits, peer, 0u32..3).prop_map(|((held, isolated, ended), peer, failed_handovers)| View {
        held,
        peer,
        isolated,
        failed_handovers,
        ended,
    })
}

fn endings() -> impl Strategy<Value = Replicated> {
    let others = prop::sample::select(vec![Replicated::SlaveServes, Replicated::Failed]);
    prop_oneof![(0u64..3).prop_map(|generation| Replicated::Done { generation }), others]
}

fn given() -> impl Strategy<Value = Given> {
    prop_oneof![
        6 => Just(Given::Tick),
        20 => (0u64..6, outcomes()).prop_map(|(back, outcome)| Given::Probe(back, outcome)),
        4 => any::<bool>().prop_map(Given::Done),
        1 => (any::<u64>(), any::<bool>()).prop_map(|(id, good)| Given::Foreign(id, good)),
        2 => observations().prop_map(Given::Observed),
        4 => any::<bool>().prop_map(Given::Persisted),
        1 => (endings(), 0u64..4_000_000).prop_map(|(how, took)| Given::Replicated(how, Duration::from_millis(took))),
        2 => any::<bool>().prop_map(Given::Owes),
        2 => Just(Given::Changed),
        1 => Just(Given::SlaveRests),
        1 => Just(Given::Booted),
        2 => commands().prop_map(Given::Command),
        6 => views().prop_map(Given::Cluster),
        6 => (0u64..6, outcomes()).prop_map(|(back, outcome)| Given::Checked(back, outcome)),
        1 => Just(Given::Reload),
    ]
}

/// Monotone steps forward, mostly short; wall clock steps either way.
fn steps() -> impl Strategy<Value = (Given, u64, i64)> {
    let waits = prop_oneof![10 => 0u64..1500, 1 => 0u64..4_000_000];
    let steps = prop_oneof![30 => Just(0i64), 1 => -100_000i64..100_000];
    (given(), waits, steps)
}

fn policies() -> impl Strategy<Value = Policy> {
    let seconds = |most: u64| (0..most).prop_map(Duration::from_secs);
    let durations =
        prop_oneof![9 => seconds(90), 1 => (0u32..64).prop_map(|bits| Duration::from_secs(1 << bits))];
    let failback = prop_oneof![Just(FailbackPolicy::Automatic), Just(FailbackPolicy::Manual)];
    let watchdog = prop::option::of(Just(WatchdogPolicy::modern(Duration::from_secs(20))));
    let exclusive =
        (any::<bool>(), watchdog).prop_map(|(restart_alone, watchdog)| Exclusive { restart_alone, watchdog });
    let gates = (failback, seconds(90), durations.clone(), durations, 0u32..4);
    (gates, 0usize..3, any::<bool>(), prop::option::of(exclusive)).prop_map(
        |((failback, hold, hold_down, latch_window, latch_after), references, scheduled, exclusive)| {
            let mut policy = preset::modern();
            policy.failback.policy = failback;
            policy.failback.hold = hold;
            policy.failback.hold_down = hold_down;
            policy.failback.latch_window = latch_window;
            policy.failback.latch_after = latch_after;
            policy.references = (0..references).map(|last| [10, 0, 1, last as u8].into()).collect();
            policy.schedule = scheduled.then(|| Schedule::parse("* * * * *").unwrap());
            policy.exclusive = exclusive;
            policy
        },
    )
}

/// What the world around the node knows.
struct World {
    now: Now,
    last_id: u64,
    action: Option<ActionId>,
    replication: Option<ActionId>,
    generation: u64,
}

impl World {
    /// What must hold of the outputs of one input.
    fn check(&mut self, node: &Node, outputs: &[Output]) {
        let mut persists = 0;
        for output in outputs {
            match output {
                Output::Probe { id: ProbeId(id), .. } => self.next(*id),
                Output::Replicate { id, after_change, .. } => {
                    self.next(id.0);
                    if *after_change {
                        let status = node.status();
                        let heard = status.peer == Verdict::Degraded && status.address_held.is_some();
                        assert!(status.peer == Verdict::Up || heard);
                        assert!(node.record().maintenance_until.is_none());
                    }
                    assert_eq!(node.role().role(), Role::Master);
                    assert!(node.record().active, "a master that handed over replicates nothing");
                    self.replication = Some(*id);
                }
                Output::SetServices { id, to, generation } => {
                    assert_eq!(self.action, None, "a second action beside the first");
                    self.action = Some(*id);
                    assert!(*generation <= node.record().generation);
                    if *to == ServiceState::Running && *generation == node.record().generation {
                        assert!(node.record().active);
                        assert_ne!(node.status().address_held, Some(false), "telephony without its address");
                    } else if *generation == node.record().generation && node.status().address_held.is_none()
                    {
                        assert_eq!(node.record().active, *to == ServiceState::Running);
                    }
                    assert_ne!(node.role().role(), Role::Disabled, "a disabled node acts on nothing");
                }
                Output::Persist(record) => {
                    persists += 1;
                    assert_eq!(record.as_ref(), node.record());
                }
                Output::Refused(refusal) => {
                    assert!(
                        !matches!(refusal, Refusal::NotReady { .. }) || node.role().role() == Role::Slave
                    );
                }
                Output::Announce(decision) => assert!(decision.generation <= node.record().generation),
                Output::HandOver { id: ActionId(id), .. } => self.next(*id),
                Output::Check { id: CheckId(id), .. } => self.next(*id),
                Output::Alert { .. } => {}
            }
        }
        assert!(persists <= 1);
        assert!(node.record().generation >= self.generation, "a generation never comes back");
        self.generation = node.record().generation;
        match (node.role().role(), node.deadline()) {
            (Role::Disabled, deadline) => assert_eq!(deadline, None),
            (_, deadline) => assert!(deadline.is_some_and(|at| at > self.now.mono), "the loop would spin"),
        }
        let _ = node.status();
    }

    /// Probes and actions share one sequence; actions that waited for the disk come out later than they were named.
    fn next(&mut self, id: u64) {
        assert!(id > self.last_id, "{id} after {}", self.last_id);
        self.last_id = id;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_inputs_keep_the_promises_of_a_node(
        policy in policies(),
        role in roles(),
        observed in observations(),
        steps in prop::collection::vec(steps(), 1..400),
    ) {
        let wall: DateTime<Utc> = "2026-11-20T12:00:00Z".parse().unwrap();
        let now = Now { mono: Instant(0), wall };
        let mut node = Node::new(policy.clone(), role, None, observed, now);
        let mut world = World {
            now, last_id: 0, action: None, replication: None, generation: node.record().generation,
        };
        for (given, wait, step) in steps {
            world.now.mono = world.now.mono + Duration::from_millis(wait);
            world.now.wall += Duration::from_millis(wait);
            world.now.wall += chrono::Duration::seconds(step);
            let input = match given {
                Given::Tick => Input::Tick,
                Given::Probe(back, outcome) => {
                    Input::Probe { id: ProbeId(world.last_id.saturating_sub(back)), outcome }
                }
                Given::Done(good) => {
                    let Some(id) = world.action.take() else { continue };
                    Input::Done { id, result: if good { Ok(()) } else { Err(ActionFailed("no".into())) } }
                }
                Given::Foreign(id, _) if world.action == Some(ActionId(id)) => continue,
                Given::Foreign(id, good) => {
                    let result = if good { Ok(()) } else { Err(ActionFailed("no".into())) };
                    Input::Done { id: ActionId(id), result }
                }
                Given::Observed(observed) => Input::Observed(observed),
                Given::Persisted(written) => Input::Persisted { generation: node.record().generation, written },
                Given::Replicated(how, took) => {
                    let Some(id) = world.replication.take() else { continue };
                    Input::Replicated { id, how, took }
                }
                Given::Owes(owes) => Input::Owes { generation: node.record().generation, owes },
                Given::Changed => Input::Changed,
                Given::SlaveRests => Input::SlaveRests,
                Given::Booted => Input::Booted,
                Given::Cluster(view) => Input::Cluster(view),
                Given::Checked(back, outcome) => {
                    Input::Checked { id: CheckId(world.last_id.saturating_sub(back)), outcome }
                }
                Given::Command(command) => {
                    // the driver changes no role while an action is under way
                    if matches!(command, Command::SetRole { .. }) && node.status().in_flight.is_some() {
                        continue;
                    }
                    Input::Command(command)
                }
                Given::Reload => {
                    let status = node.status();
                    let changed = node.change_policy(policy.clone(), world.now);
                    prop_assert_eq!(changed, status.in_flight.is_none() && !status.handing_over);
                    continue;
                }
            };
            let outputs = node.handle(world.now, input);
            world.check(&node, &outputs.0);
        }
    }
}

fn slave() -> (Node, Now) {
    let wall = "2026-11-20T12:00:00Z".parse().unwrap();
    let now = Now { mono: Instant(0), wall };
    (Node::new(preset::modern(), RoleConfig::Slave { master: peer(1) }, None, Observed::Stopped, now), now)
}

#[test]
fn a_maintenance_longer_than_any_calendar_is_no_end_of_the_engine() {
    for bits in 0..64 {
        let (mut node, now) = slave();
        let lasts = Some(Duration::from_secs(1 << bits));
        let outputs = node.handle(now, Input::Command(Command::Maintenance { lasts }));
        assert_eq!(outputs.refusal(), None);
        assert!(node.record().maintenance_until.is_some());
    }
}

#[test]
fn settings_read_anew_after_the_clock_was_set_forward_do_not_end_maintenance() {
    let (mut node, mut now) = slave();
    let lasts = Some(Duration::from_secs(1800));
    let _ = node.handle(now, Input::Command(Command::Maintenance { lasts }));
    now.wall += chrono::Duration::hours(3);
    assert!(node.change_policy(preset::modern(), now));
    let _ = node.handle(now, Input::Tick);
    assert!(node.record().maintenance_until.is_some());
}

#[test]
fn the_same_role_again_forgets_neither_the_latch_nor_the_handover() {
    let (mut node, now) = slave();
    let _ = node.handle(now, Input::Command(Command::TakeOver));
    let before = node.record().clone();
    assert!(before.peer_yielded && before.active);
    let again = Command::SetRole { role: *node.role(), observed: Observed::Unknown };
    let _ = node.handle(now, Input::Command(again));
    assert_eq!(node.record(), &before);
}
