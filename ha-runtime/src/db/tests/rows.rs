use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::db::{Mode, Purpose};

const USERS: &str = "CREATE TABLE users (id serial PRIMARY KEY, name text UNIQUE, note text);";

#[tokio::test]
async fn only_rows_that_differ_are_written() {
    let rows_of = |note: &str| {
        format!("INSERT INTO users (name, note) SELECT 'u' || n, '{note}' FROM generate_series(1, 20) n;")
    };
    let slave = format!(
        "{} UPDATE users SET note = 'old' WHERE id = 3; DELETE FROM users WHERE id = 5;
        INSERT INTO users (id, name) VALUES (99, 'ghost');",
        rows_of("x")
    );
    let Some(server) = pair(USERS, &rows_of("x"), &slave).await else { return };
    let there = server.visit("slave").await;
    let versions = "SELECT id, xmin, ctid FROM users WHERE id NOT IN (3, 5, 99) ORDER BY id";
    let before = rows(&there, versions).await;

    let report = run(&server, &all()).await.unwrap();
    assert_eq!(counts(&report), (1, 1, 1));
    assert_eq!(
        (report.tables, report.tables_changed, report.mode, report.verified),
        (1, 1, Mode::Incremental, true)
    );
    assert_eq!(rows(&there, versions).await, before, "rows that were equal are untouched");
    assert_equal(&server, "SELECT * FROM users ORDER BY id").await;

    let again = run(&server, &all()).await.unwrap();
    assert_eq!((counts(&again), again.tables_changed, again.sequences_set), ((0, 0, 0), 0, 0));
    assert!(again.verified);
}

#[tokio::test]
async fn values_of_a_unique_key_move_between_rows() {
    let master = "INSERT INTO users VALUES (1, 'a'), (2, 'b'), (3, 'c');";
    let slave = "INSERT INTO users VALUES (1, 'b'), (2, 'c'), (3, 'a');";
    let Some(server) = pair(USERS, master, slave).await else { return };
    assert_eq!(counts(&run(&server, &all()).await.unwrap()), (0, 3, 0));
    assert_equal(&server, "SELECT * FROM users ORDER BY id").await;
}

#[tokio::test]
async fn sequences_follow_and_a_rollback_takes_them_back() {
    let master =
        "INSERT INTO users (name) VALUES ('a'); CREATE SEQUENCE lonely; SELECT setval('lonely', 41, false);";
    let Some(server) = pair(USERS, master, "CREATE SEQUENCE lonely;").await else { return };
    struct Closed;
    #[async_trait]
    impl CommitGate for Closed {
        async fn confirm(&self, _transaction: Transaction) -> Result<(), String> {
            Err("generation 8 is not 7".to_owned())
        }
    }
    let values = "SELECT s.last_value, s.is_called, l.last_value, l.is_called FROM users_id_seq s, lonely l";
    let there = server.visit("slave").await;
    let before = rows(&there, values).await;
    let refused = run_through(&server, &all(), &Closed).await.unwrap_err();
    assert!(refused.is_refusal() && refused.to_string().contains("generation 8 is not 7"), "{refused}");
    assert_eq!(rows(&there, values).await, before);
    assert!(rows(&there, "SELECT * FROM users").await.is_empty());

    assert_eq!(run(&server, &all()).await.unwrap().sequences_set, 2);
    assert_equal(&server, values).await;
}

#[tokio::test]
async fn every_type_and_every_text_arrives_as_it_is() {
    let shape = "CREATE EXTENSION hstore; CREATE TYPE mood AS ENUM ('good', 'bad');
        CREATE TABLE odd (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, j json, b jsonb, x xml, h hstore, t text[],
            m mood[], y bytea, i interval, f float8, r real, n numeric, s timestamptz, p inet, c char(8), v money,
            d int GENERATED ALWAYS AS (length(c)) STORED);";
    let master = r#"INSERT INTO odd (j, b, x, h, t, m, y, i, f, r, n, s, p, c, v) VALUES
        ('{"a":  1, "a": 2}', '{"b": [null]}', '<a>é</a>', 'a=>1,b=>NULL', '{"x,y",NULL,"\""}', '{bad,good}',
         '\x00ff0a5c', '1 mon -2 days 00:00:00.000001', 0.1, 1e-7, 1.500, '2026-03-29 01:30:00.123456+00',
         '10.0.0.1/24', 'ab', 12.34),
        (NULL, NULL, NULL, '', '{}', '{}', '', '0', 'NaN', '-0', 'NaN', '-infinity', '::1', '', 0);
        CREATE TABLE nasty (id int PRIMARY KEY, t text); INSERT INTO nasty VALUES
        (1, ''), (2, NULL), (3, E'\t\\N\n\r'), (4, E'COPY x FROM stdin;\n\\.\n'), (5, 'é ''"(),'), (6, E'\\'), (7, E'\u2028\x01');"#;
    let slave = "SET IntervalStyle = 'iso_8601'; CREATE TABLE nasty (id int PRIMARY KEY, t text);
        ALTER DATABASE slave SET DateStyle = 'German'; ALTER DATABASE slave SET bytea_output = 'escape';
        ALTER DATABASE slave SET TimeZone = 'Asia/Tokyo'; ALTER DATABASE slave SET extra_float_digits = -5;
        ALTER DATABASE slave SET IntervalStyle = 'sql_standard'; ALTER DATABASE slave SET search_path = pg_catalog;
        INSERT INTO nasty VALUES (1, NULL), (2, '');";
    let Some(server) = pair(shape, master, slave).await else { return };
    assert_eq!(counts(&run(&server, &all()).await.unwrap()), (7, 2, 0));
    let settings = "SET DateStyle = ISO; SET bytea_output = hex; SET TimeZone = 'UTC'; SET extra_float_digits = 3; \
        SET IntervalStyle = postgres; SET search_path = public;";
    assert_equal(&server, &format!("{settings} SELECT * FROM odd ORDER BY id")).await;
    assert_equal(&server, &format!("{settings} SELECT * FROM nasty ORDER BY id")).await;
    assert_eq!(run(&server, &all()).await.unwrap().changed, 0);
}

#[tokio::test]
async fn a_table_without_key_is_a_multiset() {
    let shape = "CREATE TABLE bag (a text, b int);";
    let master = "INSERT INTO bag VALUES ('x', 1), ('x', 1), ('x', 1), ('y', NULL), (NULL, NULL);";
    let slave = "INSERT INTO bag VALUES ('x', 1), ('y', NULL), ('y', NULL), ('z', 3);";
    let Some(server) = pair(shape, master, slave).await else { return };
    assert_eq!(counts(&run(&server, &all()).await.unwrap()), (3, 0, 2));
    assert_equal(&server, "SELECT * FROM bag ORDER BY a, b").await;
}

#[tokio::test]
async fn rows_that_reference_each_other_and_themselves_arrive_together() {
    let shape = "CREATE TABLE a (id int PRIMARY KEY, other int, up int REFERENCES a);
        CREATE TABLE b (id int PRIMARY KEY, other int NOT NULL REFERENCES a);
        ALTER TABLE a ADD FOREIGN KEY (other) REFERENCES b ON DELETE CASCADE;";
    let master = "BEGIN; INSERT INTO a VALUES (1, NULL, 1); INSERT INTO b VALUES (1, 1); UPDATE a SET other = 1; COMMIT;";
    let slave = "INSERT INTO a VALUES (2, NULL, 2); INSERT INTO b VALUES (2, 2); UPDATE a SET other = 2;";
    let Some(server) = pair(shape, master, slave).await else { return };
    assert_eq!(counts(&run(&server, &all()).await.unwrap()), (2, 0, 2));
    assert_equal(&server, "SELECT * FROM a, b").await;
}

#[tokio::test]
async fn a_table_that_differs_everywhere_is_copied_as_a_whole() {
    let master = "INSERT INTO users (name) SELECT 'u' || n FROM generate_series(1, 25000) n;";
    let Some(server) = pair(USERS, master, "INSERT INTO users VALUES (30000, 'ghost');").await else {
        return;
    };
    assert_eq!(counts(&run(&server, &all()).await.unwrap()), (25_000, 0, 1));
    assert_equal(&server, "SELECT count(*), sum(id), max(name) FROM users").await;
}

#[tokio::test]
async fn full_copies_what_is_equal_too_and_a_dry_run_writes_nothing() {
    let fill = "INSERT INTO users VALUES (1, 'a'), (2, 'b');";
    let Some(server) = pair(USERS, fill, "INSERT INTO users VALUES (1, 'a'), (3, 'c');").await else {
        return;
    };
    let there = server.visit("slave").await;
    let state = "SELECT xmin, * FROM users";
    let before = rows(&there, state).await;

    let dry = Options { purpose: Purpose::DryRun, ..all() };
    let report = run(&server, &dry).await.unwrap();
    assert_eq!((counts(&report), report.verified), ((1, 0, 1), false));
    assert!(report.to_string().contains("users: 1 to insert, 0 to update, 1 to delete"), "{report}");
    let full = Options { mode: Mode::Full, ..dry };
    assert_eq!(counts(&run(&server, &full).await.unwrap()), (2, 0, 2));
    assert_eq!(rows(&there, state).await, before);

    let full = Options { purpose: Purpose::Apply, ..full };
    assert_eq!(counts(&run(&server, &full).await.unwrap()), (2, 0, 2));
    assert_equal(&server, "SELECT * FROM users ORDER BY id").await;
    assert_eq!(counts(&run(&server, &full).await.unwrap()), (2, 0, 2), "full copies equal rows again");
    let json = serde_json::to_value(run(&server, &all()).await.unwrap()).unwrap();
    assert_eq!((&json["mode"], &json["verified"]), (&"incremental".into(), &true.into()));
    assert!(json["seconds"].is_f64() && json["rows_inserted"] == 0 && json["plan"].is_null(), "{json}");
}

#[tokio::test]
async fn readers_on_the_slave_neither_wait_nor_make_us_wait() {
    let Some(server) =
        pair(USERS, "INSERT INTO users VALUES (1, 'new');", "INSERT INTO users VALUES (1, 'old');").await
    else {
        return;
    };
    let early = server.visit("slave").await;
    early.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM users").await.unwrap();
    struct ReadsMeanwhile(Client);
    #[async_trait]
    impl CommitGate for ReadsMeanwhile {
        async fn confirm(&self, _transaction: Transaction) -> Result<(), String> {
            let read = timeout(Duration::from_secs(5), rows(&self.0, "SELECT name FROM users"));
            let read = read.await.map_err(|_| "a reader had to wait".to_owned())?;
            if read[0][0].as_deref() == Some("old") {
                Ok(())
            } else {
                Err("it saw what is not committed".into())
            }
        }
    }
    let gate = ReadsMeanwhile(server.visit("slave").await);
    assert_eq!(counts(&run_through(&server, &all(), &gate).await.unwrap()), (0, 1, 0));
    assert_eq!(
        rows(&early, "SELECT name FROM users").await[0][0].as_deref(),
        Some("old"),
        "its snapshot holds"
    );
}

#[tokio::test]
async fn no_lock_that_a_replication_holds_keeps_a_reader_out() {
    let shape = "CREATE TABLE stays (id int PRIMARY KEY);
        CREATE TABLE parent (id serial PRIMARY KEY, note text, stays int REFERENCES stays);
        CREATE TABLE whole (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE CASCADE);
        CREATE TABLE plugin (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE CASCADE);
        INSERT INTO stays VALUES (1); INSERT INTO parent (note) VALUES ('a'), ('b');";
    let master = "UPDATE parent SET note = 'x', stays = 1 WHERE id = 1; DELETE FROM parent WHERE id = 2;
        INSERT INTO parent (note) VALUES ('c'); INSERT INTO whole VALUES (1, 1);";
    let slave = "INSERT INTO plugin VALUES (1, 2);";
    let Some(server) = pair(shape, master, slave).await else { return };
    let reader = server.visit("slave").await;
    reader.batch_execute("SET lock_timeout = '50ms'").await.unwrap();
    let read = async {
        for what in ["stays", "parent", "whole", "plugin", "parent_id_seq"] {
            reader.simple_query(&format!("SELECT * FROM {what}")).await.unwrap();
        }
        // as a program that locks what it reads against deletion
        reader
            .simple_query("BEGIN; LOCK TABLE parent, whole, plugin IN ROW SHARE MODE; COMMIT")
            .await
            .unwrap();
    };
    let gate = Held::default();
    let options = without(&["stays", "plugin"]);
    let mut replication = pin!(run_through(&server, &options, &gate));
    tokio::select! {
        result = &mut replication => panic!("it never reached its gate: {result:?}"),
        () = gate.reached.notified() => {}
    }
    read.await;
    gate.open.notify_one();
    let report = replication.await.unwrap();
    assert_eq!((counts(&report), report.sequences_set, report.borders.len()), ((2, 1, 1), 1, 1), "{report}");
    assert!(rows(&reader, "SELECT * FROM plugin").await.is_empty(), "its foreign key acted");
}

/// A state of three tables that are all trouble: a unique column, references in a circle and to themselves, no key.
fn any_state(seed: f64) -> String {
    format!(
        "SELECT setseed({seed}); SET session_replication_role = replica;
        TRUNCATE node, edge, bag RESTART IDENTITY;
        INSERT INTO node (id, name, up, edge, tags) SELECT n, 'name' || row_number() OVER (ORDER BY random()),
            n, CASE WHEN n % 3 = 0 THEN n END, ARRAY['t' || (random() * 2)::int, NULL]
            FROM generate_series(1, 60) n WHERE random() < 0.7;
        INSERT INTO edge (a, b, w) SELECT n % 7, n, (random() * 3)::int FROM generate_series(1, 40) n WHERE random() < 0.6;
        INSERT INTO bag SELECT (random() * 2)::int, NULLIF((random() * 2)::int, 1) FROM generate_series(1, 1 + (random() * 30)::int);
        SELECT setval('node_id_seq', 1 + (random() * 5)::int, random() < 0.5);"
    )
}

#[tokio::test]
async fn any_state_becomes_any_other() {
    let shape = "CREATE TABLE node (id serial PRIMARY KEY, name text NOT NULL UNIQUE, up int REFERENCES node, edge int, tags text[]);
        CREATE TABLE edge (a int, b int, w int, twice int GENERATED ALWAYS AS (w * 2) STORED, PRIMARY KEY (b, a));
        CREATE TABLE bag (x int, y int);";
    let Some(server) = pair(shape, "", "").await else { return };
    let (here, there) = (server.visit("master").await, server.visit("slave").await);
    for round in 1..=12 {
        let (one, other) = (f64::from(round) / 13.0, -f64::from(round % 5) / 7.0);
        here.batch_execute(&any_state(one)).await.unwrap();
        there.batch_execute(&any_state(other)).await.unwrap();
        let dry = run(&server, &Options { purpose: Purpose::DryRun, ..all() }).await.unwrap();
        let report = run(&server, &all()).await.unwrap();
        assert_eq!(counts(&dry), counts(&report), "the dry run of round {round} told the truth");
        for query in [
            "SELECT * FROM node ORDER BY id",
            "SELECT a, b, w, twice FROM edge ORDER BY a, b",
            "SELECT x, y, count(*) FROM bag GROUP BY x, y ORDER BY x, y",
            "SELECT last_value, is_called FROM node_id_seq",
        ] {
            assert_equal(&server, query).await;
        }
        assert_eq!(run(&server, &all()).await.unwrap().changed, 0, "round {round}");
    }
}
