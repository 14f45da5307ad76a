//! A digest per table, computed by its own server.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use ha_core::replication::tables::{Hashed, PlannedTable};
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
    /// The exact sum, as the server writes it; `None` without rows.
    sum: Option<String>,
}

/// Digests of tables, by name.
pub(super) type Digests = BTreeMap<String, Digest>;

/// The digests of some tables.
pub(super) async fn digests(
    transaction: &Transaction<'_>,
    tables: &[&PlannedTable],
) -> Result<Digests, Error> {
    let batches = batches(tables);
    let texts: Vec<String> = batches.iter().map(|batch| text(batch)).collect();
    let asked = texts.iter().map(|text| transaction.query_typed(text, &[]));
    read(&batches, try_join_all(asked).await?)
}

/// The digests of the tables that are asked about in every replication: statements that were planned before are not
/// planned again, nor sent.
pub(super) async fn usual_digests(
    transaction: &Transaction<'_>,
    statements: &mut Statements,
    tables: &[&PlannedTable],
) -> Result<Digests, Error> {
    let batches = batches(tables);
    let mut prepared = Vec::new();
    for (place, batch) in batches.iter().enumerate() {
        prepared.push(statements.prepared(transaction, place, &text(batch)).await?);
    }
    let asked = prepared.iter().map(|statement| transaction.query(statement, &[]));
    read(&batches, try_join_all(asked).await?)
}

/// Which tables each statement reads.
///
/// Large ones have statements of their own: each of the server's parallel workers begins by opening every table of its
/// statement, which for a small one takes longer than to read it.
fn batches<'a>(tables: &[&'a PlannedTable]) -> Vec<Vec<&'a PlannedTable>> {
    // only the columns of a large one are hashed by value
    let is_large = |table: &&PlannedTable| table.columns.iter().any(|column| column.hashed != Hashed::AsRow);
    let (large, small): (Vec<_>, Vec<_>) = tables.iter().copied().partition(is_large);
    large.chunks(BATCH).chain(small.chunks(BATCH)).map(<[_]>::to_vec).collect()
}

fn text(batch: &[&PlannedTable]) -> String {
    let each = batch.iter().enumerate().map(|(at, table)| query(at, table));
    each.collect::<Vec<_>>().join(" UNION ALL ")
}

fn read(batches: &[Vec<&PlannedTable>], answers: Vec<Vec<Row>>) -> Result<Digests, Error> {
    let mut digests = Digests::new();
    for (batch, rows) in batches.iter().zip(answers) {
        for row in rows {
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
    format!("SELECT {at},count(*),sum({digest})::text FROM ONLY {relation}")
}

#[cfg(test)]
mod tests {
    use ha_core::replication::tables::{Nullability, PlannedColumn, RowKey};

    use super::*;

    #[test]
    fn large_tables_are_asked_about_apart() {
        let table = |name: &str, hashed| {
            let column = PlannedColumn { name: "c".to_owned(), hashed, nullability: Nullability::NotNull };
            PlannedTable { name: name.to_owned(), columns: vec![column], key: RowKey::WholeRow }
        };
        let tables = [
            table("a", Hashed::AsRow),
            table("b", Hashed::Text),
            table("c", Hashed::AsRow),
            table("d", Hashed::Uuid),
        ];
        let batches = batches(&tables.iter().collect::<Vec<_>>());
        let names: Vec<Vec<&str>> =
            batches.iter().map(|batch| batch.iter().map(|table| table.name.as_str()).collect()).collect();
        assert_eq!(names, [["b", "d"], ["a", "c"]]);
    }
}
