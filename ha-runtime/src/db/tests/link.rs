use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio_postgres::Config;

use super::*;
use crate::db::fate::fate;
use crate::db::{Fate, Fence, connect};

const SHAPE: &str = "CREATE TABLE t (id int PRIMARY KEY);";
const BOUND: Duration = Duration::from_secs(2);

/// The way to the replica, as a relay behind an SSH channel is: it can stall, heal and be cut.
struct Link(watch::Sender<Flow>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Open,
    Stalled,
    /// What the replica says does not come through any more.
    Deaf,
    Cut,
}

impl Link {
    /// A relay to the server and a replication's connection through it.
    async fn to(server: &Server, database: &str) -> (Link, Client) {
        let (near, far) = UnixStream::pair().unwrap();
        let (open, flows) = watch::channel(Flow::Open);
        let (from_near, to_near) = far.into_split();
        let (from_server, to_server) = UnixStream::connect(server.socket()).await.unwrap().into_split();
        tokio::spawn(carry(from_near, to_server, flows.clone(), &[Flow::Open, Flow::Deaf]));
        tokio::spawn(carry(from_server, to_near, flows, &[Flow::Open]));
        let mut config = Config::new();
        config.user("postgres").dbname(database);
        (Link(open), connect(near, &config).await.unwrap().0)
    }

    fn becomes(&self, flow: Flow) {
        self.0.send_replace(flow);
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut flow: watch::Receiver<Flow>,
    moves: &'static [Flow],
) {
    let mut buffer = vec![0; 4096];
    let mut moved = flow.clone();
    let moving = async {
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let open = moved.wait_for(|flow| moves.contains(flow)).await.is_ok();
            if !open || to.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = moving => {}
        cut = flow.wait_for(|flow| *flow == Flow::Cut) => drop(cut),
    }
}

/// Lets a replication come to its gate over a link, does something to that, opens the gate and returns its end.
async fn at_the_gate_of(
    server: &Server,
    client: &mut Client,
    act: impl AsyncFnOnce(),
    after: impl AsyncFnOnce(Transaction),
) -> Result<DatabaseReport, DbError> {
    let (gate, options, mut source) = (Held::default(), all(), server.connect("master").await);
    let mut replication = pin!(once(&mut source, client, &options, &gate));
    tokio::select! {
        result = &mut replication => panic!("it never reached its gate: {result:?}"),
        () = gate.reached.notified() => {}
    }
    act().await;
    let transaction = gate.transaction.lock().unwrap().take().unwrap();
    gate.open.notify_one();
    tokio::select! {
        result = &mut replication => return result,
        () = after(transaction) => {}
    }
    replication.await
}

async fn on_the_slave(server: &Server) -> usize {
    rows(&server.visit("slave").await, "SELECT * FROM t").await.len()
}

#[tokio::test]
async fn a_commit_that_a_stalled_link_delivers_after_a_takeover_commits_nothing() {
    let Some(server) = pair(SHAPE, "INSERT INTO t VALUES (1);", "").await else { return };
    let (link, mut client) = Link::to(&server, "slave").await;
    let mut fence = None;
    let old_batch = at_the_gate_of(
        &server,
        &mut client,
        async || link.becomes(Flow::Stalled),
        async |_| {
            // COMMIT is on its way now, and waits in the link
            fence = Some(Fence::take(server.visit("slave").await, BOUND).await.unwrap());
            link.becomes(Flow::Open);
        },
    )
    .await;
    // which of the two it learns depends on whether the server's last words came through
    assert!(matches!(old_batch, Err(DbError::Ended | DbError::CommitUnknown(_))), "{old_batch:?}");
    assert_eq!(on_the_slave(&server).await, 0);
    assert!(matches!(run(&server, &all()).await, Err(DbError::Fenced)));
}

#[tokio::test]
async fn a_link_cut_before_commit_rolls_back_and_frees_its_locks() {
    let Some(server) = pair(SHAPE, "INSERT INTO t VALUES (1);", "").await else { return };
    let (link, mut client) = Link::to(&server, "slave").await;
    let cut = async || {
        link.becomes(Flow::Cut);
        let there = server.visit("slave").await;
        while !rows(&there, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory'").await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let result = at_the_gate_of(&server, &mut client, cut, async |_| {}).await;
    assert!(matches!(result, Err(DbError::Ended)), "{result:?}");
    assert_eq!(on_the_slave(&server).await, 0);
    assert_eq!(counts(&run(&server, &all()).await.unwrap()), (1, 0, 0));
}

#[tokio::test]
async fn a_link_cut_during_commit_says_that_the_outcome_is_unknown_and_the_next_run_finds_out() {
    let Some(server) = pair(SHAPE, "INSERT INTO t VALUES (1);", "").await else { return };
    let (link, mut client) = Link::to(&server, "slave").await;
    let stall = async || link.becomes(Flow::Stalled);
    let cut = async |_| link.becomes(Flow::Cut);
    let result = at_the_gate_of(&server, &mut client, stall, cut).await;
    assert!(matches!(result, Err(DbError::CommitUnknown(_))), "{result:?}");
    run(&server, &all()).await.unwrap();
    assert_eq!(on_the_slave(&server).await, 1);
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_found_to_be_done() {
    let Some(server) = pair(SHAPE, "INSERT INTO t VALUES (1);", "").await else { return };
    let (link, mut client) = Link::to(&server, "slave").await;
    let result = at_the_gate_of(
        &server,
        &mut client,
        async || link.becomes(Flow::Deaf),
        async |transaction| {
            while on_the_slave(&server).await == 0 {
                tokio::task::yield_now().await;
            }
            // what the files of the same replication wait for
            assert_eq!(fate(&server.visit("slave").await, transaction).await.unwrap(), Fate::Committed);
            link.becomes(Flow::Cut);
        },
    )
    .await;
    assert!(matches!(result, Err(DbError::CommitUnknown(_))), "{result:?}");
    assert_eq!(counts(&run(&server, &all()).await.unwrap()), (0, 0, 0));
    assert_eq!(on_the_slave(&server).await, 1);
}
