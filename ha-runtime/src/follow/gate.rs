//! What stands before the nodes' keys on a machine beside the pair: a script that runs the runbook's commands for that
//! machine, and nothing else.
//!
//! `sshd(8)`, AUTHORIZED_KEYS FILE FORMAT: with `command="..."` that program is started whatever is asked for, and what is
//! asked for is in `SSH_ORIGINAL_COMMAND`. The script compares it with whole lines and runs its own copy of the one that
//! is the same. The lines are made by the code that sends them, so that the two cannot differ.

use std::net::IpAddr;
use std::time::Duration;

use ha_core::Side;
use ha_core::follow::{Place, Step, Task};
use openssl::sha::sha256;

use super::place;
use crate::context::Context;
use crate::far::{Ending, Exit, FarError};
use crate::ssh::{FarCommand, RunError, SshTarget};

/// Where it lies on the machine beside the pair.
pub(crate) const PATH: &str = "/usr/local/sbin/pbx-ha-gate";
/// By which a refusal is known for the gate's.
const NAME: &str = "pbx-ha-gate";
/// As a shell has it: found, and may not be run.
const REFUSED: i32 = 126;
/// What a shell is to say.
const OPEN: &str = "open";
/// Bytes of a SHA256 that tell one gate from another.
const NUMBER: usize = 8;

/// What the nodes' keys may do on a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gate {
    /// Each once, in the runbook's order; never empty lines, nor several.
    lines: Vec<String>,
}

/// What a key opens on a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Door {
    /// This gate.
    Gate,
    /// A gate that lets something else through: of other settings, or of another release.
    OtherGate,
    /// Whatever is asked for.
    Shell,
    /// Something that neither ran the question nor is a gate.
    Unknown(Ending),
}

impl Gate {
    /// For a machine that these addresses lead to, whichever side serves.
    ///
    /// Errors: a word of a command holds a control character.
    pub(crate) fn of(context: &Context, hosts: &[IpAddr]) -> Result<Gate, FarError> {
        let (distribution, followers) = (context.distribution, &context.settings.followers);
        let mut lines = Vec::new();
        for step in Side::ALL.into_iter().flat_map(|side| distribution.runbook(followers, side)) {
            for line in lines_at(&step, hosts)? {
                if !lines.contains(&line) {
                    lines.push(line);
                }
            }
        }
        Ok(Gate { lines })
    }

    /// For the `sh` of that machine. `made_by`: what prints it, for a person.
    pub(crate) fn script(&self, made_by: &str) -> String {
        let lines: String = self.lines.iter().map(|line| format!("{line}\n")).collect();
        let refusal = self.refusal();
        format!(
            "#!/bin/sh\n\
             # {PATH} - what the nodes of a pair may run here, each line as a whole, and nothing else.\n\
             # It stands in authorized_keys before their keys: restrict,command=\"{PATH}\",from=\"...\"\n\
             # Made by `{made_by}`: make it anew when the settings change, or the release.\n\
             while IFS= read -r line <&3; do\n\
             \x20   case ${{SSH_ORIGINAL_COMMAND-}} in \"$line\") exec /bin/sh -c \"$line\" 3<&-;; esac\n\
             done 3<<'END'\n\
             {lines}END\n\
             echo '{refusal}: not one of its lines; `{made_by}` on a node prints the present gate' >&2\n\
             exit {REFUSED}"
        )
    }

    /// What the key opens there: asks for one word back, which does nothing and is in no runbook.
    ///
    /// Errors: as of any command there.
    pub(crate) fn look(&self, target: &SshTarget, timeout: Duration) -> Result<Door, RunError> {
        let argv = ["echo", OPEN].map(str::to_owned);
        let ran = FarCommand { argv: &argv, directory: None, input: b"" }.run(target, timeout)?;
        let said = ran.ending.last_line();
        Ok(match ran.ending.exit {
            // what a shell's own files print comes before
            Exit::Code(0) if ran.output.ends_with(format!("{OPEN}\n").as_bytes()) => Door::Shell,
            Exit::Code(REFUSED) if said.starts_with(&format!("{}:", self.refusal())) => Door::Gate,
            Exit::Code(REFUSED) if said.starts_with(&format!("{NAME} ")) => Door::OtherGate,
            _ => Door::Unknown(ran.ending),
        })
    }

    /// How a refusal begins: tells by the number what is let through.
    fn refusal(&self) -> String {
        // a machine that is two things lets the same through, whatever its gate was made for
        let mut lines = self.lines.clone();
        lines.sort_unstable();
        let digest = sha256(lines.join("\n").as_bytes());
        let number = digest[..NUMBER].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        format!("{NAME} {number}")
    }
}

/// The lines by which a step is carried out on one of these machines.
fn lines_at(step: &Step, hosts: &[IpAddr]) -> Result<Vec<String>, FarError> {
    match step.place {
        Place::There(host) if hosts.contains(&host) => {
            let tasks: [&Option<Task>; 2] = [&step.act, &step.check];
            let lines = tasks.into_iter().flatten().map(place::lines).collect::<Result<Vec<_>, _>>()?;
            Ok(lines.concat())
        }
        Place::Here | Place::There(_) => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests;
