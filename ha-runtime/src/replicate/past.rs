//! What became of past replications: written down on the master, for `status` and `doctor`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::report::{Failure, Report, Verdict};
use crate::state::{Loaded, Store};

/// The document in the state directory.
const PAST: &str = "replication";

/// Under this key a report of the tables lists the excluded names that no table has.
pub(super) const WITHOUT_TABLE: &str = "exclusions_without_table";

/// What became of a part the last times.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// When it last succeeded: what the slave has is the master's state of then.
    pub last_success: Option<DateTime<Utc>>,
    /// Why it failed since; `None`: it did not.
    pub last_error: Option<String>,
}

/// What became of both parts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// The last replication that the slave has confirmed; 0: none yet.
    #[serde(default)]
    pub number: u64,
    /// Trees.
    pub files: Part,
    /// Tables.
    pub database: Part,
    /// Excluded names that no table of this release has, as they were told last.
    #[serde(default)]
    pub without_table: Vec<String>,
}

impl Part {
    /// An attempt that began then has ended.
    pub(super) fn note(&mut self, began: DateTime<Utc>, outcome: &Verdict) {
        match outcome {
            Ok(_) => *self = Part { last_success: Some(began), last_error: None },
            Err(failure) => self.last_error = Some(failure.message.clone()),
        }
    }
}

impl Past {
    /// A replication of the tables has ended: what a person should be told once, when the names that exclude nothing are
    /// others than last time. They are usual, because a list serves several releases, and may be a renamed table.
    pub(super) fn names_without_table(&mut self, report: &Report) -> Option<String> {
        let names = report.json.get(WITHOUT_TABLE)?.as_array()?;
        let names: Vec<String> = names.iter().filter_map(|name| Some(name.as_str()?.to_owned())).collect();
        let before = std::mem::replace(&mut self.without_table, names);
        let new: Vec<&str> =
            self.without_table.iter().filter(|name| !before.contains(name)).map(String::as_str).collect();
        (!new.is_empty()).then(|| {
            let names = new.join(", ");
            format!(
                "excluded by name, and in no table of this release: {names} (told once; `doctor` lists them)"
            )
        })
    }
}

/// Reads what became of past replications.
pub fn past(context: &Context) -> Result<Past, Failure> {
    Ok(open(context)?.load().map_err(Failure::environment)?.map(Loaded::into_value).unwrap_or_default())
}

/// Writes it down. A disk that does not take it is no reason to call a replication failed.
pub(super) fn save(context: &Context, past: &Past) {
    if let Ok(store) = open(context) {
        let _ = store.save(past);
    }
}

fn open(context: &Context) -> Result<Store<Past>, Failure> {
    Store::open(&context.root, PAST).map_err(Failure::environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excluded_names_without_a_table_are_told_once_and_again_when_they_change() {
        let report = |names: &[&str]| Report::new("", serde_json::json!({ WITHOUT_TABLE: names }));
        let mut past = Past::default();
        assert_eq!(past.names_without_table(&report(&[])), None);
        let told = past.names_without_table(&report(&["call_log", "monitoring"])).unwrap();
        assert!(told.contains("of this release: call_log, monitoring ("), "{told}");
        assert_eq!(past.names_without_table(&report(&["call_log", "monitoring"])), None);
        assert_eq!(
            past.names_without_table(&Report::new("", serde_json::json!({ "unchanged": true }))),
            None
        );
        let told = past.names_without_table(&report(&["call_log", "mail", "monitoring"])).unwrap();
        assert!(told.contains("release: mail ("), "{told}");
        assert_eq!(
            past.names_without_table(&report(&["call_log"])),
            None,
            "a table that has come is no trouble"
        );
    }

    #[test]
    fn what_an_older_engine_wrote_down_is_read() {
        let text = r#"{"number": 3, "files": {"last_success": null, "last_error": null},
                       "database": {"last_success": null, "last_error": null}}"#;
        assert_eq!(serde_json::from_str::<Past>(text).unwrap(), Past { number: 3, ..Past::default() });
    }
}
