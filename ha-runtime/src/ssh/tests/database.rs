use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use rustix::process::Signal;
use tokio_postgres::{Client, Config, NoTls};

use super::super::Ssh;
use super::postgres::{self, Postgres};
use super::sshd::{authorize, far_end, start};
use crate::far::{Child, Far, FarEnd, FarError, Word};
use crate::relay::Server;

const PATIENCE: Duration = Duration::from_secs(30);

/// Opens the relay to the server and speaks PostgreSQL through it.
async fn connect(far: &dyn Far, postgres: &Postgres) -> (Client, FarEnd) {
    let mut stream = far.open(Word::Relay).unwrap();
    let server = Server::new(&postgres.socket_directory(), 5432).unwrap();
    stream.write_all(server.greeting().as_bytes()).unwrap();
    let (socket, end) = stream.into_parts();
    socket.set_nonblocking(true).unwrap();
    let socket = tokio::net::UnixStream::from_std(socket).unwrap();
    let connected = Config::new().user(&postgres.user).dbname("postgres").connect_raw(socket, NoTls).await;
    let (client, connection) = match connected {
        Ok(both) => both,
        Err(error) => panic!("{error}: {:?}", end.wait(PATIENCE)),
    };
    tokio::spawn(connection);
    (client, end)
}

async fn select_and_copy(far: &dyn Far, postgres: &Postgres) {
    let (client, end) = connect(far, postgres).await;
    let row = client.query_one("SELECT current_user::text, inet_server_addr() IS NULL", &[]).await.unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, bool>(1)), (postgres.user.as_str(), true));
    let copy = "COPY (SELECT repeat('x', 99) FROM generate_series(1, 200000)) TO STDOUT";
    let mut rows = std::pin::pin!(client.copy_out(copy).await.unwrap());
    let mut bytes = 0;
    while let Some(part) = rows.next().await {
        bytes += part.unwrap().len();
    }
    assert_eq!(bytes, 20_000_000);
    assert!(far.traffic().received > 20_000_000);
    drop(client);
    let ended = tokio::task::spawn_blocking(move || end.wait(PATIENCE)).await.unwrap().unwrap();
    assert!(ended.is_success(), "{ended}");
}

#[tokio::test]
async fn the_far_database_is_reached_through_a_restricted_key_as_its_own_user() {
    let (Some(postgres), Some(sshd)) = (postgres::start(), start("")) else { return };
    std::fs::remove_file(sshd.path("home/.ssh/authorized_keys")).unwrap();
    authorize(sshd.directory.path(), "client", &format!("restrict,command=\"{} agent\" ", far_end()));
    let ssh = Ssh::connect(&sshd.target(&["/usr/bin/far", "agent"])).unwrap();
    select_and_copy(&ssh, &postgres).await;
    select_and_copy(&ssh, &postgres).await;
}

#[tokio::test]
async fn the_own_database_is_reached_as_its_own_user() {
    let Some(postgres) = postgres::start() else { return };
    select_and_copy(&Child::new(vec![far_end(), "agent".into()], BTreeMap::new()), &postgres).await;
}

#[tokio::test]
async fn a_link_cut_in_the_middle_of_a_transaction_is_an_error_and_rolls_it_back() {
    let (Some(postgres), Some(sshd)) = (postgres::start(), start("")) else { return };
    let ssh = Ssh::connect(&sshd.target(&[&far_end(), "agent"])).unwrap();
    let (client, end) = connect(&ssh, &postgres).await;
    client.batch_execute("CREATE TABLE t (n int)").await.unwrap();
    client.batch_execute("BEGIN; INSERT INTO t VALUES (1)").await.unwrap();
    sshd.signal_sessions(Signal::KILL);
    assert!(client.batch_execute("COMMIT").await.is_err());
    let lost = tokio::task::spawn_blocking(move || end.wait(PATIENCE)).await.unwrap().unwrap_err();
    assert!(matches!(lost, FarError::Lost { .. }), "{lost}");

    let again = Ssh::connect(ssh.target()).unwrap();
    let (client, _end) = connect(&again, &postgres).await;
    let open = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'";
    let deadline = Instant::now() + PATIENCE;
    while client.query_one(open, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        assert!(Instant::now() < deadline, "the relay keeps the cut connection open");
    }
    let row = client.query_one("SELECT count(*) FROM t", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 0);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_reported_in_the_relays_own_words() {
    let Some(sshd) = start("") else { return };
    let ssh = Ssh::connect(&sshd.target(&[&far_end(), "agent"])).unwrap();
    let mut relay = ssh.open(Word::Relay).unwrap();
    relay.write_all(Server::new("/nonexistent", 5432).unwrap().greeting().as_bytes()).unwrap();
    let ending = relay.finish(PATIENCE).unwrap();
    let expected =
        "status 1: relay: no connection to PostgreSQL at /nonexistent 5432: No such file or directory";
    assert!(ending.to_string().starts_with(expected), "{ending}");
}
