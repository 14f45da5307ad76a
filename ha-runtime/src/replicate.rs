//! One replication from this master to its slave: trees and tables, all of it or nothing. Where the slave fetches it is the
//! same with its two ends exchanged (`fetch`).
//!
//! 1. The slave's agent takes its lock and settles what an earlier replication left
//!    ([`Client::stage_files`](crate::agent::Client::stage_files)).
//! 2. Contents and steps go over; they wait on the slave's disk, and nothing has changed yet.
//! 3. The tables are compared and written in one transaction ([`db::replicate`](crate::db::replicate)).
//! 4. Immediately before COMMIT the agent is told which transaction that is. It writes down that the files change if, and
//!    only if, that transaction is committed; COMMIT.
//! 5. The agent carries out the steps, and takes the replication's number.
//!
//! Cut before 4 nothing happens, after 4 all of it: the agent, the next replication, the slave's daemon or its takeover
//! find the written decision and ask the server what became of the transaction.

mod afar;
mod afterwards;
mod between;
mod database;
mod errand;
mod fetch;
mod files;
mod job;
mod kept;
mod known;
mod lookout;
mod past;
mod returning;
mod source;
mod switch;
mod taking;
mod work;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use ha_core::event::Replicated;
use ha_core::replication::admission::Unwilling;
use ha_core::replication::flow::Flow;
use ha_core::replication::tables::Exclusions;
use ha_core::{Role, RoleConfig};
use serde_json::Value;

use crate::context::Context;
use crate::driver::{AlertLine, stale};
use crate::line::{Line, Ready, Wanted, blocking, willing};
use crate::lock::Lock;
use crate::node_state;
use crate::report::{Blame, Failure, Report, Verdict};
use crate::sync::Progress;
pub use afar::Afar;
pub(crate) use afar::tell_of_changes;
pub use files::{copying, trees};
pub use job::{Ended, Job, Scope, SetAside};
pub use kept::{Kept, OnChange};
pub use lookout::Lookout;
pub(crate) use lookout::Sight;
pub use past::{Part, Past, past};
pub(crate) use returning::{end_leftovers, look, owes, ran_past_the_record, set_aside};
pub(crate) use source::source;
use switch::Switch;
use work::Work;

/// The second of two replications waits for the first this long.
const LOCK_PATIENCE: Duration = Duration::from_secs(1800);

/// The other node, if this one begins replications: it sends, or it fetches.
pub fn counterpart(flow: Flow, role: &RoleConfig) -> Result<IpAddr, Failure> {
    match (flow, role.role(), role.peer()) {
        (Flow::Push, Role::Master, Some(peer)) => Ok(peer),
        (Flow::Push, role, _) => Err(not_a_master(role)),
        (Flow::FromMaster | Flow::FromActive, role, Some(peer)) if flow.reaches(role) => Ok(peer),
        (Flow::FromMaster | Flow::FromActive, role, _) => Err(Failure::guard(format!(
            "guard \"role\": this node is {role}, and only a slave fetches; run it there, or `configure slave --remote IP`"
        ))),
    }
}

/// The refusal for a node that has nothing to send.
fn not_a_master(role: Role) -> Failure {
    Failure::guard(format!(
        "guard \"role\": this node is {role}, and only a master replicates; `configure master --remote IP` lifts it"
    ))
}

/// The alert that there are things which are on one node alone.
const SET_ASIDE: &str = "set-aside";

/// One alert when replication fails, one when it works again; none when a change only waits.
pub fn tell(alerts: &AlertLine, job: &Job, ended: &Ended) {
    match &ended.set_aside {
        SetAside::Nothing => alerts.clear(SET_ASIDE, "what was set aside is gone"),
        SetAside::AsBefore => {}
        SetAside::More(text) => {
            alerts.clear(SET_ASIDE, "more was set aside");
            alerts.raise(SET_ASIDE, text);
        }
    }
    match &ended.verdict {
        Ok(report) => {
            alerts.clear("replication-failed", "replication works again");
            fetch::tell_of_what_follows(alerts, report);
            stale::fetched(alerts);
        }
        Err(_) if ended.waits || job.waits(ended.how) => {}
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
    if context.settings.replication.flow.is_pull() {
        return fetch::run(context, kept, job).await;
    }
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
    let mut generation = 0;
    let mut parts = match parts(context, kept, job, progress).await {
        Ok(Parts { slave, number: confirmed, outcomes }) => {
            number = confirmed;
            generation = slave;
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
        for (name, outcome) in &mut parts {
            let part = if *name == "files" { &mut past.files } else { &mut past.database };
            part.note(began, outcome);
            if let Ok(report) = outcome
                && let Some(note) = past.names_without_table(report)
            {
                tracing::info!("replication: {note}");
                report.text.push_str(&format!("\n{note}"));
            }
        }
        past.number = number.unwrap_or(past.number);
        past::save(context, &past);
    }
    drop(lock);
    let verdict = sum_up(parts);
    if verdict.is_ok() {
        how = Replicated::Done { generation };
    }
    Ended { verdict, how, took: clock.elapsed(), set_aside: SetAside::AsBefore, waits: false }
}

type PartOutcome = (&'static str, Verdict);

/// What became of the parts that were asked for.
struct Parts {
    /// The slave's generation.
    slave: u64,
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
