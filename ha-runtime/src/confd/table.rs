//! The general SIP options as rows of the PBX's database, for releases whose API does not have them.

use std::fmt;
use std::time::Duration;

use ha_core::effect::{Command, OnFailure};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::command;
use crate::context::Context;
use crate::way;

/// Name and value; Asterisk takes the last of several rows of a name.
pub type Row = (String, Option<String>);

/// Rows of the three options, wherever they are kept. Implementations block, with bounds of their own.
pub trait SipTable: fmt::Debug + Send + Sync {
    /// The rows in force, in their order; `None`: this release keeps its SIP options elsewhere. Err: why they cannot be
    /// read, a clause.
    fn read(&self, names: &[&str]) -> Result<Option<Vec<Row>>, String>;

    /// Replaces the rows of these names by `rows`. Err: nothing is changed.
    fn write(&self, names: &[&str], rows: &[Row]) -> Result<(), String>;
}

/// The table `staticsip` of this node's database, as XiVO has it since 2012.
#[derive(Debug, Clone)]
pub struct StaticSip(Context);

/// For the login and the question together.
const PATIENCE: Duration = Duration::from_secs(20);
/// What of the table are the general options.
const GENERAL: &str = "filename = 'sip.conf' AND category = 'general' AND commented = 0";

impl StaticSip {
    /// Over `[postgres] local`.
    pub fn new(context: &Context) -> StaticSip {
        StaticSip(context.clone())
    }

    /// In a thread and a runtime of its own: the caller may be on a thread that has a runtime already.
    fn ask<T: Send>(&self, ask: impl AsyncFnOnce(&Client) -> Result<T, String> + Send) -> Result<T, String> {
        let asking = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let asked = way::ask_local_database(&self.0, PATIENCE, ask);
            runtime.map_err(|error| error.to_string())?.block_on(asked)
        };
        let ended = |_| Err("the thread that asks it ended".to_owned());
        std::thread::scope(|scope| scope.spawn(asking).join().unwrap_or_else(ended))
    }
}

impl SipTable for StaticSip {
    fn read(&self, names: &[&str]) -> Result<Option<Vec<Row>>, String> {
        self.ask(async |client: &Client| read(client, names).await)
    }

    /// A running Asterisk is told; one that does not run reads the rows when it starts.
    fn write(&self, names: &[&str], rows: &[Row]) -> Result<(), String> {
        self.ask(async |client: &Client| write(client, names, rows).await)?;
        let reload = Command {
            argv: ["asterisk", "-rx", "sip reload"].map(str::to_owned).to_vec(),
            timeout: Duration::from_secs(10),
            on_failure: OnFailure::GoOn,
        };
        if let Err(error) = command::run(&self.0.root, &reload, &mut |_| {}) {
            tracing::debug!("the SIP options are in the database: {error}");
        }
        Ok(())
    }
}

async fn read(client: &Client, names: &[&str]) -> Result<Option<Vec<Row>>, String> {
    // a release that keeps them here has dozens of other options here, too
    let any = format!("SELECT EXISTS (SELECT FROM staticsip WHERE {GENERAL})");
    match client.query_one(&any, &[]).await {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => return Ok(None),
        Err(error) => return Err(error.to_string()),
        Ok(row) if !row.get::<_, bool>(0) => return Ok(None),
        Ok(_) => {}
    }
    let rows = numbered(client, names, "").await?;
    Ok(Some(rows.into_iter().map(|(_, row)| row).collect()))
}

/// The rows with their ids.
async fn numbered(client: &Client, names: &[&str], lock: &str) -> Result<Vec<(i32, Row)>, String> {
    let query = format!(
        "SELECT id, var_name, var_val FROM staticsip WHERE {GENERAL} AND var_name = ANY($1) \
         ORDER BY var_metric, id {lock}"
    );
    let found = client.query(&query, &[&names]).await.map_err(|error| error.to_string())?;
    Ok(found.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect())
}

/// Rows keep their ids and places as far as there are as many as before. A failure ends the connection's transaction with it.
async fn write(client: &Client, names: &[&str], rows: &[Row]) -> Result<(), String> {
    let failed = |error: tokio_postgres::Error| error.to_string();
    client.batch_execute("BEGIN").await.map_err(failed)?;
    let before = numbered(client, names, "FOR UPDATE").await?;
    for name in names {
        let mut ids = before.iter().filter(|(_, row)| row.0 == *name).map(|(id, _)| id);
        for (_, value) in rows.iter().filter(|row| row.0 == *name) {
            match ids.next() {
                Some(id) => {
                    client.execute("UPDATE staticsip SET var_val = $2 WHERE id = $1", &[id, value]).await
                }
                None => {
                    let insert = "INSERT INTO staticsip (filename, category, var_name, var_val) \
                                  VALUES ('sip.conf', 'general', $1, $2)";
                    client.execute(insert, &[name, value]).await
                }
            }
            .map_err(failed)?;
        }
        for surplus in ids {
            client.execute("DELETE FROM staticsip WHERE id = $1", &[surplus]).await.map_err(failed)?;
        }
    }
    client.batch_execute("COMMIT").await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Server;

    const NAMES: &[&str] = &["minexpiry", "maxexpiry"];

    fn row(name: &str, value: &str) -> Row {
        (name.to_owned(), Some(value.to_owned()))
    }

    #[tokio::test]
    async fn the_general_options_are_read_and_replaced_and_nothing_else() {
        let Some(server) = Server::start().await else { return };
        server.fill("other", "CREATE TABLE users (id int)").await;
        assert_eq!(read(&server.connect("other").await, NAMES).await, Ok(None), "another release");
        let sql = "CREATE TABLE staticsip (id serial PRIMARY KEY, cat_metric int NOT NULL DEFAULT 0,
                var_metric int NOT NULL DEFAULT 0, commented int NOT NULL DEFAULT 0, filename varchar(128) NOT NULL,
                category varchar(128) NOT NULL, var_name varchar(128) NOT NULL, var_val varchar(255));
            INSERT INTO staticsip (filename, category, var_name, var_val, commented) VALUES
                ('sip.conf', 'general', 'maxexpiry', '3600', 0), ('sip.conf', 'general', 'maxexpiry', '1', 1),
                ('sip.conf', 'general', 'register', 'a', 0), ('sip.conf', 'authentication', 'maxexpiry', '2', 0)";
        server.fill("asterisk", sql).await;
        let client = server.connect("asterisk").await;
        let all = async || {
            let query = "SELECT concat_ws(' ', id, category, var_name, var_val) FROM staticsip ORDER BY id";
            let rows = client.query(query, &[]).await.unwrap();
            rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>()
        };
        let before = all().await;
        assert_eq!(read(&client, NAMES).await, Ok(Some(vec![row("maxexpiry", "3600")])));

        let paired = [row("maxexpiry", "300"), row("minexpiry", "60")];
        write(&client, NAMES, &paired).await.unwrap();
        assert_eq!(read(&client, NAMES).await, Ok(Some(paired.to_vec())));
        let now = all().await;
        assert_eq!((now[0].as_str(), &now[1..4]), ("1 general maxexpiry 300", &before[1..]));

        write(&client, NAMES, &[row("maxexpiry", "3600")]).await.unwrap();
        assert_eq!(all().await, before);
    }
}
