//! A slave that stands by settles what a replication left that was cut, also after its machine was restarted.

use std::time::Duration;

use ha_core::replication::wire::Transaction;

use crate::context::Context;
use crate::db::{self, Fate};
use crate::leftover;
use crate::lock::Lock;
use crate::node_state;
use crate::sync::{Decision, Occasion};
use crate::way;

use super::Notes;

/// How long this node's database may take to answer; the next look asks again.
const PATIENCE: Duration = Duration::from_secs(20);

/// Settles what is promised, if anything is and no agent is at work on it. It stops within one step once the node does
/// not `still` stand by as it did when this began: a takeover waits for the lock. `ask` asks this node's database.
pub(super) async fn settle(
    context: &Context,
    notes: &Notes,
    still: impl Fn() -> bool + Send + 'static,
    ask: impl AsyncFnOnce(Transaction) -> Result<Fate, String>,
) {
    let owned = context.clone();
    let looking = tokio::task::spawn_blocking(move || {
        let promised = leftover::promised(&owned)?;
        // an agent that is at work holds it, and its transaction is not to be ended
        Ok(promised.filter(|_| Lock::Replicate.try_lock(&owned.root).is_ok()))
    });
    let decision = match looking.await {
        Ok(Ok(Some(decision))) => decision,
        Ok(Ok(None)) => return,
        Ok(Err::<_, crate::state::StateError>(why)) => return not_yet(&why.to_string()),
        Err(error) => return not_yet(&error.to_string()),
    };
    // without the lock: a takeover that comes meanwhile must not wait for a database
    let fate = match decision {
        Decision::Always => Ok(Fate::Committed),
        Decision::IfCommitted(transaction) => ask(transaction).await,
    };
    let owned = context.clone();
    let settling = tokio::task::spawn_blocking(move || {
        // an agent was quicker, or a takeover
        let Ok(_lock) = Lock::Replicate.try_lock(&owned.root) else { return Ok(None) };
        if !matches!(leftover::promised(&owned), Ok(Some(now)) if now == decision) || !still() {
            return Ok(None);
        }
        let now = node_state::now(&owned).map_err(|failure| failure.message)?;
        let cancelled = || !still();
        let settled = leftover::settle(&owned, Occasion::StandingBy, now, &mut |_| fate.clone(), &cancelled);
        settled.map(|settled| settled.text()).map_err(|why| why.to_string())
    });
    match settling.await {
        Ok(Ok(None)) => {}
        Ok(Ok(Some(text))) => {
            tracing::warn!("{text}");
            let notes = notes.clone();
            tokio::task::spawn_blocking(move || notes.note("replication", &text));
        }
        Ok(Err(why)) => not_yet(&why),
        Err(error) => not_yet(&error.to_string()),
    }
}

fn not_yet(why: &str) {
    tracing::warn!("the switch to the last replication is not settled yet: {why}");
}

/// Asks this node's database what became of a transaction.
pub(super) async fn ask(context: &Context, transaction: Transaction) -> Result<Fate, String> {
    let fate = async |client: &tokio_postgres::Client| {
        db::fate(client, transaction).await.map_err(|error| error.to_string())
    };
    way::ask_local_database(context, PATIENCE, fate).await
}
