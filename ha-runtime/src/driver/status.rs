//! `status`, as the daemon knows it.

use std::net::IpAddr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ha_core::distribution::Wish;
use ha_core::node::{ChangeWaits, Status};
use ha_core::services::Observed;
use ha_core::watchdog::Health;
use ha_core::{Role, RoleConfig, ServiceState};
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::Driver;
use crate::configure;
use crate::context::Context;
use crate::durable::STATE_DIRECTORY;
use crate::replicate::{self, OnChange, Part, Past};
use crate::report::{Report, Verdict};
use crate::sync::Replica;

impl Driver {
    /// Past replications are read from the disk in a thread: a stalled one must not stop the loop.
    pub(super) fn status(&self, answer: oneshot::Sender<Verdict>) {
        let (context, status, on_change) = (self.context.clone(), self.node.status(), self.on_change());
        let (followers, cluster) = (self.followers(), self.clustering.facts());
        tokio::task::spawn_blocking(move || {
            let json = document(&context, &status, &on_change, followers, cluster);
            let _ = answer.send(json.map(|json| Report::new(text(&json), json)));
        });
    }
}

/// The document of the contract. `cluster`: what the pair's cluster tells, if one runs here.
pub fn document(
    context: &Context,
    status: &Status,
    on_change: &OnChange,
    followers: Value,
    cluster: Value,
) -> Result<Value, crate::report::Failure> {
    let past = replicate::past(context)?;
    let flow = context.settings.replication.flow;
    // where the pair shares an address its cluster hears the other node, and nobody probes
    let probed = status.rungs.iter().filter(|_| !context.profile().exclusive_address);
    let rungs: Map<String, Value> = probed.map(|(rung, verdict)| (word(rung), json!(verdict))).collect();
    let (rule, why) = match &status.decision {
        Some(decision) => (decision.rule.clone(), decision.why.clone()),
        None => (status.record.rule.clone(), status.record.why.clone()),
    };
    let services = match (status.in_flight, status.failures, status.observed) {
        (Some(ServiceState::Running), ..) => "starting",
        (Some(ServiceState::Stopped), ..) => "stopping",
        (None, 1.., _) => "failed",
        (None, 0, Observed::Running) => "running",
        (None, 0, Observed::Stopped) => "stopped",
        // looking does not tell: what was decided last is the best guess
        (None, 0, Observed::Unknown) if status.record.active => "running",
        (None, 0, Observed::Unknown) => "stopped",
    };
    Ok(json!({
        "distribution": context.profile().name,
        "node_type": status.role.role(),
        "remote_address": status.role.remote_address(),
        "generation": status.record.generation,
        "peer": status.peer,
        "peer_rungs": rungs,
        "isolated": status.isolated,
        "services": services,
        "active": status.record.active,
        "since": status.record.since,
        "rule": rule,
        "why": why,
        "failback": {
            "policy": status.failback_policy,
            "blocked_by": status.failback_blocked_by.iter().map(|guard| guard.word()).collect::<Vec<_>>(),
            "ready_in_seconds": status.failback_ready_in.map(seconds),
        },
        "latched": status.record.latched,
        "maintenance_until": status.record.maintenance_until,
        "address": { "vip": address(context, &status.role), "held": status.address_held == Some(true) },
        "handing_over": status.handing_over,
        "health": status.health.map(health),
        "cluster": cluster,
        "replication": {
            "number": number(context, status.role.role(), &past),
            "pulls": flow.is_pull(),
            "owes": status.owes,
            "fetches": flow.is_pull() && flow.reaches(status.role.role()) && !status.record.active,
            "files": part(&past.files, on_change.has_files),
            "database": part(&past.database, on_change.has_tables),
            "on_change": {
                "watching": on_change.why_not.is_none(),
                "why_not": on_change.why_not,
                "pending": status.change_waits.is_some(),
                "waits_for": status.change_waits.map(waits_for),
            },
        },
        "followers": followers,
        "daemon": true,
    }))
}

/// The address that the pair shares; a file that cannot be read is told by `doctor`.
fn address(context: &Context, role: &RoleConfig) -> Option<IpAddr> {
    role.peer()?;
    configure::shared(context, &Wish::default(), role).ok().flatten()?.cluster_ip
}

/// What the watchdog says.
fn health(health: Health) -> Value {
    match health {
        Health::Starting => json!({ "state": "starting", "why": null }),
        Health::Alive => json!({ "state": "alive", "why": null }),
        Health::Dead(death) => json!({ "state": "dead", "why": death.to_string() }),
    }
}

/// The last replication that the slave has as a whole: as a master heard from it, or as the slave itself knows.
fn number(context: &Context, role: Role, past: &Past) -> u64 {
    match role {
        _ if context.settings.replication.flow.is_pull() => {
            Replica::load(&context.root.path(STATE_DIRECTORY)).map_or(0, |replica| replica.number)
        }
        Role::Slave => Replica::load(&context.root.path(STATE_DIRECTORY)).map_or(0, |replica| replica.number),
        Role::Master | Role::Disabled => past.number,
    }
}

fn word(rung: &ha_core::health::Rung) -> String {
    format!("{rung:?}").to_lowercase()
}

/// Rounded up: a wait that is not over is not zero.
fn seconds(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)
}

/// In the words of the document.
fn waits_for(wait: ChangeWaits) -> &'static str {
    match wait {
        ChangeWaits::Running => "running",
        ChangeWaits::Resting => "rest",
        ChangeWaits::Peer => "peer",
        ChangeWaits::Serves => "serves",
        ChangeWaits::Maintenance => "maintenance",
        ChangeWaits::Yielded => "yielded",
        ChangeWaits::Failed => "failed",
    }
}

/// What is not on the slave yet is at most what was changed since the last success began: nothing, when that is known.
/// After an attempt that failed, nothing is.
fn part(part: &Part, is_there: bool) -> Value {
    let age = part.last_success.map(|time| (Utc::now() - time).num_seconds().max(0));
    json!({
        "last_success": part.last_success,
        "age_seconds": age,
        "last_error": part.last_error,
        "would_lose_seconds": if is_there && part.last_error.is_none() { Some(0) } else { age },
    })
}

/// The document for a person at night.
pub fn text(document: &Value) -> String {
    let of = |key: &str| match &document[key] {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let mut lines =
        vec![format!("{} {} (generation {})", of("distribution"), of("node_type"), of("generation"))];
    if document["remote_address"] != "" {
        let rungs = document["peer_rungs"].as_object().into_iter().flatten();
        let rungs: Vec<String> =
            rungs.map(|(rung, verdict)| format!("{rung} {}", verdict.as_str().unwrap_or("?"))).collect();
        let seen = match rungs.as_slice() {
            [] => String::new(),
            rungs => format!(" ({})", rungs.join(", ")),
        };
        lines.push(format!("peer        {} is {}{seen}", of("remote_address"), of("peer")));
    }
    if let Some(vip) = document["address"]["vip"].as_str() {
        let place = match (document["address"]["held"] == true, document["handing_over"] == true) {
            (true, true) => "held here, and being handed over",
            (true, false) => "held here",
            (false, _) => "not here",
        };
        lines.push(format!("address     {vip} is {place}"));
    }
    let here = match (document["node_type"].as_str(), document["active"] == true) {
        // its telephony is its own affair
        (Some("disabled"), _) => "on its own",
        (_, true) => "belongs here",
        (_, false) => "does not belong here",
    };
    lines.push(format!("telephony   {}, {here} since {}", of("services"), to_the_second(&of("since"))));
    if let Some(why) = document["health"]["why"].as_str() {
        lines.push(format!("health      DEAD: {why}"));
    }
    lines.push(format!("why         {}", format!("{} {}", of("rule"), of("why")).trim_start()));
    if document["isolated"] == true {
        lines.push("isolated    the peer and all references are silent".to_owned());
    }
    let blocked = document["failback"]["blocked_by"].as_array().cloned().unwrap_or_default();
    if !blocked.is_empty() {
        let guards: Vec<&str> = blocked.iter().filter_map(Value::as_str).collect();
        let ready = document["failback"]["ready_in_seconds"].as_u64();
        let ready = ready.map(|seconds| format!(", ready in {seconds} s")).unwrap_or_default();
        lines.push(format!("failback    waits for: {}{ready}", guards.join(", ")));
    }
    if document["latched"] == true {
        lines.push("latched     failback waits for `acknowledge`".to_owned());
    }
    if document["maintenance_until"] != Value::Null {
        lines.push(format!("maintenance until {}", to_the_second(&of("maintenance_until"))));
    }
    if document["replication"]["fetches"] == true {
        lines.push(format!("fetched     {}", fetched_text(&document["replication"]["files"])));
    } else if document["node_type"] == "master" && document["replication"]["pulls"] != true {
        for name in ["files", "database"] {
            lines.push(format!("{name:<11} {}", part_text(&document["replication"][name])));
        }
        lines.push(format!("on change   {}", on_change_text(&document["replication"]["on_change"])));
    }
    if document["replication"]["owes"] == true {
        let text = "what this node holds newer is carried to the other one before anything is fetched, as soon as that serves";
        lines.push(format!("to carry    {text}"));
    }
    if let Some(number @ 1..) = document["replication"]["number"].as_u64() {
        let text = "the last that the slave has as a whole, files and database";
        lines.push(format!("replication {number} is {text}"));
    }
    if let Some(assumption) = document["cluster"]["assumption"].as_str() {
        lines.push(format!(
            "cluster     {}: {assumption}",
            document["cluster"]["kind"].as_str().unwrap_or_default()
        ));
    }
    if let Some(says) = document["cluster"]["other_node_says"].as_str() {
        lines.push(format!("other node  says of itself: {says}"));
    }
    for step in document["followers"].as_array().into_iter().flatten() {
        lines.push(format!("follows     {}", follower_text(step)));
    }
    if document["daemon"] == false {
        lines.insert(
            0,
            "NO DAEMON RUNS: nothing is watched; what follows is what it wrote down last".to_owned(),
        );
    }
    lines.join("\n")
}

/// As the other verbs print a time.
fn to_the_second(time: &str) -> String {
    let parsed = DateTime::parse_from_rfc3339(time);
    parsed.map_or_else(|_| time.to_owned(), |time| time.to_utc().format("%F %T UTC").to_string())
}

fn part_text(part: &Value) -> String {
    let age = match (part["age_seconds"].as_u64(), part["would_lose_seconds"].as_u64()) {
        (Some(age), Some(0)) if age > 0 => {
            format!("replicated {age} s ago, and nothing was seen to change since")
        }
        (Some(age), _) => format!(
            "replicated {age} s ago; if this node died now, changes of the last {age} s would be lost"
        ),
        (None, _) => "never replicated".to_owned(),
    };
    match part["last_error"].as_str() {
        Some(error) => format!("{age}; last attempt failed: {error}"),
        None => age,
    }
}

/// Of the node that fetches: it is the other one that may die.
fn fetched_text(part: &Value) -> String {
    let age = match part["age_seconds"].as_u64() {
        Some(age) => {
            format!("{age} s ago; if the other node died now, changes of the last {age} s would be lost")
        }
        None => "never".to_owned(),
    };
    match part["last_error"].as_str() {
        Some(error) => format!("{age}; last attempt failed: {error}"),
        None => age,
    }
}

fn follower_text(step: &Value) -> String {
    let of = |key: &str| step[key].as_str().unwrap_or_default();
    match of("state") {
        "announced" => format!("by hand: {}", of("says")),
        "failed" => format!("NOT YET: {}: {}", of("says"), of("error")),
        state => format!("{state}: {}", of("says")),
    }
}

fn on_change_text(on_change: &Value) -> String {
    let seen = match on_change["why_not"].as_str() {
        Some(why) => format!("not replicated at once: {why}"),
        None => "changes are replicated at once".to_owned(),
    };
    let waits = match on_change["waits_for"].as_str() {
        None => return seen,
        Some("running") => "one is being replicated",
        Some("rest") => "one waits until the last replication is some seconds ago",
        Some("peer") => "one waits until the other node answers",
        Some("serves") => "one waits until the node that it goes to, and that serves, stands by",
        Some("maintenance") => "one waits for the end of maintenance",
        Some("yielded") => "one waits for the failback",
        Some(_) => "one could not be replicated and waits for the next attempt",
    };
    format!("{seen}; {waits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_would_be_lost_only_while_the_slave_is_known_to_have_it_and_no_attempt_failed() {
        let success = Part { last_success: Some(Utc::now() - Duration::from_secs(60)), last_error: None };
        let failed = Part { last_error: Some("no route".to_owned()), ..success.clone() };
        let lost = |part_of: &Part, is_there| part(part_of, is_there)["would_lose_seconds"].as_u64();
        assert_eq!(lost(&success, true), Some(0));
        for seconds in [lost(&success, false), lost(&failed, true), lost(&failed, false)] {
            assert!(seconds >= Some(60), "{seconds:?}");
        }
        assert_eq!(lost(&Part::default(), false), None);
    }

    #[test]
    fn a_person_reads_times_to_the_second_and_nothing_of_a_disabled_node_that_is_not_so() {
        let document = json!({
            "distribution": "xivo", "node_type": "disabled", "remote_address": "", "generation": 1,
            "services": "running", "active": false, "since": "2026-11-20T10:00:00.123456789Z",
            "rule": "", "why": "this node was configured as disabled",
        });
        assert_eq!(
            text(&document),
            "xivo disabled (generation 1)\n\
             telephony   running, on its own since 2026-11-20 10:00:00 UTC\n\
             why         this node was configured as disabled"
        );
    }
}
