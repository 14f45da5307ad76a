//! Writes what differs into the replica's transaction.

use std::io::Cursor;
use std::pin::Pin;
use std::{iter, mem};

use futures_util::future::try_join_all;
use futures_util::{SinkExt, TryStreamExt};
use ha_core::replication::tables::{Hashed, PlannedColumn, PlannedTable};
use tokio_postgres::{CopyInSink, CopyOutStream, Error, Statement, Transaction};

use super::compare::{Rewrite, RowId};
use super::error::DbError;
use super::sql;

/// Rows named in one statement.
const BATCH: usize = 2_000;

/// Rows are sent together in messages of about so many bytes: the source sends each in one of its own.
const MESSAGE: usize = 64 * 1024;

/// Keeps writers out of these tables until the transaction ends; readers go on.
///
/// A statement for each, so that an error names the table; they are sent together.
pub(super) async fn lock(replica: &Transaction<'_>, tables: &[&PlannedTable]) -> Result<(), DbError> {
    let each = tables.iter().map(async |table| {
        let lock = format!("LOCK TABLE ONLY {} IN SHARE ROW EXCLUSIVE MODE", sql::relation(&table.name));
        replica.batch_execute(&lock).await.map_err(DbError::replica(format!("table \"{}\"", table.name)))
    });
    try_join_all(each).await.map(drop)
}

/// Deletes the rows of a table that go or change; returns their number.
///
/// All of them before any is copied, so that values of unique keys may move between rows. DELETE and not TRUNCATE: that
/// would lock readers out.
pub(super) async fn delete(
    replica: &Transaction<'_>,
    table: &PlannedTable,
    rewrite: &Rewrite,
) -> Result<u64, DbError> {
    let conditions = match rewrite {
        Rewrite::Whole => vec![String::new()],
        Rewrite::Rows { delete, copy: _ } => delete.chunks(BATCH).map(at).collect(),
    };
    let mut deleted = 0;
    for condition in conditions {
        let delete = format!("DELETE FROM ONLY {}{condition}", sql::relation(&table.name));
        let rows = replica.execute_typed(&delete, &[]).await;
        deleted += rows.map_err(DbError::replica(format!("deleting rows of table \"{}\"", table.name)))?;
    }
    Ok(deleted)
}

/// The condition that leaves these rows.
fn at(rows: &[RowId]) -> String {
    let places: Vec<String> = rows.iter().map(|row| format!("\"{}\"", row.text())).collect();
    format!(" WHERE ctid = ANY ('{{{}}}'::tid[])", places.join(","))
}

/// Copies what the rewrites say from server to server; returns the number of rows of each table.
///
/// While the last rows of one table are written, the source reads the next one; after the last table it is asked `then`,
/// whose answer is returned as well. `done` is told how many tables are.
pub(super) async fn copy<T>(
    source: &Transaction<'_>,
    replica: &Transaction<'_>,
    rewrites: &[(&PlannedTable, &Rewrite)],
    done: impl Fn(usize),
    then: impl Future<Output = Result<T, DbError>>,
) -> Result<(Vec<u64>, T), DbError> {
    let prepared = rewrites.iter().map(|(table, _)| prepare(replica, table));
    let prepared = try_join_all(prepared).await?;
    let mut copied = vec![0; rewrites.len()];
    let mut last: Option<(usize, Copy<'_>)> = None;
    for ((at, (table, rewrite)), into) in rewrites.iter().enumerate().zip(&prepared) {
        for condition in conditions(rewrite) {
            let next = Copy::open(source, replica, table, &condition, into);
            let next = match last.take() {
                None => next.await?,
                Some((table, copy)) => {
                    // whose statements went out first, so that neither waits for what the other holds; its error is the one
                    // that counts
                    let (rows, next) = tokio::try_join!(biased; copy.run(), next)?;
                    copied[table] += rows;
                    done(at);
                    next
                }
            };
            last = Some((at, next));
        }
    }
    let Some((table, copy)) = last else { return Ok((copied, then.await?)) };
    let (rows, then) = tokio::try_join!(biased; copy.run(), then)?;
    copied[table] += rows;
    Ok((copied, then))
}

/// Which rows to copy, in parts.
fn conditions(rewrite: &Rewrite) -> Box<dyn Iterator<Item = String> + Send + '_> {
    match rewrite {
        Rewrite::Whole => Box::new(iter::once(String::new())),
        Rewrite::Rows { delete: _, copy } => Box::new(copy.chunks(BATCH).map(at)),
    }
}

/// Binary where every column is of a type that has the same bytes on every server of one release, and which both read and
/// write in less time; all others as text, for binary arrays carry type numbers, which differ between servers.
fn format_of(table: &PlannedTable) -> &'static str {
    let is_own = |column: &PlannedColumn| match column.hashed {
        Hashed::Integer | Hashed::Boolean | Hashed::Uuid | Hashed::Text | Hashed::Label => true,
        Hashed::AsRow => false,
    };
    if table.columns.iter().all(is_own) { " (FORMAT binary)" } else { "" }
}

async fn prepare(replica: &Transaction<'_>, table: &PlannedTable) -> Result<Statement, DbError> {
    let (relation, columns) = (sql::relation(&table.name), sql::columns(&table.columns));
    let into = format!("COPY {relation} ({columns}) FROM STDIN{}", format_of(table));
    replica.prepare(&into).await.map_err(DbError::replica(writing(table)))
}

fn writing(table: &PlannedTable) -> String {
    format!("writing table \"{}\"", table.name)
}

/// Rows of one table on their way.
struct Copy<'a> {
    table: &'a PlannedTable,
    out: Pin<Box<CopyOutStream>>,
    into: Pin<Box<CopyInSink<Cursor<Vec<u8>>>>>,
}

impl<'a> Copy<'a> {
    async fn open(
        source: &Transaction<'_>,
        replica: &Transaction<'_>,
        table: &'a PlannedTable,
        condition: &str,
        into: &Statement,
    ) -> Result<Copy<'a>, DbError> {
        let (relation, columns) = (sql::relation(&table.name), sql::columns(&table.columns));
        let format = format_of(table);
        let out = format!("COPY (SELECT {columns} FROM ONLY {relation}{condition}) TO STDOUT{format}");
        let (out, into) =
            tokio::try_join!(async { source.copy_out(&out).await.map_err(Copy::reading(table)) }, async {
                replica.copy_in(into).await.map_err(DbError::replica(writing(table)))
            })?;
        Ok(Copy { table, out: Box::pin(out), into: Box::pin(into) })
    }

    fn reading(table: &PlannedTable) -> impl FnOnce(Error) -> DbError + use<> {
        DbError::source(format!("reading table \"{}\"", table.name))
    }

    /// Streams the rows; returns their number.
    async fn run(mut self) -> Result<u64, DbError> {
        let writing = || DbError::replica(writing(self.table));
        let mut message = Vec::with_capacity(MESSAGE);
        while let Some(row) = self.out.try_next().await.map_err(Copy::reading(self.table))? {
            message.extend_from_slice(&row);
            if message.len() >= MESSAGE {
                let full = mem::replace(&mut message, Vec::with_capacity(MESSAGE));
                self.into.send(Cursor::new(full)).await.map_err(writing())?;
            }
        }
        self.into.send(Cursor::new(message)).await.map_err(writing())?;
        self.into.as_mut().finish().await.map_err(writing())
    }
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
                "ALTER SEQUENCE {relation} RESTART; SELECT pg_catalog.setval({text}::regclass, {last}, {called});"
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
        .map(|(at, name)| format!("SELECT {at},last_value,is_called FROM {}", sql::relation(name)));
    let query = each.collect::<Vec<_>>().join(" UNION ALL ") + " ORDER BY 1";
    let rows = transaction.query_typed(&query, &[]).await?;
    rows.iter().map(|row| Ok((row.try_get(1)?, row.try_get(2)?))).collect()
}
