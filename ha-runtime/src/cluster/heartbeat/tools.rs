//! Heartbeat's own programs, below the root, each with a time-out.

use std::net::IpAddr;
use std::time::Duration;

use ha_core::Role;
use ha_core::cluster::heartbeat::{self, Resources};
use ha_core::effect::{Command, OnFailure};
use ha_core::health::Verdict;

use crate::command::{self, CommandError};
use crate::root::Root;

const STATUS: &str = "cl_status";
const STANDBY: &str = "/usr/share/heartbeat/hb_standby";
const TAKEOVER: &str = "/usr/share/heartbeat/hb_takeover";
const RESOURCES: &str = "/usr/share/heartbeat/ResourceManager";
const SCRIPTS: &str = "/etc/ha.d/resource.d";
pub(crate) const UNIT: &str = "heartbeat.service";

/// A question that has no answer by then will have none.
const QUESTION: Duration = Duration::from_secs(2);
/// What waits for nobody: a message into a pipe.
const MESSAGE: Duration = Duration::from_secs(5);
/// A start or a stop, with telephony's.
const MOVE: Duration = Duration::from_secs(60);
/// Less than systemd waits for the engine, with room for telephony's own stop afterwards.
const STOP: Duration = Duration::from_secs(15);

/// Whether Heartbeat's processes are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Runs {
    Yes,
    No,
    /// Something is there that does not answer.
    Silent,
}

/// What Heartbeat says at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) runs: Runs,
    /// The word for the other node.
    pub(super) word: String,
    pub(super) peer: Verdict,
    pub(super) resources: Resources,
    /// Neither the other node nor any reference is heard.
    pub(super) isolated: bool,
}

impl Seen {
    fn nothing(runs: Runs) -> Seen {
        let (word, peer) = (String::new(), Verdict::Unknown);
        Seen { runs, word, peer, resources: Resources::Moving, isolated: false }
    }
}

/// Whom to ask, and of what.
#[derive(Debug, Clone)]
pub(super) struct Tools {
    pub(super) root: Root,
    pub(super) role: Role,
    /// The other node's name in `ha.cf`.
    pub(super) other: String,
    pub(super) references: Vec<IpAddr>,
    /// What moves as a whole.
    pub(super) group: String,
}

impl Tools {
    /// A program of it that is not installed.
    pub(super) fn missing(root: &Root) -> Option<&'static str> {
        [STATUS, STANDBY, TAKEOVER, RESOURCES].into_iter().find(|name| root.program(name).is_none())
    }

    pub(super) fn look(&self) -> Seen {
        let Some(word) = self.word(&["nodestatus", &self.other]) else { return Seen::nothing(Runs::Silent) };
        let peer = heartbeat::verdict(&word);
        if peer == Verdict::Unknown {
            // whatever it is: a node that is not known yet, or no Heartbeat
            match self.ask(&["hbstatus"]) {
                Ok(_) => {}
                Err(CommandError::TimedOut { .. }) => return Seen::nothing(Runs::Silent),
                Err(_) => return Seen::nothing(Runs::No),
            }
        }
        let resources = self.word(&["rscstatus"]).map_or(Resources::Moving, |word| Resources::read(&word));
        let isolated = peer == Verdict::Down && self.references_are_silent();
        Seen { runs: Runs::Yes, word, peer, resources, isolated }
    }

    fn references_are_silent(&self) -> bool {
        let is_silent = |reference: &IpAddr| {
            self.word(&["nodestatus", &reference.to_string()]).is_some_and(|word| heartbeat::is_silent(&word))
        };
        !self.references.is_empty() && self.references.iter().all(is_silent)
    }

    /// This node gives everything to the other one, if that is there.
    pub(super) fn stand_by(&self) -> Result<(), CommandError> {
        self.run(&[STANDBY], MESSAGE)
    }

    /// The other node gives everything to this one.
    pub(super) fn take_over(&self) -> Result<(), CommandError> {
        self.run(&[TAKEOVER], MESSAGE)
    }

    /// Takes the address off its interface, as Heartbeat would if it could.
    pub(super) fn drop_address(&self) -> Result<(), CommandError> {
        let (script, argument) = self.group.split_once("::").unwrap_or((&self.group, ""));
        self.run(&[&format!("{SCRIPTS}/{script}"), argument, "stop"], MESSAGE)
    }

    /// What Heartbeat believes to be so already.
    pub(super) fn take(&self) -> Result<(), CommandError> {
        self.run(&[RESOURCES, "takegroup", &self.group], MOVE)
    }

    pub(super) fn start(&self) -> Result<(), CommandError> {
        self.run(&["systemctl", "start", UNIT], MESSAGE)
    }

    /// It gives everything to the other node first.
    pub(super) fn stop(&self) -> Result<(), CommandError> {
        self.run(&["systemctl", "stop", UNIT], STOP)
    }

    /// The last word of an answer, also of one that comes with a failure: `dead` does. `None`: there is no answer.
    fn word(&self, words: &[&str]) -> Option<String> {
        let tail = match self.ask(words) {
            Ok(output) => output.tail,
            Err(CommandError::Failed { tail, .. }) => tail,
            Err(CommandError::TimedOut { .. }) => return None,
            Err(CommandError::NotInstalled { .. } | CommandError::Spawn { .. }) => String::new(),
        };
        Some(tail.lines().last().unwrap_or_default().trim().to_owned())
    }

    fn ask(&self, words: &[&str]) -> Result<command::Output, CommandError> {
        command::ask(&self.root, &command_of(&[&[STATUS], words].concat(), QUESTION))
    }

    fn run(&self, words: &[&str], timeout: Duration) -> Result<(), CommandError> {
        command::run(&self.root, &command_of(words, timeout), &mut |_| {}).map(drop)
    }
}

fn command_of(words: &[&str], timeout: Duration) -> Command {
    let argv = words.iter().map(|word| (*word).to_owned()).collect();
    Command { argv, timeout, on_failure: OnFailure::Fail }
}
