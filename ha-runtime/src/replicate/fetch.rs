//! A replication that the receiving node asks for.
//!
//! The same engine and the same protocol as when a master sends, with the ends exchanged: a source at the other node leads
//! the conversation, an agent of this node answers it, and this process brings them together. So nothing is changed here
//! that an agent would not let anybody change: intent, rehearsal, admission, trash, and a last look at the generation.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use chrono::Utc;
use ha_core::event::Replicated;
use ha_core::replication::admission::Receiver;
use ha_core::replication::copying::Copied;
use ha_core::replication::wire::ErrorKind;
use serde_json::json;

use super::afterwards::{self, Done};
use super::between::{Between, Source};
use super::errand::{Errand, Told};
use super::returning::{self, StandingBy};
use super::{Ended, Job, Kept, LOCK_PATIENCE, SetAside, copying, counterpart, past};
use crate::carry::{CarryError, Given};
use crate::context::Context;
use crate::driver::{AlertLine, Notes};
use crate::line::blocking;
use crate::lock::Lock;
use crate::node_state;
use crate::report::{Blame, Failure, Report, Verdict};
use crate::sync::SyncError;

/// The alert, and the key in a report, of a command that failed.
const AFTERWARDS_FAILED: &str = "after-replication-failed";

/// Fetches once.
pub(super) async fn run(context: &Context, kept: &Kept, job: &Job) -> Ended {
    let (context, kept, job) = (context.clone(), kept.clone(), *job);
    let work = blocking(move || {
        // one at a time: the agent of a second one would end that of the first
        let _lock = Lock::Fetch.lock_within(&context.root, LOCK_PATIENCE).map_err(Failure::environment)?;
        let (began, clock) = (Utc::now(), Instant::now());
        // what is told from here on may come too late for this one
        let told = kept.told_of_changes();
        let copying = copying(&context)?;
        if let Some(why) = copying.by_hand_only.filter(|_| !job.by_hand) {
            let report = Report::done(format!("nothing is fetched but by hand: {why}"));
            return Ok(Ended {
                verdict: Ok(report),
                how: Replicated::Done { generation: 0 },
                took: clock.elapsed(),
                set_aside: SetAside::AsBefore,
                waits: false,
            });
        }
        let aside = returning::set_aside(&context).unwrap_or_default();
        let (waits, fetched) = match fetch(&context, &kept, &job) {
            Ok(fetched) => (false, Ok(fetched)),
            // nothing has failed
            Err(Missed::NotNow(failure)) => return Err(failure),
            Err(Missed::Waits(failure)) => (true, Err(failure)),
            Err(Missed::Failed(failure)) => (false, Err(failure)),
        };
        let (how, number, sources, verdict): (_, _, _, Verdict) = match fetched {
            Ok(Fetched { generation, brought, told: Told { outcome, number, sources } }) => {
                let verdict = Verdict::from(outcome).map(|report| with_what_was_carried(report, brought));
                let done = verdict.is_ok();
                (
                    if done { Replicated::Done { generation } } else { Replicated::Failed },
                    number,
                    sources,
                    verdict,
                )
            }
            Err(failure) => (Replicated::Failed, None, BTreeMap::new(), Err(failure)),
        };
        let verdict = if job.dry_run { verdict } else { follow(&context, &sources, verdict) };
        if !job.dry_run && !waits {
            let mut past = past(&context).unwrap_or_default();
            past.files.note(began, &verdict);
            // it is one of the files, and comes with all of them or not at all
            if copying.datasets.iter().any(|dataset| matches!(dataset, Copied::Sqlite { .. })) {
                past.database.note(began, &verdict);
            }
            past.number = number.unwrap_or(past.number);
            past::save(&context, &past);
            if verdict.is_ok() {
                kept.brought(told);
            }
        }
        let set_aside = returning::more_aside(&context, &aside);
        Ok(Ended { verdict, how, took: clock.elapsed(), set_aside, waits })
    });
    work.await.unwrap_or_else(Ended::not_begun)
}

/// What was fetched, and what was carried before.
struct Fetched {
    generation: u64,
    brought: Option<Given>,
    told: Told,
}

/// Why nothing was fetched.
enum Missed {
    /// It was asked of a node that is not to be changed.
    NotNow(Failure),
    /// See [`Ended::waits`].
    Waits(Failure),
    /// Anything else.
    Failed(Failure),
}

impl From<Failure> for Missed {
    fn from(failure: Failure) -> Missed {
        Missed::Failed(failure)
    }
}

/// Carries what this node holds newer, if it may; then fetches, and remembers what both nodes have then.
fn fetch(context: &Context, kept: &Kept, job: &Job) -> Result<Fetched, Missed> {
    // before anything is looked at: what becomes of this node from here on is another time
    let time = StandingBy::now(context)?;
    let now = may_fetch(context, job.peer).map_err(|failure| match failure.blame {
        Blame::Guard => Missed::NotNow(failure),
        Blame::Environment | Blame::Usage => Missed::Failed(failure),
    })?;
    if let Err(failure) = returning::end_leftovers(context) {
        tracing::warn!("what an earlier carrying left is not ended: {failure}");
    }
    let source = Source::open(context, job.peer)?;
    let mut brought = None;
    if !job.dry_run {
        if now.owes {
            brought = Some(carry(context, kept, &source, &time)?);
            // who serves by now has more to carry
            admitted(Receiver { owes: false, ..node_state::now(context)? })?;
        }
        time.clear(context)?;
    }
    let known = Done::load(context)?.known().to_vec();
    let errand = Errand { full: job.full, dry_run: job.dry_run, known };
    let told = Between::open(context, source)?.fetch(&errand)?;
    if !job.dry_run && !told.sources.is_empty() {
        let remembered = returning::remember(context, &time, &errand.known, &told.sources, &mut kept.seen());
        if let Err(failure) = remembered {
            // what was known before holds as well, it makes less of what is newer alone
            tracing::warn!("what both nodes have now is not written down: {failure}");
        }
    }
    Ok(Fetched { generation: now.generation, brought, told })
}

fn carry(context: &Context, kept: &Kept, source: &Source, time: &StandingBy) -> Result<Given, Missed> {
    let carried = source
        .stream()
        .map_err(|error| CarryError::Link(SyncError::Cut(error)))
        .and_then(|stream| returning::carry(context, stream, time, &mut kept.seen()));
    if let Ok(Given { carried, aside }) = &carried
        && carried + aside > 0
        && let Ok(notes) = Notes::open(context)
    {
        let text = format!(
            "{carried} messages and files of this node were carried to the other one, {aside} were set aside"
        );
        notes.note("carry", &text);
    }
    carried.map_err(|error| {
        let Failure { blame, message } = match &error {
            CarryError::Link(error) => source.explain(error),
            error => Failure::environment(error),
        };
        let guard = "guard \"carry\": what this node holds newer is carried to the other one before anything is fetched";
        let message = format!("{guard}, which failed: {message}; nothing was changed here");
        let failure = Failure { blame, message };
        match error {
            CarryError::Link(SyncError::Remote { kind: ErrorKind::Passive, .. }) => Missed::Waits(failure),
            _ => Missed::Failed(failure),
        }
    })
}

fn with_what_was_carried(mut report: Report, brought: Option<Given>) -> Report {
    if let Some(Given { carried, aside }) = brought {
        let text = format!("carried before: {carried} messages and files; {aside} set aside");
        report.text = format!("{text}\n{}", report.text);
        report.json["carried"] = json!({ "carried": carried, "set_aside": aside });
    }
    report
}

/// Runs what follows a replication, also one that was cut, if it is due. Its failure is no failure of the replication: it is
/// told in the report, by which the daemon raises an alert.
fn follow(context: &Context, sources: &BTreeMap<String, String>, verdict: Verdict) -> Verdict {
    // a node that serves meanwhile is left alone
    if node_state::now(context).and_then(admitted).is_err() {
        return verdict;
    }
    let (text, key, value) = match afterwards::catch_up(context, sources) {
        Ok(None) => return verdict,
        Ok(Some(command)) => (format!("{command}: done"), "afterwards", json!(command.to_string())),
        Err(failure) => {
            tracing::warn!("the command after a replication failed, it is run again: {failure}");
            (
                format!("warning: after it: {failure}; it is run again"),
                AFTERWARDS_FAILED,
                json!(failure.message),
            )
        }
    };
    verdict.map(|mut report| {
        report.text.push_str(&format!("\n{text}"));
        report.json[key] = value;
        report
    })
}

/// One alert when the command after a replication fails, one when it works again.
pub(super) fn tell_of_what_follows(alerts: &AlertLine, report: &Report) {
    match report.json[AFTERWARDS_FAILED].as_str() {
        Some(why) => {
            alerts.raise(AFTERWARDS_FAILED, &format!("The command after a replication failed: {why}"))
        }
        None => alerts.clear(AFTERWARDS_FAILED, "the command after a replication is not due any more"),
    }
}

/// Whether this node may be replicated to from that one, before anybody is asked for anything: once it owes nothing.
fn may_fetch(context: &Context, peer: IpAddr) -> Result<Receiver, Failure> {
    if counterpart(context.settings.replication.flow, &context.role()?)? != peer {
        return Err(Failure::guard(format!(
            "guard \"role\": {peer} is not this node's counterpart any more"
        )));
    }
    let now = node_state::now(context)?;
    admitted(Receiver { owes: false, ..now })?;
    Ok(now)
}

fn admitted(now: Receiver) -> Result<(), Failure> {
    now.admits(now.generation)
        .map_err(|unwilling| Failure::guard(format!("{unwilling}; nothing was changed")))
}
