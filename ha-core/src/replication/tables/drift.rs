//! Why two databases cannot be replicated: they are not of the same shape.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

use super::catalog::{Catalog, Column, Generated, Nullability, ServerVersion, Table};

/// The nodes' databases are not of the same shape. The replica is unchanged.
///
/// One sentence per table; the way out is always to bring both nodes to the same release.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct SchemaDrift(pub(super) Vec<Difference>);

impl SchemaDrift {
    /// What differs; never empty.
    pub fn differences(&self) -> &[Difference] {
        &self.0
    }
}

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Both servers must be of one major version, and not older than [`ServerVersion::OLDEST`].
    Server {
        /// The master's.
        source: ServerVersion,
        /// The slave's.
        replica: ServerVersion,
    },
    /// Both databases must have one encoding, and not `SQL_ASCII`.
    Encoding {
        /// The master's.
        source: String,
        /// The slave's.
        replica: String,
    },
    /// The schema's revisions as one table records them.
    Revision {
        /// Which.
        table: String,
        /// The master's.
        source: Vec<String>,
        /// The slave's; `None`: it has no such table.
        replica: Option<Vec<String>>,
    },
    /// The slave lacks a table.
    TableMissing {
        /// Which.
        table: String,
    },
    /// A table's columns or keys.
    Table {
        /// Which.
        table: String,
        /// Clauses, each of which completes "table x: ...".
        clauses: Vec<String>,
    },
    /// The slave lacks a sequence.
    SequenceMissing {
        /// Which.
        sequence: String,
    },
}

impl fmt::Display for SchemaDrift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the databases are not of the same shape and nothing was touched; ")?;
        write!(f, "bring both nodes to the same release:")?;
        for difference in &self.0 {
            write!(f, "\n  {difference}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Server { source, replica } if source.major() == replica.major() => {
                write!(f, "PostgreSQL {source} is too old: {} or later is needed", ServerVersion::OLDEST)
            }
            Difference::Server { source, replica } => {
                write!(f, "PostgreSQL is {source} on the master and {replica} on the slave")
            }
            Difference::Encoding { source, replica } => write!(
                f,
                "the database's encoding is {source} on the master and {replica} on the slave: \
                 recreate the one that is not UTF8 with createdb -T template0 -E UTF8"
            ),
            Difference::Revision { table, source, replica: Some(replica) } => write!(
                f,
                "table \"{table}\": the schema's revision is {} on the master and {} on the slave",
                listed(source),
                listed(replica)
            ),
            Difference::Revision { table, source, replica: None } => write!(
                f,
                "table \"{table}\": the schema's revision is {} on the master and the slave has no such table",
                listed(source)
            ),
            Difference::TableMissing { table } => write!(f, "table \"{table}\": the slave has no such table"),
            Difference::Table { table, clauses } => write!(f, "table \"{table}\": {}", clauses.join(", ")),
            Difference::SequenceMissing { sequence } => {
                write!(f, "sequence \"{sequence}\": the slave has no such sequence")
            }
        }
    }
}

fn listed(words: &[String]) -> String {
    if words.is_empty() { "empty".to_owned() } else { words.join(" ") }
}

/// What differs about the databases as wholes.
pub(super) fn of_databases(source: &Catalog, replica: &Catalog) -> Vec<Difference> {
    let mut found = Vec::new();
    let oldest = source.server.min(replica.server);
    if source.server.major() != replica.server.major() || oldest < ServerVersion::OLDEST {
        found.push(Difference::Server { source: source.server, replica: replica.server });
    }
    if source.encoding != replica.encoding || source.encoding.is_unchecked() {
        found.push(Difference::Encoding {
            source: source.encoding.0.clone(),
            replica: replica.encoding.0.clone(),
        });
    }
    for (table, revision) in &source.revisions {
        let there = replica.revisions.get(table);
        if there != Some(revision) {
            found.push(Difference::Revision {
                table: table.clone(),
                source: revision.clone(),
                replica: there.cloned(),
            });
        }
    }
    found
}

/// What differs about one table; the order of columns does not count.
pub(super) fn of_table(name: &str, source: &Catalog, replica: &Catalog) -> Option<Difference> {
    let here = source.tables.get(name)?;
    let Some(there) = replica.tables.get(name) else {
        return Some(Difference::TableMissing { table: name.to_owned() });
    };
    let mut clauses: Vec<String> =
        here.columns.iter().filter_map(|column| of_column(column, there.column(&column.name))).collect();
    let extra = there.columns.iter().filter(|column| here.column(&column.name).is_none());
    clauses.extend(extra.map(|column| format!("column \"{}\" exists only on the slave", column.name)));
    clauses.extend(of_keys(here, there));
    clauses.extend(here.columns.iter().filter_map(|c| of_enum(c, &source.enums, &replica.enums)));
    (!clauses.is_empty()).then(|| Difference::Table { table: name.to_owned(), clauses })
}

fn of_column(here: &Column, there: Option<&Column>) -> Option<String> {
    let name = &here.name;
    let Some(there) = there else { return Some(format!("column \"{name}\" exists only on the master")) };
    let (source, replica) = (described(here), described(there));
    (source != replica)
        .then(|| format!("column \"{name}\" is {source} on the master and {replica} on the slave"))
}

fn described(column: &Column) -> String {
    let null = match column.nullability {
        Nullability::Nullable => "",
        Nullability::NotNull => " not null",
    };
    let generated = match &column.generated {
        Generated::No => String::new(),
        Generated::Identity => " identity".to_owned(),
        Generated::Stored(expression) => format!(" generated as {expression}"),
    };
    format!("{}{null}{generated}", column.type_name)
}

/// Rows are matched by their keys: the primary key must be the same, and the slave may not be stricter.
fn of_keys(here: &Table, there: &Table) -> Vec<String> {
    let mut clauses = Vec::new();
    let key =
        |key: &Option<Vec<String>>| key.as_ref().map_or("none".to_owned(), |k| format!("({})", k.join(", ")));
    if here.primary_key != there.primary_key {
        clauses.push(format!(
            "the primary key is {} on the master and {} on the slave",
            key(&here.primary_key),
            key(&there.primary_key)
        ));
    }
    let sorted = |columns: &Vec<String>| {
        let mut columns = columns.clone();
        columns.sort();
        columns
    };
    let known: Vec<Vec<String>> = here.primary_key.iter().chain(&here.unique).map(sorted).collect();
    let stricter = there.unique.iter().filter(|unique| !known.contains(&sorted(unique)));
    clauses.extend(stricter.map(|u| format!("the unique key ({}) exists only on the slave", u.join(", "))));
    clauses
}

fn of_enum(
    column: &Column,
    source: &BTreeMap<String, Vec<String>>,
    replica: &BTreeMap<String, Vec<String>>,
) -> Option<String> {
    let name = column.type_name.trim_end_matches("[]");
    let (here, there) = (source.get(name)?, replica.get(name)?);
    (here != there).then(|| {
        let list = |labels: &[String]| labels.join(", ");
        format!(
            "column \"{}\" of type {name} knows ({}) on the master and ({}) on the slave",
            column.name,
            list(here),
            list(there)
        )
    })
}
