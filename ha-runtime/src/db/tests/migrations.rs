//! Another session changes the master's tables while a replication begins.

use std::time::Duration;

use super::*;

const TENANTS: &str =
    "CREATE TABLE tenants (id int PRIMARY KEY, name text); INSERT INTO tenants VALUES (1, 'one'), (2, 'two');
    CREATE TABLE other (id int PRIMARY KEY);";

/// The second session's statements hold their locks until the replication, which has opened its snapshot, waits for them.
async fn meanwhile(server: &Server, statements: &str) -> Result<DatabaseReport, DbError> {
    let (migration, watcher) = (server.visit("master").await, server.visit("postgres").await);
    migration.batch_execute(&format!("BEGIN; {statements}")).await.unwrap();
    let (options, mut replication) = (all(), None);
    let mut replicating = pin!(run(server, &options));
    let waits =
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = 'master' AND wait_event_type = 'Lock')";
    while replication.is_none() && !watcher.query_one(waits, &[]).await.unwrap().get::<_, bool>(0) {
        let turn = tokio::time::timeout(Duration::from_millis(5), &mut replicating).await;
        replication = turn.ok();
    }
    assert!(replication.is_none(), "it did not wait: {replication:?}");
    migration.batch_execute("COMMIT").await.unwrap();
    replicating.await
}

#[tokio::test]
async fn a_table_that_is_rewritten_while_a_replication_begins_is_never_emptied_on_the_slave() {
    let rewritten = "ALTER TABLE tenants ALTER name TYPE text USING name || '!';";
    let emptied = "TRUNCATE tenants; INSERT INTO tenants VALUES (3, 'three');";
    let recreated = "DROP TABLE tenants; CREATE TABLE tenants (id int PRIMARY KEY, name text);
        INSERT INTO tenants VALUES (4, 'four');";
    let replaced = "CREATE TABLE fresh (id int PRIMARY KEY, name text); INSERT INTO fresh VALUES (5, 'five');
        ALTER TABLE tenants RENAME TO former; ALTER TABLE fresh RENAME TO tenants; DROP TABLE former;";
    let Some(server) = pair(TENANTS, "", "").await else { return };
    for (statements, counted) in
        [(rewritten, (0, 2, 0)), (emptied, (1, 0, 2)), (recreated, (1, 0, 1)), (replaced, (1, 0, 1))]
    {
        let report = meanwhile(&server, statements).await.unwrap();
        assert_eq!(counts(&report), counted, "{statements}");
        assert_equal(&server, "SELECT * FROM tenants ORDER BY id").await;
    }
}

#[tokio::test]
async fn a_large_table_that_is_rewritten_while_an_empty_slave_is_filled_arrives_as_it_became() {
    let large = "CREATE TABLE large (id int PRIMARY KEY, t text);
        INSERT INTO large SELECT n, repeat('x', 99) FROM generate_series(1, 12000) n;";
    let rewritten = "ALTER TABLE large ALTER t TYPE text USING t || '!';";
    let emptied = "TRUNCATE large; INSERT INTO large VALUES (3, 'three');";
    for (statements, rows) in [(rewritten, 12_000), (emptied, 1)] {
        let Some(server) = pair(large, "", "TRUNCATE large").await else { return };
        let report = meanwhile(&server, statements).await.unwrap();
        assert_eq!(counts(&report), (rows, 0, 0), "{statements}");
        assert_equal(&server, "SELECT * FROM large ORDER BY id").await;
    }
}

#[tokio::test]
async fn a_table_that_is_migrated_while_a_replication_begins_stays_as_it_was_on_the_slave() {
    let Some(server) = pair(TENANTS, "", "").await else { return };
    let error = meanwhile(&server, "ALTER TABLE tenants ALTER name TYPE varchar(50);").await.unwrap_err();
    assert!(error.is_refusal(), "{error}");
    assert_equal(&server, "SELECT * FROM tenants ORDER BY id").await;
}

#[tokio::test]
async fn a_lock_on_a_table_that_stays_stops_nothing_and_one_on_a_copied_table_is_named() {
    let Some(server) = pair(TENANTS, "INSERT INTO tenants VALUES (3, 'three');", "").await else { return };
    let migration = server.visit("master").await;
    migration.batch_execute("BEGIN; LOCK TABLE other IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let wait = Duration::from_millis(50);
    let impatient = Options { lock_timeout: wait, attempts: 2, back_off: wait, ..without(&["other"]) };
    assert_eq!(counts(&run(&server, &impatient).await.unwrap()), (1, 0, 0));

    migration.batch_execute("LOCK TABLE tenants IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let error = run(&server, &impatient).await.unwrap_err();
    assert!(matches!(&error, DbError::Restless { attempts: 2, .. }), "{error}");
    assert!(error.to_string().starts_with("the master's database did not come to rest"), "{error}");
    migration.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(counts(&run(&server, &impatient).await.unwrap()), (0, 0, 0));
}
