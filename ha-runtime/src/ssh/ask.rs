//! Questions to the person at the terminal.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// Longest answer that is read.
const ANSWER_LIMIT: usize = 1024;

/// Who answers what only a person can know.
pub trait Ask {
    /// Whether the host that showed this key is the far end that is meant.
    fn trusts(&mut self, address: SocketAddr, fingerprint: &str) -> io::Result<bool>;

    /// The user's password over there; `None`: there is none to be had.
    fn password(&mut self, user: &str, host: IpAddr) -> io::Result<Option<String>>;
}

/// The controlling terminal, whatever standard input and output are.
///
/// Errors: the process has none (`/dev/tty`).
#[derive(Debug, Clone, Copy, Default)]
pub struct Terminal;

impl Ask for Terminal {
    fn trusts(&mut self, address: SocketAddr, fingerprint: &str) -> io::Result<bool> {
        let mut tty = open()?;
        // these first words make sshpass give up at once, instead of waiting for ever
        writeln!(tty, "The authenticity of host {address} is not known yet. Its key is\n    {fingerprint}")?;
        writeln!(tty, "Compare with `ssh-keygen -lf` of /etc/ssh/ssh_host_*_key.pub over there.")?;
        loop {
            write!(tty, "Is that the other node (yes/no)? ")?;
            match read_line(&mut tty)?.as_deref().map(str::trim) {
                Some("yes") => return Ok(true),
                Some("no") | None => return Ok(false),
                Some(_) => writeln!(tty, "Please answer \"yes\" or \"no\".")?,
            }
        }
    }

    fn password(&mut self, user: &str, host: IpAddr) -> io::Result<Option<String>> {
        let mut tty = open()?;
        // Before the prompt: who answers at once must not be shown.
        let silent = Silent::new(tty.try_clone()?)?;
        write!(tty, "{user}@{host}'s password: ")?;
        let answer = read_line(&mut tty);
        drop(silent);
        writeln!(tty)?;
        answer
    }
}

fn open() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/tty")
}

/// One line without its end; `None`: the terminal was closed.
fn read_line(from: &mut impl Read) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    while line.len() < ANSWER_LIMIT {
        let mut byte = [0];
        match from.read(&mut byte) {
            Ok(0) if line.is_empty() => return Ok(None),
            Ok(0) => break,
            Ok(_) if byte == *b"\n" => break,
            Ok(_) => line.extend(byte),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    String::from_utf8(line).map(Some).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// A terminal that does not show what is typed, until this is dropped.
struct Silent {
    tty: File,
    before: Termios,
}

impl Silent {
    fn new(tty: File) -> io::Result<Silent> {
        let before = tcgetattr(&tty)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&tty, OptionalActions::Flush, &silent)?;
        Ok(Silent { tty, before })
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.tty, OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const INNER: &str = "PBX_HA_TEST_TERMINAL";

    #[test]
    fn a_password_is_asked_for_on_the_terminal_as_sshpass_expects() {
        if std::env::var_os(INNER).is_some() {
            let answer = Terminal.password("root", "127.0.0.1".parse().unwrap()).unwrap();
            assert_eq!(answer.as_deref(), Some("from sshpass"));
            return;
        }
        let name = "ssh::ask::tests::a_password_is_asked_for_on_the_terminal_as_sshpass_expects";
        let run = Command::new("sshpass")
            .args(["-e"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env("SSHPASS", "from sshpass")
            .env(INNER, "1")
            .output();
        let Ok(output) = run else {
            return eprintln!("skipped: no sshpass on this machine");
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains("1 passed"), "{said}");
    }

    #[test]
    fn an_answer_is_one_bounded_line() {
        assert_eq!(read_line(&mut &b"yes\nmore"[..]).unwrap().as_deref(), Some("yes"));
        assert_eq!(read_line(&mut &b"\n"[..]).unwrap().as_deref(), Some(""));
        assert_eq!(read_line(&mut &b""[..]).unwrap(), None);
        assert_eq!(read_line(&mut io::repeat(b'x')).unwrap().unwrap().len(), ANSWER_LIMIT);
    }
}
