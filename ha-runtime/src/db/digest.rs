//! A digest per table, computed by its own server.

use std::collections::BTreeMap;

use ha_core::replication::tables::PlannedTable;
use tokio_postgres::{Error, Row, Transaction};

use super::remembered::Statements;
use super::sql;

/// How many tables one statement reads: all of a PBX's, and not so many that the server's parser runs out of stack.
const BATCH: usize = 256;

/// The number of rows and the sum of their digests: the same whatever the rows' order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Digest {
    /// Rows.
    pub(super) rows: u64,
    /// The exact sum, as the server writes it; empty without rows.
    sum: String,
}

/// Digests of tables, by name.
pub(super) type Digests = BTreeMap<String, Digest>;

/// The digests of some tables.
pub(super) async fn digests(
    transaction: &Transaction<'_>,
    tables: &[&PlannedTable],
) -> Result<Digests, Error> {
    let mut digests = Digests::new();
    for batch in tables.chunks(BATCH) {
        add(&mut digests, batch, transaction.query_typed(&text(batch), &[]).await?)?;
    }
    Ok(digests)
}

/// The digests of the tables that are asked about in every replication: statements that were planned before are not
/// planned again, nor sent.
pub(super) async fn usual_digests(
    transaction: &Transaction<'_>,
    statements: &mut Statements,
    tables: &[&PlannedTable],
) -> Result<Digests, Error> {
    let mut digests = Digests::new();
    for (place, batch) in tables.chunks(BATCH).enumerate() {
        let statement = statements.prepared(transaction, place, &text(batch)).await?;
        add(&mut digests, batch, transaction.query(&statement, &[]).await?)?;
    }
    Ok(digests)
}

fn text(batch: &[&PlannedTable]) -> String {
    let each = batch.iter().enumerate().map(|(at, table)| query(at, table));
    each.collect::<Vec<_>>().join(" UNION ALL ")
}

fn add(digests: &mut Digests, batch: &[&PlannedTable], rows: Vec<Row>) -> Result<(), Error> {
    for row in rows {
        let (at, rows): (i32, i64) = (row.try_get(0)?, row.try_get(1)?);
        let digest = Digest { rows: rows.unsigned_abs(), sum: row.try_get(2)? };
        // a server that answers for a table it was not asked for is not believed
        if let Some(table) = usize::try_from(at).ok().and_then(|at| batch.get(at)) {
            digests.insert(table.name.clone(), digest);
        }
    }
    Ok(())
}

fn query(at: usize, table: &PlannedTable) -> String {
    let (digest, relation) = (sql::digest(table), sql::relation(&table.name));
    format!(
        "SELECT {at},pg_catalog.count(*),pg_catalog.concat(pg_catalog.sum({digest})) FROM ONLY {relation}"
    )
}
