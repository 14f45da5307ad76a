//! What became of a transaction, asked of a real server.

use ha_core::replication::wire::Transaction;

use super::super::fate::{fate, fate_within, server_identity};
use super::super::{Fate, FateError, end_replications, make_durable};
use super::*;

/// A transaction of a replication that has written, and its client.
async fn begun(server: &Server) -> (Client, Transaction) {
    let client = server.connect("one").await;
    client.batch_execute("BEGIN; INSERT INTO t VALUES (1)").await.unwrap();
    let id: i64 = client.query_one("SELECT txid_current()", &[]).await.unwrap().get(0);
    let server = server_identity(&client).await.unwrap();
    (client, Transaction { server, id: id.cast_unsigned() })
}

#[tokio::test]
async fn the_server_tells_what_became_of_a_transaction_and_one_that_still_runs_is_ended() {
    let Some(server) = Server::start().await else { return };
    server.fill("one", "CREATE TABLE t (i int)").await;
    let asking = server.visit("one").await;
    let (client, committed) = begun(&server).await;
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(fate(&asking, committed).await.unwrap(), Fate::Committed);

    let (client, rolled_back) = begun(&server).await;
    client.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(fate(&asking, rolled_back).await.unwrap(), Fate::RolledBack);

    let (client, running) = begun(&server).await;
    let idle = server.connect("one").await;
    assert_eq!(fate(&asking, running).await.unwrap(), Fate::RolledBack);
    assert!(client.batch_execute("COMMIT").await.is_err(), "it cannot commit any more");
    assert!(idle.batch_execute("SELECT 1").await.is_ok(), "another connection is left alone");

    let other = Transaction { server: committed.server ^ 1, ..committed };
    assert!(matches!(fate(&asking, other).await.unwrap(), Fate::Unknown(_)));
    let future = Transaction { id: committed.id + (1 << 40), ..committed };
    assert_eq!(fate(&asking, future).await.unwrap(), Fate::RolledBack);
}

#[tokio::test]
async fn a_transaction_that_cannot_be_ended_has_no_fate_yet() {
    let Some(server) = Server::start().await else { return };
    server.fill("one", "CREATE TABLE t (i int)").await;
    let asking = server.visit("one").await;
    let (client, transaction) = begun(&server).await;
    // it does not look like a replication, which is all that is ever ended
    client.batch_execute("SET application_name = 'another'").await.unwrap();
    let asked = fate_within(&asking, transaction, std::time::Duration::from_millis(50)).await;
    assert!(matches!(asked, Err(FateError::Running(_))), "{asked:?}");
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(fate(&asking, transaction).await.unwrap(), Fate::Committed);
}

#[tokio::test]
async fn an_id_that_was_made_durable_is_not_given_to_another_transaction_after_a_crash() {
    let Some(mut server) = Server::start().await else { return };
    server.fill("one", "CREATE TABLE t (i int)").await;
    let (asking, victim) = (server.visit("one").await, server.visit("one").await);
    let (_client, transaction) = begun(&server).await;
    make_durable(&asking).await.unwrap();
    server.crash(&victim).await;

    let unrelated = server.visit("one").await;
    unrelated.batch_execute("BEGIN; INSERT INTO t VALUES (2)").await.unwrap();
    let id: i64 = unrelated.query_one("SELECT txid_current()", &[]).await.unwrap().get(0);
    unrelated.batch_execute("COMMIT").await.unwrap();
    assert!(id.cast_unsigned() > transaction.id, "{id} was given out before, as {transaction:?}");
    assert_eq!(fate(&server.visit("one").await, transaction).await.unwrap(), Fate::RolledBack);
}

#[tokio::test]
async fn a_replication_of_a_master_that_is_gone_is_ended_and_idle_connections_are_not() {
    let Some(server) = Server::start().await else { return };
    server.fill("one", "CREATE TABLE t (i int)").await;
    let (asking, idle) = (server.visit("one").await, server.connect("one").await);
    let (client, transaction) = begun(&server).await;
    end_replications(&asking).await.unwrap();
    assert_eq!(fate(&asking, transaction).await.unwrap(), Fate::RolledBack);
    assert!(client.batch_execute("COMMIT").await.is_err());
    assert!(idle.batch_execute("SELECT 1").await.is_ok());
}
