//! The program that is measured.

use std::env;
use std::path::Path;
use std::process::Command;

use ha_tests::Host;
use serde_json::Value;

use crate::measure::{self, Sample};
use crate::stage::Stage;

/// What is replicated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Trees.
    Files,
    /// Tables.
    Database,
}

impl Part {
    /// As the verb spells it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Part::Files => "files",
            Part::Database => "database",
        }
    }
}

/// One replication, and what its report says of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Replication {
    /// As seen from the shell.
    pub(crate) sample: Sample,
    /// What the engine counted itself; not the start of a process, nor an SSH session.
    pub(crate) seconds: Option<f64>,
    /// Bytes of its own that it sent: no SSH, no TCP.
    pub(crate) bytes_sent: Option<u64>,
    /// Bytes of its own that it received.
    pub(crate) bytes_received: Option<u64>,
}

/// Runs `wazo-ha replicate PART` in the master.
pub(crate) fn replicate(stage: &Stage, part: Part) -> Replication {
    run(stage, &format!("/usr/bin/wazo-ha replicate {} --json", part.word()))
}

/// Has the daemon compare a part only if it has seen a change.
pub(crate) fn replicate_if_changed(stage: &Stage, part: Part) -> Replication {
    run(stage, &format!("/usr/bin/wazo-ha replicate {} --if-changed --json", part.word()))
}

fn run(stage: &Stage, verb: &str) -> Replication {
    let (sample, out) = measure::run(stage.lab(), verb);
    let report: Value = serde_json::from_str(&out)
        .unwrap_or_else(|error| panic!("the report of a replication: {error}: {out}"));
    Replication {
        sample,
        seconds: report["seconds"].as_f64(),
        bytes_sent: report["bytes_sent"].as_u64(),
        bytes_received: report["bytes_received"].as_u64(),
    }
}

/// The version of the program.
pub(crate) fn version(stage: &Stage) -> String {
    stage.pair.ha(Host::Master, "--version").ok().trim().to_owned()
}

/// Builds the program as this one was built, in the same place; `cargo run` has built this one only.
pub(crate) fn build() {
    let Some(cargo) = env::var_os("CARGO") else { return };
    let own = env::current_exe().expect("a program knows its own path");
    let target = own.ancestors().nth(2).expect("target/PROFILE/PROGRAM");
    let mut command = Command::new(cargo);
    command.args(["build", "--locked", "--quiet", "--bin", "wazo-ha", "--target-dir"]).arg(target);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let built = command.status().expect("cargo has started this program");
    assert!(built.success(), "wazo-ha was not built: {built}");
}
