//! What was measured beside what it may be, a row each.

use std::fmt;
use std::time::Duration;

/// One machine plays two hosts and all phones: a measurement may be late by this much without being an error.
pub(super) const SCHEDULING: Duration = Duration::from_secs(3);

/// A row of the table.
pub(super) struct Row {
    what: &'static str,
    measured: Duration,
    limit: Limit,
    source: &'static str,
}

/// What a measurement may be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Limit {
    /// As much, and what a busy machine adds.
    AtMost(Duration),
    /// As much.
    AtLeast(Duration),
    /// Nothing at all, on a busy machine neither.
    Never,
}

impl Row {
    /// `source`: what the limit comes from.
    pub(super) fn new(what: &'static str, measured: Duration, limit: Limit, source: &'static str) -> Row {
        Row { what, measured, limit, source }
    }

    fn is_wrong(&self, patience: Duration) -> bool {
        match self.limit {
            Limit::AtMost(most) => self.measured > most + patience,
            // the decision and the first answer are seen from two places, 20 ms apart
            Limit::AtLeast(least) => self.measured + Duration::from_millis(100) < least,
            Limit::Never => !self.measured.is_zero(),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = match self.limit {
            Limit::AtMost(limit) => format!("at most  {:>5.1} s", limit.as_secs_f64()),
            Limit::AtLeast(limit) => format!("at least {:>5.1} s", limit.as_secs_f64()),
            Limit::Never => "never".to_owned(),
        };
        write!(f, "{:<22} {:>6.2} s   {limit:<18} {}", self.what, self.measured.as_secs_f64(), self.source)
    }
}

/// The rows that are not as they should be, in words, when that much may be later than allowed. Empty: all is well.
pub(super) fn complaints(rows: &[Row], patience: Duration) -> Vec<String> {
    rows.iter().filter(|row| row.is_wrong(patience)).map(|row| row.to_string().trim().to_owned()).collect()
}

/// The table.
pub(super) fn text(rows: &[Row]) -> String {
    let mut lines = vec![format!("{:<22} {:>8}   {:<18} {}", "", "measured", "allowed", "by")];
    lines.extend(rows.iter().map(ToString::to_string));
    lines.join("\n")
}

/// For a program: to a millisecond.
pub(super) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}
