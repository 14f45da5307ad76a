//! Logins of replications that nobody uses any more.

use std::time::Duration;

use tokio_postgres::Client;

use super::APPLICATION_NAME;
use super::error::Fault;

/// A login that has rested for so long is not one that was opened just now.
pub const LEFT_OVER: Duration = Duration::from_secs(10);

/// Ends the replications' sessions in the client's database that have had no transaction open for `rested`, but for the
/// client's own. A slave has one master, and one replication at a time: the others are of a line that was cut, of which
/// this end learns by TCP's keepalive only, after two hours.
pub async fn end_idle(client: &Client, rested: Duration) -> Result<(), Fault> {
    let end = "SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity \
        WHERE application_name = $1 AND datname = pg_catalog.current_database() AND pid <> pg_catalog.pg_backend_pid() \
        AND state = 'idle' AND state_change <= pg_catalog.clock_timestamp() - $2 * interval '1 second'";
    let ended = client.query_one(end, &[&APPLICATION_NAME, &rested.as_secs_f64()]).await;
    ended.map(drop).map_err(|error| Fault::new("ending logins that were left over", error))
}
