//! Whole programs at both ends of an SSH session: a node that stands by fetches from the one that serves.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use super::sshd::{Sshd, example, start, user};

/// Two nodes that are this machine.
struct Pair {
    sshd: Sshd,
}

impl Pair {
    /// The master serves.
    fn start(settings: &str) -> Option<Pair> {
        let pair = Pair { sshd: start("")? };
        for (node, role) in [("master", "master"), ("slave", "slave")] {
            let far = if node == "master" { "slave" } else { "master" };
            pair.write(node, "etc/example/role", &format!("{role} 127.0.0.1"));
            let ssh = format!(
                "{settings}\n[ssh]\nuser = \"{}\"\nport = {}\nkey = \"{}\"\nknown_hosts = \"{}\"\n\
                 agent = [\"{}\", \"--root\", \"{}\", \"agent\"]\n",
                user(),
                pair.sshd.port,
                pair.sshd.path("client").display(),
                pair.sshd.path("known_hosts").display(),
                example("example-ha"),
                pair.root(far).display(),
            );
            pair.write(node, "etc/pbx-ha/pbx-ha.toml", &ssh);
        }
        pair.serves("master");
        Some(pair)
    }

    fn root(&self, node: &str) -> PathBuf {
        self.sshd.path(node)
    }

    fn path(&self, node: &str, path: &str) -> PathBuf {
        self.root(node).join(path)
    }

    fn write(&self, node: &str, path: &str, text: &str) {
        let path = self.path(node, path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, node: &str, path: &str) -> Option<String> {
        fs::read_to_string(self.path(node, path)).ok()
    }

    /// Telephony, which is this process, runs there and nowhere else.
    fn serves(&self, node: &str) {
        for other in ["master", "slave"] {
            let _ = fs::remove_file(self.path(other, "run/example.pid"));
        }
        self.write(node, "run/example.pid", &std::process::id().to_string());
    }

    fn run(&self, node: &str, words: &[&str]) -> Output {
        let mut program = Command::new(example("example-ha"));
        program.arg("--root").arg(self.root(node)).args(words).output().unwrap()
    }

    /// Has a node fetch, and succeed.
    fn fetch(&self, node: &str) -> Value {
        let output = self.run(node, &["--json", "replicate"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Has a node fetch, and be refused by a guard.
    fn refused(&self, node: &str) -> String {
        let output = self.run(node, &["replicate"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{said}");
        said
    }
}

#[test]
fn a_node_that_stands_by_fetches_what_the_serving_one_has() {
    let Some(pair) = Pair::start("") else { return };
    pair.write("master", "srv/data/greeting", "welcome");
    pair.write("slave", "srv/data/old", "gone");
    pair.write("slave", "srv/data/older", "gone");
    pair.write("slave", "etc/pbx-ha/keep", "mine");
    let plan = pair.run("slave", &["--dry-run", "replicate"]);
    let plan = String::from_utf8(plan.stdout).unwrap();
    assert!(plan.contains("send greeting") && plan.contains("delete old"), "{plan}");
    assert_eq!(pair.read("slave", "srv/data/greeting"), None, "only planned");

    let report = pair.fetch("slave");
    assert_eq!(
        (&report["part"], &report["sent"], &report["number"]),
        (&"files".into(), &1.into(), &1.into()),
        "{report}"
    );
    assert_eq!(pair.read("slave", "srv/data/greeting").unwrap(), "welcome");
    assert_eq!((pair.read("slave", "srv/data/old"), pair.read("slave", "srv/data/older")), (None, None));
    assert!(pair.path("slave", "var/lib/pbx-ha/trash").is_dir(), "what was deleted is kept");
    let status: Value = serde_json::from_slice(&pair.run("slave", &["--json", "status"]).stdout).unwrap();
    assert!(status["replication"]["files"]["age_seconds"].is_u64(), "{status}");

    let again = pair.fetch("slave");
    assert_eq!((&again["changed"], &again["number"]), (&0.into(), &1.into()), "{again}");
}

#[test]
fn data_flow_from_whoever_serves() {
    let Some(pair) = Pair::start("") else { return };
    pair.write("master", "srv/voicemail/message", "old");
    pair.fetch("slave");
    assert!(pair.refused("master").contains("guard \"active\""));
    pair.serves("slave");
    pair.write("slave", "srv/voicemail/message", "newer, and longer");
    assert!(pair.refused("slave").contains("guard \"active\""));
    pair.fetch("master");
    assert_eq!(pair.read("master", "srv/voicemail/message").unwrap(), "newer, and longer");

    // nobody serves: what either has may be older
    fs::remove_file(pair.path("slave", "run/example.pid")).unwrap();
    for node in ["master", "slave"] {
        let said = pair.refused(node);
        assert!(said.contains("guard \"passive\""), "{said}");
    }
}

#[test]
fn in_the_seed_preset_the_slave_alone_fetches_and_from_its_master_alone() {
    let Some(pair) = Pair::start("preset = \"seed\"") else { return };
    pair.write("master", "srv/data/file", "the master's");
    fs::remove_file(pair.path("master", "run/example.pid")).unwrap();
    pair.fetch("slave");
    assert_eq!(pair.read("slave", "srv/data/file").unwrap(), "the master's");
    assert!(pair.refused("master").contains("guard \"role\""));
    pair.serves("slave");
    assert!(pair.refused("slave").contains("guard \"active\""), "never while telephony runs here");
}

#[test]
fn a_source_that_does_not_start_says_why() {
    let Some(pair) = Pair::start("") else { return };
    pair.write("master", "etc/pbx-ha/pbx-ha.toml", "nonsense = 1");
    let output = pair.run("slave", &["replicate"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the source on the other node ended") && said.contains("nonsense"), "{said}");
}

#[test]
fn too_many_deletions_are_refused_with_the_guard_by_name() {
    let Some(pair) = Pair::start("[replication]\nmax_delete_files = 1") else { return };
    pair.write("master", "srv/data/one", "1");
    for name in ["a", "b", "c"] {
        pair.write("slave", &format!("srv/data/{name}"), name);
    }
    let said = pair.refused("slave");
    assert!(said.contains("delete"), "{said}");
    assert!(pair.read("slave", "srv/data/a").is_some());
}

const DATABASE: &str = "srv/data/db/pbx.db";

/// A pair with a database inside a tree, and a command that counts and, as SARK's does, writes to what was fetched.
fn with_a_database() -> Option<Pair> {
    let pair = Pair::start("")?;
    for node in ["master", "slave"] {
        pair.write(node, "etc/example/copying", "database /srv/data/db/pbx.db\nafterwards /usr/bin/after it");
        let root = pair.root(node);
        let script = format!(
            "#!/bin/sh\nset -eu\ncd {}\ntest ! -e fail\necho \"$@\" >>runs\ndate +%N >srv/data/generated\n",
            root.display()
        );
        pair.write(node, "usr/bin/after", &script);
        fs::set_permissions(pair.path(node, "usr/bin/after"), fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::create_dir_all(pair.path("master", "srv/data/db")).unwrap();
    Some(pair)
}

fn open(path: &Path) -> rusqlite::Connection {
    let database = rusqlite::Connection::open(path).unwrap();
    database.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE IF NOT EXISTS t (n)").unwrap();
    database
}

fn rows(path: &Path) -> i64 {
    let database = rusqlite::Connection::open(path).unwrap();
    let check: String = database.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    database.query_row("SELECT count(*) FROM t", (), |row| row.get(0)).unwrap()
}

#[test]
fn a_database_in_use_arrives_whole_with_what_is_in_its_log_only() {
    let Some(pair) = with_a_database() else { return };
    let (here, there) = (pair.path("master", DATABASE), pair.path("slave", DATABASE));
    let writer = open(&here);
    writer.execute("INSERT INTO t VALUES (1)", ()).unwrap();
    pair.write("master", "srv/data/greeting", "welcome");
    pair.fetch("slave");
    assert_eq!((rows(&there), pair.read("slave", "srv/data/greeting").is_some()), (1, true));

    // a log on the standby must not be taken for the new database's
    let reader = open(&there);
    reader.execute("INSERT INTO t VALUES (9), (9), (9)", ()).unwrap();
    writer.execute("INSERT INTO t VALUES (2)", ()).unwrap();
    pair.fetch("slave");
    assert_eq!(rows(&there), 2);
    let count: i64 = reader.query_row("SELECT count(*) FROM t", (), |row| row.get(0)).unwrap();
    assert_eq!(count, 4, "whoever has the old one open goes on with it");
    drop(reader);
    assert_eq!(rows(&there), 2);
    let names: Vec<_> =
        fs::read_dir(there.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().starts_with(".pbx-ha")), "{names:?}");
}

#[test]
fn the_command_is_run_after_a_change_only_and_what_it_changes_is_none() {
    let Some(pair) = with_a_database() else { return };
    let writer = open(&pair.path("master", DATABASE));
    let runs = || pair.read("slave", "runs").map_or(0, |text| text.lines().count());
    pair.write("master", "srv/data/generated", "the master's");
    let report = pair.fetch("slave");
    assert_eq!((runs(), &report["afterwards"]), (1, &"/usr/bin/after it".into()), "{report}");
    for _ in 0..3 {
        assert_eq!(pair.fetch("slave")["changed"], 0);
    }
    assert_eq!(runs(), 1, "the file that it generated there is no change");
    writer.execute("INSERT INTO t VALUES (1)", ()).unwrap();
    pair.fetch("slave");
    assert_eq!((runs(), pair.fetch("slave")["changed"].clone()), (2, 0.into()));
    // whatever else changes there does come back
    pair.write("slave", "srv/data/generated", "by hand");
    pair.fetch("slave");
    assert_eq!(runs(), 3);
}

#[test]
fn the_command_is_run_until_it_succeeds_whatever_came_in_between() {
    let Some(pair) = with_a_database() else { return };
    // open all the time: otherwise each copy makes and removes its log, which changes the tree around it
    let _writer = open(&pair.path("master", DATABASE));
    pair.write("master", "srv/data/greeting", "welcome");
    pair.write("slave", "fail", "");
    let report = pair.fetch("slave");
    let why = report["after-replication-failed"].as_str().unwrap();
    assert!(why.contains("/usr/bin/after"), "{report}");
    assert!(
        pair.fetch("slave")["after-replication-failed"].is_string(),
        "nothing changed, and it is due still"
    );
    fs::remove_file(pair.path("slave", "fail")).unwrap();
    pair.fetch("slave");
    assert_eq!(pair.read("slave", "runs").unwrap(), "it\n");
    pair.fetch("slave");
    assert_eq!(pair.read("slave", "runs").unwrap(), "it\n");
}

#[test]
fn what_one_node_alone_names_is_refused_by_its_name() {
    let Some(pair) = with_a_database() else { return };
    drop(open(&pair.path("master", DATABASE)));
    pair.write("slave", "etc/example/copying", "");
    let output = pair.run("slave", &["replicate"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("does not accept the dataset /srv/data/db/pbx.db"), "{said}");
    pair.write("slave", "etc/example/copying", "nonsense");
    let output = pair.run("slave", &["replicate"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("/etc/example/copying: \"nonsense\" is not known"), "{said}");
}

/// A pair with voicemail and greetings, whose slave has fetched two messages, one of which its owner heard on the master
/// since; then the slave took over.
fn parted() -> Option<Pair> {
    let pair = Pair::start("")?;
    for node in ["master", "slave"] {
        let told = "messages /srv/voicemail\ngreetings /srv/data\ntold /usr/bin/told them";
        pair.write(node, "etc/example/copying", told);
        let script = format!("#!/bin/sh\necho \"$@\" >>{}\n", pair.path(node, "told").display());
        pair.write(node, "usr/bin/told", &script);
        fs::set_permissions(pair.path(node, "usr/bin/told"), fs::Permissions::from_mode(0o755)).unwrap();
    }
    pair.message("master", "601/INBOX/msg0000", 1);
    pair.message("master", "602/INBOX/msg0000", 2);
    pair.write("master", "srv/data/both", "old");
    pair.fetch("slave");
    for extension in ["wav", "txt"] {
        let path = |place: &str| pair.path("master", &format!("srv/voicemail/default/{place}.{extension}"));
        fs::create_dir_all(path("602/Old/msg0000").parent().unwrap()).unwrap();
        fs::rename(path("602/INBOX/msg0000"), path("602/Old/msg0000")).unwrap();
    }
    pair.message("master", "601/INBOX/msg0001", 3);
    pair.write("master", "srv/data/new", "recorded");
    pair.write("master", "srv/data/both", "the master's");
    pair.serves("slave");
    pair.message("slave", "601/INBOX/msg0001", 4);
    Some(pair)
}

impl Pair {
    fn message(&self, node: &str, place: &str, said: u32) {
        self.write(node, &format!("srv/voicemail/default/{place}.wav"), &format!("{said}"));
        let text = format!("[message]\norigtime={said}\ncallerid=<602>\nmsg_id={said}-1\n");
        self.write(node, &format!("srv/voicemail/default/{place}.txt"), &text);
    }

    /// What is said at a place; `-`: nothing.
    fn said(&self, node: &str, place: &str) -> String {
        let said = self.read(node, &format!("srv/voicemail/default/{place}.wav"));
        said.unwrap_or_else(|| "-".to_owned())
    }

    fn owes(&self, node: &str) -> bool {
        let status = self.run(node, &["--json", "status"]);
        let status: Value = serde_json::from_slice(&status.stdout).unwrap();
        status["replication"]["owes"].as_bool().unwrap()
    }
}

#[test]
fn a_node_that_returns_carries_what_it_holds_newer_before_it_fetches() {
    let Some(pair) = parted() else { return };
    assert!(pair.owes("master") && !pair.owes("slave"));
    let report = pair.fetch("master");
    assert_eq!((&report["carried"]["carried"], &report["carried"]["set_aside"]), (&3.into(), &1.into()));
    for node in ["master", "slave"] {
        let said = ["601/INBOX/msg0000", "601/INBOX/msg0001", "601/INBOX/msg0002", "602/Old/msg0000"]
            .map(|place| pair.said(node, place));
        assert_eq!(said, ["1", "4", "3", "2"], "{node}");
        assert_eq!(pair.said(node, "602/INBOX/msg0000"), "-");
        assert_eq!(pair.read(node, "srv/data/new").unwrap(), "recorded");
        assert_eq!(pair.read(node, "srv/data/both").unwrap(), "old", "the serving node's is in force");
    }
    assert_eq!(pair.read("slave", "told").unwrap(), "them\n", "once");
    let aside = pair.path("master", "var/lib/pbx-ha/aside");
    let directory = fs::read_dir(&aside).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::read_to_string(directory.join("srv/data/both")).unwrap(), "the master's");
    assert!(!pair.owes("master"));
    let doctor = String::from_utf8(pair.run("master", &["doctor"]).stdout).unwrap();
    assert!(doctor.contains("set-aside") && doctor.contains("with 1 files"), "{doctor}");

    // and the other way round, with one that the master has not fetched
    pair.message("slave", "601/INBOX/msg0003", 5);
    pair.serves("master");
    pair.message("master", "601/INBOX/msg0003", 6);
    // what was written down cannot be read: it may have served since
    pair.write("slave", "var/lib/pbx-ha/carry/cleared.json", "torn");
    assert!(pair.owes("slave"));
    let report = pair.fetch("slave");
    assert_eq!((&report["carried"]["carried"], &report["carried"]["set_aside"]), (&1.into(), &0.into()));
    for node in ["master", "slave"] {
        let said = ["601/INBOX/msg0003", "601/INBOX/msg0004"].map(|place| pair.said(node, place));
        assert_eq!(said, ["6", "5"], "{node}");
    }
    assert!(pair.fetch("slave")["carried"].is_null(), "it owes nothing any more");
}

#[test]
fn nothing_is_fetched_while_what_is_newer_here_cannot_be_carried() {
    let Some(pair) = parted() else { return };
    fs::remove_file(pair.path("slave", "run/example.pid")).unwrap();
    // killed while it took something in, with a folder locked
    let stage = pair.path("master", "srv/voicemail/.pbx-ha-stage-carry");
    let lock = pair.path("master", "srv/voicemail/default/601/INBOX/.lock");
    fs::create_dir(&stage).unwrap();
    fs::set_permissions(&stage, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(stage.join("lock.1"), "default/601/INBOX").unwrap();
    fs::hard_link(stage.join("lock.1"), &lock).unwrap();
    let said = pair.refused("master");
    assert!(said.contains("guard \"carry\"") && said.contains("guard \"passive\""), "{said}");
    assert!(!lock.exists() && !stage.exists(), "what was left over is ended first");
    pair.serves("slave");
    pair.write("slave", "etc/example/copying", "nonsense");
    let output = pair.run("master", &["replicate"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("guard \"carry\"") && said.contains("nonsense"), "{said}");
    // nor by an agent that is asked by anybody else
    assert_eq!(pair.said("master", "601/INBOX/msg0001"), "3");
    assert!(pair.owes("master"));
    let doctor = String::from_utf8(pair.run("master", &["doctor"]).stdout).unwrap();
    assert!(doctor.contains("has not been carried"), "{doctor}");
    // what is planned only changes nothing
    pair.write("slave", "etc/example/copying", "messages /srv/voicemail\ngreetings /srv/data");
    assert!(pair.run("master", &["--dry-run", "replicate"]).status.success());
    assert!(pair.owes("master") && pair.said("slave", "601/INBOX/msg0002") == "-");
}

#[test]
fn a_database_that_is_newer_on_the_returning_node_is_set_aside_whole() {
    let Some(pair) = with_a_database() else { return };
    let here = open(&pair.path("master", DATABASE));
    here.execute("INSERT INTO t VALUES (1)", ()).unwrap();
    pair.fetch("slave");
    here.execute("INSERT INTO t VALUES (2)", ()).unwrap();
    pair.serves("slave");
    let report = pair.fetch("master");
    assert_eq!(report["carried"]["set_aside"], 1, "{report}");
    let aside = fs::read_dir(pair.path("master", "var/lib/pbx-ha/aside")).unwrap().next().unwrap().unwrap();
    assert_eq!(rows(&aside.path().join(DATABASE)), 2);
    drop(here);
    assert_eq!(rows(&pair.path("master", DATABASE)), 1, "the serving node's is in force");
}
