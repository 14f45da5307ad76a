//! What became of a transaction whose client is gone.

use std::time::Duration;

use ha_core::replication::wire::Transaction;
use thiserror::Error;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::APPLICATION_NAME;
use super::error::Fault;

/// Between two questions about a transaction that is being ended.
const RETRY: Duration = Duration::from_millis(20);

/// How long a transaction that is being ended is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It was committed.
    Committed,
    /// It was rolled back; if it still ran when it was asked about, it was ended first.
    RolledBack,
    /// Nobody knows any more, and why.
    Unknown(String),
}

/// The fate of a transaction is open: whoever depends on it asks again.
#[derive(Debug, Error)]
pub enum FateError {
    /// It is no replication's any more that could be ended, or does not obey.
    #[error("it still runs, and could not be ended within {0:?}")]
    Running(Duration),
    /// The server or the way to it.
    #[error(transparent)]
    Database(#[from] Fault),
}

/// Brings to disk, on the client's server, that the ids of all transactions that run now are given out.
///
/// An id is in memory only until something of its transaction or of a later one is on disk: a server that crashes before
/// would give it to another transaction. What is asked about later ([`fate`]) must not be taken for that one.
pub async fn make_durable(client: &Client) -> Result<(), Fault> {
    // a transaction of its own, so with an id after theirs; `local`: this server's disk, whoever else it replicates to
    let message = "BEGIN; SET LOCAL synchronous_commit = local; \
        SELECT pg_catalog.pg_logical_emit_message(true, 'pbx-ha', ''); COMMIT";
    let written = client.batch_execute(message).await;
    written.map_err(|error| Fault::new("bringing the ids of transactions to disk", error))
}

/// Asks the client's server. A replication's transaction that still runs is ended: nobody will tell it to commit.
///
/// The client's user must be allowed to end the replication's sessions. Err: the server does not answer, or the
/// transaction could not be ended; its fate is open.
pub async fn fate(client: &Client, transaction: Transaction) -> Result<Fate, FateError> {
    fate_within(client, transaction, PATIENCE).await
}

pub(super) async fn fate_within(
    client: &Client,
    transaction: Transaction,
    patience: Duration,
) -> Result<Fate, FateError> {
    let asking = |error| Fault::new("asking what became of a replication's transaction", error);
    if server_identity(client).await.map_err(asking)? != transaction.server {
        return Ok(Fate::Unknown("the database's server is another one than it was then".to_owned()));
    }
    let id = transaction.id.cast_signed();
    let started = tokio::time::Instant::now();
    loop {
        let row = match client.query_one("SELECT pg_catalog.txid_status($1)", &[&id]).await {
            // an id "in the future": what was given out was lost in a crash, and the transaction with it
            Err(error) if error.code() == Some(&SqlState::INVALID_PARAMETER_VALUE) => {
                return Ok(Fate::RolledBack);
            }
            answer => answer.map_err(asking)?,
        };
        match row.try_get::<_, Option<&str>>(0).map_err(asking)? {
            Some("committed") => return Ok(Fate::Committed),
            Some("aborted") => return Ok(Fate::RolledBack),
            // in progress
            Some(_) if started.elapsed() < patience => {}
            Some(_) => return Err(FateError::Running(patience)),
            None => {
                return Ok(Fate::Unknown("the database's server does not remember it any more".to_owned()));
            }
        }
        // the low half of the id is what the server shows of a session
        let end = "SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(pid)) FROM pg_stat_activity \
            WHERE application_name = $1 AND backend_xid::text::bigint = $2 & 4294967295";
        client.query_one(end, &[&APPLICATION_NAME, &id]).await.map_err(asking)?;
        tokio::time::sleep(RETRY).await;
    }
}

/// Ends the replications into the client's database that have a transaction open: their master is gone.
pub async fn end_replications(client: &Client) -> Result<(), Fault> {
    let end = "SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(pid)) FROM pg_stat_activity \
        WHERE application_name = $1 AND datname = pg_catalog.current_database() AND pid <> pg_catalog.pg_backend_pid() \
        AND xact_start IS NOT NULL";
    let ended = client.query_one(end, &[&APPLICATION_NAME]).await;
    ended.map(drop).map_err(|error| Fault::new("ending replications", error))
}

/// The `system_identifier` of the client's server.
pub(super) async fn server_identity(
    client: &impl tokio_postgres::GenericClient,
) -> Result<u64, tokio_postgres::Error> {
    let row =
        client.query_typed_one("SELECT system_identifier FROM pg_catalog.pg_control_system()", &[]).await?;
    row.try_get(0).map(i64::cast_unsigned)
}
