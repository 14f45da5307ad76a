//! What a role change does, in the order in which it protects.
//!
//! Leaving comes first and entering last, so that a node killed between two effects is in no role rather than in two:
//!
//! 1. the sentinel of a former role goes. A check script in the middle of its 20 s of pings looks for `is-secondary`
//!    right before it acts; without it, it stops nothing on the node that is about to serve;
//! 2. the former role's cron lines go, then the role file changes;
//! 3. confd is told while the database is still up: SIP expiry, and former backup registrars;
//! 4. database access, which may restart PostgreSQL, and what else the role has in the product's files;
//! 5. telephony starts unless the new role is slave. Only then does provd run, through which a new master sets the
//!    registrars;
//! 6. the new role's cron line, the restarts that were asked for, and last its sentinel.

use std::net::IpAddr;
use std::time::Duration;

use ha_core::effect::{Block, Command, OnFailure};
use ha_core::profile::{ServicePlan, SipPlan};
use ha_core::{Effect, Role, RoleChange, RoleConfig, ServiceState, role_file};

use crate::{SlaveLine, Sysconfd};

/// sysconfd's files, removed and created with the role.
const CRON_MASTER: &str = "/etc/cron.d/xivo-ha-master";
const CRON_SLAVE: &str = "/etc/cron.d/xivo-ha-slave";

/// sysconfd compiled the version in and had to be patched six times; here each installed version is found.
const PG_HBA: &str = "/etc/postgresql/*/main/pg_hba.conf";
const PG_CONF: &str = "/etc/postgresql/*/main/postgresql.conf";

pub(crate) fn apply(distribution: &Sysconfd, change: &RoleChange<'_>) -> Vec<Effect> {
    let profile = distribution.profile;
    let (from, to) = (change.from, change.to);
    let mut effects = Vec::new();
    let sentinel = distribution.sentinels.and_then(|sentinels| sentinels.of(to.role()));
    for other in distribution.sentinels.iter().flat_map(|sentinels| [sentinels.secondary, sentinels.primary])
    {
        if sentinel != Some(other) {
            effects.push(remove(other));
        }
    }
    let cron = if change.cron { cron(distribution, to) } else { None };
    for other in [CRON_SLAVE, CRON_MASTER] {
        if !matches!(cron, Some((path, _)) if path == other) {
            effects.push(remove(other));
        }
    }
    effects.push(write(profile.role_file, role_file::render(to)));
    if change.manage_pbx {
        effects.extend(profile.sip.and_then(|sip| expiry(&sip, from, to)));
        effects.extend(former_registrars(from, to));
    }
    effects.push(database_access(distribution, to, change.database_over_tcp));
    effects.extend(slave_lines(distribution, to));
    if to.role() != Role::Slave {
        effects.extend(profile.switched(ServiceState::Running));
        effects.push(start_unless_running(&profile.services));
    }
    if let RoleConfig::Master { slave } = to
        && change.manage_pbx
    {
        effects.push(Effect::BackupRegistrars(Some(slave.ip())));
    }
    if let Some((path, content)) = cron {
        effects.push(write(path, content));
    }
    if change.restart_services {
        effects.extend(profile.restart.iter().map(|step| Effect::Run(step.command())));
    }
    // Devices are provd's, and provd does not run on a passive node.
    if change.resync && to.role() != Role::Slave {
        effects.push(Effect::SynchronizeDevices);
    }
    if let Some(path) = sentinel {
        effects.push(write(path, String::new()));
    }
    effects
}

fn remove(path: &str) -> Effect {
    Effect::RemoveFile { path: path.to_owned() }
}

fn write(path: &str, content: String) -> Effect {
    Effect::WriteFile { path: path.to_owned(), content, mode: 0o644 }
}

/// The role's cron file, word for word as sysconfd writes it: operators and other tools look for these lines.
fn cron(distribution: &Sysconfd, role: &RoleConfig) -> Option<(&'static str, String)> {
    let schedule = distribution.profile.schedule;
    match role {
        RoleConfig::Disabled => None,
        RoleConfig::Master { slave } => {
            let database = format!("/usr/sbin/xivo-master-slave-db-replication {slave}");
            let scripts = [Some(database), distribution.file_sync.map(str::to_owned)];
            let line = |script| format!("{schedule} root {script} >/dev/null\n");
            Some((CRON_MASTER, scripts.into_iter().flatten().map(line).collect()))
        }
        RoleConfig::Slave { master } => Some((
            CRON_SLAVE,
            format!("* * * * * root /usr/sbin/xivo-check-master-status {master} >/dev/null\n"),
        )),
    }
}

/// "SIP expiry value on master and slave will be automatically updated." A node that is in no pair before and after
/// is left alone.
fn expiry(sip: &SipPlan, from: &RoleConfig, to: &RoleConfig) -> Option<Effect> {
    match (from.role(), to.role()) {
        (_, Role::Master | Role::Slave) => Some(Effect::SipExpiry(Some(sip.paired))),
        (Role::Master | Role::Slave, Role::Disabled) => Some(Effect::SipExpiry(None)),
        (Role::Disabled, Role::Disabled) => None,
    }
}

/// Only a master has set registrars; a slave's provd does not run, and disabling a slave must not need it.
fn former_registrars(from: &RoleConfig, to: &RoleConfig) -> Option<Effect> {
    match (from.role(), to.role()) {
        (Role::Master, Role::Slave | Role::Disabled) => Some(Effect::BackupRegistrars(None)),
        (Role::Master | Role::Slave | Role::Disabled, _) => None,
    }
}

/// Lets the master's replication in over TCP, and nobody else; in every other case takes that back.
fn database_access(distribution: &Sysconfd, role: &RoleConfig, over_tcp: bool) -> Effect {
    let master = match role {
        RoleConfig::Slave { master } if over_tcp => Some(master.ip()),
        RoleConfig::Slave { .. } | RoleConfig::Master { .. } | RoleConfig::Disabled => None,
    };
    let lines = |line: fn(IpAddr) -> String| master.map(line).into_iter().collect();
    Effect::SetBlocks {
        blocks: vec![
            Block {
                path: PG_HBA.to_owned(),
                section: None,
                lines: lines(host_line),
                // sysconfd's own line, which trusts a former master, or with IPv6 half of the internet
                replaces: Some("host asterisk postgres".to_owned()),
            },
            Block {
                path: PG_CONF.to_owned(),
                section: None,
                // The last setting in the file is in force: the administrator's own line stays, and is in force
                // again when the block goes.
                lines: lines(|_| "listen_addresses = '*'".to_owned()),
                replaces: None,
            },
        ],
        // A reload is not enough for listen_addresses.
        then: Some(Command {
            argv: distribution.restart_database.iter().map(|word| (*word).to_owned()).collect(),
            timeout: Duration::from_secs(60),
            on_failure: OnFailure::Fail,
        }),
    }
}

/// What a slave has in the product's own files; every other role has it not.
fn slave_lines(distribution: &Sysconfd, role: &RoleConfig) -> Option<Effect> {
    let block = |lines: &SlaveLine| Block {
        path: lines.path.to_owned(),
        section: Some(lines.section.to_owned()),
        lines: Some(lines.line.to_owned()).filter(|_| role.role() == Role::Slave).into_iter().collect(),
        replaces: None,
    };
    let blocks: Vec<Block> = distribution.slave_lines.iter().map(block).collect();
    (!blocks.is_empty()).then_some(Effect::SetBlocks { blocks, then: None })
}

/// One host, whatever the family: `/32` on an IPv6 address would let in 2^96 of them.
fn host_line(master: IpAddr) -> String {
    let prefix = match master {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
    format!("host asterisk postgres {master}/{prefix} trust")
}

/// A node that is not a slave serves. One that serves already is not touched.
fn start_unless_running(plan: &ServicePlan) -> Effect {
    Effect::RunUnless {
        check: plan.status.command(),
        commands: plan.start.iter().map(|step| step.command()).collect(),
    }
}
