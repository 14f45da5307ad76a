//! Processes and process groups of this machine, as `/proc` shows them.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

/// One line of `/proc/<pid>/stat`, as far as it is used (proc(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// The file name of the program, at most 15 bytes.
    pub comm: String,
    /// `R`, `S`, `D`, `Z`, ...
    pub state: char,
    /// The process group.
    pub group: i32,
    /// When it was started, in clock ticks (1/100 s) since the machine was.
    pub started: u64,
}

impl Stat {
    /// That of a process; `None`: there is none of that id.
    pub fn of(pid: i32) -> Option<Stat> {
        Stat::parse(&String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/stat")).ok()?))
    }

    /// The line's fields. The name may hold blanks and parentheses: it ends at the last `)`.
    pub fn parse(line: &str) -> Option<Stat> {
        let (head, tail) = line.rsplit_once(')')?;
        let comm = head.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
        Some(Stat {
            comm,
            state: fields.first()?.chars().next()?,
            group: fields.get(2)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }

    /// Whether it still runs: neither a zombie nor dead.
    pub fn alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// A command's process group, as it is journaled before the command's first instruction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRecord {
    /// Process group, which is its leader's process id.
    pub group: i32,
    /// The leader's start, in clock ticks since the machine's: excludes that the id was given away again.
    pub started: u64,
    /// Which start of the machine (`/proc/sys/kernel/random/boot_id`).
    pub boot: String,
    /// What it runs.
    pub argv: Vec<String>,
}

impl ProcessRecord {
    /// That of a process which leads its group; `None`: it is gone already.
    pub fn of(leader: i32, argv: &[String]) -> Option<ProcessRecord> {
        let started = Stat::of(leader)?.started;
        Some(ProcessRecord { group: leader, started, boot: boot_id(), argv: argv.to_vec() })
    }
}

/// A command of an earlier run of the engine that still runs, or `None`.
///
/// Decided by its leader alone. When the leader is gone the command has ended, and what is left in its group is a
/// service that it started: that must not be ended.
pub fn surviving_group(record: &ProcessRecord) -> Option<Stat> {
    let leader = Stat::of(record.group)?;
    let same = leader.started == record.started && leader.group == record.group && boot_id() == record.boot;
    (same && leader.alive()).then_some(leader)
}

/// Waits until a surviving command has ended by itself; whether it has.
pub fn await_group(record: &ProcessRecord, patience: Duration) -> bool {
    wait_until(patience, || surviving_group(record).is_none())
}

/// Ends a surviving command with its whole group: SIGTERM, after `grace` SIGKILL. Nothing is done when none survives.
///
/// Err: a signal was refused, or a process does not die (it hangs in the kernel).
pub fn end_group(record: &ProcessRecord, grace: Duration) -> io::Result<()> {
    if surviving_group(record).is_none() {
        return Ok(());
    }
    if end(record.group, grace)? {
        return Ok(());
    }
    let text = format!("process group {} does not end, not even by SIGKILL", record.group);
    Err(io::Error::new(io::ErrorKind::TimedOut, text))
}

/// How long a group that got SIGKILL may take to go: only a process that hangs in the kernel takes longer.
const AFTER_KILL: Duration = Duration::from_secs(1);

/// SIGTERM, `grace`, SIGKILL; whether nobody is left. The caller makes sure that the leader is not reaped meanwhile, or
/// that it was looked at just before.
pub(crate) fn end(group: i32, grace: Duration) -> io::Result<bool> {
    // 0 and 1 would be our own group and everybody
    let Some(pid) = Some(group).filter(|group| *group > 1).and_then(Pid::from_raw) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("no process group: {group}")));
    };
    for (signal, patience) in [(Signal::TERM, grace), (Signal::KILL, AFTER_KILL)] {
        match kill_process_group(pid, signal) {
            Err(rustix::io::Errno::SRCH) => return Ok(true),
            other => other?,
        }
        if wait_until(patience, || members(group).is_empty()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The ids of the living processes of a group.
pub fn members(group: i32) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| Stat::of(*pid).is_some_and(|stat| stat.group == group && stat.alive()))
        .collect()
}

fn wait_until(patience: Duration, done: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if done() {
            return true;
        }
        if start.elapsed() >= patience {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10).min(patience));
    }
}

/// Which start of the machine this is (`/proc/sys/kernel/random/boot_id`).
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};

    fn sleeper(script: &str) -> (Child, ProcessRecord) {
        let argv = ["sh".to_owned(), "-c".to_owned(), script.to_owned()];
        let child = Command::new("sh").args(&argv[1..]).process_group(0).spawn().unwrap();
        let record = ProcessRecord::of(child.id().cast_signed(), &argv).unwrap();
        (child, record)
    }

    #[test]
    fn a_program_name_with_blanks_and_parentheses_is_read() {
        let line = "7 (a) S (b) R 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 1 1";
        let stat = Stat { comm: "a) S (b".into(), state: 'R', group: 42, started: 12345 };
        assert_eq!(Stat::parse(line), Some(stat));
        assert_eq!(Stat::parse("7 (a) R 1"), None);
    }

    #[test]
    fn a_surviving_group_is_ended_even_when_a_member_ignores_sigterm() {
        let (mut child, record) = sleeper("sh -c 'trap \"\" TERM; while :; do sleep 0.05; done' & sleep 60");
        assert!(surviving_group(&record).is_some());
        assert!(wait_until(Duration::from_secs(5), || members(record.group).len() >= 3));
        end_group(&record, Duration::from_millis(300)).unwrap();
        assert_eq!(members(record.group), Vec::<i32>::new());
        child.wait().unwrap();
    }

    #[test]
    fn another_process_with_the_same_id_is_left_alone() {
        let (mut child, record) = sleeper("sleep 60");
        for other in [
            ProcessRecord { started: record.started - 1, ..record.clone() },
            ProcessRecord { boot: "before the machine was restarted".into(), ..record.clone() },
        ] {
            assert_eq!(surviving_group(&other), None);
            end_group(&other, Duration::ZERO).unwrap();
        }
        assert!(child.try_wait().unwrap().is_none(), "it still runs");
        end_group(&record, Duration::from_secs(2)).unwrap();
        child.wait().unwrap();
        assert_eq!(surviving_group(&record), None);
    }

    #[test]
    fn a_service_that_an_ended_command_left_is_not_a_surviving_command() {
        let (mut child, record) = sleeper("sleep 60 & exit 0");
        child.wait().unwrap();
        assert!(await_group(&record, Duration::ZERO));
        end_group(&record, Duration::ZERO).unwrap();
        let left = members(record.group);
        assert_eq!(left.len(), 1, "the service still runs");
        assert!(end(record.group, Duration::from_secs(2)).unwrap());
    }

    #[test]
    fn nobody_but_a_real_group_is_ended() {
        assert!(end(0, Duration::ZERO).is_err());
        assert!(end(1, Duration::ZERO).is_err());
        assert!(end(-1, Duration::ZERO).is_err());
    }
}
