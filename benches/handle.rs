//! One event of a node in peace: a tick that sends probes, a reply. Target: under 200 ns.
//!
//! A node handles some five events a second in peace, so this is not about load: it says that the core costs nothing
//! beside the system calls around it, and it notices when a calendar or an allocation moves into the loop.

mod cpu_time;

use std::collections::VecDeque;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use chrono::{DateTime, Utc};
use cpu_time::CpuTime;
use criterion::{Criterion, criterion_group, criterion_main};
use ha_core::event::{Input, Output, Outputs, Replicated};
use ha_core::health::{ProbeOutcome, Verdict};
use ha_core::node::Node;
use ha_core::services::Observed;
use ha_core::time::{Instant, Now};
use ha_core::{Policy, Role, RoleConfig, Schedule, preset};

/// A peer and references that answer everything, a millisecond later, and replications that succeed as fast.
struct Peace {
    node: Node,
    started: DateTime<Utc>,
    mono: Instant,
    answers: VecDeque<Input>,
}

impl Peace {
    /// Long enough after the start that every rung is up and what had to be written is.
    fn of(role: Role, policy: Policy) -> Peace {
        let role = RoleConfig::new(role, "10.77.0.11").expect("an address of a machine");
        let seen = if role.role() == Role::Master { Observed::Running } else { Observed::Stopped };
        let (started, mono) = (DateTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000), Instant(0));
        let now = Now { mono, wall: started };
        let mut peace =
            Peace { node: Node::new(policy, role, None, seen, now), started, mono, answers: VecDeque::new() };
        (0..1000).for_each(|_| drop(peace.event()));
        assert_eq!(peace.node.status().peer, Verdict::Up, "peace is a peer that answers");
        peace
    }

    /// The next thing that happens.
    fn event(&mut self) -> Outputs {
        let input = match self.answers.pop_front() {
            Some(answer) => {
                self.mono = self.mono + Duration::from_millis(1);
                answer
            }
            None => {
                self.mono = self.node.deadline().expect("a node of a pair has something to wait for");
                Input::Tick
            }
        };
        let wall = self.started + Duration::from_millis(self.mono.0);
        let outputs = self.node.handle(Now { mono: self.mono, wall }, input);
        for output in &outputs.0 {
            match output {
                Output::Probe { id, .. } => {
                    self.answers.push_back(Input::Probe { id: *id, outcome: ProbeOutcome::Reply });
                }
                Output::Replicate { id, .. } => {
                    self.answers.push_back(Input::Replicated {
                        id: *id,
                        how: Replicated::Done { generation: 1 },
                        took: Duration::ZERO,
                    });
                }
                Output::Persist(record) => {
                    self.answers.push_back(Input::Persisted { generation: record.generation, written: true });
                }
                Output::SetServices { id, .. } => {
                    self.answers.push_back(Input::Done { id: *id, result: Ok(()) })
                }
                Output::HandOver { .. }
                | Output::Check { .. }
                | Output::Announce(_)
                | Output::Alert { .. }
                | Output::Refused(_) => {}
            }
        }
        outputs
    }
}

fn handle(criterion: &mut Criterion<CpuTime>) {
    let references = vec![IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1))];
    let schedule = Some(Schedule::parse("0 * * * *").expect("every hour"));
    let policy = Policy { references, schedule, ..preset::modern() };
    let mut group = criterion.benchmark_group("handle, target under 200 ns");
    for role in [Role::Slave, Role::Master] {
        let mut peace = Peace::of(role, policy.clone());
        group.bench_function(format!("{role} in peace"), |bencher| bencher.iter(|| black_box(peace.event())));
    }
}

criterion_group! {
    name = benches;
    config = cpu_time::config();
    targets = handle
}
criterion_main!(benches);
