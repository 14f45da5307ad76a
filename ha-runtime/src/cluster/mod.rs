//! One address for both nodes: what lets it be reached, keeps it closed where it is not held, and tells who has it.
//!
//! For a thread that must never wait: nothing here does. All is done by the kernel while it is asked, nothing runs beside
//! it, and every descriptor fits into one `poll`.

use std::net::IpAddr;
use std::sync::Arc;

use ha_core::cluster::{Standing, View};
use tokio::sync::Notify;

pub mod address;
pub mod announce;
mod charter;
pub mod gate;
mod netlink;
mod nft;
#[cfg(test)]
mod tests;

pub use charter::{Charter, open};

/// Settles which node holds the address. The node's engine asks it, and tells it; none of the calls waits but `leave`.
pub trait Cluster: Send {
    /// What is settled now.
    fn view(&self) -> View;

    /// Wakes one who waits whenever the view or the facts changed; a change that nobody waited for is kept.
    fn changes(&self) -> Arc<Notify>;

    /// What the node says of itself.
    fn standing(&self, standing: Standing);

    /// The other node is to have the address; what comes of it is the next view.
    fn hand_over(&self);

    /// The engine's loop turned now: one that does not loses the address (`safety.md` 5.8).
    fn turned(&self);

    /// For `status`: an object.
    fn facts(&self) -> serde_json::Value;

    /// The engine ends, or is in this pair no more: gives the address away when the other node is ready, else lets it go.
    /// Returns when it is not held here, within a lease and a margin. Nobody says meanwhile that the loop turned.
    fn leave(self: Box<Self>);
}

/// An address as it stands in packets and messages.
fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}
