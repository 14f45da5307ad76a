//! A private PostgreSQL server for each node: a Unix socket in a private directory, no port, ended with the demonstration.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ha_core::profile::{Database, Why};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio_postgres::{Client, Config, NoTls};

use crate::cli::block_on;
use crate::relay::database_user;
use crate::report::Failure;

/// The server's log, in its directory.
const LOG: &str = "log";
/// Longest wait for a server to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A few of the product's tables, small: users, their numbers, and one that stays on its node.
const TABLES: &str = "
    CREATE TABLE userfeatures (
        id serial PRIMARY KEY, firstname text NOT NULL, lastname text NOT NULL, mobile text);
    CREATE TABLE extensions (
        id serial PRIMARY KEY, exten text NOT NULL, context text NOT NULL,
        user_id integer REFERENCES userfeatures ON DELETE CASCADE);";

/// What the master has and the slave does not have yet.
const USERS: &str = "
    INSERT INTO userfeatures (firstname, lastname)
        SELECT 'User', 'Number ' || number FROM generate_series(1, 200) AS number;
    INSERT INTO extensions (exten, context, user_id)
        SELECT (1000 + id)::text, 'default', id FROM userfeatures;";

/// Rows of the table that stays on its node: the master's, the slave's.
pub(super) const OWN_ROWS: (i64, i64) = (500, 3);

/// Where PostgreSQL's programs are.
#[derive(Debug, Clone)]
pub(super) struct Programs(PathBuf);

impl Programs {
    /// The newest installed server. `None`: none is installed, or root cannot run it for want of a user for it.
    pub(super) fn find() -> Option<Programs> {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
        let mut versions: Vec<(u32, PathBuf)> = versions
            .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
            .collect();
        versions.sort();
        let on_path = std::env::var_os("PATH").unwrap_or_default();
        let mut places =
            versions.into_iter().rev().map(|(_, bin)| bin).chain(std::env::split_paths(&on_path));
        let bin = places.find(|bin| bin.join("initdb").is_file() && bin.join("postgres").is_file())?;
        server_user().ok()?;
        Some(Programs(bin))
    }
}

/// Whom the server runs as. `Ok(None)`: as who we are. `Err`: we are root, and there is nobody else.
fn server_user() -> Result<Option<(u32, u32)>, Failure> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let found = database_user().map_err(Failure::environment)?;
    found
        .map(Some)
        .ok_or_else(|| Failure::environment("root cannot run PostgreSQL, and there is no user postgres"))
}

/// Where a server's directory is made. For another user than ourselves every directory above it must let him through.
fn parent(for_other: bool) -> PathBuf {
    let usual = std::env::temp_dir();
    let lets_through = |path: &Path| {
        path.ancestors()
            .all(|above| fs::metadata(above).is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0))
    };
    let mut places = [usual.clone(), PathBuf::from("/tmp"), PathBuf::from("/var/tmp")].into_iter();
    places.find(|place| !for_other || lets_through(place)).unwrap_or(usual)
}

/// Both servers; two directories, because the servers' user may not enter the nodes' own.
#[derive(Debug)]
pub(super) struct Servers {
    pub(super) master: Server,
    pub(super) slave: Server,
}

impl Servers {
    /// Makes and starts both. Blocks.
    pub(super) fn start(programs: &Programs, wanted: &Database) -> Result<Servers, Failure> {
        let maker = Maker { programs: programs.clone(), user: server_user()? };
        let (master, slave) = (maker.directory()?, maker.directory()?);
        let data = master.path().join("data");
        let init = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"];
        run(maker.command("initdb").args(init).arg(&data))?;
        // much faster than making a second one
        run(maker.as_user("/bin/cp".as_ref()).arg("-a").arg(&data).arg(slave.path()))?;
        let servers = Servers { master: maker.start(master)?, slave: maker.start(slave)? };
        servers.master.create(wanted.name)?;
        servers.slave.create(wanted.name)?;
        Ok(servers)
    }

    /// The same tables in both; users and numbers in the master's; in the table that stays, another content in each.
    pub(super) async fn fill(&self, wanted: &Database) -> Result<(), Failure> {
        let stays = stays(wanted);
        for (server, users, own) in [(&self.master, USERS, OWN_ROWS.0), (&self.slave, "", OWN_ROWS.1)] {
            let own = format!(
                "CREATE TABLE {stays} (id serial PRIMARY KEY, note text);
                 INSERT INTO {stays} (note) SELECT 'kept here' FROM generate_series(1, {own});"
            );
            let client = server.connect(wanted.name).await?;
            client.batch_execute(&format!("{TABLES}{users}{own}")).await.map_err(Failure::environment)?;
        }
        Ok(())
    }
}

/// A table that the distribution's documents leave out of replication.
pub(super) fn stays(wanted: &Database) -> &'static str {
    let mut plain = wanted.exclude.iter().filter(|one| one.why == Why::Seed && !one.table.ends_with('*'));
    plain.next().map_or("not_replicated", |one| one.table)
}

/// One running server, with the role `postgres` as its superuser.
#[derive(Debug)]
pub(super) struct Server {
    // before the directory: ended first
    process: Mutex<Running>,
    directory: TempDir,
}

#[derive(Debug)]
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // SIGQUIT: an immediate end, of its children as well
        if let Some(pid) = Pid::from_raw(self.0.id().cast_signed()) {
            let _ = kill_process(pid, Signal::QUIT);
        }
        let _ = self.0.wait();
    }
}

/// What makes servers.
struct Maker {
    programs: Programs,
    user: Option<(u32, u32)>,
}

impl Maker {
    fn directory(&self) -> Result<TempDir, Failure> {
        let made = tempfile::Builder::new()
            .prefix("ha-demo-pg.")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(parent(self.user.is_some()))
            .and_then(|directory| match self.user {
                Some((uid, gid)) => chown(directory.path(), Some(uid), Some(gid)).map(|()| directory),
                None => Ok(directory),
            });
        made.map_err(|error| Failure::environment(format!("PostgreSQL: private directory: {error}")))
    }

    /// One of PostgreSQL's programs.
    fn command(&self, name: &str) -> Command {
        self.as_user(&self.programs.0.join(name))
    }

    fn as_user(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        // nothing of our environment: PGDATA, PGHOST and the like mean another server
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").current_dir("/");
        // Ctrl-C is for the demonstration, which then ends everything in order
        command.process_group(0).stdin(Stdio::null());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn start(&self, directory: TempDir) -> Result<Server, Failure> {
        let failed = |error: io::Error| Failure::environment(format!("PostgreSQL: {error}"));
        let log = fs::File::create(directory.path().join(LOG)).map_err(failed)?;
        let mut command = self.command("postgres");
        command.arg("-D").arg(directory.path().join("data")).arg("-k").arg(directory.path());
        for setting in ["listen_addresses=", "fsync=off", "full_page_writes=off", "shared_buffers=16MB"] {
            command.args(["-c", setting]);
        }
        let process = command.stdout(Stdio::null()).stderr(log).spawn().map_err(failed)?;
        Ok(Server { process: Mutex::new(Running(process)), directory })
    }
}

/// Runs it to its end.
fn run(command: &mut Command) -> Result<(), Failure> {
    let program = command.get_program().display().to_string();
    let output = command.output().map_err(|error| Failure::environment(format!("{program}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::environment(format!("{program}: {}: {said}", output.status)))
}

impl Server {
    /// Waits until it answers, and makes the database.
    fn create(&self, database: &str) -> Result<(), Failure> {
        let begun = Instant::now();
        block_on(async {
            let client = loop {
                match self.connect("postgres").await {
                    Ok(client) => break client,
                    Err(failure) if self.has_ended() || begun.elapsed() > PATIENCE => {
                        let log = fs::read_to_string(self.directory.path().join(LOG)).unwrap_or_default();
                        return Err(Failure::environment(format!("{failure}\n{}", log.trim())));
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            };
            let create = format!("CREATE DATABASE \"{database}\" TEMPLATE template0");
            client.batch_execute(&create).await.map_err(Failure::environment)
        })
    }

    fn has_ended(&self) -> bool {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        !matches!(process.0.try_wait(), Ok(None))
    }

    /// Where its socket is: a connection string's `host`.
    pub(super) fn host(&self) -> &Path {
        self.directory.path()
    }

    /// Logs in as its superuser.
    pub(super) async fn connect(&self, database: &str) -> Result<Client, Failure> {
        let mut config = Config::new();
        config
            .host_path(self.host())
            .user("postgres")
            .dbname(database)
            .connect_timeout(Duration::from_secs(5));
        let (client, connection) = config.connect(NoTls).await.map_err(|error| {
            Failure::environment(format!("PostgreSQL in {}: {error}", self.host().display()))
        })?;
        // ends with the client
        tokio::spawn(connection);
        Ok(client)
    }

    /// One number.
    pub(super) async fn count(&self, database: &str, from: &str) -> Result<i64, Failure> {
        let client = self.connect(database).await?;
        let row = client.query_one(&format!("SELECT count(*) FROM {from}"), &[]).await;
        row.map(|row| row.get(0)).map_err(Failure::environment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASTERISK: Database = Database {
        name: "asterisk",
        exclude: &[
            ha_core::profile::Exclusion { table: "infos", why: Why::Identity },
            ha_core::profile::Exclusion { table: "cel", why: Why::Seed },
        ],
    };

    #[tokio::test]
    async fn two_private_servers_hold_the_same_tables() {
        let Some(programs) = Programs::find() else {
            eprintln!("SKIPPED: no PostgreSQL server is installed");
            return;
        };
        let started = tokio::task::spawn_blocking(move || Servers::start(&programs, &ASTERISK));
        let servers = started.await.unwrap().unwrap();
        servers.fill(&ASTERISK).await.unwrap();
        assert_eq!(servers.master.count("asterisk", "userfeatures").await.unwrap(), 200);
        assert_eq!(servers.slave.count("asterisk", "userfeatures").await.unwrap(), 0);
        assert_eq!(servers.slave.count("asterisk", "cel").await.unwrap(), 3);
        let directory = servers.master.host().to_owned();
        drop(servers);
        assert!(!directory.exists());
    }
}
