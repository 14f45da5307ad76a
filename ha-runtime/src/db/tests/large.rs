//! Large tables: what differs is found in groups, and little travels.

use super::*;
use crate::db::Purpose;

/// Tables of 6,000 rows whose keys group them in every way: dense, sparse, negative, uneven, by hash, by nothing.
const KEYED: &[(&str, &str, &str)] = &[
    ("dense", "id int PRIMARY KEY", "n"),
    ("outlier", "id int PRIMARY KEY", "CASE WHEN n = 6000 THEN 2147483647 ELSE n END"),
    ("negative", "id int PRIMARY KEY", "3000 - n"),
    ("far_apart", "id int PRIMARY KEY", "(-2147483648 + n * 715827::bigint)::int"),
    ("short", "id smallint PRIMARY KEY", "n - 3000"),
    ("second", "id int, k int DEFAULT 1, PRIMARY KEY (k, id)", "n"),
    ("long", "id bigint PRIMARY KEY", "n * 4294967296"),
    ("word", "id text PRIMARY KEY", "'word' || n"),
    ("labelled", "id text, k kind DEFAULT 'b', PRIMARY KEY (k, id)", "'word' || n"),
    ("identifier", "id uuid PRIMARY KEY", "md5(n::text)::uuid"),
    ("bag", "id int", "n / 3"),
];

fn shape() -> String {
    let table = |(name, columns, key): &(&str, &str, &str)| {
        format!(
            "CREATE TABLE {name} ({columns}, v int, filling text DEFAULT repeat('x', 50));
            INSERT INTO {name} (id, v) SELECT {key}, n FROM generate_series(1, 6000) n;"
        )
    };
    let tables: String = KEYED.iter().map(table).collect();
    format!("CREATE TYPE kind AS ENUM ('a', 'b'); {tables}")
}

/// Some change to all of them.
fn change(of: impl Fn(&str) -> String) -> String {
    KEYED.iter().map(|(name, ..)| of(name)).collect()
}

async fn becomes_equal(server: &Server, master: &str, slave: &str, each: (u64, u64, u64)) {
    server.visit("master").await.batch_execute(master).await.unwrap();
    server.visit("slave").await.batch_execute(slave).await.unwrap();
    let dry = run(server, &Options { purpose: Purpose::DryRun, ..all() }).await.unwrap();
    let report = run(server, &all()).await.unwrap();
    assert_eq!(dry.changes, report.changes, "the dry run told the truth");
    for change in report.changes.iter().filter(|change| change.table != "bag") {
        assert_eq!((change.inserted, change.updated, change.deleted), each, "{change:?}");
    }
    assert_eq!(report.changes.len(), KEYED.len());
    for (name, ..) in KEYED {
        assert_equal(server, &format!("SELECT id, v, filling FROM {name} ORDER BY id, v")).await;
    }
    let again = run(server, &all()).await.unwrap();
    assert_eq!((again.changed, again.verified), (0, true));
}

#[tokio::test]
async fn one_difference_is_found_at_either_end_and_in_the_middle() {
    let Some(server) = pair(&shape(), "", "").await else { return };
    for v in [1, 3333, 6000] {
        let master = change(|name| format!("UPDATE {name} SET v = 0 WHERE v = {v};"));
        becomes_equal(&server, &master, "", (0, 1, 0)).await;
    }
}

#[tokio::test]
async fn rows_that_came_and_went_are_found_among_thousands() {
    let Some(server) = pair(&shape(), "", "").await else { return };
    let master = change(|name| format!("DELETE FROM {name} WHERE v % 1500 = 7;"));
    let slave = change(|name| {
        format!("DELETE FROM {name} WHERE v % 2000 = 9; UPDATE {name} SET v = -v WHERE v > 5990;")
    });
    becomes_equal(&server, &master, &slave, (3, 10, 4)).await;
}

#[tokio::test]
async fn differences_that_are_everywhere_are_found_too() {
    let Some(server) = pair(&shape(), "", "").await else { return };
    let slave = change(|name| format!("UPDATE {name} SET v = -v WHERE v % 40 = 0;"));
    becomes_equal(&server, "", &slave, (0, 150, 0)).await;
    let slave = change(|name| format!("UPDATE {name} SET filling = 'y'; DELETE FROM {name} WHERE v = 5;"));
    becomes_equal(&server, "", &slave, (1, 5999, 0)).await;
}

#[tokio::test]
async fn one_change_in_a_large_table_travels_in_few_bytes() {
    let shape =
        "CREATE TABLE counted (id int PRIMARY KEY, v text); CREATE TABLE named (id text PRIMARY KEY, v text);
        INSERT INTO counted SELECT n, repeat('x', 99) FROM generate_series(1, 30000) n;
        INSERT INTO named SELECT 'n' || n, repeat('x', 99) FROM generate_series(1, 30000) n;";
    for table in ["counted", "named"] {
        let slave = format!("UPDATE {table} SET v = 'old' WHERE ctid = '(7,7)';");
        let Some(server) = pair(shape, "", &slave).await else { return };
        let mut source = server.connect("master").await;
        let (mut replica, traffic) = server.counted("slave").await;
        let report = once(&mut source, &mut replica, &all(), &Open).await.unwrap();
        assert_eq!(counts(&report), (0, 1, 0));
        let (sent, received) = (traffic.sent(), traffic.received());
        assert!(sent < 12_000, "{sent} bytes sent for one changed row of 30,000 in {table}");
        assert!(received < 30_000, "{received} bytes received for one changed row of 30,000 in {table}");
    }
}

/// Two tables of more than a megabyte, one of which travels in binary form and one as text, and one whose rows are gone.
const FIRST: &str = "CREATE TYPE mood AS ENUM ('good', 'it''s');
    CREATE TABLE own (id int PRIMARY KEY, s smallint, b bool, u uuid, v varchar(200), t text NOT NULL, m mood);
    INSERT INTO own SELECT n, NULLIF(n % 7, 3), n % 3 = 0, md5(n::text)::uuid, repeat('x', n % 150),
        CASE n % 5 WHEN 0 THEN '' WHEN 1 THEN E'COPY \\\\.\\n\\t\\\\N' ELSE 'ü€' || repeat('y', 90) END,
        (CASE n % 3 WHEN 0 THEN 'good' WHEN 1 THEN 'it''s' END)::mood FROM generate_series(1, 9000) n;
    CREATE TABLE other (id int PRIMARY KEY, at timestamptz DEFAULT '2026-11-21 12:00:00.000001+01', a mood[], n numeric(9, 3));
    INSERT INTO other (id, a, n) SELECT n, '{good,NULL}', n / 7.0 FROM generate_series(1, 20000) n;
    CREATE TABLE gone (id int PRIMARY KEY, t text);
    INSERT INTO gone SELECT n, repeat('z', 99) FROM generate_series(1, 12000) n; DELETE FROM gone;";

#[tokio::test]
async fn an_empty_slave_is_filled_and_the_rows_are_counted() {
    let Some(server) = pair(FIRST, "", "TRUNCATE own, other, gone").await else { return };
    let dry = run(&server, &Options { purpose: Purpose::DryRun, ..all() }).await.unwrap();
    let report = run(&server, &all()).await.unwrap();
    assert_eq!((counts(&report), report.tables_changed, report.verified), ((29_000, 0, 0), 2, true));
    assert_eq!(report.changes, dry.changes, "the dry run told the truth");
    assert_equal(&server, "SELECT * FROM own ORDER BY id").await;
    assert_equal(&server, "SELECT * FROM other ORDER BY id").await;
    let again = run(&server, &all()).await.unwrap();
    assert_eq!((again.changed, again.verified), (0, true));
}

#[tokio::test]
async fn an_empty_slave_that_writes_something_else_stays_empty() {
    let slave = "TRUNCATE own; CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.v := 'other'; RETURN NEW; END $$;
        CREATE TRIGGER other BEFORE INSERT ON own FOR EACH ROW EXECUTE FUNCTION other();
        ALTER TABLE own ENABLE ALWAYS TRIGGER other;";
    let Some(server) = pair(FIRST, "", slave).await else { return };
    let error = run(&server, &all()).await.unwrap_err();
    assert!(matches!(&error, DbError::NotEqual { table } if table == "own"), "{error}");
    assert_eq!(rows(&server.visit("slave").await, "SELECT * FROM own").await.len(), 0);
}
