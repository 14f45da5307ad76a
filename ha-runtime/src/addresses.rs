//! This machine's own addresses.

use std::net::IpAddr;

use pnet::datalink;
use pnet::ipnetwork::IpNetwork;

/// Every address of every interface, with its prefix, up or down.
pub fn own() -> Vec<IpNetwork> {
    datalink::interfaces().into_iter().flat_map(|interface| interface.ips).collect()
}

/// Whether it is one of this machine's.
pub fn is_own(address: IpAddr) -> bool {
    own().iter().any(|network| network.ip() == address)
}

/// The network of an interface, other than loopback, that reaches `peer` without a router.
pub fn on_link(peer: IpAddr) -> Option<IpNetwork> {
    narrowest(own().into_iter().filter(|network| !network.ip().is_loopback()), peer)
}

/// Why `peer` is behind a router, with both networks; `None`: it is in one of this machine's own.
pub fn apart(peer: IpAddr) -> Option<String> {
    apart_from(&own(), peer)
}

fn apart_from(networks: &[IpNetwork], peer: IpAddr) -> Option<String> {
    let own = networks.iter().filter(|network| {
        !network.ip().is_loopback() && network.is_ipv4() == peer.is_ipv4() && network.prefix() < whole(peer)
    });
    // a network of one address holds nobody else
    if narrowest(own.clone().copied(), peer).is_some() {
        return None;
    }
    let named = |network: &IpNetwork| format!("{}/{}", network.network(), network.prefix());
    let Some(first) = own.clone().next() else {
        return Some(format!(
            "{peer} is behind a router: this machine is in no network of that version of IP"
        ));
    };
    let mut all: Vec<String> = own.map(named).collect();
    all.dedup();
    let peers =
        IpNetwork::new(peer, first.prefix()).map_or_else(|_| peer.to_string(), |network| named(&network));
    Some(format!(
        "{peer} ({peers}, if its network is as large) is in none of this machine's networks: {}",
        all.join(", ")
    ))
}

/// The prefix of an address alone.
pub(crate) fn whole(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The longest prefix that contains `peer`; a host's own `/32` or `/128` contains nobody else.
fn narrowest(networks: impl Iterator<Item = IpNetwork>, peer: IpAddr) -> Option<IpNetwork> {
    networks.filter(|network| network.contains(peer)).max_by_key(IpNetwork::prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_an_own_address_and_a_documentation_address_is_not() {
        assert!(is_own("127.0.0.1".parse().unwrap()));
        assert!(!is_own("192.0.2.1".parse().unwrap()));
        assert_eq!(on_link("127.0.0.2".parse().unwrap()), None);
    }

    #[test]
    fn the_narrowest_network_that_contains_the_peer_is_told() {
        let networks = ["10.0.0.1/8", "10.77.0.1/24", "2001:db8::1/64"].map(|text| text.parse().unwrap());
        let found = |peer: &str| narrowest(networks.iter().copied(), peer.parse().unwrap());
        assert_eq!(found("10.77.0.11"), Some(networks[1]));
        assert_eq!(found("10.78.0.11"), Some(networks[0]));
        assert_eq!(found("2001:db8::7"), Some(networks[2]));
        assert_eq!(found("192.0.2.1"), None);
    }

    #[test]
    fn a_peer_behind_a_router_is_told_with_both_networks() {
        let networks: Vec<IpNetwork> = ["127.0.0.1/8", "10.77.0.11/24", "10.5.0.1/32", "fe80::1/64"]
            .map(|text| text.parse().unwrap())
            .into();
        let apart = |networks: &[IpNetwork], peer: &str| apart_from(networks, peer.parse().unwrap());
        assert_eq!(apart(&networks, "10.77.0.12"), None);
        assert_eq!(
            apart(&networks, "10.78.0.12").unwrap(),
            "10.78.0.12 (10.78.0.0/24, if its network is as large) is in none of this machine's networks: 10.77.0.0/24"
        );
        for (networks, peer) in
            [(&networks[..], "10.5.0.1"), (&networks[2..], "10.5.0.1"), (&networks[..], "127.0.0.2")]
        {
            assert!(apart(networks, peer).is_some(), "{peer}");
        }
        assert!(apart(&networks[2..3], "10.5.0.2").unwrap().contains("in no network of that version"));
    }
}
