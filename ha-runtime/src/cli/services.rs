//! `services start|stop|status`.

use chrono::Utc;
use ha_core::effect::OnFailure;
use ha_core::services::Observed;
use ha_core::{Role, ServiceState};
use serde_json::json;

use super::verbs::{block_on, question};
use crate::command::{self, CommandError};
use crate::context::Context;
use crate::control::{self, Request};
use crate::driver::Notes;
use crate::effect::Performer;
use crate::fence;
use crate::node_state;
use crate::observe::observe;
use crate::performer;
use crate::report::{Failure, Report, Verdict};
use crate::telephony::{self, Brought, TelephonyError};

/// Whether telephony runs: the distribution's status command, exit 0 or 1.
pub(super) fn status(context: &Context) -> Verdict {
    let step = context.profile().services.status.command();
    let step = ha_core::effect::Command { on_failure: OnFailure::Fail, ..step };
    let observed = observe(&context.root, &context.profile().observe);
    let (exit, text) = match command::run(&context.root, &step, &mut |_| {}) {
        Ok(_) => (0, "running".to_owned()),
        Err(CommandError::Failed { tail, .. }) => (1, format!("not everything runs\n{tail}")),
        Err(error) => return Err(Failure::environment(error)),
    };
    let word = if exit == 0 { "running" } else { "stopped" };
    let json = json!({ "services": word, "observed": format!("{observed:?}").to_lowercase() });
    Ok(Report { text: text.trim_end().to_owned(), json, exit })
}

/// Starts or stops telephony: through the daemon when one runs, itself otherwise.
pub(super) fn by_hand(context: &Context, start: bool, dry_run: bool) -> Verdict {
    let to = if start { ServiceState::Running } else { ServiceState::Stopped };
    if dry_run {
        let effects = telephony::effects(context, to);
        let text: Vec<String> = effects.iter().map(ToString::to_string).collect();
        return Ok(Report::new(text.join("\n"), json!({ "dry_run": true, "effects": text })));
    }
    if question(context, &Request::Status).is_some() {
        let asked =
            control::ask(&context.root, &Request::Services { start }, std::time::Duration::from_secs(600));
        return asked.unwrap_or_else(|| Err(Failure::environment("the daemon has just ended; try again")));
    }
    if start && context.profile().exclusive_address && context.role()?.peer().is_some() {
        let text = "guard \"daemon\": telephony follows the address that the pair shares, and no daemon runs here that \
                    could hold it; it is lifted when the daemon runs and has the address";
        return Err(Failure::guard(text));
    }
    let notes = Notes::open(context)?;
    let performer = performer::build(context, notes.clone())?;
    if to == ServiceState::Running {
        before_start(context, &notes);
    }
    let report = bring(context, &performer, to, || !control::daemon_runs(&context.root))?;
    record(context, to)?;
    Ok(report)
}

/// What a takeover does before it starts, when no daemon does it: another generation, then an end of what is being
/// replicated to this slave (`safety.md` 4.2). Nothing of it may stop a takeover.
pub(crate) fn before_start(context: &Context, notes: &Notes) {
    let moment = match record(context, ServiceState::Running) {
        Ok(Recorded::Already) => return,
        Ok(Recorded::Changed) => fence::Moment::Beginning,
        Err(failure) => {
            tracing::warn!("{failure}");
            fence::Moment::Later
        }
    };
    let record = node_state::store(context).and_then(|store| node_state::load(&store)).ok().flatten();
    let generation = record.as_ref().map_or(0, |record| record.generation);
    let role = record.as_ref().map_or(Role::Slave, |record| record.role);
    let takeover = fence::Takeover { role, generation, moment, notes: notes.clone(), alerts: None };
    let _ = block_on(async {
        drop(fence::raise(context, &takeover).await);
        Ok(())
    });
}

/// Brings telephony to a state and says what was done, if it is `still` wanted when nobody else acts any more.
pub(crate) fn bring(
    context: &Context,
    performer: &Performer,
    to: ServiceState,
    still: impl Fn() -> bool,
) -> Verdict {
    let word = match to {
        ServiceState::Running => "runs",
        ServiceState::Stopped => "is stopped",
    };
    match telephony::bring(context, performer, to, still) {
        Ok(Brought::Already) => Ok(Report::done(format!("telephony {word} already"))),
        Ok(Brought::Done { complaints }) => {
            let mut text = format!("telephony {word}");
            for complaint in &complaints {
                text.push_str(&format!("\nwarning: {complaint}"));
            }
            Ok(Report::new(text.clone(), json!({ "done": text, "warnings": complaints })))
        }
        Err(error @ TelephonyError::Stale) => Err(Failure::guard(error)),
        Err(error) => Err(Failure::environment(error)),
    }
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recorded {
    /// It said so already, or none is kept for this role.
    Already,
    /// It is another generation now.
    Changed,
}

/// Without a daemon the record is this verb's: another activity is another generation, so that a replication that was
/// under way commits nothing.
pub(super) fn record(context: &Context, to: ServiceState) -> Result<Recorded, Failure> {
    let role = context.role()?;
    if !context.settings.replication.flow.reaches(role.role()) {
        return Ok(Recorded::Already);
    }
    let store = node_state::store(context)?;
    let before = node_state::load(&store)?;
    let generation = before.as_ref().map_or(0, |record| record.generation);
    let mut record = before
        .filter(|record| node_state::belongs(record, &role))
        .unwrap_or_else(|| ha_core::event::Record::fresh(&role, generation + 1, Utc::now()));
    let active = to == ServiceState::Running;
    if record.active == active {
        return Ok(Recorded::Already);
    }
    record.turn(active, Utc::now(), "", "by a verb, without a daemon");
    if store.save(&record).is_durable() {
        Ok(Recorded::Changed)
    } else {
        Err(Failure::environment(
            "the engine's record of what telephony is wanted to do could not be written",
        ))
    }
}

/// What is seen now, for verbs that print it.
pub(super) fn seen(context: &Context) -> Observed {
    observe(&context.root, &context.profile().observe)
}
