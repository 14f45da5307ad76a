//! What of a node is copied, where the PBX's own configuration has a say in it.

use thiserror::Error;

use crate::carry::Carried;
use crate::effect::Command;
use crate::profile::{Dataset, Profile};

/// What of a node is copied, and what follows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Copying {
    /// Why nothing is copied but by hand, a clause: `HASYNCH is LOOSE in /etc/asha.conf`. `None`: it is.
    pub by_hand_only: Option<String>,
    /// What is copied. None twice; a database may lie inside a tree, which then leaves it out.
    pub datasets: Vec<Copied>,
    /// Where sshd listens on the other node, as the PBX's file has it.
    pub ssh_port: Option<u16>,
    /// What is run on the receiving node after something of it changed.
    pub afterwards: Option<Command>,
    /// Asterisk's own `asterisk.conf`, which says how it locks a mailbox (`lockmode`), where messages are [`Carried`].
    pub locking: Option<String>,
    /// What is run on the serving node after messages were carried there. Best effort.
    pub after_messages: Option<Command>,
}

/// One dataset. Paths are absolute, below the PBX's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Copied {
    /// A directory with what lies below it.
    Tree {
        /// The directory.
        root: String,
        /// As [`Dataset::only`].
        only: Vec<String>,
        /// As [`Dataset::exclude`].
        exclude: Vec<String>,
        /// What of it a returning node carries to the serving one before it becomes equal to that.
        carried: Carried,
    },
    /// An SQLite database: one file, copied as of one moment, whoever writes it meanwhile.
    ///
    /// Inside a tree it is a nuisance: whoever opens one with a log, to copy it too, changes its directory's time, which is
    /// a change of that tree.
    Sqlite {
        /// The file.
        path: String,
        /// Files beside it, by name, that are made from it: no tree takes them along.
        derived: Vec<String>,
    },
}

/// The PBX's configuration does not say what is copied. Nothing was.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{file}: {why}")]
pub struct NotSaid {
    /// Its path.
    pub file: &'static str,
    /// What is wrong, with the value, and what would be right.
    pub why: String,
}

impl Copied {
    /// A tree that is copied with everything in it.
    pub fn whole(root: impl Into<String>) -> Copied {
        let carried = Carried::Nothing;
        Copied::Tree { root: root.into(), only: Vec::new(), exclude: Vec::new(), carried }
    }
}

impl From<&Dataset> for Copied {
    fn from(dataset: &Dataset) -> Copied {
        let owned = |patterns: &[&str]| patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        Copied::Tree {
            root: dataset.root.to_owned(),
            only: owned(dataset.only),
            exclude: owned(dataset.exclude),
            carried: Carried::Nothing,
        }
    }
}

impl From<&Profile> for Copying {
    /// What a profile's constants say.
    fn from(profile: &Profile) -> Copying {
        Copying { datasets: profile.datasets.iter().map(Copied::from).collect(), ..Copying::default() }
    }
}
