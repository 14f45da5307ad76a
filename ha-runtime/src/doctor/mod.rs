//! `doctor`: every prerequisite and every known trap, each with an id, a level and what to do.
//!
//! It looks only: no file is written, no lock taken, no service touched, no setting of the PBX changed. Every step over a
//! network has a short time-out, and what stands in the way of one check does not keep the others from being made. Run it
//! as root on each node: what it sees depends on the role.
//!
//! | id | role | fails or warns when |
//! | --- | --- | --- |
//! | `settings` | any | the settings cannot be read |
//! | `role-file` | any | the role file cannot be read |
//! | `peer-address` | pair | the other node's address is this machine's, or nobody's |
//! | `same-subnet` | pair | the nodes are not in one network, and the distribution needs that |
//! | `sentinels` | any | they say another role than the role file |
//! | `cron-files` | any | the scripts' cron lines act beside the engine, or are missing in the `seed` preset |
//! | `former-engine` | SARK | cron or init starts the product's own engine, as asha's |
//! | `database-access` | any | the lines by which a master comes over TCP are missing, or were not removed |
//! | `role-lines` | any | a line that the role has in the product's own files is missing, or was not removed |
//! | `trust-lines` | any | a line of the scripts trusts an address; with IPv6 and `/32`, 2^96 of them |
//! | `open-database` | any | a line trusts a whole network |
//! | `listen-addresses` | any | the database listens everywhere although replication comes over SSH |
//! | `database-files` | any | PostgreSQL's files cannot be read |
//! | `left-over-dumps` | any | a dump of the scripts is left in a temporary directory |
//! | `trash` | any | what replications deleted takes more room than it may |
//! | `to-carry` | whoever fetches | what this node holds newer has not been carried to the serving one, or is not known |
//! | `set-aside` | whoever fetches | files that this node held newer and were not carried lie beside |
//! | `alert` | any | alerts reach nobody: their program is not installed |
//! | `state-space` | any | the disk of the state directory is nearly full |
//! | `state-file` | any | the node's record cannot be read |
//! | `clock` | any | the time zone cannot be read, or the clock was set back |
//! | `watches` | master | the kernel watches fewer directories than take part: changes are not replicated at once |
//! | `schedule` | any | replications are less than 5 minutes or more than a day apart |
//! | `daemon` | any | no daemon runs in the `modern` preset, or its loop does not answer |
//! | `failback-policy` | pair | a returning master serves beside the slave until failback is permitted |
//! | `unit-enabled` | pair | the daemon does not start at boot |
//! | `programs` | any | a program that starts or stops telephony is not installed |
//! | `telephony` | any | it runs where it does not belong, or does not run where it does |
//! | `disabled-file` | any | the product's note that telephony must not run contradicts the role |
//! | `slave-plugins` | slave | provisioning plugins are installed |
//! | `authorized-key` | slave | the pair's key is missing, or may do more than run the agent for the master |
//! | `icmp` | pair | this machine may not send pings |
//! | `references` | pair | none is set, or one is silent |
//! | `peer-ping` | pair | the other node does not answer pings |
//! | `peer-telephony` | slave | the master does not answer SIP OPTIONS: the rung is not armed |
//! | `pbx-api` | pair | the PBX's API cannot be asked |
//! | `sip-expiry` | pair | phones may stay with a dead master for longer than the documents allow |
//! | `backup-registrars` | master | a registrar does not name the slave as backup |
//! | `cluster` | pair with one address | no cluster is set, or the pair has no address |
//! | `cluster-key` | pair with one address | the secret is missing, short, or others may read it |
//! | `cluster-agreed` | pair with one address | the other node has another address, other names or another kind of cluster |
//! | `address-gate` | pair with one address | the kernel's nftables do not answer |
//! | `address-interface` | pair with one address | there is no such interface |
//! | `address-subnet` | pair with one address | the address is not in that interface's network |
//! | `address-by-hand` | pair with one address | something else than the engine has put it on an interface |
//! | `heartbeat` | pair with one address | Debian's package is not installed, with kind = "heartbeat" |
//! | `heartbeat-files` | pair with one address | they are not as the settings and the product's file say, or cannot be |
//! | `heartbeat-peer` | pair with one address | Heartbeat does not run, or does not hear the other node |
//! | `heartbeat-at-boot` | pair with one address | systemd starts Heartbeat, and not the engine |
//! | `address-binding` | pair with one address | Asterisk answers from the node's own address |
//! | `telephony-at-boot` | pair with one address | systemd starts Asterisk wherever the address is |
//! | `followers` | pair | what stands beside the pair follows late, because nobody sees the slave hand back |
//! | `cc` | pair | this side's CC cannot be reached or does not answer, or the key may do more there than the runbook |
//! | `edge` | pair | the same of the Edge; or it does not relay to one side, or not to this node, which serves |
//! | `media-servers` | pair | this node serves, and a trunk is not registered |
//! | `local-database` | any | this node's database cannot be reached, or is too old |
//! | `database-encoding` | any | it is not in UTF8 |
//! | `exclusions` | any | never: it lists the excluded names that no table of this release has |
//! | `ssh-key` | master | the key is missing, or others may read it |
//! | `host-key` | master | the slave's host key is unknown or has changed |
//! | `ssh-session` | master | the slave cannot be reached, or does not admit the key |
//! | `agent` | master | the agent over there does not answer, or is another distribution's |
//! | `versions` | master | the two nodes run different versions of the program |
//! | `far-role` | master | the other node is no slave, or serves |
//! | `far-database` | master | the slave's database cannot be reached |
//! | `schema` | master | the databases are not of one shape |
//! | `replication-files`, `replication-database` | master | the last one failed, two are overdue, or none ever was |

mod access;
mod address;
mod check;
mod clock;
mod database;
mod engine;
mod examination;
mod far;
mod followers;
mod former;
mod heartbeat;
mod keys;
mod leftovers;
mod network;
mod pbx;
mod replication;
mod role;
mod telephony;
#[cfg(test)]
mod testing;
mod watches;

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;

use chrono::Utc;
use ha_core::event::Record;
use ha_core::{Role, RoleConfig};

pub use check::{Check, Level};

use crate::context::Context;
use crate::node_state;
use crate::report::{Failure, Report};

/// Makes all checks. `fault`: why the settings could not be read, when `context` has the defaults in their place.
pub async fn examine(context: &Context, fault: Option<&Failure>) -> Report {
    let mut checks = vec![role::settings(context, fault)];
    let (role, check) = role::role(context);
    checks.push(check);
    checks.extend(this_machine(context, role.as_ref()));
    if let Some(role) = role {
        checks.extend(of_role(context, &role).await);
    }
    let (database, catalog) = database::own(context).await;
    checks.extend(database);
    let flow = context.settings.replication.flow;
    if flow.is_pull() && role.is_some_and(|role| flow.reaches(role.role())) {
        checks.push(keys::private_key(context));
        checks.push(leftovers::to_carry(context));
        checks.push(leftovers::set_aside(context));
        // a node that serves fetches nothing: what it has is the newest
        if node_state::now(context).is_ok_and(|now| !now.active) {
            checks.extend(replication::ages(context, Utc::now(), &chrono::Local));
        }
    } else if let Some(RoleConfig::Master { slave }) = role
        && !flow.is_pull()
    {
        let slave = slave.ip();
        checks.push(keys::private_key(context));
        let (found, far) = far::look(context, slave).await;
        checks.extend(found);
        if let Some(far) = far {
            checks.extend(database::schema(context, catalog.as_ref(), slave, &far).await);
        }
        checks.extend(watches::watches(context));
        checks.extend(replication::ages(context, Utc::now(), &chrono::Local));
    }
    examination::report(&checks)
}

/// What the files and the disk tell.
fn this_machine(context: &Context, role: Option<&RoleConfig>) -> Vec<Check> {
    let mut checks = Vec::new();
    if let Some(role) = role {
        checks.extend(role::files(context, role));
        checks.extend(access::checks(context, role));
    }
    checks.push(leftovers::dumps(context));
    checks.extend(leftovers::trash(context));
    checks.push(engine::state_space(context));
    let record = match node_state::store(context).and_then(|store| node_state::load(&store)) {
        Ok(record) => record,
        Err(failure) => {
            let todo = "look at the file, then remove it: the engine starts as if it had never run";
            checks.push(Check::fail("state-file", failure.message, todo));
            None
        }
    };
    checks.push(clock::clock(context, record.as_ref().map(|record| record.since.into())));
    checks.push(replication::schedule(context, Utc::now(), &chrono::Local));
    checks.push(engine::programs(context));
    checks.push(engine::alert(context));
    checks.extend(former::engine(context));
    if let Some(role) = role {
        let kind = role.role();
        let active = belongs_here(record.as_ref(), role);
        checks.push(engine::daemon(context, kind));
        checks.extend(engine::unit(context, kind));
        checks.extend(engine::failback_policy(context, kind));
        checks.push(telephony::telephony(context, kind, active));
        checks.extend(telephony::disabled_file(context, kind, active));
        if kind == Role::Slave {
            checks.push(telephony::plugins(context));
        }
        if context.settings.replication.flow.is_logged_in_to(kind) {
            checks.push(keys::authorized_key(context));
            checks.extend(keys::second_file(context));
        }
    }
    checks
}

/// What a node of a pair needs from the network and from the PBX.
async fn of_role(context: &Context, role: &RoleConfig) -> Vec<Check> {
    let Some(peer) = role.peer() else { return Vec::new() };
    let mut checks = vec![role::peer_address(peer, &role::own_addresses())];
    checks.extend(role::same_subnet(context, peer));
    checks.extend(address::checks(context, role));
    checks.extend(address::agreed(context, role).await);
    let (icmp, check) = network::pings();
    checks.push(check);
    // a cluster hears the other node by its beats, and telephony runs where the address is
    let is_probed = !context.profile().exclusive_address;
    if let Some(icmp) = icmp {
        checks.push(network::references(context, &icmp).await);
        if is_probed {
            checks.push(network::peer_ping(&icmp, peer).await);
        }
    }
    if is_probed && role.role() == Role::Slave {
        checks.extend(network::master_telephony(context, peer).await);
    }
    checks.extend(pbx_checks(context, role.role(), peer).await);
    let record = node_state::store(context).and_then(|store| node_state::load(&store)).ok().flatten();
    checks.extend(followers::checks(context, role.role(), belongs_here(record.as_ref(), role)).await);
    checks
}

/// Whether telephony belongs to this node now, as far as its record is about this role.
fn belongs_here(record: Option<&Record>, role: &RoleConfig) -> bool {
    let known = record.filter(|record| node_state::belongs(record, role));
    known.map_or(role.role() == Role::Master, |record| record.active)
}

/// confd is asked off the runtime's thread.
async fn pbx_checks(context: &Context, role: Role, peer: IpAddr) -> Vec<Check> {
    let owned = context.clone();
    tokio::task::spawn_blocking(move || pbx::checks(&owned, role, Some(peer))).await.unwrap_or_default()
}

/// A text file of bounded length; `None`: it does not exist. What is no UTF-8 is replaced.
fn read_text(path: &Path, limit: u64) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}
