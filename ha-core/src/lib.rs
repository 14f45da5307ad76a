//! Failover and replication planning for a pair of PBXs, as pure functions of their arguments.

#![forbid(unsafe_code)]
// test code may say what it expects and print what it found
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

pub mod budget;
pub mod carry;
pub mod cluster;
pub mod distribution;
pub mod effect;
pub mod event;
pub mod failback;
pub mod follow;
pub mod health;
pub mod machine;
pub mod node;
pub mod preset;
mod probing;
pub mod profile;
pub mod replication;
pub mod role;
pub mod role_file;
pub mod runbook;
pub mod scenario;
pub mod schedule;
pub mod services;
pub mod shell_vars;
pub mod sim;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod time;
pub mod transition;
pub mod voicemail;
pub mod watchdog;
pub mod window;

pub use budget::Budget;
pub use distribution::{Distribution, RoleChange, ServiceState};
pub use effect::Effect;
pub use event::{Command, Input, Output, Outputs};
pub use follow::Side;
pub use node::{Node, Policy};
pub use profile::Profile;
pub use role::{PeerAddress, Role, RoleConfig, RoleError};
pub use schedule::{Schedule, ScheduleError};
pub use time::{Instant, Now, Zone};
pub use window::{DailyWindow, WindowError};

/// The README's example, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
