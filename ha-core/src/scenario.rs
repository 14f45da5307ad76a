//! Scenarios: text that an operator can read and write, run against a simulated pair.
//!
//! ```text
//! # the master loses power for a minute
//! preset modern
//! 00:10  master crash
//! 01:10  master boot
//! 05:00  end
//! ```
//!
//! Times are `MM:SS` or `HH:MM:SS` since the beginning. Running a scenario gives the same text with what happened
//! written between its lines, each behind `->`; such lines in the input are dropped, so that a result is a scenario.
//! The references are one address behind the switch.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use thiserror::Error;

use crate::event::Command;
use crate::failback::FailbackPolicy;
use crate::node::Policy;
use crate::schedule::Schedule;
use crate::sim::{Actions, Disk, Pair, Side};
use crate::window::DailyWindow;

/// The scenario's fault: which line, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {why}: \"{text}\"")]
pub struct ScenarioError {
    /// Counted from 1.
    pub line: usize,
    /// The line.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

/// Every scenario begins on this day, at noon, UTC.
const BEGAN: &str = "2026-11-20T12:00:00Z";

/// Runs a scenario. `preset` gives the policy of a preset by name.
pub fn run(text: &str, preset: impl Fn(&str) -> Option<Policy>) -> Result<String, ScenarioError> {
    let began: DateTime<Utc> = BEGAN.parse().expect("a constant in RFC 3339");
    let mut policy = preset("modern");
    let mut pair: Option<Pair> = None;
    let mut out = String::new();
    let mut told = 0;
    for (index, line) in text.lines().enumerate() {
        let fault = |why: String| ScenarioError { line: index + 1, text: line.to_owned(), why };
        let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        match words.as_slice() {
            ["->", ..] => continue,
            [_, "->", ..] => continue,
            [] => {}
            ["preset", name] => {
                policy =
                    Some(preset(name).ok_or_else(|| fault("no such preset; use modern or seed".to_owned()))?);
            }
            ["set", setting @ ..] if pair.is_none() => {
                let policy = policy.as_mut().ok_or_else(|| fault("no preset".to_owned()))?;
                set(policy, setting).map_err(fault)?;
            }
            [time, event @ ..] => {
                let at = parse_time(time)
                    .ok_or_else(|| fault("begins with neither a time nor `preset` or `set`".to_owned()))?;
                let policy = policy.as_ref().ok_or_else(|| fault("no preset".to_owned()))?;
                let pair = pair.get_or_insert_with(|| Pair::new(policy, began));
                let wait = at
                    .checked_sub(pair.elapsed())
                    .ok_or_else(|| fault("times must not go back".to_owned()))?;
                pair.run(wait);
                tell(pair, &mut told, &mut out);
                happen(pair, event).map_err(fault)?;
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
        if let Some(pair) = &pair {
            tell(pair, &mut told, &mut out);
        }
    }
    Ok(out)
}

fn tell(pair: &Pair, told: &mut usize, out: &mut String) {
    for line in &pair.transcript()[*told..] {
        let (seconds, millis) = (line.at.as_secs(), line.at.subsec_millis());
        let (minutes, side) = (seconds / 60, line.side.word());
        writeln!(out, "{minutes:02}:{:02}.{millis:03} -> {side}: {}", seconds % 60, line.text)
            .expect("a String grows");
    }
    *told = pair.transcript().len();
}

fn parse_time(text: &str) -> Option<Duration> {
    let mut seconds = 0;
    let mut parts = 0;
    for part in text.split(':') {
        seconds = seconds * 60 + part.parse::<u64>().ok()?;
        parts += 1;
    }
    (parts == 2 || parts == 3).then(|| Duration::from_secs(seconds))
}

/// `90s`, `30m`, `2h`, `800ms`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let count: u64 =
        number.parse().map_err(|_| format!("{text} is no duration; write 800ms, 90s, 30m or 2h"))?;
    match &text[number.len()..] {
        "ms" => Ok(Duration::from_millis(count)),
        "s" => Ok(Duration::from_secs(count)),
        "m" => Ok(Duration::from_secs(count * 60)),
        "h" => Ok(Duration::from_secs(count * 3600)),
        _ => Err(format!("{text} is no duration; write 800ms, 90s, 30m or 2h")),
    }
}

fn set(policy: &mut Policy, words: &[&str]) -> Result<(), String> {
    match words {
        ["failback", "automatic"] => policy.failback.policy = FailbackPolicy::Automatic,
        ["failback", "manual"] => policy.failback.policy = FailbackPolicy::Manual,
        ["failback", "window", window] => {
            let window = DailyWindow::parse(window).map_err(|error| error.to_string())?;
            policy.failback.policy = FailbackPolicy::Window(window);
        }
        ["hold", time] => policy.failback.hold = parse_duration(time)?,
        ["hold_down", time] => policy.failback.hold_down = parse_duration(time)?,
        ["latch_after", count] => {
            policy.failback.latch_after = count.parse().map_err(|_| format!("{count} is no count"))?;
        }
        ["latch_window", time] => policy.failback.latch_window = parse_duration(time)?,
        ["degraded_after", time] => policy.degraded_after = parse_duration(time)?,
        ["references", "none"] => policy.references.clear(),
        ["schedule", fields @ ..] => {
            policy.schedule = Some(Schedule::parse(&fields.join(" ")).map_err(|error| error.to_string())?);
        }
        ["on_change", "true"] => policy.on_change = true,
        ["on_change", "false"] => policy.on_change = false,
        ["restart_alone", word @ ("true" | "false")] => {
            let exclusive =
                policy.exclusive.as_mut().ok_or("restart_alone is for a pair that shares an address")?;
            exclusive.restart_alone = *word == "true";
        }
        ["zone", "utc"] => policy.zone = Arc::new(Utc),
        _ => return Err("no such setting".to_owned()),
    }
    Ok(())
}

fn happen(pair: &mut Pair, words: &[&str]) -> Result<(), String> {
    let side = match words.first() {
        Some(&"master") => Side::Master,
        Some(&"slave") => Side::Slave,
        Some(&"references" | &"clock" | &"end" | &"delay") => return around(pair, words),
        _ => return Err("after the time comes master, slave, references, delay, clock or end".to_owned()),
    };
    let host = pair.host(side);
    match &words[1..] {
        ["crash"] => pair.crash(side),
        ["boot"] => pair.boot(side, side == Side::Master),
        ["boot", "without", "telephony"] => pair.boot(side, false),
        ["freeze"] => pair.freeze(side, true),
        ["thaw"] => pair.freeze(side, false),
        ["cable", "out"] => host.cable = false,
        ["cable", "in"] => host.cable = true,
        ["firewall", "sip"] => host.answers_sip = false,
        ["firewall", "ping"] => host.answers_ping = false,
        ["firewall", "off"] => (host.answers_sip, host.answers_ping) = (true, true),
        ["telephony", "stops"] => host.telephony = false,
        ["telephony", "starts"] => host.telephony = true,
        ["telephony", "hangs"] => host.hangs = true,
        ["address", "refused"] => host.takes_address = false,
        ["address", "taken"] => host.takes_address = true,
        ["start", "takes", time] => host.start_takes = parse_duration(time)?,
        ["actions", "fail"] => host.actions = Actions::Fail,
        ["actions", "work"] => host.actions = Actions::Work,
        ["disk", "works"] => host.disk = Disk::Works,
        ["disk", "fails"] => host.disk = Disk::Fails,
        ["disk", "stalls"] => host.disk = Disk::Stalls,
        ["loses", percent] => {
            pair.loss[side as usize] = percent.parse().map_err(|_| format!("{percent} is no percentage"))?;
        }
        ["engine", "killed"] => pair.kill_engine(side),
        ["engine", "starts"] => pair.start_engine(side),
        ["take", "over"] => pair.command(side, Command::TakeOver),
        ["stand", "by"] => pair.command(side, Command::StandBy),
        ["yield"] => pair.command(side, Command::Yield),
        ["resume"] => pair.command(side, Command::Resume),
        ["hand", "over"] => pair.command(side, Command::HandOver),
        ["hand", "back"] => pair.command(side, Command::HandBack),
        ["acknowledge"] => pair.command(side, Command::Acknowledge),
        ["changes"] => pair.change(side),
        ["replication", "takes", time] => host.replication_takes = parse_duration(time)?,
        ["replicate"] => pair.command(side, Command::Replicate),
        ["maintenance", "off"] => pair.command(side, Command::Maintenance { lasts: None }),
        ["maintenance", time] => {
            pair.command(side, Command::Maintenance { lasts: Some(parse_duration(time)?) });
        }
        _ => return Err("no such event".to_owned()),
    }
    Ok(())
}

fn around(pair: &mut Pair, words: &[&str]) -> Result<(), String> {
    match words {
        ["references", "silent"] => pair.references = false,
        ["references", "answer"] => pair.references = true,
        ["delay", time] => pair.delay = parse_duration(time)?,
        ["clock", "forward", time] => pair.step_wall_clock(chrono_duration(time)?),
        ["clock", "back", time] => pair.step_wall_clock(-chrono_duration(time)?),
        ["end"] => {}
        _ => return Err("no such event".to_owned()),
    }
    Ok(())
}

fn chrono_duration(text: &str) -> Result<chrono::Duration, String> {
    chrono::Duration::from_std(parse_duration(text)?).map_err(|_| format!("{text} is too long"))
}
