//! Every state and event of the machine, and what must hold in each.

use std::collections::{BTreeMap, VecDeque};

use ha_core::ServiceState;
use ha_core::health::{Counts, ProbeOutcome, Rung, Verdict};
use ha_core::machine::{Cause, Event, Intent, Limits, Machine, Remembered};
use ha_core::role::Role;
use ha_core::services::Observed;
use rustc_hash::FxHashSet;

use ProbeOutcome::{Lost, Reply};

/// What can happen to the machine of any pair.
pub(crate) const ANYWHERE: [Event; 9] = [
    Event::Retry,
    Event::Latch,
    Event::Acknowledge,
    Event::Maintenance(true),
    Event::Maintenance(false),
    Event::Observed(Observed::Running),
    Event::Observed(Observed::Stopped),
    Event::Done { succeeded: true },
    Event::Done { succeeded: false },
];

/// What of a machine survives a restart of the engine.
pub(crate) fn remembered<'a>(machine: &Machine, armed: &'a [Rung]) -> Remembered<'a> {
    Remembered {
        active: machine.active(),
        armed,
        hold_down: machine.hold_down(),
        latched: machine.latched(),
        maintenance: machine.maintenance(),
        peer_yielded: machine.peer_yielded(),
        observed: machine.services().observed(),
    }
}

/// Every state that any sequence of these events and of restarts leads to; each step is checked.
pub(crate) fn reach(
    limits: &Limits,
    starts: [Machine; 3],
    events: &[Event],
    restarted: impl Fn(&Machine) -> Machine,
    check_step: impl Fn(&Machine, Event, &Machine, &[Intent]),
) -> Vec<Machine> {
    let mut seen: FxHashSet<Machine> = starts.iter().cloned().collect();
    let mut queue: VecDeque<Machine> = starts.into();
    let mut all = Vec::new();
    while let Some(machine) = queue.pop_front() {
        let mut go_to = |next: Machine| {
            // nearly all are known: only a new one is worth a copy
            if !seen.contains(&next) {
                seen.insert(next.clone());
                queue.push_back(next);
            }
        };
        go_to(restarted(&machine));
        for event in events {
            let mut next = machine.clone();
            let intents = next.step(limits, *event);
            check_step(&machine, *event, &next, &intents);
            go_to(next);
        }
        all.push(machine);
    }
    all
}

struct World {
    name: &'static str,
    limits: Limits,
    references: usize,
    automatic: bool,
}

fn world(name: &'static str, rungs: &[Rung], references: usize, timed: bool, automatic: bool) -> World {
    let counts = |rung| match rung {
        Rung::Host => Counts { down_after: 2, up_after: 2 },
        Rung::Port | Rung::Service => Counts { down_after: 2, up_after: 1 },
    };
    let limits = Limits {
        rungs: rungs.iter().map(|rung| (*rung, counts(*rung))).collect(),
        reference_down_after: 1,
        settles: timed,
        holds: timed,
        holds_down: timed,
        failures_counted: 1,
        shared: None,
    };
    World { name, limits, references, automatic }
}

fn worlds() -> Vec<World> {
    vec![
        world("seed", &[Rung::Host], 0, false, true),
        world("host, gated", &[Rung::Host], 0, true, true),
        world("host, gated, manual", &[Rung::Host], 0, true, false),
        world("host, one reference", &[Rung::Host], 1, false, true),
        world("host, two references", &[Rung::Host], 2, false, true),
        world("ladder", &[Rung::Host, Rung::Service], 0, false, true),
        world("ladder, gated, one reference", &[Rung::Host, Rung::Service], 1, true, true),
    ]
}

impl World {
    fn events(&self) -> Vec<Event> {
        let mut events = ANYWHERE.to_vec();
        events.extend([
            Event::Observed(Observed::Unknown),
            Event::TakeOver,
            Event::Yield,
            Event::Resume,
            Event::StandBy,
        ]);
        if self.limits.settles {
            events.extend([Event::Settled, Event::Held, Event::HoldDownOver]);
        }
        if !self.automatic {
            events.extend([Event::Permit(true), Event::Permit(false)]);
        }
        for (rung, _) in &self.limits.rungs {
            events.extend([Event::Probe(*rung, Reply), Event::Probe(*rung, Lost)]);
        }
        for index in 0..self.references {
            events.extend([Event::Reference(index, Reply), Event::Reference(index, Lost)]);
        }
        events
    }

    fn start(&self, role: Role, remembered: &Remembered<'_>) -> Machine {
        Machine::new(&self.limits, role, self.references, remembered)
    }

    fn restarted(&self, machine: &Machine) -> Machine {
        let armed: Vec<Rung> = machine.ladder().armed().collect();
        self.start(machine.role(), &remembered(machine, &armed))
    }

    /// Every state that any sequence of events leads to, restarts of the engine included.
    fn reachable(&self, role: Role) -> Vec<Machine> {
        let events = self.events();
        let starts = [Observed::Running, Observed::Stopped, Observed::Unknown]
            .map(|observed| self.start(role, &Remembered::fresh(role, observed)));
        let restarted = |machine: &Machine| self.restarted(machine);
        let check = |before: &Machine, event, after: &Machine, intents: &[Intent]| {
            self.check_step(before, event, after, intents);
        };
        reach(&self.limits, starts, &events, restarted, check)
    }

    /// What must hold of one step.
    fn check_step(&self, before: &Machine, event: Event, after: &Machine, intents: &[Intent]) {
        let context = || format!("{}: {before:?}\n  --{event:?}--> {after:?}\n  {intents:?}", self.name);
        let started: Vec<ServiceState> = intents
            .iter()
            .filter_map(|intent| match intent {
                Intent::SetServices(state) => Some(*state),
                _ => None,
            })
            .collect();
        let activity = intents.iter().find_map(|intent| match intent {
            Intent::Activity { active, cause } => Some((*active, *cause)),
            _ => None,
        });

        // one action in flight, and a report without an action starts nothing beside one
        assert!(started.len() <= 1, "{}", context());
        if before.services().in_flight().is_some() && !matches!(event, Event::Done { .. }) {
            assert!(started.is_empty(), "a second action beside the first\n{}", context());
        }
        // a disabled node acts on nothing
        if before.role() == Role::Disabled {
            assert!(intents.is_empty(), "{}", context());
        }
        // what already is as wanted is not touched
        for state in &started {
            let seen = match event {
                Event::Observed(Observed::Unknown) | Event::Done { .. } => after.services().observed(),
                Event::Observed(observed) => observed,
                _ => before.services().observed(),
            };
            assert_ne!(seen, Observed::from(*state), "{}", context());
        }
        // nothing happens to services in maintenance
        if after.maintenance() {
            assert!(started.is_empty(), "{}", context());
        }
        if let Some((active, Cause::Verdict)) = activity {
            let takeover = active;
            // an isolated node never takes over; nor does one that is worked on
            if takeover {
                assert!(!after.isolated() && !after.maintenance(), "{}", context());
                assert_ne!(after.verdict(), Verdict::Up, "{}", context());
                assert_ne!(after.verdict(), Verdict::Unknown, "{}", context());
            } else {
                // hands back only to a peer that is up, not latched, not held down
                assert_eq!(after.role(), Role::Slave, "{}", context());
                assert_eq!(after.verdict(), Verdict::Up, "{}", context());
                assert!(!before.latched() || event == Event::Acknowledge, "{}", context());
                assert!(!before.hold_down() || event == Event::HoldDownOver, "{}", context());
                assert!(!before.peer_yielded() || !after.peer_yielded(), "{}", context());
                if self.limits.holds_down {
                    assert!(after.hold_down(), "{}", context());
                }
            }
        }
        // only a slave's verdict stops telephony
        if let Some((false, Cause::Verdict)) = activity {
            assert_eq!(before.role(), Role::Slave, "{}", context());
        }
    }

    /// Feeds what a dead master (or a live one) would cause until nothing changes: the engine's own actions succeed.
    fn let_it_run(&self, machine: &mut Machine, outcome: ProbeOutcome, reference: ProbeOutcome) {
        for _ in 0..12 {
            let before = machine.clone();
            for (rung, _) in &self.limits.rungs {
                let _ = machine.step(&self.limits, Event::Probe(*rung, outcome));
            }
            for index in 0..self.references {
                let _ = machine.step(&self.limits, Event::Reference(index, reference));
            }
            for event in [Event::Settled, Event::Held, Event::HoldDownOver, Event::Retry] {
                let _ = machine.step(&self.limits, event);
            }
            if machine.services().in_flight().is_some() {
                let _ = machine.step(&self.limits, Event::Done { succeeded: true });
            }
            // the same again would change nothing either
            if *machine == before {
                return;
            }
        }
    }
}

fn for_every_state(mut visit: impl FnMut(&World, &Machine)) {
    let mut sizes = BTreeMap::new();
    for world in worlds() {
        for role in Role::ALL {
            let states = world.reachable(role);
            sizes.insert((world.name, role.word()), states.len());
            for machine in &states {
                visit(&world, machine);
            }
        }
    }
    println!("{sizes:#?}");
}

#[test]
fn every_state_and_event_of_the_machine_keeps_the_promises() {
    for_every_state(|world, machine| {
        // restarting the engine changes no service, and forgets nothing that decides
        let restarted = world.restarted(machine);
        assert_eq!(restarted.services().desired(), None);
        assert_eq!(restarted.services().in_flight(), None);
        assert!(restarted.active() || !machine.active());

        if machine.role() != Role::Slave {
            return;
        }
        if machine.maintenance() {
            return;
        }
        // bounded liveness: enough losses lead to running, latched or not
        let mut dead = machine.clone();
        world.let_it_run(&mut dead, Lost, Reply);
        assert_eq!(dead.services().observed(), Observed::Running, "{}: {machine:?}\n{dead:?}", world.name);
        assert!(dead.active());
        // a cut cable does not (a reference that answered after the peer fell silent had proved the cable whole)
        if world.references > 0 && !machine.active() {
            let mut cut = machine.clone();
            let counting = (0..world.references).any(|index| machine.references().counts(index));
            let at_peace = machine.verdict() == Verdict::Up && !machine.ladder().silent();
            world.let_it_run(&mut cut, Lost, Lost);
            if counting && at_peace {
                assert!(!cut.active(), "{}: {machine:?}\n{cut:?}", world.name);
                // when the isolation ends and the master stays silent, it does
                world.let_it_run(&mut cut, Lost, Reply);
                assert!(cut.active());
            }
        }
        // enough replies lead to stopped, unless a person or the peer must speak first
        let mut back = machine.clone();
        world.let_it_run(&mut back, Reply, Reply);
        let waits = back.latched() || back.peer_yielded() || !back.situation().permitted;
        assert_eq!(back.verdict(), Verdict::Up);
        if !waits {
            assert_eq!(
                back.services().observed(),
                Observed::Stopped,
                "{}: {machine:?}\n{back:?}",
                world.name
            );
            assert!(!back.active());
        }
    });
}

#[test]
fn a_service_that_was_firewalled_from_the_start_causes_no_takeover() {
    let world = world("ladder", &[Rung::Host, Rung::Service], 0, false, true);
    let mut machine = world.start(Role::Slave, &Remembered::fresh(Role::Slave, Observed::Stopped));
    for _ in 0..50 {
        let _ = machine.step(&world.limits, Event::Probe(Rung::Host, Reply));
        let _ = machine.step(&world.limits, Event::Probe(Rung::Service, Lost));
    }
    assert_eq!(machine.verdict(), Verdict::Up);
    assert!(!machine.active());
}
