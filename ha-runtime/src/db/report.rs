//! What a replication did, or would do.

use std::fmt;
use std::time::Duration;

use ha_core::replication::tables::{OnDelete, TablePlan};
use serde::{Serialize, Serializer};

/// How rows are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Digests decide: only rows that differ travel.
    Incremental,
    /// Everything is copied, whatever the digests say.
    Full,
}

/// What a replication did; after a dry run, what it would do.
///
/// Serializes to the fields of `replicate --json` that are the database's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DatabaseReport {
    /// How rows were chosen.
    pub mode: Mode,
    /// Tables that are replicated.
    pub tables: usize,
    /// Those in which a row was written.
    pub tables_changed: usize,
    /// The same number under the name that files and database share.
    pub changed: usize,
    /// Rows that only the source had; with [`Mode::Full`], all rows that were copied.
    pub rows_inserted: u64,
    /// Rows that both had, not equal; with [`Mode::Full`] none: every row is deleted and inserted.
    pub rows_updated: u64,
    /// Rows that only the replica had; with [`Mode::Full`], all rows that were there.
    pub rows_deleted: u64,
    /// Sequences that were set.
    pub sequences_set: usize,
    /// Whether all replicated tables have the source's digests. False after a dry run that found differences.
    pub verified: bool,
    /// From the call to its return.
    #[serde(rename = "seconds", serialize_with = "in_seconds")]
    pub took: Duration,
    /// What changed, table by table.
    #[serde(skip)]
    pub changes: Vec<TableChange>,
    /// Rows of tables that stay whose foreign key acted; a dry run deletes nothing that they could lose and finds none.
    #[serde(skip)]
    pub borders: Vec<BorderChange>,
    /// What was planned.
    #[serde(skip)]
    pub plan: TablePlan,
}

/// What changed in one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableChange {
    /// Its name.
    pub table: String,
    /// Rows that only the source had.
    pub inserted: u64,
    /// Rows that both had, not equal.
    pub updated: u64,
    /// Rows that only the replica had.
    pub deleted: u64,
}

/// Rows of a table that is not copied, which had lost the copied rows that they referenced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BorderChange {
    /// The foreign key: `auth_session (tenant_uuid) -> auth_tenant (uuid)`.
    pub border: String,
    /// How many.
    pub rows: u64,
    /// What became of them, as their foreign key says.
    pub on_delete: OnDelete,
}

fn in_seconds<S: Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(took.as_millis() as f64 / 1000.0)
}

impl DatabaseReport {
    pub(super) fn new(mode: Mode, plan: TablePlan, changes: Vec<TableChange>) -> DatabaseReport {
        let sum = |of: fn(&TableChange) -> u64| changes.iter().map(of).sum();
        DatabaseReport {
            mode,
            tables: plan.tables.len(),
            tables_changed: changes.len(),
            changed: changes.len(),
            rows_inserted: sum(|change| change.inserted),
            rows_updated: sum(|change| change.updated),
            rows_deleted: sum(|change| change.deleted),
            sequences_set: 0,
            verified: false,
            took: Duration::ZERO,
            borders: Vec::new(),
            changes,
            plan,
        }
    }
}

impl fmt::Display for DatabaseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.plan)?;
        for TableChange { table, inserted, updated, deleted } in &self.changes {
            writeln!(f, "  {table}: {inserted} to insert, {updated} to update, {deleted} to delete")?;
        }
        for BorderChange { border, rows, on_delete } in &self.borders {
            let done = match on_delete {
                OnDelete::Cascade => "deleted",
                OnDelete::SetNull => "set to null",
                OnDelete::SetDefault => "set to the default",
                OnDelete::Refuse => "refused",
            };
            writeln!(f, "  {border}: {rows} rows that lost their other end {done}")?;
        }
        writeln!(
            f,
            "{} of {} tables differ, {} sequences: {} rows to insert, {} to update, {} to delete",
            self.tables_changed,
            self.tables,
            self.sequences_set,
            self.rows_inserted,
            self.rows_updated,
            self.rows_deleted
        )
    }
}
