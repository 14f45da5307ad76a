//! What a node is, and whom it is paired with.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// `node_type` of the products' role files (`domain.md` 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Not part of a pair. The engine acts on nothing.
    Disabled,
    /// Normally serves; sends configuration and database to the slave.
    Master,
    /// Watches the master and serves while it does not.
    Slave,
}

impl Role {
    /// Every role, in the order of the documents.
    pub const ALL: [Role; 3] = [Role::Disabled, Role::Master, Role::Slave];

    /// The word that the role files use.
    pub fn word(self) -> &'static str {
        match self {
            Role::Disabled => "disabled",
            Role::Master => "master",
            Role::Slave => "slave",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Role {
    type Err = RoleError;
    fn from_str(text: &str) -> Result<Role, RoleError> {
        Role::ALL
            .into_iter()
            .find(|role| role.word() == text)
            .ok_or_else(|| RoleError::UnknownRole(text.to_owned()))
    }
}

/// A role together with what it needs: a peer exists exactly when a role has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RoleConfig {
    /// See [`Role::Disabled`].
    Disabled,
    /// See [`Role::Master`].
    Master {
        /// The slave's VoIP address.
        slave: PeerAddress,
    },
    /// See [`Role::Slave`].
    Slave {
        /// The master's VoIP address.
        master: PeerAddress,
    },
}

impl RoleConfig {
    /// A role from the two fields of a role file. `remote` may be empty only for `disabled`, where it is ignored.
    pub fn new(role: Role, remote: &str) -> Result<RoleConfig, RoleError> {
        if role == Role::Disabled {
            return Ok(RoleConfig::Disabled);
        }
        if remote.is_empty() {
            return Err(RoleError::RemoteMissing(role));
        }
        let peer = remote.parse()?;
        Ok(match role {
            Role::Slave => RoleConfig::Slave { master: peer },
            Role::Master | Role::Disabled => RoleConfig::Master { slave: peer },
        })
    }

    /// The role without its peer.
    pub fn role(&self) -> Role {
        match self {
            RoleConfig::Disabled => Role::Disabled,
            RoleConfig::Master { .. } => Role::Master,
            RoleConfig::Slave { .. } => Role::Slave,
        }
    }

    /// The other node's address, if the role has one.
    pub fn peer(&self) -> Option<IpAddr> {
        match self {
            RoleConfig::Disabled => None,
            RoleConfig::Master { slave: peer } | RoleConfig::Slave { master: peer } => Some(peer.ip()),
        }
    }

    /// The other node's address as the role files write it: empty when there is none.
    pub fn remote_address(&self) -> String {
        self.peer().map(|ip| ip.to_string()).unwrap_or_default()
    }
}

/// An address that another machine can have: not this host, not a group, not bound to one interface's scope.
///
/// `domain.md` 2.2 lists what the products forget to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddress(IpAddr);

impl PeerAddress {
    /// Checks everything that can be known without asking the machine; see [`PeerAddress::not_one_of`] for the rest.
    pub fn new(ip: IpAddr) -> Result<PeerAddress, RoleError> {
        let ip = ip.to_canonical();
        let refuse = |why| Err(RoleError::UnusableAddress { address: ip.to_string(), why });
        match ip {
            _ if ip.is_loopback() => refuse("it is a loopback address, which never leaves this machine"),
            _ if ip.is_unspecified() => refuse("it is the unspecified address"),
            _ if ip.is_multicast() => refuse("it is a multicast address"),
            IpAddr::V4(Ipv4Addr::BROADCAST) => refuse("it is the broadcast address"),
            IpAddr::V4(v4) if v4.octets()[0] == 0 => refuse("addresses in 0.0.0.0/8 are not hosts"),
            IpAddr::V6(v6) if is_link_local(v6) => refuse(
                "it is link-local and has a meaning on one interface only; use a global or unique-local address",
            ),
            _ => Ok(PeerAddress(ip)),
        }
    }

    /// A loopback address as the other node of a pair of which both nodes are this machine, for demonstration.
    ///
    /// Nothing that a user writes comes this way: [`PeerAddress::new`] and text refuse loopback addresses.
    pub fn on_this_machine(ip: IpAddr) -> Result<PeerAddress, RoleError> {
        let ip = ip.to_canonical();
        if ip.is_loopback() {
            return Ok(PeerAddress(ip));
        }
        Err(RoleError::UnusableAddress {
            address: ip.to_string(),
            why: "a pair on one machine has loopback addresses",
        })
    }

    /// Refuses an address of this machine.
    pub fn not_one_of(self, own: &[IpAddr]) -> Result<PeerAddress, RoleError> {
        if own.iter().any(|ip| ip.to_canonical() == self.0) {
            return Err(RoleError::UnusableAddress {
                address: self.0.to_string(),
                why: "it is this machine's own address; give the other node's",
            });
        }
        Ok(self)
    }

    /// The address itself.
    pub fn ip(self) -> IpAddr {
        self.0
    }
}

fn is_link_local(ip: Ipv6Addr) -> bool {
    ip.segments()[0] & 0xffc0 == 0xfe80
}

impl FromStr for PeerAddress {
    type Err = RoleError;
    fn from_str(text: &str) -> Result<PeerAddress, RoleError> {
        if let Some((_, scope)) = text.split_once('%') {
            return Err(RoleError::Scoped { address: text.to_owned(), scope: scope.to_owned() });
        }
        let ip: IpAddr = text.parse().map_err(|_| RoleError::NotAnAddress(text.to_owned()))?;
        PeerAddress::new(ip)
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The user's fault: nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RoleError {
    /// Not one of the three roles.
    #[error("unknown role \"{0}\": use disabled, master or slave")]
    UnknownRole(String),
    /// Master and slave need a peer.
    #[error("remote_address cannot be empty for a {0}: give the other node's VoIP address")]
    RemoteMissing(Role),
    /// A host name, or no address at all.
    #[error("\"{0}\" is not an IP address: host names are not accepted, write the IPv4 or IPv6 address")]
    NotAnAddress(String),
    /// An address with a scope id.
    #[error(
        "\"{address}\" carries the scope id \"{scope}\": give an address that means the same on every interface"
    )]
    Scoped {
        /// As given.
        address: String,
        /// What follows the `%`.
        scope: String,
    },
    /// An address that the other node cannot have.
    #[error("{address} cannot be the other node: {why}")]
    UnusableAddress {
        /// In canonical text.
        address: String,
        /// A clause that completes the sentence.
        why: &'static str,
    },
    /// The role file does not hold what the product writes.
    #[error("{file} cannot be read as a role: {why}")]
    BadFile {
        /// Its path.
        file: &'static str,
        /// What is wrong and what would be right.
        why: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(text: &str) -> String {
        text.parse::<PeerAddress>().unwrap_err().to_string()
    }

    #[test]
    fn an_address_that_is_not_another_machine_is_refused_by_name() {
        for (text, says) in [
            ("pbx2.example.org", "host names are not accepted"),
            ("127.0.0.1", "loopback"),
            ("::1", "loopback"),
            ("::ffff:127.0.0.1", "loopback"),
            ("0.0.0.0", "unspecified"),
            ("224.0.0.1", "multicast"),
            ("ff02::1", "multicast"),
            ("255.255.255.255", "broadcast"),
            ("fe80::1", "link-local"),
            ("fe80::1%eth0", "scope id \"eth0\""),
            ("10.0.0.1/24", "not an IP address"),
        ] {
            assert!(why(text).contains(says), "{text}: {}", why(text));
            assert!(why(text).contains(text.trim_start_matches("::ffff:")), "{text} is not named");
        }
    }

    #[test]
    fn a_pair_on_one_machine_has_loopback_addresses_only() {
        let address = PeerAddress::on_this_machine("127.77.0.11".parse().unwrap()).unwrap();
        assert_eq!(address.to_string(), "127.77.0.11");
        let other = PeerAddress::on_this_machine("10.77.0.11".parse().unwrap()).unwrap_err();
        assert!(other.to_string().contains("10.77.0.11"), "{other}");
    }

    #[test]
    fn an_address_is_kept_in_canonical_text() {
        let address: PeerAddress = "2001:DB8:0:0:0:0:0:1".parse().unwrap();
        assert_eq!(address.to_string(), "2001:db8::1");
        let own = ["2001:db8::1".parse().unwrap()];
        assert!(address.not_one_of(&own).unwrap_err().to_string().contains("own address"));
    }

    #[test]
    fn a_role_has_a_peer_exactly_when_it_needs_one() {
        assert_eq!(RoleConfig::new(Role::Disabled, ""), Ok(RoleConfig::Disabled));
        assert_eq!(RoleConfig::new(Role::Disabled, "nonsense"), Ok(RoleConfig::Disabled));
        assert_eq!(RoleConfig::new(Role::Slave, ""), Err(RoleError::RemoteMissing(Role::Slave)));
        let slave = RoleConfig::new(Role::Slave, "10.77.0.11").unwrap();
        assert_eq!((slave.role(), slave.remote_address()), (Role::Slave, "10.77.0.11".to_owned()));
    }
}
