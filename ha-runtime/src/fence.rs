//! A takeover's fence: no replication commits into this node's database, or renames into its trees, from then on.
//!
//! In its order (`safety.md` 4): the generation is raised first, by the node; then agents that apply a replication are
//! ended, then the database's advisory lock is taken. All of it takes two seconds at most and never stops a takeover.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::context::Context;
use crate::db::Fence;
use crate::driver::Notes;
use crate::far::FarEnd;
use crate::lock::Lock;
use crate::way;

/// How long a takeover waits for the fence.
const PATIENCE: Duration = Duration::from_secs(2);

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

/// Raises it as far as that is possible within two seconds; `None`, and a line in the journal, when it is not.
pub async fn raise(context: &Context, notes: &Notes) -> Option<Held> {
    let ((), fence) = tokio::join!(end_agent(context, notes), fence_database(context, notes));
    fence
}

/// Keeps a fence that stands, and raises one where none does: the server that held it may have been restarted.
pub async fn keep(fence: &tokio::sync::Mutex<Option<Held>>, context: &Context, notes: &Notes) {
    let mut fence = fence.lock().await;
    if let Some(held) = &*fence {
        if held.stands().await {
            return;
        }
        // its session might still hold the lock against the new one
        *fence = None;
    }
    *fence = raise(context, notes).await;
}

/// Has the agent that applies a replication, if one does, leave the replica as it was.
async fn end_agent(context: &Context, notes: &Notes) {
    let agent = Lock::Replicate.holder(&context.root);
    let Some(pid) = agent.and_then(Pid::from_raw).filter(|pid| *pid != rustix::process::getpid()) else {
        return;
    };
    // the agent looks for this between its steps
    let _ = kill_process(pid, Signal::TERM);
    let root = context.root.clone();
    let ended = tokio::task::spawn_blocking(move || Lock::Replicate.lock_within(&root, PATIENCE).map(drop));
    if !matches!(tokio::time::timeout(PATIENCE, ended).await, Ok(Ok(Ok(())))) {
        let text = "a replication of files could not be ended within 2 s; its generation is out of date";
        tell(notes, text);
    }
}

async fn fence_database(context: &Context, notes: &Notes) -> Option<Held> {
    context.profile().database?;
    let raised = tokio::time::timeout(PATIENCE, async {
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

/// In a thread: a journal on a stalled disk must not stop the loop that this runs in.
fn tell(notes: &Notes, text: impl Into<String>) {
    let (notes, text) = (notes.clone(), text.into());
    tokio::task::spawn_blocking(move || notes.note("fence", &text));
}
