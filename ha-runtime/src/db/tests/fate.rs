//! What became of a transaction, asked of a real server.

use ha_core::replication::wire::Transaction;

use super::super::fate::{fate, server_identity};
use super::super::{Fate, end_replications};
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
    let future = Transaction { id: committed.id + (1 << 40), ..committed };
    for lost in [other, future] {
        assert!(matches!(fate(&asking, lost).await.unwrap(), Fate::Unknown(_)), "{lost:?}");
    }
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
