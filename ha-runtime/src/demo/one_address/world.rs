//! A world of its own, in which all of it is played: its network, its processes and its names end with it.
//!
//! Between the demonstration that the user started and the one in that world is a line: its end is the end of both, however
//! it came, and over it the verdict comes back. What is told on the way goes to the same standard output.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use ha_core::Distribution;

use super::super::interrupt::Interrupt;
use super::ground::{Ground, apart};
use super::network;
use crate::control::Answer;
use crate::report::{Failure, Report, Verdict};

/// Between two looks whether somebody wants to end.
const GLANCE: Duration = Duration::from_millis(100);
/// How long the end may take.
const ENDING: Duration = Duration::from_secs(30);

/// Plays it in a world of its own.
pub(super) fn play(program: &Path, root_there: bool, json: bool) -> Verdict {
    let failed = |error: io::Error| Failure::environment(format!("a world of its own: {error}"));
    let interrupt = Interrupt::listen()?;
    let (mut line, theirs) = UnixStream::pair().map_err(failed)?;
    let mut command = apart(root_there);
    command.arg(program).args(["demo-part", "--until", "1", "world"]).args(json.then_some("--silent"));
    let mut child = command.stdin(OwnedFd::from(theirs)).spawn().map_err(failed)?;
    // it keeps the other end of the line
    drop(command);
    let heard = hear(&mut line, &interrupt);
    if heard.is_err() {
        let _ = child.kill();
    }
    let ended = end(&mut child);
    let heard = heard.map_err(failed)?;
    match serde_json::from_slice::<Answer>(&heard) {
        Ok(answer) => answer.into(),
        Err(_) => Err(Failure::environment(format!("the demonstration ended without a verdict{ended}"))),
    }
}

/// What comes back, to its end.
fn hear(line: &mut UnixStream, interrupt: &Interrupt) -> io::Result<Vec<u8>> {
    line.set_read_timeout(Some(GLANCE))?;
    let (mut heard, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    let mut ending: Option<Instant> = None;
    loop {
        match line.read(&mut buffer) {
            Ok(0) => return Ok(heard),
            Ok(length) => heard.extend_from_slice(&buffer[..length]),
            Err(error) => match error.kind() {
                // nothing yet, or the signal that somebody wants to end
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => {}
                _ => return Err(error),
            },
        }
        if ending.is_none() && interrupt.check().is_err() {
            ending = Some(Instant::now());
            line.shutdown(std::net::Shutdown::Write)?;
        }
        if ending.is_some_and(|since| since.elapsed() > ENDING) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it does not end"));
        }
    }
}

/// How the world's first process ended, where that explains something.
fn end(child: &mut Child) -> String {
    match child.wait() {
        Ok(status) if status.success() => String::new(),
        Ok(status) => format!(": {status}"),
        Err(error) => format!(": {error}"),
    }
}

/// In that world, as its first process.
pub(in crate::demo) fn within(distribution: &'static dyn Distribution, silent: bool) -> Verdict {
    let failed = |error: io::Error| Failure::environment(format!("a world of its own: {error}"));
    let line = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
    let mut line = UnixStream::from(line);
    let interrupt = Interrupt::listen()?;
    let (mut listening, asked) = (line.try_clone().map_err(failed)?, interrupt.clone());
    let listen = move || {
        // nothing is said over it: its end is what comes
        let _ = io::copy(&mut listening, &mut io::sink());
        asked.ask();
        std::thread::sleep(ENDING);
        // the world ends with its first process
        std::process::exit(1);
    };
    std::thread::Builder::new().name("line".into()).spawn(listen).map_err(failed)?;
    let played = network::lay()
        .map_err(Failure::environment)
        .and_then(|()| super::play(distribution, silent, Ground::Network, &interrupt));
    let exit = Report { exit: u8::from(played.is_err()), ..Report::default() };
    let answer = serde_json::to_vec(&Answer::from(played)).map_err(Failure::environment)?;
    // whoever started it may have gone
    let _ = line.write_all(&answer);
    drop(line);
    Ok(exit)
}
