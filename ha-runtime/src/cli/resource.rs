//! `resource start|stop|status`: what Heartbeat's resource script asks of the engine.
//!
//! Heartbeat takes the address before it asks for a start, and lets it go after a stop has returned. The rest of its rules:
//! a start that fails makes it give everything away; a stop that fails is tried again, ten times; and where `status` then
//! still says that it runs, the machine is reset.

use std::thread;
use std::time::{Duration, Instant};

use ha_core::ServiceState;
use ha_core::services::Observed;
use serde_json::json;

use super::args::Action;
use crate::cluster::heartbeat::Claim;
use crate::context::Context;
use crate::control::{self, Request};
use crate::driver::Notes;
use crate::performer;
use crate::report::{Failure, Report, Verdict};
use crate::telephony;

/// How long an engine is waited for before a start is refused: systemd starts it again two seconds after it ended.
const ENGINE: Duration = Duration::from_secs(10);
/// How long an engine may take to hear that the address came.
const ANSWER: Duration = Duration::from_secs(10);
/// How long it may take to stop telephony: an action that is under way is waited for first.
const STOP: Duration = Duration::from_secs(40);

pub(super) fn resource(context: &Context, action: Action, dry_run: bool) -> Verdict {
    if dry_run {
        return Err(Failure::usage("--dry-run: Heartbeat's script has none: leave it out"));
    }
    let claim = Claim::of(&context.root);
    match action {
        Action::Start => start(context),
        Action::Stop => {
            // first: whatever happens below, the address does not stay here
            claim
                .give_up()
                .map_err(|error| Failure::environment(format!("{}: {error}", claim.path().display())))?;
            stop(context)
        }
        // a word that Heartbeat looks for, and one that it does not
        Action::Status if claim.is_made() => Ok(Report::new("running", json!({ "resource": "running" }))),
        Action::Status => {
            let json = json!({ "resource": "stopped" });
            Ok(Report { text: "stopped".to_owned(), json, exit: 3 })
        }
    }
}

/// Telephony is the engine's to start: without one nothing is.
fn start(context: &Context) -> Verdict {
    let until = Instant::now() + ENGINE;
    loop {
        // one that has just begun may not know yet that it has a cluster
        let verdict = match control::ask(&context.root, &Request::Address { here: true }, ANSWER) {
            Some(Ok(report)) => return Ok(report),
            Some(Err(failure)) => Err(failure),
            None => Err(Failure::environment(format!(
                "no daemon runs that could start telephony with the address: start `{} run`",
                context.profile().program
            ))),
        };
        if Instant::now() >= until {
            return verdict;
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// Through the engine; and without its lock when that does not answer, because the address must not stay.
fn stop(context: &Context) -> Verdict {
    match control::ask(&context.root, &Request::Address { here: false }, STOP) {
        Some(Ok(report)) => return Ok(report),
        Some(Err(failure)) => tracing::warn!("{failure}: telephony is stopped without the daemon"),
        None => {}
    }
    let performer = performer::build(context, Notes::open(context)?)?;
    let effects = telephony::effects(context, ServiceState::Stopped);
    performer.perform("stop telephony", &effects).map_err(Failure::environment)?;
    match super::services::seen(context) {
        Observed::Running => Err(Failure::environment("telephony still runs")),
        Observed::Stopped | Observed::Unknown => Ok(Report::done("telephony is stopped")),
    }
}
