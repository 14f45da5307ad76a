//! What a verb says at its end: to a person, to a program, and as an exit code.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A verb that did what it should.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Report {
    /// For a person; lines without a final newline, may be empty.
    pub text: String,
    /// For a program (`--json`).
    pub json: Value,
    /// 0, or 1 when what was looked at is not well (`doctor`, `budget`, `services status`).
    pub exit: u8,
}

impl Report {
    /// All is well.
    pub fn new(text: impl Into<String>, json: Value) -> Report {
        Report { text: text.into(), json, exit: 0 }
    }

    /// One sentence, which is also `{"done": ...}`.
    pub fn done(text: impl Into<String>) -> Report {
        let text = text.into();
        Report { json: json!({ "done": text }), text, exit: 0 }
    }
}

/// Whose fault it is that a verb did not do what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Blame {
    /// The environment or the peer failed: exit 1.
    Environment,
    /// Usage, settings or input: exit 2. Nothing was changed.
    Usage,
    /// A guard refused: exit 3. Nothing was changed.
    Guard,
}

/// A verb that did not do what it should, and in which state things were left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Whose fault.
    pub blame: Blame,
    /// A sentence.
    pub message: String,
}

impl Failure {
    /// The environment's or the peer's.
    pub fn environment(message: impl fmt::Display) -> Failure {
        Failure { blame: Blame::Environment, message: message.to_string() }
    }
    /// The user's.
    pub fn usage(message: impl fmt::Display) -> Failure {
        Failure { blame: Blame::Usage, message: message.to_string() }
    }
    /// A guard's.
    pub fn guard(message: impl fmt::Display) -> Failure {
        Failure { blame: Blame::Guard, message: message.to_string() }
    }
    /// As a process ends.
    pub fn exit(&self) -> u8 {
        match self.blame {
            Blame::Environment => 1,
            Blame::Usage => 2,
            Blame::Guard => 3,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// What every verb returns.
pub type Verdict = Result<Report, Failure>;
