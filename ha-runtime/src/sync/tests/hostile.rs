//! Trees that somebody changes on purpose while they are read or written: nothing outside is read or touched.

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::*;

/// How often a tree is walked while somebody swaps what lies in it.
const WALKS: usize = 40;

/// Swaps a directory and a symbolic link that leads out of the tree, as fast as it can, while `act` runs; says how often.
fn while_swapped(directory: &Path, link: &Path, act: impl FnOnce()) -> usize {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            let mut swaps = 0;
            while !over.load(Ordering::Relaxed) {
                // one of them may have been deleted meanwhile
                swaps += usize::from(renameat_with(CWD, directory, CWD, link, RenameFlags::EXCHANGE).is_ok());
            }
            swaps
        });
        let acted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
        over.store(true, Ordering::Relaxed);
        let swaps = swapping.join().unwrap();
        acted.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        swaps
    })
}

/// A directory outside of both trees, with something that must not be read or changed.
fn outside(pair: &Pair) -> PathBuf {
    let outside = pair.dir.path().join("outside");
    write(outside.join("f"), "secret");
    write(outside.join("deep/f"), "secret");
    outside
}

fn any_deletions() -> PushOptions {
    let guard = ha_core::replication::guard::DeleteGuard { max_percent: 100, max_files: 1000 };
    PushOptions { guard, ..PushOptions::default() }
}

#[test]
fn a_link_that_is_swapped_in_while_the_source_is_read_lets_nothing_from_outside_in() {
    let pair = Pair::new();
    let outside = outside(&pair);
    write(pair.near("always"), "there");
    write(pair.near("d/f"), "inside");
    write(pair.near("d/deep/f"), "inside");
    symlink(&outside, pair.near("l")).unwrap();
    let mut arrived = 0;
    let swaps = while_swapped(&pair.near("d"), &pair.near("l"), || {
        for _ in 0..WALKS {
            pair.push_with(Box::new(|_| passive_slave()), &any_deletions()).unwrap();
            for name in names_below(&pair.far("")) {
                let is_file = fs::symlink_metadata(&name).unwrap().is_file();
                let content = if is_file { fs::read_to_string(&name).unwrap() } else { String::new() };
                assert_ne!(content, "secret", "{name}");
                arrived += usize::from(content == "inside");
            }
        }
    });
    assert!(swaps > WALKS && arrived > 0, "{swaps} swaps, {arrived} files");
    pair.push_with(Box::new(|_| passive_slave()), &any_deletions()).unwrap();
    pair.assert_equal();
}

#[test]
fn a_link_that_is_swapped_in_while_the_replica_is_written_leads_no_step_outside() {
    let pair = Pair::new();
    let outside = outside(&pair);
    let before = (names_below(&outside), fs::metadata(&outside).unwrap().modified().unwrap());
    fs::create_dir_all(pair.far("d/deep")).unwrap();
    // on the replica alone, so that every run deletes it
    let link = pair.far("l");
    symlink(&outside, &link).unwrap();
    let (mut written, mut swaps) = (0, 0);
    for turn in 0..WALKS {
        write(pair.near("d/f"), format!("{turn}"));
        write(pair.near("d/deep/f"), format!("{turn}"));
        write(pair.near(format!("d/new/{turn}")), "new");
        if fs::symlink_metadata(&link).is_err() {
            symlink(&outside, &link).unwrap();
        }
        let aside = pair.dir.path().join("aside");
        symlink(&outside, &aside).unwrap();
        swaps += while_swapped(&pair.far("d"), &aside, || {
            written += usize::from(pair.push_with(Box::new(|_| passive_slave()), &any_deletions()).is_ok());
        });
        let is_dir = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
        let remove =
            |path: &Path| if is_dir(path) { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        remove(&aside).unwrap();
        let content = |name: &str| fs::read_to_string(outside.join(name)).unwrap();
        assert_eq!((content("f"), content("deep/f")), ("secret".to_owned(), "secret".to_owned()));
        let after = (names_below(&outside), fs::metadata(&outside).unwrap().modified().unwrap());
        assert_eq!(after, before, "turn {turn}");
    }
    assert!(swaps > WALKS, "{swaps} swaps, {written} of {WALKS} runs came through");
    pair.push_with(Box::new(|_| passive_slave()), &any_deletions()).unwrap();
    pair.assert_equal();
}

#[test]
fn a_device_is_neither_read_nor_made_and_one_that_is_in_the_way_is_not_written_to() {
    use rustix::fs::{FileType, Mode, makedev, mknodat};
    let pair = Pair::new();
    write(pair.near("f"), "x");
    write(pair.near("in-the-way"), "a file");
    fs::create_dir_all(pair.far("")).unwrap();
    // what /dev/zero and /dev/full are: one never ends, the other takes nothing
    for (path, minor) in [(pair.near("zero"), 5), (pair.far("in-the-way"), 7)] {
        let made = mknodat(CWD, &path, FileType::CharacterDevice, Mode::RWXU, makedev(1, minor));
        if let Err(error) = made {
            return eprintln!("SKIPPED: no device can be made here: {error}");
        }
    }
    let report = pair.push().unwrap();
    assert_eq!(report.warnings.len(), 1, "{report:?}");
    assert!(report.warnings[0].contains("zero is a device, socket or pipe and is not copied"), "{report:?}");
    assert!(!pair.far("zero").exists());
    assert_eq!(fs::read_to_string(pair.far("in-the-way")).unwrap(), "a file");
    assert_eq!(pair.push().unwrap().changed, 0);
}

#[test]
fn a_file_becomes_a_directory_and_a_file_again() {
    let pair = Pair::new();
    for turn in 0..3 {
        write(pair.near("x"), format!("a file, {turn}"));
        symlink("elsewhere", pair.near("y")).unwrap();
        pair.push_with(Box::new(|_| passive_slave()), &any_deletions()).unwrap();
        pair.assert_equal();
        fs::remove_file(pair.near("x")).unwrap();
        fs::remove_file(pair.near("y")).unwrap();
        write(pair.near("x/y/z"), format!("below, {turn}"));
        write(pair.near("y/x"), "a link was here");
        pair.push_with(Box::new(|_| passive_slave()), &any_deletions()).unwrap();
        pair.assert_equal();
        fs::remove_dir_all(pair.near("x")).unwrap();
        fs::remove_dir_all(pair.near("y")).unwrap();
    }
}

#[test]
fn what_comes_grows_and_goes_while_it_is_read_stops_nothing() {
    let pair = Pair::new();
    write(pair.near("always"), "there");
    let over = AtomicBool::new(false);
    let runs = std::thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0.. {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let directory = pair.near(format!("spool/{}", turn % 3));
                write(directory.join("grows"), "");
                for size in [1_000, 100_000, 400_000] {
                    fs::write(directory.join("grows"), vec![turn as u8; size]).unwrap();
                }
                fs::rename(directory.join("grows"), directory.join("ends")).unwrap();
                fs::remove_dir_all(&directory).unwrap();
            }
        });
        let mut runs = Vec::new();
        for _ in 0..WALKS {
            runs.push(pair.push_with(Box::new(|_| passive_slave()), &any_deletions()));
        }
        over.store(true, Ordering::Relaxed);
        runs
    });
    let failed: Vec<_> = runs.iter().filter_map(|run| run.as_ref().err()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    let met = runs.iter().flatten().filter(|run| !run.skipped.is_empty()).count();
    assert!(met > 0, "nothing went while it was read");
    pair.push_with(Box::new(|_| passive_slave()), &any_deletions()).unwrap();
    pair.assert_equal();
}
