//! The lab: hosts with real kernels, sshd, PostgreSQL and faults on one machine, and a pair that runs in it.
//!
//! [`Lab`] makes hosts and breaks them, [`Pair`] makes a master and a slave of a [`Product`] of two of them and runs the
//! program under test there, [`wait::until`] bounds every wait. The hosts themselves are made by the scripts in
//! `tests/lab`. On a machine where hosts cannot be made a test says so and passes; with `LAB_REQUIRED` set in the
//! environment it fails instead.

mod answers;
mod builder;
mod events;
mod ground;
mod host;
mod lab;
mod packet;
mod pair;
mod product;
mod ran;
mod settings;
mod sip;
mod status;
mod vip;
pub mod wait;

pub use answers::{Answer, Answers, Holding, PERIOD, Probe, Silence};
pub use builder::PairBuilder;
pub use events::{Event, Moment};
pub use ground::{ready, skip, skip_allowed};
pub use host::{Host, Network};
pub use lab::{Lab, program};
pub use pair::Pair;
pub use product::Product;
pub use ran::Ran;
pub use settings::Settings;
pub use sip::SipWatch;
pub use status::Status;
pub use vip::{VIP, VipWatch};
