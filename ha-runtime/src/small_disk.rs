//! A disk of its own for a test: small, so that it can be full, and remountable read-only.

use std::process::Command;

/// Room on it, in bytes.
pub(crate) const SIZE: usize = 256 * 1024;

/// Runs one ignored test of this binary in a mount namespace of its own, its temporary directory a small disk. Needs
/// root; says on stderr when it cannot be done.
pub(crate) fn run_there(test: &str) {
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", script, "sh"]);
        command
    };
    let dir = tempfile::tempdir().unwrap();
    let mount = r#"mount -t tmpfs -o size="$2" none "$1""#;
    let possible = unshare(mount).arg(dir.path()).arg(SIZE.to_string()).output();
    if !possible.as_ref().is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED {test}: no disk can be mounted here ({possible:?}); it needs root");
        return;
    }
    let output = unshare(&format!(r#"{mount}; TMPDIR="$1" exec "$3" --exact --ignored --nocapture "$4""#))
        .arg(dir.path())
        .arg(SIZE.to_string())
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .env("SMALL_DISK", dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// For the test that runs there: makes the disk read-only.
pub(crate) fn make_read_only() {
    let disk = std::env::var_os("SMALL_DISK").expect("started by run_there");
    let status = Command::new("mount").args(["-o", "remount,ro"]).arg(disk).status().unwrap();
    assert!(status.success());
}

/// For the test that runs there: takes all room but so many bytes.
pub(crate) fn fill(but: u64) {
    use std::io::Write;
    let disk = std::env::var_os("SMALL_DISK").expect("started by run_there");
    let path = std::path::Path::new(&disk).join("filler");
    let mut file = std::fs::File::create(path).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    let length = file.metadata().unwrap().len();
    file.set_len(length.saturating_sub(but)).unwrap();
}

/// For the test that runs there: gives the room back.
pub(crate) fn make_room() {
    let disk = std::env::var_os("SMALL_DISK").expect("started by run_there");
    std::fs::remove_file(std::path::Path::new(&disk).join("filler")).unwrap();
}
