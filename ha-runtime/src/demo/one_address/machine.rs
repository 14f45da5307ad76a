//! One machine of the pair as processes: in a network a world of its own that ends at once, otherwise its daemon and its
//! telephony.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::super::node::{last_lines, telephony_of};
use super::ground::{Ground, apart};
use super::place::{Place, Props};
use super::{door, network};
use crate::control::{self, Request};
use crate::report::{Failure, Verdict};

/// How long a world may take to be there, and a process that got SIGKILL to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// A machine. Its processes end when it is dropped.
pub(super) struct Machine<'a> {
    pub(super) place: Place,
    /// The other one's files.
    peer: Place,
    props: &'a Props,
    /// The first process of its world, or its daemon.
    first: Option<Child>,
    /// How often it was switched on.
    times: u32,
}

impl<'a> Machine<'a> {
    /// One that is switched off.
    pub(super) fn new(place: &Place, peer: &Place, props: &'a Props) -> Machine<'a> {
        Machine { place: place.clone(), peer: peer.clone(), props, first: None, times: 0 }
    }

    /// With which process its parts end, as they count processes.
    pub(super) fn until(ground: &Ground) -> u32 {
        // the first of its own world
        if ground.has_network() { 1 } else { std::process::id() }
    }

    /// As a machine does that is switched on: the daemon begins, and telephony where that wants it.
    pub(super) fn boot(&mut self) -> Result<(), Failure> {
        self.times += 1;
        self.place.power_up(self.props.profile()).map_err(|error| self.failed("/run", &error))?;
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(self.place.log());
        let log = log.map_err(|error| self.failed("log", &error))?;
        let out = log.try_clone().map_err(|error| self.failed("log", &error))?;
        let mut command = match self.props.ground {
            Ground::Network => {
                // the world that it is in has its root already
                let mut command = apart(false);
                command.arg(&self.props.program);
                command
            }
            Ground::Loopback { .. } => Command::new(&self.props.program),
        };
        // a group of its own: Ctrl-C is for the demonstration, which then ends everything in order
        command.args(self.words()).process_group(0).stdin(Stdio::null()).stdout(out).stderr(log);
        let first = command.spawn().map_err(|error| self.failed("daemon", &error))?;
        let process = first.id();
        self.first = Some(first);
        if self.props.ground.has_network() {
            self.plug_in(process).map_err(|error| self.failed("network", &error))?;
        }
        Ok(())
    }

    /// Power cut: every process, and where there is a network every link, at the same moment. Files stay.
    pub(super) fn kill(&mut self) -> io::Result<()> {
        let telephony = self.telephony();
        let Some(mut first) = self.first.take() else { return Ok(()) };
        // a world ends with its first process, which ends with this one
        if let Some(group) = Pid::from_raw(first.id().cast_signed()) {
            kill_process_group(group, Signal::KILL)?;
        }
        if let Some(telephony) = telephony {
            kill_process(telephony, Signal::KILL)?;
        }
        first.wait()?;
        let begun = Instant::now();
        while self.telephony().is_some() || control::daemon_runs(&self.place.root) {
            if begun.elapsed() > PATIENCE {
                return Err(io::Error::other("a process does not end, not even by SIGKILL"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Err, with what it said: its daemon has ended, and nobody ended it.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        let ended = self.first.as_mut().and_then(|first| first.try_wait().ok().flatten());
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
        format!("the {}'s daemon said:\n{}", self.place.who().word(), last_lines(&self.place.log()))
    }

    /// What its first process is called with.
    fn words(&self) -> Vec<String> {
        let path = |path: &Path| path.display().to_string();
        let mut words = vec!["--root".to_owned(), path(self.place.root.directory())];
        words.extend(["demo-part", "--until"].map(str::to_owned));
        words.extend([Machine::until(&self.props.ground).to_string(), "machine".to_owned()]);
        words.extend(["--role".to_owned(), self.place.role.word().to_owned()]);
        words.extend(["--peer-door".to_owned(), path(&door::path(&self.peer.root))]);
        if let Ground::Loopback { telephony, .. } = self.props.ground {
            words.extend(["--address".to_owned(), telephony.ip().to_string()]);
            words.extend(["--turnstile".to_owned(), path(&self.props.turnstile)]);
        }
        words
    }

    /// Waits until it has a network of its own, and plugs the cables in.
    fn plug_in(&self, process: u32) -> io::Result<()> {
        let network = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net"));
        let (ours, begun) = (network("self")?, Instant::now());
        while network(&process.to_string())? == ours {
            if begun.elapsed() > PATIENCE {
                return Err(io::ErrorKind::TimedOut.into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let number = self.times * 2 + u32::from(self.place.role == ha_core::Role::Slave);
        network::plug_in(self.place.role, number, process)
    }

    /// The process that answers SIP here, unless it is in a world of its own.
    fn telephony(&self) -> Option<Pid> {
        if self.props.ground.has_network() {
            return None;
        }
        telephony_of(&self.place.root, self.props.profile(), &self.props.program)
    }

    fn failed(&self, what: &str, why: &dyn std::fmt::Display) -> Failure {
        Failure::environment(format!("the {}'s {what}: {why}", self.place.who().word()))
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        // everything that can be done is done; what is left over is told by the directory that cannot be removed
        let _ = self.kill();
    }
}

/// What a machine's first process knows beside its files.
#[derive(Debug, clap::Args)]
pub(crate) struct MachineArguments {
    /// master or slave
    #[arg(long)]
    role: String,
    /// Where the other one lets us in
    #[arg(long, value_name = "SOCKET")]
    peer_door: PathBuf,
    /// What plays the pair's address, where there is no network
    #[arg(long, value_name = "ADDRESS", requires = "turnstile")]
    address: Option<std::net::IpAddr>,
    /// Where the nodes settle who has it, then
    #[arg(long, value_name = "DIR")]
    turnstile: Option<PathBuf>,
}

pub(in crate::demo) use run::run;

mod run;
