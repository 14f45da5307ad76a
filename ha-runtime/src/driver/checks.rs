//! The watchdog's questions to telephony on this node.

use std::sync::Arc;
use std::time::Duration;

use ha_core::Input;
use ha_core::effect::{Command, OnFailure};
use ha_core::health::ProbeOutcome;
use ha_core::services::Observed;
use ha_core::watchdog::{Check, CheckId};

use super::{Driver, Message, in_a_thread};
use crate::command;
use crate::context::Context;
use crate::observe::observe;
use crate::probe;

/// Held while a check of that kind is under way: those that hang must not pile up.
pub(super) type Checking = [Arc<tokio::sync::Mutex<()>>; Check::ALL.len()];

impl Driver {
    /// One that cannot begin gives no report, and so counts as lost.
    pub(super) fn check(&self, id: CheckId, check: Check, timeout: Duration) {
        let Ok(one) = Arc::clone(&self.checking[check as usize]).try_lock_owned() else { return };
        let Some(address) = self.clustering.address() else { return };
        let (context, to_self) = (self.context.clone(), self.to_self.clone());
        let work = async move {
            match check {
                Check::Process => process(context).await,
                Check::Console => console(context, timeout).await,
                Check::Sip => {
                    let target = (address, context.settings.probe.sip_port).into();
                    Ok(probe::sip::probe(target, timeout).await)
                }
            }
        };
        tokio::spawn(async move {
            let message = match tokio::spawn(work).await {
                Ok(Ok(outcome)) => Message::Input(Input::Checked { id, outcome }),
                // no thread can be had: nothing is known
                Ok(Err(error)) => return tracing::warn!("a check of telephony: {error}"),
                Err(error) => Message::Broken(error),
            };
            drop(one);
            let _ = to_self.send(message).await;
        });
    }
}

fn reply(lives: bool) -> ProbeOutcome {
    if lives { ProbeOutcome::Reply } else { ProbeOutcome::Lost }
}

/// One look, as the other looks at telephony.
async fn process(context: Context) -> std::io::Result<ProbeOutcome> {
    let look = move || observe(&context.root, &context.profile().observe) == Observed::Running;
    in_a_thread("check", look).await.map(reply)
}

/// The plan's own question. A hung Asterisk lets `asterisk -rx` hang, which hears no SIGTERM.
async fn console(context: Context, timeout: Duration) -> std::io::Result<ProbeOutcome> {
    let status = context.profile().services.status.command();
    let question = Command { timeout: timeout.min(status.timeout), on_failure: OnFailure::Fail, ..status };
    in_a_thread("check", move || command::ask(&context.root, &question).is_ok()).await.map(reply)
}
