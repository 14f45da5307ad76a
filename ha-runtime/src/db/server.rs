//! A private PostgreSQL server for tests: its own directory, a Unix socket, no port, ended with the test.

use std::fs;
use std::io::Write;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getuid, kill_process};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio_postgres::{Client, Config};

use super::Traffic;

/// Longest wait for a server to answer.
const START: Duration = Duration::from_secs(30);

/// A running server, with the role `postgres` as its superuser.
pub(crate) struct Server {
    directory: TempDir,
    process: Child,
    bin: PathBuf,
    owner: (u32, u32),
}

impl Server {
    /// Starts one. `None`, and a line on stderr: this machine has no PostgreSQL, or no user that it may run as.
    pub(crate) async fn start() -> Option<Server> {
        let Some(bin) = newest_bin() else {
            eprintln!("skipped: no PostgreSQL server below /usr/lib/postgresql");
            return None;
        };
        let owner = if getuid().is_root() { owner()? } else { (getuid().as_raw(), 0) };
        let directory = tempfile::Builder::new().prefix("pg").tempdir().unwrap();
        if getuid().is_root() {
            chown(directory.path(), Some(owner.0), Some(owner.1)).unwrap();
        }
        let data = directory.path().join("data");
        make_cluster(&bin, owner, &data);

        let process = launch(&bin, owner, directory.path());
        let mut server = Server { directory, process, bin, owner };
        server.wait().await;
        Some(server)
    }

    async fn wait(&mut self) {
        let started = Instant::now();
        while self.try_connect("postgres").await.is_none() {
            if started.elapsed() > START || self.process.try_wait().unwrap().is_some() {
                let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
                panic!("the private PostgreSQL server does not answer: {log}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Shuts it down as an administrator does, and starts it again.
    pub(crate) async fn restart(&mut self) {
        // SIGINT: fast shutdown
        self.signal(Signal::INT);
        self.process.wait().unwrap();
        self.process = launch(&self.bin, self.owner, self.directory.path());
        self.wait().await;
    }

    /// Kills the server process of `client`, upon which the server ends all sessions and recovers.
    pub(crate) async fn crash(&mut self, client: &Client) {
        let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        let started = Instant::now();
        // the others are told to end before new ones are let in
        while !client.is_closed() {
            assert!(started.elapsed() < START);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.wait().await;
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Its socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.directory.path().join(".s.PGSQL.5432")
    }

    async fn try_connect(&self, database: &str) -> Option<(Client, Traffic)> {
        let stream = UnixStream::connect(self.socket()).await.ok()?;
        let mut config = Config::new();
        config.user("postgres").dbname(database);
        super::connect(stream, &config).await.ok()
    }

    /// A connection of a replication, with the count of its bytes.
    pub(crate) async fn counted(&self, database: &str) -> (Client, Traffic) {
        self.try_connect(database).await.expect("the private server answers")
    }

    /// A connection of a replication.
    pub(crate) async fn connect(&self, database: &str) -> Client {
        self.counted(database).await.0
    }

    /// A connection of anything else: a service of the PBX, an administrator, a takeover.
    pub(crate) async fn visit(&self, database: &str) -> Client {
        let client = self.connect(database).await;
        client.batch_execute("SET application_name = 'visitor'").await.unwrap();
        client
    }

    /// Creates a database in an encoding.
    pub(crate) async fn create(&self, database: &str, encoding: &str) {
        let create = format!(
            "CREATE DATABASE {database} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
        );
        self.visit("postgres").await.batch_execute(&create).await.unwrap();
    }

    /// Creates a UTF8 database and runs some SQL in it.
    pub(crate) async fn fill(&self, database: &str, sql: &str) {
        self.create(database, "UTF8").await;
        self.visit(database).await.batch_execute(sql).await.unwrap();
    }

    /// Feeds a script, COPY data included, to psql.
    pub(crate) fn psql(&self, database: &str, script: &[u8]) {
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-h"]);
        let mut psql =
            psql.arg(self.directory.path()).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        psql.stdin.take().unwrap().write_all(script).unwrap();
        assert!(psql.wait().unwrap().success(), "psql failed");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGQUIT: immediate shutdown, backends included
        self.signal(Signal::QUIT);
        let _ = self.process.wait();
    }
}

fn launch(bin: &Path, owner: (u32, u32), directory: &Path) -> Child {
    let log = fs::File::create(directory.join("log")).unwrap();
    let mut postgres = as_owner(&bin.join("postgres"), owner);
    postgres.arg("-D").arg(directory.join("data")).arg("-k").arg(directory);
    for setting in
        ["listen_addresses=", "fsync=off", "full_page_writes=off", "autovacuum=off", "deadlock_timeout=200ms"]
    {
        postgres.args(["-c", setting]);
    }
    postgres.stdout(Stdio::null()).stderr(log).stdin(Stdio::null()).spawn().unwrap()
}

/// What the generator of a Wazo database writes; `None`, and a line on stderr, without Python.
pub(crate) fn pbxdb(arguments: &[&str]) -> Option<Vec<u8>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/lab/pbxdb.py");
    let Ok(output) = Command::new("python3").arg(script).args(arguments).output() else {
        eprintln!("skipped: no python3 to generate a database with");
        return None;
    };
    assert!(output.status.success(), "pbxdb.py: {}", String::from_utf8_lossy(&output.stderr));
    Some(output.stdout)
}

fn newest_bin() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let bins = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
    bins.filter(|bin| bin.join("postgres").exists() && bin.join("initdb").exists()).max()
}

/// A new cluster: a copy of one that an earlier test made, beside the test's program, because making one takes a second
/// of CPU time and copying it hardly any.
fn make_cluster(bin: &Path, owner: (u32, u32), data: &Path) {
    let program = std::env::current_exe().unwrap();
    let beside = program.parent().unwrap();
    let version = bin.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let template = beside.join(format!("postgresql-{version}-template-{}", owner.0));
    if template.exists() {
        return copy_tree(&template, data);
    }
    let mut init = as_owner(&bin.join("initdb"), owner);
    init.args([
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
        "--no-sync",
        "--wal-segsize=1",
        "-D",
    ]);
    let made = init.arg(data).output().unwrap();
    assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
    // whole or not at all, and whoever comes second keeps the first one's
    let staging = tempfile::tempdir_in(beside).unwrap();
    copy_tree(data, &staging.path().join("data"));
    let _ = fs::rename(staging.path().join("data"), &template);
}

fn copy_tree(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success(), "copying {}", from.display());
}

/// PostgreSQL does not run as root.
fn owner() -> Option<(u32, u32)> {
    let id = |flag: &str| {
        let output = Command::new("id").args([flag, "postgres"]).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    let owner = id("-u").zip(id("-g"));
    if owner.is_none() {
        eprintln!("skipped: root cannot run PostgreSQL and there is no user postgres");
    }
    owner
}

fn as_owner(program: &Path, owner: (u32, u32)) -> Command {
    if !getuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    let (user, group) = (format!("--reuid={}", owner.0), format!("--regid={}", owner.1));
    // a test that is killed takes its server along
    command.args([&user, &group, "--clear-groups", "--pdeathsig=QUIT", "--"]).arg(program);
    command.current_dir("/");
    command
}
