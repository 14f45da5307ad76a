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
}

impl Host {
    /// Its name, in the lab and in its own `uname -n`.
    pub fn name(self) -> &'static str {
        match self {
            Host::Master => "master",
            Host::Slave => "slave",
            Host::Client => "client",
        }
    }

    /// Its address on the network that all hosts share.
    pub fn address(self) -> Ipv4Addr {
        match self {
            Host::Master => Ipv4Addr::new(10, 77, 0, 11),
            Host::Slave => Ipv4Addr::new(10, 77, 0, 12),
            Host::Client => Ipv4Addr::new(10, 77, 0, 20),
        }
    }

    /// The other node of the pair; the client has none and is its own.
    pub fn peer(self) -> Host {
        match self {
            Host::Master => Host::Slave,
            Host::Slave => Host::Master,
            Host::Client => Host::Client,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
