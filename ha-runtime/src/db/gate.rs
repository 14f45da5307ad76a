//! What PostgreSQL counts anyway: a cheap look that tells whether a digest of all tables can find anything new.
//!
//! One statement, prepared once, that reads no row of any table: 400 bytes out, 250 back, and one to two and a half
//! milliseconds of the server's time for the 189 tables of a Wazo. What it sees:
//!
//! - rows: the statistics' counters of inserted, updated and deleted rows and the file of each table that is copied, so
//!   that rows written to excluded tables (call events, many a second) are no change, while TRUNCATE is one;
//! - structure: tables, sequences, columns, keys and enumerated types;
//! - sequences: their present values, of those that are copied;
//! - whether both looks may be compared at all: the server's start, also after a crash, and resets of the statistics.
//!
//! # Never trust it alone
//!
//! **No change seen is no proof that there is none.** Structure and sequences are read as they are, but each session of the
//! server reports its counts when a transaction has ended, at most once a second; what it wrote right after a report comes
//! with its next transaction or, when it stays idle, up to ten seconds later. A session may switch counting off for itself
//! (`track_counts`, a superuser's setting). So whoever uses this computes all digests at least every hour, and after every
//! [`Changes::restarted`]. The other way round there are false alarms: a transaction that was rolled back and a rewritten table
//! count, too.
//!
//! Take a look *before* the replication's snapshot and compare the next one with it: then a change that comes in between is
//! seen later, not lost. The position in the write-ahead log would be useless here: rows of excluded tables move it.

use std::collections::{BTreeMap, BTreeSet};

use ha_core::replication::tables::{Exclusions, LeftBecause};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, Row, Statement};

use super::error::DbError;
use super::{catalog, sql};

/// Whoever drops or alters a sequence locks it; a later look succeeds.
const LOCK_TIMEOUT: &str = "SET lock_timeout = '1s'";

/// From PostgreSQL 15 on.
const IS_PROMPT: &str = "SELECT pg_catalog.current_setting('server_version_num')::int >= 150000";

/// What may take part, and whether it belongs to an extension.
const TABLES: &str = "SELECT c.oid, c.relname::text, c.relkind::text, EXISTS \
        (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass::oid AND e.objid = c.oid AND e.deptype = 'e') \
    FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace::oid AND c.relkind IN ('r', 'S')";

/// The state of one table's counters; `$1` are those that take no part.
const COUNTS: &str = "pg_catalog.hashtextextended(pg_catalog.concat_ws(' ', c.oid, c.relfilenode, pg_catalog.pg_stat_get_tuples_inserted(c.oid), \
    pg_catalog.pg_stat_get_tuples_updated(c.oid), pg_catalog.pg_stat_get_tuples_deleted(c.oid)), 0)";

/// `c`: tables that take part, also those that were made since the gate was opened.
const COPIED: &str = "pg_class c WHERE c.relnamespace = 'public'::regnamespace::oid AND c.relkind = 'r' \
    AND c.oid <> ALL ($1::oid[])";

/// When what was counted began: the server's start, the last reset of this database's counters, and the time at which a
/// server that went through a crash recovery discarded everything, which its own start does not show.
const BEGAN: &str = "SELECT pg_catalog.concat_ws(' ', d.oid, extract(epoch FROM pg_catalog.pg_postmaster_start_time()), \
        coalesce(extract(epoch FROM pg_catalog.pg_stat_get_db_stat_reset_time(d.oid)), 0), \
        coalesce(extract(epoch FROM pg_catalog.pg_stat_get_bgwriter_stat_reset_time()), 0)) \
    FROM pg_database d WHERE d.datname = pg_catalog.current_database()";

/// A catalog's row is written anew by whatever changes it, except for what VACUUM and ANALYZE note there; `xmin` tells. Not
/// of `pg_class`, where also a TRUNCATE writes.
///
/// Of what takes no part the name alone counts: whoever is renamed may take part.
const STRUCTURE: &str = "SELECT pg_catalog.concat_ws(' ', \
    (SELECT pg_catalog.sum(pg_catalog.hashtextextended(relname::text, oid::int8)) FROM pg_class \
        WHERE oid = ANY ($1::oid[])), \
    (SELECT pg_catalog.sum(pg_catalog.hashtextextended(pg_catalog.concat_ws(' ', oid, relname, relkind, relnatts), 0)) FROM pg_class \
        WHERE relnamespace = 'public'::regnamespace::oid AND relkind IN ('r', 'S') AND oid <> ALL ($1::oid[])), \
    (SELECT pg_catalog.sum(pg_catalog.hashint8extended(a.attrelid::int8 << 32 | a.xmin::text::int8, a.attnum)) \
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE c.relnamespace = 'public'::regnamespace::oid \
        AND c.relkind = 'r' AND c.oid <> ALL ($1::oid[]) AND a.attnum > 0), \
    (SELECT pg_catalog.sum(pg_catalog.hashint8extended(i.indexrelid::int8, i.xmin::text::int8)) FROM pg_index i \
        JOIN pg_class c ON c.oid = i.indrelid WHERE c.relnamespace = 'public'::regnamespace::oid \
        AND c.oid <> ALL ($1::oid[])), \
    (SELECT pg_catalog.sum(pg_catalog.hashint8extended(k.oid::int8, k.xmin::text::int8)) FROM pg_constraint k \
        WHERE k.connamespace = 'public'::regnamespace::oid AND k.conrelid <> ALL ($1::oid[])), \
    (SELECT pg_catalog.sum(pg_catalog.hashint8extended(oid::int8, xmin::text::int8)) FROM pg_enum))";

/// The statement that looks, and what it was made for.
///
/// It keeps up with the database's structure by itself.
#[derive(Debug)]
pub struct Gate {
    exclusions: Exclusions,
    /// Relations that take no part.
    left: Vec<u32>,
    statement: Statement,
    /// For which the statement was made: another one may have sequences that it does not name.
    structure: String,
    /// Whether sessions report soon.
    prompt: bool,
}

/// What the server had counted at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    began: String,
    structure: String,
    rows: String,
    sequences: String,
    prompt: bool,
}

/// What is other than it was, as far as the server has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changes {
    /// The counts cannot be compared: the server was started in between or recovered from a crash, its statistics were
    /// reset, or this is another database. Anything may have changed.
    pub restarted: bool,
    /// Tables, sequences, columns, keys or types.
    pub structure: bool,
    /// Rows of tables that are copied.
    pub rows: bool,
    /// Values of sequences that are copied.
    pub sequences: bool,
}

/// The counters of each table that takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableCounts(BTreeMap<String, i64>);

impl Gate {
    /// Prepares to look at the database of `client`, a connection that serves nothing else: it waits for no lock longer than a
    /// second from now on.
    ///
    /// # Errors
    ///
    /// [`DbError::Source`]: the server does not answer, or refuses to tell.
    pub async fn open(client: &Client, exclusions: &Exclusions) -> Result<Gate, DbError> {
        let opened = prepare(client, exclusions).await;
        let (left, statement) = opened.map_err(DbError::source("preparing to look for changes"))?;
        let version = client.query_one(IS_PROMPT, &[]).await.and_then(|row| row.try_get(0));
        let prompt = version.map_err(DbError::source("asking for the server's version"))?;
        Ok(Gate { exclusions: exclusions.clone(), left, statement, structure: String::new(), prompt })
    }

    /// What the server has counted by now; one round trip, unless the structure changed.
    ///
    /// # Errors
    ///
    /// [`DbError::NotCounted`]: it counts nothing. [`DbError::Source`]: it does not answer, or a sequence is locked. Either
    /// way nothing is known, which has to count as a change.
    pub async fn look(&mut self, client: &Client) -> Result<Counted, DbError> {
        let doing = "looking for changes";
        let row = match client.query_one(&self.statement, &[&self.left]).await {
            Ok(row) => row,
            Err(error) if names_what_is_gone(&error) => return self.look_anew(client).await,
            Err(error) => return Err(DbError::source(doing)(error)),
        };
        let counted = counted(&row, self.prompt).map_err(DbError::source(doing))?;
        match counted {
            Some(counted) if counted.structure == self.structure => Ok(counted),
            Some(_) => self.look_anew(client).await,
            None => Err(DbError::NotCounted),
        }
    }

    /// Has the client's own session report its counts, too: they might come ten seconds later.
    pub async fn report_own(&self, client: &Client) {
        if self.prompt
            && let Err(error) = client.batch_execute("SELECT pg_catalog.pg_stat_force_next_flush()").await
        {
            tracing::debug!("the session's own counts: {error}");
        }
    }

    /// The same, with a statement for the structure as it is now.
    async fn look_anew(&mut self, client: &Client) -> Result<Counted, DbError> {
        let again = "looking for changes in a new structure";
        *self = Gate::open(client, &self.exclusions).await?;
        let row = client.query_one(&self.statement, &[&self.left]).await.map_err(DbError::source(again))?;
        let counted =
            counted(&row, self.prompt).map_err(DbError::source(again))?.ok_or(DbError::NotCounted)?;
        // it may have changed once more since the statement was made; then the next look begins anew as well
        self.structure.clone_from(&counted.structure);
        Ok(counted)
    }

    /// The counters of each table by itself, about 8 KB for a Wazo: to learn which tables changed, keep one of before.
    ///
    /// # Errors
    ///
    /// [`DbError::Source`]: the server does not answer.
    pub async fn tables(&self, client: &Client) -> Result<TableCounts, DbError> {
        let text = format!("SELECT c.relname::text, {COUNTS} FROM {COPIED}");
        let rows = client.query(&text, &[&self.left]).await;
        let rows = rows.map_err(DbError::source("looking which tables changed"))?;
        let each = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        each.collect::<Result<_, _>>()
            .map(TableCounts)
            .map_err(DbError::source("looking which tables changed"))
    }
}

#[cfg(test)]
impl Counted {
    /// So many rows were written.
    pub(crate) fn of(rows: u64) -> Counted {
        let of = |text: &str| text.to_owned();
        Counted {
            began: of("0"),
            structure: of("0"),
            rows: rows.to_string(),
            sequences: of("0"),
            prompt: true,
        }
    }
}

impl Counted {
    /// Whether a change that was made is in the counts within seconds. Before PostgreSQL 15 a session that rests keeps its
    /// counts for as long as it rests: then equal counts say nothing about what is there.
    pub fn is_prompt(&self) -> bool {
        self.prompt
    }

    /// What changed from `earlier` until this look.
    pub fn changes_since(&self, earlier: &Counted) -> Changes {
        Changes {
            restarted: self.began != earlier.began,
            structure: self.structure != earlier.structure,
            rows: self.rows != earlier.rows,
            sequences: self.sequences != earlier.sequences,
        }
    }
}

impl Changes {
    /// Whether nothing was seen; which is no proof, see the module.
    pub fn is_none(&self) -> bool {
        *self == Changes::default()
    }
}

impl TableCounts {
    /// The tables whose rows may have changed since `earlier`, new ones and those that are gone included.
    ///
    /// Only as far as [`Changes::restarted`] and [`Changes::structure`] are not set: otherwise it may be any.
    pub fn changed_since<'a>(&'a self, earlier: &'a TableCounts) -> BTreeSet<&'a str> {
        let names = self.0.keys().chain(earlier.0.keys());
        names.filter(|name| self.0.get(*name) != earlier.0.get(*name)).map(String::as_str).collect()
    }
}

/// What takes no part, and the statement for all that does.
async fn prepare(client: &Client, exclusions: &Exclusions) -> Result<(Vec<u32>, Statement), Error> {
    client.batch_execute(LOCK_TIMEOUT).await?;
    let (mut left, mut tables, mut sequences) = (Vec::new(), BTreeSet::new(), BTreeMap::new());
    for row in client.query(TABLES, &[]).await? {
        let (oid, name, kind, of_extension): (u32, String, String, bool) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        if kind == "S" {
            sequences.insert(name, oid);
        } else if of_extension || is_left(exclusions, &name) {
            left.push(oid);
        } else {
            tables.insert(name);
        }
    }
    for row in client.query(catalog::SEQUENCES, &[]).await? {
        let (name, table): (String, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
        let stays = table.map_or_else(|| is_left(exclusions, &name), |table| !tables.contains(&table));
        if stays {
            left.extend(sequences.remove(&name));
        }
    }
    let statement = client.prepare(&statement(&sequences)).await?;
    Ok((left, statement))
}

/// A new schema's revision is not copied, but must be noticed.
fn is_left(exclusions: &Exclusions, name: &str) -> bool {
    match exclusions.reason(name) {
        None | Some(LeftBecause::Revision) => false,
        Some(LeftBecause::Excluded(_) | LeftBecause::Settings | LeftBecause::OnlyOnReplica) => true,
    }
}

fn statement(sequences: &BTreeMap<String, u32>) -> String {
    // each sequence is read as the relation that it is: the catalog's function does not tell a value that was set but not
    // used yet
    let values = sequences.iter().map(|(name, oid)| {
        format!(" UNION ALL SELECT {oid}::oid, last_value, is_called FROM {}", sql::relation(name))
    });
    let values: String = values.collect();
    format!(
        "SELECT pg_catalog.current_setting('track_counts')::bool, ({BEGAN}), ({STRUCTURE}), \
            (SELECT coalesce(pg_catalog.sum({COUNTS}), 0)::text FROM {COPIED}), \
            (SELECT pg_catalog.sum(pg_catalog.hashtextextended(pg_catalog.concat_ws(' ', oid, last_value, is_called), 0))::text \
                FROM (SELECT 0::oid AS oid, 0::int8 AS last_value, false AS is_called{values}) s)"
    )
}

/// `None`: the server does not count.
fn counted(row: &Row, prompt: bool) -> Result<Option<Counted>, Error> {
    if !row.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    let (began, structure) = (row.try_get(1)?, row.try_get(2)?);
    Ok(Some(Counted { began, structure, rows: row.try_get(3)?, sequences: row.try_get(4)?, prompt }))
}

/// A sequence that the statement names was dropped, renamed or replaced.
fn names_what_is_gone(error: &Error) -> bool {
    let gone = [SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_COLUMN, SqlState::FEATURE_NOT_SUPPORTED];
    error.code().is_some_and(|code| gone.contains(code))
}
