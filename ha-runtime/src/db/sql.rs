//! SQL text: names quoted, rows as text, digests of rows.

use ha_core::replication::tables::{PlannedTable, RowKey};

/// An identifier, quoted.
pub(super) fn name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A table or sequence of the schema `public`.
pub(super) fn relation(relation: &str) -> String {
    format!("public.{}", name(relation))
}

/// A text literal that means the same whatever `standard_conforming_strings` says.
pub(super) fn literal(text: &str) -> String {
    format!(" E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// A list of quoted columns.
pub(super) fn columns<S: AsRef<str>>(columns: &[S]) -> String {
    let quoted: Vec<String> = columns.iter().map(|column| name(column.as_ref())).collect();
    quoted.join(", ")
}

/// An array literal of whole numbers.
pub(super) fn array(numbers: impl IntoIterator<Item = i64>) -> String {
    let numbers: Vec<String> = numbers.into_iter().map(|number| number.to_string()).collect();
    format!("'{{{}}}'", numbers.join(","))
}

/// The canonical text of some columns of a row: as the types' own output functions write them, which exist for every
/// type, where hash functions do not (json, xml). A null and an empty text differ in it.
fn row_text<S: AsRef<str>>(names: &[S]) -> String {
    format!("ROW({})::text", columns(names))
}

/// The two hashes that are the digest of a row whose text is `x`.
pub(super) const HASHES: [&str; 2] = ["hashtextextended(x, 0)", "hashtextextended(x, 1)"];

/// A row's canonical text, of all columns that are copied.
pub(super) fn text(table: &PlannedTable) -> String {
    row_text(&table.columns)
}

/// The hash by which rows are matched. Rows that share one are compared and replaced together, so that a collision costs
/// a copied row and never a wrong one.
pub(super) fn key_hash(table: &PlannedTable) -> String {
    let text = match &table.key {
        RowKey::Columns(key) => row_text(key),
        RowKey::WholeRow => row_text(&table.columns),
    };
    format!("hashtextextended({text}, 0)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_cannot_leave_their_quotes() {
        assert_eq!(relation("a\"b"), "public.\"a\"\"b\"");
        assert_eq!(literal("it's \\"), " E'it''s \\\\'");
    }

    #[test]
    fn a_row_without_key_is_its_own_key() {
        let table =
            |key| PlannedTable { name: "t".to_owned(), columns: vec!["a".to_owned(), "b".to_owned()], key };
        assert_eq!(key_hash(&table(RowKey::WholeRow)), "hashtextextended(ROW(\"a\", \"b\")::text, 0)");
        let keyed = table(RowKey::Columns(vec!["b".to_owned()]));
        assert_eq!(key_hash(&keyed), "hashtextextended(ROW(\"b\")::text, 0)");
        assert_eq!(text(&keyed), "ROW(\"a\", \"b\")::text");
    }
}
