//! One command: found below the root, bounded in time, its end observed, its output kept.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ha_core::effect::Command;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::capture::Capture;
pub use crate::capture::OUTPUT_KEPT;
use crate::process::{self, ProcessRecord, Stat};
use crate::root::Root;

/// Between SIGTERM and SIGKILL for a command that took too long.
pub const GRACE: Duration = Duration::from_secs(2);
/// Longest text for a command's standard input: what a pipe takes without a reader.
pub const INPUT_MAX: usize = 32 * 1024;

/// A command that ended with status 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The end of what it wrote to standard output and standard error, at most [`OUTPUT_KEPT`] bytes.
    pub tail: String,
    /// How long it ran.
    pub took: Duration,
}

/// Why a command did not do what it was for.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Nothing was started.
    #[error("{program}: not installed below {}", root.display())]
    NotInstalled {
        /// As it was asked for; empty for a command without words.
        program: String,
        /// Where it was looked for.
        root: PathBuf,
    },
    /// Nothing was started.
    #[error("{command}: could not be started: {source}")]
    Spawn {
        /// The whole command.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// It ended by itself; what it did up to there is unknown.
    #[error("{command}: {status}{}", said(tail))]
    Failed {
        /// The whole command.
        command: String,
        /// Exit status, or the signal. 126 and 127: the shell could not execute the file, and says why in `tail`.
        status: ExitStatus,
        /// The end of its output.
        tail: String,
    },
    /// It was ended, with its whole process group; what it did up to there is unknown.
    #[error("{command}: ended after {timeout:?} without a result{}{}", hanging(left), said(tail))]
    TimedOut {
        /// The whole command.
        command: String,
        /// The time that it had.
        timeout: Duration,
        /// The end of its output.
        tail: String,
        /// Processes of it that not even SIGKILL ended: they hang in the kernel, and may still act when they go on.
        left: Vec<i32>,
    },
}

fn hanging(left: &[i32]) -> String {
    if left.is_empty() { String::new() } else { format!(", but processes {left:?} do not end") }
}

fn said(tail: &str) -> String {
    match tail.trim() {
        "" => String::new(),
        text => format!("; it said: {text}"),
    }
}

/// Runs a command to its end.
///
/// It gets a process group of its own, an empty standard input, `PATH` from the root, and nothing of the engine's
/// environment but that. `started` is told the process group *before* the command's first instruction, so that a record
/// of it exists whatever happens then (`safety.md` 3.3); the command waits as long as `started` takes, and the time does
/// not count. A service that the command leaves behind goes on running, in the command's group.
pub fn run(
    root: &Root,
    command: &Command,
    started: &mut dyn FnMut(&ProcessRecord),
) -> Result<Output, CommandError> {
    run_with_input(root, command, "", started)
}

/// As [`run`], with a text for the command's standard input, of which at most [`INPUT_MAX`] bytes are passed.
pub fn run_with_input(
    root: &Root,
    command: &Command,
    input: &str,
    started: &mut dyn FnMut(&ProcessRecord),
) -> Result<Output, CommandError> {
    run_until(root, command, input, GRACE, started)
}

/// Runs a question that changes nothing, so that it may be ended without ceremony: SIGKILL follows SIGTERM at once.
pub fn ask(root: &Root, command: &Command) -> Result<Output, CommandError> {
    run_until(root, command, "", Duration::ZERO, &mut |_| {})
}

fn run_until(
    root: &Root,
    command: &Command,
    input: &str,
    grace: Duration,
    started: &mut dyn FnMut(&ProcessRecord),
) -> Result<Output, CommandError> {
    let name = command.argv.first().map_or("", String::as_str);
    let program =
        Some(name).filter(|name| !name.is_empty()).and_then(|name| root.program(name)).ok_or_else(|| {
            CommandError::NotInstalled { program: name.to_owned(), root: root.directory().to_owned() }
        })?;
    let failed = |source| CommandError::Spawn { command: command.to_string(), source };

    let capture = Capture::new().map_err(failed)?;
    let (mut child, gate) = spawn(root, command, program, &capture, input.is_empty()).map_err(failed)?;
    let group = child.id().cast_signed();
    if let Some(record) = ProcessRecord::of(group, &command.argv) {
        started(&record);
    }
    let opened = open_gate(gate, input);
    let start = Instant::now();
    if let Err(source) = opened {
        let _ = process::end(group, Duration::ZERO);
        reap(child);
        return Err(failed(source));
    }

    let mut capture = capture;
    // kernels before 5.3 have no process descriptors
    let descriptor = Pid::from_raw(group).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let exited = wait(group, descriptor.as_ref(), &mut capture, start + command.timeout);
    if !exited {
        // the child is not reaped yet, so the number is still its own
        let left = match process::end(group, grace) {
            Ok(true) => Vec::new(),
            Ok(false) | Err(_) => process::members(group),
        };
        let tail = capture.tail();
        reap(child);
        let (command, timeout) = (command.to_string(), command.timeout);
        return Err(CommandError::TimedOut { command, timeout, tail, left });
    }
    let status = child.wait().map_err(failed)?;
    let tail = capture.tail();
    if status.success() {
        return Ok(Output { tail, took: start.elapsed() });
    }
    Err(CommandError::Failed { command: command.to_string(), status, tail })
}

/// The gate: the command's own process, waiting for one line before it becomes the program. When the engine dies before,
/// the line never comes and nothing is run. The words are arguments of `sh`, never text that it interprets.
const GATE: &str = r#"read -r go || exit 125; exec "$@" </dev/null"#;
const GATE_WITH_INPUT: &str = r#"read -r go || exit 125; exec "$@""#;

fn spawn(
    root: &Root,
    command: &Command,
    program: PathBuf,
    capture: &Capture,
    no_input: bool,
) -> io::Result<(Child, std::process::ChildStdin)> {
    let mut child = std::process::Command::new("/bin/sh")
        .args(["-c", if no_input { GATE } else { GATE_WITH_INPUT }, "sh"])
        .arg(program)
        .args(command.argv.iter().skip(1))
        .process_group(0)
        .current_dir("/")
        .env_clear()
        .env("PATH", root.search_path())
        .env("LANG", "C.UTF-8")
        .env("HOME", "/root")
        .stdin(Stdio::piped())
        .stdout(capture.stdio()?)
        .stderr(capture.stdio()?)
        .spawn()?;
    let gate = child.stdin.take().expect("standard input was asked to be a pipe two lines above");
    Ok((child, gate))
}

fn open_gate(mut gate: std::process::ChildStdin, input: &str) -> io::Result<()> {
    let mut end = input.len().min(INPUT_MAX);
    while !input.is_char_boundary(end) {
        end -= 1;
    }
    gate.write_all(b"go\n")?;
    gate.write_all(&input.as_bytes()[..end])
}

/// Waits for a child's end without reaping it; whether it came before `deadline`. Without a descriptor it is looked at
/// every 5 ms.
fn wait(pid: i32, descriptor: Option<&OwnedFd>, capture: &mut Capture, deadline: Instant) -> bool {
    const GLANCE: Duration = Duration::from_millis(200);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match descriptor {
            Some(fd) if readable(fd, left.min(GLANCE)) => return true,
            Some(_) => {}
            None if !Stat::of(pid).is_some_and(|stat| stat.alive()) => return true,
            None => std::thread::sleep(left.min(Duration::from_millis(5))),
        }
        capture.trim();
        if left.is_zero() {
            return false;
        }
    }
}

fn readable(fd: &OwnedFd, patience: Duration) -> bool {
    let timeout =
        Timespec { tv_sec: patience.as_secs().cast_signed(), tv_nsec: patience.subsec_nanos().into() };
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&timeout)), Ok(1..))
}

/// Reaps without waiting: a process that hangs in the kernel must not hang its parent.
fn reap(mut child: Child) {
    if let Ok(None) = child.try_wait() {
        std::thread::spawn(move || child.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ha_core::effect::OnFailure;
    use std::os::unix::fs::PermissionsExt;

    /// A root with programs of its own.
    fn root(programs: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("usr/bin");
        std::fs::create_dir_all(&bin).unwrap();
        for (name, script) in programs {
            std::fs::write(bin.join(name), format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(bin.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let root = Root::new(dir.path()).unwrap();
        (dir, root)
    }

    fn command(argv: &[&str], timeout: Duration) -> Command {
        let argv = argv.iter().map(|word| (*word).to_owned()).collect();
        Command { argv, timeout, on_failure: OnFailure::Fail }
    }

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn a_program_that_is_not_below_the_root_is_not_taken_from_the_machine() {
        let (_dir, root) = root(&[]);
        let error = run(&root, &command(&["sleep", "0"], LONG), &mut |_| panic!("started")).unwrap_err();
        assert_eq!(error.to_string(), format!("sleep: not installed below {}", root.directory().display()));
        let empty = run(&root, &command(&[], LONG), &mut |_| panic!("started")).unwrap_err();
        assert!(matches!(empty, CommandError::NotInstalled { .. }));
    }

    #[test]
    fn words_reach_the_program_unchanged_and_the_environment_is_clean() {
        let (_dir, root) = root(&[("tell", r#"printf '<%s>' "$@"; echo >&2; env; pwd; cat"#)]);
        let output = run(&root, &command(&["tell", "a b", "$(id)", ";", ""], LONG), &mut |_| {}).unwrap();
        assert!(output.tail.starts_with("<a b><$(id)><;><>\n"), "{}", output.tail);
        let mut lines: Vec<&str> = output.tail.lines().skip(1).collect();
        lines.retain(|line| !line.starts_with("_=") && !line.starts_with("OLDPWD="));
        lines.sort_unstable();
        let path = format!("PATH={}", root.search_path());
        assert_eq!(lines, ["/", "HOME=/root", "LANG=C.UTF-8", path.as_str(), "PWD=/"]);
    }

    #[test]
    fn a_failure_tells_status_and_output() {
        let (_dir, root) = root(&[("wazo-service", "echo starting; echo no licence >&2; exit 3")]);
        let error = run(&root, &command(&["wazo-service", "start"], LONG), &mut |_| {}).unwrap_err();
        assert_eq!(error.to_string(), "wazo-service start: exit status: 3; it said: starting\nno licence");
    }

    #[test]
    fn only_the_end_of_a_flood_of_output_is_kept() {
        let (_dir, root) = root(&[("flood", "seq 1 2000000; sleep 0.5; echo héhé; echo the end")]);
        let output = run(&root, &command(&["flood"], LONG), &mut |_| {}).unwrap();
        assert!(output.tail.ends_with("2000000\nhéhé\nthe end\n"));
        assert!(output.tail.len() <= OUTPUT_KEPT && output.tail.len() > OUTPUT_KEPT / 2);
    }

    #[test]
    fn the_process_is_on_record_before_its_first_instruction() {
        let (dir, root) = root(&[("touch-it", r#"echo x > "$1""#)]);
        let mark = dir.path().join("mark");
        let mut seen = None;
        let touch = command(&["touch-it", mark.to_str().unwrap()], LONG);
        run(&root, &touch, &mut |record| {
            assert!(!mark.exists());
            assert!(process::surviving_group(record).is_some());
            seen = Some(record.clone());
        })
        .unwrap();
        assert!(mark.exists());
        let record = seen.unwrap();
        assert_eq!(record.argv, touch.argv);
        assert_eq!(process::surviving_group(&record), None, "ended and reaped");
    }

    #[test]
    #[ignore = "the other process of a_command_of_an_engine_that_dies_before_its_first_instruction_is_not_run"]
    fn die_before_the_first_instruction() {
        let directory = PathBuf::from(std::env::var_os("COMMAND_ROOT").expect("started by the other test"));
        let touch = command(&["touch-it", directory.join("mark").to_str().unwrap()], LONG);
        let _ = run(&Root::new(&directory).unwrap(), &touch, &mut |record| {
            std::fs::write(directory.join("group"), record.group.to_string()).unwrap();
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        });
    }

    #[test]
    fn a_command_of_an_engine_that_dies_before_its_first_instruction_is_not_run() {
        let (dir, _) = root(&[("touch-it", r#"echo x > "$1""#)]);
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "command::tests::die_before_the_first_instruction"])
            .env("COMMAND_ROOT", dir.path())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(!status.success());
        let group = std::fs::read_to_string(dir.path().join("group")).unwrap().parse().unwrap();
        while !process::members(group).is_empty() {
            std::thread::yield_now();
        }
        assert!(!dir.path().join("mark").exists());
    }

    #[test]
    fn a_command_that_hangs_is_ended_with_its_children() {
        let (_dir, root) = root(&[("hang", "echo waiting; sleep 60 & sleep 60; wait")]);
        let mut group = 0;
        let timeout = Duration::from_millis(1500);
        let hang = command(&["hang"], timeout);
        let error = run(&root, &hang, &mut |record| group = record.group).unwrap_err();
        let CommandError::TimedOut { tail, timeout: told, left, .. } = error else { panic!("{error}") };
        assert_eq!((tail.as_str(), told), ("waiting\n", timeout));
        assert_eq!((process::members(group), left), (vec![], vec![]));
    }

    #[test]
    fn a_question_that_hears_no_sigterm_is_ended_at_its_time_out() {
        let (_dir, root) = root(&[("deaf", "trap '' TERM; while :; do sleep 0.01; done")]);
        let begun = Instant::now();
        let error = ask(&root, &command(&["deaf"], Duration::from_millis(300))).unwrap_err();
        let CommandError::TimedOut { left, .. } = error else { panic!("{error}") };
        assert_eq!(left, Vec::<i32>::new());
        assert!(begun.elapsed() < GRACE, "{:?}", begun.elapsed());
    }

    #[test]
    fn a_service_that_a_command_starts_keeps_running_and_writing() {
        let (dir, root) = root(&[(
            "start-pbx",
            r#"(while :; do echo alive; sleep 0.02; echo x >> "$1"; done) & echo started"#,
        )]);
        let beats = dir.path().join("beats");
        let mut group = 0;
        let start = command(&["start-pbx", beats.to_str().unwrap()], LONG);
        let output = run(&root, &start, &mut |record| group = record.group).unwrap();
        assert!(output.tail.contains("started"));
        assert!(output.took < LONG, "it did not wait for the service");
        let count = || std::fs::read(&beats).map_or(0, |beats| beats.len());
        let before = count();
        let patience = Instant::now() + LONG;
        while count() <= before + 2 && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(count() > before + 2, "it writes to its standard output without harm");
        assert!(process::end(group, Duration::from_secs(2)).unwrap());
    }

    #[test]
    fn an_old_kernel_without_process_descriptors_will_do() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let mut capture = Capture::new().unwrap();
        let pid = child.id().cast_signed();
        assert!(!wait(pid, None, &mut capture, Instant::now() + Duration::from_millis(20)));
        child.kill().unwrap();
        assert!(wait(pid, None, &mut capture, Instant::now() + LONG));
        child.wait().unwrap();
    }

    #[test]
    fn a_text_reaches_standard_input() {
        let (_dir, root) = root(&[("mail", "cat")]);
        let mail = command(&["mail"], LONG);
        let output = run_with_input(&root, &mail, "first\nsecond\n", &mut |_| {}).unwrap();
        assert_eq!(output.tail, "first\nsecond\n");
        let long = "é".repeat(INPUT_MAX);
        let output = run_with_input(&root, &mail, &long, &mut |_| {}).unwrap();
        assert_eq!(output.tail.chars().filter(|c| *c != 'é').count(), 0);
    }
}
