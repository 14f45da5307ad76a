//! Replications one after the other over the same two connections.

use super::*;
use crate::db::Traffic;

/// What a daemon keeps from one replication to the next.
struct Line {
    source: Client,
    replica: Client,
    traffic: Traffic,
    remembered: Remembered,
}

impl Line {
    async fn open(server: &Server) -> Line {
        let (replica, traffic) = server.counted("slave").await;
        Line { source: server.connect("master").await, replica, traffic, remembered: Remembered::default() }
    }

    async fn run(&mut self) -> Result<DatabaseReport, DbError> {
        replicate(&mut self.source, &mut self.replica, &mut self.remembered, &all(), &Open).await
    }
}

const SHAPE: &str = "CREATE TYPE kind AS ENUM ('a', 'b');
    CREATE TABLE t (id int PRIMARY KEY, v text, k kind); INSERT INTO t VALUES (1, 'one', 'a'), (2, 'two', 'b');
    CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1);";

async fn on_both(server: &Server, statements: &str) {
    for database in ["master", "slave"] {
        server.visit(database).await.batch_execute(statements).await.unwrap();
    }
}

#[tokio::test]
async fn every_replication_over_one_line_sees_what_changed_since_the_one_before() {
    let Some(server) = pair(SHAPE, "", "").await else { return };
    let (mut line, master) = (Line::open(&server).await, server.visit("master").await);
    assert_eq!(counts(&line.run().await.unwrap()), (0, 0, 0));
    for name in ["eins", "uno", "un"] {
        master.batch_execute(&format!("UPDATE t SET v = '{name}' WHERE id = 1")).await.unwrap();
        assert_eq!(counts(&line.run().await.unwrap()), (0, 1, 0));
        assert_equal(&server, "SELECT * FROM t ORDER BY id").await;
    }
}

#[tokio::test]
async fn a_shape_that_changed_since_the_replication_before_is_seen() {
    let Some(server) = pair(SHAPE, "", "").await else { return };
    let mut line = Line::open(&server).await;
    line.run().await.unwrap();

    on_both(&server, "ALTER TABLE t ADD w int; CREATE TABLE late (id int PRIMARY KEY);").await;
    let master = server.visit("master").await;
    master.batch_execute("UPDATE t SET w = 7 WHERE id = 2; INSERT INTO late VALUES (9)").await.unwrap();
    let report = line.run().await.unwrap();
    assert_eq!((counts(&report), report.tables), ((1, 1, 0), 3));
    assert_equal(&server, "SELECT id, v, w FROM t ORDER BY id").await;
    assert_equal(&server, "SELECT id FROM late").await;

    // the statements' texts stay as they are, the tables that they mean do not
    on_both(&server, "DROP TABLE u; CREATE TABLE u (id int PRIMARY KEY)").await;
    master.batch_execute("INSERT INTO u VALUES (5), (6)").await.unwrap();
    assert_eq!(counts(&line.run().await.unwrap()), (2, 0, 0));

    master.batch_execute("ALTER TABLE t ADD x int").await.unwrap();
    let refused = line.run().await.unwrap_err();
    assert!(matches!(refused, DbError::Drift(_)), "{refused}");
    server.visit("slave").await.batch_execute("ALTER TABLE t ADD x int").await.unwrap();
    assert_eq!(counts(&line.run().await.unwrap()), (0, 0, 0));
}

#[tokio::test]
async fn a_statement_for_many_tables_is_sent_to_a_server_once() {
    let tables = (0..100).map(|n| format!("CREATE TABLE t{n} (id int PRIMARY KEY, some_long_name text);"));
    let Some(server) = pair(&tables.collect::<String>(), "", "").await else { return };
    let mut line = Line::open(&server).await;
    let mut sent = Vec::new();
    for _ in 0..3 {
        let before = line.traffic.sent();
        line.run().await.unwrap();
        sent.push(line.traffic.sent() - before);
    }
    assert!(sent[1] < sent[0] / 2 && sent[2] == sent[1], "{sent:?}");
}
