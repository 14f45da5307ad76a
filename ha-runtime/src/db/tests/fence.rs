use std::time::{Duration, Instant};

use super::*;
use crate::db::{ADVISORY_LOCK, Fence, FenceError};

const SHAPE: &str = "CREATE TABLE t (id int PRIMARY KEY);";
const BOUND: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_batch_one_step_before_commit_never_commits_once_the_fence_is_up() {
    let Some(server) = pair(SHAPE, "INSERT INTO t VALUES (1);", "").await else { return };
    let (old_batch, fence) =
        at_the_gate(&server, async { Fence::take(server.visit("slave").await, BOUND).await.unwrap() }).await;
    let error = old_batch.unwrap_err();
    assert!(matches!(error, DbError::Ended), "{error}");
    assert!(rows(&server.visit("slave").await, "SELECT * FROM t").await.is_empty());

    let error = run(&server, &all()).await.unwrap_err();
    assert!(matches!(error, DbError::Fenced) && error.is_refusal(), "{error}");
    assert!(error.to_string().contains("telephony is active on the other node"));

    assert!(fence.is_held().await);
    fence.release().await.unwrap();
    assert_eq!(counts(&run(&server, &all()).await.unwrap()), (1, 0, 0));
}

#[tokio::test]
async fn a_fence_that_is_dropped_or_cut_lets_replication_in_again() {
    let Some(server) = pair(SHAPE, "INSERT INTO t VALUES (1);", "").await else { return };
    let fence = Fence::take(server.visit("slave").await, BOUND).await.unwrap();
    let end =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pbx-ha fence'";
    server.visit("postgres").await.batch_execute(end).await.unwrap();
    assert!(!fence.is_held().await, "it knows that it was lost");

    let again = Fence::take(server.visit("slave").await, BOUND).await.unwrap();
    drop(again);
    assert_eq!(counts(&run(&server, &all()).await.unwrap()), (1, 0, 0));
}

#[tokio::test]
async fn a_fence_elsewhere_on_the_server_concerns_nobody() {
    let Some(server) = pair(SHAPE, "INSERT INTO t VALUES (1);", "").await else { return };
    let _elsewhere = Fence::take(server.visit("postgres").await, BOUND).await.unwrap();
    assert_eq!(counts(&run(&server, &all()).await.unwrap()), (1, 0, 0));
}

#[tokio::test]
async fn a_lock_that_cannot_be_had_delays_a_takeover_no_longer_than_its_bound() {
    let Some(server) = pair(SHAPE, "", "").await else { return };
    let other = server.visit("slave").await;
    other.batch_execute(&format!("SELECT pg_advisory_lock({ADVISORY_LOCK})")).await.unwrap();
    let bound = Duration::from_millis(200);
    let started = Instant::now();
    let error = Fence::take(server.visit("slave").await, bound).await.unwrap_err();
    assert!(matches!(error, FenceError::Timeout(_)), "{error}");
    assert!(started.elapsed() >= bound);
}
