//! A slave that stands by settles what a replication left that was cut, also after its machine was restarted.

use std::time::Duration;

use crate::context::Context;
use crate::db::{self, Fate};
use crate::leftover;
use crate::lock::Lock;
use crate::node_state;
use crate::sync::Occasion;
use crate::way;

use super::Notes;

/// How long this node's database may take to answer; the next look asks again.
const PATIENCE: Duration = Duration::from_secs(10);

/// Settles what is promised, if anything is and no agent is at work on it.
pub(super) async fn settle(context: &Context, notes: &Notes) {
    let owned = context.clone();
    let promised = tokio::task::spawn_blocking(move || leftover::promised(&owned)).await;
    let Ok(Some(transaction)) = promised else { return };
    let root = context.root.clone();
    let Ok(Ok(lock)) = tokio::task::spawn_blocking(move || Lock::Replicate.try_lock(&root)).await else {
        return;
    };
    let fate = match transaction {
        None => Ok(Fate::Committed),
        Some(transaction) => ask(context, transaction).await,
    };
    let owned = context.clone();
    let settling = tokio::task::spawn_blocking(move || {
        let _lock = lock;
        let now = node_state::now(&owned).map_err(|failure| failure.message)?;
        // an agent was quicker
        if leftover::promised(&owned) != Some(transaction) {
            return Ok(None);
        }
        let settled = leftover::settle(&owned, Occasion::StandingBy, now, &mut |_| fate.clone(), &|| false);
        settled.map(|settled| settled.text()).map_err(|why| why.to_string())
    });
    match settling.await {
        Ok(Ok(None)) => {}
        Ok(Ok(Some(text))) => {
            tracing::warn!("{text}");
            let notes = notes.clone();
            tokio::task::spawn_blocking(move || notes.note("replication", &text));
        }
        Ok(Err(why)) => tracing::warn!("the switch to the last replication is not settled yet: {why}"),
        Err(error) => tracing::error!("settling the last replication: {error}"),
    }
}

async fn ask(
    context: &Context,
    transaction: ha_core::replication::wire::Transaction,
) -> Result<Fate, String> {
    let asked = async {
        let database = way::to_local_database(context).await.map_err(|failure| failure.message)?;
        db::fate(&database.client, transaction).await.map_err(|error| error.to_string())
    };
    let late = |_| Err(format!("this node's database did not answer within {PATIENCE:?}"));
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(late)
}
