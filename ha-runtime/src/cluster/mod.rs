//! One address for both nodes: what lets it be reached, keeps it closed where it is not held, and tells who has it.
//!
//! For a thread that must never wait: nothing here does. All is done by the kernel while it is asked, nothing runs beside
//! it, and every descriptor fits into one `poll`.

use std::net::IpAddr;
use std::sync::Arc;

use ha_core::cluster::{Standing, View};
use tokio::sync::Notify;

use crate::report::Failure;

pub mod address;
pub mod announce;
mod charter;
pub mod gate;
pub mod heartbeat;
pub mod native;
mod netlink;
mod nft;
mod said;
#[cfg(test)]
mod tests;

pub use charter::{Charter, open, release};
pub use said::{Agreed, Said};

/// Who settles which node has the address. Nothing here waits, but for [`Cluster::leave`].
///
/// Dropped, it lets the address go at once, as if the machine had died: the other node takes it when it is sure of that.
pub trait Cluster: Send {
    /// How things are now.
    fn view(&self) -> View;

    /// Wakes whoever waits for it when [`Cluster::view`] has changed.
    fn changes(&self) -> Arc<Notify>;

    /// What the node says of itself, which the other one hears. Until it is said: not able.
    fn standing(&self, standing: Standing);

    /// The other node is to have the address. What becomes of it is told by [`Cluster::view`].
    fn hand_over(&self);

    /// Asks for the address, which the other node has, because a person wants it here. False: this cluster cannot be asked;
    /// the other node's can.
    fn fetch(&self) -> bool {
        false
    }

    /// The cluster's own script says that the address came to this node, or is to leave it.
    ///
    /// # Errors
    ///
    /// This cluster has no script, or it cannot be noted; nothing has changed.
    fn told(&self, _here: bool) -> Result<(), Failure> {
        Err(Failure::guard(
            "guard \"cluster\": no script decides where the address is, but the engine: set [cluster] kind = \"heartbeat\" \
             where Heartbeat should",
        ))
    }

    /// What it moves, in the words of its own files, which must be the same on both nodes.
    fn moves(&self) -> Option<&str> {
        None
    }

    /// The engine's loop turned now: the address is held only as long as it does, at least every half of a lease
    /// (`safety.md` 5.8).
    fn turned(&self);

    /// False once the cluster ended by itself: then another is to be opened.
    fn runs(&self) -> bool;

    /// For `status`: an object.
    fn facts(&self) -> serde_json::Value;

    /// The engine ends: gives the address to the other node, or lets it go. Returns when that is done, about a lease and a
    /// margin later at most.
    fn leave(self: Box<Self>);

    /// The same for a node that is in such a pair no more: nothing keeps the address from being used here otherwise.
    fn dissolve(self: Box<Self>);
}

/// An address as it stands in packets and messages.
fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}
