//! What the watch of the address sends, and what it makes of what comes back.

use std::net::Ipv4Addr;
use std::time::Duration;

use pnet::packet::Packet;
use pnet::packet::ethernet::{EtherTypes, EthernetPacket, MutableEthernetPacket};
use pnet::packet::icmp::echo_reply::EchoReplyPacket;
use pnet::packet::icmp::echo_request::{EchoRequestPacket, MutableEchoRequestPacket};
use pnet::packet::icmp::{self, IcmpPacket, IcmpTypes};
use pnet::packet::ip::IpNextHeaderProtocols;
use pnet::packet::ipv4::{self, Ipv4Packet, MutableIpv4Packet};

use crate::{Host, Moment, Probe};

/// Identifiers of the two kinds of echo requests; nothing else in the client's network pings.
const PING: u16 = 0x7069;
const BOTH: u16 = 0x626f;

const ECHO: usize = EchoRequestPacket::minimum_packet_size() + 16;
const IP: usize = Ipv4Packet::minimum_packet_size();
const ETHERNET: usize = EthernetPacket::minimum_packet_size();

/// What a probe carries and its answer repeats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Asked {
    pub(crate) probe: Probe,
    pub(crate) number: u64,
    pub(crate) sent: Moment,
}

/// An answer, as its packet tells it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Answered {
    pub(crate) asked: Asked,
    /// The source address.
    pub(crate) from: Ipv4Addr,
    /// The TTL, where it is in the packet.
    pub(crate) ttl: Option<u8>,
}

pub(crate) fn echo(asked: Asked) -> [u8; ECHO] {
    let mut bytes = [0; ECHO];
    let mut packet = MutableEchoRequestPacket::new(&mut bytes).expect("the bytes hold a header");
    packet.set_icmp_type(IcmpTypes::EchoRequest);
    packet.set_identifier(if asked.probe == Probe::Both { BOTH } else { PING });
    packet.set_payload(&[asked.number.to_be_bytes(), asked.sent.seconds().to_be_bytes()].concat());
    let sum = icmp::checksum(&IcmpPacket::new(packet.packet()).expect("the bytes hold a header"));
    packet.set_checksum(sum);
    bytes
}

/// The same in a frame from the client to that node, whoever has the address.
pub(crate) fn echo_frame(asked: Asked, node: Host, vip: Ipv4Addr) -> [u8; ETHERNET + IP + ECHO] {
    let mut bytes = [0; ETHERNET + IP + ECHO];
    let mut frame = MutableEthernetPacket::new(&mut bytes).expect("the bytes hold a header");
    frame.set_destination(node.hardware_address().into());
    frame.set_source(Host::Client.hardware_address().into());
    frame.set_ethertype(EtherTypes::Ipv4);
    let mut packet = MutableIpv4Packet::new(&mut bytes[ETHERNET..]).expect("the bytes hold a header");
    packet.set_version(4);
    packet.set_header_length(5);
    packet.set_total_length((IP + ECHO) as u16);
    packet.set_ttl(64);
    packet.set_next_level_protocol(IpNextHeaderProtocols::Icmp);
    packet.set_source(Host::Client.address());
    packet.set_destination(vip);
    packet.set_payload(&echo(asked));
    let sum = ipv4::checksum(&packet.to_immutable());
    packet.set_checksum(sum);
    bytes
}

/// Which probe an IPv4 packet of a raw socket answers; `None`: it is something else.
pub(crate) fn answered_echo(bytes: &[u8]) -> Option<Answered> {
    let ip = Ipv4Packet::new(bytes)?;
    let echo = EchoReplyPacket::new(bytes.get(usize::from(ip.get_header_length()) * 4..)?)?;
    if echo.get_icmp_type() != IcmpTypes::EchoReply {
        return None;
    }
    let probe = match echo.get_identifier() {
        PING => Probe::Ping,
        BOTH => Probe::Both,
        _ => return None,
    };
    let (number, rest) = echo.payload().split_first_chunk()?;
    let sent = f64::from_be_bytes(*rest.first_chunk()?);
    let asked = Asked { probe, number: u64::from_be_bytes(*number), sent: moment(sent)? };
    Some(Answered { asked, from: ip.get_source(), ttl: Some(ip.get_ttl()) })
}

pub(crate) fn options(asked: Asked, vip: Ipv4Addr, port: u16) -> String {
    let (client, number, sent) = (Host::Client.address(), asked.number, asked.sent.seconds());
    [
        format!("OPTIONS sip:{vip} SIP/2.0"),
        format!("Via: SIP/2.0/UDP {client}:{port};rport;branch=z9hG4bKvip{number}"),
        "Max-Forwards: 70".to_owned(),
        format!("From: <sip:watch@{client}>;tag=watch"),
        format!("To: <sip:{vip}>"),
        format!("Call-ID: {number}/{sent:.9}"),
        "CSeq: 1 OPTIONS".to_owned(),
        format!("Contact: <sip:watch@{client}:{port}>"),
        "Content-Length: 0\r\n\r\n".to_owned(),
    ]
    .join("\r\n")
}

/// Which probe a datagram answers: any final response does, 401 and 404 too.
pub(crate) fn answered_options(bytes: &[u8], source: Option<Ipv4Addr>) -> Option<Answered> {
    let text = std::str::from_utf8(bytes).ok()?;
    let status = text.strip_prefix("SIP/2.0 ")?;
    if status.starts_with('1') {
        return None;
    }
    let call = text.lines().find_map(|line| line.strip_prefix("Call-ID: "))?;
    let (number, sent) = call.split_once('/')?;
    let sent = moment(sent.parse().ok()?)?;
    let asked = Asked { probe: Probe::Options, number: number.parse().ok()?, sent };
    Some(Answered { asked, from: source?, ttl: None })
}

fn moment(seconds: f64) -> Option<Moment> {
    Duration::try_from_secs_f64(seconds).ok().map(Moment::since_epoch)
}
