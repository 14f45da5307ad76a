//! What a first copy of the database could cost if nobody looked at anything.

use std::pin::pin;
use std::time::Instant;

use futures_util::{SinkExt, StreamExt};
use ha_tests::Host;
use tokio_postgres::{Client, Error};

use crate::baseline::SSH;
use crate::equal;
use crate::measure::{self, Sample};
use crate::sql::{connect, runtime};
use crate::stage::Stage;

/// The end of the tunnel, in the master.
const TUNNEL: &str = "/run/lab/tunnel";

/// Statements that set the sequences that have given a value.
const SEQUENCES: &str =
    "SELECT format('SELECT setval(%L, %s)', format('%I.%I', schemaname, sequencename), last_value)
    FROM pg_sequences WHERE schemaname = 'public' AND last_value IS NOT NULL";

/// Fills an empty slave by binary COPY through one SSH session, straight out of one server into the other.
pub(crate) fn database(stage: &Stage) -> Sample {
    let open = format!(
        "mkdir -p {TUNNEL} && {SSH} -f -N -M -S {TUNNEL}/control -o ExitOnForwardFailure=yes \
         -L {TUNNEL}/.s.PGSQL.5432:/run/postgresql/.s.PGSQL.5432 root@10.77.0.12 2>/dev/null"
    );
    let (opened, _) = measure::run(stage.lab(), &open);
    let (begin, before) = (Instant::now(), counters(stage));
    let near = stage.lab().mailbox(Host::Master, "pg");
    let far = stage.lab().mailbox(Host::Master, "tunnel");
    let tables = equal::tables(&stage.master);
    let copied =
        runtime().block_on(async { copy(&connect(&near).await, &connect(&far).await, &tables).await });
    copied.unwrap_or_else(|error| panic!("binary COPY: {error:?}"));
    let (took, after) = (begin.elapsed(), counters(stage));
    stage
        .lab()
        .sh(Host::Master, &format!("{SSH} -S {TUNNEL}/control -O exit root@10.77.0.12; rm -r {TUNNEL}"));
    Sample {
        took: opened.took + took,
        sent: opened.sent + after[0] - before[0],
        received: opened.received + after[1] - before[1],
    }
}

/// Bytes that the master has sent and received.
fn counters(stage: &Stage) -> [u64; 2] {
    ["tx", "rx"].map(|direction| {
        let counter = format!("/sys/class/net/eth0/statistics/{direction}_bytes");
        let text = stage.lab().exec(Host::Master, &["cat", &counter]).ok();
        text.trim().parse().expect("a counter")
    })
}

async fn copy(near: &Client, far: &Client, tables: &[String]) -> Result<(), Error> {
    far.batch_execute("BEGIN; SET LOCAL session_replication_role = replica").await?;
    for table in tables {
        let out = format!("COPY \"{table}\" TO STDOUT (FORMAT binary)");
        let into = format!("COPY \"{table}\" FROM STDIN (FORMAT binary)");
        let (from, to) = tokio::try_join!(near.copy_out(&out), far.copy_in(&into))?;
        let (mut from, mut to) = (pin!(from), pin!(to));
        while let Some(rows) = from.next().await {
            to.feed(rows?).await?;
        }
        to.finish().await?;
    }
    let sequences = near.query(SEQUENCES, &[]).await?;
    let values: Vec<&str> = sequences.iter().map(|row| row.get(0)).collect();
    far.batch_execute(&values.join(";\n")).await?;
    far.batch_execute("COMMIT").await
}
