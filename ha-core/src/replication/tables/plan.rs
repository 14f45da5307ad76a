//! Which tables are copied, by what key their rows are matched, and what crosses the border.

use std::collections::BTreeMap;
use std::fmt;

use super::catalog::{Catalog, Column, ForeignKey, Generated, Nullability, Table};
use super::drift::{self, Difference, SchemaDrift};
use super::exclusions::{Exclusions, LeftBecause};
use super::hashed::Hashed;

/// Everything that a database replication does, but for the rows.
///
/// Sorted by name throughout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablePlan {
    /// Copied.
    pub tables: Vec<PlannedTable>,
    /// Sequences that are set: those of copied tables, and those that belong to no table.
    pub sequences: Vec<String>,
    /// Tables of either node that stay as they are.
    pub left: Vec<LeftTable>,
    /// Foreign keys of the replica that have one end among the copied tables and the other end outside.
    pub borders: Vec<Border>,
    /// Exclusions that name no table of the source: renamed tables or misspelt settings, reported instead of ignored.
    pub unmatched: Vec<String>,
}

/// A table that is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTable {
    /// Its name in the schema `public`.
    pub name: String,
    /// Columns that are copied, in the source's order; what the server computes is not among them.
    pub columns: Vec<PlannedColumn>,
    /// How its rows are matched.
    pub key: RowKey,
}

/// A column that is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedColumn {
    /// Its name.
    pub name: String,
    /// How its values enter the digest of their row, on both servers.
    pub hashed: Hashed,
    /// Whether the digest must tell a null from the type's zero.
    pub nullability: Nullability,
}

/// What makes a row of one node the same row as one of the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowKey {
    /// Equal values in these columns, which are unique and never null.
    Columns(Vec<PlannedColumn>),
    /// Equal values everywhere: the table is a multiset.
    WholeRow,
}

/// A table that stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftTable {
    /// Its name.
    pub name: String,
    /// Why.
    pub because: LeftBecause,
}

/// A foreign key between a copied table and one that stays. Triggers are off while rows are written, so whoever writes
/// validates it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Border {
    /// A copied table references one that stays: a copied row may miss its other end on the replica.
    Outward {
        /// The copied, referencing table.
        table: String,
        /// Its foreign key.
        key: ForeignKey,
    },
    /// A table that stays references a copied one: its rows may lose their other end.
    Inward {
        /// The referencing table that stays.
        table: String,
        /// Its foreign key.
        key: ForeignKey,
    },
}

impl Border {
    /// The referencing table and its key.
    pub fn key(&self) -> (&str, &ForeignKey) {
        match self {
            Border::Outward { table, key } | Border::Inward { table, key } => (table, key),
        }
    }

    /// The end that is copied.
    pub fn copied(&self) -> &str {
        match self {
            Border::Outward { table, .. } => table,
            Border::Inward { key, .. } => &key.references,
        }
    }
}

/// Decides what a replication copies.
///
/// A table and its sequences go together. A table that only the replica has stays; one that only the source has, or
/// whose columns or primary key differ, refuses the whole replication, as do another major version, another encoding
/// and another revision of the schema. Excluded tables may differ as they like.
///
/// Err([`SchemaDrift`]): nothing may be copied; every difference is listed, not only the first.
pub fn plan_tables(
    source: &Catalog,
    replica: &Catalog,
    exclusions: &Exclusions,
) -> Result<TablePlan, SchemaDrift> {
    let mut differences = drift::of_databases(source, replica);
    let copied: BTreeMap<&String, &Table> =
        source.tables.iter().filter(|(name, _)| exclusions.reason(name).is_none()).collect();
    differences.extend(copied.keys().filter_map(|name| drift::of_table(name, source, replica)));

    let sequences = sequences(source, &copied, exclusions);
    let missing = sequences.iter().filter(|name| !replica.sequences.contains_key(*name));
    differences.extend(missing.map(|name| Difference::SequenceMissing { sequence: name.clone() }));

    if !differences.is_empty() {
        return Err(SchemaDrift(differences));
    }
    Ok(TablePlan {
        tables: copied.iter().map(|(name, table)| planned(name, table, &source.enums)).collect(),
        sequences,
        left: left(source, replica, exclusions),
        borders: borders(replica, &copied),
        unmatched: exclusions.without_match(source.tables.keys().chain(source.sequences.keys())),
    })
}

fn sequences(source: &Catalog, copied: &BTreeMap<&String, &Table>, exclusions: &Exclusions) -> Vec<String> {
    let wanted = source.sequences.iter().filter(|(name, sequence)| match &sequence.table {
        Some(table) => copied.contains_key(table),
        None => exclusions.reason(name).is_none(),
    });
    wanted.map(|(name, _)| name.clone()).collect()
}

fn planned(name: &str, table: &Table, enums: &BTreeMap<String, Vec<String>>) -> PlannedTable {
    let columns: Vec<PlannedColumn> = table
        .columns
        .iter()
        .filter(|column| is_copied(column))
        .map(|column| PlannedColumn {
            name: column.name.clone(),
            hashed: Hashed::of(column, table, enums),
            nullability: column.nullability,
        })
        .collect();
    let key = key(table, &columns);
    PlannedTable { name: name.to_owned(), columns, key }
}

fn is_copied(column: &Column) -> bool {
    match &column.generated {
        Generated::Stored(_) => false,
        Generated::No | Generated::Identity => true,
    }
}

/// The primary key, or a unique key without nulls, or the row itself. What the server computes is no key.
fn key(table: &Table, columns: &[PlannedColumn]) -> RowKey {
    let planned = |key: &Vec<String>| -> Option<Vec<PlannedColumn>> {
        let column = |name: &String| columns.iter().find(|column| column.name == *name).cloned();
        key.iter().map(column).collect()
    };
    let never_null =
        |key: &Vec<PlannedColumn>| key.iter().all(|column| column.nullability == Nullability::NotNull);
    let primary = table.primary_key.iter().filter_map(planned);
    let mut keys = primary.chain(table.unique.iter().filter_map(planned).filter(never_null));
    keys.next().map_or(RowKey::WholeRow, RowKey::Columns)
}

fn left(source: &Catalog, replica: &Catalog, exclusions: &Exclusions) -> Vec<LeftTable> {
    let mut left: BTreeMap<&String, LeftBecause> = BTreeMap::new();
    for name in source.tables.keys().chain(replica.tables.keys()) {
        let only_there = (!source.tables.contains_key(name)).then_some(LeftBecause::OnlyOnReplica);
        if let Some(because) = exclusions.reason(name).or(only_there) {
            left.insert(name, because);
        }
    }
    left.into_iter().map(|(name, because)| LeftTable { name: name.clone(), because }).collect()
}

fn borders(replica: &Catalog, copied: &BTreeMap<&String, &Table>) -> Vec<Border> {
    let mut borders = Vec::new();
    for (name, table) in &replica.tables {
        for key in &table.foreign_keys {
            match (copied.contains_key(name), copied.contains_key(&key.references)) {
                (true, false) => borders.push(Border::Outward { table: name.clone(), key: key.clone() }),
                (false, true) => borders.push(Border::Inward { table: name.clone(), key: key.clone() }),
                (true, true) | (false, false) => {}
            }
        }
    }
    borders
}

impl fmt::Display for TablePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tables, sequences) = (self.tables.len(), self.sequences.len());
        writeln!(f, "copy {tables} tables and {sequences} sequences, leave {} tables", self.left.len())?;
        for table in &self.left {
            writeln!(f, "  leave {}: {}", table.name, table.because)?;
        }
        for border in &self.borders {
            writeln!(f, "  check {border}")?;
        }
        for name in &self.unmatched {
            writeln!(f, "  exclusion {name} matches no table")?;
        }
        Ok(())
    }
}

impl fmt::Display for Border {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (table, key) = self.key();
        let (from, to) = (key.columns.join(", "), key.ref_columns.join(", "));
        write!(f, "{table} ({from}) -> {} ({to})", key.references)
    }
}
