//! A private sshd on loopback, with keys and configuration of its own.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::super::SshTarget;
use super::super::connection::{Connection, SocketOptions};

const SSHD: &str = "/usr/sbin/sshd";

/// A running sshd; ends with its value.
pub(crate) struct Sshd {
    pub(crate) directory: TempDir,
    pub(crate) port: u16,
    daemon: Child,
}

/// Starts one, or says on stderr why the test is skipped.
///
/// `extra` goes before the rest of the configuration and wins over it; `{dir}` in it is this sshd's directory.
pub(crate) fn start(extra: &str) -> Option<Sshd> {
    if !Path::new(SSHD).is_file() {
        eprintln!("skipped: no {SSHD} on this machine");
        return None;
    }
    if rustix::process::geteuid().is_root() {
        // sshd run by root insists on it; Debian's own unit makes it at each start
        fs::create_dir_all("/run/sshd").unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::create_dir_all(path("home/.ssh")).unwrap();
    keygen("ed25519", &path("host_ed25519"));
    keygen("rsa", &path("host_rsa"));
    keygen("ed25519", &path("client"));
    authorize(directory.path(), "client", "");

    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let extra = extra.replace("{dir}", &directory.path().display().to_string());
    let config = format!(
        "{extra}\nPort {port}\nListenAddress 127.0.0.1\nHostKey {0}/host_rsa\nHostKey {0}/host_ed25519\nPidFile none\n\
         AuthorizedKeysFile {0}/home/.ssh/authorized_keys\nSetEnv HOME={0}/home\nStrictModes no\nUsePAM no\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nLogLevel ERROR\n",
        directory.path().display()
    );
    fs::write(path("sshd_config"), config).unwrap();
    let daemon = Command::new(SSHD)
        .args(["-D", "-e", "-f"])
        .arg(path("sshd_config"))
        .stdin(Stdio::null())
        .stderr(fs::File::create(path("log")).unwrap())
        .spawn()
        .unwrap();
    let mut sshd = Sshd { directory, port, daemon };
    let deadline = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        let alive = sshd.daemon.try_wait().unwrap().is_none() && Instant::now() < deadline;
        assert!(alive, "sshd does not start: {}", fs::read_to_string(sshd.path("log")).unwrap());
        std::thread::sleep(Duration::from_millis(20));
    }
    fs::write(sshd.path("known_hosts"), sshd.known_host_line("host_ed25519")).unwrap();
    Some(sshd)
}

impl Sshd {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A target with the client's key, the ed25519 host key known, and this command.
    pub(crate) fn target(&self, command: &[&str]) -> SshTarget {
        SshTarget {
            user: user(),
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: self.port,
            key: self.path("client"),
            known_hosts: self.path("known_hosts"),
            command: command.iter().map(ToString::to_string).collect(),
            connect_timeout: Duration::from_secs(20),
            keepalive: Duration::from_secs(15),
            bandwidth: None,
        }
    }

    /// The line of known hosts for one of this sshd's keys.
    pub(crate) fn known_host_line(&self, key: &str) -> String {
        format!("[127.0.0.1]:{} {}", self.port, public(&self.path(key)))
    }

    /// A session of the client's key, for what [`Ssh`](super::super::Ssh) never asks for.
    pub(crate) fn session(&self) -> ssh2::Session {
        let connection = Connection::open(&self.target(&["far"]), SocketOptions::default()).unwrap();
        connection.authenticate().unwrap();
        connection.session
    }

    pub(crate) fn authorized_keys(&self) -> String {
        fs::read_to_string(self.path("home/.ssh/authorized_keys")).unwrap()
    }

    /// Sends a signal to every process of sshd that serves a connection, not to the programs that it started.
    pub(crate) fn signal_sessions(&self, signal: Signal) {
        // The direct children: a login as sshd's own user is served by one process each.
        let sessions = children(self.daemon.id());
        assert!(!sessions.is_empty(), "nobody is connected");
        for session in sessions {
            let _ = kill_process(Pid::from_raw(session.cast_signed()).unwrap(), signal);
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        for process in descendants(self.daemon.id()) {
            let _ = kill_process(Pid::from_raw(process.cast_signed()).unwrap(), Signal::KILL);
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// Adds a key to those that are admitted, behind these options.
pub(crate) fn authorize(directory: &Path, key: &str, options: &str) {
    let file = directory.join("home/.ssh/authorized_keys");
    let before = fs::read_to_string(&file).unwrap_or_default();
    fs::write(file, format!("{before}{options}{}", public(&directory.join(key)))).unwrap();
}

pub(crate) fn keygen(kind: &str, path: &Path) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", kind, "-N", "", "-C", "test", "-f"])
        .arg(path)
        .status()
        .unwrap();
    assert!(made.success());
}

/// The public part of a key, with its line end.
pub(crate) fn public(key: &Path) -> String {
    fs::read_to_string(key.with_extension("pub")).unwrap()
}

/// The example program that plays the far end.
pub(crate) fn far_end() -> String {
    example("far-end")
}

/// An example program.
pub(crate) fn example(name: &str) -> String {
    let program = std::env::current_exe().unwrap().parent().unwrap().join("../examples").join(name);
    assert!(program.is_file(), "run `cargo build -p ha-runtime --example {name}` first");
    program.canonicalize().unwrap().into_os_string().into_string().unwrap()
}

pub(crate) fn user() -> String {
    String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap().trim().to_owned()
}

/// All processes below this one.
fn descendants(process: u32) -> Vec<u32> {
    children(process).into_iter().flat_map(|child| [vec![child], descendants(child)].concat()).collect()
}

fn children(process: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}
