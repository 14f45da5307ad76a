//! The ways to the other node and to the two databases, as the settings have them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::config::Host;

use crate::context::Context;
use crate::db;
use crate::far::{Child, Far, FarEnd, FarStream, Word};
use crate::relay::Server;
use crate::replicate;
use crate::report::Failure;
use crate::settings::Transport;
use crate::ssh::{Ssh, SshTarget};

/// Longest wait for each step of a session's start.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Silence after which the far end is asked for a sign of life; a cut is noticed after three times that.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// What `[ssh] port` is unless it is set.
const DEFAULT_PORT: u16 = 22;

/// How the other node is reached.
#[derive(Debug, Clone, Default)]
pub enum Way {
    /// Over SSH, as `[ssh]` says.
    #[default]
    Ssh,
    /// As a program of this machine: a pair on one machine, for demonstration.
    Program(Vec<String>),
}

/// Where the other node's sshd is.
pub fn ssh_target(context: &Context, peer: IpAddr) -> SshTarget {
    let ssh = &context.settings.ssh;
    // of the two the PBX's own file is the one that its administrators know; what it cannot say others tell
    let said = replicate::copying(context).ok().and_then(|copying| copying.ssh_port);
    let port = said.filter(|_| ssh.port == DEFAULT_PORT).unwrap_or(ssh.port);
    SshTarget {
        user: ssh.user.clone(),
        host: peer,
        port,
        key: ssh.key.clone(),
        known_hosts: ssh.known_hosts.clone(),
        command: ssh.agent.clone(),
        connect_timeout: CONNECT_TIMEOUT,
        keepalive: KEEPALIVE,
        bandwidth: context.settings.replication.bandwidth.0,
    }
}

/// Opens the way to the other node. Blocks.
pub fn to_peer(context: &Context, peer: IpAddr) -> Result<Box<dyn Far>, Failure> {
    match &context.way {
        Way::Ssh => Ssh::connect(&ssh_target(context, peer))
            .map(|ssh| Box::new(ssh) as Box<dyn Far>)
            .map_err(Failure::environment),
        Way::Program(argv) => Ok(Box::new(Child::new(argv.clone(), BTreeMap::new()))),
    }
}

/// An agent of this node, which knows the same files and settings: a receiver that nobody had to log in for.
pub fn own_agent(context: &Context) -> Result<Child, Failure> {
    let path = |path: &Path| path.display().to_string();
    let argv = vec![
        path(&own_program()?),
        "--root".to_owned(),
        path(context.root.directory()),
        "--config".to_owned(),
        path(&context.settings_path),
        Word::Agent.to_string(),
    ];
    Ok(Child::new(argv, BTreeMap::new()))
}

fn own_program() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe();
    program.map(as_installed).map_err(|error| Failure::environment(format!("own program: {error}")))
}

/// A logged-in database with the bytes that went to and fro.
pub struct Database {
    /// The client.
    pub client: tokio_postgres::Client,
    /// Its bytes.
    pub traffic: db::Traffic,
    /// The relay, which is let go of only with the client: one that nobody holds is ended.
    pub relay: Option<FarEnd>,
}

/// This node's database, through a relay that runs as the database's own user.
pub async fn to_local_database(context: &Context) -> Result<Database, Failure> {
    let text = &context.settings.postgres.local;
    let config = parse(text, "postgres.local")?;
    let server = server(&config, "postgres.local")?;
    let argv = vec![own_program()?.display().to_string()];
    let far = Arc::new(Child::new(argv, BTreeMap::new()));
    over_relay(open_relay(far).await?, &server, &config, "this node's database").await
}

/// Asks this node's database something over a connection of its own. Errors: why there is no answer, a clause; also when
/// there is none within `patience`.
pub async fn ask_local_database<T>(
    context: &Context,
    patience: Duration,
    ask: impl AsyncFnOnce(&tokio_postgres::Client) -> Result<T, String>,
) -> Result<T, String> {
    let asked = async {
        let database = to_local_database(context).await.map_err(|failure| failure.message)?;
        ask(&database.client).await
    };
    let late = |_| Err(format!("this node's database did not answer within {patience:?}"));
    tokio::time::timeout(patience, asked).await.unwrap_or_else(late)
}

/// The other node's database: a relay over there, or directly over TCP.
pub async fn to_far_database(
    context: &Context,
    peer: IpAddr,
    far: Arc<dyn Far>,
) -> Result<Database, Failure> {
    let text = context.settings.postgres.remote.replace("{peer}", &peer.to_string());
    let config = parse(&text, "postgres.remote")?;
    match context.settings.replication.database_transport {
        Transport::Ssh => {
            let server = server(&config, "postgres.remote")?;
            over_relay(open_relay(far).await?, &server, &config, "the slave's database").await
        }
        Transport::Tcp => {
            let port = config.get_ports().first().copied().unwrap_or(5432);
            let host = match config.get_hosts().first() {
                Some(Host::Tcp(host)) => host.parse::<IpAddr>().ok(),
                _ => None,
            };
            let host = host.ok_or_else(|| {
                Failure::usage(format!(
                    "postgres.remote: \"{text}\" names no IP address: write host={{peer}}"
                ))
            })?;
            let connecting = tokio::net::TcpStream::connect(SocketAddr::new(host, port));
            let stream = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
                .await
                .map_err(|_| Failure::environment(format!("{host} port {port}: no answer within 10 s")))?
                .map_err(|error| Failure::environment(format!("{host} port {port}: {error}")))?;
            let opened = db::connect(stream, &config).await.map_err(Failure::environment)?;
            Ok(Database { client: opened.0, traffic: opened.1, relay: None })
        }
    }
}

/// The program's path, under which an upgrade has put another one: the kernel then says so behind the name (proc(5)).
fn as_installed(program: PathBuf) -> PathBuf {
    match program.to_str().and_then(|path| path.strip_suffix(" (deleted)")) {
        Some(path) if !program.exists() => PathBuf::from(path),
        _ => program,
    }
}

fn parse(text: &str, key: &str) -> Result<tokio_postgres::Config, Failure> {
    text.parse().map_err(|error| Failure::usage(format!("{key}: not a connection string: {error}")))
}

fn server(config: &tokio_postgres::Config, key: &str) -> Result<Server, Failure> {
    let host = match config.get_hosts().first() {
        Some(Host::Unix(directory)) => directory.display().to_string(),
        Some(Host::Tcp(host)) => host.clone(),
        None => return Err(Failure::usage(format!("{key}: names no host: write host=/var/run/postgresql"))),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    Server::new(&host, port).map_err(|error| Failure::usage(format!("{key}: {error}")))
}

async fn open_relay(far: Arc<dyn Far>) -> Result<FarStream, Failure> {
    let opened = tokio::task::spawn_blocking(move || far.open(Word::Relay)).await;
    opened.map_err(Failure::environment)?.map_err(Failure::environment)
}

async fn over_relay(
    stream: FarStream,
    server: &Server,
    config: &tokio_postgres::Config,
    whose: &str,
) -> Result<Database, Failure> {
    let (socket, end) = stream.into_parts();
    let failed = |error: std::io::Error| Failure::environment(format!("{whose}: {error}"));
    std::io::Write::write_all(&mut &socket, server.greeting().as_bytes()).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    let socket = tokio::net::UnixStream::from_std(socket).map_err(failed)?;
    let opened = tokio::time::timeout(CONNECT_TIMEOUT * 2, db::connect(socket, config)).await;
    match opened {
        Ok(Ok((client, traffic))) => Ok(Database { client, traffic, relay: Some(end) }),
        Ok(Err(error)) => {
            // what the relay said is the better explanation
            let said = tokio::task::spawn_blocking(move || end.wait(Duration::from_secs(2))).await;
            let said = said.ok().and_then(Result::ok).filter(|ending| !ending.is_success());
            Err(Failure::environment(match said {
                Some(ending) => format!("{whose}: {error}: {ending}"),
                None => format!("{whose}: {error}"),
            }))
        }
        Err(_) => Err(Failure::environment(format!("{whose}: no answer within 20 s"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_was_upgraded_under_us_is_called_by_its_name() {
        assert_eq!(as_installed("/usr/bin/x-ha (deleted)".into()), PathBuf::from("/usr/bin/x-ha"));
        let own = std::env::current_exe().unwrap();
        assert_eq!(as_installed(own.clone()), own);
    }
}
