//! The end of a replication: the slave switches to all of it, files and database, or to nothing of it.

use std::os::unix::net::UnixStream;
use std::sync::PoisonError;

use async_trait::async_trait;
use ha_core::replication::wire::{Outcome, Transaction};

use crate::agent::Client;
use crate::db::CommitGate;
use crate::far_node;
use crate::line::Agent;
use crate::report::Failure;
use crate::sync::SyncError;

/// The slave's agent, with everything staged that its files need.
#[derive(Clone)]
pub(super) struct Switch {
    pub(super) agent: Agent,
    /// The slave's, as it stated it.
    pub(super) generation: u64,
}

impl Switch {
    /// Has the slave switch.
    pub(super) async fn commit(&self) -> Result<Outcome, Failure> {
        let committed = self.ask(|agent, generation| agent.commit(generation)).await;
        if committed.as_ref().is_err_and(SyncError::leaves_the_link) {
            self.abandon().await;
        }
        committed.map_err(|error| far_node::failure(&error))
    }

    /// Has the slave drop what is staged, or settle it by itself. Silent: why it comes to this is what is to be told.
    pub(super) async fn abandon(&self) {
        if let Err(error) = self.ask(|agent, _| agent.abandon()).await {
            tracing::debug!("the slave is not told that the replication is over: {error}");
        }
    }

    async fn ask<T: Send + 'static>(
        &self,
        what: impl FnOnce(&mut Client<UnixStream>, u64) -> Result<T, SyncError> + Send + 'static,
    ) -> Result<T, SyncError> {
        let Switch { agent, generation } = self.clone();
        let asked = tokio::task::spawn_blocking(move || {
            what(&mut agent.lock().unwrap_or_else(PoisonError::into_inner), generation)
        });
        asked.await.unwrap_or_else(|error| Err(SyncError::Cut(std::io::Error::other(error))))
    }
}

/// Asks the slave's agent right before COMMIT whether it still is the passive slave of this generation, and makes what is
/// staged depend on that COMMIT.
#[async_trait]
impl CommitGate for Switch {
    async fn confirm(&self, transaction: Transaction) -> Result<(), String> {
        let armed = self.ask(move |agent, generation| agent.arm(generation, transaction)).await;
        armed.map_err(|error| error.to_string())
    }
}
