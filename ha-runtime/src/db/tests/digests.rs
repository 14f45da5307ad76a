//! Digests: equal when the rows are, and only then.

use std::cell::RefCell;

use ha_core::replication::tables::{Hashed, Nullability, PlannedColumn, PlannedTable, RowKey};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::db::digest::{Digest, digests};

/// So many bytes of filling in each of 20 rows make a table large enough to be hashed by value, if they are not compressed.
const FILLING: &str = "repeat('x', 7000)";

/// One column for each way to hash, some of them twice, so that values can change places.
const COLUMNS: [(&str, &str, Hashed, Nullability); 10] = [
    ("i", "int NOT NULL", Hashed::Integer, Nullability::NotNull),
    ("j", "int", Hashed::Integer, Nullability::Nullable),
    ("s", "smallint", Hashed::Integer, Nullability::Nullable),
    ("f", "bool", Hashed::Boolean, Nullability::Nullable),
    ("g", "bool", Hashed::Boolean, Nullability::Nullable),
    ("t", "text NOT NULL", Hashed::Text, Nullability::NotNull),
    ("v", "varchar(9)", Hashed::Text, Nullability::Nullable),
    ("u", "uuid", Hashed::Uuid, Nullability::Nullable),
    ("m", "mood", Hashed::Label, Nullability::Nullable),
    ("n", "numeric", Hashed::AsRow, Nullability::Nullable),
];

/// The values of one row, as SQL writes them.
type Values = Vec<&'static str>;

fn value(at: usize) -> BoxedStrategy<&'static str> {
    let choices: &[&str] = match at {
        0 => &["0", "1", "-1"],
        1 | 2 => &["NULL", "0", "1"],
        3 | 4 => &["NULL", "false", "true"],
        5 => &["''", "'a'", "'b'"],
        6 => &["NULL", "''", "'a'"],
        7 => &["NULL", "'00000000-0000-0000-0000-000000000000'", "'00000000-0000-0000-0000-000000000001'"],
        8 => &["NULL", "'good'", "''"],
        _ => &["NULL", "1.0", "1.00"],
    };
    prop::sample::select(choices).boxed()
}

fn rows_of_values() -> impl Strategy<Value = Vec<Values>> {
    let row: Vec<BoxedStrategy<&'static str>> = (0..COLUMNS.len()).map(value).collect();
    prop::collection::vec(row, 1..6)
}

/// What an accident does to some rows.
#[derive(Debug, Clone)]
enum Accident {
    Exchange { rows: (usize, usize), column: usize },
    ExchangeWithin { row: usize, columns: (usize, usize) },
    Double(usize),
    Lose(usize),
    Overwrite { with: usize, row: usize },
    Alter { row: usize, column: usize, value: &'static str },
    Reorder,
}

fn accident() -> impl Strategy<Value = Accident> {
    let row = || 0usize..6;
    let alter = (row(), 0..COLUMNS.len()).prop_flat_map(|(row, column)| {
        value(column).prop_map(move |value| Accident::Alter { row, column, value })
    });
    prop_oneof![
        4 => ((row(), row()), 0..COLUMNS.len()).prop_map(|(rows, column)| Accident::Exchange { rows, column }),
        2 => (row(), prop::sample::select(vec![(1, 2), (3, 4), (5, 6)]))
            .prop_map(|(row, columns)| Accident::ExchangeWithin { row, columns }),
        1 => row().prop_map(Accident::Double),
        1 => row().prop_map(Accident::Lose),
        1 => (row(), row()).prop_map(|(with, row)| Accident::Overwrite { with, row }),
        4 => alter,
        1 => Just(Accident::Reorder),
    ]
}

fn after(rows: &[Values], accident: &Accident) -> Vec<Values> {
    let mut rows = rows.to_vec();
    let count = rows.len();
    match *accident {
        Accident::Exchange { rows: (a, b), column } => {
            let kept = rows[a % count][column];
            rows[a % count][column] = rows[b % count][column];
            rows[b % count][column] = kept;
        }
        // a null must not get into a column that has none
        Accident::ExchangeWithin { row, columns: (a, b) } if rows[row % count][b] != "NULL" => {
            rows[row % count].swap(a, b);
        }
        Accident::ExchangeWithin { .. } => {}
        Accident::Double(row) => rows.push(rows[row % count].clone()),
        Accident::Lose(row) => drop(rows.remove(row % count)),
        Accident::Overwrite { with, row } => rows[row % count] = rows[with % count].clone(),
        Accident::Alter { row, column, value } => rows[row % count][column] = value,
        Accident::Reorder => rows.reverse(),
    }
    rows
}

fn planned() -> PlannedTable {
    let columns = COLUMNS.map(|(name, _, hashed, nullability)| PlannedColumn {
        name: name.to_owned(),
        hashed,
        nullability,
    });
    PlannedTable { name: "t".to_owned(), columns: columns.to_vec(), key: RowKey::WholeRow }
}

async fn digest_of(client: &mut Client, rows: &[Values]) -> Digest {
    let transaction = client.transaction().await.unwrap();
    if !rows.is_empty() {
        let rows: Vec<String> = rows.iter().map(|row| format!("({})", row.join(","))).collect();
        let insert = format!("INSERT INTO t VALUES {}", rows.join(","));
        transaction.batch_execute(&insert).await.unwrap();
    }
    digests(&transaction, &[&planned()]).await.unwrap().remove("t").unwrap()
}

#[test]
fn two_tables_have_one_digest_exactly_when_they_have_the_same_rows() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let columns = COLUMNS.map(|(name, kind, ..)| format!("{name} {kind}")).join(",");
    let shape = format!("CREATE TYPE mood AS ENUM ('', 'good', 'bad'); CREATE TABLE t ({columns});");
    let Some(server) = runtime.block_on(Server::start()) else { return };
    runtime.block_on(server.fill("master", &shape));
    let client = RefCell::new(runtime.block_on(server.connect("master")));
    let cases = (rows_of_values(), prop::collection::vec(accident(), 1..3));
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(400) });
    runner
        .run(&cases, |(before, accidents)| {
            let mut changed = before.clone();
            for accident in &accidents {
                if !changed.is_empty() {
                    changed = after(&changed, accident);
                }
            }
            let here = runtime.block_on(digest_of(&mut client.borrow_mut(), &before));
            let there = runtime.block_on(digest_of(&mut client.borrow_mut(), &changed));
            let sorted = |mut rows: Vec<Values>| {
                rows.sort_unstable();
                rows
            };
            let same = sorted(before.clone()) == sorted(changed.clone());
            prop_assert_eq!(here == there, same, "{:?}\n{:?}", before, changed);
            Ok(())
        })
        .unwrap();
}

/// A type, and two of its values that some comparison, hash function or format takes for one.
const CONFUSABLE: &[(&str, &str, &str)] = &[
    ("int", "0", "NULL"),
    ("smallint", "-1", "1"),
    ("bool", "false", "NULL"),
    ("text", "''", "NULL"),
    ("text", "'a'", "'a '"),
    ("text", "E'COPY x FROM stdin;\\n\\\\.\\n'", "E'COPY x FROM stdin;\\n\\\\.'"),
    ("text", "E'\\\\N'", "NULL"),
    ("varchar(36)", "'é'", "E'e\\u0301'"),
    ("text COLLATE blurred", "'a'", "'A'"),
    ("citext", "'a'", "'A'"),
    ("uuid", "'00000000-0000-0000-0000-000000000000'", "NULL"),
    ("mood", "'good'", "'bad'"),
    ("mood[]", "'{good}'", "'{NULL}'"),
    ("bigint", "0", "4294967297"),
    ("date", "'infinity'", "'-infinity'"),
    ("timestamptz", "'infinity'", "'-infinity'"),
    ("timestamp", "'2000-01-01'", "'2000-01-01 00:00:00.000001'"),
    ("interval", "'1 day'", "'24 hours'"),
    ("numeric", "1.0", "1.00"),
    ("numeric", "'NaN'", "NULL"),
    ("float8", "0", "'-0'"),
    ("real", "'NaN'", "'Infinity'"),
    ("char(4)", "''", "NULL"),
    ("bytea", "'\\x00'", "'\\x0000'"),
    ("json", "'{\"a\": 1}'", "'{\"a\":1}'"),
    ("jsonb", "'1.0'", "'1.00'"),
    ("xml", "'<a/>'", "'<a></a>'"),
    ("hstore", "'a=>NULL'", "'a=>\"NULL\"'"),
    ("text[]", "'{}'", "'{NULL}'"),
    ("text[]", "'{a,b}'", "'{{a,b}}'"),
    ("numrange", "'[1,2]'", "'[1,2.0]'"),
    ("regclass", "'pg_class'", "'pg_type'"),
    ("inet", "'10.0.0.1'", "'10.0.0.1/24'"),
    ("posint", "1", "NULL"),
    ("point2", "'(1,)'", "'(,1)'"),
];

#[tokio::test]
async fn what_only_looks_equal_is_copied_and_what_is_equal_is_not() {
    let mut shape =
        "CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE TYPE mood AS ENUM ('good', 'bad'); \
        CREATE DOMAIN posint AS int CHECK (VALUE > 0); CREATE TYPE point2 AS (x int, y int); \
        CREATE COLLATION blurred (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
            .to_owned();
    let (mut master, mut slave, mut names) = (String::new(), String::new(), Vec::new());
    for (at, (kind, one, other)) in CONFUSABLE.iter().enumerate() {
        for (size, filling) in [("small", "'x'"), ("large", FILLING)] {
            let name = format!("{size}{at}");
            shape += &format!(
                "CREATE TABLE {name} (id int PRIMARY KEY, v {kind}, filling text); \
                ALTER TABLE {name} ALTER filling SET STORAGE PLAIN; INSERT INTO {name} SELECT n, {one}, {filling} FROM generate_series(1, 20) n;"
            );
            master += &format!("UPDATE {name} SET v = {other} WHERE id = 7;");
            slave += &format!("UPDATE {name} SET v = {other} WHERE id = 9;");
            names.push(name);
        }
    }
    let Some(server) = pair(&shape, &master, &slave).await else { return };
    let report = run(&server, &all()).await.unwrap();
    for name in &names {
        let change = report.changes.iter().find(|change| change.table == *name);
        assert_eq!(change.map(|change| change.updated), Some(2), "{name}: {:?}", at(name));
        assert_equal(&server, &format!("SELECT id, v, v IS NULL FROM {name} ORDER BY id")).await;
    }
    assert_eq!(run(&server, &all()).await.unwrap().changed, 0);
    for table in &report.plan.tables {
        let by_value = table.columns.iter().any(|column| column.hashed != Hashed::AsRow);
        assert_eq!(by_value, table.name.starts_with("large"), "{table:?}");
    }
}

fn at(name: &str) -> (&'static str, &'static str, &'static str) {
    CONFUSABLE[name.trim_start_matches(char::is_alphabetic).parse::<usize>().unwrap()]
}

#[tokio::test]
async fn another_history_of_a_table_is_no_difference() {
    let Some(server) = Server::start().await else { return };
    let rows = |filling: &str| {
        format!(
            "SELECT n, 'name' || n, (ARRAY['good', 'bad', NULL]::mood[])[n % 3 + 1], \
            CASE WHEN n % 2 = 0 THEN n % 4 = 0 END, md5(n::text)::uuid, n::numeric / 8, {filling} FROM generate_series(1, 20) n;"
        )
    };
    let mood = "CREATE TYPE mood AS ENUM ('good', 'bad');";
    for (size, filling) in [("small", "'x'"), ("large", FILLING)] {
        let master = format!(
            "{mood} CREATE TABLE t (id int PRIMARY KEY, name text, m mood, f bool, u uuid, n numeric, filling text,
                twice int GENERATED ALWAYS AS (id * 2) STORED);
            ALTER TABLE t ALTER filling SET STORAGE PLAIN; INSERT INTO t {}",
            rows(filling)
        );
        let slave = format!(
            "CREATE TYPE other AS ENUM ('x'); {mood} CREATE TABLE t (gone text DEFAULT 'gone', f bool, filling text,
                n numeric, u uuid, twice int GENERATED ALWAYS AS (id * 2) STORED, gone2 int, m mood, name text,
                id int PRIMARY KEY);
            ALTER TABLE t ALTER filling SET STORAGE PLAIN; INSERT INTO t (id, name, m, f, u, n, filling) {}
            ALTER TABLE t DROP gone, DROP gone2; UPDATE t SET name = name WHERE id > 9; DELETE FROM t WHERE id = 20;
            INSERT INTO t (id, name, m, f, u, n, filling) SELECT * FROM ({}) x WHERE x.id = 20;",
            rows(filling),
            rows(filling).trim_end_matches(';').replace("SELECT n,", "SELECT n AS id,"),
        );
        server.fill(&format!("{size}_master"), &master).await;
        server.fill(&format!("{size}_slave"), &slave).await;
        let mut source = server.connect(&format!("{size}_master")).await;
        let mut replica = server.connect(&format!("{size}_slave")).await;
        let report = once(&mut source, &mut replica, &all(), &Open).await.unwrap();
        assert_eq!((report.tables, report.changed, report.verified), (1, 0, true), "{size}: {report}");
    }
}
