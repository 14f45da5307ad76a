//! For tests of adapters and of programs that embed the engine (feature `testkit`).

mod conformance;
mod example;
mod golden;
mod model;

pub use crate::sim::{Pair, Side};
pub use conformance::conformance;
pub use example::EXAMPLE;
pub use golden::{goldens, lowered, plain};
