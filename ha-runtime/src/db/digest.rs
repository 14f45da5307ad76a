//! A digest per table, computed by its own server.

use std::collections::BTreeMap;

use ha_core::replication::tables::PlannedTable;
use tokio_postgres::{Error, Transaction};

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

/// The digests of some tables, by name.
pub(super) async fn digests(
    transaction: &Transaction<'_>,
    tables: &[&PlannedTable],
) -> Result<BTreeMap<String, Digest>, Error> {
    let mut digests = BTreeMap::new();
    for batch in tables.chunks(BATCH) {
        let each = batch.iter().enumerate().map(|(at, table)| query(at, table));
        let text = each.collect::<Vec<_>>().join(" UNION ALL ");
        for row in transaction.query_typed(&text, &[]).await? {
            let (at, rows): (i32, i64) = (row.try_get(0)?, row.try_get(1)?);
            let digest = Digest { rows: rows.unsigned_abs(), sum: row.try_get(2)? };
            // a server that answers for a table it was not asked for is not believed
            if let Some(table) = usize::try_from(at).ok().and_then(|at| batch.get(at)) {
                digests.insert(table.name.clone(), digest);
            }
        }
    }
    Ok(digests)
}

fn query(at: usize, table: &PlannedTable) -> String {
    let (digest, relation) = (sql::digest(table), sql::relation(&table.name));
    format!(
        "SELECT {at},pg_catalog.count(*),pg_catalog.concat(pg_catalog.sum({digest})) FROM ONLY {relation}"
    )
}
