//! The command line: the same verbs for every distribution, and the scripts that they replace.

mod agent;
mod args;
mod check;
mod doctor;
mod edge;
mod followers;
mod history;
mod keys;
mod log;
mod look;
mod progress;
mod resource;
mod script;
pub(crate) mod services;
mod verbs;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use ha_core::Distribution;
use ha_core::profile::Follower;
use serde_json::json;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::report::Verdict;
use args::Arguments;
use log::Log;

pub(crate) use agent::run as agent;
pub(crate) use history::decisions;
pub(crate) use verbs::block_on;

/// Runs the program: parses the command line, does the verb, prints, and ends with its exit code.
pub fn main(distribution: &'static dyn Distribution) -> ExitCode {
    let mut words: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let name = words.first().map(|word| std::path::Path::new(word).to_path_buf()).unwrap_or_default();
    let name = name.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let profile = distribution.profile();
    let known = profile.scripts.iter().find(|(script, _)| *script == name);
    let quiet_success = known.is_some();
    if let Some((script, what)) = known {
        words = match script::translate(script, *what, &words[1..]) {
            Ok(words) => words,
            Err(usage) => {
                eprintln!("{usage}");
                return ExitCode::from(2);
            }
        };
    }
    let has_edge = profile.followers.contains(&Follower::Edge);
    let command = Arguments::command()
        .name(profile.program)
        .mut_subcommand("edge", |verb| verb.hide(!has_edge))
        .mut_subcommand("followers", |verb| verb.hide(profile.followers.is_empty()))
        .mut_subcommand("configure", |verb| {
            let shared = ["cluster_ip", "primary_node", "standby_node", "sync", "auto_failback"];
            let hide = !profile.exclusive_address;
            shared.iter().fold(verb, |verb, option| verb.mut_arg(*option, |option| option.hide(hide)))
        });
    let parsed = command.try_get_matches_from(&words);
    let arguments = match parsed.and_then(|matches| Arguments::from_arg_matches(&matches)) {
        Ok(arguments) => arguments,
        Err(error) => {
            // clap prints help to stdout with exit 0 and mistakes to stderr with exit 2
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let log = log_to_stderr(&arguments);
    let as_json = arguments.json;
    let verdict = verbs::run(distribution, arguments);
    if let Some(log) = log {
        log.end();
    }
    finish(&verdict, as_json, quiet_success)
}

/// Returns what a daemon's lines wait in: an engine's loop does not wait for whoever reads them.
fn log_to_stderr(arguments: &Arguments) -> Option<Log> {
    use tracing_subscriber::filter::LevelFilter;
    let daemon = arguments.verb.is_daemon();
    let level = match (arguments.quiet, arguments.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) if daemon => LevelFilter::INFO,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::DEBUG,
        (false, _) => LevelFilter::TRACE,
    };
    let log = if daemon { Log::start(std::io::stderr()).ok() } else { None };
    let writer = match &log {
        Some(log) => BoxMakeWriter::new(log.clone()),
        None => BoxMakeWriter::new(std::io::stderr),
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(writer)
        // colours are a feature of the subscriber that is not built in: asking for them is an error
        .with_ansi(false)
        .with_target(false)
        .init();
    log
}

fn finish(verdict: &Verdict, as_json: bool, quiet_success: bool) -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    match verdict {
        Ok(report) => {
            let silent = quiet_success && report.exit == 0 && !stdout.is_terminal();
            // a reader that has gone away is no error of ours
            let _ = match (as_json, silent) {
                (true, _) => writeln!(stdout, "{}", report.json),
                (false, true) => Ok(()),
                (false, false) if report.text.is_empty() => Ok(()),
                (false, false) => writeln!(stdout, "{}", report.text),
            };
            ExitCode::from(report.exit)
        }
        Err(failure) => {
            if as_json {
                let _ = writeln!(stdout, "{}", json!({ "error": failure.message, "exit": failure.exit() }));
            }
            eprintln!("{}", failure.message);
            ExitCode::from(failure.exit())
        }
    }
}
