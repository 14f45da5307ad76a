//! A schedule under a clock that is set.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ha_core::services::Observed;
use ha_core::{Input, Instant, Node, Now, Output, Policy, Role, RoleConfig, Schedule, preset};

fn wall(text: &str) -> DateTime<Utc> {
    format!("2026-11-20T{text}Z").parse().unwrap()
}

/// Whether a tick at this time starts a replication.
fn replicates(node: &mut Node, mono: u64, at: &str) -> bool {
    let now = Now { mono: Instant(0) + Duration::from_secs(mono), wall: wall(at) };
    node.handle(now, Input::Tick).into_iter().any(|output| matches!(output, Output::Replicate { .. }))
}

fn master(at: &str) -> Node {
    let policy = Policy { schedule: Some(Schedule::parse("0 * * * *").unwrap()), ..preset::modern() };
    let role = RoleConfig::new(Role::Master, "10.77.0.12").unwrap();
    Node::new(policy, role, None, Observed::Running, Now { mono: Instant(0), wall: wall(at) })
}

#[test]
fn a_clock_that_is_set_back_brings_the_next_run_forward() {
    let mut node = master("10:59:00");
    assert!(!replicates(&mut node, 1, "10:59:01"));
    assert!(!replicates(&mut node, 2, "09:59:30"));
    assert!(replicates(&mut node, 3, "10:00:00"));
}

#[test]
fn a_clock_that_is_set_back_a_little_changes_no_run() {
    let mut node = master("10:30:00");
    assert!(!replicates(&mut node, 1, "10:59:59"));
    assert!(!replicates(&mut node, 2, "10:40:00"));
    assert!(!replicates(&mut node, 3, "10:59:59"));
    assert!(replicates(&mut node, 4, "11:00:00"));
}
