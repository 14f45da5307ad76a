//! Asterisk serves meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::*;

const SOON: Patience = Patience { wait: Duration::from_millis(100), stale: Duration::from_secs(600) };

#[test]
fn messages_that_asterisk_stores_meanwhile_are_neither_replaced_nor_lost() {
    let pair = Pair::new();
    fs::create_dir_all(pair.theirs.path("601/INBOX")).unwrap();
    for said in 0..12 {
        pair.mine.message(&format!("601/INBOX/msg{said:04}"), said);
    }
    let over = AtomicBool::new(false);
    let stored = std::thread::scope(|scope| {
        let asterisk = scope.spawn(|| {
            let mut said = 1000;
            while !over.load(Ordering::Relaxed) && said < 1100 {
                said += u32::from(asterisk::store(&pair.theirs, "601/INBOX", said).is_some());
            }
            said
        });
        pair.carry().unwrap();
        over.store(true, Ordering::Relaxed);
        asterisk.join().unwrap()
    });
    assert!(stored > 1000, "Asterisk never had the lock");
    let heard = pair.theirs.heard();
    let mut said: Vec<u32> = heard.values().copied().collect();
    said.sort();
    assert_eq!(said, (0..12).chain(1000..stored).collect::<Vec<_>>());
    let numbers: Vec<String> = (0..said.len()).map(|number| format!("601/INBOX/msg{number:04}")).collect();
    assert_eq!(heard.keys().cloned().collect::<Vec<_>>(), numbers, "numbers have gaps");
    assert!(!pair.theirs.path("601/INBOX/.lock").exists());
}

#[test]
fn a_folder_that_is_locked_is_waited_for_and_left_alone() {
    let pair = Pair::parted();
    let before = files(&pair.theirs.dir);
    let mut receiver = pair.theirs.receiver();
    receiver.locking.1 = SOON;
    let locked = asterisk::lock(pair.theirs.path("601/INBOX")).unwrap();
    let error = pair.carry_into(&mut receiver).unwrap_err();
    assert!(matches!(error, CarryError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("601/INBOX is locked, for 0 s"), "{error}");
    drop(locked);
    let after =
        files(&pair.theirs.dir).into_iter().filter(|name| !name.contains("/Old/") && !name.contains("state"));
    let before: Vec<_> = before.into_iter().filter(|name| !name.contains("state")).collect();
    assert_eq!(after.filter(|name| !name.contains("stage")).collect::<Vec<_>>(), before);
    pair.carry_into(&mut receiver).unwrap();
    assert_eq!(pair.theirs.heard(), Pair::carried());
}

#[test]
fn a_lock_that_nobody_can_hold_any_more_is_removed() {
    let pair = Pair::parted();
    let mut receiver = pair.theirs.receiver();
    receiver.locking.1 = Patience { wait: Duration::from_secs(5), stale: Duration::from_millis(1) };
    std::mem::forget(asterisk::lock(pair.theirs.path("601/INBOX")).unwrap());
    pair.carry_into(&mut receiver).unwrap();
    assert_eq!(pair.theirs.heard(), Pair::carried());
    assert!(!pair.theirs.path("601/INBOX/.lock").exists());
}

#[test]
fn the_other_way_of_locking_excludes_too_and_ends_with_its_process() {
    let pair = Pair::parted();
    let path = pair.theirs.path("601/INBOX/lock");
    let mut receiver = pair.theirs.receiver_by(LockWay::Flock).unwrap();
    receiver.locking.1 = SOON;
    let held = fs::File::create(&path).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert!(matches!(pair.carry_into(&mut receiver), Err(CarryError::Locked { .. })));
    // as Asterisk ends it: the name first
    fs::remove_file(&path).unwrap();
    drop(held);
    let begun = Instant::now();
    pair.carry_into(&mut receiver).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(pair.theirs.heard(), Pair::carried());
}
