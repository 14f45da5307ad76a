//! Foreign keys between copied tables and tables that stay: triggers are off, so they are looked after here.
//!
//! A copied row that would reference a missing row of a table that stays refuses the replication. A row that stays and
//! has lost its other end gets what its foreign key says about a deletion, as if the row had been deleted on the replica
//! itself: it is deleted (`ON DELETE CASCADE`), its reference becomes null or its default, or the replication is refused.
//! So do the rows that an earlier replication by dump left dangling, once the table that they reference changes.

use std::collections::BTreeSet;

use ha_core::replication::tables::{Border, ForeignKey, OnDelete};
use tokio_postgres::Transaction;

use super::error::DbError;
use super::report::BorderChange;
use super::sql;

/// Validates and settles the borders of the tables that were written.
pub(super) async fn settle(
    replica: &Transaction<'_>,
    borders: &[Border],
    written: &BTreeSet<&str>,
) -> Result<Vec<BorderChange>, DbError> {
    let mut changes = Vec::new();
    for border in borders.iter().filter(|border| written.contains(border.copied())) {
        let (table, key) = border.key();
        let condition = condition(key, &operators(replica, table, key).await?);
        let rows = match border {
            Border::Inward { .. } => act(replica, table, key, &condition).await?,
            Border::Outward { .. } => 0,
        };
        let dangling = dangling(replica, table, key, &condition).await?;
        if dangling > 0 {
            return Err(DbError::Dangling {
                table: table.to_owned(),
                references: key.references.clone(),
                key: key.name.clone(),
                rows: dangling,
            });
        }
        if rows > 0 {
            changes.push(BorderChange { border: border.to_string(), rows, on_delete: key.on_delete });
        }
    }
    Ok(changes)
}

/// What the foreign key calls equal, column by column: never an operator that merely bears the name in `public`.
async fn operators(replica: &Transaction<'_>, table: &str, key: &ForeignKey) -> Result<Vec<String>, DbError> {
    let names = "SELECT n.nspname::text, o.oprname::text FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid \
        CROSS JOIN LATERAL pg_catalog.unnest(k.conpfeqop) WITH ORDINALITY AS u(operator, place) \
        JOIN pg_operator o ON o.oid = u.operator JOIN pg_namespace n ON n.oid = o.oprnamespace \
        WHERE c.relnamespace = 'public'::regnamespace::oid AND c.relname::text = $1 AND k.conname::text = $2 \
        ORDER BY u.place";
    let rows = replica.query(names, &[&table, &key.name]).await.map_err(DbError::replica(validating(key)))?;
    let each = rows.iter().map(|row| {
        let (schema, operator): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        // the characters of an operator need no quotes and bear none
        Ok(format!("OPERATOR({}.{operator})", sql::name(schema)))
    });
    each.collect::<Result<_, _>>().map_err(DbError::replica(validating(key)))
}

/// Rows whose reference is whole and leads nowhere.
fn condition(key: &ForeignKey, operators: &[String]) -> String {
    let whole = key.columns.iter().map(|column| format!("r.{} IS NOT NULL", sql::name(column)));
    let pairs = key.columns.iter().zip(&key.ref_columns);
    let equal = pairs.enumerate().map(|(at, (from, to))| {
        let equals = operators.get(at).map_or("OPERATOR(pg_catalog.=)", String::as_str);
        format!("f.{} {equals} r.{}", sql::name(to), sql::name(from))
    });
    format!(
        "{} AND NOT EXISTS (SELECT FROM {} AS f WHERE {})",
        whole.collect::<Vec<_>>().join(" AND "),
        sql::relation(&key.references),
        equal.collect::<Vec<_>>().join(" AND ")
    )
}

async fn dangling(
    replica: &Transaction<'_>,
    table: &str,
    key: &ForeignKey,
    condition: &str,
) -> Result<u64, DbError> {
    let relation = sql::relation(table);
    let count = format!("SELECT pg_catalog.count(*) FROM ONLY {relation} AS r WHERE {condition}");
    let row = replica.query_typed_one(&count, &[]).await.map_err(DbError::replica(validating(key)))?;
    Ok(row.get::<_, i64>(0).unsigned_abs())
}

/// Does to dangling rows what their foreign key says; returns their number.
///
/// With triggers on, so that further foreign keys among the tables that stay act as well.
async fn act(
    replica: &Transaction<'_>,
    table: &str,
    key: &ForeignKey,
    condition: &str,
) -> Result<u64, DbError> {
    let relation = sql::relation(table);
    let set = |value: &str| {
        let each = key.columns.iter().map(|column| format!("{} = {value}", sql::name(column)));
        format!("UPDATE ONLY {relation} AS r SET {} WHERE {condition}", each.collect::<Vec<_>>().join(", "))
    };
    let statement = match key.on_delete {
        OnDelete::Refuse => return Ok(0),
        OnDelete::Cascade => format!("DELETE FROM ONLY {relation} AS r WHERE {condition}"),
        OnDelete::SetNull => set("NULL"),
        OnDelete::SetDefault => set("DEFAULT"),
    };
    role(replica, "origin", key).await?;
    let rows = replica.execute_typed(&statement, &[]).await.map_err(DbError::replica(validating(key)))?;
    role(replica, "replica", key).await?;
    Ok(rows)
}

async fn role(replica: &Transaction<'_>, role: &str, key: &ForeignKey) -> Result<(), DbError> {
    let set = format!("SET LOCAL session_replication_role = {role}");
    replica.batch_execute(&set).await.map_err(DbError::replica(validating(key)))
}

fn validating(key: &ForeignKey) -> String {
    format!("validating foreign key \"{}\"", key.name)
}
