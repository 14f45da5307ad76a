use std::fs;
use std::time::Duration;

use super::super::{FarCommand, OUTPUT_LIMIT, Ran, RunError, SshTarget};
use super::sshd::{Sshd, keygen, start};
use crate::far::Exit;

const PATIENCE: Duration = Duration::from_secs(30);

fn run(sshd: &Sshd, argv: &[&str], directory: Option<&str>, input: &[u8]) -> Ran {
    let argv: Vec<String> = argv.iter().map(ToString::to_string).collect();
    FarCommand { argv: &argv, directory, input }.run(&sshd.target(&["far"]), PATIENCE).unwrap()
}

#[test]
fn a_command_gets_its_words_its_directory_and_its_input_and_tells_how_it_ended() {
    let Some(sshd) = start("") else { return };
    let script = "pwd; printf '<%s>' \"$@\"; cat; echo oh >&2; exit 3";
    let ran = run(&sshd, &["sh", "-c", script, "sh", "a b", "$(id)", "it's"], Some("/usr/bin"), b"in\0put");
    assert_eq!(ran.output, b"/usr/bin\n<a b><$(id)><it's>in\0put");
    assert_eq!((ran.ending.exit, ran.ending.stderr.as_str(), ran.is_whole), (Exit::Code(3), "oh\n", true));
}

#[test]
fn a_directory_that_is_not_there_runs_nothing() {
    let Some(sshd) = start("") else { return };
    let ran = run(&sshd, &["echo", "done"], Some("/nonexistent"), b"");
    assert!(!ran.ending.is_success() && ran.output.is_empty(), "{ran:?}");
}

#[test]
fn of_a_flood_of_output_the_first_part_is_kept() {
    let Some(sshd) = start("") else { return };
    let ran = run(&sshd, &["head", "-c", "3000000", "/dev/zero"], None, &[1; 500_000]);
    assert_eq!((ran.output.len(), ran.is_whole, ran.ending.is_success()), (OUTPUT_LIMIT, false, true));
}

#[test]
fn a_command_that_does_not_end_is_told_of_in_time() {
    let Some(sshd) = start("") else { return };
    let argv = ["sleep".to_owned(), "1000".to_owned()];
    let command = FarCommand { argv: &argv, directory: None, input: b"" };
    let late = command.run(&sshd.target(&["far"]), Duration::from_secs(3)).unwrap_err();
    assert!(matches!(late, RunError::TimedOut { .. }), "{late}");
}

#[test]
fn a_machine_that_is_not_known_or_knows_us_not_is_told_with_what_helps() {
    let Some(sshd) = start("") else { return };
    let argv = ["true".to_owned()];
    let command = FarCommand { argv: &argv, directory: None, input: b"" };
    keygen("ed25519", &sshd.path("other"));
    let stranger = SshTarget { key: sshd.path("other"), ..sshd.target(&["far"]) };
    let refused = command.run(&stranger, PATIENCE).unwrap_err().to_string();
    assert!(refused.contains("`followers key`") && refused.starts_with("127.0.0.1:"), "{refused}");
    fs::write(sshd.path("known_hosts"), "").unwrap();
    let refused = command.run(&sshd.target(&["far"]), PATIENCE).unwrap_err().to_string();
    assert!(refused.contains("SHA256:") && refused.contains("`ssh-keyscan -p "), "{refused}");
    assert!(!refused.contains("sync-key"), "that is for the pair: {refused}");
}
