//! The processes of the demonstration: this same program, started by it in a hidden way.
//!
//! Loopback addresses are refused as peers everywhere else, because they never lead to another machine. Here both nodes
//! are this machine, and only these processes know it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use ha_core::profile::SipTimers;
use ha_core::{
    Distribution, Effect, PeerAddress, Profile, Role, RoleChange, RoleConfig, RoleError, ServiceState,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{self, block_on};
use crate::context::Context;
use crate::durable::{Attributes, replace};
use crate::far::Word;
use crate::process::Stat;
use crate::report::{Failure, Report, Verdict};
use crate::root::Root;
use crate::sip::Responder;
use crate::way::Way;

/// How often a part looks whether the demonstration still runs.
const LIFELINE: Duration = Duration::from_millis(250);

/// Phones of the demonstration register for short times only; the products' minimum is three minutes.
const TIMERS: SipTimers =
    SipTimers { min: Duration::from_secs(1), default: Duration::from_secs(30), max: Duration::from_secs(60) };

/// Which part, and whose.
#[derive(Debug, Args)]
pub(crate) struct PartArguments {
    /// The demonstration's process: the part ends with it
    #[arg(long, value_name = "PID")]
    until: i32,
    #[command(subcommand)]
    part: Part,
}

impl PartArguments {
    /// Whether it runs until it is told to end.
    pub(crate) fn is_daemon(&self) -> bool {
        matches!(self.part, Part::Node(NodeArguments { word: NodeWord::Run, .. }))
    }

    /// Whether it is a relay: that becomes the database's user, who may not read the node's files.
    pub(crate) fn is_relay(&self) -> bool {
        matches!(self.part, Part::Node(NodeArguments { word: NodeWord::Relay, .. }))
    }
}

#[derive(Debug, Subcommand)]
enum Part {
    /// In place of the PBX: answers OPTIONS and keeps registrations
    Telephony {
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: SocketAddr,
        #[arg(long, value_name = "FILE")]
        pid_file: PathBuf,
    },
    /// A node of the pair
    Node(NodeArguments),
}

/// What a node of the pair knows beside its files.
#[derive(Debug, Args)]
pub(super) struct NodeArguments {
    /// What the node is to be
    word: NodeWord,
    /// master or slave
    #[arg(long)]
    role: String,
    /// The other node's files
    #[arg(long, value_name = "DIR")]
    peer_root: PathBuf,
    /// There is no PostgreSQL to show
    #[arg(long)]
    no_database: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum NodeWord {
    /// The daemon
    Run,
    /// The far end of a replication
    Agent,
    /// The far end's PostgreSQL
    Relay,
}

/// The words that start a node, or its agent, of the pair.
pub(super) struct NodeCommand<'a> {
    pub(super) program: &'a Path,
    pub(super) until: u32,
    pub(super) root: &'a Root,
    pub(super) role: Role,
    pub(super) peer_root: &'a Root,
    pub(super) database: bool,
}

impl NodeCommand<'_> {
    /// The words, without what the node is to be.
    fn words(&self) -> Vec<String> {
        let path = |path: &Path| path.display().to_string();
        let mut words = vec![path(self.program), "--root".to_owned(), path(self.root.directory())];
        words.extend(["demo-part", "--until"].map(str::to_owned));
        words.extend([self.until.to_string(), "node".to_owned()]);
        words.extend(["--role".to_owned(), self.role.to_string()]);
        words.extend(["--peer-root".to_owned(), path(self.peer_root.directory())]);
        if !self.database {
            words.push("--no-database".to_owned());
        }
        words
    }

    /// The daemon.
    pub(super) fn run(&self) -> Vec<String> {
        let mut words = self.words();
        words.push("run".to_owned());
        words
    }
}

/// Does a part.
pub(crate) fn part(context: Context, arguments: PartArguments) -> Verdict {
    end_with(arguments.until)?;
    match arguments.part {
        Part::Telephony { listen, pid_file } => block_on(telephony(listen, &pid_file)),
        Part::Node(node) => {
            let context = on_this_machine(context, arguments.until, &node)?;
            match node.word {
                NodeWord::Run => block_on(crate::driver::run(context)),
                NodeWord::Agent => cli::agent(&context),
                NodeWord::Relay => Err(Failure::usage("a relay begins before the node's files are read")),
            }
        }
    }
}

/// Ends this process when the demonstration is gone, however it went.
fn end_with(pid: i32) -> Result<(), Failure> {
    let Some(demonstration) = Stat::of(pid).filter(Stat::alive) else {
        return Err(Failure::usage(format!("process {pid} does not run: only `demo` starts this")));
    };
    let watch = move || {
        while Stat::of(pid).is_some_and(|now| now.alive() && now.started == demonstration.started) {
            std::thread::sleep(LIFELINE);
        }
        std::process::exit(1);
    };
    std::thread::Builder::new().name("lifeline".into()).spawn(watch).map(drop).map_err(Failure::environment)
}

/// Answers SIP until SIGTERM. The pid file says that it does.
async fn telephony(listen: SocketAddr, pid_file: &Path) -> Verdict {
    // a service leaves the group of the command that starts it; it cannot be a group's leader already
    let _ = rustix::process::setsid();
    let named = |error: std::io::Error| Failure::environment(format!("{listen}: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(named)?;
    let responder = Responder::bind(listen, TIMERS).await.map_err(named)?;
    let text = format!("{}\n", std::process::id());
    replace(pid_file, text.as_bytes(), Attributes::PRIVATE)
        .map_err(|error| Failure::environment(format!("{}: {error}", pid_file.display())))?;
    let ended = async move {
        terminate.recv().await;
    };
    responder.serve(ended).await.map_err(named)?;
    Ok(Report::default())
}

/// The verb's context, but for the peer, which is this machine, and the way to it, which is no SSH.
fn on_this_machine(context: Context, until: i32, node: &NodeArguments) -> Result<Context, Failure> {
    let (role, other) = match node.role.parse().map_err(Failure::usage)? {
        Role::Master => (Role::Master, Role::Slave),
        Role::Slave => (Role::Slave, Role::Master),
        Role::Disabled => return Err(Failure::usage("a node of the pair is master or slave")),
    };
    // one per process, as long as the process
    let distribution = OnThisMachine::new(context.distribution, role, !node.no_database);
    let peer_root = Root::new(&node.peer_root).map_err(Failure::environment)?;
    let program = std::env::current_exe().map_err(Failure::environment)?;
    let far = NodeCommand {
        program: &program,
        until: u32::try_from(until).map_err(Failure::usage)?,
        root: &peer_root,
        role: other,
        peer_root: &context.root,
        database: !node.no_database,
    };
    let mut words = far.words();
    words.push(Word::Agent.as_str().to_owned());
    Ok(Context { distribution: Box::leak(Box::new(distribution)), way: Way::Program(words), ..context })
}

/// A distribution whose pair is on this machine.
struct OnThisMachine {
    inner: &'static dyn Distribution,
    role: Role,
    profile: &'static Profile,
}

impl OnThisMachine {
    fn new(inner: &'static dyn Distribution, role: Role, database: bool) -> OnThisMachine {
        let profile = inner.profile();
        let profile =
            if database { profile } else { Box::leak(Box::new(Profile { database: None, ..*profile })) };
        OnThisMachine { inner, role, profile }
    }
}

impl Distribution for OnThisMachine {
    fn profile(&self) -> &'static Profile {
        self.profile
    }

    /// A role file with a loopback address is believed when it would be right but for that.
    fn parse_role(&self, text: Option<&str>) -> Result<RoleConfig, RoleError> {
        let parsed = self.inner.parse_role(text);
        let Err(RoleError::UnusableAddress { address, .. }) = &parsed else { return parsed };
        let Ok(peer) = address.parse().map_or(Err(()), |ip| PeerAddress::on_this_machine(ip).map_err(drop))
        else {
            return parsed;
        };
        Ok(match self.role {
            Role::Slave => RoleConfig::Slave { master: peer },
            Role::Master | Role::Disabled => RoleConfig::Master { slave: peer },
        })
    }

    fn apply_role(&self, change: &RoleChange<'_>) -> Vec<Effect> {
        self.inner.apply_role(change)
    }

    fn set_services(&self, to: ServiceState, role: Role) -> Vec<Effect> {
        self.inner.set_services(to, role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its role file is the slave's other node, as text.
    struct OneLine;

    impl Distribution for OneLine {
        fn profile(&self) -> &'static Profile {
            &ha_core::testkit::EXAMPLE
        }

        fn parse_role(&self, text: Option<&str>) -> Result<RoleConfig, RoleError> {
            RoleConfig::new(Role::Slave, text.unwrap_or_default())
        }

        fn apply_role(&self, _: &RoleChange<'_>) -> Vec<Effect> {
            Vec::new()
        }
    }

    #[test]
    fn a_role_file_may_name_a_loopback_address_here_and_nothing_else_that_is_refused() {
        let parse = |text: &str| OnThisMachine::new(&OneLine, Role::Slave, true).parse_role(Some(text));
        assert!(OneLine.parse_role(Some("127.77.0.11")).is_err());
        assert_eq!(parse("127.77.0.11").unwrap().remote_address(), "127.77.0.11");
        assert_eq!(parse("10.77.0.11").unwrap().remote_address(), "10.77.0.11");
        for refused in ["224.0.0.1", "fe80::1", "pbx2", ""] {
            assert_eq!(parse(refused), OneLine.parse_role(Some(refused)));
        }
    }

    #[test]
    fn without_a_server_there_is_no_database_to_copy() {
        let database = |wanted| OnThisMachine::new(&OneLine, Role::Slave, wanted).profile().database;
        assert_eq!(database(false), None);
        assert_eq!(database(true), ha_core::testkit::EXAMPLE.database);
    }

    #[test]
    fn a_part_without_its_demonstration_is_refused() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let refusal = end_with(child.id().cast_signed()).unwrap_err();
        assert!(refusal.message.contains("only `demo` starts this"), "{refusal}");
    }
}
