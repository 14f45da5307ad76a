//! Starting and stopping telephony on this node: the distribution's commands, in their order, unless all is so already.

use std::time::Duration;

use ha_core::effect::{Effect, OnFailure};
use ha_core::services::Observed;
use ha_core::{Role, ServiceState};

use crate::command;
use crate::context::Context;
use crate::effect::{Outcome, Performer};
use crate::lock::Lock;
use crate::observe::{forbidden, observe};

/// How long an earlier action is waited for: the longest list that a distribution has.
const LOCK_PATIENCE: Duration = Duration::from_secs(300);

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Brought {
    /// It was so already; no command of the list ran.
    Already,
    /// The list ran. What helpers did wrong, which did not stop it.
    Done {
        /// A sentence each.
        complaints: Vec<String>,
    },
}

/// Why telephony is not as wanted.
#[derive(Debug, thiserror::Error)]
pub enum TelephonyError {
    /// Another action holds the lock.
    #[error("{0}; nothing was started or stopped")]
    Locked(#[from] crate::lock::LockError),
    /// What was decided no longer holds: the role or the activity changed meanwhile.
    #[error("the decision is out of date: nothing was started or stopped")]
    Stale,
    /// A required step failed.
    #[error(transparent)]
    Failed(#[from] crate::effect::PerformError),
}

/// Brings telephony to `to` under the lock *act*. `still_wanted` is asked once the lock is held, right before anything
/// is done (`domain.md` 7, WAZO-2858).
pub fn bring(
    context: &Context,
    performer: &Performer,
    to: ServiceState,
    still_wanted: impl Fn() -> bool,
) -> Result<Brought, TelephonyError> {
    let _act = Lock::Act.lock_within(&context.root, LOCK_PATIENCE)?;
    if !still_wanted() {
        return Err(TelephonyError::Stale);
    }
    if is_already(context, to) {
        return Ok(Brought::Already);
    }
    let title = match to {
        ServiceState::Running => "start telephony",
        ServiceState::Stopped => "stop telephony",
    };
    let effects = effects(context, to);
    let performed = performer.perform(title, &effects)?;
    let complaints = performed.steps.into_iter().filter_map(|step| match step.outcome {
        Outcome::WentOn { why } => Some(format!("{}: {why}", step.effect)),
        Outcome::Changed | Outcome::Unchanged | Outcome::Skipped { .. } => None,
    });
    Ok(Brought::Done { complaints: complaints.collect() })
}

/// What is done for it. A role file that cannot be read is no reason not to serve.
pub fn effects(context: &Context, to: ServiceState) -> Vec<Effect> {
    let role = context.role().map_or(Role::Disabled, |role| role.role());
    let mut effects = context.distribution.set_services(to, role);
    if let (ServiceState::Running, Some(argv)) = (to, &context.settings.hooks.rhino) {
        let conf = context.product_file().ok().flatten();
        if conf.is_some_and(|conf| context.distribution.has_failover_card(&conf)) {
            // the lines first: Asterisk looks for them when it starts
            effects.insert(0, crate::configure::hook(argv, "", CARD));
        }
    }
    effects
}

/// How long the lines may take: phones wait for what comes after it.
const CARD: std::time::Duration = std::time::Duration::from_secs(5);

/// Whether nothing is to do. Running is asked of the distribution's status command, as the scripts do, and is not enough
/// while it is forbidden: what stops would not start again. Stopped is seen by looking, and only when telephony is also
/// forbidden to start by itself.
fn is_already(context: &Context, to: ServiceState) -> bool {
    let observation = &context.profile().observe;
    match to {
        ServiceState::Running => runs(context) && !forbidden(&context.root, observation),
        ServiceState::Stopped => {
            forbidden(&context.root, observation) && observe(&context.root, observation) == Observed::Stopped
        }
    }
}

/// Whether the distribution's status command says that everything runs.
pub fn runs(context: &Context) -> bool {
    let status = context.profile().services.status.command();
    let status = ha_core::effect::Command { on_failure: OnFailure::Fail, ..status };
    command::run(&context.root, &status, &mut |_| {}).is_ok()
}
