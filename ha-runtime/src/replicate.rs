//! One replication from this master to its slave: trees, then tables, each as a whole or not at all.

mod kept;
mod known;
mod lookout;
mod past;

use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::Utc;
use ha_core::Role;
use ha_core::replication::admission::Receiver;
use ha_core::replication::filter::Filter;
use ha_core::replication::guard::DeleteGuard;
use ha_core::replication::tables::Exclusions;
use serde_json::{Value, json};

use crate::context::Context;
use crate::db::{self, CommitGate, Counted, Mode, Purpose};
use crate::driver::AlertLine;
use crate::far_node;
use crate::line::{Agent, Databases, Line, Wanted, blocking};
use crate::lock::Lock;
use crate::node_state;
use crate::report::{Blame, Failure, Report, Verdict};
use crate::sync::{Compare, Progress, PushOptions, Tree};
pub use kept::{Kept, OnChange};
use known::Tables;
pub use lookout::Lookout;
pub(crate) use lookout::Sight;
pub use past::{Part, Past, past};

/// The second of two replications waits for the first this long.
const LOCK_PATIENCE: Duration = Duration::from_secs(1800);

/// What is to be sent, and to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    /// The slave.
    pub peer: IpAddr,
    /// Trees.
    pub files: Scope,
    /// Tables.
    pub database: Scope,
    /// Everything, whatever times and digests say.
    pub full: bool,
    /// Only plan.
    pub dry_run: bool,
}

/// What a job does about one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Nothing, and nothing is said about it.
    LeftOut,
    /// It is compared unless both sides are known not to have changed since that was done last.
    IfChanged,
    /// It is compared with the slave's, and what differs is sent.
    Compared,
}

impl Job {
    /// Both parts, only what differs.
    pub fn all(peer: IpAddr) -> Job {
        Job { peer, files: Scope::Compared, database: Scope::Compared, full: false, dry_run: false }
    }

    /// Both parts, as far as they changed.
    pub fn changes(peer: IpAddr) -> Job {
        Job { files: Scope::IfChanged, database: Scope::IfChanged, ..Job::all(peer) }
    }
}

impl Scope {
    /// For a part that is, or is not, asked for.
    pub fn of(wanted: bool) -> Scope {
        if wanted { Scope::Compared } else { Scope::LeftOut }
    }
}

/// The refusal for a node that has nothing to send.
pub fn not_a_master(role: Role) -> Failure {
    Failure::guard(format!(
        "guard \"role\": this node is {role}, and only a master replicates; `configure master --remote IP` lifts it"
    ))
}

/// One alert when replication fails, one when it works again.
pub fn tell(alerts: &AlertLine, outcome: &Verdict) {
    match outcome {
        Ok(_) => alerts.clear("replication-failed", "replication works again"),
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

/// Does it over the kept line, or over a new one, which is then kept unless something failed. The trees' failure does not
/// keep the tables back, nor the other way round; one failure is enough to fail.
pub async fn run(
    context: &Context,
    kept: &Kept,
    job: &Job,
    progress: impl FnMut(Progress) + Send + 'static,
) -> Verdict {
    let lock = {
        let root = context.root.clone();
        let (owned, peer) = (context.clone(), job.peer);
        blocking(move || {
            let lock = Lock::Replicate.lock_within(&root, LOCK_PATIENCE).map_err(Failure::environment)?;
            // it may have been waited for longer than this node was this slave's master
            still_to_be_sent(&owned, peer)?;
            Ok(lock)
        })
        .await?
    };
    let began = Utc::now();
    let parts = match parts(context, kept, job, progress).await {
        Ok(parts) => parts,
        Err(failure) => {
            // the way was not even open: both parts failed
            let names = [("files", job.files), ("database", job.database)];
            let wanted = names.into_iter().filter(|(_, scope)| *scope != Scope::LeftOut);
            wanted.map(|(name, _)| (name, Err(failure.clone()))).collect()
        }
    };
    if !job.dry_run {
        let mut past = past(context).unwrap_or_default();
        for (name, outcome) in &parts {
            let part = if *name == "files" { &mut past.files } else { &mut past.database };
            part.note(began, outcome);
        }
        past::save(context, &past);
    }
    drop(lock);
    sum_up(parts)
}

type PartOutcome = (&'static str, Verdict);

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
) -> Result<Vec<PartOutcome>, Failure> {
    let tables = context.profile().database.filter(|_| job.database != Scope::LeftOut);
    let wanted = if tables.is_some() { Wanted::Databases } else { Wanted::Agent };
    // before anything is read: what changes from here on is seen by the next
    let (sight, ready) =
        tokio::join!(kept.look(context), Line::ready(context, kept.take_line(), job.peer, wanted));
    let (mut line, state) = ready?;
    let receiver = Receiver { role: state.role, generation: state.generation, active: state.active };
    if let Err(unwilling) = receiver.admits(state.generation) {
        kept.put_line(line);
        return Err(Failure::guard(unwilling));
    }
    kept.known().begin(state.generation, sight.clone());
    let agent = Arc::clone(line.agent());
    let mut outcomes: Vec<PartOutcome> = Vec::new();
    let has_files = kept.known().has_files(sight.files, Instant::now());
    match job.files {
        Scope::LeftOut => {}
        Scope::IfChanged if has_files => outcomes.push(("files", Ok(unchanged("files")))),
        Scope::IfChanged | Scope::Compared => {
            let (owned, job, agent) = (context.clone(), *job, Arc::clone(&agent));
            let sent = blocking(move || files(&owned, &job, &agent, state.generation, progress)).await;
            if !job.dry_run {
                // of what was left as it was, nothing is known
                let whole = matches!(&sent, Ok(report) if report.json["skipped"] == json!([]));
                kept.known().files_are(sight.files.filter(|_| whole), Instant::now());
            }
            outcomes.push(("files", sent));
        }
    }
    if let Some(tables) = tables {
        let gate = AgentGate { agent, generation: state.generation };
        let sent = match line.databases() {
            Ok(databases) => {
                let exclusions = Exclusions::new(tables.exclude);
                tables_if_changed(databases, kept, job, exclusions, sight.tables, &gate).await
            }
            Err(failure) => Err(failure),
        };
        outcomes.push(("database", sent));
    }
    let in_doubt = |(_, outcome): &PartOutcome| match outcome {
        Ok(_) => false,
        Err(failure) => failure.blame == Blame::Environment,
    };
    kept.known().end();
    if !outcomes.iter().any(in_doubt) {
        kept.put_line(line);
    }
    Ok(outcomes)
}

/// Compares the tables, unless that is known to find nothing, and keeps what is known of them then.
async fn tables_if_changed(
    databases: &mut Databases,
    kept: &Kept,
    job: &Job,
    exclusions: Exclusions,
    source: Option<Counted>,
    gate: &dyn CommitGate,
) -> Verdict {
    let known = kept.known().has_tables(source.as_ref(), Instant::now()).cloned();
    if let (Some(then), Scope::IfChanged) = (known, job.database)
        && databases.count_replica(&exclusions).await == Some(then)
    {
        return Ok(unchanged("database"));
    }
    let sent = database(job, exclusions.clone(), databases, gate).await;
    if !job.dry_run {
        let tables = match (&sent, source) {
            (Ok(_), Some(source)) => {
                let replica = databases.count_replica(&exclusions).await;
                replica.map(|replica| Tables { source, replica })
            }
            _ => None,
        };
        kept.known().tables_are(tables, Instant::now());
    }
    sent
}

/// The slave has this part as it is.
fn unchanged(part: &'static str) -> Report {
    let text = format!("{part}: unchanged since it was compared last");
    Report::new(text, json!({ "part": part, "unchanged": true }))
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

fn files(
    context: &Context,
    job: &Job,
    agent: &Agent,
    generation: u64,
    mut progress: impl FnMut(Progress),
) -> Verdict {
    let settings = &context.settings.replication;
    let options = PushOptions {
        compare: if job.full { Compare::Full } else { Compare::Quick },
        guard: DeleteGuard { max_percent: settings.max_delete_percent, max_files: settings.max_delete_files },
        bandwidth: settings.bandwidth.0,
        ..PushOptions::default()
    };
    let trees = trees(context)?;
    let mut client = agent.lock().unwrap_or_else(PoisonError::into_inner);
    if job.dry_run {
        let plans = client.plan_files(&trees, &options).map_err(|error| far_node::failure(&error))?;
        let text: Vec<String> = plans.iter().map(|plan| plan.to_string().trim_end().to_owned()).collect();
        let text = text.join("\n");
        let steps: Vec<&str> = text.lines().collect();
        return Ok(Report::new(text.clone(), json!({ "part": "files", "dry_run": true, "plan": steps })));
    }
    let report = client
        .push_files(generation, &trees, &options, &mut progress)
        .map_err(|error| far_node::failure(&error))?;
    let mut text = format!(
        "files: {} of {} sent, {} patched, {} deleted, in {:.2} s",
        report.sent, report.files, report.patched, report.deleted, report.seconds
    );
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

/// Asks the slave's agent right before COMMIT whether it still is the passive slave of this generation.
struct AgentGate {
    agent: Agent,
    generation: u64,
}

#[async_trait]
impl CommitGate for AgentGate {
    async fn confirm(&self, _transaction: u64) -> Result<(), String> {
        let (agent, generation) = (Arc::clone(&self.agent), self.generation);
        let asked = tokio::task::spawn_blocking(move || {
            agent.lock().unwrap_or_else(PoisonError::into_inner).confirm(generation)
        });
        match asked.await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}

async fn database(
    job: &Job,
    exclusions: Exclusions,
    databases: &mut Databases,
    gate: &dyn CommitGate,
) -> Verdict {
    let Databases { source, replica, .. } = databases;
    let (sent, received) = (replica.traffic.sent(), replica.traffic.received());
    let options = db::Options {
        mode: if job.full { Mode::Full } else { Mode::Incremental },
        purpose: if job.dry_run { Purpose::DryRun } else { Purpose::Apply },
        ..db::Options::new(exclusions)
    };
    let report =
        db::replicate(&mut source.client, &mut replica.client, &options, gate).await.map_err(|error| {
            if error.is_refusal() { Failure::guard(error) } else { Failure::environment(error) }
        })?;
    let mut json = serde_json::to_value(&report).map_err(Failure::environment)?;
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
