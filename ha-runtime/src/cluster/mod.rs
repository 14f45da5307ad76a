//! One address for both nodes: what lets it be reached, keeps it closed where it is not held, and tells who has it.
//!
//! For a thread that must never wait: nothing here does. All is done by the kernel while it is asked, nothing runs beside
//! it, and every descriptor fits into one `poll`.

use std::net::IpAddr;

pub mod address;
pub mod announce;
pub mod gate;
mod netlink;
mod nft;
#[cfg(test)]
mod tests;

/// An address as it stands in packets and messages.
fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}
