//! Which part of a large table differs: digests of groups of rows are compared, finer and finer.

use std::collections::{BTreeMap, BTreeSet};

use ha_core::replication::tables::{Hashed, PlannedTable, RowKey};
use tokio_postgres::{Error, Row, Transaction};

use super::error::{DbError, Side};
use super::sql;

/// So few rows are compared one by one at once.
const AT_ONCE: u64 = 256;

/// Groups are made finer until about so few rows share one.
const ROWS_PER_GROUP: u64 = 32;

/// No step cuts the table, or a group that differs, into more groups than 2 to the power of this.
const MOST_BITS: u32 = 8;

/// More groups than this are not named to make them finer: then most of the table differs.
const MOST_GROUPS: usize = 4_096;

/// A condition, to be put behind a table's name, that leaves the part in which all differences lie; empty for all of it.
///
/// What it leaves out is equal on both sides: all rows of both were in one group or another. The replica must be locked
/// against writers.
pub(super) async fn narrow(
    source: &Transaction<'_>,
    replica: &Transaction<'_>,
    table: &PlannedTable,
    rows: u64,
) -> Result<String, DbError> {
    if rows <= AT_ONCE {
        return Ok(String::new());
    }
    let place = Place::of(table);
    let sides = Sides { source, replica, table };
    let Some((low, high)) = place.extent(&sides).await? else { return Ok(String::new()) };
    let width = u64::BITS - high.wrapping_sub(low).cast_unsigned().leading_zeros();
    let mut shift = width.saturating_sub(bits(rows));
    let mut filter = String::new();
    loop {
        let (here, there) = sides.ask(&groups_query(table, &place, shift, &filter), group).await?;
        let (here, there) = (here.into_iter().collect(), there.into_iter().collect());
        let Differing { numbers, rows: left } = Differing::between(&here, &there);
        filter = place.filter(shift, &numbers);
        let each = left / (numbers.len() as u64).max(1);
        let fine = left <= AT_ONCE || each < 2 * ROWS_PER_GROUP || numbers.len() > MOST_GROUPS;
        if shift == 0 || fine {
            // to read everything is cheaper than to look for most of it
            return Ok(if left > rows / 2 { String::new() } else { filter });
        }
        shift -= bits(each).min(shift);
    }
}

/// Both servers, and the table about which they are asked.
struct Sides<'a> {
    source: &'a Transaction<'a>,
    replica: &'a Transaction<'a>,
    table: &'a PlannedTable,
}

impl Sides<'_> {
    /// Asks both at once.
    async fn ask<T>(
        &self,
        query: &str,
        read: fn(&Row) -> Result<T, Error>,
    ) -> Result<(Vec<T>, Vec<T>), DbError> {
        let doing = format!("comparing table \"{}\"", self.table.name);
        let (here, there) = tokio::try_join!(
            async { self.source.query(query, &[]).await.map_err(|error| Side::Source.error(&doing, error)) },
            async {
                self.replica.query(query, &[]).await.map_err(|error| Side::Replica.error(&doing, error))
            }
        )?;
        let here: Result<Vec<T>, Error> = here.iter().map(read).collect();
        let there: Result<Vec<T>, Error> = there.iter().map(read).collect();
        Ok((
            here.map_err(|error| Side::Source.error(&doing, error))?,
            there.map_err(|error| Side::Replica.error(&doing, error))?,
        ))
    }
}

/// Into 2 to the power of how many groups so many rows are cut; >= 1.
fn bits(rows: u64) -> u32 {
    (rows / ROWS_PER_GROUP).max(2).ilog2().min(MOST_BITS)
}

/// What puts a row into its group: the number that is left when so many bits of it are shifted out.
#[derive(Debug)]
enum Place {
    /// The key's first column, of integers: a group is a range of the key, which its index finds.
    Integer(String),
    /// The hash of the key.
    KeyHash(String),
}

impl Place {
    fn of(table: &PlannedTable) -> Place {
        let first = match &table.key {
            RowKey::Columns(key) => key.first().filter(|column| column.hashed == Hashed::Integer),
            RowKey::WholeRow => None,
        };
        match first {
            Some(column) => Place::Integer(sql::name(&column.name)),
            None => Place::KeyHash(sql::key_hash(table)),
        }
    }

    /// The group's number.
    fn group(&self, shift: u32) -> String {
        match self {
            Place::Integer(column) => format!("({column}::int8>>{shift})"),
            Place::KeyHash(hash) => format!("({hash}>>{shift})"),
        }
    }

    /// The least and the greatest of both sides; `None`: neither has rows.
    async fn extent(&self, sides: &Sides<'_>) -> Result<Option<(i64, i64)>, DbError> {
        let column = match self {
            Place::Integer(column) => column,
            Place::KeyHash(_) => return Ok(Some((i64::MIN, i64::MAX))),
        };
        let relation = sql::relation(&sides.table.name);
        let query = format!("SELECT min({column})::int8,max({column})::int8 FROM ONLY {relation}");
        let (here, there) = sides
            .ask(&query, |row| Ok(row.try_get::<_, Option<i64>>(0)?.zip(row.try_get::<_, Option<i64>>(1)?)))
            .await?;
        let extents = here.into_iter().chain(there).flatten();
        Ok(extents.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))))
    }

    fn filter(&self, shift: u32, groups: &BTreeSet<i64>) -> String {
        let these = sql::array(groups.iter().copied());
        let these = format!("{} IN (SELECT unnest({these}::int8[]))", self.group(shift));
        match (self, groups.first(), groups.last()) {
            (Place::Integer(column), Some(first), Some(last)) => {
                // the last number of the last group, in which the bits that were shifted out are all ones
                let (low, high) = (first << shift, !(!last << shift));
                format!(" WHERE {column} BETWEEN {low} AND {high} AND {these}")
            }
            (Place::Integer(_) | Place::KeyHash(_), _, _) => format!(" WHERE {these}"),
        }
    }
}

/// Each group with the number of its rows and the sum of their digests, cut to 64 bits.
fn groups_query(table: &PlannedTable, place: &Place, shift: u32, filter: &str) -> String {
    let (group, digest, relation) = (place.group(shift), sql::digest(table), sql::relation(&table.name));
    format!(
        "SELECT {group},count(*),(sum({digest})%9223372036854775783)::int8 \
         FROM ONLY {relation}{filter} GROUP BY 1"
    )
}

/// Rows and digest of each group, by its number.
type Groups = BTreeMap<i64, (i64, i64)>;

fn group(row: &Row) -> Result<(i64, (i64, i64)), Error> {
    Ok((row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?)))
}

/// Groups that differ.
#[derive(Debug, PartialEq, Eq)]
struct Differing {
    numbers: BTreeSet<i64>,
    /// On the side that has more of them.
    rows: u64,
}

impl Differing {
    fn between(here: &Groups, there: &Groups) -> Differing {
        let numbers = here.keys().chain(there.keys()).copied();
        let numbers: BTreeSet<i64> = numbers.filter(|number| here.get(number) != there.get(number)).collect();
        let rows = |side: &Groups| -> u64 {
            let counts = numbers.iter().filter_map(|number| side.get(number));
            counts.map(|(rows, _)| rows.unsigned_abs()).sum()
        };
        let rows = rows(here).max(rows(there));
        Differing { numbers, rows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_differs_by_its_rows_its_digest_or_its_absence() {
        let here = Groups::from([(-1, (3, 30)), (0, (5, 50)), (1, (7, 70)), (2, (1, 10))]);
        let there = Groups::from([(-1, (3, 30)), (0, (5, 51)), (1, (8, 70)), (3, (2, 20))]);
        let differing = Differing::between(&here, &there);
        assert_eq!(differing, Differing { numbers: BTreeSet::from([0, 1, 2, 3]), rows: 15 });
    }

    #[test]
    fn a_range_of_the_key_covers_its_groups_and_no_more() {
        let place = Place::Integer("id".to_owned());
        let between = |shift, groups: &[i64]| {
            let filter = place.filter(shift, &groups.iter().copied().collect());
            filter.split(" AND (").next().unwrap_or_default().to_owned()
        };
        assert_eq!(between(4, &[2, 3]), " WHERE id BETWEEN 32 AND 63");
        assert_eq!(between(4, &[-1]), " WHERE id BETWEEN -16 AND -1");
        assert_eq!(between(0, &[-7, 7]), " WHERE id BETWEEN -7 AND 7");
        assert_eq!(between(31, &[-1, 0]), " WHERE id BETWEEN -2147483648 AND 2147483647");
    }

    #[test]
    fn more_rows_are_cut_into_more_groups_up_to_a_limit() {
        assert_eq!([0, 64, 256, 1 << 13, 1 << 30].map(bits), [1, 1, 3, 8, 8]);
    }
}
