//! A private PostgreSQL that listens on a unix socket only and admits its own user by peer authentication.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::relay::database_user;

/// A running server; ends with its value.
pub(in super::super) struct Postgres {
    directory: TempDir,
    /// Both the operating system's user and the database's.
    pub(in super::super) user: String,
    server: Child,
}

/// Starts one, or says on stderr why the test is skipped.
pub(in super::super) fn start() -> Option<Postgres> {
    let Some(programs) = programs() else {
        eprintln!("skipped: no PostgreSQL on this machine");
        return None;
    };
    let root = rustix::process::geteuid().is_root();
    let owner = if root { database_user().unwrap() } else { None };
    if root && owner.is_none() {
        eprintln!("skipped: run by root, and there is no user postgres on this machine");
        return None;
    }
    let user = if root { "postgres".into() } else { super::sshd::user() };
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let command = |program: &str| {
        let mut command = Command::new(programs.join(program));
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
        if let Some((user, group)) = owner {
            command.uid(user).gid(group);
        }
        command
    };
    for name in ["data", "socket"] {
        let path = directory.path().join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        if let Some((user, group)) = owner {
            chown(&path, Some(user), Some(group)).unwrap();
        }
    }
    let made = command("initdb")
        .args(["--no-sync", "--auth=peer", "--encoding=UTF8", "--locale=C", "-U", &user, "-D"])
        .arg(directory.path().join("data"))
        .status()
        .unwrap();
    assert!(made.success());
    let server = command("postgres")
        .args(["-c", "listen_addresses=", "-c", "fsync=off", "-D"])
        .arg(directory.path().join("data"))
        .arg("-k")
        .arg(directory.path().join("socket"))
        .stderr(fs::File::create(directory.path().join("log")).unwrap())
        .spawn()
        .unwrap();
    let postgres = Postgres { directory, user, server };
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let log = fs::read_to_string(postgres.directory.path().join("log")).unwrap();
        if log.contains("ready to accept connections") {
            return Some(postgres);
        }
        assert!(Instant::now() < deadline, "PostgreSQL does not start: {log}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Postgres {
    /// The directory of its socket; the port is 5432.
    pub(in super::super) fn socket_directory(&self) -> String {
        self.directory.path().join("socket").into_os_string().into_string().unwrap()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The server ends its own processes when it is asked to quit at once (`postgres(1)`, SIGQUIT).
        let process = rustix::process::Pid::from_child(&self.server);
        let _ = rustix::process::kill_process(process, rustix::process::Signal::QUIT);
        let _ = self.server.wait();
    }
}

/// Where the newest installed server's programs are.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<(u32, PathBuf)> = versions
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, path): &(u32, PathBuf)| Path::is_file(&path.join("initdb")))
        .collect();
    found.sort();
    Some(found.pop()?.1)
}
