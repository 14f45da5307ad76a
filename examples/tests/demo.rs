//! `wazo-ha demo` and `xivo-ha demo` from its first line to its last, as a new user runs it.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The demonstration is over within a minute; on a machine that has much else to do it takes longer.
const LIMIT: Duration = Duration::from_secs(300);

const WAZO: &str = env!("CARGO_BIN_EXE_wazo-ha");
const XIVO: &str = env!("CARGO_BIN_EXE_xivo-ha");

/// Temporary files go to `directory`, so that what is left can be seen.
fn demo(program: &str, directory: &Path, arguments: &[&str]) -> Child {
    // the database's user must get through when root runs this
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o711)).unwrap();
    let mut command = Command::new(program);
    command.arg("demo").args(arguments).env("TMPDIR", directory).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// No file is left, and no process that names one.
fn nothing_is_left(directory: &Path) {
    let left: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "left: {left:?}");
    let name = directory.as_os_str().as_encoded_bytes();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let words = std::fs::read(entry.unwrap().path().join("cmdline")).unwrap_or_default();
        let named = words.windows(name.len()).any(|window| window == name);
        assert!(!named, "still runs: {}", String::from_utf8_lossy(&words).replace('\0', " "));
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_new_user_sees_a_takeover_and_a_failback_and_nothing_is_left() {
    is_played(WAZO, "A wazo pair, played on this machine");
}

#[test]
fn a_new_user_of_xivo_sees_the_same() {
    is_played(XIVO, "A xivo pair, played on this machine");
}

fn is_played(program: &str, first: &str) {
    let directory = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let output = demo(program, directory.path(), &[]).wait_with_output().unwrap();
    let all = text(&output);
    assert!(output.status.success(), "{all}");
    assert!(begun.elapsed() < LIMIT, "{all}");
    let mut rest = all.as_str();
    let mut in_order = vec![
        first,
        "slave   master answers: stand by (S1)",
        "master  replicates files: 8 sent whole",
        "master  changed by hand",
        "master  replicates files: 1 sent whole, 1 patched",
        "demo    KILLS THE MASTER",
        "slave   master stopped answering: take over (S4)",
        "slave   telephony answers",
        "is now registered at the slave",
        "slave   serves with the administrator's last changes",
        "demo    switches the master on again",
        "master  may not replicate: telephony runs on the receiving node",
        "slave   master is back and ready: hand back (S10)",
        "master  replicates files: 1 sent whole, 1 patched",
        "death noticed after",
        "The pair kept its promise",
    ];
    if all.contains("two private PostgreSQL servers") {
        in_order.insert(3, "replicates rows: 400 new");
    } else {
        assert!(all.contains("no PostgreSQL server is installed"), "{all}");
        eprintln!("SKIPPED in part: the demonstration found no PostgreSQL server");
    }
    for sentence in in_order {
        let found = rest.find(sentence).unwrap_or_else(|| panic!("missing, or too early: {sentence}\n{all}"));
        rest = &rest[found + sentence.len()..];
    }
    assert!(all.trim_end().ends_with("All processes are ended and all files removed."), "{all}");
    assert!(!all.contains('\x1b'), "no control sequences outside a terminal");
    nothing_is_left(directory.path());
}

#[test]
fn a_program_gets_one_document_with_what_was_measured() {
    let directory = tempfile::tempdir().unwrap();
    let output = demo(WAZO, directory.path(), &["--json"]).wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let measured = |key: &str| document["measured"][key].as_f64().unwrap();
    assert!(measured("detection_seconds") > 0.0);
    assert!(measured("phones_seconds") >= measured("detection_seconds"));
    assert!(measured("held_seconds") + 0.1 >= measured("held_at_least_seconds"));
    assert_eq!(document["complaints"], serde_json::json!([]));
    assert_eq!(document["replications"].as_array().unwrap().len(), 3);
    assert!(document["events"].as_array().unwrap().len() > 20);
    assert!(document["verdict"].as_str().unwrap().starts_with("The pair kept its promise"));
    nothing_is_left(directory.path());
}

#[test]
fn an_interrupted_demonstration_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = demo(WAZO, directory.path(), &[]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let takeover = lines.find(|line| line.as_ref().unwrap().contains("KILLS THE MASTER"));
    assert!(takeover.is_some(), "{}", text(&child.wait_with_output().unwrap()));
    let interrupt = format!("kill -INT {}", child.id());
    assert!(Command::new("/bin/sh").args(["-c", &interrupt]).status().unwrap().success());
    lines.for_each(drop);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("interrupted: all processes are ended"), "{}", text(&output));
    nothing_is_left(directory.path());
}
