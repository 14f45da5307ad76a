//! The words of the command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::demo::PartArguments;

/// High availability for a pair of PBXs.
#[derive(Debug, Parser)]
#[command(version, disable_help_subcommand = true, arg_required_else_help = true)]
pub(crate) struct Arguments {
    /// Every path of the PBX, and every program that is called, is below DIR
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,
    /// Settings (default: <root>/etc/pbx-ha/pbx-ha.toml)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// One JSON document on stdout instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print what would be done, change nothing
    #[arg(long, global = true)]
    pub(crate) dry_run: bool,
    /// More log on stderr (twice: even more)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Less log on stderr
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make this node master or slave of a pair, or neither
    Configure(Configure),
    /// The role and the peer's address
    Show,
    /// The daemon: probes, decides, starts and stops telephony, replicates
    Run,
    /// One round of the documents' check, then act; with a daemon: its verdict
    CheckMaster {
        /// The master's address
        #[arg(value_name = "IP")]
        master: String,
    },
    /// Start, stop or look at telephony
    Services {
        /// What to do with it
        action: Action,
    },
    /// Send configuration and database to the slave now
    Replicate(Replicate),
    /// Make the SSH key and install it, restricted, on the other node
    SyncKey(SyncKey),
    /// The far end of a replication, on stdin and stdout
    #[command(hide = true)]
    Agent,
    /// The far end's PostgreSQL, on stdin and stdout
    #[command(hide = true)]
    Relay,
    /// The far end that is fetched from, on stdin and stdout
    #[command(hide = true)]
    Source,
    /// Tells, on stdout, of changes of what is fetched from here
    #[command(hide = true)]
    Lookout,
    /// What Heartbeat's script asks of the engine
    #[command(hide = true)]
    Resource {
        /// What Heartbeat wants
        action: Action,
    },
    /// Hand telephony to the slave, on purpose
    Switchover,
    /// Take telephony back from the slave
    Failback,
    /// Start and stop nothing for a while, on both nodes
    Maintenance(Maintenance),
    /// A person has seen why failback is latched
    Acknowledge,
    /// Which side the Edge relays to, and the switch by hand
    Edge(EdgeArguments),
    /// What must follow telephony beside the pair: the runbook in words, and how machines let the nodes in
    Followers {
        /// Nothing: the runbook in words
        #[command(subcommand)]
        what: Option<FollowersAction>,
    },
    /// How things are
    Status,
    /// Every prerequisite and every known trap, and what to do
    Doctor,
    /// The last decision in words
    Why,
    /// The journal of decisions
    Timeline {
        /// Since then: RFC 3339, or an age like 30m
        #[arg(long, value_name = "T")]
        since: Option<String>,
    },
    /// The worst-case outage with the settings in force, term by term
    Budget,
    /// The settings in force, every key spelled out
    Settings,
    /// A pair on this machine: kill the master and watch
    Demo,
    /// A process of the demonstration
    #[command(hide = true)]
    DemoPart(PartArguments),
    /// Run a scenario under a virtual clock
    Simulate {
        /// The scenario
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

impl Verb {
    /// Whether it runs until it is told to end.
    pub(crate) fn is_daemon(&self) -> bool {
        match self {
            Verb::DemoPart(part) => part.is_daemon(),
            other => matches!(other, Verb::Run),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Configure {
    /// master, slave or disabled
    #[arg(value_name = "ROLE")]
    pub(crate) role: String,
    /// The other node's VoIP address
    #[arg(long, value_name = "IP", default_value = "")]
    pub(crate) remote: String,
    /// Restart the PBX now, as the documents order after a role change
    #[arg(long)]
    pub(crate) restart_services: bool,
    /// Make every phone fetch its configuration again
    #[arg(long)]
    pub(crate) resync: bool,
    /// The one address that phones know: a free one in their network
    #[arg(long, value_name = "IP")]
    pub(crate) cluster_ip: Option<IpAddr>,
    /// What `uname -n` says on the master
    #[arg(long, value_name = "NAME")]
    pub(crate) primary_node: Option<String>,
    /// What `uname -n` says on the slave
    #[arg(long, value_name = "NAME")]
    pub(crate) standby_node: Option<String>,
    /// Whether data are copied
    #[arg(long)]
    pub(crate) sync: Option<Sync>,
    /// Whether a master that is back takes over by itself
    #[arg(long)]
    pub(crate) auto_failback: Option<Switch>,
}

/// `HASYNCH`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sync {
    /// They are, by the node that does not serve
    Lazy,
    /// They are not
    Loose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Action {
    /// Start it
    Start,
    /// Stop it
    Stop,
    /// Exit 0 when it runs, 1 when it does not
    Status,
}

#[derive(Debug, Args)]
pub(crate) struct Replicate {
    /// What to send
    #[arg(value_enum, default_value = "all")]
    pub(crate) part: Part,
    /// Everything, whatever the digests say
    #[arg(long, conflicts_with = "if_changed")]
    pub(crate) full: bool,
    /// Compare nothing that the daemon, which looks out for changes, knows to be on the slave
    #[arg(long)]
    pub(crate) if_changed: bool,
    /// The slave, when it is not the configured one (the scripts' argument)
    #[arg(long, value_name = "IP", hide = true)]
    pub(crate) slave: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// The trees
    Files,
    /// The tables
    Database,
    /// Both
    All,
}

#[derive(Debug, Args)]
pub(crate) struct SyncKey {
    /// Accept and record the slave's host key when it is not known yet, without asking
    #[arg(long)]
    pub(crate) accept_new: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Maintenance {
    /// Begin or end it
    pub(crate) switch: Switch,
    /// How long at most, like 30m
    #[arg(long = "for", value_name = "TIME", default_value = "30m")]
    pub(crate) lasts: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// Begin
    On,
    /// End
    Off,
}

#[derive(Debug, Args)]
pub(crate) struct EdgeArguments {
    #[command(subcommand)]
    pub(crate) action: EdgeAction,
    /// This file here and nothing else: no SSH, nothing is applied
    #[arg(long, global = true, value_name = "F")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub(crate) enum EdgeAction {
    /// Exit 0 when all of its variables name one side, 1 when they do not
    Status,
    /// Name a side in the file, and apply it
    Switch {
        /// The side
        to: To,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub(crate) enum FollowersAction {
    /// Have everything follow anew, from the first step: on the node that serves, after settings were corrected
    Again,
    /// Print the script that runs the runbook's commands there, and nothing else
    Gate {
        /// Where
        at: Machine,
    },
    /// Print the line by which authorized_keys there lets this node's key in, to the gate; make the key if there is none
    Key {
        /// Where
        at: Machine,
    },
}

/// A machine beside the pair that the nodes log in to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Machine {
    /// A contact centre
    Cc,
    /// The Edge
    Edge,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum To {
    /// The node that serves in peace, and its contact centre
    Master,
    /// The other ones
    Slave,
}
