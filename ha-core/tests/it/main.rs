//! The core's tests, in one binary.

// the purity gate is for the core; its tests read scenario files and print what they counted
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

mod clock;
mod exhaustive;
mod pair;
mod random;
mod replication;
mod scenarios;
mod shared;
