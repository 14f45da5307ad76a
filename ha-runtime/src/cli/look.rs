//! Verbs that only look: `show`, `status`, `budget`, `settings`, `simulate`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use ha_core::budget::{self, Budget, Phones};
use ha_core::node::Node;
use ha_core::{preset, scenario};
use serde_json::json;

use super::services::seen;
use super::verbs::question;
use crate::clock;
use crate::context::Context;
use crate::control::Request;
use crate::driver;
use crate::node_state;
use crate::replicate::OnChange;
use crate::report::{Failure, Report, Verdict};
use crate::settings::{self, Preset};

/// The role file's two fields.
pub(super) fn show(context: &Context) -> Verdict {
    let role = context.role()?;
    let json = json!({ "node_type": role.role(), "remote_address": role.remote_address() });
    Ok(Report::new(json.to_string(), json))
}

/// The daemon's view, or without one what the record and a look tell.
pub(super) fn status(context: &Context) -> Verdict {
    if let Some(verdict) = question(context, &Request::Status) {
        return verdict;
    }
    let role = context.role()?;
    let record = node_state::load(&node_state::store(context)?)?;
    let policy = context.policy(Arc::new(chrono::Local));
    let node = Node::new(policy, role, record, seen(context), clock::now());
    let followers = driver::followers_without_daemon(context, node.record())?;
    let on_change = OnChange::unseen("no daemon runs");
    // whatever held the address ended with the daemon
    let cluster = json!(null);
    let mut document = driver::status_document(context, &node.status(), &on_change, followers, cluster)?;
    // the node above has not looked at the disk
    let now = node_state::now(context)?;
    document["replication"]["owes"] = json!(now.owes && !now.active);
    document["daemon"] = json!(false);
    Ok(Report::new(driver::status_text(&document), document))
}

/// The longest outage that the settings in force allow for.
pub(super) fn budget(context: &Context) -> Verdict {
    let settings = &context.settings;
    let profile = context.profile();
    let detection = match settings.preset {
        Preset::Seed => budget::seed_detection_worst(&profile.seed_round, settings.probe.host.timeout()),
        Preset::Modern => {
            let policy = settings.policy(Arc::new(Utc));
            let slowest = policy.rungs.iter().map(|(_, rung)| rung.detection_worst()).max();
            slowest.unwrap_or_default()
        }
    };
    let (detection, phones) = match context.policy(Arc::new(Utc)).exclusive {
        // a node that dies is silent, a telephony that hangs is found by the watchdog
        Some(exclusive) => {
            let silence = settings.cluster.as_ref().map(settings::Cluster::silence);
            let hang = exclusive.watchdog.map(|watchdog| watchdog.detection_worst());
            (silence.max(hang).unwrap_or(detection), Phones::VirtualAddress)
        }
        None => {
            let sip_max_expiry = profile.sip.map_or(Duration::from_secs(300), |sip| sip.paired.max);
            (detection, Phones::Register { sip_max_expiry, give_up: settings.phones.give_up })
        }
    };
    let budget = Budget::new(detection, budget::start_worst(&profile.services), phones, profile.promise);
    let terms: Vec<_> = budget
        .terms
        .iter()
        .map(|term| {
            json!({
                "name": term.name,
                "seconds": term.duration.as_secs_f64(),
                "source": term.source,
                "counts": term.counts,
            })
        })
        .collect();
    let json = json!({
        "terms": terms,
        "total_seconds": budget.total.as_secs_f64(),
        "promise_seconds": budget.promise.as_secs_f64(),
        "over": budget.over().is_some(),
        "over_by_seconds": budget.over().map(|over| over.as_secs_f64()),
        "too_large": budget.too_large().map(|term| term.name),
    });
    let exit = u8::from(budget.over().is_some());
    Ok(Report { text: budget.to_string().trim_end().to_owned(), json, exit })
}

/// The settings in force, every key spelled out.
pub(super) fn settings(context: &Context) -> Verdict {
    let text = context.settings.to_toml();
    let json: serde_json::Value = toml::from_str(&text).map_err(Failure::environment)?;
    Ok(Report::new(text.trim_end(), json))
}

/// A scenario under a virtual clock, with this node's settings as the preset in force.
pub(super) fn simulate(context: &Context, file: &Path) -> Verdict {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    let round = context.profile().seed_round;
    let reference = std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 254));
    let preset = |name: &str| match name {
        "modern" => Some(ha_core::Policy { references: vec![reference], ..preset::modern() }),
        "seed" => Some(preset::seed(&round)),
        "settings" => Some(context.policy(Arc::new(Utc))),
        _ => None,
    };
    let result = scenario::run(&text, preset)
        .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    let lines: Vec<&str> = result.lines().collect();
    Ok(Report::new(result.trim_end(), json!({ "lines": lines })))
}
