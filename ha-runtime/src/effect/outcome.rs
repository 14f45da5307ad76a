//! What became of a list of effects.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::api::PbxError;
use super::files::FileError;
use super::undo::WayBack;
use crate::command::CommandError;

/// A list that was done as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Performed {
    /// One for each effect, in order.
    pub steps: Vec<Step>,
}

impl Performed {
    /// Whether anything was changed or run.
    pub fn changed(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.outcome, Outcome::Changed | Outcome::WentOn { .. }))
    }
}

/// What became of an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The effect, on one line.
    pub effect: String,
    /// What it did.
    pub outcome: Outcome,
}

/// What an effect did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It changed something, or its command ran.
    Changed,
    /// It already was so.
    Unchanged,
    /// Its command failed, and that is no reason to stop ([`ha_core::effect::OnFailure::GoOn`]). Files of the effect are changed.
    WentOn {
        /// What the command did wrong.
        why: String,
    },
    /// There is nothing here to do it with.
    Skipped {
        /// What is missing.
        why: String,
    },
}

/// Why one effect failed.
#[derive(Debug, thiserror::Error)]
pub enum EffectError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A command.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The PBX's API.
    #[error(transparent)]
    Api(#[from] PbxError),
    /// What was there could not be written down, so nothing was changed by this effect.
    #[error("transaction log: {0}")]
    Log(io::Error),
}

/// Why a list was not done.
#[derive(Debug, thiserror::Error)]
pub enum PerformError {
    /// Nothing of this list was done: an earlier one is still to be undone.
    #[error("an earlier change is not undone yet ({title}): {back}; set it right, or remove {} to keep it so", log.display())]
    Unfinished {
        /// The earlier list.
        title: String,
        /// How far its undoing came.
        back: Box<WayBack>,
        /// Its log.
        log: PathBuf,
    },
    /// Nothing of this list was done: the log of an earlier one cannot be used.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// One effect failed; what `back` says is the state now.
    #[error("{effect}: {source}; {back}")]
    Failed {
        /// Which, on one line.
        effect: String,
        /// Why.
        source: EffectError,
        /// What was undone.
        back: Box<WayBack>,
    },
}

/// Why the log of an earlier list cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("transaction log {}: {source}; look at the files that it names, then remove it", path.display())]
pub struct RecoverError {
    /// The log.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// What a recovery found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovered {
    /// The list had been done as a whole; only its log was left.
    Completed {
        /// The list.
        title: String,
    },
    /// The list had not been done to its end, and was undone.
    RolledBack {
        /// The list.
        title: String,
        /// How far.
        back: WayBack,
    },
}

impl fmt::Display for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Recovered::Completed { title } => write!(f, "{title}: was complete when the engine ended"),
            Recovered::RolledBack { title, back } => write!(f, "{title}: was interrupted; {back}"),
        }
    }
}
