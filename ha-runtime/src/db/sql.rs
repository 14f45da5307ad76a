//! SQL text: names quoted, digests of rows.
//!
//! All statements run as a superuser, and whoever may create a function in `public` could have it run by one, with a
//! signature that fits the arguments better than PostgreSQL's own: `hashtextextended(varchar, bigint)`. So every function is
//! called as one of `pg_catalog`, operators only with operands of exactly their types, and no cast that a type's owner could
//! have defined: an enumerated type becomes text by its output function, which is half the work of `concat`. The exception
//! is what a digest says once for each of all tables: `count(*)` and `sum` of a bigint have arguments that fit exactly, and of
//! two that do PostgreSQL takes its own, whose schema it looks into first.

use ha_core::replication::tables::{Hashed, Nullability, PlannedColumn, PlannedTable, RowKey};

/// An identifier, quoted.
pub(super) fn name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A table or sequence of the schema `public`.
pub(super) fn relation(relation: &str) -> String {
    // behind a dot no word is a keyword
    let is_plain = relation.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && relation.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if is_plain { format!("public.{relation}") } else { format!("public.{}", name(relation)) }
}

/// A text literal that means the same whatever `standard_conforming_strings` says.
pub(super) fn literal(text: &str) -> String {
    format!(" E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// A list of quoted columns.
pub(super) fn columns<'a>(columns: impl IntoIterator<Item = &'a PlannedColumn>) -> String {
    let quoted: Vec<String> = columns.into_iter().map(|column| name(&column.name)).collect();
    quoted.join(",")
}

/// An array literal of whole numbers.
pub(super) fn array(numbers: impl IntoIterator<Item = i64>) -> String {
    let numbers: Vec<String> = numbers.into_iter().map(|number| number.to_string()).collect();
    format!("'{{{}}}'", numbers.join(","))
}

/// The digest of a row: a hash of 64 bits of all columns that are copied.
pub(super) fn digest(table: &PlannedTable) -> String {
    hash(&table.columns)
}

/// The hash by which rows are matched. Rows that share one are compared and replaced together, so that a collision costs
/// a copied row and never a wrong one.
pub(super) fn key_hash(table: &PlannedTable) -> String {
    match &table.key {
        RowKey::Columns(key) => hash(key),
        RowKey::WholeRow => hash(&table.columns),
    }
}

/// How many bits of an integer say which columns are null.
const BITS: usize = 31;

/// A hash in which each column's hash is the seed of the next one's.
///
/// So no two rows can exchange a value, nor two columns of one row, without notice: hashes that are merely added (or
/// combined linearly, as `hash_record_extended` does) give the same sums then. A null counts as the type's zero, and
/// integers whose bits say which columns are null are hashed along.
pub(super) fn hash(columns: &[PlannedColumn]) -> String {
    let mut hash = "0".to_owned();
    let mut nullable = Vec::new();
    let mut as_row = Vec::new();
    for column in columns {
        let quoted = name(&column.name);
        let (function, value, zero) = match column.hashed {
            Hashed::Integer => ("pg_catalog.hashint4extended", quoted.clone(), "0"),
            Hashed::Boolean => ("pg_catalog.hashint4extended", format!("{quoted}::int"), "0"),
            Hashed::Uuid => {
                ("pg_catalog.uuid_hash_extended", quoted.clone(), "'00000000-0000-0000-0000-000000000000'")
            }
            Hashed::Text => ("pg_catalog.hashtextextended", format!("{quoted} COLLATE \"C\""), "''"),
            Hashed::Label => {
                let label = format!("pg_catalog.textin(pg_catalog.enum_out({quoted})) COLLATE \"C\"");
                ("pg_catalog.hashtextextended", label, "''")
            }
            Hashed::AsRow => {
                as_row.push(quoted);
                continue;
            }
        };
        hash = match column.nullability {
            Nullability::NotNull => format!("{function}({value},{hash})"),
            Nullability::Nullable => {
                nullable.push(quoted);
                format!("{function}(coalesce({value},{zero}),{hash})")
            }
        };
    }
    for group in nullable.chunks(BITS) {
        let bit = |(at, column): (usize, &String)| format!("({column} IS NULL)::int*{}", 1 << at);
        let bits: Vec<String> = group.iter().enumerate().map(bit).collect();
        hash = format!("pg_catalog.hashint4extended({},{hash})", bits.join("+"));
    }
    if as_row.is_empty() {
        return hash;
    }
    // not each column's own text: character(n) loses its blanks in that, and a null is no text
    format!("pg_catalog.hashtextextended(ROW({})::text,{hash})", as_row.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_cannot_leave_their_quotes() {
        assert_eq!(relation("a\"b"), "public.\"a\"\"b\"");
        for odd in ["", "A", "1a", "ä", "a b", "a.b", "a$", "a'"] {
            assert_eq!(relation(odd), format!("public.\"{odd}\""));
        }
        assert_eq!(relation("user"), "public.user");
        assert_eq!(relation("_a_1"), "public._a_1");
        assert_eq!(literal("it's \\"), " E'it''s \\\\'");
    }

    fn column(name: &str, hashed: Hashed, nullability: Nullability) -> PlannedColumn {
        PlannedColumn { name: name.to_owned(), hashed, nullability }
    }

    #[test]
    fn a_columns_hash_is_the_seed_of_the_next_ones() {
        let id = column("id", Hashed::Integer, Nullability::NotNull);
        let columns = vec![
            id.clone(),
            column("up", Hashed::Integer, Nullability::Nullable),
            column("on", Hashed::Boolean, Nullability::Nullable),
            column("at", Hashed::AsRow, Nullability::Nullable),
            column("x", Hashed::AsRow, Nullability::NotNull),
        ];
        let keyed = PlannedTable { name: "t".to_owned(), columns, key: RowKey::Columns(vec![id]) };
        assert_eq!(key_hash(&keyed), "pg_catalog.hashint4extended(\"id\",0)");
        let values = "pg_catalog.hashint4extended(coalesce(\"on\"::int,0),\
            pg_catalog.hashint4extended(coalesce(\"up\",0),pg_catalog.hashint4extended(\"id\",0)))";
        let bits = "(\"up\" IS NULL)::int*1+(\"on\" IS NULL)::int*2";
        let whole = format!(
            "pg_catalog.hashtextextended(ROW(\"at\",\"x\")::text,pg_catalog.hashint4extended({bits},{values}))"
        );
        assert_eq!(digest(&keyed), whole);
        let keyless = PlannedTable { key: RowKey::WholeRow, ..keyed };
        assert_eq!(key_hash(&keyless), whole);
    }
}
