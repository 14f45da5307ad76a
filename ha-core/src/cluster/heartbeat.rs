//! Linux-HA's Heartbeat 3 as data: what its files are made of, and what its words mean (`domain.md` 5.6).
//!
//! It beats, decides and moves the address by itself; the engine writes its files, reads its words and asks it to move.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::distribution::Shared;
use crate::health::Verdict;
use crate::role::Role;

/// What Heartbeat's files are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair<'a> {
    /// The address and the nodes' names.
    pub shared: &'a Shared,
    /// The length of the network's prefix in which the address is.
    pub prefix: u8,
    /// The interface that gets the address.
    pub interface: &'a str,
    /// Each way to the other node: this node's interface, and the other's address on it. At least one.
    pub paths: &'a [(&'a str, IpAddr)],
    /// Hosts that tell a dead node from a cut line.
    pub references: &'a [IpAddr],
    /// UDP.
    pub port: u16,
    /// Between two heartbeats.
    pub keepalive: Duration,
    /// The silence after which a node counts as dead.
    pub deadtime: Duration,
    /// The same right after a start, when the network may not be there yet.
    pub initdead: Duration,
}

/// One of Heartbeat's files as it is to be. It may be a secret: its text is not for logs.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfFile {
    /// Absolute.
    pub path: &'static str,
    /// All of it.
    pub text: String,
    /// Permission bits.
    pub mode: u32,
}

impl fmt::Debug for ConfFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfFile").field("path", &self.path).field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// All of Heartbeat's files of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// In the order in which they are written.
    pub files: Vec<ConfFile>,
    /// Begins a line of every file that is written by the engine: one without it is somebody else's.
    pub mark: &'static str,
    /// The name of what moves as a whole, as `ResourceManager` takes it.
    pub group: String,
}

/// What `cl_status rscstatus` says. *Local* is what belongs to the node in peace, *foreign* what belongs to the other one:
/// of the two, only the primary node's is more than an empty word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resources {
    /// `none`
    None,
    /// `local`
    Local,
    /// `foreign`
    Foreign,
    /// `all`
    All,
    /// Any other word, `transition` above all: ask again later.
    Moving,
}

impl Resources {
    /// Of that word.
    pub fn read(word: &str) -> Resources {
        match word {
            "none" => Resources::None,
            "local" => Resources::Local,
            "foreign" => Resources::Foreign,
            "all" => Resources::All,
            _ => Resources::Moving,
        }
    }

    /// Whether Heartbeat believes that a node of this role has the address; `None`: it does not say.
    pub fn held_by(self, role: Role) -> Option<bool> {
        match (self, role) {
            (Resources::All, Role::Master | Role::Slave)
            | (Resources::Local, Role::Master)
            | (Resources::Foreign, Role::Slave) => Some(true),
            (Resources::None, _) | (Resources::Local, Role::Slave) | (Resources::Foreign, Role::Master) => {
                Some(false)
            }
            (Resources::Moving, _) | (_, Role::Disabled) => None,
        }
    }
}

/// What `cl_status nodestatus` says of the other node: `active` after it has settled, `up` as soon as it is heard.
pub fn verdict(word: &str) -> Verdict {
    match word {
        "active" => Verdict::Up,
        "up" => Verdict::Degraded,
        "dead" => Verdict::Down,
        _ => Verdict::Unknown,
    }
}

/// Whether the same of a reference (`ping` in `ha.cf`) says that it is silent.
pub fn is_silent(word: &str) -> bool {
    word == "dead"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_the_primarys_own_and_foreign_to_the_standby() {
        let held = |word| {
            [Role::Master, Role::Slave, Role::Disabled].map(|role| Resources::read(word).held_by(role))
        };
        assert_eq!(held("all"), [Some(true), Some(true), None]);
        assert_eq!(held("local"), [Some(true), Some(false), None]);
        assert_eq!(held("foreign"), [Some(false), Some(true), None]);
        assert_eq!(held("none"), [Some(false); 3]);
        for other in ["transition", "", "ALL", "all of it"] {
            assert_eq!(held(other), [None; 3], "{other}");
        }
    }

    #[test]
    fn any_other_word_of_a_node_says_nothing() {
        let words = ["active", "up", "dead", "init", "ping", ""];
        use Verdict::{Degraded, Down, Unknown, Up};
        assert_eq!(words.map(verdict), [Up, Degraded, Down, Unknown, Unknown, Unknown]);
        assert_eq!(words.map(is_silent), [false, false, true, false, false, false]);
    }

    #[test]
    fn a_file_that_may_be_a_secret_is_not_shown() {
        let file = ConfFile { path: "/etc/ha.d/authkeys", text: "1 sha1 secret".to_owned(), mode: 0o600 };
        let shown = format!("{file:?}");
        assert!(shown.contains("authkeys") && !shown.contains("secret"), "{shown}");
    }
}
