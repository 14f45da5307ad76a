//! `sync-key`: make the pair's key and have the far end admit it, for the agent and nothing else.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use super::admission::admit;
use super::ask::Ask;
use super::authorize::{Change, authorized_line, script};
use super::connection::{Connection, SocketOptions};
use super::keypair::{self, KeyError, Origin, PublicKey};
use super::known_hosts;
use super::{Ssh, SshTarget};
use crate::far::{Exit, Far, FarError, Word};

/// Bytes of the far shell's output that are read.
const OUTPUT_LIMIT: u64 = 64 * 1024;

/// What to do.
#[derive(Debug, Clone)]
pub struct KeySync<'a> {
    /// The far end; its `key` is the key, its `command` what the key may start.
    pub target: &'a SshTarget,
    /// The comment of a new key and of the far end's line, for people.
    pub comment: &'a str,
    /// Home of the user at this end, whose other keys may open the far end this once.
    pub home: &'a Path,
    /// What to do with a host that is not known yet.
    pub new_host: NewHost,
}

/// What to do with a host that is not known yet. One whose key has changed is refused in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewHost {
    /// Show its fingerprint and ask.
    Ask,
    /// Believe it, this first time.
    Accept,
}

/// What was done. The far end admits the key, restricted: that was tried, not concluded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySynced {
    /// Type and SHA256 fingerprint of the key.
    pub fingerprint: String,
    /// Whether it was made just now.
    pub key: Origin,
    /// Whether the far end's `authorized_keys` was changed.
    pub installed: bool,
}

/// Why the far end does not admit the key. The key itself stays and is used by the next try.
#[derive(Debug, Error)]
pub enum KeySyncError {
    /// There is no usable key at this end; nothing was sent.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The far end could not be reached, or its host key was refused.
    #[error(transparent)]
    Far(#[from] FarError),
    /// The person does not know the host; nothing was sent.
    #[error("{address} with the host key {fingerprint} was not accepted")]
    HostDeclined {
        /// The far end's sshd.
        address: SocketAddr,
        /// Its key.
        fingerprint: String,
    },
    /// The new host's key could not be recorded; nothing was sent.
    #[error("could not record the host key in {path}: {source}", path = path.display())]
    Record {
        /// The file of known hosts.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// No question can be asked.
    #[error("there is no terminal to ask for the password on: {0}; run it by hand, once")]
    Terminal(io::Error),
    /// The far end admits nobody; it is unchanged.
    #[error(
        "{address} admits {user} neither with a key of this user nor with a password (it offers: {methods})"
    )]
    NotAdmitted {
        /// The far end's sshd.
        address: SocketAddr,
        /// The user over there.
        user: String,
        /// The methods of authentication that it offers.
        methods: String,
    },
    /// The script did not come to its end; `authorized_keys` is as it was, for it is replaced last.
    #[error("could not change authorized_keys at the far end: {exit}: {said}")]
    Install {
        /// How the far end's shell ended.
        exit: Exit,
        /// The end of what it said.
        said: String,
    },
    /// The line was put in, but the key starts whatever it is asked to.
    #[error(
        "the key is admitted without its restrictions: another line for it must be in force at the far end \
         (AuthorizedKeysFile, AuthorizedKeysCommand)"
    )]
    Unrestricted,
    /// The line was put in, but the agent does not answer through it.
    #[error("the key was installed, but does not start the agent: {0}")]
    NotVerified(String),
}

/// Makes the key if there is none, has the far end admit it for the target's command only, and proves it.
///
/// Safe to run again: what is as wanted stays untouched. `verify` tries the agent over a session that was opened with
/// the key, for instance by its greeting; [`agent_starts`] is the least. Whatever is told as done was tried.
///
/// To get in for the installation: the key itself where it is admitted unrestricted (as `ssh-copy-id` leaves it), the
/// user's SSH agent and default keys, then the password.
pub fn sync_key(
    request: &KeySync<'_>,
    ask: &mut dyn Ask,
    verify: &mut dyn FnMut(&Ssh) -> Result<(), String>,
) -> Result<KeySynced, KeySyncError> {
    let target = request.target;
    let command = target.command_line(Word::Agent)?;
    let (public, key) = keypair::ensure(&target.key, request.comment)?;
    let done = |installed| KeySynced { fingerprint: public.fingerprint(), key, installed };

    let connection = open_trusted(request, ask)?;
    let own = match connection.authenticate() {
        Ok(()) => Some(connection),
        Err(FarError::NotAdmitted { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let door = match own {
        Some(connection) => match prove(target, verify) {
            Ok(()) => return Ok(done(false)),
            Err(KeySyncError::Unrestricted) => connection,
            // Restricted, but to something else: the key cannot mend its own line.
            Err(_) => admit(request, ask)?,
        },
        None => admit(request, ask)?,
    };
    let change = install(&door, &public, &command)?;
    drop(door);
    prove(target, verify)?;
    Ok(done(change == Change::Installed))
}

/// The line of `authorized_keys` by which another machine lets the key of this node start `command`, from these of this
/// node's addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyLine {
    /// The whole line, without its end.
    pub line: String,
    /// Type and SHA256 fingerprint of the key.
    pub fingerprint: String,
    /// Whether the key was made just now.
    pub key: Origin,
}

/// Makes the key if there is none, and says how a machine without an agent of ours lets it in.
///
/// Nothing is sent. Errors: the file is no usable key, or cannot be made.
pub fn key_line(key: &Path, comment: &str, command: &str, from: &[IpAddr]) -> Result<KeyLine, KeyError> {
    let (public, origin) = keypair::ensure(key, comment)?;
    let line = authorized_line(&public, command, from);
    Ok(KeyLine { line, fingerprint: public.fingerprint(), key: origin })
}

/// The least that proves a key: the agent starts, and ends by itself with status 0 when its input ends at once.
pub fn agent_starts(ssh: &Ssh) -> Result<(), String> {
    let ending = ssh.open(Word::Agent).and_then(|stream| stream.finish(PROOF_PATIENCE));
    match ending {
        Ok(ending) if ending.is_success() => Ok(()),
        Ok(ending) => Err(ending.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Longest wait for a program that proves something.
const PROOF_PATIENCE: Duration = Duration::from_secs(30);

/// Connects to a host that is known, or is now.
pub(super) fn open_trusted(request: &KeySync<'_>, ask: &mut dyn Ask) -> Result<Connection, KeySyncError> {
    let target = request.target;
    let connection = Connection::open(target, SocketOptions::default())?;
    match connection.verify_host() {
        Ok(()) => Ok(connection),
        Err(FarError::HostKeyUnknown { address, fingerprint, .. }) => {
            let trusted = match request.new_host {
                NewHost::Accept => true,
                NewHost::Ask => ask.trusts(address, &fingerprint).map_err(KeySyncError::Terminal)?,
            };
            if !trusted {
                return Err(KeySyncError::HostDeclined { address, fingerprint });
            }
            known_hosts::record(&target.known_hosts, address, connection.host_key()?)
                .map_err(|source| KeySyncError::Record { path: target.known_hosts.clone(), source })?;
            Ok(connection)
        }
        Err(error) => Err(error.into()),
    }
}

/// Runs the script over there.
fn install(connection: &Connection, public: &PublicKey, command: &str) -> Result<Change, KeySyncError> {
    let lost = |reason: String| FarError::Lost { address: connection.address(), reason };
    let from = source_address(connection).map_err(FarError::local)?;
    let script = script(public, &authorized_line(public, command, &[from]))?;

    let failed = |error: ssh2::Error| lost(error.message().into());
    let mut channel = connection.session.channel_session().map_err(failed)?;
    channel
        .exec("sh")
        .map_err(|error| FarError::Refused { word: Word::Agent, reason: error.message().into() })?;
    let broken = |error: io::Error| lost(error.to_string());
    // A forced command that reads nothing leaves the script unsent; its status says more than that.
    let written = channel.write_all(script.as_bytes());
    let _ = channel.send_eof();
    let (mut output, mut said) = (Vec::new(), Vec::new());
    channel.stream(0).take(OUTPUT_LIMIT).read_to_end(&mut output).map_err(broken)?;
    channel.stderr().take(OUTPUT_LIMIT).read_to_end(&mut said).map_err(broken)?;
    channel.close().and_then(|()| channel.wait_close()).map_err(failed)?;
    let status = channel.exit_status().map_err(failed)?;

    match Change::parse(&String::from_utf8_lossy(&output)) {
        Some(change) if status == 0 && written.is_ok() => Ok(change),
        _ => {
            let mut tail = crate::far::Tail::default();
            tail.push(&said);
            Err(KeySyncError::Install { exit: Exit::Code(status), said: tail.text().trim().to_owned() })
        }
    }
}

/// The address from which the far end sees us, as it will be seen by the line's `from`.
fn source_address(connection: &Connection) -> io::Result<IpAddr> {
    Ok(connection.tcp.local_addr()?.ip().to_canonical())
}

/// Tries what was installed: the key is admitted, starts nothing that it is not meant to, and starts the agent.
fn prove(target: &SshTarget, verify: &mut dyn FnMut(&Ssh) -> Result<(), String>) -> Result<(), KeySyncError> {
    let not_verified = |error: FarError| KeySyncError::NotVerified(error.to_string());
    let ssh = Ssh::connect(target).map_err(not_verified)?;
    let mut stream = ssh.open_command(Word::Agent, "echo $((20011 + 22))".into()).map_err(not_verified)?;
    let mut output = Vec::new();
    // Whatever answers instead of a shell gets no input and ends.
    let _ = stream.close_input();
    stream
        .socket()
        .set_read_timeout(Some(PROOF_PATIENCE))
        .map_err(|error| not_verified(FarError::local(error)))?;
    Read::by_ref(&mut stream)
        .take(OUTPUT_LIMIT)
        .read_to_end(&mut output)
        .map_err(|error| KeySyncError::NotVerified(error.to_string()))?;
    if output.windows(5).any(|part| part == b"20033") {
        return Err(KeySyncError::Unrestricted);
    }
    drop(stream);
    verify(&ssh).map_err(KeySyncError::NotVerified)
}
