//! What a database looks like, without its rows.

use std::collections::BTreeMap;
use std::fmt;

/// The shape of one database: everything that must agree before rows are copied.
///
/// Only the schema `public` counts, as in the products' own replication (`domain.md` 2.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    /// The server's version.
    pub server: ServerVersion,
    /// The database's encoding.
    pub encoding: Encoding,
    /// Ordinary tables by name.
    pub tables: BTreeMap<String, Table>,
    /// Sequences by name.
    pub sequences: BTreeMap<String, Sequence>,
    /// Labels of the enumerated types, by the type's name, in their order.
    pub enums: BTreeMap<String, Vec<String>>,
    /// Content of the tables that record the schema's revision (`alembic_version*`), sorted, by the table's name.
    pub revisions: BTreeMap<String, Vec<String>>,
}

impl Catalog {
    /// Whether a table records the schema's revision: `alembic_version`, `alembic_version_auth`,
    /// `call_logd_alembic_version`, ... Such a table is compared and never copied.
    pub fn is_revision_table(name: &str) -> bool {
        name.contains("alembic_version")
    }
}

/// `server_version_num`: 150020 is 15.20.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerVersion(pub u32);

impl ServerVersion {
    /// The first release with the functions that digests are made of.
    pub const OLDEST: ServerVersion = ServerVersion(110_000);

    /// The part that decides whether two servers write the same text: 15 of 15.20.
    pub fn major(self) -> u32 {
        self.0 / 10_000
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major(), self.0 % 10_000)
    }
}

/// An encoding by PostgreSQL's name: `UTF8`, `SQL_ASCII`, `LATIN1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoding(pub String);

impl Encoding {
    /// Whether text in it is only bytes, which no one checks and no one can convert.
    pub fn is_unchecked(&self) -> bool {
        self.0 == "SQL_ASCII"
    }
}

/// One table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// In their physical order, which may differ between two nodes that were upgraded along different ways.
    pub columns: Vec<Column>,
    /// Columns of the primary key, in its order.
    pub primary_key: Option<Vec<String>>,
    /// Columns of the other unique keys: immediate, without expressions or conditions.
    pub unique: Vec<Vec<String>>,
    /// Foreign keys to tables of the same schema.
    pub foreign_keys: Vec<ForeignKey>,
    /// The size of its rows on disk, in bytes, without what is stored out of line.
    pub bytes: u64,
}

impl Table {
    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type with modifiers, as `format_type` writes it.
    pub type_name: String,
    /// Whether it may be null.
    pub nullability: Nullability,
    /// Whether the server computes its value.
    pub generated: Generated,
}

/// Whether a column may be null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nullability {
    /// It may.
    Nullable,
    /// It may not.
    NotNull,
}

/// Whether and how the server computes a column's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Generated {
    /// It does not: the value is copied.
    No,
    /// From the row's other columns, by this expression: never copied.
    Stored(String),
    /// From a sequence, unless overridden: copied, COPY overrides both kinds of identity.
    Identity,
}

/// A foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    /// The constraint's name.
    pub name: String,
    /// Referencing columns.
    pub columns: Vec<String>,
    /// Referenced table.
    pub references: String,
    /// Referenced columns, one for each of `columns`.
    pub ref_columns: Vec<String>,
    /// What becomes of a row whose referenced row is deleted.
    pub on_delete: OnDelete,
}

/// A foreign key's action when the referenced row is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDelete {
    /// `NO ACTION` or `RESTRICT`: the deletion is refused.
    Refuse,
    /// The row is deleted as well.
    Cascade,
    /// The referencing columns become null.
    SetNull,
    /// The referencing columns get their defaults.
    SetDefault,
}

/// A sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// The table whose column owns it or, without an owner, takes its default from it.
    pub table: Option<String>,
}
