//! What a list of effects would do, without doing it.

use ha_core::effect::Effect;

use super::files;
use crate::root::Root;

/// One effect of a dry run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The effect in full, its content included.
    pub effect: String,
    /// What it would do.
    pub would: Would,
}

/// What an effect would do, compared with what is there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Would {
    /// Change a file.
    Change,
    /// Nothing: it already is so.
    Nothing,
    /// Run a command.
    Run,
    /// Call the PBX's API.
    Call,
    /// Be skipped, or fail: why.
    Not(String),
}

/// Why an effect on the API is skipped.
pub(super) const NO_API: &str = "no access to the PBX's API is set up";

pub(super) fn lines(root: &Root, program: &str, api: bool, effects: &[Effect]) -> Vec<Line> {
    let line =
        |effect: &Effect| Line { effect: effect.to_string(), would: would(root, program, api, effect) };
    effects.iter().map(line).collect()
}

fn would(root: &Root, program: &str, api: bool, effect: &Effect) -> Would {
    let compared = match effect {
        Effect::Run(command) => {
            let name = command.argv.first().map_or("", String::as_str);
            return match root.program(name) {
                Some(_) => Would::Run,
                None => Would::Not(format!("{name}: not installed below {}", root.directory().display())),
            };
        }
        // what its check will say then is not known now
        Effect::RunUnless { .. } => return Would::Run,
        Effect::SipExpiry(_) | Effect::BackupRegistrars(_) | Effect::SynchronizeDevices => {
            return if api { Would::Call } else { Would::Not(NO_API.to_owned()) };
        }
        Effect::WriteFile { path, content, mode } => {
            files::write(root, path, content, *mode).map(|change| change.is_some())
        }
        Effect::RemoveFile { path } => files::remove(root, path).map(|change| change.is_some()),
        Effect::SetVariables { path, variables } => {
            files::variables(root, path, variables).map(|change| change.is_some())
        }
        Effect::SetBlocks { blocks, .. } => {
            files::blocks(root, program, blocks).map(|changes| !changes.is_empty())
        }
    };
    match compared {
        Ok(true) => Would::Change,
        Ok(false) => Would::Nothing,
        Err(error) => Would::Not(error.to_string()),
    }
}
