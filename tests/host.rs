use std::fmt;
use std::net::Ipv4Addr;

/// A host of the lab, by its part in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// The node that serves in peace.
    Master,
    /// The node that stands by.
    Slave,
    /// Phones, probes from outside, and the reference address of both nodes.
    Client,
    /// The contact centres of both sides of a XiVO pair, each with an address of its own.
    Cc,
    /// The Edge that relays to the side of a XiVO pair that serves.
    Edge,
}

impl Host {
    /// Its name, in the lab and in its own `uname -n`.
    pub fn name(self) -> &'static str {
        match self {
            Host::Master => "master",
            Host::Slave => "slave",
            Host::Client => "client",
            Host::Cc => "cc",
            Host::Edge => "edge",
        }
    }

    /// Its address on the network that all hosts share; of the contact centres, the master side's.
    pub fn address(self) -> Ipv4Addr {
        match self {
            Host::Master => Ipv4Addr::new(10, 77, 0, 11),
            Host::Slave => Ipv4Addr::new(10, 77, 0, 12),
            Host::Client => Ipv4Addr::new(10, 77, 0, 20),
            Host::Cc => Ipv4Addr::new(10, 77, 0, 21),
            Host::Edge => Ipv4Addr::new(10, 77, 0, 31),
        }
    }

    /// Its address on the cross-over network of the nodes, where no phone is.
    pub fn crossover_address(self) -> Ipv4Addr {
        let [_, _, _, number] = self.address().octets();
        Ipv4Addr::new(10, 78, 0, number)
    }

    /// The TTL of what its kernel sends: whoever answers from an address that moves is known by it.
    pub(crate) fn ttl(self) -> u8 {
        let [_, _, _, number] = self.address().octets();
        100 + number
    }

    /// The node whose kernel sends with this TTL, one hop away.
    pub(crate) fn node_of_ttl(ttl: u8) -> Option<Host> {
        [Host::Master, Host::Slave].into_iter().find(|host| host.ttl() == ttl)
    }

    /// The hardware address of its interface on the shared network; the lab writes the host's number in decimal digits.
    pub(crate) fn hardware_address(self) -> [u8; 6] {
        let [_, _, _, number] = self.address().octets();
        [2, 0, 0, 0, 0, number / 10 * 16 + number % 10]
    }

    /// The other node of the pair; a host beside it has none and is its own.
    pub fn peer(self) -> Host {
        match self {
            Host::Master => Host::Slave,
            Host::Slave => Host::Master,
            beside => beside,
        }
    }
}

/// What joins hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// The one that all hosts share, with the phones and the address that moves: `eth0`.
    Shared,
    /// The second one: `eth1`.
    Crossover,
}

impl Network {
    /// The name of each host's interface on it.
    pub fn interface(self) -> &'static str {
        match self {
            Network::Shared => "eth0",
            Network::Crossover => "eth1",
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
