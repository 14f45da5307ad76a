//! Whether telephony runs here, found out by looking only: no command, no change.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ha_core::profile::{Observation, Switch};
use ha_core::services::Observed;

use crate::process::Stat;
use crate::root::Root;

/// Where systemd keeps a service's control group: unified, hybrid, and version 1.
const CGROUPS: [&str; 3] = ["system.slice", "unified/system.slice", "systemd/system.slice"];

/// Looks at the pid file, the unit's control group (only on the machine's own root), and at what forbids it to run.
pub fn observe(root: &Root, observation: &Observation) -> Observed {
    let cgroups = root.is_machine().then(|| Path::new("/sys/fs/cgroup"));
    observe_with(root, observation, cgroups)
}

/// Whether something on this node says that telephony must not run here: it would not start by itself.
pub fn forbidden(root: &Root, observation: &Observation) -> bool {
    let is_off = |switch: &Switch| {
        fs::read(root.path(switch.path)).is_ok_and(|text| switch.is_off(&String::from_utf8_lossy(&text)))
    };
    observation.disabled_file.is_some_and(|file| root.path(file).exists())
        || (!observation.switches.is_empty() && observation.switches.iter().all(is_off))
}

fn observe_with(root: &Root, observation: &Observation, cgroups: Option<&Path>) -> Observed {
    let pid_file = root.path(observation.pid_file);
    let name = observation.unit.trim_end_matches(".service");
    let cgroups: Vec<PathBuf> = cgroups
        .into_iter()
        .flat_map(|mount| CGROUPS.map(|slice| mount.join(slice).join(observation.unit)))
        .filter(|cgroup| cgroup.is_dir())
        .collect();
    if process_of(&pid_file, name) || cgroups.iter().any(|cgroup| populated(cgroup)) {
        return Observed::Running;
    }
    if forbidden(root, observation) || pid_file.exists() || !cgroups.is_empty() {
        Observed::Stopped
    } else {
        Observed::Unknown
    }
}

/// Whether the process that wrote the pid file is alive.
///
/// A crash leaves the file behind, and the number may belong to somebody else by now. So the process must bear the
/// service's name, or must have been there when the file was written.
fn process_of(pid_file: &Path, name: &str) -> bool {
    let Some(pid) = fs::read_to_string(pid_file).ok().and_then(|text| text.trim().parse::<i32>().ok()) else {
        return false;
    };
    let Some(stat) = Stat::of(pid).filter(Stat::alive) else { return false };
    let program = fs::read_link(format!("/proc/{pid}/exe")).ok();
    let named = program.as_ref().and_then(|path| path.file_name()).is_some_and(|file| file == name);
    named || stat.comm == name || started_before(&stat, pid_file).unwrap_or(false)
}

fn started_before(stat: &Stat, file: &Path) -> Option<bool> {
    // USER_HZ, in which /proc counts, is 100 on every architecture that these products run on
    let start = Duration::from_millis(stat.started.checked_mul(10)?);
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime = Duration::try_from_secs_f64(uptime.split_ascii_whitespace().next()?.parse().ok()?).ok()?;
    let age = uptime.checked_sub(start).unwrap_or_default();
    let written = SystemTime::now().duration_since(fs::metadata(file).ok()?.modified().ok()?);
    // both ages are of now, so that a step of the wall clock counts once; a second for rounding
    Some(age + Duration::from_secs(1) >= written.unwrap_or_default())
}

fn populated(cgroup: &Path) -> bool {
    let events = fs::read_to_string(cgroup.join("cgroup.events")).unwrap_or_default();
    let procs = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    events.lines().any(|line| line == "populated 1") || !procs.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    const ASTERISK: Observation = Observation {
        disabled_file: Some("/var/lib/wazo/disabled"),
        switches: &[],
        unit: "asterisk.service",
        pid_file: "/run/asterisk/asterisk.pid",
    };

    struct Place {
        _dir: tempfile::TempDir,
        root: Root,
    }

    impl Place {
        fn new() -> Place {
            let dir = tempfile::tempdir().unwrap();
            let root = Root::new(dir.path()).unwrap();
            Place { _dir: dir, root }
        }
        fn write(&self, path: &str, text: &str) {
            let path = self.root.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fn observe(&self) -> Observed {
            observe(&self.root, &ASTERISK)
        }
    }

    fn sleeper() -> Child {
        Command::new("sleep").arg("600").spawn().unwrap()
    }

    #[test]
    fn an_empty_root_tells_nothing() {
        assert_eq!(Place::new().observe(), Observed::Unknown);
    }

    #[test]
    fn the_disabled_file_says_stopped_unless_a_process_says_otherwise() {
        let place = Place::new();
        place.write("/var/lib/wazo/disabled", "");
        assert_eq!(place.observe(), Observed::Stopped);
        let mut child = sleeper();
        place.write(ASTERISK.pid_file, &format!("{}\n", child.id()));
        assert_eq!(place.observe(), Observed::Running, "started by hand");
        child.kill().unwrap();
        // not reaped yet: a zombie does not answer phones
        while Stat::of(child.id().cast_signed()).is_some_and(|stat| stat.alive()) {
            std::thread::yield_now();
        }
        assert_eq!(place.observe(), Observed::Stopped);
        child.wait().unwrap();
        assert_eq!(place.observe(), Observed::Stopped);
    }

    #[test]
    fn switches_that_are_all_off_say_stopped_where_there_is_no_disabled_file() {
        const SWITCHES: &[Switch] = &[
            Switch { path: "/etc/default/asterisk", name: "RUNASTERISK", on: "yes", off: "no" },
            Switch { path: "/etc/default/monit", name: "startup", on: "1", off: "0" },
        ];
        let place = Place::new();
        let look = || {
            let switched = Observation { disabled_file: None, switches: SWITCHES, ..ASTERISK };
            (forbidden(&place.root, &switched), observe(&place.root, &switched))
        };
        assert_eq!(look(), (false, Observed::Unknown));
        place.write("/etc/default/asterisk", "RUNASTERISK=yes\nRUNASTERISK=no\n");
        assert_eq!(look(), (false, Observed::Unknown), "the supervisor may start it");
        place.write("/etc/default/monit", "startup=0\n");
        assert_eq!(look(), (true, Observed::Stopped));
    }

    #[test]
    fn a_pid_file_left_by_a_crash_says_stopped_even_when_the_id_belongs_to_another_process() {
        let place = Place::new();
        place.write(ASTERISK.pid_file, "not a number");
        assert_eq!(place.observe(), Observed::Stopped);
        let mut child = sleeper();
        place.write(ASTERISK.pid_file, &child.id().to_string());
        let file = fs::File::options().write(true).open(place.root.path(ASTERISK.pid_file)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
        assert_eq!(place.observe(), Observed::Stopped, "it was started after the file was written");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_process_in_the_units_control_group_says_running() {
        let place = Place::new();
        let mount = place.root.path("/cgroup");
        let look = || observe_with(&place.root, &ASTERISK, Some(&mount));
        assert_eq!(look(), Observed::Unknown);
        for slice in CGROUPS {
            let procs = format!("/cgroup/{slice}/asterisk.service/cgroup.procs");
            place.write(&procs, "");
            assert_eq!(look(), Observed::Stopped, "{slice}");
            place.write(&procs, "77\n78\n");
            assert_eq!(look(), Observed::Running, "{slice}");
            place.write(&procs, "");
        }
        place.write("/cgroup/system.slice/asterisk.service/cgroup.events", "populated 1\nfrozen 0\n");
        assert_eq!(look(), Observed::Running, "in a group below");
    }
}
