//! What was measured on what: figures mean little without it.

use std::fs;
use std::process::Command;
use std::thread;

use crate::equal;
use crate::quantity::count;
use crate::scale::Scale;
use crate::stage::Stage;

/// A paragraph of Markdown.
pub(crate) fn describe(stage: &Stage, rounds: u32) -> String {
    let Scale { sounds, sound_size, users, .. } = stage.scale;
    let cores = thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{} on {cores} cores ({}), Linux {}; {}; {}. {} small files, {sounds} sounds of {} MiB, {} users: {} rows that \
         are copied. Median of {rounds} runs, the baseline's twice as many, taking turns. Both hosts' disks are in \
         memory and PostgreSQL runs with fsync = off: that flatters first copies, of either side. *Sent* is what the \
         master's network card sent, SSH's handshake included; a limit on bytes is for the engine's own, without \
         SSH.\n",
        crate::engine::version(stage),
        model(),
        kernel(),
        first_line("psql", "--version"),
        first_line("rsync", "--version"),
        count(stage.scale.files().into()),
        sound_size >> 20,
        count(users.into()),
        count(equal::rows(stage)),
    )
}

/// Its number; what a builder puts behind it says nothing to others.
fn kernel() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    text.trim().split('-').next().unwrap_or_default().to_owned()
}

fn model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("model name"));
    line.map_or("unknown processor", |line| line.trim_start_matches([' ', '\t', ':'])).to_owned()
}

fn first_line(program: &str, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("not there").split_whitespace().collect::<Vec<_>>().join(" ")
}
