//! Which rows of one table differ: found from digests of rows, matched by key, streamed from both servers in one order.

use std::pin::Pin;

use futures_util::stream::{self, Stream};
use futures_util::{StreamExt, TryStreamExt};
use ha_core::replication::tables::PlannedTable;
use postgres_types::{FromSql, Type};
use tokio_postgres::{Row, Transaction};

use super::digest::Digest;
use super::error::{DbError, Side};
use super::narrow::{Part, narrow};
use super::sql;

/// More rows than this are not remembered: the table is copied as a whole.
const LIMIT: usize = 20_000;

/// The digests of so many rows of a side are read at once; of more they are streamed.
const FEW: u64 = 4_096;

/// What is known of a table that differs before anything is written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Everything.
    Compared(Comparison),
    /// Where the differences are; the rows there, too many to be held, are still to be compared.
    Located(Part),
}

/// What has to happen to a table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Comparison {
    /// How many rows differ, and how.
    pub(super) counts: Counts,
    /// What to write.
    pub(super) rewrite: Rewrite,
}

/// Rows that differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Only the source has them.
    pub(super) inserted: u64,
    /// Both have them, not equal.
    pub(super) updated: u64,
    /// Only the replica has them.
    pub(super) deleted: u64,
}

/// What to write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rewrite {
    /// Delete some rows, then copy some.
    Rows {
        /// The replica's, by place.
        delete: Vec<RowId>,
        /// The source's, by place.
        copy: Vec<RowId>,
    },
    /// Delete all and copy all.
    Whole,
}

/// A row's place in its table (`ctid`): valid on the replica while the table is locked against writers, and on the source
/// as long as its snapshot lives, which no row that it sees can leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RowId {
    block: u32,
    offset: u16,
}

impl RowId {
    /// As SQL writes it.
    pub(super) fn text(self) -> String {
        format!("({},{})", self.block, self.offset)
    }

    /// As the server sends it.
    fn from_bytes([a, b, c, d, e, f]: [u8; 6]) -> RowId {
        RowId { block: u32::from_be_bytes([a, b, c, d]), offset: u16::from_be_bytes([e, f]) }
    }
}

impl<'a> FromSql<'a> for RowId {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<RowId, Box<dyn std::error::Error + Sync + Send>> {
        Ok(RowId::from_bytes(raw.try_into().map_err(|_| "a row's place has six bytes")?))
    }
    fn accepts(kind: &Type) -> bool {
        *kind == Type::TID
    }
}

/// Looks at one table, whose digests differ; the replica's side must be locked against writers.
///
/// No stream stays open, so that both servers may be asked about many tables at the same time.
pub(super) async fn look(
    source: &Transaction<'_>,
    replica: &Transaction<'_>,
    table: &PlannedTable,
    digests: (&Digest, &Digest),
) -> Result<Finding, DbError> {
    let part = narrow(source, replica, table, digests.0.rows.max(digests.1.rows)).await?;
    if part.rows > FEW {
        return Ok(Finding::Located(part));
    }
    let query = packed_query(table, &part.filter);
    let (mut here, mut there) = tokio::try_join!(
        Rows::read(source, Side::Source, table, &query),
        Rows::read(replica, Side::Replica, table, &query)
    )?;
    merge(&mut here, &mut there).await.map(Finding::Compared)
}

/// Compares the rows of one part of a table.
pub(super) async fn compare(
    source: &Transaction<'_>,
    replica: &Transaction<'_>,
    table: &PlannedTable,
    part: &Part,
) -> Result<Comparison, DbError> {
    let query = rows_query(table, &part.filter);
    let (mut here, mut there) = tokio::try_join!(
        Rows::open(source, Side::Source, table, &query),
        Rows::open(replica, Side::Replica, table, &query)
    )?;
    merge(&mut here, &mut there).await
}

async fn merge(here: &mut Rows<'_>, there: &mut Rows<'_>) -> Result<Comparison, DbError> {
    let mut found = Found::default();
    loop {
        let (a, b) = tokio::try_join!(here.peek(), there.peek())?;
        let key = match (a, b) {
            (Some(a), Some(b)) => a.min(b),
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => return Ok(found.finish()),
        };
        let (source_rows, replica_rows) = (here.group(key).await?, there.group(key).await?);
        found.add(&source_rows, &replica_rows);
    }
}

/// Key hash, digest and place of each row, in the order of the key hash, which is the same on every server, unlike that
/// of text.
fn rows_query(table: &PlannedTable, filter: &str) -> String {
    let (key, digest, relation) = (sql::key_hash(table), sql::digest(table), sql::relation(&table.name));
    format!("SELECT {key},{digest},ctid FROM ONLY {relation}{filter} ORDER BY 1")
}

/// The same in any order and in one value, half as long as rows of the protocol.
fn packed_query(table: &PlannedTable, filter: &str) -> String {
    let (key, digest, relation) = (sql::key_hash(table), sql::digest(table), sql::relation(&table.name));
    format!(
        "SELECT pg_catalog.string_agg(pg_catalog.int8send({key})||pg_catalog.int8send({digest})||pg_catalog.tidsend(ctid),'') FROM ONLY {relation}{filter}"
    )
}

/// A stream of rows in the order of their keys.
struct Rows<'a> {
    // fused: once it has ended, a stream of rows answers with an error
    stream: Pin<Box<dyn Stream<Item = Result<Entry, DbError>> + Send + 'a>>,
    head: Option<Entry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    key: i64,
    digest: i64,
    id: RowId,
}

impl<'a> Rows<'a> {
    /// Streams what [`rows_query`] asks for.
    async fn open(
        transaction: &Transaction<'_>,
        side: Side,
        table: &'a PlannedTable,
        query: &str,
    ) -> Result<Rows<'a>, DbError> {
        let error = move |error| side.error(&doing(table), error);
        let rows = transaction.query_raw(query, Vec::<i64>::new()).await.map_err(error)?;
        let entries = rows.map(move |row| row.and_then(|row| entry(&row)).map_err(error));
        Ok(Rows { stream: Box::pin(entries.fuse()), head: None })
    }

    /// Reads what [`packed_query`] asks for.
    async fn read(
        transaction: &Transaction<'_>,
        side: Side,
        table: &'a PlannedTable,
        query: &str,
    ) -> Result<Rows<'a>, DbError> {
        let error = |error| side.error(&doing(table), error);
        let row = transaction.query_typed_one(query, &[]).await.map_err(error)?;
        // null: there are no rows
        let packed = row.try_get::<_, Option<&[u8]>>(0).map_err(error)?.unwrap_or_default();
        let (rows, _) = packed.as_chunks::<22>();
        let mut entries: Vec<Entry> = rows.iter().map(unpacked).collect();
        entries.sort_unstable_by_key(|entry| entry.key);
        Ok(Rows { stream: Box::pin(stream::iter(entries.into_iter().map(Ok))), head: None })
    }

    /// The next row's key.
    async fn peek(&mut self) -> Result<Option<i64>, DbError> {
        if self.head.is_none() {
            self.head = self.stream.try_next().await?;
        }
        Ok(self.head.map(|entry| entry.key))
    }

    /// All following rows with that key.
    async fn group(&mut self, key: i64) -> Result<Vec<Entry>, DbError> {
        let mut group = Vec::new();
        while self.peek().await? == Some(key) {
            group.extend(self.head.take());
        }
        Ok(group)
    }
}

fn doing(table: &PlannedTable) -> String {
    format!("comparing table \"{}\"", table.name)
}

fn entry(row: &Row) -> Result<Entry, tokio_postgres::Error> {
    Ok(Entry { key: row.try_get(0)?, digest: row.try_get(1)?, id: row.try_get(2)? })
}

fn unpacked(row: &[u8; 22]) -> Entry {
    let &[a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ref id @ ..] = row;
    let key = i64::from_be_bytes([a, b, c, d, e, f, g, h]);
    let digest = i64::from_be_bytes([i, j, k, l, m, n, o, p]);
    Entry { key, digest, id: RowId::from_bytes(*id) }
}

/// Differences as they are found.
#[derive(Debug, Default)]
struct Found {
    counts: Counts,
    delete: Vec<RowId>,
    copy: Vec<RowId>,
    too_many: bool,
}

impl Found {
    /// One group of rows that share a key. Any difference in it replaces all of it.
    fn add(&mut self, source: &[Entry], replica: &[Entry]) {
        let common = common(source, replica);
        let (only_here, only_there) = (source.len() - common, replica.len() - common);
        if only_here == 0 && only_there == 0 {
            return;
        }
        let updated = only_here.min(only_there);
        self.counts.updated += updated as u64;
        self.counts.inserted += (only_here - updated) as u64;
        self.counts.deleted += (only_there - updated) as u64;

        self.too_many |= self.copy.len() >= LIMIT || self.delete.len() >= LIMIT;
        if self.too_many {
            self.copy = Vec::new();
            self.delete = Vec::new();
            return;
        }
        self.copy.extend(source.iter().map(|entry| entry.id));
        self.delete.extend(replica.iter().map(|entry| entry.id));
    }

    fn finish(self) -> Comparison {
        let rewrite = match self.too_many {
            true => Rewrite::Whole,
            false => Rewrite::Rows { delete: self.delete, copy: self.copy },
        };
        Comparison { counts: self.counts, rewrite }
    }
}

/// How many rows of one multiset are in the other.
fn common(a: &[Entry], b: &[Entry]) -> usize {
    let sorted = |entries: &[Entry]| {
        let mut digests: Vec<_> = entries.iter().map(|entry| entry.digest).collect();
        digests.sort_unstable();
        digests
    };
    let (a, b) = (sorted(a), sorted(b));
    let (mut i, mut j, mut common) = (0, 0, 0);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        common += usize::from(x == y);
        i += usize::from(x <= y);
        j += usize::from(x >= y);
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(digests: &[i64]) -> Vec<Entry> {
        digests.iter().map(|&d| Entry { key: 1, digest: d, id: RowId { block: 1, offset: 1 } }).collect()
    }

    fn there(digests: &[i64]) -> Vec<Entry> {
        let id = RowId { block: 0, offset: 7 };
        digests.iter().map(|&d| Entry { key: 1, digest: d, id }).collect()
    }

    fn found(source: &[i64], replica: &[i64]) -> (u64, u64, u64, usize, usize) {
        let mut found = Found::default();
        found.add(&here(source), &there(replica));
        let Counts { inserted, updated, deleted } = found.counts;
        (inserted, updated, deleted, found.copy.len(), found.delete.len())
    }

    #[test]
    fn a_row_is_read_in_the_order_in_which_it_is_packed() {
        let mut packed = [0; 22];
        packed[..8].copy_from_slice(&(-7i64).to_be_bytes());
        packed[8..16].copy_from_slice(&i64::MAX.to_be_bytes());
        packed[16..].copy_from_slice(&[0, 1, 0, 2, 0, 9]);
        let id = RowId { block: 65_538, offset: 9 };
        assert_eq!(unpacked(&packed), Entry { key: -7, digest: i64::MAX, id });
    }

    #[test]
    fn a_row_is_inserted_updated_deleted_or_left() {
        assert_eq!(found(&[5], &[]), (1, 0, 0, 1, 0));
        assert_eq!(found(&[5], &[6]), (0, 1, 0, 1, 1));
        assert_eq!(found(&[], &[6]), (0, 0, 1, 0, 1));
        assert_eq!(found(&[5], &[5]), (0, 0, 0, 0, 0));
    }

    #[test]
    fn equal_rows_are_counted_and_replaced_together() {
        assert_eq!(found(&[5, 5, 5], &[5]), (2, 0, 0, 3, 1));
        assert_eq!(found(&[5], &[5, 5, 5]), (0, 0, 2, 1, 3));
        assert_eq!(found(&[5, 6], &[6, 7]), (0, 1, 0, 2, 2), "two keys that share a hash");
        assert_eq!(found(&[5, 5], &[5, 5]), (0, 0, 0, 0, 0));
    }

    #[test]
    fn too_many_differences_are_counted_and_not_remembered() {
        let mut found = Found::default();
        for digest in 0..=LIMIT as i64 {
            found.add(&here(&[digest]), &[]);
        }
        assert_eq!(found.counts.inserted, LIMIT as u64 + 1);
        assert_eq!(found.finish().rewrite, Rewrite::Whole);
    }
}
