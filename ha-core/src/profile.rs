//! A distribution as plain data: constants with sources, reviewed like code.

use std::time::Duration;

use crate::distribution::ServiceState;
use crate::effect::{Block, Command, Effect, OnFailure};
use crate::role::Role;

/// Everything that is constant about a distribution.
#[derive(Debug)]
pub struct Profile {
    /// As in `status`: `wazo`, `xivo`, `sark`.
    pub name: &'static str,
    /// The program's own name: `wazo-ha`.
    pub program: &'static str,
    /// Who starts replication.
    pub direction: Direction,
    /// When, as a crontab's five fields.
    pub schedule: &'static str,
    /// How the host is asked in the `seed` preset, from the documents.
    pub seed_round: SeedRound,
    /// Trees that are copied to the slave.
    pub datasets: &'static [Dataset],
    /// The database that is copied to the slave.
    pub database: Option<Database>,
    /// How telephony is started, stopped and asked for.
    pub services: ServicePlan,
    /// How telephony is observed without running a command.
    pub observe: Observation,
    /// SIP registration expiry while the node is part of a pair, and what a node without stored values gets back.
    pub sip: Option<SipPlan>,
    /// Which of the PBX's own services know SIP expiry and registrars.
    pub api: Api,
    /// The product's own key for scripts that change its configuration over confd.
    pub key_file: &'static str,
    /// Names of the scripts that this program stands in for.
    pub scripts: &'static [(&'static str, Script)],
    /// The role file's path.
    pub role_file: &'static str,
    /// The product's own file with what the pair shares ([`Distribution::share`](crate::Distribution::share)) and what is
    /// copied ([`Distribution::copying`](crate::Distribution::copying)).
    pub conf_file: Option<&'static str>,
    /// Restarts the whole PBX where the documents order it (`--restart-services`).
    pub restart: &'static [Step],
    /// The role changes after which they order it.
    pub restart_after: &'static [RestartAfter],
    /// Makes all devices fetch their configuration again (`--resync`).
    pub resync: &'static [Step],
    /// Where the products' key pair lies.
    pub key_comment: &'static str,
    /// The longest outage that the documents promise.
    pub promise: Duration,
    /// Why both nodes must be in one subnet; `None`: they need not be.
    pub same_subnet: Option<&'static str>,
    /// Whether phones know one address, which only one of the two nodes may have; otherwise they know both nodes'.
    pub exclusive_address: bool,
    /// Whether a slave that serves hands back by itself where the settings do not say; otherwise a person says when.
    pub automatic_failback: bool,
    /// Whether telephony that runs is looked after: its process, its console by [`ServicePlan::status`], and SIP.
    pub watchdog: bool,
    /// What may stand beside the pair and has to follow telephony.
    pub followers: &'static [Follower],
}

/// What may stand beside a pair: the sections of the settings that a distribution knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follower {
    /// `[cc]`
    ContactCentre,
    /// `[xds]`
    MediaServers,
    /// `[edge]`
    Edge,
}

/// The PBX's own services over HTTP, as far as they know SIP expiry and registrars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// confd, with a log-in; what it does not have is looked for in provd and in the database.
    Confd,
    /// Older than confd: registrars are provd's alone, SIP options are in the database.
    Provd,
}

/// A role change after which the documents order a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartAfter {
    /// What the node was.
    pub from: &'static [Role],
    /// What it is now.
    pub to: Role,
    /// When, for a person: `now`, `after the first replication`.
    pub when: &'static str,
}

/// Who starts replication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The master sends (Wazo, XiVO).
    Push,
    /// The slave fetches (SARK).
    Pull,
}

/// The documents' way of asking: a round of pings, once a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeedRound {
    /// Pings of a round that must all be lost. Wazo's script: 3. XiVO's page: "more than 3", so 4.
    pub pings: u32,
    /// Between two pings.
    pub spacing: Duration,
    /// Between two rounds.
    pub every: Duration,
}

/// One tree that is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dataset {
    /// Absolute path of the directory, below the PBX's root.
    pub root: &'static str,
    /// Patterns, relative to `root`, segment by segment (`*`, `?`, `[a-z]`, and `+` after a class); when not empty, only
    /// what matches one of them (and what lies below, and the directories above) is copied.
    pub only: &'static [&'static str],
    /// Patterns of what is never copied, with everything below.
    pub exclude: &'static [&'static str],
    /// The page that names it.
    pub source: &'static str,
}

impl Dataset {
    /// A tree that is copied with everything in it.
    pub const fn whole(root: &'static str, source: &'static str) -> Dataset {
        Dataset { root, only: &[], exclude: &[], source }
    }
}

/// A PostgreSQL database that is copied, and what of it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Database {
    /// Its name.
    pub name: &'static str,
    /// Tables that are never copied, with their sequences. A trailing `*` matches any ending.
    pub exclude: &'static [Exclusion],
}

/// One excluded table or family of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exclusion {
    /// Name, or prefix with a trailing `*`.
    pub table: &'static str,
    /// Why: it is printed when a foreign key crosses the border.
    pub why: Why,
}

impl Exclusion {
    /// Keeps a table, or a family of tables, on its node.
    pub const fn keep(table: &'static str, why: Why) -> Exclusion {
        Exclusion { table, why }
    }
}

/// Why a table stays where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The documents exclude it.
    Seed,
    /// What the documents' words mean in today's schema (`domain.md` 2.6).
    SeedToday,
    /// It says which installation this is; never copied, whatever the settings say.
    Identity,
    /// Tokens, sessions: state of running services; never copied.
    Runtime,
}

/// How telephony is started and stopped: two independent lists, because stopping is not starting backwards.
#[derive(Debug, Clone, Copy)]
pub struct ServicePlan {
    /// In order. Skipped as a whole when `status` says that everything runs.
    pub start: &'static [Step],
    /// In order. Skipped as a whole when telephony is observed stopped and disabled.
    pub stop: &'static [Step],
    /// Exit 0: everything runs.
    pub status: Step,
}

/// One command of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Program and arguments.
    pub argv: &'static [&'static str],
    /// When it is killed.
    pub timeout: Duration,
    /// What its failure means.
    pub on_failure: OnFailure,
    /// Whether phones are answered only after it: its timeout is part of the outage budget.
    pub before_service: bool,
}

impl Step {
    /// One whose failure is reported and does not keep telephony down.
    pub const fn help(argv: &'static [&'static str], seconds: u64) -> Step {
        let timeout = Duration::from_secs(seconds);
        Step { argv, timeout, on_failure: OnFailure::GoOn, before_service: true }
    }

    /// One without which there is no telephony.
    pub const fn require(argv: &'static [&'static str], seconds: u64) -> Step {
        Step { on_failure: OnFailure::Fail, ..Step::help(argv, seconds) }
    }

    /// One for which no phone waits.
    pub const fn after(argv: &'static [&'static str], seconds: u64, on_failure: OnFailure) -> Step {
        Step { on_failure, before_service: false, ..Step::help(argv, seconds) }
    }

    /// The command that runs it.
    pub fn command(&self) -> Command {
        Command {
            argv: self.argv.iter().map(|word| (*word).to_owned()).collect(),
            timeout: self.timeout,
            on_failure: self.on_failure,
        }
    }
}

/// How telephony is observed by looking only (`safety.md` 2.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// "Telephony must not run here" while it exists.
    pub disabled_file: Option<&'static str>,
    /// What says the same when there is no such file: all of them off.
    pub switches: &'static [Switch],
    /// The telephony daemon's systemd unit, whose cgroup is looked into.
    pub unit: &'static str,
    /// The telephony daemon's pid file.
    pub pid_file: &'static str,
}

/// An assignment that the start script of a daemon reads: whether it may be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switch {
    /// The file, which a shell reads: the last assignment is in force.
    pub path: &'static str,
    /// The variable.
    pub name: &'static str,
    /// Its value when it may.
    pub on: &'static str,
    /// Its value when it may not.
    pub off: &'static str,
}

impl Switch {
    /// Whether a file with this text says that the daemon may not be started. A text that assigns
    /// nothing does not.
    pub fn is_off(&self, text: &str) -> bool {
        let assigned = |line: &'_ str| {
            let value = line.trim_start().strip_prefix(self.name)?.strip_prefix('=')?;
            Some(value.split([' ', '\t', ';', '#']).next()?.trim_matches(['"', '\'']) == self.off)
        };
        text.lines().filter_map(assigned).next_back().unwrap_or(false)
    }
}

impl Profile {
    /// What brings telephony to `to`: the plan's commands, with the switches on before the first and off after the last,
    /// because a start script that reads that it may not start does not stop either.
    pub fn set_services(&self, to: ServiceState) -> Vec<Effect> {
        let commands =
            |steps: &[Step]| steps.iter().map(|step| Effect::Run(step.command())).collect::<Vec<_>>();
        let switched = self.switched(to).into_iter();
        match to {
            ServiceState::Running => switched.chain(commands(self.services.start)).collect(),
            ServiceState::Stopped => commands(self.services.stop).into_iter().chain(switched).collect(),
        }
    }

    /// When the documents order [`Profile::restart`] after this role change; `None`: they do not.
    pub fn restart_ordered(&self, from: Role, to: Role) -> Option<&'static str> {
        let ordered = self.restart_after.iter().find(|order| order.to == to && order.from.contains(&from));
        ordered.map(|order| order.when)
    }

    /// Brings the switches to where telephony in that state needs them; `None`: there are none.
    pub fn switched(&self, to: ServiceState) -> Option<Effect> {
        let block = |switch: &Switch| {
            let value = match to {
                ServiceState::Running => switch.on,
                ServiceState::Stopped => switch.off,
            };
            let lines = vec![format!("{}={value}", switch.name)];
            Block { path: switch.path.to_owned(), section: None, lines, replaces: None }
        };
        let blocks: Vec<Block> = self.observe.switches.iter().map(block).collect();
        (!blocks.is_empty()).then_some(Effect::SetBlocks { blocks, then: None })
    }
}

/// SIP registration expiry in a pair and outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SipPlan {
    /// In a pair.
    pub paired: SipTimers,
    /// What the products ship, for a node that has no stored values.
    pub shipped: SipTimers,
}

/// SIP registration expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SipTimers {
    /// Shortest that a phone may ask for.
    pub min: Duration,
    /// What a phone gets that does not ask.
    pub default: Duration,
    /// Longest: the time after which a phone notices at the latest.
    pub max: Duration,
}

impl SipTimers {
    /// From whole seconds.
    pub const fn seconds(min: u64, default: u64, max: u64) -> SipTimers {
        let of = Duration::from_secs;
        SipTimers { min: of(min), default: of(default), max: of(max) }
    }
}

/// What a script that this program stands in for did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// `xivo-check-master-status IP`
    CheckMaster,
    /// `xivo-manage-slave-services start|stop`
    ManageServices,
    /// `xivo-master-slave-db-replication IP`
    ReplicateDatabase,
    /// `wazo-sync [-i]`
    Sync,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_off_when_its_last_assignment_says_so() {
        let switch = Switch { path: "/etc/default/asterisk", name: "RUNASTERISK", on: "yes", off: "no" };
        for off in
            ["RUNASTERISK=no", "RUNASTERISK=yes\n  RUNASTERISK=\"no\" # for now\n", "RUNASTERISK='no';"]
        {
            assert!(switch.is_off(off), "{off}");
        }
        for not in [
            "",
            "# RUNASTERISK=no",
            "RUNASTERISK=no\nRUNASTERISK=yes\n",
            "RUNASTERISK=nothing",
            "RUNASTERISK2=no",
        ] {
            assert!(!switch.is_off(not), "{not}");
        }
    }
}
