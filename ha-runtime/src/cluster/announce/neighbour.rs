//! Neighbour discovery (RFC 4861): ICMPv6, whose checksum the kernel adds.

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::OwnedFd;

use pnet::datalink::MacAddr;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sendto, socket_with, sockopt};

use super::Claim;
use crate::cluster::address::Link;

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// What is told replaces what was known.
const OVERRIDE: u8 = 0x20;
const SOURCE_HARDWARE: u8 = 1;
const TARGET_HARDWARE: u8 = 2;
/// What a router has passed on has a lower one, and is not heard (7.1).
const HOPS: u32 = 255;
/// Every machine of the link.
const EVERYBODY: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Type, code, checksum, flags, target; then options.
const HEADER: usize = 24;
const MESSAGE: usize = HEADER + 8;

/// A socket that hears ICMPv6, and sends on one interface.
pub(super) fn open(link: Link) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = socket_with(AddressFamily::INET6, SocketType::RAW, flags, Some(ipproto::ICMPV6))?;
    sockopt::set_ipv6_multicast_if(&fd, link.index)?;
    sockopt::set_ipv6_multicast_hops(&fd, HOPS)?;
    // else this machine would hear itself
    sockopt::set_ipv6_multicast_loop(&fd, false)?;
    Ok(fd)
}

/// The address and who speaks for it.
#[derive(Debug)]
pub(super) struct Speaker {
    pub(super) address: Ipv6Addr,
    pub(super) link: Link,
}

impl Speaker {
    pub(super) fn announce(&self, fd: &OwnedFd) -> Result<(), Errno> {
        self.send(fd, EVERYBODY, self.message(ADVERTISEMENT, OVERRIDE, TARGET_HARDWARE))
    }

    pub(super) fn ask(&self, fd: &OwnedFd) -> Result<(), Errno> {
        self.send(fd, solicited(self.address), self.message(SOLICITATION, 0, SOURCE_HARDWARE))
    }

    fn send(&self, fd: &OwnedFd, to: Ipv6Addr, message: [u8; MESSAGE]) -> Result<(), Errno> {
        sendto(fd, &message, SendFlags::empty(), &SocketAddrV6::new(to, 0, 0, self.link.index))?;
        Ok(())
    }

    fn message(&self, kind: u8, flags: u8, option: u8) -> [u8; MESSAGE] {
        let mut message = [0; MESSAGE];
        message[0] = kind;
        message[4] = flags;
        message[8..HEADER].copy_from_slice(&self.address.octets());
        // one unit of eight bytes
        message[HEADER..HEADER + 2].copy_from_slice(&[option, 1]);
        message[HEADER + 2..].copy_from_slice(&self.link.hardware.octets());
        message
    }

    /// Whoever advertises the address has it.
    pub(super) fn claim(&self, message: &[u8]) -> Option<Claim> {
        if message.first() != Some(&ADVERTISEMENT) || message.get(8..HEADER)? != self.address.octets() {
            return None;
        }
        let hardware = target_hardware(message.get(HEADER..)?);
        (hardware != Some(self.link.hardware)).then_some(Claim { hardware })
    }
}

/// What the options of an advertisement tell of its sender's Ethernet address.
fn target_hardware(mut options: &[u8]) -> Option<MacAddr> {
    loop {
        let &[kind, units, ..] = options else { return None };
        let length = usize::from(units) * 8;
        // an option without a length would have no end
        if length == 0 {
            return None;
        }
        if kind == TARGET_HARDWARE {
            return options.get(2..8).and_then(|bytes| <[u8; 6]>::try_from(bytes).ok()).map(MacAddr::from);
        }
        options = options.get(length..)?;
    }
}

/// The group that a holder of the address listens to (RFC 4291, 2.7.1).
fn solicited(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    let low = u16::from_be_bytes([b, c]);
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), low)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speaker(last: u8) -> Speaker {
        let link = Link { index: 1, hardware: MacAddr(2, 0, 0, 0, 0, last), carrier: true };
        Speaker { address: "fd09::12:3456".parse().unwrap(), link }
    }

    #[test]
    fn a_claim_is_another_machines_advertisement_of_the_address() {
        let (own, other) = (speaker(1), speaker(9));
        let said = other.message(ADVERTISEMENT, OVERRIDE, TARGET_HARDWARE);
        assert_eq!(own.claim(&said), Some(Claim { hardware: Some(other.link.hardware) }));
        assert_eq!(other.claim(&said), None, "its own");
        assert_eq!(own.claim(&other.message(SOLICITATION, 0, SOURCE_HARDWARE)), None, "a question");
        let untold = Some(Claim { hardware: None });
        for length in 0..MESSAGE {
            let expected = if length < HEADER { None } else { untold };
            assert_eq!(own.claim(&said[..length]), expected, "cut after {length}");
        }
        let elsewhere = Speaker { address: "fd09::1".parse().unwrap(), ..speaker(9) };
        assert_eq!(own.claim(&elsewhere.message(ADVERTISEMENT, OVERRIDE, TARGET_HARDWARE)), None);
    }

    #[test]
    fn an_option_without_a_length_ends_the_search() {
        assert_eq!(target_hardware(&[1, 0, 0, 0, 0, 0, 0, 0, 2, 1, 2, 0, 0, 0, 0, 9]), None);
        let second = [1, 1, 0, 0, 0, 0, 0, 0, 2, 1, 2, 0, 0, 0, 0, 9];
        assert_eq!(target_hardware(&second), Some(MacAddr(2, 0, 0, 0, 0, 9)));
    }

    #[test]
    fn the_group_ends_with_the_address() {
        assert_eq!(
            solicited("fd09::12:3456".parse().unwrap()),
            "ff02::1:ff12:3456".parse::<Ipv6Addr>().unwrap()
        );
    }
}
