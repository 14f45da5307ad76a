//! Asking a node whether it is there: the rungs of the health ladder.
//!
//! A probe has one outcome and no error. Whatever keeps it from being answered, a cable that is out or a program that is gone,
//! is a loss, and deciding what losses mean is the core's. What is wrong with *this* machine ([`ProbeError`]) is said at the
//! start, before the first probe.

pub mod icmp;
pub mod sip;
pub mod tcp;

use std::io;
use std::net::IpAddr;

use thiserror::Error;

pub use ha_core::health::ProbeOutcome;
pub use icmp::Icmp;

/// This machine cannot probe. Nothing has been sent.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// Raw sockets are for those who have the capability.
    #[error(
        "no raw ICMP socket without the capability CAP_NET_RAW: run as root, set AmbientCapabilities=CAP_NET_RAW in the systemd \
         unit, or run `setcap cap_net_raw+ep` on the program"
    )]
    RawNotPermitted,
    /// Datagram ICMP sockets are for groups that the administrator names.
    #[error(
        "no datagram ICMP socket for this group: `sysctl net.ipv4.ping_group_range=\"GID GID\"` allows it, as does the capability \
         CAP_NET_RAW for raw ones"
    )]
    DatagramNotPermitted,
    /// The machine does not speak the target's version of IP.
    #[error("{target} cannot be probed: this machine has no {family} ICMP: {cause}")]
    NoFamily {
        /// What was to be probed.
        target: IpAddr,
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// What the kernel said when the socket was opened.
        cause: String,
    },
    /// Anything else that the kernel refused.
    #[error("cannot {action} for ICMP probes")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
}
