//! `sark-ha configure` as a program: what it makes of a node's files, what it refuses, and that a failure leaves nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

const SARK: &str = env!("CARGO_BIN_EXE_sark-ha");
const CONF: &str =
    "# ours, and SARK's\r\nHACLUSTERIP=\r\nHAPRINODE=\"haprimary\" # who serves\r\nMINE=$HOME/x";
const SETTINGS: &str = "# mine\n[failback] # gently\nhold = \"9s\"\n[sark]\n\
    bind = [\"systemctl\", \"bind\", \"to {cluster_ip}\"]\nrhino = [\"systemctl\", \"lines\"]\n";

/// A SARK's root. Its `systemctl` tells what it was asked, and refuses what is named in the file `refuse`.
fn node() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let systemctl =
        "#!/bin/sh\nR=${0%/usr/bin/systemctl}\necho \"$@\" >> $R/ran\n! grep -qx \"$1\" $R/refuse\n";
    for (path, text) in [
        ("usr/bin/systemctl", systemctl),
        ("usr/bin/env", "#!/bin/sh\nexit 1\n"),
        ("refuse", "nothing\n"),
        ("etc/asha.conf", CONF),
        ("etc/pbx-ha/pbx-ha.toml", SETTINGS),
    ] {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    root
}

fn run(program: &str, root: &Path, words: &[&str]) -> Output {
    Command::new(program).arg("--root").arg(root).args(words).output().unwrap()
}

fn says(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// This machine's name.
fn name() -> String {
    let output = Command::new("uname").arg("-n").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Every file below `etc`.
fn files(root: &Path) -> BTreeMap<String, String> {
    let (mut files, mut directories) = (BTreeMap::new(), vec![root.join("etc")]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                files.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    files
}

const MASTER: &[&str] = &[
    "configure",
    "master",
    "--remote",
    "192.0.2.12",
    "--cluster-ip",
    "192.0.2.100",
    "--standby-node",
    "other",
    "--sync",
    "loose",
    "--auto-failback",
    "on",
];

fn master() -> Vec<String> {
    let own = ["--primary-node".to_owned(), name()];
    MASTER.iter().map(|word| (*word).to_owned()).chain(own).collect()
}

fn configure(root: &Path, more: &[&str]) -> Output {
    let words = master();
    let words: Vec<&str> = words.iter().map(String::as_str).chain(more.iter().copied()).collect();
    run(SARK, root, &words)
}

#[test]
fn a_node_joins_and_leaves_and_keeps_what_is_its_own() {
    let node = node();
    let before = files(node.path());
    let dry = configure(node.path(), &["--dry-run"]);
    assert!(dry.status.success() && says(&dry).contains("| HACLUSTERIP=192.0.2.100"), "{}", says(&dry));
    assert_eq!(files(node.path()), before, "a dry run changes nothing");
    assert!(!node.path().join("ran").exists());

    let done = configure(node.path(), &[]);
    assert!(done.status.success(), "{}", says(&done));
    let joined = files(node.path());
    let conf = format!(
        "# ours, and SARK's\r\nHACLUSTERIP=192.0.2.100\r\nHAPRINODE=\"{}\" # who serves\r\nMINE=$HOME/x\r\n\
         HASECNODE=other\r\nHASYNCH=LOOSE\r\n",
        name()
    );
    assert_eq!(joined["etc/asha.conf"], conf);
    assert_eq!(
        joined["etc/pbx-ha/pbx-ha.toml"],
        SETTINGS.replace("gently\n", "gently\npolicy = \"automatic\"\n")
    );
    assert_eq!(joined["etc/pbx-ha/role.json"], r#"{"node_type": "master", "remote_address": "192.0.2.12"}"#);
    assert!(joined["etc/systemd/system/asterisk.service.d/pbx-ha.conf"].contains("\nRestart=no\n"));
    let ran = || fs::read_to_string(node.path().join("ran")).unwrap();
    assert_eq!(ran(), "disable asterisk.service\ndaemon-reload\nbind to 192.0.2.100\n");
    let shown = run(SARK, node.path(), &["show"]);
    assert_eq!(says(&shown), "{\"node_type\":\"master\",\"remote_address\":\"192.0.2.12\"}\n");

    let left = run(SARK, node.path(), &["configure", "disabled"]);
    assert!(left.status.success(), "{}", says(&left));
    let alone = files(node.path());
    assert_eq!(alone["etc/asha.conf"], conf.replace("HACLUSTERIP=192.0.2.100", "HACLUSTERIP="));
    assert_eq!(alone["etc/pbx-ha/role.json"], r#"{"node_type": "disabled", "remote_address": ""}"#);
    assert!(!alone.contains_key("etc/systemd/system/asterisk.service.d/pbx-ha.conf"));
    assert!(
        ran().contains(
            "daemon-reload\nenable asterisk.service\nreset-failed [a]sterisk.service\nstart asterisk"
        ),
        "{}",
        ran()
    );
    assert!(ran().ends_with("\nbind to \n"), "{}", ran());

    let start = || says(&run(SARK, node.path(), &["services", "start", "--dry-run"]));
    assert!(!start().contains("lines"), "no card is installed: {}", start());
    fs::write(node.path().join("etc/asha.conf"), "RHINOSPF=YES\n").unwrap();
    assert!(start().starts_with("run systemctl lines\nrun systemctl reset-failed"), "{}", start());
}

#[test]
fn a_change_that_fails_at_its_end_leaves_every_file_as_it_was() {
    for refused in ["disable", "daemon-reload"] {
        let node = node();
        fs::write(node.path().join("refuse"), refused).unwrap();
        let before = files(node.path());
        let failed = configure(node.path(), &[]);
        assert_eq!(failed.status.code(), Some(1), "{}", says(&failed));
        assert!(says(&failed).contains(refused) && says(&failed).contains("undone"), "{}", says(&failed));
        assert_eq!(files(node.path()), before);
    }
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_changed() {
    let node = node();
    let before = files(node.path());
    let slave = |more: &[&str]| {
        let words = ["configure", "slave", "--remote", "192.0.2.11", "--cluster-ip", "192.0.2.100"];
        run(SARK, node.path(), &[&words, more].concat())
    };
    let uname = format!("this node's name (uname -n) is {}, but the slave's is to be other", name());
    for (output, why) in [
        (slave(&["--standby-node", "other"]), uname.as_str()),
        (slave(&["--standby-node", "a b"]), "--standby-node \"a b\": write what `uname -n` says"),
        (slave(&["--standby-node", &name(), "--resync"]), "--resync: sark has no call"),
        (run(SARK, node.path(), &["configure", "slave", "--cluster-ip", "gateway"]), "gateway"),
        (slave(&["--sync", "eager"]), "eager"),
        (
            run(SARK, node.path(), &["configure", "master", "--remote", "192.0.2.12"]),
            "--cluster-ip is missing",
        ),
        (run(SARK, node.path(), &["configure", "disabled", "--sync", "lazy"]), "belong to a pair"),
    ] {
        assert_eq!(output.status.code(), Some(2), "{}", says(&output));
        assert!(says(&output).contains(why), "{why}: {}", says(&output));
    }
    fs::write(node.path().join("etc/asha.conf"), "HASYNCH=$(reboot)\n").unwrap();
    let refused = configure(node.path(), &[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        says(&refused).contains("/etc/asha.conf: line 1: HASYNCH=$(reboot): a shell would"),
        "{}",
        says(&refused)
    );
    fs::write(node.path().join("etc/asha.conf"), CONF).unwrap();
    assert_eq!(files(node.path()), before);
    assert!(!node.path().join("ran").exists());
}

#[test]
fn a_pair_whose_nodes_have_an_address_each_shares_none() {
    for program in [env!("CARGO_BIN_EXE_wazo-ha"), env!("CARGO_BIN_EXE_xivo-ha")] {
        let node = node();
        fs::write(node.path().join("etc/pbx-ha/pbx-ha.toml"), "").unwrap();
        let before = files(node.path());
        for option in [["--cluster-ip", "192.0.2.100"], ["--auto-failback", "off"]] {
            let words = ["configure", "master", "--remote", "192.0.2.12"];
            let output = run(program, node.path(), &[&words[..], &option].concat());
            assert_eq!(output.status.code(), Some(2), "{}", says(&output));
            assert!(
                says(&output).contains("belong to a pair with one address for both nodes"),
                "{}",
                says(&output)
            );
        }
        assert_eq!(files(node.path()), before);
    }
}
