//! One replication from this master to its slave: trees and tables, all of it or nothing.
//!
//! 1. The slave's agent takes its lock and settles what an earlier replication left
//!    ([`Client::stage_files`](crate::agent::Client::stage_files)).
//! 2. Contents and steps go over; they wait on the slave's disk, and nothing has changed yet.
//! 3. The tables are compared and written in one transaction ([`db::replicate`]).
//! 4. Immediately before COMMIT the agent is told which transaction that is. It writes down that the files change if, and
//!    only if, that transaction is committed; COMMIT.
//! 5. The agent carries out the steps, and takes the replication's number.
//!
//! Cut before 4 nothing happens, after 4 all of it: the agent, the next replication, the slave's daemon or its takeover
//! find the written decision and ask the server what became of the transaction.

mod job;
mod kept;
mod known;
mod lookout;
mod past;
mod switch;

use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;
use ha_core::Role;
use ha_core::event::Replicated;
use ha_core::replication::admission::Unwilling;
use ha_core::replication::filter::Filter;
use ha_core::replication::guard::DeleteGuard;
use ha_core::replication::tables::Exclusions;
use ha_core::replication::wire::Outcome;
use serde_json::{Value, json};

use crate::context::Context;
use crate::db::{self, CommitGate, DbError, Mode, Purpose};
use crate::driver::AlertLine;
use crate::far_node;
use crate::line::{Agent, Databases, Line, Ready, Wanted, blocking, willing};
use crate::lock::Lock;
use crate::node_state;
use crate::report::{Blame, Failure, Report, Verdict};
use crate::sync::{Compare, FilesReport, Progress, PushOptions, StagedFiles, Tree};
pub use job::{Ended, Job, Scope};
pub use kept::{Kept, OnChange};
use known::Tables;
pub use lookout::Lookout;
pub(crate) use lookout::Sight;
pub use past::{Part, Past, past};
use switch::Switch;

/// The second of two replications waits for the first this long.
const LOCK_PATIENCE: Duration = Duration::from_secs(1800);

/// The refusal for a node that has nothing to send.
pub fn not_a_master(role: Role) -> Failure {
    Failure::guard(format!(
        "guard \"role\": this node is {role}, and only a master replicates; `configure master --remote IP` lifts it"
    ))
}

/// One alert when replication fails, one when it works again; none when a change only waits.
pub fn tell(alerts: &AlertLine, job: &Job, ended: &Ended) {
    match &ended.verdict {
        Ok(_) => alerts.clear("replication-failed", "replication works again"),
        Err(_) if job.waits(ended.how) => {}
        Err(failure) => alerts.raise("replication-failed", &format!("Slave replication failed: {failure}")),
    }
}

/// Whether this node is, now, the active master of this slave.
fn still_to_be_sent(context: &Context, peer: IpAddr) -> Result<(), Failure> {
    let role = context.role()?;
    if role.role() != Role::Master || role.peer() != Some(peer) {
        return Err(not_a_master(role.role()));
    }
    let record = node_state::load(&node_state::store(context)?)?;
    match record.filter(|record| node_state::belongs(record, &role)) {
        Some(record) if !record.active => Err(Failure::guard(ha_core::event::Refusal::Yielded)),
        _ => Ok(()),
    }
}

/// Does it over the kept line, or over a new one, which is then kept unless something failed. The slave has
/// both parts afterwards, or neither: one failure keeps the other part back.
pub async fn run(
    context: &Context,
    kept: &Kept,
    job: &Job,
    progress: impl FnMut(Progress) + Send + 'static,
) -> Ended {
    let lock = {
        let root = context.root.clone();
        let (owned, peer) = (context.clone(), job.peer);
        blocking(move || {
            let lock = Lock::Replicate.lock_within(&root, LOCK_PATIENCE).map_err(Failure::environment)?;
            // it may have been waited for longer than this node was this slave's master
            still_to_be_sent(&owned, peer)?;
            Ok(lock)
        })
        .await
    };
    let lock = match lock {
        Ok(lock) => lock,
        Err(failure) => return Ended::not_begun(failure),
    };
    let (began, clock) = (Utc::now(), Instant::now());
    let mut number = None;
    let mut how = Replicated::Failed;
    let parts = match parts(context, kept, job, progress).await {
        Ok(Parts { number: confirmed, outcomes }) => {
            number = confirmed;
            outcomes
        }
        Err(NotBegun { failure, slave_serves }) => {
            if slave_serves {
                how = Replicated::SlaveServes;
            }
            // the way was not even open: both parts failed
            let names = [("files", job.files), ("database", job.database)];
            let wanted = names.into_iter().filter(|(_, scope)| *scope != Scope::LeftOut);
            wanted.map(|(name, _)| (name, Err(failure.clone()))).collect()
        }
    };
    if !job.dry_run && !job.waits(how) {
        let mut past = past(context).unwrap_or_default();
        for (name, outcome) in &parts {
            let part = if *name == "files" { &mut past.files } else { &mut past.database };
            part.note(began, outcome);
        }
        past.number = number.unwrap_or(past.number);
        past::save(context, &past);
    }
    drop(lock);
    let verdict = sum_up(parts);
    if verdict.is_ok() {
        how = Replicated::Done;
    }
    Ended { verdict, how, took: clock.elapsed() }
}

type PartOutcome = (&'static str, Verdict);

/// What became of the parts that were asked for.
struct Parts {
    /// Of the replication that the slave has now, if it has confirmed one.
    number: Option<u64>,
    outcomes: Vec<PartOutcome>,
}

/// Why nothing was attempted.
struct NotBegun {
    failure: Failure,
    slave_serves: bool,
}

fn sum_up(parts: Vec<PartOutcome>) -> Verdict {
    let mut texts = Vec::new();
    let mut jsons = Vec::new();
    let mut worst: Option<Failure> = None;
    for (name, outcome) in parts {
        match outcome {
            Ok(report) => {
                texts.push(report.text);
                jsons.push(report.json);
            }
            Err(failure) => {
                let message = match &worst {
                    // one cause, said once
                    Some(earlier) if earlier.message.ends_with(&failure.message) => earlier.message.clone(),
                    Some(earlier) => format!("{}\n{name}: {failure}", earlier.message),
                    None => format!("{name}: {failure}"),
                };
                let blame = match (worst.map(|earlier| earlier.blame), failure.blame) {
                    // what failed weighs more than what was refused
                    (Some(Blame::Environment), _) | (_, Blame::Environment) => Blame::Environment,
                    (_, blame) => blame,
                };
                worst = Some(Failure { blame, message });
            }
        }
    }
    if let Some(failure) = worst {
        return Err(failure);
    }
    let json = if jsons.len() == 1 { jsons.remove(0) } else { Value::Array(jsons) };
    Ok(Report::new(texts.join("\n"), json))
}

async fn parts(
    context: &Context,
    kept: &Kept,
    job: &Job,
    progress: impl FnMut(Progress) + Send + 'static,
) -> Result<Parts, NotBegun> {
    let tables = context.profile().database.filter(|_| job.database != Scope::LeftOut);
    let wanted = if tables.is_some() { Wanted::Databases } else { Wanted::Agent };
    // before anything is read: what changes from here on is seen by the next
    let (sight, ready) =
        tokio::join!(kept.look(context), Line::ready(context, kept.take_line(), job.peer, wanted));
    let forget = || kept.known().forget(job.files != Scope::LeftOut, job.database != Scope::LeftOut);
    let Ready { mut line, state, is_kept } = match ready {
        Ok(ready) => ready,
        Err(failure) => {
            forget();
            return Err(NotBegun { failure, slave_serves: false });
        }
    };
    if let Err(unwilling) = willing(&state) {
        forget();
        // whoever may not write there needs no login there
        line.let_databases_go();
        kept.put_line(line);
        let slave_serves = unwilling == Unwilling::Active;
        let failure = Failure::guard(format!("{unwilling}; nothing was changed"));
        return Err(NotBegun { failure, slave_serves });
    }
    kept.known().begin(state.generation, is_kept, sight.clone());
    let switch = Switch { agent: Arc::clone(line.agent()), generation: state.generation };
    let exclusions = tables.map(|tables| Exclusions::new(tables.exclude));
    let work = Work { context, kept, job, exclusions, sight, switch };
    let parts = if job.dry_run { work.plan(&mut line).await } else { work.send(&mut line, progress).await };
    let in_doubt = |(_, outcome): &PartOutcome| match outcome {
        Ok(_) => false,
        Err(failure) => failure.blame == Blame::Environment,
    };
    kept.known().end();
    if !parts.outcomes.iter().any(in_doubt) {
        kept.put_line(line);
    }
    Ok(parts)
}

/// A replication over an open line.
struct Work<'a> {
    context: &'a Context,
    kept: &'a Kept,
    job: &'a Job,
    /// `None`: the tables are not asked for.
    exclusions: Option<Exclusions>,
    /// This node's side before anything was read.
    sight: Sight,
    switch: Switch,
}

impl Work<'_> {
    /// Both parts, as far as they are not known to be there, to the slave's switch.
    async fn send(self, line: &mut Line, progress: impl FnMut(Progress) + Send + 'static) -> Parts {
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
        Parts { number, outcomes }
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
            blocking(move || stage(&owned, due.files.then_some(&job), &switch, progress)).await
        };
        let written = match (&staged, due.tables) {
            (Ok(_), Some(exclusions)) => Some(match line.databases() {
                Ok(databases) => database(self.job, exclusions.clone(), databases, &self.switch).await,
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
            (Ok(Some(staged)), Ok(outcome)) => files_report(staged.report(outcome.clone())),
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
            let arrived = match (written, &self.sight.tables, line.databases()) {
                (Ok(_), Some(source), Ok(databases)) if source.is_prompt() => {
                    Some((source, databases.count_replica(exclusions).await))
                }
                _ => None,
            };
            let (mut known, now) = (self.kept.known(), Instant::now());
            match arrived {
                Some((_, None)) => known.tables_are_in_doubt(now),
                Some((source, Some(replica))) if replica.is_prompt() => {
                    known.tables_are(Some(Tables { source: source.clone(), replica }), now);
                }
                _ => known.tables_are(None, now),
            }
        }
        (sent, written, committed)
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
    async fn plan(self, line: &mut Line) -> Parts {
        let mut outcomes: Vec<PartOutcome> = Vec::new();
        if self.job.files != Scope::LeftOut {
            let (owned, job, agent) = (self.context.clone(), *self.job, Arc::clone(&self.switch.agent));
            outcomes.push(("files", blocking(move || plan_files(&owned, &job, &agent)).await));
        }
        if let Some(exclusions) = &self.exclusions {
            let planned = match line.databases() {
                Ok(databases) => database(self.job, exclusions.clone(), databases, &self.switch)
                    .await
                    .map_err(Missing::into_failure),
                Err(failure) => Err(failure),
            };
            outcomes.push(("database", planned));
        }
        Parts { number: None, outcomes }
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

/// Why the slave is not known to have the tables.
enum Missing {
    /// It has them as they were.
    Unchanged(Failure),
    /// It has all of what was written, or nothing.
    InDoubt(Failure),
}

impl Missing {
    fn into_failure(self) -> Failure {
        match self {
            Missing::Unchanged(failure) | Missing::InDoubt(failure) => failure,
        }
    }
}

impl From<DbError> for Missing {
    fn from(error: DbError) -> Missing {
        match error {
            DbError::CommitUnknown(_) => Missing::InDoubt(Failure::environment(error)),
            error if error.is_refusal() => Missing::Unchanged(Failure::guard(error)),
            error => Missing::Unchanged(Failure::environment(error)),
        }
    }
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

/// The trees that are copied: the profile's, and the operator's own; the operator's exclusions apply to all.
pub fn trees(context: &Context) -> Result<Vec<Tree>, Failure> {
    let settings = &context.settings.replication;
    let bad = |error: &dyn std::fmt::Display| Failure::usage(format!("replication: {error}"));
    let mut trees = Vec::new();
    for dataset in context.profile().datasets {
        let filter = Filter::of(dataset).map_err(|error| bad(&error))?;
        trees.push((dataset.root.to_owned(), filter));
    }
    for path in &settings.extra_files {
        let filter = Filter::new::<&str>(&[], &[]).map_err(|error| bad(&error))?;
        trees.push((path.clone(), filter));
    }
    let below = |root: &str| -> Vec<String> {
        let prefix = format!("{}/", root.trim_end_matches('/'));
        settings.exclude.iter().filter_map(|path| path.strip_prefix(&prefix)).map(str::to_owned).collect()
    };
    trees
        .into_iter()
        .map(|(root, filter)| {
            let filter = filter.excluding(&below(&root)).map_err(|error| bad(&error))?;
            Tree::new(&context.root, &root, filter).map_err(|error| bad(&error))
        })
        .collect()
}

fn push_options(context: &Context, job: &Job) -> PushOptions {
    let settings = &context.settings.replication;
    PushOptions {
        compare: if job.full { Compare::Full } else { Compare::Quick },
        guard: DeleteGuard { max_percent: settings.max_delete_percent, max_files: settings.max_delete_files },
        bandwidth: settings.bandwidth.0,
        ..PushOptions::default()
    }
}

fn plan_files(context: &Context, job: &Job, agent: &Agent) -> Verdict {
    let (trees, options) = (trees(context)?, push_options(context, job));
    let mut agent = agent.lock().unwrap_or_else(PoisonError::into_inner);
    let plans = agent.plan_files(&trees, &options).map_err(|error| far_node::failure(&error))?;
    let text: Vec<String> = plans.iter().map(|plan| plan.to_string().trim_end().to_owned()).collect();
    let text = text.join("\n");
    let steps: Vec<&str> = text.lines().collect();
    Ok(Report::new(text.clone(), json!({ "part": "files", "dry_run": true, "plan": steps })))
}

/// Opens the replication on the slave, and brings it what its files need; `None`: files are not asked for.
fn stage(
    context: &Context,
    job: Option<&Job>,
    switch: &Switch,
    mut progress: impl FnMut(Progress),
) -> Result<Option<StagedFiles>, Failure> {
    let mut agent = switch.agent.lock().unwrap_or_else(PoisonError::into_inner);
    let staged = match job {
        None => agent.stage_nothing(switch.generation).map(|()| None),
        Some(job) => {
            let (trees, options) = (trees(context)?, push_options(context, job));
            agent.stage_files(switch.generation, &trees, &options, &mut progress).map(Some)
        }
    };
    staged.map_err(|error| far_node::failure(&error))
}

fn files_report(report: FilesReport) -> Verdict {
    let mut text = format!(
        "files: {} of {} sent, {} patched, {} deleted, in {:.2} s",
        report.sent, report.files, report.patched, report.deleted, report.seconds
    );
    if report.resumed > 0 {
        text.push_str(&format!("\n  {} waited there since a replication that was cut", report.resumed));
    }
    for line in report.skipped.iter().map(|path| format!("\n  left as it was, it changed meanwhile: {path}"))
    {
        text.push_str(&line);
    }
    for warning in &report.warnings {
        text.push_str(&format!("\n  warning: {warning}"));
    }
    let json = serde_json::to_value(&report).map_err(Failure::environment)?;
    Ok(Report::new(text, json))
}

async fn database(
    job: &Job,
    exclusions: Exclusions,
    databases: &mut Databases,
    gate: &dyn CommitGate,
) -> Result<Report, Missing> {
    let Databases { source, replica, .. } = databases;
    let (sent, received) = (replica.traffic.sent(), replica.traffic.received());
    let options = db::Options {
        mode: if job.full { Mode::Full } else { Mode::Incremental },
        purpose: if job.dry_run { Purpose::DryRun } else { Purpose::Apply },
        ..db::Options::new(exclusions)
    };
    let report = db::replicate(&mut source.client, &mut replica.client, &options, gate).await?;
    let mut json =
        serde_json::to_value(&report).map_err(|error| Missing::InDoubt(Failure::environment(error)))?;
    json["part"] = json!("database");
    json["bytes_sent"] = json!(replica.traffic.sent() - sent);
    json["bytes_received"] = json!(replica.traffic.received() - received);
    if job.dry_run {
        json["dry_run"] = json!(true);
        return Ok(Report::new(report.to_string().trim_end(), json));
    }
    let text = format!(
        "database: {} of {} tables changed, rows inserted {}, updated {}, deleted {}, in {:.2} s",
        report.tables_changed,
        report.tables,
        report.rows_inserted,
        report.rows_updated,
        report.rows_deleted,
        report.took.as_secs_f64()
    );
    Ok(Report::new(text, json))
}
