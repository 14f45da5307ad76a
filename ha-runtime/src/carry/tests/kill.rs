//! The serving node's process is killed at every point, and what it leaves is finished by the next.

use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

pub(super) const DIRECTORY: &str = "PBX_HA_TEST_CARRY_DIRECTORY";
pub(super) const POINTS: &str = "PBX_HA_TEST_CARRY_POINTS";
const WAY: &str = "PBX_HA_TEST_CARRY_FLOCK";

/// Kills this process when it is the child and so many points were passed.
pub(in crate::carry) fn point() {
    static LEFT: OnceLock<Option<AtomicUsize>> = OnceLock::new();
    let left = LEFT.get_or_init(|| {
        let points = std::env::var(POINTS).ok()?;
        Some(AtomicUsize::new(points.parse().expect("set by this file")))
    });
    if let Some(left) = left
        && left.fetch_sub(1, Ordering::Relaxed) == 0
    {
        let me = rustix::process::getpid();
        rustix::process::kill_process(me, rustix::process::Signal::KILL).unwrap();
    }
}

/// Not a test of its own: the process that the others start and kill.
#[test]
#[ignore = "it is started by other tests"]
fn carrying_process() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { return };
    let pair = Pair::at(Path::new(&dir));
    let mut receiver = pair.theirs.receiver_by(way()).unwrap();
    pair.carry_into(&mut receiver).unwrap();
    receiver.close_gaps().unwrap();
}

fn way() -> LockWay {
    if std::env::var_os(WAY).is_some() { LockWay::Flock } else { LockWay::LockFile }
}

/// Whether it came to its end.
fn run(pair: &Pair, points: usize, way: LockWay) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", "carry::tests::kill::carrying_process", "--ignored"])
        .env(DIRECTORY, pair._dir.as_ref().unwrap().path())
        .env(POINTS, points.to_string())
        .stdout(Stdio::null());
    if way == LockWay::Flock {
        child.env(WAY, "1");
    }
    child.status().unwrap().success()
}

/// What was on the serving node is there, whole; of what was carried, each is there at most once.
fn assert_nothing_lost(pair: &Pair, at: usize) {
    let heard = pair.theirs.heard();
    let count = |said: u32| heard.values().filter(|other| **other == said).count();
    // one that is moved may be in both places until somebody goes on, and is never in none
    for said in [10, 11, 30] {
        assert!((1..=2).contains(&count(said)), "killed at {at}: {said} in {heard:?}");
    }
}

/// At each point, or at some of them. At every other one Asterisk goes on before anybody resumes, where the folder is free.
fn killed_everywhere(way: LockWay, step: usize, asterisk_serves: bool) {
    let mut deaths = 0;
    loop {
        let pair = Pair::parted();
        let whole = run(&pair, deaths, way);
        assert_nothing_lost(&pair, deaths);
        let stored = (!whole && asterisk_serves && deaths % 2 == 1)
            .then(|| asterisk::store(&pair.theirs, "601/INBOX", 99))
            .flatten();
        // the next one may be killed, too
        if deaths % 3 == 0 {
            run(&pair, deaths % 7, way);
        }
        assert_nothing_lost(&pair, deaths);
        assert!(run(&pair, usize::MAX, way));
        let heard = pair.theirs.heard();
        let mut expected: Vec<u32> = Pair::closed().into_values().chain(stored.iter().map(|_| 99)).collect();
        let mut said: Vec<u32> = heard.values().copied().collect();
        said.sort();
        expected.sort();
        assert_eq!(said, expected, "killed at {deaths}: {heard:?}");
        if stored.is_none() {
            assert_eq!(heard, Pair::closed(), "killed at {deaths}");
        }
        assert_eq!(pair.theirs.scan().gaps(), []);
        let lines = pair.mine.aside().lines().unwrap();
        assert_eq!(lines.len(), 2, "killed at {deaths}: {lines:?}");
        for name in files(&pair.theirs.dir.join("vm")) {
            assert!(
                !name.contains(".lock") && !name.contains("stage"),
                "killed at {deaths}: {name} is left over"
            );
        }
        assert!(!pair.theirs.dir.join("state/placing.json").exists());
        if whole {
            break;
        }
        deaths += step;
    }
    assert!(deaths > 80, "only {deaths} points");
    eprintln!("killed at {deaths} points");
}

#[test]
fn killed_at_any_point_no_message_is_lost_or_doubled_also_when_asterisk_goes_on() {
    killed_everywhere(LockWay::LockFile, 1, true);
}

#[test]
fn killed_at_some_points_with_the_other_lock_the_next_run_comes_to_the_same_end() {
    killed_everywhere(LockWay::Flock, 3, false);
}
