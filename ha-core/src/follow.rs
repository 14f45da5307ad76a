//! Machines beside the pair that must follow telephony: contact centres, media servers, an Edge.
//!
//! Plain data: the settings name the machines, a distribution lowers them to the ordered [`Step`]s of a runbook, the
//! runtime carries the steps out (`crate::runbook` says which is next).

mod env_file;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::role::Role;

pub use env_file::{EnvFile, EnvFileError, Variable};

/// The two nodes by their role: which of them serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The node that serves in peace.
    Master,
    /// The node that serves when the master does not.
    Slave,
}

impl Side {
    /// Both, in the order of the documents.
    pub const ALL: [Side; 2] = [Side::Master, Side::Slave];

    /// Of a node of that role.
    pub fn of(role: Role) -> Option<Side> {
        match role {
            Role::Master => Some(Side::Master),
            Role::Slave => Some(Side::Slave),
            Role::Disabled => None,
        }
    }

    /// The other one.
    pub fn other(self) -> Side {
        match self {
            Side::Master => Side::Slave,
            Side::Slave => Side::Master,
        }
    }

    /// The word that the settings and the command line use.
    pub fn word(self) -> &'static str {
        match self {
            Side::Master => "master",
            Side::Slave => "slave",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Something that each side has one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sides<T> {
    /// The master's.
    pub master: T,
    /// The slave's.
    pub slave: T,
}

impl<T> Sides<T> {
    /// One side's.
    pub fn of(&self, side: Side) -> &T {
        match side {
            Side::Master => &self.master,
            Side::Slave => &self.slave,
        }
    }
}

/// What stands beside the pair, as the settings name it. All absent: nothing follows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Followers {
    /// `[cc]`
    pub contact_centre: Option<ContactCentre>,
    /// `[xds]`
    pub media_servers: Option<MediaServers>,
    /// `[edge]`
    pub edge: Option<Edge>,
}

/// `[cc]`: each side has a contact centre of its own (`domain.md` 3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactCentre {
    /// False: what is to be done is announced, and a person does it.
    pub automatic: bool,
    /// Their addresses.
    pub hosts: Sides<IpAddr>,
    /// What makes one follow, run there.
    pub restart: Vec<String>,
    /// An HTTP address that answers, whatever the status, once it follows; `{cc}` is the contact centre's address.
    /// Empty: nobody is asked.
    pub answers: String,
}

/// `[xds]`: media servers, shared by both sides, with which the side that serves registers its trunks (`domain.md` 3.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaServers {
    /// Their names, as the command prints them.
    pub names: Vec<String>,
    /// Run on the node that serves: prints a line for each trunk.
    pub command: Vec<String>,
    /// The word that stands, as a whole word, on a registered trunk's line beside the name.
    pub registered: String,
}

/// `[edge]`: one machine that relays to the side that serves (`domain.md` 3.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// False: what is to be done is announced, and a person does it.
    pub automatic: bool,
    /// Where it is; `None`: only files here are switched.
    pub host: Option<IpAddr>,
    /// The file there that names the side that serves.
    pub file: String,
    /// What makes it read the file, run in the file's directory.
    pub apply: Vec<String>,
    /// Both nodes.
    pub xivo: Sides<IpAddr>,
    /// Both contact centres.
    pub cc: Sides<IpAddr>,
}

impl Edge {
    /// The file's directory, where it is applied.
    pub fn directory(&self) -> &str {
        match self.file.rsplit_once('/') {
            Some(("", _)) | None => "/",
            Some((directory, _)) => directory,
        }
    }
}

/// One step of a runbook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Names it: progress is kept under it, and other steps name it.
    pub id: String,
    /// What it does, for a person: "restart xuc on the CC 10.77.0.22".
    pub says: String,
    /// Steps that must be done before it.
    pub after: Vec<String>,
    /// Where it is done.
    pub place: Place,
    /// Done once; `None`: there is only something to wait for.
    pub act: Option<Task>,
    /// Holds when the step is done; asked until it does. `None`: done when `act` succeeded.
    pub check: Option<Task>,
    /// Of one attempt at `act`, and of one at `check`.
    pub timeout: Duration,
    /// How long `check` may fail before that is reported; it is asked on.
    pub patience: Duration,
    /// What undoes it, for a person.
    pub undo: String,
    /// False: it is announced, and a person does it; it counts as done, and so does what comes after it.
    pub automatic: bool,
}

/// Where a step is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On this node, below the PBX's root.
    Here,
    /// On that machine, over SSH.
    There(IpAddr),
}

/// Something that succeeds or fails, and does no harm when it is done again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Succeeds when it exits with 0 and its output is as wanted.
    Run {
        /// Program and arguments; no shell.
        argv: Vec<String>,
        /// The directory in which it runs; only over SSH.
        directory: Option<String>,
        /// What its output must hold.
        output: Wanted,
    },
    /// Points a file at a side. Succeeds when it does, whether or not anything had to be changed.
    Point {
        /// The file.
        path: String,
        /// How it names the sides.
        names: EnvFile,
        /// The side.
        to: Side,
    },
    /// Succeeds when the address answers an HTTP request, whatever the status.
    Ask {
        /// `http://...`
        url: String,
    },
}

/// What a command's output must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing.
    Anything,
    /// One line with all of these as whole words: letters, digits, `-`, `_` and `.` belong to a word.
    LineWith(Vec<String>),
}

impl Wanted {
    /// Whether the output is as wanted.
    pub fn holds(&self, output: &str) -> bool {
        let is_word = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        match self {
            Wanted::Anything => true,
            Wanted::LineWith(wanted) => output.lines().any(|line| {
                let words: Vec<&str> = line.split(|c| !is_word(c)).collect();
                wanted.iter().all(|word| words.contains(&word.as_str()))
            }),
        }
    }
}

/// Where a file points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointsAt {
    /// The side; `None`: the variables do not agree, or one names neither.
    pub side: Option<Side>,
    /// Each variable with its value as written and the side that it names, in the file's order.
    pub variables: Vec<(String, String, Option<Side>)>,
}
