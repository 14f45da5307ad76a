//! One command on another machine, over a session of its own.
//!
//! For machines beside the pair, where no agent of ours runs. What is run is named by the near end; the key of `[ssh]` opens
//! a shell there, or better a gate that lets these lines through and nothing else (`crate::follow::gate`).

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::quote::{command_line, quoted};
use super::{Ssh, SshTarget};
use crate::far::{Ending, FarError, FarStream, Word};

/// Bytes of a command's standard output that are kept: its first ones.
pub const OUTPUT_LIMIT: usize = 1024 * 1024;

/// Bytes that are sent or received at once.
const PART: usize = 16 * 1024;

/// What is run.
#[derive(Debug, Clone, Copy)]
pub struct FarCommand<'a> {
    /// Program and arguments, as the other machine's shell finds them; quoted, so that it interprets none.
    pub argv: &'a [String],
    /// Where it runs; `None`: in the user's home.
    pub directory: Option<&'a str>,
    /// Its standard input. Sent before anything is read, so the command must read it first.
    pub input: &'a [u8],
}

/// A command that came to its end, whatever its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Status or signal, and the end of its standard error.
    pub ending: Ending,
    /// Its standard output, at most [`OUTPUT_LIMIT`] bytes.
    pub output: Vec<u8>,
    /// Whether that is all of it.
    pub is_whole: bool,
}

/// Whether what was ordered is still wanted.
pub type StillWanted<'a> = &'a dyn Fn() -> bool;

/// Why nothing is known of a command's end.
#[derive(Debug, Error)]
pub enum RunError {
    /// The machine is not known. No credential was sent.
    #[error(
        "the host key of {address} ({fingerprint}) is not in {known_hosts}: compare it on that machine, then add it \
         (`ssh-keyscan -p {port} {host}`)",
        port = address.port(),
        host = address.ip()
    )]
    HostKeyUnknown {
        /// Its sshd.
        address: SocketAddr,
        /// Its key's type and SHA256 fingerprint.
        fingerprint: String,
        /// The file that should hold it.
        known_hosts: String,
    },
    /// The machine does not admit the key.
    #[error(
        "{address} does not admit {user} with the key {key}: `followers key` prints the line that its authorized_keys \
         must have, `followers gate` what goes with it"
    )]
    NotAdmitted {
        /// Its sshd.
        address: SocketAddr,
        /// The user.
        user: String,
        /// The private key's file.
        key: String,
    },
    /// It was not wanted any more when the machine was reached. Nothing was run.
    #[error("it was not wanted any more: nothing was run")]
    Stale,
    /// The machine's sshd does not start it.
    #[error("{address} does not start the command: {reason}")]
    Refused {
        /// Its sshd.
        address: SocketAddr,
        /// What it says.
        reason: String,
    },
    /// It may still be running there.
    #[error("{address} has not ended the command within {timeout:?}; it may still be running there")]
    TimedOut {
        /// Its sshd.
        address: SocketAddr,
        /// What it had.
        timeout: Duration,
    },
    /// Anything else: not reached, or lost on the way. What the command did up to there is unknown.
    #[error(transparent)]
    Far(FarError),
}

impl FarCommand<'_> {
    /// Connects, checks the host key, authenticates, runs it to its end, and closes the session.
    ///
    /// Blocks for at most `timeout`, and while connecting for a few times the target's own limit.
    pub fn run(&self, target: &SshTarget, timeout: Duration) -> Result<Ran, RunError> {
        self.run_while(target, timeout, &|| true)
    }

    /// As [`FarCommand::run`], if it is still wanted once the machine is reached, which may take long.
    pub fn run_while(
        &self,
        target: &SshTarget,
        timeout: Duration,
        still_wanted: StillWanted<'_>,
    ) -> Result<Ran, RunError> {
        let deadline = Instant::now() + timeout;
        let line = self.line().map_err(RunError::Far)?;
        let connect_timeout = target.connect_timeout.min(timeout);
        let target = SshTarget { connect_timeout, ..target.clone() };
        let told = |error| told(&target, timeout, error);
        let ssh = Ssh::connect(&target).map_err(told)?;
        if !still_wanted() {
            return Err(RunError::Stale);
        }
        // the word is for errors of the pair's own agent, which `told` replaces
        let mut stream = ssh.open_command(Word::Agent, line).map_err(told)?;
        send(stream.socket(), self.input, deadline);
        let _ = stream.close_input();
        let (output, is_whole) = received(&mut stream, deadline);
        let (_, end) = stream.into_parts();
        let ending = end.wait(left(deadline)).map_err(told)?;
        Ok(Ran { ending, output, is_whole })
    }

    /// What the machine's sshd is asked to run, as the shell there reads it.
    ///
    /// Errors: a word holds a control character.
    pub fn line(&self) -> Result<String, FarError> {
        let line = command_line(self.argv)?;
        match self.directory {
            Some(directory) => Ok(format!("cd {} && exec {line}", quoted(directory)?)),
            None => Ok(format!("exec {line}")),
        }
    }
}

/// A command that does not read its input says by its status whether that matters.
fn send(mut socket: &UnixStream, input: &[u8], deadline: Instant) {
    // the kernel's time-out begins anew with each part that a slow reader takes
    for part in input.chunks(PART) {
        if Instant::now() >= deadline {
            return;
        }
        let _ = socket.set_write_timeout(Some(left(deadline)));
        if socket.write_all(part).is_err() {
            return;
        }
    }
}

/// Until its end or the deadline; whether nothing was thrown away.
fn received(stream: &mut FarStream, deadline: Instant) -> (Vec<u8>, bool) {
    let (mut output, mut is_whole) = (Vec::new(), true);
    let mut buffer = [0; PART];
    while Instant::now() < deadline {
        let _ = stream.socket().set_read_timeout(Some(left(deadline)));
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                let kept = count.min(OUTPUT_LIMIT - output.len());
                output.extend_from_slice(&buffer[..kept]);
                is_whole &= kept == count;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // too late, or broken: the ending says which
            Err(_) => break,
        }
    }
    (output, is_whole)
}

/// Never zero, which a socket takes for no limit.
pub(crate) fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

/// The same for a machine that `sync-key` does not know.
fn told(target: &SshTarget, timeout: Duration, error: FarError) -> RunError {
    let address = target.address();
    match error {
        FarError::HostKeyUnknown { address, fingerprint, known_hosts } => {
            RunError::HostKeyUnknown { address, fingerprint, known_hosts: known_hosts.display().to_string() }
        }
        FarError::NotAdmitted { address, user, key, .. } => {
            RunError::NotAdmitted { address, user, key: key.display().to_string() }
        }
        FarError::Refused { reason, .. } => RunError::Refused { address, reason },
        FarError::StillRunning { .. } => RunError::TimedOut { address, timeout },
        other => RunError::Far(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_takes_little_at_a_time_keeps_nobody_beyond_the_deadline() {
        let (near, mut far) = UnixStream::pair().unwrap();
        std::thread::spawn(move || {
            while far.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let began = Instant::now();
        send(&near, &[0; 8 * 1024 * 1024], began + Duration::from_millis(500));
        assert!(began.elapsed() < Duration::from_secs(10), "all of it would take forty seconds");
    }
}
