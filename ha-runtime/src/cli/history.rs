//! `why` and `timeline`: the journal of decisions.

use chrono::{DateTime, Utc};
use ha_core::event::Decision;
use serde_json::{Value, json};

use crate::context::Context;
use crate::driver::DECISION;
use crate::journal;
use crate::report::{Failure, Report, Verdict};
use crate::root::Root;
use crate::settings::Span;

/// The decisions in a node's journal, oldest first; lines that cannot be read are passed over.
pub(crate) fn decisions(root: &Root, since: Option<DateTime<Utc>>) -> Result<Vec<Decision>, Failure> {
    let entries =
        journal::since(root, since).map_err(|error| Failure::environment(format!("journal: {error}")))?;
    Ok(entries
        .filter(|entry| entry.kind == DECISION)
        .filter_map(|entry| {
            let mut fields = Value::Object(entry.fields);
            fields["time"] = json!(entry.time);
            serde_json::from_value(fields).ok()
        })
        .collect())
}

/// The last decision in words.
pub(super) fn why(context: &Context) -> Verdict {
    let Some(last) = decisions(&context.root, None)?.pop() else {
        return Ok(Report::new("nothing was decided yet", Value::Null));
    };
    let text = format!("{} (rule {}, since {})", last.why, last.rule, last.time.format("%F %T UTC"));
    Ok(Report::new(text, entry(&last)))
}

/// Every decision, oldest first.
pub(super) fn timeline(context: &Context, since: Option<&str>) -> Verdict {
    let decisions = decisions(&context.root, since.map(parse_since).transpose()?)?;
    let line = |decision: &Decision| {
        let time = decision.time.format("%F %T%.3f UTC");
        format!("{time}  {:>4}  {:<4} {}", decision.generation, decision.rule, decision.why)
    };
    let mut text: Vec<String> = decisions.iter().map(line).collect();
    if text.is_empty() {
        text.push("no decision in this time".to_owned());
    }
    let json: Vec<Value> = decisions.iter().map(entry).collect();
    Ok(Report::new(text.join("\n"), Value::Array(json)))
}

fn entry(decision: &Decision) -> Value {
    json!({
        "time": decision.time,
        "generation": decision.generation,
        "from": decision.from,
        "to": decision.to,
        "rule": decision.rule,
        "why": decision.why,
    })
}

fn parse_since(text: &str) -> Result<DateTime<Utc>, Failure> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.with_timezone(&Utc));
    }
    let age: Span = text.parse().map_err(|_| {
        Failure::usage(format!("--since {text}: neither a time (2026-11-20T10:00:00Z) nor an age (30m)"))
    })?;
    chrono::Duration::from_std(age.0)
        .ok()
        .and_then(|age| Utc::now().checked_sub_signed(age))
        .ok_or_else(|| Failure::usage(format!("--since {text}: too long ago")))
}
