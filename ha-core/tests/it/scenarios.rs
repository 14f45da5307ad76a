//! Every scenario file says what happens; running it must give the same text.
//!
//! `REGENERATE=1` rewrites the files: read the difference before you accept it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ha_core::node::{Exclusive, Policy};
use ha_core::profile::SeedRound;
use ha_core::watchdog::WatchdogPolicy;
use ha_core::{preset, scenario, transition};

const REFERENCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 254));

/// Wazo's round (`domain.md` 2.4).
const ROUND: SeedRound =
    SeedRound { pings: 3, spacing: Duration::from_secs(10), every: Duration::from_secs(60) };

fn preset(name: &str) -> Option<Policy> {
    match name {
        "modern" => Some(Policy { references: vec![REFERENCE], ..preset::modern() }),
        "shared" => Some(shared()),
        "seed" => Some(preset::seed(&ROUND)),
        _ => None,
    }
}

/// As SARK would have it: one address, a watchdog, a start that takes half a minute at most.
fn shared() -> Policy {
    let watchdog = Some(WatchdogPolicy::modern(Duration::from_secs(30)));
    let exclusive = Some(Exclusive { restart_alone: true, watchdog });
    Policy { references: vec![REFERENCE], exclusive, ..preset::modern() }
}

fn files() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_scenario_tells_what_happens() {
    let mut different = Vec::new();
    for file in files() {
        let text = std::fs::read_to_string(&file).unwrap();
        let result =
            scenario::run(&text, preset).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        if result != text {
            if std::env::var_os("REGENERATE").is_some() {
                std::fs::write(&file, &result).unwrap();
            }
            different.push(format!("{}:\n{result}", file.file_name().unwrap().display()));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn the_scenarios_reach_every_row_of_the_table() {
    let mut seen = BTreeSet::new();
    for file in files() {
        let text = std::fs::read_to_string(&file).unwrap();
        for line in text.lines().filter_map(|line| line.split_once(" -> ")) {
            seen.extend(line.1.split_whitespace().nth(1).map(str::to_owned));
        }
    }
    // a disabled node says nothing, and no verdict at all is how every node begins
    let silent = ["D1"];
    let missing: Vec<&str> = transition::RULES
        .iter()
        .map(|rule| rule.id)
        .filter(|id| !seen.contains(*id) && !silent.contains(id))
        .collect();
    assert!(missing.is_empty(), "no scenario shows {missing:?}");
}

#[test]
fn a_mistake_in_a_scenario_is_named_by_its_line() {
    let error = scenario::run("preset modern\n00:10  master explodes\n", preset).unwrap_err();
    assert_eq!((error.line, error.why.as_str()), (2, "no such event"));
    let error = scenario::run("preset antique\n", preset).unwrap_err();
    assert!(error.to_string().contains("use modern or seed"));
    let error = scenario::run("00:10 end\n00:05 end\n", preset).unwrap_err();
    assert!(error.to_string().contains("times must not go back"));
}
