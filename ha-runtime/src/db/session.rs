//! The two transactions and the settings that they must share.

use std::time::Duration;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, IsolationLevel, Transaction};

use super::error::DbError;
use super::replicate::{Options, Purpose};
use super::{ADVISORY_LOCK, APPLICATION_NAME, FENCE_NAME};

/// Everything that changes how a value is written as text, equal on both sides; no timeout but our own; no compiler
/// for expressions, which would take longer over the digests of small tables than it saves; and no sorting where a hash
/// table does: the planner cannot know how few groups of rows there are, and would sort large tables on disk.
///
/// All are local to the transaction. `row_security = off` makes a policy that would hide rows an error.
const SETTINGS: &str = "\
    SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL IntervalStyle = 'postgres'; SET LOCAL TimeZone = 'UTC'; \
    SET LOCAL bytea_output = 'hex'; SET LOCAL extra_float_digits = 3; SET LOCAL xmlbinary = 'base64'; \
    SET LOCAL xmloption = 'content'; SET LOCAL lc_monetary = 'C'; SET LOCAL search_path = public; \
    SET LOCAL quote_all_identifiers = off; SET LOCAL row_security = off; \
    SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; \
    SET LOCAL jit = off; SET LOCAL enable_sort = off;";

/// From PostgreSQL 14 on a server that computes notices within a second that its client is gone.
const NOTICE_LOST_CLIENT: &str = "\
    SELECT pg_catalog.set_config(name, '1s', true) FROM pg_settings WHERE name = 'client_connection_check_interval'";

/// What was reported as replicated survives a power cut, whatever the server is set to.
const DURABLE: &str = "SET LOCAL synchronous_commit = on;";

/// One snapshot of the source, in which nothing can be written and no lock is waited for any longer.
pub(super) async fn snapshot(
    source: &mut Client,
    lock_timeout: Duration,
) -> Result<Transaction<'_>, DbError> {
    let begin = source.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let transaction = begin.start().await.map_err(DbError::source("opening a snapshot"))?;
    let lock_timeout = milliseconds(lock_timeout);
    let settings = format!("{SETTINGS} SET LOCAL lock_timeout = {lock_timeout}; {NOTICE_LOST_CLIENT}");
    transaction.batch_execute(&settings).await.map_err(DbError::source("preparing the snapshot"))?;
    Ok(transaction)
}

/// The replica's transaction, with the advisory lock held and triggers off; read-only for a dry run.
///
/// READ COMMITTED: what is compared after a table is locked is what the table holds then.
pub(super) async fn transaction<'a>(
    replica: &'a mut Client,
    options: &Options,
) -> Result<Transaction<'a>, DbError> {
    let begin = replica.build_transaction().isolation_level(IsolationLevel::ReadCommitted);
    let begin = begin.read_only(options.purpose == Purpose::DryRun);
    let transaction = begin.start().await.map_err(DbError::replica("opening a transaction"))?;
    let settings = format!(
        "{SETTINGS} {DURABLE} SET LOCAL lock_timeout = {}; {NOTICE_LOST_CLIENT}",
        milliseconds(options.lock_timeout)
    );
    // statements that are polled together are sent together; of two that fail, the first one says why
    let ((), fenced) = tokio::try_join!(
        biased;
        async {
            transaction.batch_execute(&settings).await.map_err(DbError::replica("preparing the transaction"))
        },
        fenced(&transaction)
    )?;
    if fenced {
        return Err(DbError::Fenced);
    }
    match options.purpose {
        Purpose::Apply => tokio::try_join!(
            biased;
            end_stalled(&transaction, options.stalled_after),
            lock_out_takeover(&transaction),
            switch_triggers_off(&transaction)
        )
        .map(drop)?,
        Purpose::DryRun => lock_out_takeover(&transaction).await?,
    }
    Ok(transaction)
}

async fn switch_triggers_off(transaction: &Transaction<'_>) -> Result<(), DbError> {
    let off = "SET LOCAL session_replication_role = replica";
    transaction.batch_execute(off).await.map_err(DbError::replica("switching triggers off (a superuser may)"))
}

/// As PostgreSQL's settings want it: whole milliseconds, and never 0, which would mean "for ever".
pub(super) fn milliseconds(wait: Duration) -> u128 {
    wait.as_millis().clamp(1, i32::MAX as u128)
}

/// The lock of `safety.md` 4.2, which a takeover holds and other replications take.
///
/// A fence that is set while we wait makes us time out; the next attempt sees it.
async fn lock_out_takeover(transaction: &Transaction<'_>) -> Result<(), DbError> {
    let lock = format!("SELECT pg_catalog.pg_advisory_xact_lock({ADVISORY_LOCK})");
    transaction.batch_execute(&lock).await.map_err(DbError::replica("the replication lock"))
}

/// Ends replications whose client has sent nothing for too long, while their server waits for it.
async fn end_stalled(transaction: &Transaction<'_>, stalled_after: Duration) -> Result<(), DbError> {
    let end = "SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(pid)) FROM pg_stat_activity \
        WHERE application_name = $1 AND datname = pg_catalog.current_database() AND pid <> pg_catalog.pg_backend_pid() \
        AND wait_event = 'ClientRead' AND xact_start IS NOT NULL \
        AND state_change < pg_catalog.clock_timestamp() - $2 * interval '1 second'";
    let seconds = stalled_after.as_secs_f64();
    let ended =
        transaction.query_typed_one(end, &[(&APPLICATION_NAME, Type::TEXT), (&seconds, Type::FLOAT8)]).await;
    let ended: i64 = ended.map_err(DbError::replica("looking for stalled replications"))?.get(0);
    if ended > 0 {
        tracing::warn!("ended {ended} replication(s) into this database whose master had gone silent");
    }
    Ok(())
}

async fn fenced(transaction: &Transaction<'_>) -> Result<bool, DbError> {
    let holders = "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
        JOIN pg_database d ON d.oid = l.database AND d.datname = pg_catalog.current_database() \
        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND a.application_name = $1 \
        AND (l.classid::bigint << 32) | l.objid::bigint = $2)";
    let row = transaction
        .query_typed_one(holders, &[(&FENCE_NAME, Type::TEXT), (&ADVISORY_LOCK, Type::INT8)])
        .await;
    Ok(row.map_err(DbError::replica("looking for a takeover's fence"))?.get(0))
}
