//! Every state and event of the machine of a pair that shares one address, and what must hold in each.

use ha_core::ServiceState;
use ha_core::health::Verdict;
use ha_core::machine::{Cause, Event, Intent, Limits, Machine, Remembered, Shared};
use ha_core::role::Role;
use ha_core::services::Observed;
use ha_core::transition::Address;

use crate::exhaustive::{ANYWHERE, reach, remembered};

struct World {
    limits: Limits,
    manual: bool,
}

fn world(restart_alone: bool, watched: bool, gated: bool, manual: bool) -> World {
    let limits = Limits {
        rungs: Vec::new(),
        reference_down_after: 1,
        settles: false,
        holds: gated,
        holds_down: gated,
        failures_counted: 1,
        shared: Some(Shared { restart_alone, watched }),
    };
    World { limits, manual }
}

fn worlds() -> [World; 3] {
    [world(true, true, false, true), world(true, false, true, false), world(false, true, false, false)]
}

fn cluster(held: bool, peer: Verdict) -> Event {
    Event::Cluster { held, peer, isolated: false }
}

impl World {
    fn events(&self) -> Vec<Event> {
        let mut events = ANYWHERE.to_vec();
        events.extend([
            Event::Ended,
            Event::HandOver,
            Event::NotTaken,
            Event::AskAgain,
            Event::Forgive,
            Event::Cluster { held: true, peer: Verdict::Down, isolated: true },
        ]);
        for held in [true, false] {
            events.extend([Verdict::Up, Verdict::Degraded, Verdict::Down].map(|peer| cluster(held, peer)));
        }
        if self.limits.shared.is_some_and(|shared| shared.watched) {
            events.push(Event::Died);
        }
        if self.limits.holds {
            events.extend([Event::Held, Event::HoldDownOver]);
        }
        if self.manual {
            events.extend([Event::Permit(true), Event::Permit(false)]);
        }
        events
    }

    fn restarted(&self, machine: &Machine) -> Machine {
        Machine::new(&self.limits, machine.role(), 0, &remembered(machine, &[]))
    }

    fn reachable(&self, role: Role) -> Vec<Machine> {
        let events = self.events();
        let starts = [Observed::Running, Observed::Stopped, Observed::Unknown].map(|observed| {
            let remembered = Remembered { active: false, ..Remembered::fresh(role, observed) };
            Machine::new(&self.limits, role, 0, &remembered)
        });
        reach(&self.limits, starts, &events, |machine| self.restarted(machine), check_step)
    }

    /// The cluster goes on saying the same, actions succeed, waits end.
    fn let_it_run(&self, machine: &mut Machine, says: Event) {
        let _ = machine.step(&self.limits, Event::Maintenance(false));
        for _ in 0..8 {
            let before = machine.clone();
            for event in [says, Event::AskAgain, Event::Retry, Event::Done { succeeded: true }] {
                if event != (Event::Done { succeeded: true }) || machine.services().in_flight().is_some() {
                    let _ = machine.step(&self.limits, event);
                }
            }
            if *machine == before {
                return;
            }
        }
    }
}

/// What must hold of one step.
fn check_step(before: &Machine, event: Event, after: &Machine, intents: &[Intent]) {
    let context = || format!("{before:?}\n  --{event:?}--> {after:?}\n  {intents:?}");
    let services = after.services();
    let started: Vec<ServiceState> = intents
        .iter()
        .filter_map(|intent| match intent {
            Intent::SetServices(state) => Some(*state),
            _ => None,
        })
        .collect();

    // one action in flight, none in maintenance, none before the cluster has spoken
    assert!(started.len() <= 1, "{}", context());
    if before.services().in_flight().is_some() && !matches!(event, Event::Done { .. }) {
        assert!(started.is_empty(), "a second action beside the first\n{}", context());
    }
    if after.maintenance() || after.address() == Address::Unknown {
        assert!(started.is_empty(), "{}", context());
    }
    if started.contains(&ServiceState::Running) {
        assert!(after.address() == Address::Held && after.active(), "{}", context());
    }
    // telephony follows the address
    if !after.maintenance() {
        match after.address() {
            Address::Held => {
                assert!(after.active(), "{}", context());
                assert_eq!(services.desired(), Some(ServiceState::Running), "{}", context());
            }
            Address::Elsewhere => {
                assert!(!after.active(), "{}", context());
                assert_eq!(services.desired(), Some(ServiceState::Stopped), "{}", context());
            }
            Address::Unknown => assert_eq!(services.desired(), None, "{}", context()),
            Address::Own => panic!("{}", context()),
        }
    }
    // only the address changes the activity, and never a command
    let activity = intents.iter().find_map(|intent| match intent {
        Intent::Activity { active, cause } => Some((*active, *cause)),
        _ => None,
    });
    if let Some((active, cause)) = activity {
        assert_eq!((active, cause), (after.address() == Address::Held, Cause::Verdict), "{}", context());
        let may_move = matches!(event, Event::Cluster { .. } | Event::Maintenance(false));
        assert!(may_move, "{}", context());
    }
    // a handover is asked for once, and of nobody who is not heard
    if intents.contains(&Intent::HandOver) {
        assert!(!before.handing_over() && after.handing_over(), "{}", context());
        assert_eq!(after.address(), Address::Held, "{}", context());
        assert!(!after.maintenance(), "{}", context());
        if event != Event::HandOver {
            assert!(matches!(after.verdict(), Verdict::Up | Verdict::Degraded), "{}", context());
            let failback = after.role() == Role::Slave
                && after.verdict() == Verdict::Up
                && after.failback_blocked_by().is_empty();
            assert!(failback || services.is_dead(), "{}", context());
        }
    }
    // whoever did not give it on purpose gets it back by the policy, and not at once
    if event == Event::Ended {
        assert!(!after.peer_yielded() && started.is_empty() && activity.is_none(), "{}", context());
    }
    // a latch stops nothing but failback
    if event == Event::Latch {
        assert!(started.is_empty() && activity.is_none(), "{}", context());
        assert_eq!(services.desired(), before.services().desired(), "{}", context());
    }
    // what died is left alone unless somebody decides
    if services.is_dead() {
        assert!(started.is_empty(), "{}", context());
        assert!(!after.able(), "{}", context());
    }
}

fn for_every_state(mut visit: impl FnMut(&World, &Machine)) {
    for world in worlds() {
        for role in [Role::Master, Role::Slave] {
            let states = world.reachable(role);
            println!("{role:?}: {} states", states.len());
            for machine in &states {
                visit(&world, machine);
            }
        }
    }
}

#[test]
fn every_state_and_event_of_a_shared_address_keeps_the_promises() {
    for_every_state(|world, machine| {
        // a restart of the engine changes no service before the cluster has spoken
        let restarted = world.restarted(machine);
        assert_eq!(restarted.active(), machine.active());
        for event in world.events() {
            let mut next = restarted.clone();
            let intents = next.step(&world.limits, event);
            let acts = intents.iter().any(|intent| {
                matches!(intent, Intent::SetServices(_) | Intent::HandOver | Intent::Activity { .. })
            });
            assert!(!acts || matches!(event, Event::Cluster { .. }), "{restarted:?} {event:?} {intents:?}");
        }

        // the address is here and the other node is dead: telephony runs, latched or not
        let mut alone = machine.clone();
        world.let_it_run(&mut alone, cluster(true, Verdict::Down));
        let waits_for_a_person = alone.services().is_dead() && !alone.situation().restarts;
        assert!(alone.active());
        if !waits_for_a_person {
            assert_eq!(alone.services().observed(), Observed::Running, "{machine:?}\n{alone:?}");
        }
        // it is not: telephony rests, whoever is heard
        for peer in [Verdict::Up, Verdict::Degraded, Verdict::Down] {
            let mut resting = machine.clone();
            world.let_it_run(&mut resting, cluster(false, peer));
            assert_eq!(resting.services().observed(), Observed::Stopped, "{machine:?}\n{resting:?}");
            assert!(!resting.active() && !resting.handing_over());
        }
    });
}

#[test]
fn a_disabled_node_follows_no_address() {
    let world = world(true, true, true, false);
    let mut machine =
        Machine::new(&world.limits, Role::Disabled, 0, &Remembered::fresh(Role::Disabled, Observed::Running));
    for event in world.events() {
        assert_eq!(machine.step(&world.limits, event), []);
    }
}
