//! Writes what differs into the replica's transaction.

use std::io::Cursor;
use std::mem;
use std::pin::pin;

use futures_util::{SinkExt, TryStreamExt};
use ha_core::replication::tables::PlannedTable;
use tokio_postgres::{Error, Transaction};

use super::compare::{Rewrite, RowId};
use super::error::DbError;
use super::sql;

/// Rows named in one statement.
const BATCH: usize = 2_000;

/// Rows are sent together in messages of about so many bytes: the source sends each in one of its own.
const MESSAGE: usize = 64 * 1024;

/// Rows that a rewrite really deleted and copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) deleted: u64,
    pub(super) copied: u64,
}

/// Keeps writers out of a table until the transaction ends; readers go on.
pub(super) async fn lock(replica: &Transaction<'_>, table: &PlannedTable) -> Result<(), DbError> {
    let lock = format!("LOCK TABLE ONLY {} IN SHARE ROW EXCLUSIVE MODE", sql::relation(&table.name));
    replica.batch_execute(&lock).await.map_err(DbError::replica(format!("table \"{}\"", table.name)))
}

/// Deletes all rows that go or change before any is copied, so that values of unique keys may move between rows.
///
/// DELETE and not TRUNCATE: that would lock readers out.
pub(super) async fn rewrite(
    source: &Transaction<'_>,
    replica: &Transaction<'_>,
    table: &PlannedTable,
    rewrite: &Rewrite,
) -> Result<Written, DbError> {
    let mut written = Written::default();
    match rewrite {
        Rewrite::Whole => {
            let all = format!("DELETE FROM ONLY {}", sql::relation(&table.name));
            let deleted = replica.execute(&all, &[]).await;
            written.deleted = deleted.map_err(DbError::replica(deleting(table)))?;
            written.copied = copy(source, replica, table, "").await?;
        }
        Rewrite::Rows { delete, copy: rows } => {
            for batch in delete.chunks(BATCH) {
                let deleted = delete_rows(replica, table, batch).await;
                written.deleted += deleted.map_err(DbError::replica(deleting(table)))?;
            }
            for batch in rows.chunks(BATCH) {
                written.copied += copy(source, replica, table, &at(batch)).await?;
            }
        }
    }
    Ok(written)
}

fn deleting(table: &PlannedTable) -> String {
    format!("deleting rows of table \"{}\"", table.name)
}

async fn delete_rows(replica: &Transaction<'_>, table: &PlannedTable, rows: &[RowId]) -> Result<u64, Error> {
    let delete = format!("DELETE FROM ONLY {}{}", sql::relation(&table.name), at(rows));
    replica.execute(&delete, &[]).await
}

/// The condition that leaves these rows.
fn at(rows: &[RowId]) -> String {
    let places: Vec<String> = rows.iter().map(|row| format!("\"{}\"", row.text())).collect();
    format!(" WHERE ctid = ANY ('{{{}}}'::tid[])", places.join(","))
}

/// Streams rows from server to server. Text format: binary arrays carry type numbers, which differ between servers.
async fn copy(
    source: &Transaction<'_>,
    replica: &Transaction<'_>,
    table: &PlannedTable,
    filter: &str,
) -> Result<u64, DbError> {
    let (relation, columns) = (sql::relation(&table.name), sql::columns(&table.columns));
    let reading = || DbError::source(format!("reading table \"{}\"", table.name));
    let writing = || DbError::replica(format!("writing table \"{}\"", table.name));
    let out = format!("COPY (SELECT {columns} FROM ONLY {relation}{filter}) TO STDOUT");
    let into = format!("COPY {relation} ({columns}) FROM STDIN");
    let mut out = pin!(source.copy_out(&out).await.map_err(reading())?);
    let mut into = pin!(replica.copy_in(&into).await.map_err(writing())?);
    let mut message = Vec::new();
    while let Some(row) = out.try_next().await.map_err(reading())? {
        message.extend_from_slice(&row);
        if message.len() >= MESSAGE {
            into.send(Cursor::new(mem::take(&mut message))).await.map_err(writing())?;
        }
    }
    into.send(Cursor::new(message)).await.map_err(writing())?;
    into.finish().await.map_err(writing())
}

/// Brings sequences to the source's values; returns the names of those that differed, which alone are set.
///
/// `setval` alone would survive a rollback: only after RESTART, which gives the sequence new storage in this
/// transaction, is it undone with it.
pub(super) async fn sequences(
    source: &Transaction<'_>,
    replica: &Transaction<'_>,
    names: &[String],
    write: bool,
) -> Result<Vec<String>, DbError> {
    let (here, there) = tokio::try_join!(
        async { values(source, names).await.map_err(DbError::source("reading sequences")) },
        async { values(replica, names).await.map_err(DbError::replica("reading sequences")) }
    )?;
    let mut set = Vec::new();
    for ((name, value), _) in names.iter().zip(here).zip(there).filter(|((_, here), there)| here != there) {
        if write {
            let relation = sql::relation(name);
            let (last, called) = value;
            let text = sql::literal(&relation);
            let statements = format!(
                "ALTER SEQUENCE {relation} RESTART; SELECT setval({text}::regclass, {last}, {called});"
            );
            replica
                .batch_execute(&statements)
                .await
                .map_err(DbError::replica(format!("sequence \"{name}\"")))?;
        }
        set.push(name.clone());
    }
    Ok(set)
}

/// `last_value` and `is_called` of each, in the order of `names`.
async fn values(transaction: &Transaction<'_>, names: &[String]) -> Result<Vec<(i64, bool)>, Error> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let each = names
        .iter()
        .enumerate()
        .map(|(at, name)| format!("SELECT {at} AS at, last_value, is_called FROM {}", sql::relation(name)));
    let query = each.collect::<Vec<_>>().join(" UNION ALL ") + " ORDER BY at";
    let rows = transaction.query(&query, &[]).await?;
    rows.iter().map(|row| Ok((row.try_get(1)?, row.try_get(2)?))).collect()
}
