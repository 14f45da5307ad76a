//! What a master that was cut off leaves logged in.

use std::time::Duration;

use super::super::end_idle;
use super::*;

#[tokio::test]
async fn logins_that_were_left_over_are_ended_and_those_that_work_are_not() {
    let Some(server) = Server::start().await else { return };
    server.fill("one", "CREATE TABLE t (i int)").await;
    server.fill("two", "CREATE TABLE t (i int)").await;
    let (own, left_over) = (server.connect("one").await, server.connect("one").await);
    let (works, elsewhere) = (server.connect("one").await, server.connect("two").await);
    let somebody = server.visit("one").await;
    for client in [&left_over, &elsewhere, &somebody] {
        client.batch_execute("SELECT 1").await.unwrap();
    }
    works.batch_execute("BEGIN; INSERT INTO t VALUES (1)").await.unwrap();

    end_idle(&own, Duration::from_secs(600)).await.unwrap();
    assert!(left_over.batch_execute("SELECT 1").await.is_ok(), "it has not rested for so long");

    end_idle(&own, Duration::ZERO).await.unwrap();
    assert!(left_over.batch_execute("SELECT 1").await.is_err());
    assert!(works.batch_execute("COMMIT").await.is_ok());
    for client in [&own, &elsewhere, &somebody] {
        assert!(client.batch_execute("SELECT 1").await.is_ok());
    }
}
