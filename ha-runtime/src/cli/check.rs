//! `check-master IP`: the documents' check, for cron, without a daemon.

use std::net::IpAddr;

use ha_core::health::ProbeOutcome;
use ha_core::{PeerAddress, Role, ServiceState};
use serde_json::json;

use super::services;
use super::verbs::{block_on, question};
use crate::context::Context;
use crate::control::{self, Request};
use crate::driver::Notes;
use crate::performer;
use crate::probe::Icmp;
use crate::report::{Failure, Report, Verdict};
use crate::telephony::{self, TelephonyError};

/// One round of pings: one reply makes it good. Then telephony is stopped or started, unless it is so already, and unless
/// this node has ceased to be the master's slave meanwhile (`domain.md` 2.4, WAZO-2858).
///
/// A daemon that runs has its own verdict, which is printed.
pub(super) fn master(context: &Context, text: &str, dry_run: bool) -> Verdict {
    let master: PeerAddress = text.parse().map_err(Failure::usage)?;
    // also before a daemon is asked: its verdict is on its own master
    if !is_slave_of(context, master)? {
        return Ok(Report::done(format!("this node is not the slave of {master}: nothing to do")));
    }
    if let Some(verdict) = question(context, &Request::CheckMaster) {
        return verdict;
    }
    // nothing is locked while pings are on the way
    let answers = block_on(round(context, master.ip()))?;
    let to = if answers { ServiceState::Stopped } else { ServiceState::Running };
    let word = if answers { "answers: stand by" } else { "does not answer: take over" };
    if dry_run {
        return Ok(Report::done(format!("master {master} {word}")));
    }
    let still = || is_slave_of(context, master).unwrap_or(false) && !control::daemon_runs(&context.root);
    let changed = "the role was changed during the check, or a daemon was started: nothing was done";
    if !still() {
        return Ok(Report::done(changed));
    }
    let notes = Notes::open(context)?;
    let performer = performer::build(context, notes.clone())?;
    if to == ServiceState::Running {
        services::before_start(context, &notes);
    }
    match telephony::bring(context, &performer, to, still) {
        Ok(_) => {}
        Err(TelephonyError::Stale) => {
            return Ok(Report::done(changed));
        }
        Err(error) => return Err(Failure::environment(error)),
    }
    services::record(context, to)?;
    let text = format!("master {master} {word}");
    let peer = if answers { "up" } else { "down" };
    Ok(Report::new(text.clone(), json!({ "peer": peer, "why": text })))
}

fn is_slave_of(context: &Context, master: PeerAddress) -> Result<bool, Failure> {
    let role = context.role()?;
    Ok(role.role() == Role::Slave && role.peer() == Some(master.ip()))
}

async fn round(context: &Context, master: IpAddr) -> Result<bool, Failure> {
    let icmp = Icmp::start().or_else(|raw| Icmp::start_unprivileged().map_err(|_| raw));
    let icmp = icmp.map_err(Failure::environment)?;
    icmp.check(master).map_err(Failure::environment)?;
    let round = context.profile().seed_round;
    for ping in 0..round.pings {
        let sent = tokio::time::Instant::now();
        if icmp.probe(master, round.spacing).await == ProbeOutcome::Reply {
            return Ok(true);
        }
        if ping + 1 < round.pings {
            tokio::time::sleep_until(sent + round.spacing).await;
        }
    }
    Ok(false)
}
