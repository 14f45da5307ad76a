//! Reads a database's shape.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::try_join_all;
use ha_core::replication::tables::{
    Catalog, Column, Encoding, ForeignKey, Generated, Nullability, OnDelete, PlannedTable, Sequence,
    ServerVersion, Table,
};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row, Transaction};

use super::error::DbError;
use super::{session, sql};

const DATABASE: &str = "SELECT pg_catalog.current_setting('server_version_num')::int8, pg_catalog.pg_encoding_to_char(encoding)::text \
    FROM pg_database WHERE datname = pg_catalog.current_database()";

/// Ordinary tables of `public` that no extension owns. `attgenerated` is read through jsonb, which is slow and so
/// done for defaults only: PostgreSQL 11 has no such column.
const COLUMNS: &str = "SELECT c.relname::text, a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, \
        a.attidentity <> '', CASE WHEN a.atthasdef THEN CASE WHEN coalesce(pg_catalog.to_jsonb(a)->>'attgenerated'::text, '') <> '' \
            THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END END \
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum \
    WHERE c.relnamespace = 'public'::regnamespace::oid AND c.relkind = 'r' AND NOT EXISTS \
        (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass::oid AND e.objid = c.oid AND e.deptype = 'e') \
    ORDER BY c.relname, a.attnum";

/// Sizes of the same tables, and some more: of the first file of each, which is all of it up to 1 GB.
///
/// Asked of the file, because `pg_relation_size` waits for whoever has locked any of these tables.
const SIZES: &str = "SELECT c.relname::text, \
        (pg_catalog.pg_stat_file(pg_catalog.pg_relation_filepath(c.oid), true)).size FROM pg_class c \
    WHERE c.relnamespace = 'public'::regnamespace::oid AND c.relkind = 'r'";

/// Those of some tables whose file is empty.
const BARE: &str = "SELECT c.relname::text FROM pg_class c \
    WHERE c.relnamespace = 'public'::regnamespace::oid AND c.relkind = 'r' AND c.relname::text = ANY ($1) \
        AND (pg_catalog.pg_stat_file(pg_catalog.pg_relation_filepath(c.oid), true)).size = 0";

/// Keys that hold at every moment, for every row, and for plain columns.
const KEYS: &str = "SELECT c.relname::text, i.indisprimary, \
        pg_catalog.array_agg(a.attname::text ORDER BY k.place) \
    FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid \
    CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place) \
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum \
    WHERE c.relnamespace = 'public'::regnamespace::oid AND c.relkind = 'r' AND k.place <= i.indnkeyatts \
        AND i.indisunique AND i.indisvalid AND (i.indimmediate OR i.indisprimary) \
        AND i.indpred IS NULL AND i.indexprs IS NULL \
    GROUP BY c.relname, i.indisprimary, i.indexrelid ORDER BY c.relname, 3";

const FOREIGN_KEYS: &str = "SELECT c.relname::text, k.conname::text, r.relname::text, k.confdeltype::text, \
        (SELECT pg_catalog.array_agg(a.attname::text ORDER BY n) FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY AS u(attnum, n) \
            JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum), \
        (SELECT pg_catalog.array_agg(a.attname::text ORDER BY n) FROM pg_catalog.unnest(k.confkey) WITH ORDINALITY AS u(attnum, n) \
            JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.attnum) \
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_class r ON r.oid = k.confrelid \
    WHERE k.contype = 'f' AND c.relnamespace = 'public'::regnamespace::oid AND r.relnamespace = c.relnamespace \
    ORDER BY c.relname, k.conname";

/// Owner, or else the table that takes a default from it.
pub(super) const SEQUENCES: &str = "SELECT s.relname::text, coalesce( \
        (SELECT o.relname::text FROM pg_depend d JOIN pg_class o ON o.oid = d.refobjid \
            WHERE d.classid = 'pg_class'::regclass::oid AND d.objid = s.oid AND d.deptype IN ('a', 'i') \
            AND d.refclassid = 'pg_class'::regclass::oid AND d.refobjsubid > 0 LIMIT 1), \
        (SELECT pg_catalog.min(t.relname::text) FROM pg_depend d JOIN pg_attrdef f ON f.oid = d.objid \
            JOIN pg_class t ON t.oid = f.adrelid \
            WHERE d.classid = 'pg_attrdef'::regclass::oid AND d.refclassid = 'pg_class'::regclass::oid AND d.refobjid = s.oid)) \
    FROM pg_class s WHERE s.relnamespace = 'public'::regnamespace::oid AND s.relkind = 'S' ORDER BY 1";

const ENUMS: &str = "SELECT pg_catalog.format_type(t.oid, NULL), pg_catalog.array_agg(e.enumlabel::text ORDER BY e.enumsortorder) \
    FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid GROUP BY t.oid";

/// Whoever only wants to know the shape waits no longer for a migration.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// The tables of the snapshot that are no longer the ones that it sees: rewritten or emptied (the file is another one,
/// asked of the catalog as it is now), dropped, or replaced by another of that name.
const REMADE: &str = "SELECT c.relname::text FROM pg_class c \
    WHERE c.relnamespace = 'public'::regnamespace::oid AND c.relkind = 'r' \
        AND (c.relfilenode IS DISTINCT FROM pg_catalog.pg_relation_filenode(c.oid) \
            OR c.oid IS DISTINCT FROM pg_catalog.to_regclass(pg_catalog.concat('public.', \
                pg_catalog.quote_ident(c.relname::text)))::oid)";

/// A table whose rows the snapshot does not see although they are there: neither a rewriting `ALTER TABLE` nor `TRUNCATE`
/// keeps the old ones for it (PostgreSQL's "Caveats" of concurrency control).
///
/// Final for tables that the transaction has read: from then on its locks keep such statements out.
pub(super) async fn remade(
    snapshot: &Transaction<'_>,
    tables: &[&PlannedTable],
) -> Result<Option<String>, Error> {
    for row in snapshot.query(REMADE, &[]).await? {
        let name: String = row.try_get(0)?;
        if tables.iter().any(|table| table.name == name) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// From this size on, in bytes, it is worth asking whether a table is one of the first to be copied.
const LARGE: u64 = 1024 * 1024;

/// The source's large tables of which the replica has no row, nor room for one.
///
/// Somebody may write one until the table is locked, as with any answer before that.
pub(super) async fn bare(replica: &Transaction<'_>, source: &Catalog) -> Result<BTreeSet<String>, Error> {
    let large = source.tables.iter().filter(|(_, table)| table.bytes >= LARGE);
    let large: Vec<&str> = large.map(|(name, _)| name.as_str()).collect();
    if large.is_empty() {
        return Ok(BTreeSet::new());
    }
    let rows = replica.query_typed(BARE, &[(&large, Type::TEXT_ARRAY)]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Whether a trigger or a rule of any table fires although triggers are off (`ENABLE ALWAYS`, `ENABLE REPLICA`).
pub(super) async fn fires_always(replica: &Transaction<'_>) -> Result<bool, Error> {
    let fires = "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgenabled IN ('A', 'R')) \
        OR EXISTS (SELECT FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class \
            WHERE r.ev_enabled IN ('A', 'R') AND c.relkind = 'r')";
    replica.query_one(fires, &[]).await?.try_get(0)
}

/// The shape of a database, in a snapshot of its own; nothing is locked or written.
///
/// # Errors
///
/// The server does not answer, or refuses to tell.
pub async fn catalog(client: &mut Client) -> Result<Catalog, DbError> {
    let snapshot = session::snapshot(client, LOCK_TIMEOUT).await?;
    let shape = read(&snapshot).await.map_err(DbError::source("reading the catalog"))?;
    Ok(shape.catalog)
}

/// What a catalog is made of, hashed: equal on two servers whose tables, keys, sequences and types are.
///
/// The other node's catalog has 150 kilobytes, which need not travel when they are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fingerprint([Part; 5]);

/// A database's shape, with its fingerprint.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) catalog: Catalog,
    pub(super) fingerprint: Fingerprint,
}

/// The number of rows of one part, and the sum of their hashes as the server writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    rows: i64,
    sum: String,
}

impl Part {
    /// Of rows whose last column is their hash.
    fn of(rows: &[Row]) -> Result<Part, Error> {
        let mut sum = 0;
        for row in rows {
            sum += i128::from(row.try_get::<_, i64>(row.len() - 1)?);
        }
        Ok(Part { rows: rows.len() as i64, sum: sum.to_string() })
    }
}

/// The fingerprint of the catalog that the transaction sees.
pub(super) async fn fingerprint(transaction: &Transaction<'_>) -> Result<Fingerprint, Error> {
    let part = async |part: &'static str| {
        let query = format!(
            "SELECT pg_catalog.count(*),coalesce(pg_catalog.sum(pg_catalog.hashtextextended(x::text,0)),0)::text FROM ({part}) AS x"
        );
        let row = transaction.query_typed_one(&query, &[]).await?;
        Ok(Part { rows: row.try_get(0)?, sum: row.try_get(1)? })
    };
    let (columns, keys, foreign_keys, sequences, enums) =
        tokio::try_join!(part(COLUMNS), part(KEYS), part(FOREIGN_KEYS), part(SEQUENCES), part(ENUMS))?;
    Ok(Fingerprint([columns, keys, foreign_keys, sequences, enums]))
}

/// The shape of a database whose fingerprint is that of a known one: what a fingerprint does not say is asked for.
pub(super) async fn alike(transaction: &Transaction<'_>, known: &Catalog) -> Result<Catalog, Error> {
    let (database, revisions) =
        tokio::try_join!(transaction.query_typed_one(DATABASE, &[]), revisions(transaction, &known.tables))?;
    Ok(Catalog { server: version(&database)?, encoding: encoding(&database)?, revisions, ..known.clone() })
}

fn version(database: &Row) -> Result<ServerVersion, Error> {
    Ok(ServerVersion(u32::try_from(database.try_get::<_, i64>(0)?).unwrap_or(0)))
}

fn encoding(database: &Row) -> Result<Encoding, Error> {
    Ok(Encoding(database.try_get(1)?))
}

/// The shape of the database that the transaction sees; read only if it is not the known one.
///
/// The sizes of a known one stay as they were read.
pub(super) async fn shape(transaction: &Transaction<'_>, known: Option<Shape>) -> Result<Shape, Error> {
    match known {
        Some(Shape { catalog, fingerprint: known }) if fingerprint(transaction).await? == known => {
            Ok(Shape { catalog: alike(transaction, &catalog).await?, fingerprint: known })
        }
        Some(_) | None => read(transaction).await,
    }
}

/// The shape of the database that the transaction sees.
pub(super) async fn read(transaction: &Transaction<'_>) -> Result<Shape, Error> {
    let [of_columns, of_keys, of_foreign_keys, of_sequences, of_enums] =
        [COLUMNS, KEYS, FOREIGN_KEYS, SEQUENCES, ENUMS]
            .map(|part| format!("SELECT x.*,pg_catalog.hashtextextended(x::text,0) FROM ({part}) AS x"));
    // polled together they are sent together: the way to the other node is walked twice, not fourteen times
    let (database, columns, sizes, keys, foreign_keys, sequences, enums) = tokio::try_join!(
        transaction.query_typed_one(DATABASE, &[]),
        transaction.query_typed(&of_columns, &[]),
        transaction.query_typed(SIZES, &[]),
        transaction.query_typed(&of_keys, &[]),
        transaction.query_typed(&of_foreign_keys, &[]),
        transaction.query_typed(&of_sequences, &[]),
        transaction.query_typed(&of_enums, &[])
    )?;
    let parts = [&columns, &keys, &foreign_keys, &sequences, &enums].map(|rows| Part::of(rows));
    let [of_columns, of_keys, of_foreign_keys, of_sequences, of_enums] = parts;
    let fingerprint = Fingerprint([of_columns?, of_keys?, of_foreign_keys?, of_sequences?, of_enums?]);
    let mut tables: BTreeMap<String, Table> = BTreeMap::new();
    for row in columns {
        tables.entry(row.try_get(0)?).or_default().columns.push(column(&row)?);
    }
    for row in sizes {
        let Some(table) = tables.get_mut(row.try_get::<_, &str>(0)?) else { continue };
        // no size: the table was dropped meanwhile, which its first reader will say
        table.bytes = row.try_get::<_, Option<i64>>(1)?.unwrap_or(0).unsigned_abs();
    }
    for row in keys {
        let Some(table) = tables.get_mut(row.try_get::<_, &str>(0)?) else { continue };
        let columns: Vec<String> = row.try_get(2)?;
        if row.try_get(1)? {
            table.primary_key = Some(columns);
        } else {
            table.unique.push(columns);
        }
    }
    for row in foreign_keys {
        let Some(table) = tables.get_mut(row.try_get::<_, &str>(0)?) else { continue };
        table.foreign_keys.push(foreign_key(&row)?);
    }
    let sequence = |row: Row| Ok((row.try_get(0)?, Sequence { table: row.try_get(1)? }));
    let labels = |row: Row| Ok((row.try_get(0)?, row.try_get(1)?));
    let catalog = Catalog {
        server: version(&database)?,
        encoding: encoding(&database)?,
        revisions: revisions(transaction, &tables).await?,
        tables,
        sequences: sequences.into_iter().map(sequence).collect::<Result<_, Error>>()?,
        enums: enums.into_iter().map(labels).collect::<Result<_, Error>>()?,
    };
    Ok(Shape { catalog, fingerprint })
}

fn column(row: &Row) -> Result<Column, Error> {
    let generated = match (row.try_get(4)?, row.try_get(5)?) {
        (_, Some(expression)) => Generated::Stored(expression),
        (true, None) => Generated::Identity,
        (false, None) => Generated::No,
    };
    let nullability = if row.try_get(3)? { Nullability::NotNull } else { Nullability::Nullable };
    Ok(Column { name: row.try_get(1)?, type_name: row.try_get(2)?, nullability, generated })
}

fn foreign_key(row: &Row) -> Result<ForeignKey, Error> {
    let on_delete = match row.try_get(3)? {
        "c" => OnDelete::Cascade,
        "n" => OnDelete::SetNull,
        "d" => OnDelete::SetDefault,
        // NO ACTION and RESTRICT; what a later release may add must not delete anything either
        _ => OnDelete::Refuse,
    };
    Ok(ForeignKey {
        name: row.try_get(1)?,
        columns: row.try_get(4)?,
        references: row.try_get(2)?,
        ref_columns: row.try_get(5)?,
        on_delete,
    })
}

/// Few and small, and asked for together.
async fn revisions(
    transaction: &Transaction<'_>,
    tables: &BTreeMap<String, Table>,
) -> Result<BTreeMap<String, Vec<String>>, Error> {
    let revisions = tables.iter().filter(|(name, _)| Catalog::is_revision_table(name));
    let each = revisions.map(|(name, table)| revision(transaction, name, table));
    Ok(try_join_all(each).await?.into_iter().collect())
}

async fn revision(
    transaction: &Transaction<'_>,
    name: &str,
    table: &Table,
) -> Result<(String, Vec<String>), Error> {
    let names: Vec<String> = table.columns.iter().map(|column| sql::name(&column.name)).collect();
    let text = format!("SELECT ROW({})::text FROM {}", names.join(","), sql::relation(name));
    let mut rows = Vec::new();
    for row in transaction.query_typed(&text, &[]).await? {
        let text: String = row.try_get(0)?;
        rows.push(text.trim_start_matches('(').trim_end_matches(')').to_owned());
    }
    rows.sort();
    Ok((name.to_owned(), rows))
}
