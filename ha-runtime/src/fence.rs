//! A takeover's fence: no replication commits into this node's database, or renames into its trees, from then on.
//!
//! In its order (`safety.md` 4): the generation is raised first, by the node; then agents that apply a replication are
//! ended, then the database's advisory lock is taken. What these replications had promised is settled: a switch whose
//! transaction was committed is made before telephony starts. All of it takes two seconds at most and never stops a
//! takeover: a switch that would take longer is not made, which is told. Whoever cannot be made to let go of the lock
//! *replicate* keeps what it holds: what is promised is touched under that lock only, and the generation, which is
//! another one by then, keeps it from being made later.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ha_core::Role;
use ha_core::replication::admission::Receiver;
use ha_core::services::Observed;
use tokio::time::{Instant, timeout_at};

use crate::context::Context;
use crate::db::{Fate, Fence};
use crate::driver::{AlertLine, Notes};
use crate::far::FarEnd;
use crate::leftover;
use crate::lock::{Held as Locked, Lock};
use crate::observe::observe;
use crate::oust::{Taker, oust};
use crate::sync::{Decision, Occasion, Settled, Unsettled};
use crate::way;

/// How long a takeover waits for the fence.
const PATIENCE: Duration = Duration::from_secs(2);
/// How much of that an agent gets to end by itself.
const GRACE: Duration = Duration::from_millis(800);
/// What is left when a switch that takes too long is stopped, for it to notice.
const LAST_MOMENT: Duration = Duration::from_millis(200);

/// The alert of a takeover that had to leave a replication unfinished; over once the node stands by again.
pub const UNFINISHED: &str = "replication-unfinished";

/// A fence that stands as long as this lives, and as long as its server does.
pub struct Held {
    fence: Fence,
    /// The way to the server: without it the connection ends, and the fence with it.
    _relay: Option<FarEnd>,
}

impl Held {
    /// Whether the server still knows it.
    async fn stands(&self) -> bool {
        tokio::time::timeout(PATIENCE, self.fence.is_held()).await.unwrap_or(false)
    }
}

/// The takeover that a fence is raised for.
#[derive(Debug, Clone)]
pub struct Takeover {
    /// The node's role.
    pub role: Role,
    /// The node's generation since it was decided.
    pub generation: u64,
    /// How far it is.
    pub moment: Moment,
    /// Its journal.
    pub notes: Notes,
    /// Its alerts; a verb has none.
    pub alerts: Option<AlertLine>,
}

/// How far a takeover is when its fence is raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The generation has been raised, and nothing was started since: what a replication had promised is still newer than
    /// what this node has.
    Beginning,
    /// Any later one: what this node wrote is newer, whether telephony runs just now or not.
    Later,
}

/// Tells the action that begins a takeover from those that follow it, also in an engine that was restarted meanwhile.
#[derive(Debug, Default)]
pub struct Beginnings {
    /// Raised by this engine, and not acted for yet.
    raised: Option<u64>,
}

impl Beginnings {
    /// The node's generation is another one.
    pub fn raised(&mut self, generation: u64) {
        self.raised = Some(generation);
    }

    /// The moment of an action for that generation.
    pub fn act(&mut self, generation: u64) -> Moment {
        if self.raised.take() == Some(generation) { Moment::Beginning } else { Moment::Later }
    }
}

/// Raises it as far as that is possible within two seconds; `None`, and a line in the journal, when it is not.
pub async fn raise(context: &Context, takeover: &Takeover) -> Option<Held> {
    raise_beside(context, takeover, None).await
}

/// The same with a fence in the database that stands already.
async fn raise_beside(context: &Context, takeover: &Takeover, standing: Option<Held>) -> Option<Held> {
    let end = Instant::now() + PATIENCE;
    let fencing = async {
        match standing {
            Some(held) => Some(held),
            None => fence_database(context, &takeover.notes).await,
        }
    };
    let (lock, fence) = tokio::join!(end_agent(context, &takeover.notes), fencing);
    settle(context, takeover, lock, fence.as_ref(), end).await;
    fence
}

/// Keeps a fence that stands, and raises one where none does: the server that held it may have been restarted.
pub async fn keep(fence: &tokio::sync::Mutex<Option<Held>>, context: &Context, takeover: &Takeover) {
    let mut fence = fence.lock().await;
    // one that does not stand is let go of first: its session might still hold the lock against the new one
    let standing = match fence.take() {
        Some(held) if held.stands().await => Some(held),
        Some(_) | None => None,
    };
    *fence = match (standing, takeover.moment) {
        (Some(held), Moment::Later) => Some(held),
        // of files, it fences nothing
        (standing, Moment::Beginning | Moment::Later) => raise_beside(context, takeover, standing).await,
    };
}

/// Has the agent that applies a replication, if one does, leave the replica as it is. The lock that it held.
async fn end_agent(context: &Context, notes: &Notes) -> Option<Locked> {
    let root = context.root.clone();
    let ending = tokio::task::spawn_blocking(move || {
        oust(Lock::Replicate, &root, Taker::Daemon, GRACE, PATIENCE - LAST_MOMENT)
    });
    match tokio::time::timeout(PATIENCE, ending).await {
        Ok(Ok(Ok(taken))) => Some(taken.held),
        _ => {
            let text = "a replication of files could not be ended within 2 s; its generation is out of date";
            tell(notes, text);
            None
        }
    }
}

async fn fence_database(context: &Context, notes: &Notes) -> Option<Held> {
    context.profile().database?;
    let raised = tokio::time::timeout(PATIENCE - LAST_MOMENT, async {
        let database = way::to_local_database(context).await.map_err(|failure| failure.message)?;
        let fence = Fence::take(database.client, PATIENCE).await.map_err(|error| error.to_string())?;
        Ok(Held { fence, _relay: database.relay })
    });
    match raised.await {
        Ok(Ok(fence)) => Some(fence),
        Ok(Err::<Held, String>(why)) => {
            tracing::warn!("{why}");
            tell(notes, why);
            None
        }
        Err(_) => {
            tell(notes, "the database did not answer within 2 s");
            None
        }
    }
}

/// Settles what the ended replications had promised: this node's is newer from now on.
async fn settle(
    context: &Context,
    takeover: &Takeover,
    lock: Option<Locked>,
    fence: Option<&Held>,
    end: Instant,
) {
    let owned = context.clone();
    let looking = tokio::task::spawn_blocking(move || leftover::promised(&owned));
    let decision = match timeout_at(end, looking).await {
        Ok(Ok(Ok(None))) => return,
        Ok(Ok(Ok(Some(decision)))) => decision,
        Ok(Ok(Err(error))) => {
            return unfinished(takeover, &format!("what a replication had promised cannot be read: {error}"));
        }
        Ok(Err(error)) => {
            return unfinished(takeover, &format!("what a replication had promised is not known: {error}"));
        }
        Err(_) => {
            return unfinished(
                takeover,
                "what a replication had promised is not known: the disk does not answer",
            );
        }
    };
    let Some(lock) = lock else {
        return unfinished(takeover, "whoever works on a replication's switch could not be stopped");
    };
    let fate = match (decision, fence) {
        (Decision::Always, _) => Ok(Fate::Committed),
        (Decision::IfCommitted(transaction), Some(held)) => {
            match timeout_at(end, held.fence.fate(transaction)).await {
                Ok(answer) => answer.map_err(|error| error.to_string()),
                Err(_) => Err("the database did not answer in time".to_owned()),
            }
        }
        (Decision::IfCommitted(_), None) => Err("the database did not answer".to_owned()),
    };
    let stopped = Arc::new(AtomicBool::new(false));
    let (owned, stop) = (context.clone(), Arc::clone(&stopped));
    let flow = context.settings.replication.flow;
    // what it holds is in force from now on
    let owes = false;
    let now = Receiver { flow, role: takeover.role, generation: takeover.generation, active: true, owes };
    let moment = takeover.moment;
    let mut settling = tokio::task::spawn_blocking(move || {
        let _lock = lock;
        // what runs already has written
        let runs = observe(&owned.root, &owned.profile().observe) == Observed::Running;
        let occasion = match moment {
            Moment::Beginning if !runs => Occasion::TakingOver,
            Moment::Beginning | Moment::Later => Occasion::Serving,
        };
        let cancelled = || stop.load(Ordering::SeqCst);
        let settled = leftover::settle(&owned, occasion, now, &mut |_| fate.clone(), &cancelled);
        settled.map_err(|why| match &why {
            Unsettled::Unreadable(_) => why.to_string(),
            Unsettled::Unknown(_) | Unsettled::Failed(_) | Unsettled::Cancelled => {
                match leftover::give_up(&owned, &why) {
                    Ok(_) => why.to_string(),
                    Err(error) => format!("{why}; nor could it be given up: {error}"),
                }
            }
        })
    });
    let settled = timeout_at(end - LAST_MOMENT, &mut settling).await.ok();
    if settled.is_none() {
        stopped.store(true, Ordering::SeqCst);
        // one step, unless the disk stalls; what is promised is dropped then, by the thread itself
        let _ = timeout_at(end, settling).await;
    }
    match settled {
        Some(Ok(Ok(Settled::Nothing | Settled::Left(_)))) => {}
        Some(Ok(Ok(Settled::CarriedOut(outcome)))) => {
            let text = format!(
                "the slave was about to switch to replication {} when it took over: it has all of it",
                outcome.number
            );
            tell(&takeover.notes, text);
        }
        Some(Ok(Ok(Settled::Dropped(why)))) => {
            unfinished(takeover, &format!("the switch to a replication that had begun is not made: {why}"));
        }
        Some(Ok(Err(why))) => {
            unfinished(
                takeover,
                &format!("the switch to a replication that had begun is not finished: {why}"),
            );
        }
        Some(Err(error)) => {
            unfinished(takeover, &format!("the switch to a replication that had begun: {error}"));
        }
        None => unfinished(
            takeover,
            "the switch to a replication was stopped after 2 s, since telephony does not wait longer",
        ),
    }
}

/// Tells that this node serves with less than a whole replication.
fn unfinished(takeover: &Takeover, why: &str) {
    let text =
        format!("{why}; this node serves with what it has, in which files may be older than the database");
    tracing::warn!("{text}");
    if let Some(alerts) = &takeover.alerts {
        alerts.raise(UNFINISHED, &text);
    }
    tell(&takeover.notes, text);
}

/// In a thread: a journal on a stalled disk must not stop the loop that this runs in.
fn tell(notes: &Notes, text: impl Into<String>) {
    let (notes, text) = (notes.clone(), text.into());
    tokio::task::spawn_blocking(move || notes.note("fence", &text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_action_after_the_generation_was_raised_begins_a_takeover() {
        let mut engine = Beginnings::default();
        // an engine that was restarted does not know what ran before it
        assert_eq!(engine.act(7), Moment::Later);
        engine.raised(8);
        assert_eq!((engine.act(8), engine.act(8)), (Moment::Beginning, Moment::Later));
        engine.raised(9);
        engine.raised(10);
        assert_eq!((engine.act(9), engine.act(10)), (Moment::Later, Moment::Later));
    }
}
