//! The processes of the demonstration: this same program, started by it in a hidden way.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use ha_core::{Distribution, Role};

use super::one_address::{self, MachineArguments};
use super::telephony::Telephony;
use super::this_machine::OnThisMachine;
use crate::cli::{self, block_on};
use crate::context::Context;
use crate::far::Word;
use crate::process::Stat;
use crate::report::{Failure, Verdict};
use crate::root::Root;
use crate::way::Way;

/// How often a part looks whether the demonstration still runs.
const LIFELINE: Duration = Duration::from_millis(250);

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
        matches!(self.part, Part::Node(NodeArguments { word: NodeWord::Run, .. }) | Part::Machine(_))
    }

    /// Whether it needs to read nothing of a node.
    pub(crate) fn is_of_its_own(&self) -> bool {
        !matches!(self.part, Part::Node(_) | Part::Machine(_))
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
        /// What its answers say of who answers
        #[arg(long)]
        name: Option<String>,
        /// Written as long as it runs
        #[arg(long, value_name = "FILE")]
        database: Option<PathBuf>,
    },
    /// A node of the pair
    Node(NodeArguments),
    /// A machine of a pair that shares one address
    Machine(MachineArguments),
    /// In place of SSH: the near end
    Call { door: PathBuf, word: Word },
    /// The demonstration itself, as the first process of a world of its own
    World {
        /// Nothing is told on the way: one JSON document follows
        #[arg(long)]
        silent: bool,
    },
    /// Whether such a world can have the network that is needed
    Try,
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

/// Does a part that reads nothing of a node.
pub(crate) fn part_of_its_own(distribution: &'static dyn Distribution, arguments: &PartArguments) -> Verdict {
    end_with(arguments.until)?;
    match &arguments.part {
        Part::Telephony { listen, pid_file, name, database } => {
            let telephony = Telephony {
                listen: *listen,
                pid_file: pid_file.clone(),
                name: name.clone(),
                database: database.clone(),
            };
            block_on(telephony.run())
        }
        Part::Call { door, word } => one_address::call(door, *word),
        Part::World { silent } => one_address::within(distribution, *silent),
        Part::Try => one_address::attempt(),
        Part::Node(_) | Part::Machine(_) => Err(Failure::usage("a node begins with its files")),
    }
}

/// Does a part of a node.
pub(crate) fn part(context: Context, arguments: PartArguments) -> Verdict {
    end_with(arguments.until)?;
    match arguments.part {
        Part::Machine(machine) => one_address::machine(context, arguments.until, &machine),
        Part::Node(node) => {
            let context = on_this_machine(context, arguments.until, &node)?;
            match node.word {
                NodeWord::Run => block_on(crate::driver::run(context)),
                NodeWord::Agent => cli::agent(&context),
                NodeWord::Relay => Err(Failure::usage("a relay begins before the node's files are read")),
            }
        }
        Part::Telephony { .. } | Part::Call { .. } | Part::World { .. } | Part::Try => {
            Err(Failure::usage("this part begins before a node's files are read"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_without_its_demonstration_is_refused() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let refusal = end_with(child.id().cast_signed()).unwrap_err();
        assert!(refusal.message.contains("only `demo` starts this"), "{refusal}");
    }
}
