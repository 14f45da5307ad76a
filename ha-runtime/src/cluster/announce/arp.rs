//! ARP over Ethernet (RFC 826), as whole frames.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{IntoRawFd, OwnedFd};

use pnet::datalink::{self, ChannelType, Config, MacAddr, NetworkInterface};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socket_with};

use super::Claim;
use crate::cluster::address::Link;

const ETHERTYPE: u16 = 0x0806;
/// Ethernet, IPv4, and how long their addresses are.
const KINDS: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: u16 = 1;
const REPLY: u16 = 2;
const HEADER: usize = 14;
const FRAME: usize = HEADER + 28;

/// A socket that sends and hears ARP on one interface.
pub(super) fn open(name: &str, link: Link) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // it hears nothing until it is bound, so nothing of another interface either
    let fd = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
    // pnet binds a descriptor that it is given, and closes it: the binding stays with ours
    let interface = NetworkInterface {
        name: name.to_owned(),
        description: String::new(),
        index: link.index,
        mac: Some(link.hardware),
        ips: Vec::new(),
        flags: 0,
    };
    let config = Config {
        channel_type: ChannelType::Layer3(ETHERTYPE),
        promiscuous: false,
        socket_fd: Some(fd.try_clone()?.into_raw_fd()),
        ..Config::default()
    };
    datalink::channel(&interface, config)?;
    Ok(fd)
}

/// The address and who speaks for it.
#[derive(Debug)]
pub(super) struct Speaker {
    pub(super) address: Ipv4Addr,
    pub(super) hardware: MacAddr,
}

impl Speaker {
    pub(super) fn announce(&self, fd: &OwnedFd) -> Result<(), Errno> {
        let sent = send(fd, &self.frame(REQUEST, self.address, MacAddr::zero()), SendFlags::empty());
        // the other form goes out whatever became of the first
        send(fd, &self.frame(REPLY, self.address, MacAddr::broadcast()), SendFlags::empty()).and(sent)?;
        Ok(())
    }

    pub(super) fn ask(&self, fd: &OwnedFd) -> Result<(), Errno> {
        send(fd, &self.frame(REQUEST, Ipv4Addr::UNSPECIFIED, MacAddr::zero()), SendFlags::empty())?;
        Ok(())
    }

    /// To everybody; the target is the address in every one of ours.
    fn frame(&self, operation: u16, sender: Ipv4Addr, target: MacAddr) -> [u8; FRAME] {
        let mut frame = [0; FRAME];
        let hardware = self.hardware.octets();
        let parts: [&[u8]; 9] = [
            &MacAddr::broadcast().octets(),
            &hardware,
            &ETHERTYPE.to_be_bytes(),
            &KINDS,
            &operation.to_be_bytes(),
            &hardware,
            &sender.octets(),
            &target.octets(),
            &self.address.octets(),
        ];
        let mut rest = &mut frame[..];
        for part in parts {
            let (place, after) = rest.split_at_mut(part.len());
            place.copy_from_slice(part);
            rest = after;
        }
        frame
    }

    /// Whoever sends ARP from the address has it, whatever it asks or answers.
    pub(super) fn claim(&self, frame: &[u8]) -> Option<Claim> {
        let message = frame.get(HEADER..FRAME)?;
        let hardware = MacAddr::from(<[u8; 6]>::try_from(message.get(8..14)?).ok()?);
        let from_the_address =
            message.starts_with(&KINDS) && message.get(14..18) == Some(&self.address.octets());
        (from_the_address && hardware != self.hardware).then_some(Claim { hardware: Some(hardware) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: MacAddr = MacAddr(2, 0, 0, 0, 0, 9);

    fn speaker(hardware: MacAddr) -> Speaker {
        Speaker { address: Ipv4Addr::new(10, 9, 0, 9), hardware }
    }

    #[test]
    fn a_claim_is_what_another_machine_sends_from_the_address() {
        let (own, other) = (speaker(MacAddr(2, 0, 0, 0, 0, 1)), speaker(OTHER));
        for operation in [REQUEST, REPLY] {
            let said = other.frame(operation, other.address, MacAddr::broadcast());
            assert_eq!(own.claim(&said), Some(Claim { hardware: Some(OTHER) }));
            assert_eq!(other.claim(&said), None, "its own");
            for length in 0..FRAME {
                assert_eq!(own.claim(&said[..length]), None, "cut after {length}");
            }
        }
        assert_eq!(
            own.claim(&other.frame(REQUEST, Ipv4Addr::UNSPECIFIED, MacAddr::zero())),
            None,
            "a question"
        );
    }

    #[test]
    fn a_question_is_written_as_rfc_5227_has_it() {
        let frame = speaker(OTHER).frame(REQUEST, Ipv4Addr::UNSPECIFIED, MacAddr::zero());
        let expected = [
            255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 9, 8, 6, // Ethernet
            0, 1, 8, 0, 6, 4, 0, 1, // a request
            2, 0, 0, 0, 0, 9, 0, 0, 0, 0, // from nobody
            0, 0, 0, 0, 0, 0, 10, 9, 0, 9, // for the address
        ];
        assert_eq!(frame, expected);
    }
}
