//! One node of the pair as processes: its daemon, and its telephony, which its own programs start.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ha_core::Profile;
use ha_core::effect::OnFailure;
use rustix::process::{Pid, Signal, kill_process};

use super::part::NodeCommand;
use super::stage::{Place, Props};
use crate::command;
use crate::control::{self, Request};
use crate::process::Stat;
use crate::report::{Failure, Verdict};
use crate::root::Root;

/// How long a process that got SIGKILL may take to be gone.
const AFTER_KILL: Duration = Duration::from_secs(5);
/// Lines of a daemon's log that are shown when something went wrong.
const LOG_LINES: usize = 12;

/// A node. Its processes end when it is dropped.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    words: Vec<String>,
    program: PathBuf,
    profile: &'static Profile,
    daemon: Option<Child>,
}

impl Node {
    /// A machine that is switched off.
    pub(super) fn new(place: &Place, peer: &Place, props: &Props<'_>) -> Node {
        let command = NodeCommand {
            program: props.program,
            until: props.until,
            root: &place.root,
            role: place.role,
            peer_root: &peer.root,
            database: props.servers.is_some(),
        };
        Node {
            words: command.run(),
            place: place.clone(),
            program: props.program.to_owned(),
            profile: props.distribution.profile(),
            daemon: None,
        }
    }

    /// As the machine does at boot: telephony, unless it is disabled, then the daemon.
    pub(super) fn boot(&mut self) -> Result<(), Failure> {
        self.service("start")?;
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(self.log());
        let log = log.map_err(|error| self.failed("log", &error))?;
        let mut daemon = Command::new(&self.words[0]);
        // a group of its own: Ctrl-C is for the demonstration, which then ends everything in order
        daemon.args(&self.words[1..]).process_group(0).stdin(Stdio::null());
        let out = log.try_clone().map_err(|error| self.failed("log", &error))?;
        let started = daemon.stdout(Stdio::from(out)).stderr(log).spawn();
        self.daemon = Some(started.map_err(|error| self.failed("daemon", &error))?);
        Ok(())
    }

    /// SIGKILL for the daemon and for telephony at the same moment. Files stay.
    pub(super) fn kill(&mut self) -> Result<(), Failure> {
        let telephony = self.telephony();
        if let Some(daemon) = &mut self.daemon {
            daemon.kill().map_err(Failure::environment)?;
        }
        if let Some(pid) = telephony {
            kill_process(pid, Signal::KILL).map_err(Failure::environment)?;
        }
        if let Some(mut daemon) = self.daemon.take() {
            daemon.wait().map_err(Failure::environment)?;
        }
        let begun = Instant::now();
        while self.telephony().is_some() {
            if begun.elapsed() > AFTER_KILL {
                return Err(self.failed("telephony", &"does not end, not even by SIGKILL"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Err, with what it said: its daemon has ended, and nobody ended it.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        let ended = self.daemon.as_mut().and_then(|daemon| daemon.try_wait().ok().flatten());
        match ended {
            Some(status) => Err(self.failed("daemon", &format_args!("ended by itself: {status}"))),
            None => Ok(()),
        }
    }

    /// Asks the daemon; blocks.
    pub(super) fn ask(&self, request: &Request, patience: Duration) -> Verdict {
        control::ask(&self.place.root, request, patience)
            .unwrap_or_else(|| Err(self.failed("daemon", &"does not listen")))
    }

    /// The last lines of its daemon's log.
    pub(super) fn said(&self) -> String {
        last_lines(&self.log())
    }

    /// Runs the node's own program for telephony.
    fn service(&self, action: &str) -> Result<(), Failure> {
        let name = self.profile.services.status.argv.first().copied().unwrap_or_default();
        let command = ha_core::effect::Command {
            argv: vec![name.to_owned(), action.to_owned()],
            timeout: Duration::from_secs(15),
            on_failure: OnFailure::Fail,
        };
        command::run(&self.place.root, &command, &mut |_| {}).map(drop).map_err(Failure::environment)
    }

    fn telephony(&self) -> Option<Pid> {
        telephony_of(&self.place.root, self.profile, &self.program)
    }

    fn log(&self) -> PathBuf {
        self.place.root.path("/var/log/daemon")
    }

    fn failed(&self, what: &str, why: &dyn std::fmt::Display) -> Failure {
        Failure::environment(format!("the {}'s {what}: {why}", self.place.role))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // everything that can be done is done; what is left over is told by the directory that cannot be removed
        let _ = self.kill();
    }
}

/// The process that answers SIP for that node, if it is really one of ours.
pub(super) fn telephony_of(root: &Root, profile: &Profile, program: &Path) -> Option<Pid> {
    let path = root.path(profile.observe.pid_file);
    let pid: i32 = fs::read_to_string(&path).ok()?.trim().parse().ok()?;
    Stat::of(pid).filter(Stat::alive)?;
    let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words = words.split(|byte| *byte == 0);
    let ours = words.next() == Some(program.as_os_str().as_encoded_bytes())
        && words.any(|word| word == path.as_os_str().as_encoded_bytes());
    ours.then(|| Pid::from_raw(pid))?
}

/// The last lines of a daemon's log.
pub(super) fn last_lines(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

/// The bytes of all files below both directories are equal; how many files there are. Err: the first that differs.
pub(super) fn same_files(one: &Path, other: &Path) -> Result<usize, Failure> {
    let names = |directory: &Path| -> io::Result<Vec<std::ffi::OsString>> {
        let mut names: Vec<_> =
            fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
        names.sort();
        Ok(names)
    };
    let differ = |path: &Path| Failure::environment(format!("{} differs between the nodes", path.display()));
    let failed =
        |path: &Path, error: &io::Error| Failure::environment(format!("{}: {error}", path.display()));
    let here = names(one).map_err(|error| failed(one, &error))?;
    if here != names(other).map_err(|error| failed(other, &error))? {
        return Err(differ(one));
    }
    let mut count = 0;
    for name in here {
        let (one, other) = (one.join(&name), other.join(&name));
        if one.is_dir() {
            count += same_files(&one, &other)?;
            continue;
        }
        let read = |path: &Path| {
            let mut bytes = Vec::new();
            File::open(path).and_then(|mut file| io::Read::read_to_end(&mut file, &mut bytes)).map(|_| bytes)
        };
        if read(&one).map_err(|error| failed(&one, &error))?
            != read(&other).map_err(|error| failed(&other, &error))?
        {
            return Err(differ(&one));
        }
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_equal_down_to_the_last_byte_or_the_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        for side in [&one, &other] {
            fs::create_dir_all(side.join("sub")).unwrap();
            fs::write(side.join("sub/a"), "same").unwrap();
            fs::write(side.join("b"), "same").unwrap();
        }
        assert_eq!(same_files(&one, &other).unwrap(), 2);
        fs::write(other.join("sub/a"), "samE").unwrap();
        assert!(same_files(&one, &other).unwrap_err().message.contains("sub/a"));
        fs::write(other.join("extra"), "").unwrap();
        assert!(same_files(&one, &other).is_err());
    }
}
