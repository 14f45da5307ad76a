//! Machines beside the pair that must follow telephony.

pub(crate) mod file;
pub(crate) mod gate;
pub mod place;

pub use place::{Outcome, TaskError, carry_out, carry_out_while};
