//! `followers`: what will be done beside the pair, in words; and how machines there let this node in, to that and no more.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use ha_core::Side;
use ha_core::follow::{Place, Step};
use serde_json::{Value, json};

use super::args::{FollowersAction, Machine};
use super::verbs;
use crate::context::Context;
use crate::control::Request;
use crate::follow::gate::{self, Gate};
use crate::report::{Failure, Report, Verdict};
use crate::settings::Span;
use crate::ssh::{KeyLine, key_line};

/// Prints what is wanted, and changes nothing here but to make the key; or tells the daemon.
pub(super) fn run(context: &Context, what: Option<FollowersAction>, dry_run: bool) -> Verdict {
    if context.profile().followers.is_empty() {
        return Err(Failure::usage(format!(
            "{} has nothing beside the pair that follows",
            context.profile().name
        )));
    }
    match what {
        None => in_words(context),
        Some(FollowersAction::Again) => {
            // what is not set cannot be done again
            in_words(context)?;
            verbs::told(context, &Request::Follow, dry_run)
        }
        Some(FollowersAction::Gate { at }) => gate(context, at),
        Some(FollowersAction::Key { at }) => key(context, at, dry_run),
    }
}

/// The script as the text, to be written to a file as it is.
fn gate(context: &Context, at: Machine) -> Verdict {
    let hosts = addresses(context, at)?;
    let gate = Gate::of(context, &hosts).map_err(Failure::usage)?;
    let script = gate.script(&format!("{} followers gate {}", context.profile().program, at.word()));
    let known = context.settings.ssh.key.is_file();
    let line = known.then(|| line(context, &hosts)).transpose()?.map(|key| key.line);
    let json = json!({ "path": gate::PATH, "script": format!("{script}\n"), "authorized_keys": line });
    Ok(Report::new(script, json))
}

/// The line as the text, to be appended as it is.
fn key(context: &Context, at: Machine, dry_run: bool) -> Verdict {
    let hosts = addresses(context, at)?;
    let key = &context.settings.ssh.key;
    if dry_run && !key.exists() {
        return Ok(Report::done(format!("would make {}, and print its line", key.display())));
    }
    let made = line(context, &hosts)?;
    let json = json!({
        "authorized_keys": made.line,
        "key": key.display().to_string(),
        "fingerprint": made.fingerprint,
        "made": made.key == crate::ssh::Origin::Made,
    });
    Ok(Report::new(made.line, json))
}

fn line(context: &Context, hosts: &[IpAddr]) -> Result<KeyLine, Failure> {
    let from = own_addresses(hosts)?;
    key_line(&context.settings.ssh.key, context.profile().key_comment, gate::PATH, &from)
        .map_err(Failure::environment)
}

/// This node's addresses as these machines see them. Nothing is sent.
fn own_addresses(hosts: &[IpAddr]) -> Result<Vec<IpAddr>, Failure> {
    let mut own = Vec::new();
    let mut unreachable = None;
    for host in hosts {
        match source(*host) {
            Ok(address) if own.contains(&address) => {}
            Ok(address) => own.push(address),
            Err(error) => unreachable = Some(format!("{host}: {error}: no address of this node leads there")),
        }
    }
    match unreachable {
        Some(why) if own.is_empty() => Err(Failure::environment(why)),
        _ => Ok(own),
    }
}

/// Which of its own addresses the kernel would take.
fn source(host: IpAddr) -> std::io::Result<IpAddr> {
    let any: IpAddr = if host.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0))?;
    // any port will do: connecting a datagram socket sends nothing
    socket.connect(SocketAddr::new(host, 9))?;
    Ok(socket.local_addr()?.ip().to_canonical())
}

/// Where those machines are. Either side's contact centre: this node may be of the other side one day.
fn addresses(context: &Context, at: Machine) -> Result<Vec<IpAddr>, Failure> {
    let followers = &context.settings.followers;
    let missing = |what: &str| Failure::usage(format!("{}: {what}", context.settings_path.display()));
    match at {
        Machine::Cc => {
            let cc = followers.contact_centre.as_ref().ok_or_else(|| {
                missing("[cc] is missing: give master and slave there, the addresses of the contact centres")
            })?;
            Ok(vec![cc.hosts.master, cc.hosts.slave])
        }
        Machine::Edge => {
            let host = followers.edge.as_ref().and_then(|edge| edge.host);
            host.map(|host| vec![host]).ok_or_else(|| {
                missing("edge.host is missing: give the Edge's address there, as \"10.77.0.31\"")
            })
        }
    }
}

impl Machine {
    fn word(self) -> &'static str {
        match self {
            Machine::Cc => "cc",
            Machine::Edge => "edge",
        }
    }
}

/// The runbook of either side.
fn in_words(context: &Context) -> Verdict {
    let of = |side| context.distribution.runbook(&context.settings.followers, side);
    if Side::ALL.into_iter().all(|side| of(side).is_empty()) {
        return Err(Failure::usage(format!(
            "{}: nothing follows telephony: set [cc] (master, slave), [xds] (servers) or [edge] (host, xivo_master, \
             xivo_slave, cc_master, cc_slave)",
            context.settings_path.display()
        )));
    }
    let text = Side::ALL.map(|side| words(side, &of(side))).join("\n\n");
    let json = |side: Side| (side.word().to_owned(), of(side).iter().map(document).collect::<Value>());
    Ok(Report::new(text, Value::Object(Side::ALL.into_iter().map(json).collect())))
}

fn words(side: Side, steps: &[Step]) -> String {
    let mut text = format!("when telephony comes to the {side}, its daemon does:");
    for (number, step) in (1..).zip(steps) {
        // writing to a String does not fail
        let _ = write!(text, "\n{number}. {}: {}", step.id, step.says);
        let _ = write!(text, "\n   where  {}", place(side, step));
        let _ = write!(text, "\n   when   {}", when(step));
        let _ = write!(text, "\n   how    {}", how(step));
        let _ = write!(text, "\n   undo   {}", step.undo);
    }
    text
}

fn place(side: Side, step: &Step) -> String {
    match step.place {
        Place::Here => format!("on the {side}"),
        Place::There(host) => format!("on {host}, over SSH"),
    }
}

fn when(step: &Step) -> String {
    match step.after.as_slice() {
        [] => "at once".to_owned(),
        after => format!("after {}", after.join(", ")),
    }
}

fn how(step: &Step) -> String {
    let (timeout, patience) = (Span(step.timeout), Span(step.patience));
    if !step.automatic {
        return "by a person: an alert says that it is to be done, and counts as done".to_owned();
    }
    match (&step.act, &step.check) {
        (Some(_), None) => {
            format!("{timeout} an attempt; a failure is told once, and tried again until it succeeds")
        }
        (None, _) => format!("asked until it holds; told when it does not after {patience}"),
        (Some(_), Some(_)) => {
            format!("{timeout} an attempt, then asked until it holds; told when it does not after {patience}")
        }
    }
}

fn document(step: &Step) -> Value {
    let host = match step.place {
        Place::Here => None,
        Place::There(host) => Some(host),
    };
    json!({
        "step": step.id,
        "says": step.says,
        "host": host,
        "after": step.after,
        "automatic": step.automatic,
        "acts": step.act.is_some(),
        "waits": step.check.is_some(),
        "timeout_seconds": step.timeout.as_secs_f64(),
        "patience_seconds": step.patience.as_secs_f64(),
        "undo": step.undo,
    })
}

#[cfg(test)]
mod tests;
