//! `wazo-ha doctor` as a program: what it prints, how it ends, and that it changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_wazo-ha");

/// A Wazo's root whose database is nowhere, so that nothing of this machine is asked.
fn node() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let settings = format!(
        "[postgres]\nlocal = \"host={} user=postgres dbname=asterisk\"\n[pbx]\nmanage = false\n",
        root.path().join("nowhere").display()
    );
    write(root.path(), "etc/pbx-ha/pbx-ha.toml", &settings);
    write(root.path(), "etc/localtime", "TZif2");
    write(root.path(), "etc/postgresql/15/main/pg_hba.conf", "local all all peer\n");
    root
}

fn write(root: &Path, path: &str, text: &str) -> PathBuf {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path
}

/// Every file with its content.
fn tree(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tree(&path));
            found.insert(path, Vec::new());
        } else {
            let content = fs::read(&path).unwrap();
            found.insert(path, content);
        }
    }
    found
}

fn doctor(mut command: Command, root: &Path) -> (Output, BTreeMap<String, String>) {
    let before = tree(root);
    let output = command.arg("--root").arg(root).args(["--json", "doctor"]).output().unwrap();
    assert_eq!(tree(root), before, "it only looks");
    let document: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let checks = document["checks"].as_array().unwrap();
    let text = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
    for check in checks {
        assert!(!text(check, "finding").is_empty(), "{check}");
        assert_eq!(check["todo"].is_string(), check["level"] != "ok", "what to do: {check}");
    }
    let levels: BTreeMap<String, String> =
        checks.iter().map(|check| (text(check, "id"), text(check, "level"))).collect();
    assert_eq!(levels.len(), checks.len(), "an id is used twice: {document}");
    let failed = levels.values().filter(|level| *level == "fail").count();
    assert_eq!(document["failed"], failed);
    assert_eq!(output.status.code(), Some(i32::from(failed > 0)));
    (output, levels)
}

#[test]
fn a_node_with_traps_is_told_about_each_and_exits_with_1() {
    let root = node();
    let (_, levels) = doctor(Command::new(PROGRAM), root.path());
    for id in ["left-over-dumps", "trust-lines", "sentinels", "cron-files", "settings", "clock"] {
        assert_eq!(levels[id], "ok", "{id}");
    }
    assert_eq!(levels["local-database"], "fail");

    let dump = write(root.path(), "tmp/out_master_backup.sql", "COPY");
    fs::set_permissions(dump, fs::Permissions::from_mode(0o644)).unwrap();
    let trust = "local all all peer\nhost asterisk postgres 2001:db8::11/32 trust\n";
    write(root.path(), "etc/postgresql/15/main/pg_hba.conf", trust);
    write(root.path(), "var/lib/wazo/is-secondary", "");
    write(
        root.path(),
        "etc/cron.d/xivo-ha-slave",
        "* * * * * root /usr/sbin/xivo-check-master-status 192.0.2.11\n",
    );
    let (output, levels) = doctor(Command::new(PROGRAM), root.path());
    assert_eq!(output.status.code(), Some(1));
    for id in ["left-over-dumps", "trust-lines", "sentinels", "cron-files"] {
        assert_eq!(levels[id], "fail", "{id}");
    }
    assert_eq!(levels["database-access"], "ok", "told once, as trust-lines");

    let text = Command::new(PROGRAM).arg("--root").arg(root.path()).arg("doctor").output().unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.starts_with("fail  "), "failures first: {text}");
    assert!(text.contains("(2^96 addresses)") && text.contains("-> "), "{text}");
}

#[test]
fn a_slave_whose_master_is_nowhere_is_told_what_is_missing() {
    // a network of its own, without a single interface that is up: nothing leaves this machine
    let alone = || {
        let mut command = Command::new("unshare");
        command.args(["--net", "--"]);
        command
    };
    if !alone().arg("true").output().is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: this user may not make a network namespace");
        return;
    }
    let root = node();
    write(root.path(), "etc/xivo/ha.conf", r#"{"node_type": "slave", "remote_address": "192.0.2.11"}"#);
    write(root.path(), "var/lib/wazo/is-secondary", "");
    write(root.path(), "root/.ssh/authorized_keys", "ssh-rsa AAAA XiVO HA\n");
    write(root.path(), "var/lib/wazo-provd/plugins/wazo-snom/plugin-info", "{}");
    let mut command = alone();
    command.arg(PROGRAM);
    let (_, levels) = doctor(command, root.path());
    for (id, level) in [
        ("role-file", "ok"),
        ("sentinels", "ok"),
        ("peer-address", "ok"),
        ("daemon", "fail"),
        ("unit-enabled", "warn"),
        ("references", "warn"),
        ("peer-ping", "fail"),
        ("peer-telephony", "warn"),
        ("authorized-key", "fail"),
        ("slave-plugins", "warn"),
        ("disabled-file", "warn"),
    ] {
        assert_eq!(levels[id], level, "{id}");
    }
    let master_only = ["ssh-key", "agent", "schema", "replication-files"];
    assert!(master_only.iter().all(|id| !levels.contains_key(*id)), "{levels:?}");
}
