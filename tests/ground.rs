//! What a machine must have before hosts can be made on it.

use std::env;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

/// Programs that the hosts run, with the Debian package that brings them.
const PROGRAMS: [(&str, &str); 9] = [
    ("/usr/sbin/ip", "iproute2"),
    ("/usr/sbin/nft", "nftables"),
    ("/usr/bin/ping", "iputils-ping"),
    ("/usr/bin/pgrep", "procps"),
    ("/usr/bin/python3", "python3"),
    ("/usr/sbin/sshd", "openssh-server"),
    ("/usr/bin/ssh", "openssh-client"),
    ("/usr/bin/sshpass", "sshpass"),
    ("/usr/bin/pg_createcluster", "postgresql"),
];

/// Why hosts cannot be made here; `None`: they can. Looked at once: pairs side by side would be in each other's way.
static MISSING: LazyLock<Option<String>> = LazyLock::new(missing);

fn missing() -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if !status.lines().any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0")) {
        return Some("namespaces and their networks need root".to_owned());
    }
    if !fs::read_to_string("/proc/mounts").unwrap_or_default().lines().any(|m| m.contains(" cgroup2 ")) {
        return Some("no cgroup2 file system is mounted".to_owned());
    }
    for (program, package) in PROGRAMS {
        if !Path::new(program).exists() {
            return Some(format!("{program} is missing (package {package})"));
        }
    }
    let probe = format!("ha-probe-{}", std::process::id());
    let netns = |verb: &str| Command::new("ip").args(["netns", verb, &probe]).output();
    match netns("add") {
        Ok(output) if output.status.success() => {
            // only its absence could be in the way, and then nothing is left
            let _ = netns("del");
            None
        }
        Ok(output) => Some(format!("`ip netns add`: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Some(format!("`ip netns add`: {error}")),
    }
}

/// Whether hosts can be made here; says why when not, as [`skip`] does.
pub fn ready() -> bool {
    if let Some(reason) = &*MISSING {
        skip(reason);
    }
    MISSING.is_none()
}

/// Says that the running test does not do its work, and why; panics when `LAB_REQUIRED` is set.
///
/// The line goes to stderr and, when `LAB_SKIPPED` names a file, to its end.
pub fn skip(reason: &str) {
    assert!(env::var_os("LAB_REQUIRED").is_none(), "this machine should run the lab, but: {reason}");
    skip_allowed(reason);
}

/// The same where even a machine that runs the lab may lack something that only the network can bring.
pub fn skip_allowed(reason: &str) {
    eprintln!("SKIPPED {}: {reason}", running());
    note("LAB_SKIPPED", reason);
}

/// What no second attempt makes good: `./check` fails of a line in the file that `LAB_OVERLAPS` names.
pub(crate) fn unforgivable(what: &str) {
    note("LAB_OVERLAPS", what);
}

fn running() -> String {
    std::thread::current().name().unwrap_or("a test").to_owned()
}

/// A line about the running test, at the end of the file that the variable names, if it does.
fn note(variable: &str, text: &str) {
    let Some(path) = env::var_os(variable) else { return };
    let file = fs::OpenOptions::new().append(true).create(true).open(path);
    if let Err(error) = file.and_then(|mut file| writeln!(file, "{}: {text}", running())) {
        panic!("{variable} names a file to append to: {error}");
    }
}
