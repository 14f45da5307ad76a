//! Why the far end could not be reached, sorted by whose fault it is.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::{Ending, Word};

/// Why a program at the far end could not be started, or what became of it.
///
/// Cloneable, because one broken link ends all streams over it. In no case was anything changed at the far end by
/// this layer; what a program over there had done before is its own report.
#[derive(Debug, Clone, Error)]
pub enum FarError {
    /// This end: the settings name no program to run.
    #[error("no program to run at the far end is set: `agent` in the settings must name one")]
    NoProgram,
    /// This end: an argument of the program cannot be passed through a shell.
    #[error("the argument {0:?} of the far end's program holds a control character")]
    BadArgument(String),
    /// This end: the program could not be started on this machine.
    #[error("could not start {program}: {source}")]
    Start {
        /// The program.
        program: String,
        /// Why not.
        source: Arc<io::Error>,
    },
    /// This end: no socket, thread or descriptor could be had.
    #[error("could not set up a stream on this machine: {0}")]
    Local(Arc<io::Error>),
    /// This end: the private key is missing or unreadable.
    #[error("could not read the SSH key {path}: {source}; `sync-key` makes and installs it", path = path.display())]
    Key {
        /// The key's file.
        path: PathBuf,
        /// Why not.
        source: Arc<io::Error>,
    },
    /// This end: the file of known hosts is unreadable.
    #[error("could not read the known hosts {path}: {source}", path = path.display())]
    KnownHosts {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Arc<io::Error>,
    },
    /// The network: no connection.
    #[error("could not connect to {address}: {source}")]
    Connect {
        /// The far end's sshd.
        address: SocketAddr,
        /// Why not.
        source: Arc<io::Error>,
    },
    /// The far end does not speak SSH as we need it.
    #[error("no SSH session with {address}: {reason}")]
    Handshake {
        /// The far end's sshd.
        address: SocketAddr,
        /// What libssh2 says.
        reason: String,
    },
    /// The far end's host key is not known. No credential was sent.
    #[error(
        "the host key of {address} ({fingerprint}) is not in {known_hosts}; run `sync-key`, which shows it and asks",
        known_hosts = known_hosts.display()
    )]
    HostKeyUnknown {
        /// The far end's sshd.
        address: SocketAddr,
        /// Its key's type and SHA256 fingerprint.
        fingerprint: String,
        /// The file that should hold it.
        known_hosts: PathBuf,
    },
    /// The far end's host key is another than the known one. No credential was sent.
    #[error("{0}")]
    HostKeyChanged(Box<HostKeyChanged>),
    /// The far end does not admit the key.
    #[error(
        "{address} does not admit {user} with the key {key}; `sync-key` installs it (the far end offers: {methods})",
        key = key.display()
    )]
    NotAdmitted {
        /// The far end's sshd.
        address: SocketAddr,
        /// The user.
        user: String,
        /// The private key's file.
        key: PathBuf,
        /// The methods of authentication that the far end offers.
        methods: String,
    },
    /// The far end refuses to start the program.
    #[error("the far end refused to start {word}: {reason}")]
    Refused {
        /// What was asked for.
        word: Word,
        /// What libssh2 says.
        reason: String,
    },
    /// The link broke. Whatever the program was doing is cut off.
    #[error("the link to {address} is lost: {reason}")]
    Lost {
        /// The far end's sshd.
        address: SocketAddr,
        /// How it showed.
        reason: String,
    },
    /// The session was closed by this end while the stream was open.
    #[error("the session was closed on this side")]
    Closed,
    /// The program ended otherwise than with status 0.
    #[error("the far end's {word} ended with {ending}")]
    Ended {
        /// What was running.
        word: Word,
        /// How it ended and what it said.
        ending: Ending,
    },
    /// The program has not ended in time. It may still be running.
    #[error("the far end's {word} has not ended within {patience:?}")]
    StillRunning {
        /// What is running.
        word: Word,
        /// How long was waited.
        patience: Duration,
    },
}

impl FarError {
    pub(crate) fn local(error: impl Into<io::Error>) -> FarError {
        FarError::Local(Arc::new(error.into()))
    }
}

/// A host key that is not the known one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "the host key of {address} is {offered}, but {known_hosts} line {line} says {known}: either the machine was \
     installed anew or someone is in between; if you know that it was, remove that line and run `sync-key`",
    known_hosts = known_hosts.display()
)]
pub struct HostKeyChanged {
    /// The far end's sshd.
    pub address: SocketAddr,
    /// Type and fingerprint of the key that it showed.
    pub offered: String,
    /// Type and fingerprint of the key that is known, or that the offered one is revoked.
    pub known: String,
    /// The file of known hosts.
    pub known_hosts: PathBuf,
    /// The line in it, from 1.
    pub line: usize,
}
