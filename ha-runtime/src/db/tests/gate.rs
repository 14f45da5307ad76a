//! The gate on a real server, which counts by itself.

use std::time::{Duration, Instant};

use super::*;
use crate::db::server::pbxdb;
use crate::db::{Changes, Counted, Gate};

const SHAPE: &str = "CREATE TYPE mood AS ENUM ('good');
    CREATE TABLE users (id serial PRIMARY KEY, name text, note varchar(10)); CREATE SEQUENCE lonely;
    CREATE TABLE other (id int PRIMARY KEY);
    CREATE TABLE cel (id serial PRIMARY KEY, event text); CREATE TABLE stat_call (id int);
    CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('abc');
    INSERT INTO users (name) SELECT 'u' || n FROM generate_series(1, 20) n; INSERT INTO other VALUES (1);";

const NOTHING: Changes = Changes { restarted: false, structure: false, rows: false, sequences: false };
const ROWS: Changes = Changes { rows: true, ..NOTHING };
const SEQUENCES: Changes = Changes { sequences: true, ..NOTHING };

/// Statistics are late without anybody's fault.
const PATIENCE: Duration = Duration::from_secs(60);

fn without_calls() -> Exclusions {
    Exclusions::default().with_settings(&["cel", "stat_*"])
}

struct Watched {
    server: Server,
    client: Client,
    gate: Gate,
    last: Counted,
}

impl Watched {
    async fn new() -> Option<Watched> {
        let server = Server::start().await?;
        server.fill("master", SHAPE).await;
        let client = server.connect("master").await;
        let mut gate = Gate::open(&client, &without_calls()).await.unwrap();
        let last = gate.look(&client).await.unwrap();
        let mut watched = Watched { server, client, gate, last };
        // what filled the database is in the counts
        watched.run("UPDATE users SET name = name", ROWS).await;
        Some(watched)
    }

    /// Runs `sql` in a session of its own, which reports its counts at its end at the latest.
    async fn execute(&self, sql: &str) {
        self.server.visit("master").await.batch_execute(sql).await.unwrap();
    }

    /// Goes on with a server that was started anew.
    async fn reconnect(&mut self) {
        self.client = self.server.connect("master").await;
        self.gate = Gate::open(&self.client, &without_calls()).await.unwrap();
    }

    async fn look(&mut self) -> Changes {
        let now = self.gate.look(&self.client).await.unwrap();
        let changes = now.changes_since(&self.last);
        self.last = now;
        changes
    }

    /// What is seen after `sql`, as soon as anything is.
    async fn seen_after(&mut self, sql: &str) -> Changes {
        self.execute(sql).await;
        let begin = Instant::now();
        loop {
            let changes = self.look().await;
            if !changes.is_none() {
                return changes;
            }
            assert!(begin.elapsed() < PATIENCE, "nothing was seen of {sql}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn run(&mut self, sql: &str, expected: Changes) {
        assert_eq!(self.seen_after(sql).await, expected, "{sql}");
        self.rests(sql).await;
    }

    /// Nothing more comes, and the same state is the same answer.
    async fn rests(&mut self, after: &str) {
        assert_eq!(self.look().await, NOTHING, "again after {after}");
    }

    /// Waits until the server itself shows a value.
    async fn until(&self, query: &str) {
        let begin = Instant::now();
        while rows(&self.client, query).await[0][0].as_deref() != Some("t") {
            assert!(begin.elapsed() < PATIENCE, "{query}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn rows_that_are_written_are_seen() {
    let Some(mut watched) = Watched::new().await else { return };
    for sql in [
        "INSERT INTO other VALUES (2)",
        "UPDATE users SET note = 'x' WHERE id = 3",
        // not of an indexed column: a heap-only tuple
        "UPDATE users SET note = 'y' WHERE id = 3",
        "DELETE FROM users WHERE id = 3",
        "TRUNCATE other",
        "COPY other FROM PROGRAM 'echo 7'",
        "UPDATE alembic_version SET version_num = 'abd'",
        "BEGIN; INSERT INTO other VALUES (8); SAVEPOINT a; DELETE FROM other; ROLLBACK TO a; COMMIT",
    ] {
        watched.run(sql, ROWS).await;
    }
    let both = Changes { sequences: true, ..ROWS };
    let changes = watched.seen_after("INSERT INTO users (name) VALUES ('new')").await;
    // the sequence may be seen before the row is counted
    assert!(changes == both || changes == SEQUENCES, "{changes:?}");
}

#[tokio::test]
async fn sequences_are_seen_as_they_are() {
    let Some(mut watched) = Watched::new().await else { return };
    for sql in [
        "SELECT nextval('lonely')",
        "SELECT nextval('lonely')",
        "SELECT setval('lonely', 2, false)",
        "SELECT setval('lonely', 1, false)",
        "SELECT setval('users_id_seq', 500)",
        "BEGIN; SELECT nextval('users_id_seq'); ROLLBACK",
    ] {
        // no waiting: they are no statistics
        watched.execute(sql).await;
        assert_eq!(watched.look().await, SEQUENCES, "{sql}");
        watched.rests(sql).await;
    }
}

#[tokio::test]
async fn structure_is_seen_as_it_is() {
    let Some(mut watched) = Watched::new().await else { return };
    for sql in [
        "ALTER TABLE users ADD extra int",
        "ALTER TABLE users RENAME extra TO more",
        "ALTER TABLE users ALTER note TYPE varchar(20)",
        "ALTER TABLE users ALTER name SET NOT NULL",
        "ALTER TABLE users DROP more",
        "ALTER TABLE other RENAME TO others",
        "ALTER TABLE others ADD UNIQUE (id)",
        "ALTER TABLE users ADD FOREIGN KEY (id) REFERENCES others NOT VALID",
        "ALTER TYPE mood ADD VALUE 'bad'",
        "CREATE UNIQUE INDEX named ON users (name)",
        "DROP INDEX named",
    ] {
        watched.execute(sql).await;
        let changes = watched.look().await;
        assert!(changes.structure && !changes.restarted && !changes.sequences, "{sql}: {changes:?}");
        watched.rests(sql).await;
    }
    for sql in [
        "CREATE TABLE fresh (id int)",
        "DROP TABLE fresh",
        "CREATE SEQUENCE alone",
        "ALTER SEQUENCE alone RENAME TO still_alone",
        "DROP SEQUENCE lonely",
        "CREATE TABLE keyed (id serial)",
    ] {
        watched.execute(sql).await;
        assert!(watched.look().await.structure, "{sql}");
        watched.rests(sql).await;
    }
    // what is new is counted from then on
    watched.run("SELECT nextval('still_alone')", SEQUENCES).await;
    watched.execute("SELECT nextval('keyed_id_seq')").await;
    assert_eq!(watched.look().await, SEQUENCES);
    assert_eq!(watched.seen_after("INSERT INTO keyed VALUES (1)").await, ROWS);
}

#[tokio::test]
async fn tables_that_stay_are_no_change() {
    let Some(mut watched) = Watched::new().await else { return };
    watched
        .execute(
            "INSERT INTO cel (event) SELECT 'x' FROM generate_series(1, 100); UPDATE cel SET event = 'y';
            INSERT INTO stat_call VALUES (1); ALTER TABLE stat_call ADD more int; CREATE INDEX ON cel (event);
            CREATE TEMP TABLE mine (id int); INSERT INTO mine VALUES (1); SELECT setval('cel_id_seq', 4000);",
        )
        .await;
    watched.until("SELECT pg_stat_get_tuples_updated('cel'::regclass) = 100").await;
    watched.until("SELECT pg_stat_get_tuples_inserted('stat_call'::regclass) = 1").await;
    assert_eq!(watched.look().await, NOTHING);
    watched.execute("TRUNCATE cel RESTART IDENTITY").await;
    watched.execute("VACUUM (ANALYZE) users").await;
    assert_eq!(watched.look().await, NOTHING);
}

#[tokio::test]
async fn a_table_that_stayed_and_is_renamed_takes_part_from_then_on() {
    let Some(mut watched) = Watched::new().await else { return };
    assert!(watched.last.is_prompt(), "PostgreSQL 15");
    assert!(watched.seen_after("ALTER TABLE stat_call RENAME TO calls").await.structure);
    watched.look().await;
    watched.run("INSERT INTO calls VALUES (1)", ROWS).await;
}

#[tokio::test]
async fn the_tables_that_changed_can_be_named() {
    let Some(mut watched) = Watched::new().await else { return };
    let before = watched.gate.tables(&watched.client).await.unwrap();
    watched.seen_after("INSERT INTO other VALUES (5); INSERT INTO cel (event) VALUES ('z')").await;
    let after = watched.gate.tables(&watched.client).await.unwrap();
    assert_eq!(after.changed_since(&before).into_iter().collect::<Vec<_>>(), ["other"]);
    watched.seen_after("CREATE TABLE fresh (id int)").await;
    let fresh = watched.gate.tables(&watched.client).await.unwrap();
    assert_eq!(fresh.changed_since(&after).into_iter().collect::<Vec<_>>(), ["fresh"]);
}

#[tokio::test]
async fn counts_of_before_a_restart_a_crash_or_a_reset_are_not_compared() {
    let Some(mut watched) = Watched::new().await else { return };
    assert!(watched.seen_after("SELECT pg_stat_reset()").await.restarted);
    watched.rests("a reset").await;
    assert!(
        watched.seen_after("SELECT pg_stat_reset_single_table_counters('users'::regclass)").await.restarted
    );

    // all sessions are ended and shared memory is made anew, but the server counts as running since before
    let started = rows(&watched.client, "SELECT pg_postmaster_start_time()").await;
    watched.server.crash(&watched.client).await;
    watched.reconnect().await;
    assert_eq!(rows(&watched.client, "SELECT pg_postmaster_start_time()").await, started);
    assert!(watched.look().await.restarted);

    watched.server.restart().await;
    watched.reconnect().await;
    assert!(watched.look().await.restarted);
    watched.rests("a restart").await;
}

#[tokio::test]
async fn a_server_that_does_not_count_says_so() {
    let Some(mut watched) = Watched::new().await else { return };
    watched.client.batch_execute("SET track_counts = off").await.unwrap();
    let error = watched.gate.look(&watched.client).await.unwrap_err();
    assert!(error.to_string().contains("track_counts"), "{error}");
}

#[tokio::test]
async fn a_locked_sequence_is_not_waited_for_long() {
    let Some(mut watched) = Watched::new().await else { return };
    let visitor = watched.server.visit("master").await;
    visitor.batch_execute("BEGIN; DROP SEQUENCE lonely").await.unwrap();
    let error = watched.gate.look(&watched.client).await.unwrap_err();
    assert!(error.to_string().contains("lock timeout"), "{error}");
    visitor.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(watched.look().await, NOTHING);
}

#[tokio::test]
async fn a_look_at_a_wazo_database_is_one_small_answer() {
    let Some((ddl, filling)) = pbxdb(&["ddl"]).zip(pbxdb(&["rows", "--users", "5"])) else { return };
    let Some(server) = Server::start().await else { return };
    server.create("asterisk", "UTF8").await;
    server.psql("asterisk", &ddl);
    server.psql("asterisk", &filling);
    let (client, traffic) = server.counted("asterisk").await;
    let mut gate = Gate::open(&client, &Exclusions::new(WAZO)).await.unwrap();
    gate.look(&client).await.unwrap();
    let before = (traffic.sent(), traffic.received());
    let (first, second) = (gate.look(&client).await.unwrap(), gate.look(&client).await.unwrap());
    assert!(second.changes_since(&first).is_none());
    let (sent, received) = (traffic.sent() - before.0, traffic.received() - before.1);
    assert!(sent < 2 * 500 && received < 2 * 500, "two looks sent {sent} and received {received} bytes");
}
