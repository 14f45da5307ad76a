//! What the gate drops, in the kernel's words.
//!
//! Offsets are those of ARP over Ethernet (RFC 826), IPv4 (RFC 791), IPv6 (RFC 8200) and of neighbour messages (RFC 4861, 4.3
//! and 4.4).

use std::net::IpAddr;

use crate::cluster::bytes;
use crate::cluster::nft::{Base, Family, Hook, Meta, Step};

/// Before connection tracking (-200) and even before defragmentation (-400): nothing is remembered of what is dropped.
const FIRST: i32 = -450;
/// After all else, address translation (100) among it, so that no rule of somebody else's makes our address a source.
const LAST: i32 = 450;

/// `linux/netfilter.h`.
const IPV4: u8 = 2;
const IPV6: u8 = 10;
const PREROUTING: u32 = 0;
const POSTROUTING: u32 = 4;
/// `linux/netfilter_arp.h`.
const ARP_IN: u32 = 0;
const ARP_OUT: u32 = 1;
/// `NF_NETDEV_EGRESS`.
const EGRESS: u32 = 1;

const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ARP_REQUEST: [u8; 2] = [0, 1];
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

const ARP_OPERATION: Step = Step::Read(Base::Network, 6, 2);
const ARP_SENDER: Step = Step::Read(Base::Network, 14, 4);
const ARP_TARGET: Step = Step::Read(Base::Network, 24, 4);
const V4_SOURCE: Step = Step::Read(Base::Network, 12, 4);
const V4_DESTINATION: Step = Step::Read(Base::Network, 16, 4);
const V6_SOURCE: Step = Step::Read(Base::Network, 8, 16);
const V6_DESTINATION: Step = Step::Read(Base::Network, 24, 16);
const ICMPV6_TYPE: Step = Step::Read(Base::Transport, 0, 1);
const NEIGHBOUR_TARGET: Step = Step::Read(Base::Transport, 8, 16);

/// A chain of the gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) family: Family,
    pub(super) name: &'static str,
    number: u32,
    priority: i32,
    pub(super) rules: Vec<Vec<Step>>,
}

impl Chain {
    pub(super) fn hook<'a>(&self, interface: &'a str) -> Hook<'a> {
        let interface = (self.family == Family::Netdev).then_some(interface);
        Hook { number: self.number, priority: self.priority, interface }
    }
}

/// Drops what asks for `address` and what speaks for it while it is not in the set `lease`. Those of a family stand
/// together.
pub(super) fn chains(address: IpAddr, lease: &'static str) -> Vec<Chain> {
    let own = bytes(address);
    // what was read last is our address then, and looked for in the set
    let closed =
        |steps: Vec<Step>| [steps, vec![Step::Equal(own.clone()), Step::NotIn(lease), Step::Drop]].concat();
    let chain = |family, name, number, priority, rules| Chain { family, name, number, priority, rules };
    let (ip_in, ip_out) = if address.is_ipv4() {
        let v4 = [Step::Know(Meta::Version), Step::Equal(vec![IPV4])];
        let with = |field: Step| closed([&v4[..], &[field]].concat());
        (vec![with(V4_DESTINATION)], vec![with(V4_SOURCE)])
    } else {
        let v6 = [Step::Know(Meta::Version), Step::Equal(vec![IPV6])];
        let with = |field: Step| closed([&v6[..], &[field]].concat());
        let about = |kind: u8| {
            let icmp =
                [Step::Know(Meta::Carried), Step::Equal(vec![ICMPV6]), ICMPV6_TYPE, Step::Equal(vec![kind])];
            closed([&v6[..], &icmp, &[NEIGHBOUR_TARGET]].concat())
        };
        (vec![with(V6_DESTINATION), about(SOLICITATION)], vec![with(V6_SOURCE), about(ADVERTISEMENT)])
    };
    let mut chains = vec![
        chain(Family::Inet, "in", PREROUTING, FIRST, ip_in),
        chain(Family::Inet, "out", POSTROUTING, LAST, ip_out),
    ];
    if address.is_ipv4() {
        // the other node's announcement is a request for the address by the address, and is to be heard
        let request = vec![
            ARP_OPERATION,
            Step::Equal(ARP_REQUEST.into()),
            ARP_SENDER,
            Step::Differs(own.clone()),
            ARP_TARGET,
        ];
        chains.extend([
            chain(Family::Arp, "in", ARP_IN, FIRST, vec![closed(request)]),
            chain(Family::Arp, "out", ARP_OUT, LAST, vec![closed(vec![ARP_SENDER])]),
        ]);
        // what a process puts together itself passes no other hook
        let arp = vec![Step::Know(Meta::Protocol), Step::Equal(ETHERTYPE_ARP.into()), ARP_SENDER];
        chains.push(chain(Family::Netdev, "out", EGRESS, LAST, vec![closed(arp)]));
    }
    chains
}
