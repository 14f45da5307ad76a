//! The takeover's side of the advisory lock: while telephony runs here, nobody replicates into this database.

use std::time::Duration;

use ha_core::replication::wire::Transaction;
use thiserror::Error;
use tokio_postgres::Client;

use super::error::Fault;
use super::fate::{Fate, FateError, fate};
use super::{ADVISORY_LOCK, APPLICATION_NAME, FENCE_NAME};

/// Between two attempts to get the lock from replications that are being ended.
const RETRY: Duration = Duration::from_millis(20);

/// A held lock: as long as it lives, every replication into this database is refused.
///
/// It is the server's session that holds it: when the connection is lost (the server restarted), so is the fence; see
/// [`Fence::is_held`]. Advisory locks belong to one database: take it in the one that is replicated.
#[derive(Debug)]
pub struct Fence {
    client: Client,
}

/// The fence could not be set. A takeover journals this and goes on: it never waits longer for a database.
#[derive(Debug, Error)]
pub enum FenceError {
    /// A replication could not be ended in time: it may still commit.
    #[error(
        "the database's fence was not set within {0:?}: a replication that runs could not be ended and may still commit"
    )]
    Timeout(Duration),
    /// The server or the way to it.
    #[error("the database's fence was not set: {0}; a replication may still commit")]
    Database(#[from] Fault),
}

impl Fence {
    /// Ends the replications that run into the client's database, and locks it against new ones.
    ///
    /// A replication that has not committed when this returns never will. Takes at most `timeout` (`safety.md` 4.2: 2 s).
    /// The client's user must be allowed to end the replication's sessions.
    pub async fn take(client: Client, timeout: Duration) -> Result<Fence, FenceError> {
        match tokio::time::timeout(timeout, lock(&client)).await {
            Ok(Ok(())) => Ok(Fence { client }),
            Ok(Err(error)) => Err(Fault::new("taking the replication lock", error).into()),
            Err(_) => Err(FenceError::Timeout(timeout)),
        }
    }

    /// Whether the server still answers the session that holds the lock.
    pub async fn is_held(&self) -> bool {
        self.client.check_connection().await.is_ok()
    }

    /// What became of a replication's transaction, which ran before the fence was taken.
    pub async fn fate(&self, transaction: Transaction) -> Result<Fate, FateError> {
        fate(&self.client, transaction).await
    }

    /// Lets replications in again, at once; dropping does the same as soon as the connection has ended.
    pub async fn release(self) -> Result<(), FenceError> {
        let unlock = format!("SELECT pg_catalog.pg_advisory_unlock({ADVISORY_LOCK})");
        let released = self.client.batch_execute(&unlock).await;
        released.map_err(|error| Fault::new("releasing the replication lock", error).into())
    }
}

async fn lock(client: &Client) -> Result<(), tokio_postgres::Error> {
    // the session stays idle for as long as telephony runs; a setting of that name exists from PostgreSQL 14 on
    let prepare = format!(
        "SET application_name = '{FENCE_NAME}'; \
         SELECT pg_catalog.set_config(name, '0', false) FROM pg_settings WHERE name = 'idle_session_timeout'"
    );
    client.batch_execute(&prepare).await?;
    let end = "SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(pid)) FROM pg_stat_activity \
        WHERE application_name = $1 AND datname = pg_catalog.current_database() AND pid <> pg_catalog.pg_backend_pid()";
    loop {
        client.query_one(end, &[&APPLICATION_NAME]).await?;
        let row = client.query_one("SELECT pg_catalog.pg_try_advisory_lock($1)", &[&ADVISORY_LOCK]).await?;
        if row.try_get(0)? {
            return Ok(());
        }
        tokio::time::sleep(RETRY).await;
    }
}
