//! The far end over SSH, with the session in our own process.
//!
//! [`Ssh::connect`] does what may take long (TCP, key exchange, host key, authentication) in the caller's thread,
//! then hands the session to one thread of its own, the only one that ever touches it again: libssh2 forbids two.
//! Callers get one end of a socket pair per channel; the thread moves bytes between the other ends and the
//! session.

mod admission;
mod ask;
mod authorize;
mod command;
mod connection;
mod key;
mod keypair;
mod known_hosts;
mod lane;
mod pace;
mod pump;
mod quote;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::far::{Counters, Far, FarError, FarStream, Traffic, Wake, Word};
pub use ask::{Ask, Terminal};
pub(crate) use command::left;
pub use command::{FarCommand, OUTPUT_LIMIT, Ran, RunError, StillWanted};
use connection::{Connection, SocketOptions};
pub use key::{KeyLine, KeySync, KeySyncError, KeySynced, NewHost, agent_starts, key_line, sync_key};
pub use keypair::{KeyError, Origin};
use pump::Pump;

/// Where the far end is and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshTarget {
    /// The user over there.
    pub user: String,
    /// The far end's address; names are not looked up.
    pub host: IpAddr,
    /// The port of its sshd.
    pub port: u16,
    /// The private key, without passphrase; the only way in that is tried.
    pub key: PathBuf,
    /// The file of known hosts, in OpenSSH's format.
    pub known_hosts: PathBuf,
    /// The program over there and its arguments; a last argument `agent` is replaced by the word, else it is added.
    pub command: Vec<String>,
    /// Longest wait for the connection, for each step of the session's start and for a channel's opening.
    pub connect_timeout: Duration,
    /// Silence of the far end after which it is asked for a sign of life. After three times that, with bytes or an
    /// answer outstanding, the link counts as lost.
    pub keepalive: Duration,
    /// Bytes a second, each way, that all channels together may carry.
    pub bandwidth: Option<u64>,
}

impl SshTarget {
    /// Address and port of the far end's sshd.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.port)
    }

    /// The command that sshd is asked to run for a word; the word stands last, unquoted.
    ///
    /// Errors: no program is set, or an argument holds a control character.
    pub(crate) fn command_line(&self, word: Word) -> Result<String, FarError> {
        quote::command_line(&crate::far::command_for(&self.command, word)?)
    }
}

/// An SSH session to the far end.
///
/// Dropping it cuts every stream that is still open, closes the session and joins its thread.
pub struct Ssh {
    target: SshTarget,
    requests: Sender<Request>,
    wake: Wake,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

/// What the session's thread is asked to do.
enum Request {
    /// Start this; answer with the stream.
    Open { word: Word, command: String, answer: SyncSender<Result<FarStream, FarError>> },
    /// Close everything and end.
    Stop,
}

impl Ssh {
    /// Connects, checks the host key, and authenticates with the target's key.
    ///
    /// Blocks for at most a few times the connect timeout. Errors: [`FarError`]; a host key that is unknown or has
    /// changed ends it before any credential is sent.
    pub fn connect(target: &SshTarget) -> Result<Ssh, FarError> {
        Ssh::connect_with(target, SocketOptions::default())
    }

    /// As [`Ssh::connect`], with options of the socket that tests narrow.
    fn connect_with(target: &SshTarget, options: SocketOptions) -> Result<Ssh, FarError> {
        let connection = Connection::open(target, options)?;
        connection.verify_host()?;
        connection.authenticate()?;

        let wake = Wake::new().map_err(FarError::local)?;
        let counters = Arc::<Counters>::default();
        let (requests, received) = channel();
        let pump = Pump::new(connection, wake.clone(), received, Arc::clone(&counters));
        let thread = std::thread::Builder::new()
            .name(format!("ssh {}", target.host))
            .spawn(move || pump.run())
            .map_err(FarError::local)?;
        Ok(Ssh { target: target.clone(), requests, wake, counters, thread: Some(thread) })
    }

    /// Where this session leads.
    pub fn target(&self) -> &SshTarget {
        &self.target
    }

    /// Whether the session's thread has given up; every further [`open`](Far::open) fails then.
    pub fn is_lost(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Starts this command line over there, as the word.
    pub(crate) fn open_command(&self, word: Word, command: String) -> Result<FarStream, FarError> {
        let (answer, answered) = sync_channel(1);
        let gone = || FarError::Lost {
            address: self.target.address(),
            reason: "the session had ended before; connect again".into(),
        };
        self.requests.send(Request::Open { word, command, answer }).map_err(|_| gone())?;
        self.wake.wake();
        answered.recv().unwrap_or_else(|_| Err(gone()))
    }
}

impl Far for Ssh {
    fn open(&self, word: Word) -> Result<FarStream, FarError> {
        self.open_command(word, self.target.command_line(word)?)
    }

    fn traffic(&self) -> Traffic {
        self.counters.traffic()
    }
}

impl fmt::Debug for Ssh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ssh").field("target", &self.target).field("traffic", &self.traffic()).finish()
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        // Fails only when the thread has ended already.
        let _ = self.requests.send(Request::Stop);
        self.wake.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
