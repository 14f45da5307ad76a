//! Replication between real databases on private servers.

mod digests;
mod fate;
mod fence;
mod gate;
mod idle;
mod large;
mod link;
mod migrations;
mod overloads;
mod refusals;
mod remembered;
mod rows;
mod wazo;

use std::pin::pin;
use std::sync::Mutex;

use async_trait::async_trait;
use ha_core::profile::{Exclusion, Why};
use ha_core::replication::tables::Exclusions;
use ha_core::replication::wire::Transaction;
use tokio::sync::Notify;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::server::Server;
use super::{CommitGate, DatabaseReport, DbError, Options, Remembered, replicate};

/// Nothing stands in the way.
struct Open;

#[async_trait]
impl CommitGate for Open {
    async fn confirm(&self, _transaction: Transaction) -> Result<(), String> {
        Ok(())
    }
}

/// A gate that says that it was reached, and waits to be opened.
#[derive(Default)]
struct Held {
    reached: Notify,
    open: Notify,
    /// The transaction that waits there.
    transaction: Mutex<Option<Transaction>>,
}

#[async_trait]
impl CommitGate for Held {
    async fn confirm(&self, transaction: Transaction) -> Result<(), String> {
        *self.transaction.lock().unwrap() = Some(transaction);
        self.reached.notify_one();
        self.open.notified().await;
        Ok(())
    }
}

/// Does something while a replication is one step before its COMMIT, then lets that go on.
async fn at_the_gate<T>(
    server: &Server,
    act: impl Future<Output = T>,
) -> (Result<DatabaseReport, DbError>, T) {
    let (gate, options) = (Held::default(), all());
    let mut replication = pin!(run_through(server, &options, &gate));
    tokio::select! {
        result = &mut replication => panic!("it never reached its gate: {result:?}"),
        () = gate.reached.notified() => {}
    }
    let done = act.await;
    gate.open.notify_one();
    (replication.await, done)
}

/// What Wazo leaves where it is (`domain.md` 2.6).
const WAZO: &[Exclusion] = &[
    left("cel", Why::Seed),
    left("dhcp", Why::Seed),
    left("mail", Why::Seed),
    left("netiface", Why::Seed),
    left("queue_log", Why::Seed),
    left("resolvconf", Why::Seed),
    left("stat_*", Why::Seed),
    left("call_logd_*", Why::SeedToday),
    left("infos", Why::Identity),
    left("session", Why::Runtime),
    left("auth_token", Why::Runtime),
    left("auth_session", Why::Runtime),
    left("auth_refresh_token", Why::Runtime),
    left("auth_saml_session", Why::Runtime),
    left("webhookd_subscription_log", Why::Runtime),
];

const fn left(table: &'static str, why: Why) -> Exclusion {
    Exclusion { table, why }
}

/// Copies everything.
fn all() -> Options {
    Options::new(Exclusions::default())
}

/// Copies all but some tables.
fn without(names: &[&str]) -> Options {
    Options::new(Exclusions::default().with_settings(names))
}

/// A server with the databases `master` and `slave`, both made by `shape`, then changed by one script each.
async fn pair(shape: &str, master: &str, slave: &str) -> Option<Server> {
    let server = Server::start().await?;
    server.fill("master", &format!("{shape} {master}")).await;
    server.fill("slave", &format!("{shape} {slave}")).await;
    Some(server)
}

async fn run(server: &Server, options: &Options) -> Result<DatabaseReport, DbError> {
    run_through(server, options, &Open).await
}

async fn run_through(
    server: &Server,
    options: &Options,
    gate: &dyn CommitGate,
) -> Result<DatabaseReport, DbError> {
    let (mut source, mut replica) = (server.connect("master").await, server.connect("slave").await);
    once(&mut source, &mut replica, options, gate).await
}

/// A replication that knows of none before it.
async fn once(
    source: &mut Client,
    replica: &mut Client,
    options: &Options,
    gate: &dyn CommitGate,
) -> Result<DatabaseReport, DbError> {
    replicate(source, replica, &mut Remembered::default(), options, gate).await
}

/// Inserted, updated, deleted.
fn counts(report: &DatabaseReport) -> (u64, u64, u64) {
    (report.rows_inserted, report.rows_updated, report.rows_deleted)
}

/// All rows as text, in order, and the place of each.
async fn rows(client: &Client, query: &str) -> Vec<Vec<Option<String>>> {
    let messages = client.simple_query(query).await.unwrap();
    let row = |message: SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
        }
        _ => None,
    };
    messages.into_iter().filter_map(row).collect()
}

/// Asserts that a query gives the same rows on both nodes.
async fn assert_equal(server: &Server, query: &str) {
    let (here, there) = (server.visit("master").await, server.visit("slave").await);
    let here = rows(&here, query).await;
    assert!(!here.is_empty(), "{query} proves nothing");
    assert_eq!(here, rows(&there, query).await, "{query}");
}
