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
}
