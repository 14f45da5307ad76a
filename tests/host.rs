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

    /// The other node of the pair; a host beside it has none and is its own.
    pub fn peer(self) -> Host {
        match self {
            Host::Master => Host::Slave,
            Host::Slave => Host::Master,
            beside => beside,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
