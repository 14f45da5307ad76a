//! Reads a database's shape.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use ha_core::replication::tables::{
    Catalog, Column, Encoding, ForeignKey, Generated, Nullability, OnDelete, Sequence, ServerVersion, Table,
};
use tokio_postgres::{Client, Error, Row, Transaction};

use super::error::DbError;
use super::{session, sql};

const DATABASE: &str = "SELECT current_setting('server_version_num')::int8, pg_encoding_to_char(encoding)::text \
    FROM pg_database WHERE datname = current_database()";

/// Ordinary tables of `public` that no extension owns. `attgenerated` is read through jsonb, which is slow and so
/// done for defaults only: PostgreSQL 11 has no such column.
const COLUMNS: &str = "SELECT c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull, \
        a.attidentity <> '', CASE WHEN a.atthasdef THEN CASE WHEN coalesce(to_jsonb(a)->>'attgenerated', '') <> '' \
            THEN pg_get_expr(d.adbin, d.adrelid) END END \
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum \
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND NOT EXISTS \
        (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e') \
    ORDER BY c.relname, a.attnum";

/// Sizes of the same tables, and some more.
const SIZES: &str = "SELECT c.relname::text, pg_relation_size(c.oid) FROM pg_class c \
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'";

/// Keys that hold at every moment, for every row, and for plain columns.
const KEYS: &str = "SELECT c.relname::text, i.indisprimary, \
        array_agg(a.attname::text ORDER BY k.place) \
    FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid \
    CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place) \
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum \
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND k.place <= i.indnkeyatts \
        AND i.indisunique AND i.indisvalid AND (i.indimmediate OR i.indisprimary) \
        AND i.indpred IS NULL AND i.indexprs IS NULL \
    GROUP BY c.relname, i.indisprimary, i.indexrelid ORDER BY c.relname, 3";

const FOREIGN_KEYS: &str = "SELECT c.relname::text, k.conname::text, r.relname::text, k.confdeltype::text, \
        (SELECT array_agg(a.attname::text ORDER BY n) FROM unnest(k.conkey) WITH ORDINALITY AS u(attnum, n) \
            JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum), \
        (SELECT array_agg(a.attname::text ORDER BY n) FROM unnest(k.confkey) WITH ORDINALITY AS u(attnum, n) \
            JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.attnum) \
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_class r ON r.oid = k.confrelid \
    WHERE k.contype = 'f' AND c.relnamespace = 'public'::regnamespace AND r.relnamespace = c.relnamespace \
    ORDER BY c.relname, k.conname";

/// Owner, or else the table that takes a default from it.
pub(super) const SEQUENCES: &str = "SELECT s.relname::text, coalesce( \
        (SELECT o.relname::text FROM pg_depend d JOIN pg_class o ON o.oid = d.refobjid \
            WHERE d.classid = 'pg_class'::regclass AND d.objid = s.oid AND d.deptype IN ('a', 'i') \
            AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0 LIMIT 1), \
        (SELECT min(t.relname::text) FROM pg_depend d JOIN pg_attrdef f ON f.oid = d.objid \
            JOIN pg_class t ON t.oid = f.adrelid \
            WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = s.oid)) \
    FROM pg_class s WHERE s.relnamespace = 'public'::regnamespace AND s.relkind = 'S' ORDER BY 1";

const ENUMS: &str = "SELECT format_type(t.oid, NULL), array_agg(e.enumlabel::text ORDER BY e.enumsortorder) \
    FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid GROUP BY t.oid";

/// The shape of a database, in a snapshot of its own; nothing is locked or written.
///
/// # Errors
///
/// The server does not answer, or refuses to tell.
pub async fn catalog(client: &mut Client) -> Result<Catalog, DbError> {
    let snapshot = session::snapshot(client).await?;
    let (catalog, _) = read(&snapshot).await.map_err(DbError::source("reading the catalog"))?;
    Ok(catalog)
}

/// What a catalog is made of, hashed: equal on two servers whose tables, keys, sequences and types are.
///
/// The other node's catalog has 150 kilobytes, which need not travel when they are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fingerprint([Part; 5]);

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
        let query =
            format!("SELECT count(*),coalesce(sum(hashtextextended(x::text,0)),0)::text FROM ({part}) AS x");
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

/// The shape of the database that the transaction sees, and its fingerprint.
pub(super) async fn read(transaction: &Transaction<'_>) -> Result<(Catalog, Fingerprint), Error> {
    let [of_columns, of_keys, of_foreign_keys, of_sequences, of_enums] =
        [COLUMNS, KEYS, FOREIGN_KEYS, SEQUENCES, ENUMS]
            .map(|part| format!("SELECT x.*,hashtextextended(x::text,0) FROM ({part}) AS x"));
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
    Ok((catalog, fingerprint))
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
