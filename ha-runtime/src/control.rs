//! The daemon's control socket: one request and one answer a connection, each a line of JSON.
//!
//! The socket lies in a directory that only root (or the daemon's own user) may enter. While a daemon runs it alone
//! acts, and the verbs that act are requests to it (`safety.md` 3.2).

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use ha_core::distribution::Wish;
use serde::{Deserialize, Serialize};

use crate::lock::LOCK_DIRECTORY;
use crate::replicate::Scope;
use crate::report::{Failure, Report, Verdict};
use crate::root::Root;

/// Longest request and longest answer.
pub const LINE_MAX: u64 = 1 << 20;

/// What may be asked of a running daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// See `status`.
    Status,
    /// What it thinks of the master (`check-master`).
    CheckMaster,
    /// A role change.
    Configure {
        /// `master`, `slave`, `disabled`.
        role: String,
        /// Empty for `disabled`.
        remote: String,
        /// See `--restart-services`.
        restart_services: bool,
        /// See `--resync`.
        resync: bool,
        /// What the pair is to share.
        #[serde(default)]
        shared: Wish,
        /// See `--auto-failback`.
        #[serde(default)]
        auto_failback: Option<bool>,
    },
    /// Start or stop telephony by hand.
    Services {
        /// Start, otherwise stop.
        start: bool,
    },
    /// Replicate now.
    Replicate {
        /// Files.
        files: Scope,
        /// The database.
        database: Scope,
        /// All of it, whatever the digests say.
        full: bool,
        /// Only plan.
        dry_run: bool,
    },
    /// On a master: hand telephony to the slave.
    Switchover,
    /// On a master: take telephony back.
    Failback,
    /// Maintenance of both nodes.
    Maintenance {
        /// For so long; `None` ends it.
        seconds: Option<u64>,
    },
    /// A person has seen the latch.
    Acknowledge,
    /// What stands beside the pair follows anew.
    Follow,
    /// From the cluster's own script, which waits for the answer: the address came to this node, or is to leave it.
    Address {
        /// Came, otherwise is to leave.
        here: bool,
    },
    /// From the other node's daemon, through the agent. Its name on the wire is older: while a package is upgraded, an agent
    /// talks to the daemon of before.
    #[serde(rename = "from_master")]
    FromPeer(FromPeer),
}

/// What a node may ask of the other one's daemon, through the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case", deny_unknown_fields)]
pub enum FromPeer {
    /// Serve, and answer when telephony runs.
    TakeOver,
    /// Rest: the master serves.
    StandBy,
    /// Maintenance of the pair.
    Maintenance {
        /// For so long; `None` ends it.
        seconds: Option<u64>,
    },
    /// A person has seen the latch.
    Acknowledge,
    /// What it says of itself and of the pair: see [`crate::cluster::Said`].
    Standing,
}

/// Where the socket is.
pub fn path(root: &Root) -> PathBuf {
    root.path(LOCK_DIRECTORY).join("control.sock")
}

/// Asks the running daemon. `None`: no daemon runs.
///
/// `patience`: how long the answer may take; a replication takes longer than a question.
pub fn ask(root: &Root, request: &Request, patience: Duration) -> Option<Verdict> {
    let stream = match UnixStream::connect(path(root)) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return None;
        }
        Err(error) => return Some(Err(Failure::environment(format!("control socket: {error}")))),
    };
    Some(exchange(&stream, request, patience).unwrap_or_else(|error| {
        let text = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                format!(
                    "the daemon did not answer within {} s; what it was asked goes on",
                    patience.as_secs()
                )
            }
            _ => format!("control socket: {error}"),
        };
        Err(Failure::environment(text))
    }))
}

/// Whether a daemon runs.
pub fn daemon_runs(root: &Root) -> bool {
    UnixStream::connect(path(root)).is_ok()
}

fn exchange(mut stream: &UnixStream, request: &Request, patience: Duration) -> io::Result<Verdict> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    BufReader::new(stream.take(LINE_MAX)).read_until(b'\n', &mut answer)?;
    if answer.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the daemon ended before it answered"));
    }
    let answer: Answer = serde_json::from_slice(&answer)?;
    Ok(answer.into())
}

/// A [`Verdict`] on the wire.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It did.
    Done(Report),
    /// It did not.
    Failed(Failure),
}

impl From<Answer> for Verdict {
    fn from(answer: Answer) -> Verdict {
        match answer {
            Answer::Done(report) => Ok(report),
            Answer::Failed(failure) => Err(failure),
        }
    }
}

impl From<Verdict> for Answer {
    fn from(verdict: Verdict) -> Answer {
        match verdict {
            Ok(report) => Answer::Done(report),
            Err(failure) => Answer::Failed(failure),
        }
    }
}
