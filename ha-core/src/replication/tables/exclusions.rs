//! Which tables stay where they are.

use std::fmt;

use super::catalog::Catalog;
use crate::profile::{Exclusion, Why};

/// Names and families of names that are not copied: a distribution's own, and what the settings add.
///
/// Settings can only add: identity and running state are never copied, whatever they say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exclusions(Vec<(String, LeftBecause)>);

/// Why a table stays where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftBecause {
    /// The distribution excludes it.
    Excluded(Why),
    /// The settings exclude it.
    Settings,
    /// It records the schema's revision: it is compared, and copying it would corrupt the next upgrade.
    Revision,
    /// Only the replica has it: a plugin's table, for example.
    OnlyOnReplica,
}

impl Exclusions {
    /// A distribution's list.
    pub fn new(list: &[Exclusion]) -> Exclusions {
        let each = list.iter().map(|entry| (entry.table.to_owned(), LeftBecause::Excluded(entry.why)));
        Exclusions(each.collect())
    }

    /// The same and what the settings add; a trailing `*` matches any ending here too.
    pub fn with_settings<S: AsRef<str>>(mut self, names: &[S]) -> Exclusions {
        self.0.extend(names.iter().map(|name| (name.as_ref().to_owned(), LeftBecause::Settings)));
        self
    }

    /// Why a table (or a sequence without a table) of that name stays; `None`: it is copied.
    pub fn reason(&self, name: &str) -> Option<LeftBecause> {
        if Catalog::is_revision_table(name) {
            return Some(LeftBecause::Revision);
        }
        self.0.iter().find(|(pattern, _)| matches(pattern, name)).map(|(_, reason)| *reason)
    }

    /// The entries that match none of `names`: renamed tables, misspelt settings.
    pub(super) fn without_match<'a>(&self, names: impl Iterator<Item = &'a String> + Clone) -> Vec<String> {
        let unmatched =
            |pattern: &&(String, LeftBecause)| !names.clone().any(|name| matches(&pattern.0, name));
        self.0.iter().filter(unmatched).map(|(pattern, _)| pattern.clone()).collect()
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    }
}

impl fmt::Display for LeftBecause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LeftBecause::Excluded(Why::Seed) => "the documents exclude it",
            LeftBecause::Excluded(Why::SeedToday) => "the documents' words mean it in today's schema",
            LeftBecause::Excluded(Why::Identity) => "it says which installation this is",
            LeftBecause::Excluded(Why::Runtime) => "it is state of running services",
            LeftBecause::Settings => "the settings exclude it",
            LeftBecause::Revision => "it records the schema's revision",
            LeftBecause::OnlyOnReplica => "only the slave has it",
        })
    }
}
