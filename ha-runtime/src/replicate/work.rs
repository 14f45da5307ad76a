//! What is done over an open line.

use std::sync::Arc;
use std::time::Instant;

use ha_core::replication::tables::Exclusions;
use ha_core::replication::wire::Outcome;
use serde_json::json;

use super::database::{self, Missing};
use super::files;
use super::job::{Job, Scope};
use super::kept::Kept;
use super::known::Tables;
use super::lookout::Sight;
use super::switch::Switch;
use super::{PartOutcome, Parts};
use crate::context::Context;
use crate::line::{Line, blocking};
use crate::report::{Failure, Report, Verdict};
use crate::sync::Progress;

/// A replication over an open line.
pub(super) struct Work<'a> {
    pub(super) context: &'a Context,
    pub(super) kept: &'a Kept,
    pub(super) job: &'a Job,
    /// `None`: the tables are not asked for.
    pub(super) exclusions: Option<Exclusions>,
    /// This node's side before anything was read.
    pub(super) sight: Sight,
    pub(super) switch: Switch,
}

impl Work<'_> {
    /// Both parts, as far as they are not known to be there, to the slave's switch.
    pub(super) async fn send(
        self,
        line: &mut Line,
        progress: impl FnMut(Progress) + Send + 'static,
    ) -> Parts {
        let has_files = self.kept.known().has_files(self.sight.files, Instant::now());
        let files = self.job.files.is_due(has_files);
        let tables = match &self.exclusions {
            None => None,
            Some(exclusions) => {
                let has_tables = self.has_tables(exclusions, line).await;
                Some(exclusions).filter(|_| self.job.database.is_due(has_tables))
            }
        };
        let mut outcomes: Vec<PartOutcome> = Vec::new();
        let mut number = None;
        let (mut sent, mut written) = (None, None);
        if files || tables.is_some() {
            let due = Due { files, tables };
            let committed;
            (sent, written, committed) = self.switch_to(due, line, progress).await;
            number = committed.ok().map(|outcome| outcome.number);
        }
        if self.job.files != Scope::LeftOut {
            outcomes.push(("files", sent.unwrap_or_else(|| Ok(unchanged("files")))));
        }
        if self.exclusions.is_some() {
            outcomes.push(("database", written.unwrap_or_else(|| Ok(unchanged("database")))));
        }
        Parts { slave: self.switch.generation, number, outcomes }
    }

    /// Has the slave switch to what is due, all of it or nothing, and keeps what is known of it then.
    async fn switch_to(
        &self,
        due: Due<'_>,
        line: &mut Line,
        progress: impl FnMut(Progress) + Send + 'static,
    ) -> (Option<Verdict>, Option<Verdict>, Result<Outcome, Failure>) {
        let staged = {
            let (owned, job, switch) = (self.context.clone(), *self.job, self.switch.clone());
            blocking(move || files::stage(&owned, due.files.then_some(&job), &switch, progress)).await
        };
        let written = match (&staged, due.tables) {
            (Ok(_), Some(exclusions)) => Some(match line.databases() {
                Ok(databases) => {
                    database::replicate(self.job, exclusions.clone(), databases, &self.switch).await
                }
                Err(failure) => Err(Missing::Unchanged(failure)),
            }),
            (Err(failure), Some(_)) => Some(Err(Missing::Unchanged(kept_back("files", failure)))),
            (_, None) => None,
        };
        let committed = match (&staged, &written) {
            (Ok(_), None | Some(Ok(_))) => self.switch.commit().await,
            (Err(failure), _) => Err(failure.clone()),
            (Ok(_), Some(Err(missing))) => {
                self.switch.abandon().await;
                Err(match missing {
                    Missing::Unchanged(failure) => kept_back("database", failure),
                    Missing::InDoubt(failure) => in_doubt(failure),
                })
            }
        };
        let written = written.map(|written| written.map_err(Missing::into_failure));
        let sent = due.files.then(|| match (staged, &committed) {
            (Err(failure), _) => Err(failure),
            (Ok(_), Err(failure)) => Err(failure.clone()),
            (Ok(Some(staged)), Ok(outcome)) => files::report(&staged.report(outcome.clone())),
            (Ok(None), Ok(_)) => Ok(Report::default()),
        });
        let written = written.map(|written| match (written, &committed) {
            (Ok(_), Err(failure)) => Err(failure.clone()),
            (written, _) => written,
        });
        if let Some(sent) = &sent {
            // of what was left as it was, nothing is known
            let whole = matches!(sent, Ok(report) if report.json["skipped"] == json!([]));
            self.kept.known().files_are(self.sight.files.filter(|_| whole), Instant::now());
        }
        if let (Some(written), Some(exclusions)) = (&written, due.tables) {
            self.know_tables(written.is_ok(), exclusions, line).await;
        }
        (sent, written, committed)
    }

    /// Keeps what is known of the slave's tables now that they were written, or not.
    async fn know_tables(&self, written: bool, exclusions: &Exclusions, line: &mut Line) {
        let source = self.sight.tables.as_ref().filter(|source| written && source.is_prompt());
        let replica = match (source, line.databases()) {
            (Some(_), Ok(databases)) => databases.count_replica(exclusions).await,
            _ => None,
        };
        let (mut known, now) = (self.kept.known(), Instant::now());
        match (source, replica) {
            (Some(source), Some(replica)) if replica.is_prompt() => {
                known.tables_are(Some(Tables { source: source.clone(), replica }), now);
            }
            (Some(_), None) => known.tables_are_in_doubt(now),
            _ => known.tables_are(None, now),
        }
    }

    /// Whether the slave is known to have the tables, because neither server has counted a change.
    async fn has_tables(&self, exclusions: &Exclusions, line: &mut Line) -> bool {
        let known = self.kept.known().has_tables(self.sight.tables.as_ref(), Instant::now()).cloned();
        match (known, self.job.database, line.databases()) {
            (Some(then), Scope::IfChanged, Ok(databases)) => {
                databases.count_replica(exclusions).await == Some(then)
            }
            _ => false,
        }
    }

    /// What both parts would do.
    pub(super) async fn plan(self, line: &mut Line) -> Parts {
        let mut outcomes: Vec<PartOutcome> = Vec::new();
        if self.job.files != Scope::LeftOut {
            let (owned, job, agent) = (self.context.clone(), *self.job, Arc::clone(&self.switch.agent));
            outcomes.push(("files", blocking(move || files::plan(&owned, &job, &agent)).await));
        }
        if let Some(exclusions) = &self.exclusions {
            let planned = match line.databases() {
                Ok(databases) => database::replicate(self.job, exclusions.clone(), databases, &self.switch)
                    .await
                    .map_err(Missing::into_failure),
                Err(failure) => Err(failure),
            };
            outcomes.push(("database", planned));
        }
        Parts { slave: self.switch.generation, number: None, outcomes }
    }
}

/// What the slave does not have, as far as that is known.
#[derive(Debug, Clone, Copy)]
struct Due<'a> {
    files: bool,
    tables: Option<&'a Exclusions>,
}

/// Why a part that did not fail is not on the slave either.
fn kept_back(failed: &str, failure: &Failure) -> Failure {
    let message =
        format!("kept back, since the slave takes both parts or none, and the {failed} failed: {failure}");
    Failure { blame: failure.blame, message }
}

/// The same, when nobody knows whether the tables are there.
fn in_doubt(failure: &Failure) -> Failure {
    let state = "the slave has all of this replication or nothing of it, and the next finds out";
    Failure { blame: failure.blame, message: format!("{state}: {failure}") }
}

/// The slave has this part as it is.
fn unchanged(part: &'static str) -> Report {
    let text = format!("{part}: unchanged since it was compared last");
    let json = json!({
        "part": part, "mode": "incremental", "unchanged": true, "verified": false,
        "seconds": 0.0, "bytes_sent": 0, "bytes_received": 0, "changed": 0,
    });
    Report::new(text, json)
}
