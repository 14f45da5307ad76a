use std::path::Path;
use std::time::Duration;

use ha_tests::{Host, Lab};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// A connection to a host's database from outside the hosts: no bytes of it are on their network, and no process is
/// started for a question.
pub(crate) struct Sql {
    runtime: Runtime,
    client: Client,
}

impl Sql {
    /// To the database of a host that [`Stage`](crate::stage::Stage) has prepared.
    pub(crate) fn open(lab: &Lab, host: Host) -> Sql {
        let runtime = runtime();
        let client = runtime.block_on(connect(&lab.mailbox(host, "pg")));
        Sql { runtime, client }
    }

    /// Runs statements; returns how many rows they touched together.
    #[track_caller]
    pub(crate) fn run(&self, sql: &str) -> u64 {
        let touched = self.messages(sql).into_iter().filter_map(|message| match message {
            SimpleQueryMessage::CommandComplete(rows) => Some(rows),
            _ => None,
        });
        touched.sum()
    }

    /// The first column of every row.
    #[track_caller]
    pub(crate) fn column(&self, sql: &str) -> Vec<String> {
        let cells = self.messages(sql).into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
            _ => None,
        });
        cells.collect()
    }

    #[track_caller]
    fn messages(&self, sql: &str) -> Vec<SimpleQueryMessage> {
        let said = self.runtime.block_on(self.client.simple_query(sql));
        said.unwrap_or_else(|error| panic!("{error:?}: {:.200}", sql))
    }
}

/// A runtime for the connections of one thread.
pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A connection over the socket in that directory.
pub(crate) async fn connect(directory: &Path) -> Client {
    let mut config = Config::new();
    config.host_path(directory).user("postgres").dbname("asterisk").application_name("replication-figures");
    config.connect_timeout(Duration::from_secs(10));
    let connected = config.connect(NoTls).await;
    let (client, connection) =
        connected.unwrap_or_else(|error| panic!("PostgreSQL in {}: {error}", directory.display()));
    // it ends with the client, which hears of every error that matters
    tokio::spawn(async move { drop(connection.await) });
    client
}
