//! The bytes of an echo request and of its reply.

use pnet::packet::Packet;
use pnet::packet::icmp::echo_reply::EchoReplyPacket;
use pnet::packet::icmp::echo_request::MutableEchoRequestPacket;
use pnet::packet::icmp::{self, IcmpPacket, IcmpTypes};
use pnet::packet::icmpv6::echo_reply::EchoReplyPacket as EchoReplyV6Packet;
use pnet::packet::icmpv6::echo_request::MutableEchoRequestPacket as MutableEchoRequestV6Packet;
use pnet::packet::icmpv6::{Icmpv6Packet, Icmpv6Types};
use pnet::packet::ipv4::Ipv4Packet;

use super::Form;

/// ICMP header, identifier and sequence, and the nonce as the only payload.
const LENGTH: usize = 16;

/// What is sent, and what must come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Echo {
    /// Whose.
    pub(crate) ident: u16,
    /// Which.
    pub(crate) sequence: u16,
    /// Identifiers clash across namespaces and are visible to anybody near; this cannot be guessed.
    pub(crate) nonce: u64,
}

/// From the kernel's random source.
pub(crate) fn ident() -> u16 {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).expect("the kernel's random source answers on a machine that has booted");
    u16::from_ne_bytes(bytes)
}

/// From the kernel's random source.
pub(crate) fn nonce() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the kernel's random source answers on a machine that has booted");
    u64::from_ne_bytes(bytes)
}

pub(crate) fn request_v4(echo: Echo) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    let mut packet = MutableEchoRequestPacket::new(&mut bytes).expect("16 bytes hold a header of 8");
    packet.set_icmp_type(IcmpTypes::EchoRequest);
    packet.set_identifier(echo.ident);
    packet.set_sequence_number(echo.sequence);
    packet.set_payload(&echo.nonce.to_be_bytes());
    let sum = checksum_v4(packet.packet());
    packet.set_checksum(sum);
    bytes
}

/// The kernel fills in the checksum: it knows the source address, which the sum covers.
pub(crate) fn request_v6(echo: Echo) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    let mut packet = MutableEchoRequestV6Packet::new(&mut bytes).expect("16 bytes hold a header of 8");
    packet.set_icmpv6_type(Icmpv6Types::EchoRequest);
    packet.set_identifier(echo.ident);
    packet.set_sequence_number(echo.sequence);
    packet.set_payload(&echo.nonce.to_be_bytes());
    bytes
}

/// What an echo reply carries. `None`: it is something else, or it is damaged.
pub(crate) fn reply(form: Form, packet: &[u8]) -> Option<Echo> {
    match form {
        Form::HeaderAndV4 => {
            let header = usize::from(Ipv4Packet::new(packet)?.get_header_length()) * 4;
            reply_v4(packet.get(header..)?)
        }
        Form::V4 => reply_v4(packet),
        Form::V6 => reply_v6(packet),
    }
}

fn reply_v4(bytes: &[u8]) -> Option<Echo> {
    let packet = EchoReplyPacket::new(bytes)?;
    // a raw socket is served before the kernel has looked at the sum
    let sound = packet.get_icmp_type() == IcmpTypes::EchoReply && packet.get_checksum() == checksum_v4(bytes);
    sound.then_some(Echo {
        ident: packet.get_identifier(),
        sequence: packet.get_sequence_number(),
        nonce: payload(packet.payload())?,
    })
}

fn reply_v6(bytes: &[u8]) -> Option<Echo> {
    let packet = EchoReplyV6Packet::new(bytes)?;
    let is_reply = Icmpv6Packet::new(bytes)?.get_icmpv6_type() == Icmpv6Types::EchoReply;
    is_reply.then_some(Echo {
        ident: packet.get_identifier(),
        sequence: packet.get_sequence_number(),
        nonce: payload(packet.payload())?,
    })
}

fn payload(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?))
}

fn checksum_v4(bytes: &[u8]) -> u16 {
    IcmpPacket::new(bytes).map_or(0, |packet| icmp::checksum(&packet))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ECHO: Echo = Echo { ident: 0x1234, sequence: 7, nonce: 0x0102_0304_0506_0708 };

    /// What the far end makes of a request: the same with another type.
    fn answered_v4(mut bytes: [u8; LENGTH]) -> [u8; LENGTH] {
        bytes[0] = 0;
        bytes[2..4].fill(0);
        let sum = checksum_v4(&bytes).to_be_bytes();
        bytes[2..4].copy_from_slice(&sum);
        bytes
    }

    #[test]
    fn a_reply_carries_what_the_request_carried() {
        assert_eq!(reply(Form::V4, &answered_v4(request_v4(ECHO))), Some(ECHO));
        let mut v6 = request_v6(ECHO);
        v6[0] = 129;
        assert_eq!(reply(Form::V6, &v6), Some(ECHO));
    }

    #[test]
    fn a_request_is_no_reply_and_neither_is_a_damaged_one() {
        assert_eq!(reply(Form::V4, &request_v4(ECHO)), None);
        assert_eq!(reply(Form::V6, &request_v6(ECHO)), None);
        let mut damaged = answered_v4(request_v4(ECHO));
        damaged[15] ^= 1;
        assert_eq!(reply(Form::V4, &damaged), None);
    }

    #[test]
    fn the_ip_header_of_a_raw_socket_is_skipped_with_its_options() {
        let icmp = answered_v4(request_v4(ECHO));
        for words in [5u8, 6, 15] {
            let mut packet = vec![0; usize::from(words) * 4];
            packet[0] = 0x40 | words;
            packet.extend(icmp);
            assert_eq!(reply(Form::HeaderAndV4, &packet), Some(ECHO));
            // ends behind the header, or within it
            assert_eq!(reply(Form::HeaderAndV4, &packet[..usize::from(words) * 4]), None);
            assert_eq!(reply(Form::HeaderAndV4, &packet[..usize::from(words) * 4 - 1]), None);
        }
    }

    proptest! {
        #[test]
        fn no_packet_makes_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            for form in [Form::HeaderAndV4, Form::V4, Form::V6] {
                let _ = reply(form, &bytes);
            }
        }
    }
}
