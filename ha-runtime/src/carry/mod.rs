//! Carrying what a returning node holds newer to the node that serves, whose telephony runs meanwhile.
//!
//! [`ha_core::voicemail`] and [`ha_core::carry`] decide; this does it, on both nodes' disks. The returning node gives, the
//! serving one takes:
//!
//! 1. The serving node opens a [`Receiver`], which first finishes what an earlier one was killed in.
//! 2. The returning node offers its [`Spool`](ha_core::voicemail::Spool), from [`scan`]; [`Receiver::offer`] answers with the plan.
//! 3. Step by step: what a step needs is sent, [`Step::contents`](ha_core::voicemail::Step::contents) in that order, and
//!    [`Receiver::step`] does it. What is not carried the returning node copies into its [`Aside`].
//! 4. The returning node pulls, and keeps what both now have with [`Kept::record`].
//!
//! Cut at any point, it is begun again from 2: what is there already is not put there twice.

mod aside;
mod error;
mod folder_lock;
mod giving;
mod hands;
mod kept;
mod parts;
mod placing;
mod receiver;
mod scan;
mod taking;

pub use aside::Aside;
pub use error::CarryError;
pub use folder_lock::LockWay;
pub use giving::Given;
pub(crate) use giving::give;
pub use kept::Kept;
pub use receiver::{Contents, Done, Receiver};
pub use scan::{Holds, Seen, open_file, scan};
pub use taking::Holding;
pub(crate) use taking::{TakingHost, take};

#[cfg(test)]
mod tests;

/// A point at which a process may be killed; tests do so at each.
#[inline]
fn point() {
    #[cfg(test)]
    tests::kill::point();
}
