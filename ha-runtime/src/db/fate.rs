//! What became of a transaction whose client is gone.

use std::time::Duration;

use ha_core::replication::wire::Transaction;
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

/// Asks the client's server. A replication's transaction that still runs is ended: nobody will tell it to commit.
///
/// The client's user must be allowed to end the replication's sessions. Err: the server does not answer, or the
/// transaction could not be ended; its fate is open.
pub async fn fate(client: &Client, transaction: Transaction) -> Result<Fate, Fault> {
    let asking = |error| Fault::new("asking what became of a replication's transaction", error);
    if server_identity(client).await.map_err(asking)? != transaction.server {
        return Ok(Fate::Unknown("the database's server is another one than it was then".to_owned()));
    }
    let id = transaction.id.cast_signed();
    let started = tokio::time::Instant::now();
    loop {
        let row = match client.query_one("SELECT txid_status($1)", &[&id]).await {
            // it has not given out that id yet: it was restored from an older copy
            Err(error) if error.code() == Some(&SqlState::INVALID_PARAMETER_VALUE) => None,
            answer => Some(answer.map_err(asking)?),
        };
        let status: Option<&str> = match &row {
            Some(row) => row.try_get(0).map_err(asking)?,
            None => None,
        };
        match status {
            Some("committed") => return Ok(Fate::Committed),
            Some("aborted") => return Ok(Fate::RolledBack),
            Some(_) if started.elapsed() < PATIENCE => {}
            Some(other) => return Ok(Fate::Unknown(format!("it is still {other} and could not be ended"))),
            None => {
                let text = "the database's server does not remember it: it was restored from a copy, or too long ago";
                return Ok(Fate::Unknown(text.to_owned()));
            }
        }
        // the low half of the id is what the server shows of a session
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
            WHERE application_name = $1 AND backend_xid::text::bigint = $2 & 4294967295";
        client.query_one(end, &[&APPLICATION_NAME, &id]).await.map_err(asking)?;
        tokio::time::sleep(RETRY).await;
    }
}

/// Ends the replications into the client's database that have a transaction open: their master is gone.
pub async fn end_replications(client: &Client) -> Result<(), Fault> {
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
        WHERE application_name = $1 AND datname = current_database() AND pid <> pg_backend_pid() \
        AND xact_start IS NOT NULL";
    let ended = client.query_one(end, &[&APPLICATION_NAME]).await;
    ended.map(drop).map_err(|error| Fault::new("ending replications", error))
}

/// The `system_identifier` of the client's server.
pub(super) async fn server_identity(
    client: &impl tokio_postgres::GenericClient,
) -> Result<u64, tokio_postgres::Error> {
    let row = client.query_one("SELECT system_identifier FROM pg_control_system()", &[]).await?;
    row.try_get(0).map(i64::cast_unsigned)
}
