//! What the kernel counted for the processes of a host.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ha_tests::Host;

use crate::stage::Stage;

/// How often processes are looked at; what a kernel counts as a peak stays counted until the process ends.
const LOOK: Duration = Duration::from_millis(5);
/// The unit of CPU time in `/proc`: USER_HZ is 100 on every architecture that matters.
const TICK: Duration = Duration::from_millis(10);

/// A process of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    directory: PathBuf,
    /// Its arguments, by spaces.
    pub(crate) arguments: String,
}

/// CPU time of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CpuTime {
    /// Its own.
    pub(crate) own: Duration,
    /// That of its children that have ended.
    pub(crate) children: Duration,
}

/// The processes of a host whose arguments begin with one of these words.
pub(crate) fn named(stage: &Stage, host: Host, names: &[&str]) -> Vec<Process> {
    let Ok(listed) = fs::read_dir(stage.path(host, "/proc")) else { return Vec::new() };
    let each = listed.filter_map(|entry| Process::read(entry.ok()?.path()));
    each.filter(|process| names.iter().any(|name| process.is(name))).collect()
}

/// The process of that number in the host.
pub(crate) fn numbered(stage: &Stage, host: Host, number: &str) -> Option<Process> {
    Process::read(stage.path(host, &format!("/proc/{number}")))
}

/// The most memory that one process of a name had on the master and on the slave while `work` was done. Bytes.
pub(crate) fn peaks(stage: &Stage, near: &str, far: &str, work: impl FnOnce()) -> [u64; 2] {
    let done = AtomicBool::new(false);
    let sides = [(Host::Master, near), (Host::Slave, far)];
    for (host, name) in sides {
        named(stage, host, &[name]).iter().for_each(Process::forget_peak);
    }
    thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut peaks = [0, 0];
            while !done.load(Ordering::Relaxed) {
                for (peak, (host, name)) in peaks.iter_mut().zip(sides) {
                    let highest = named(stage, host, &[name]).iter().filter_map(Process::peak).max();
                    *peak = highest.unwrap_or(0).max(*peak);
                }
                thread::sleep(LOOK);
            }
            peaks
        });
        work();
        done.store(true, Ordering::Relaxed);
        looking.join().expect("looking at processes does not fail")
    })
}

impl Process {
    fn read(directory: PathBuf) -> Option<Process> {
        directory.file_name()?.to_str()?.parse::<u32>().ok()?;
        let arguments = fs::read(directory.join("cmdline")).ok()?;
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ").trim().to_owned();
        Some(Process { directory, arguments })
    }

    /// Whether its program, without the folder, and the first arguments are these.
    fn is(&self, name: &str) -> bool {
        let program = self.arguments.split(' ').next().unwrap_or_default();
        let folder = program.rfind('/').map_or(0, |slash| slash + 1);
        self.arguments[folder..].starts_with(name)
    }

    /// The most memory that it has had; `None`: it has ended.
    fn peak(&self) -> Option<u64> {
        let status = fs::read_to_string(self.directory.join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
        Some(kilobytes * 1024)
    }

    /// Counts its peak anew from what it has now.
    fn forget_peak(&self) {
        // it may have ended
        let _ = fs::write(self.directory.join("clear_refs"), "5");
    }

    /// What it has used; `None`: it has ended.
    pub(crate) fn cpu_time(&self) -> Option<CpuTime> {
        let stat = fs::read_to_string(self.directory.join("stat")).ok()?;
        // the name, in brackets, may hold spaces
        let fields: Vec<u32> =
            stat[stat.rfind(')')? + 1..].split_whitespace().skip(11).take(4).flat_map(str::parse).collect();
        let [user, system, children_user, children_system] = fields[..] else { return None };
        Some(CpuTime { own: TICK * (user + system), children: TICK * (children_user + children_system) })
    }
}
