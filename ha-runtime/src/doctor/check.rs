//! One thing that was looked at.

use serde::Serialize;

/// How bad it is.
///
/// In the order in which a person reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The pair does not do what it should, or lets in who should not be let in.
    Fail,
    /// Something should be done, and the pair works meanwhile.
    Warn,
    /// As it should be, or not checked, and why.
    Ok,
}

impl Level {
    /// As it is printed.
    pub fn word(self) -> &'static str {
        match self {
            Level::Fail => "fail",
            Level::Warn => "warn",
            Level::Ok => "ok",
        }
    }
}

/// What was found of one prerequisite or trap, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// From the table in the [module's documentation](super); stable, for monitoring.
    pub id: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found, as a fragment of a sentence.
    pub finding: String,
    /// What to do. Always there unless `level` is [`Level::Ok`].
    pub todo: Option<String>,
}

impl Check {
    /// As it should be.
    pub(super) fn ok(id: &'static str, finding: impl Into<String>) -> Check {
        Check { id, level: Level::Ok, finding: finding.into(), todo: None }
    }

    /// Nobody could look, and that alone is no reason to act: what keeps it from being known has a check of its own.
    pub(super) fn not_checked(id: &'static str, why: &str) -> Check {
        Check::ok(id, format!("not checked: {why}"))
    }

    /// Something should be done.
    pub(super) fn warn(id: &'static str, finding: impl Into<String>, todo: impl Into<String>) -> Check {
        Check { id, level: Level::Warn, finding: finding.into(), todo: Some(todo.into()) }
    }

    /// Something must be done.
    pub(super) fn fail(id: &'static str, finding: impl Into<String>, todo: impl Into<String>) -> Check {
        Check { id, level: Level::Fail, finding: finding.into(), todo: Some(todo.into()) }
    }
}
