//! All checks together, as a report.

use serde_json::json;

use super::check::{Check, Level};
use crate::report::Report;

/// For a person failures come first; for a program the checks are in the order in which they were made.
pub(super) fn report(checks: &[Check]) -> Report {
    let count = |level| checks.iter().filter(|check| check.level == level).count();
    let (failed, warned) = (count(Level::Fail), count(Level::Warn));
    let json = json!({ "checks": checks, "failed": failed, "warned": warned });
    Report { text: text(checks, failed, warned), json, exit: u8::from(failed > 0) }
}

fn text(checks: &[Check], failed: usize, warned: usize) -> String {
    let width = checks.iter().map(|check| check.id.len()).max().unwrap_or_default();
    let mut sorted: Vec<&Check> = checks.iter().collect();
    sorted.sort_by_key(|check| check.level);
    let mut lines = Vec::new();
    for check in sorted {
        // an error may speak in several lines
        let finding =
            check.finding.trim_end().replace('\n', &format!("\n{:indent$}", "", indent = width + 8));
        lines.push(format!("{:<4}  {:<width$}  {finding}", check.level.word(), check.id));
        lines.extend(check.todo.as_ref().map(|todo| format!("{:indent$}-> {todo}", "", indent = width + 8)));
    }
    lines.push(format!("{} checks, {failed} failed, {warned} with a warning", checks.len()));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_come_first_and_each_says_what_to_do() {
        let checks = [
            Check::ok("role", "slave"),
            Check::warn("references", "none is set", "set one"),
            Check::fail("trust-lines", "line 7\nline 9", "remove them"),
        ];
        let report = report(&checks);
        assert_eq!(
            report.text,
            "fail  trust-lines  line 7\n                   line 9\n                   -> remove them\n\
             warn  references   none is set\n                   -> set one\n\
             ok    role         slave\n\
             3 checks, 1 failed, 1 with a warning"
        );
        assert_eq!(report.exit, 1);
        assert_eq!(report.json["failed"], 1);
        assert_eq!(
            report.json["checks"][1],
            json!({ "id": "references", "level": "warn", "finding": "none is set", "todo": "set one" })
        );
        assert_eq!(report.json["checks"][0]["todo"], serde_json::Value::Null);
    }

    #[test]
    fn warnings_alone_do_not_fail() {
        assert_eq!(report(&[Check::warn("references", "none is set", "set one")]).exit, 0);
    }
}
