//! Where the pair is played: in a network of its own with the real address, or, where that is refused, without one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};

use ha_core::Role;

use super::super::stage::free_address;
use super::network::{ADDRESS, HOSTS};
use crate::report::Failure;

/// SIP's own port (RFC 3261, 19.1.2).
const SIP_PORT: u16 = 5060;
/// Addresses of nobody (RFC 5737): without a network the nodes name each other by them, and nothing is sent there.
const NOBODY: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 11), Ipv4Addr::new(192, 0, 2, 12)];
/// The product's file accepts no address of this machine.
const NOBODYS_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
/// What every world is apart from: network, names, mounts and processes. It ends with whoever made it.
const APART: [&str; 7] = ["--net", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
/// Root of that world alone: every user may be that, where the kernel lets users make such worlds.
const ROOT_THERE: [&str; 2] = ["--user", "--map-root-user"];

/// Where it is played.
#[derive(Debug)]
pub(super) enum Ground {
    /// In a network of its own: the address is a real one.
    Network,
    /// On this machine's loopback: a socket at one address and port plays the address.
    Loopback {
        /// What plays it.
        telephony: SocketAddr,
        /// Why there is no network.
        why: String,
        /// Keeps other demonstrations off.
        _mark: std::net::TcpListener,
    },
}

impl Ground {
    /// Without a network.
    pub(super) fn loopback(why: String) -> Result<Ground, Failure> {
        let (mark, telephony) = free_address()?;
        Ok(Ground::Loopback { telephony, why, _mark: mark })
    }

    /// What phones know.
    pub(super) fn telephony(&self) -> SocketAddr {
        match self {
            Ground::Network => (ADDRESS, SIP_PORT).into(),
            Ground::Loopback { telephony, .. } => *telephony,
        }
    }

    /// A node's own address.
    pub(super) fn host(&self, role: Role) -> IpAddr {
        let number = usize::from(role == Role::Slave);
        match self {
            Ground::Network => HOSTS[number].into(),
            Ground::Loopback { .. } => NOBODY[number].into(),
        }
    }

    /// What the product's file says of it.
    pub(super) fn written(&self) -> IpAddr {
        match self {
            Ground::Network => ADDRESS.into(),
            Ground::Loopback { .. } => NOBODYS_ADDRESS.into(),
        }
    }

    pub(super) fn has_network(&self) -> bool {
        matches!(self, Ground::Network)
    }
}

/// Begins a world of its own and runs this there, as its first process; that is root there if need be.
pub(super) fn apart(root_there: bool) -> Command {
    let mut command = Command::new("unshare");
    if root_there {
        command.args(ROOT_THERE);
    }
    command.args(APART);
    command
}

/// How a world of its own is begun here: whether its root is to be made, too. Err: it cannot be, and why.
pub(super) fn find(program: &Path) -> Result<bool, String> {
    // who is root here lets the cluster's thread go before all others, which the root of a world of its own may not
    if rustix::process::geteuid().is_root() && attempt(program, false).is_ok() {
        return Ok(false);
    }
    attempt(program, true).map(|()| true)
}

/// Makes one, with what is needed in it, and lets it go.
fn attempt(program: &Path, root_there: bool) -> Result<(), String> {
    let mut command = apart(root_there);
    command.arg(program).args(["demo-part", "--until", "1", "try"]).stdin(Stdio::null());
    let output = command.output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "the program unshare is not found".to_owned(),
        _ => format!("unshare: {error}"),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty());
    Err(last.map_or_else(|| format!("unshare: {}", output.status), str::to_owned))
}
