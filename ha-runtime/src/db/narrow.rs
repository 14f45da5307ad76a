//! Which part of a large table differs: digests of groups of rows are compared, finer and finer.

use std::collections::{BTreeMap, BTreeSet};

use ha_core::replication::tables::{Hashed, PlannedColumn, PlannedTable, RowKey};
use tokio_postgres::{Error, Row, Transaction};

use super::error::{DbError, Side};
use super::sql;

/// So few rows are compared one by one at once.
const AT_ONCE: u64 = 256;

/// A table is cut into groups of about so many rows.
const ROWS_PER_GROUP: u64 = 32;

/// More rows than this in a group that differs are worth a further step, which reads the whole table if its key does not
/// lead with an integer.
const COARSE: u64 = 4 * ROWS_PER_GROUP;

/// No step cuts the table, or a group that differs, into more groups than 2 to the power of this: 40 kilobytes then travel.
const MOST_BITS: u32 = 11;

/// More groups than this are not named to make them finer: then most of the table differs.
const MOST_GROUPS: usize = 4_096;

/// The part of a table in which all differences lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// A condition, to be put behind the table's name; empty for all of it.
    ///
    /// What it leaves out is equal on both sides: all rows of both were in one group or another.
    pub(super) filter: String,
    /// How many rows it leaves on the side that has more of them.
    pub(super) rows: u64,
}

/// Looks for the part that differs in a table of at most so many rows. The replica must be locked against writers.
pub(super) async fn narrow(
    source: &Transaction<'_>,
    replica: &Transaction<'_>,
    table: &PlannedTable,
    rows: u64,
) -> Result<Part, DbError> {
    let all = Part { filter: String::new(), rows };
    if rows <= AT_ONCE {
        return Ok(all);
    }
    let place = Place::of(table);
    let sides = Sides { source, replica, table };
    let Some((low, high)) = place.extent(&sides).await? else { return Ok(all) };
    let width = u64::BITS - high.wrapping_sub(low).cast_unsigned().leading_zeros();
    let mut shift = width.saturating_sub(bits(rows));
    let mut filter = String::new();
    loop {
        let (here, there) = sides.ask(&groups_query(table, &place, shift, &filter), groups).await?;
        let (here, there) = (here.into_iter().flatten().collect(), there.into_iter().flatten().collect());
        let Differing { numbers, rows: left } = Differing::between(&here, &there);
        filter = place.filter(shift, &numbers);
        let each = left / (numbers.len() as u64).max(1);
        let fine = left <= AT_ONCE || each < COARSE || numbers.len() > MOST_GROUPS;
        if shift == 0 || fine {
            // to read everything is cheaper than to look for most of it
            return Ok(if left > rows / 2 { all } else { Part { filter, rows: left } });
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
            async {
                self.source.query_typed(query, &[]).await.map_err(|error| Side::Source.error(&doing, error))
            },
            async {
                self.replica.query_typed(query, &[]).await.map_err(|error| Side::Replica.error(&doing, error))
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
    /// A hash of the key, or of a part of it.
    Hash(String),
}

impl Place {
    fn of(table: &PlannedTable) -> Place {
        let RowKey::Columns(key) = &table.key else { return Place::Hash(sql::key_hash(table)) };
        match key.first() {
            Some(column) if column.hashed == Hashed::Integer => Place::Integer(sql::name(&column.name)),
            Some(_) | None => Place::Hash(Place::hash(key)),
        }
    }

    /// The hash of the key without its enumerated columns: these tell few rows apart, and their labels take the server
    /// longer to look up than everything else takes to hash.
    fn hash(key: &[PlannedColumn]) -> String {
        let telling = key.iter().filter(|column| column.hashed != Hashed::Label).cloned();
        let telling: Vec<PlannedColumn> = telling.collect();
        sql::hash(if telling.is_empty() { key } else { &telling })
    }

    /// The group's number.
    fn group(&self, shift: u32) -> String {
        match self {
            Place::Integer(column) => format!("({column}::int8>>{shift})"),
            Place::Hash(hash) => format!("({hash}>>{shift})"),
        }
    }

    /// The least and the greatest of both sides; `None`: neither has rows.
    async fn extent(&self, sides: &Sides<'_>) -> Result<Option<(i64, i64)>, DbError> {
        let column = match self {
            Place::Integer(column) => column,
            Place::Hash(_) => return Ok(Some((i64::MIN, i64::MAX))),
        };
        let relation = sql::relation(&sides.table.name);
        let query = format!(
            "SELECT pg_catalog.min({column})::int8,pg_catalog.max({column})::int8 FROM ONLY {relation}"
        );
        let (here, there) = sides
            .ask(&query, |row| Ok(row.try_get::<_, Option<i64>>(0)?.zip(row.try_get::<_, Option<i64>>(1)?)))
            .await?;
        let extents = here.into_iter().chain(there).flatten();
        Ok(extents.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))))
    }

    fn filter(&self, shift: u32, groups: &BTreeSet<i64>) -> String {
        let these = sql::array(groups.iter().copied());
        let these = format!("{} IN (SELECT pg_catalog.unnest({these}::int8[]))", self.group(shift));
        match (self, groups.first(), groups.last()) {
            (Place::Integer(column), Some(first), Some(last)) => {
                // the last number of the last group, in which the bits that were shifted out are all ones
                let (low, high) = (first << shift, !(!last << shift));
                format!(" WHERE {column} BETWEEN {low} AND {high} AND {these}")
            }
            (Place::Integer(_) | Place::Hash(_), _, _) => format!(" WHERE {these}"),
        }
    }
}

/// Each group with the number of its rows and the sum of their digests, cut to 64 bits: three numbers a group in one value,
/// half as long as rows of the protocol.
fn groups_query(table: &PlannedTable, place: &Place, shift: u32, filter: &str) -> String {
    let (group, digest, relation) = (place.group(shift), sql::digest(table), sql::relation(&table.name));
    format!(
        "SELECT pg_catalog.string_agg(pg_catalog.int8send(g)||pg_catalog.int8send(n)||pg_catalog.int8send(d),'') FROM \
         (SELECT {group},pg_catalog.count(*),(pg_catalog.sum({digest})%9223372036854775783::numeric)::int8 \
         FROM ONLY {relation}{filter} GROUP BY 1) AS x (g,n,d)"
    )
}

/// Rows and digest of each group, by its number.
type Groups = BTreeMap<i64, (i64, i64)>;

fn groups(row: &Row) -> Result<Groups, Error> {
    // null: there is no group
    let packed = row.try_get::<_, Option<&[u8]>>(0)?.unwrap_or_default();
    let (groups, _) = packed.as_chunks::<24>();
    Ok(groups.iter().map(group).collect())
}

fn group(packed: &[u8; 24]) -> (i64, (i64, i64)) {
    let (numbers, _) = packed.as_chunks::<8>();
    let [group, rows, digest] = [0, 1, 2].map(|at| numbers.get(at).copied().map_or(0, i64::from_be_bytes));
    (group, (rows, digest))
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
    use ha_core::replication::tables::Nullability;

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
    fn an_enumerated_column_groups_rows_only_where_the_key_has_no_other() {
        let column = |name: &str, hashed| PlannedColumn {
            name: name.to_owned(),
            hashed,
            nullability: Nullability::NotNull,
        };
        let (kind, name) = (column("kind", Hashed::Label), column("name", Hashed::Text));
        assert_eq!(Place::hash(&[kind.clone(), name.clone()]), sql::hash(&[name]));
        assert_eq!(Place::hash(std::slice::from_ref(&kind)), sql::hash(&[kind]));
    }

    #[test]
    fn a_groups_numbers_are_read_in_the_order_in_which_they_are_packed() {
        let packed: Vec<u8> = [-1i64, 3, i64::MIN].into_iter().flat_map(i64::to_be_bytes).collect();
        assert_eq!(group(packed.as_slice().try_into().unwrap()), (-1, (3, i64::MIN)));
    }

    #[test]
    fn more_rows_are_cut_into_more_groups_up_to_a_limit() {
        assert_eq!([0, 64, 256, 1 << 13, 1 << 30].map(bits), [1, 1, 3, 8, 11]);
    }
}
