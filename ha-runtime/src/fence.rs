//! A takeover's fence: no replication commits into this node's database, or renames into its trees, from then on.
//!
//! In its order (`safety.md` 4): the generation is raised first, by the node; then agents that apply a replication are
//! ended, then the database's advisory lock is taken. What these replications had promised is settled: a switch whose
//! transaction was committed is made before telephony starts. All of it takes two seconds at most and never stops a
//! takeover: a switch that would take longer is not made, which is told.

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
use crate::sync::{Occasion, Settled, Unsettled};
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
    /// The node's generation since it was decided.
    pub generation: u64,
    /// Its journal.
    pub notes: Notes,
    /// Its alerts; a verb has none.
    pub alerts: Option<AlertLine>,
}

/// Raises it as far as that is possible within two seconds; `None`, and a line in the journal, when it is not.
pub async fn raise(context: &Context, takeover: &Takeover) -> Option<Held> {
    let end = Instant::now() + PATIENCE;
    let (lock, fence) =
        tokio::join!(end_agent(context, &takeover.notes), fence_database(context, &takeover.notes));
    settle(context, takeover, lock, fence.as_ref(), end).await;
    fence
}

/// Keeps a fence that stands, and raises one where none does: the server that held it may have been restarted.
pub async fn keep(fence: &tokio::sync::Mutex<Option<Held>>, context: &Context, takeover: &Takeover) {
    let mut fence = fence.lock().await;
    if let Some(held) = &*fence {
        if held.stands().await {
            return;
        }
        // its session might still hold the lock against the new one
        *fence = None;
    }
    *fence = raise(context, takeover).await;
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

/// Settles what the ended replications had promised. At the end nothing is promised any more: what this node has from now
/// on is newer.
async fn settle(
    context: &Context,
    takeover: &Takeover,
    lock: Option<Locked>,
    fence: Option<&Held>,
    end: Instant,
) {
    let Some(transaction) = leftover::promised(context) else { return };
    let fate = match (transaction, fence) {
        (None, _) => Ok(Fate::Committed),
        (Some(transaction), Some(held)) => match timeout_at(end, held.fence.fate(transaction)).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err("the database did not answer in time".to_owned()),
        },
        (Some(_), None) => Err("the database did not answer".to_owned()),
    };
    let stopped = Arc::new(AtomicBool::new(false));
    let (owned, generation, stop) = (context.clone(), takeover.generation, Arc::clone(&stopped));
    let mut settling = tokio::task::spawn_blocking(move || {
        // before anything of ours runs; what runs already has written
        let runs = observe(&owned.root, &owned.profile().observe) == Observed::Running;
        let occasion = if runs { Occasion::Serving } else { Occasion::TakingOver };
        let now = Receiver { role: Role::Slave, generation, active: true };
        let cancelled = || stop.load(Ordering::SeqCst);
        let settled = match lock {
            Some(_) => leftover::settle(&owned, occasion, now, &mut |_| fate.clone(), &cancelled),
            None => Err(Unsettled::Cancelled),
        };
        settled.or_else(|why| leftover::give_up(&owned, &why))
    });
    let settled = timeout_at(end - LAST_MOMENT, &mut settling).await.ok();
    if settled.is_none() {
        stopped.store(true, Ordering::SeqCst);
        // one step, unless the disk stalls; what is promised is dropped then, by the thread itself
        let _ = timeout_at(end, settling).await;
    }
    let text = match settled {
        Some(Ok(Ok(Settled::Nothing | Settled::Left(_)))) => return,
        Some(Ok(Ok(Settled::CarriedOut(outcome)))) => {
            let text = format!(
                "the slave was about to switch to replication {} when it took over: it has all of it",
                outcome.number
            );
            return tell(&takeover.notes, text);
        }
        Some(Ok(Ok(Settled::Dropped(why)))) => format!("a replication that had begun is not in force: {why}"),
        Some(Ok(Err(why))) => format!("what a replication had begun could not be settled: {why}"),
        Some(Err(error)) => format!("what a replication had begun could not be settled: {error}"),
        None => "the switch to a replication was stopped after 2 s, since telephony does not wait longer: files may \
            be older than the database"
            .to_owned(),
    };
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
