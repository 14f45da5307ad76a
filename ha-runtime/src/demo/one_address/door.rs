//! In SSH's place: a socket of a machine at which the other one starts the far end's program. It answers as long as the
//! machine runs, and knows sshd's fixed words.

use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::far::Word;
use crate::report::{Failure, Report, Verdict};
use crate::root::Root;

/// Longest word.
const WORD_MAX: usize = 16;

/// Where it is.
pub(super) fn path(root: &Root) -> PathBuf {
    root.path("/run/door.sock")
}

/// Opens it, for as long as this process runs.
pub(super) fn open(root: &Root) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::environment(format!("{}: {error}", path(root).display()));
    let program = std::env::current_exe().map_err(failed)?;
    // a machine that was killed has left it
    let _ = fs::remove_file(path(root));
    let listener = UnixListener::bind(path(root)).map_err(failed)?;
    let root = root.clone();
    let serve = move || {
        for visitor in listener.incoming().flatten() {
            if let Err(error) = admit(visitor, &program, &root) {
                tracing::warn!("somebody at the door: {error}");
            }
        }
    };
    std::thread::Builder::new().name("door".into()).spawn(serve).map(drop).map_err(failed)
}

/// Starts what the visitor asks for.
fn admit(mut visitor: UnixStream, program: &Path, root: &Root) -> io::Result<()> {
    let (mut line, mut byte) = (String::new(), [0]);
    // byte by byte: what follows is the program's
    while line.len() < WORD_MAX && visitor.read(&mut byte)? == 1 && byte != [b'\n'] {
        line.push(byte[0].into());
    }
    let word: Word = line.parse().map_err(io::Error::other)?;
    if word == Word::Relay {
        return Err(io::Error::other("there is no database server here"));
    }
    let output = OwnedFd::from(visitor.try_clone()?);
    let mut child = Command::new(program)
        .arg("--root")
        .arg(root.directory())
        .arg(word.as_str())
        .stdin(OwnedFd::from(visitor))
        .stdout(output)
        .spawn()?;
    std::thread::Builder::new().name("visitor".into()).spawn(move || child.wait()).map(drop)
}

/// The near end: standard input and output are the far end's program, as `ssh` would have it.
pub(in crate::demo) fn call(door: &Path, word: Word) -> Verdict {
    let failed = |error: io::Error| Failure::environment(format!("{}: {error}", door.display()));
    let mut far = UnixStream::connect(door).map_err(failed)?;
    writeln!(far, "{word}").map_err(failed)?;
    let mut to_far = far.try_clone().map_err(failed)?;
    let say = move || {
        let said = io::copy(&mut io::stdin().lock(), &mut to_far);
        let _ = to_far.shutdown(Shutdown::Write);
        said
    };
    std::thread::Builder::new().name("say".into()).spawn(say).map_err(failed)?;
    let mut out = io::stdout().lock();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        // the other end waits for each answer: nothing stays in a buffer
        match far.read(&mut buffer).map_err(failed)? {
            0 => return Ok(Report::default()),
            length => out.write_all(&buffer[..length]).and_then(|()| out.flush()).map_err(failed)?,
        }
    }
}
