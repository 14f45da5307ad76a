use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ha_core::carry::Why;
use ha_core::replication::filter::Filter;
use ha_core::voicemail::{Plan, Step};

use super::folder_lock::Patience;
use super::*;
use crate::root::Root;
use crate::sync::Tree;

mod aside;
mod asterisk;
mod conversation;
mod full_disk;
pub(super) mod kill;
mod locks;
mod story;

/// A node with a voicemail directory.
pub(super) struct Node {
    dir: PathBuf,
}

impl Node {
    fn new(dir: PathBuf) -> Node {
        fs::create_dir_all(dir.join("vm/default")).unwrap();
        Node { dir }
    }

    fn root(&self) -> Root {
        Root::new(&self.dir).unwrap()
    }

    fn tree(&self) -> Tree {
        Tree::new(&self.root(), "/vm", Filter::default()).unwrap()
    }

    /// Below the directory of the one context.
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join("vm/default").join(name)
    }

    fn receiver(&self) -> Receiver {
        self.receiver_by(LockWay::LockFile).unwrap()
    }

    fn receiver_by(&self, way: LockWay) -> Result<Receiver, CarryError> {
        Receiver::open(&self.tree(), Holds::Voicemail, &self.dir.join("state"), way)
    }

    fn kept(&self) -> Kept {
        Kept::load(&self.dir.join("state")).unwrap()
    }

    fn aside(&self) -> Aside {
        Aside::new(&self.root(), "return")
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A message as Asterisk stores it, in two formats. What is said says when, too.
    fn message(&self, place: &str, said: u32) {
        self.write(&format!("{place}.wav"), &format!("wav of {said}"));
        self.write(&format!("{place}.gsm"), &format!("gsm of {said}"));
        self.write(&format!("{place}.txt"), &text(said));
    }

    /// Each message by its place, whole, as somebody hears it.
    fn heard(&self) -> BTreeMap<String, u32> {
        let mut all = BTreeMap::new();
        for path in files(&self.path("")) {
            let Some(place) = path.strip_suffix(".txt") else { continue };
            let read = |extension| fs::read_to_string(self.path(&format!("{place}.{extension}"))).unwrap();
            let said = read("wav").strip_prefix("wav of ").unwrap().parse().unwrap();
            assert_eq!(
                (read("gsm"), read("txt")),
                (format!("gsm of {said}"), text(said)),
                "{place} is a mixture"
            );
            all.insert(place.to_owned(), said);
        }
        all
    }

    fn scan(&self) -> ha_core::voicemail::Spool {
        scan(&self.tree(), Holds::Voicemail, &mut Seen::default()).unwrap()
    }

    /// As a pull leaves it, with the base that is kept then.
    fn pull(&self, from: &Node) {
        fs::remove_dir_all(self.path("")).unwrap();
        for name in files(&from.path("")) {
            self.write(&name, &fs::read_to_string(from.path(&name)).unwrap());
        }
        fs::create_dir_all(self.path("")).unwrap();
        self.kept().record(&self.scan()).unwrap();
    }
}

fn text(said: u32) -> String {
    format!(";\n[message]\norigtime={said}\ncallerid=<602>\nmsg_id={said}-1\nduration=5\n")
}

/// All files below a directory, relative to it.
fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(here) = left.pop() {
        for entry in fs::read_dir(&here).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => left.push(entry.path()),
                false => found.push(entry.path().strip_prefix(dir).unwrap().to_str().unwrap().to_owned()),
            }
        }
    }
    found.sort();
    found
}

fn places<const N: usize>(all: [(&str, u32); N]) -> BTreeMap<String, u32> {
    all.into_iter().map(|(place, said)| (place.to_owned(), said)).collect()
}

/// What was equal once, and lived apart since: `mine` returns, `theirs` serves.
pub(super) struct Pair {
    _dir: Option<tempfile::TempDir>,
    mine: Node,
    theirs: Node,
}

impl Pair {
    fn new() -> Pair {
        let dir = tempfile::tempdir().unwrap();
        let node = |name| Node::new(dir.path().join(name));
        Pair { mine: node("mine"), theirs: node("theirs"), _dir: Some(dir) }
    }

    /// One that a process before this one made.
    fn at(dir: &Path) -> Pair {
        Pair { _dir: None, mine: Node { dir: dir.join("mine") }, theirs: Node { dir: dir.join("theirs") } }
    }

    /// Both had two new messages; then mine took another and its owner heard one, theirs took one and greets otherwise.
    fn parted() -> Pair {
        let pair = Pair::new();
        pair.mine.message("601/INBOX/msg0000", 10);
        pair.mine.message("601/INBOX/msg0001", 11);
        pair.mine.write("601/unavail.wav", "old greeting");
        pair.mine.write("601/busy.wav", "old greeting");
        pair.theirs.pull(&pair.mine);
        for extension in ["wav", "gsm", "txt"] {
            let path = |place: &str| pair.mine.path(&format!("601/{place}.{extension}"));
            fs::create_dir_all(pair.mine.path("601/Old")).unwrap();
            fs::rename(path("INBOX/msg0000"), path("Old/msg0000")).unwrap();
            fs::rename(path("INBOX/msg0001"), path("INBOX/msg0000")).unwrap();
        }
        pair.mine.message("601/INBOX/msg0001", 20);
        pair.mine.message("602/INBOX/msg0000", 21);
        pair.mine.write("601/unavail.wav", "my greeting");
        pair.mine.write("601/busy.wav", "my greeting");
        pair.mine.write("602/INBOX/msg0001.wav", "cut off");
        pair.theirs.message("601/INBOX/msg0002", 30);
        pair.theirs.write("601/busy.wav", "their greeting");
        pair
    }

    /// All that it comes to: the heard one is in `Old`, and left a number free that Asterisk closes when it is next opened.
    fn carried() -> BTreeMap<String, u32> {
        places([
            ("601/INBOX/msg0001", 11),
            ("601/INBOX/msg0002", 30),
            ("601/INBOX/msg0003", 20),
            ("601/Old/msg0000", 10),
            ("602/INBOX/msg0000", 21),
        ])
    }

    /// The same when nobody has a mailbox open, so that gaps can be closed.
    fn closed() -> BTreeMap<String, u32> {
        places([
            ("601/INBOX/msg0000", 11),
            ("601/INBOX/msg0001", 30),
            ("601/INBOX/msg0002", 20),
            ("601/Old/msg0000", 10),
            ("602/INBOX/msg0000", 21),
        ])
    }

    fn carry(&self) -> Result<Vec<Done>, CarryError> {
        self.carry_into(&mut self.theirs.receiver())
    }

    fn carry_into(&self, receiver: &mut Receiver) -> Result<Vec<Done>, CarryError> {
        let Plan { steps } = receiver.offer(self.mine.scan())?.clone();
        let mut done = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            done.push(receiver.step(index, &mut self.mine.tree())?);
            if let Step::SetAside { paths, why } = step {
                for path in paths {
                    self.mine.aside().keep(&self.mine.tree(), path, *why)?;
                }
            }
        }
        Ok(done)
    }
}

#[test]
fn what_the_returning_node_has_is_carried_and_nothing_of_the_serving_node_is_replaced() {
    let pair = Pair::parted();
    let done = pair.carry().unwrap();
    assert_eq!(pair.theirs.heard(), Pair::carried());
    assert_eq!(fs::read_to_string(pair.theirs.path("601/unavail.wav")).unwrap(), "my greeting");
    assert_eq!(fs::read_to_string(pair.theirs.path("601/busy.wav")).unwrap(), "their greeting");
    let lines = pair.mine.aside().lines().unwrap();
    let kept: Vec<_> = lines.iter().map(|line| (line.path.to_string(), line.why)).collect();
    let expected =
        [("default/601/busy.wav", Why::ChangedOnBoth), ("default/602/INBOX/msg0001.wav", Why::Incomplete)];
    assert_eq!(kept, expected.map(|(path, why)| (path.to_owned(), why)));
    assert_eq!(done.len(), 6, "{done:?}");
    // once more: nothing but the same things to be set aside
    let done = pair.carry().unwrap();
    assert_eq!(done, [Done::NotHere, Done::NotHere]);
    assert_eq!(pair.theirs.heard(), Pair::carried());
    assert_eq!(pair.mine.aside().lines().unwrap(), lines);
    assert!(
        files(&pair.theirs.dir.join("vm")).iter().all(|name| !name.contains("/.")),
        "something was left over"
    );
    assert!(!pair.theirs.dir.join("vm/.pbx-ha-stage-carry").exists());
}

#[test]
fn gaps_are_closed_when_nobody_has_a_mailbox_open() {
    let pair = Pair::parted();
    let mut receiver = pair.theirs.receiver();
    pair.carry_into(&mut receiver).unwrap();
    assert_eq!(receiver.close_gaps().unwrap(), 3);
    assert_eq!(pair.theirs.heard(), Pair::closed());
    assert_eq!(receiver.close_gaps().unwrap(), 0);
    assert_eq!(receiver.kept().base().messages.len(), 4, "what only this node has is not known to both");
}

#[test]
fn a_message_that_is_deleted_after_it_was_carried_does_not_come_back() {
    let pair = Pair::parted();
    pair.carry().unwrap();
    fs::remove_dir_all(pair.theirs.path("602/INBOX")).unwrap();
    assert_eq!(pair.carry().unwrap(), [Done::NotHere, Done::NotHere]);
    assert!(!pair.theirs.path("602/INBOX").exists());
}

#[test]
fn a_message_that_came_another_way_meanwhile_is_not_doubled() {
    let pair = Pair::parted();
    let mut receiver = pair.theirs.receiver();
    let Plan { steps } = receiver.offer(pair.mine.scan()).unwrap().clone();
    pair.theirs.message("602/Work/msg0000", 21);
    let index = steps.iter().position(|step| step.to_string().contains("602/INBOX/msg0000")).unwrap();
    let done = receiver.step(index, &mut pair.mine.tree()).unwrap();
    assert!(
        matches!(&done, Done::There(place) if place.to_string() == "default/602/Work/msg0000"),
        "{done:?}"
    );
    assert!(!pair.theirs.path("602/INBOX/msg0000.txt").exists());
    // done again after all was done
    for _ in 0..2 {
        for index in 0..steps.len() {
            receiver.step(index, &mut pair.mine.tree()).unwrap();
        }
    }
    let mut expected = Pair::carried();
    expected.remove("602/INBOX/msg0000");
    expected.insert("602/Work/msg0000".to_owned(), 21);
    assert_eq!(pair.theirs.heard(), expected);
}

#[test]
fn what_changes_between_the_offer_and_its_sending_is_refused_and_nothing_is_changed() {
    let pair = Pair::parted();
    let before = pair.theirs.heard();
    let mut receiver = pair.theirs.receiver();
    let Plan { steps } = receiver.offer(pair.mine.scan()).unwrap().clone();
    let offered = pair.mine.path("602/INBOX/msg0000.wav");
    for content in ["wav of 2", "wav of 21 and more", "wav of 22"] {
        fs::write(&offered, content).unwrap();
        let index = steps.iter().position(|step| step.to_string().contains("602/INBOX/msg0000")).unwrap();
        let error = receiver.step(index, &mut pair.mine.tree()).unwrap_err();
        assert!(matches!(error, CarryError::Differs { .. }), "{error}");
        assert_eq!(pair.theirs.heard(), before);
    }
    assert!(matches!(receiver.step(99, &mut pair.mine.tree()), Err(CarryError::NoStep(99))));
    drop(receiver);
    fs::write(&offered, "wav of 21").unwrap();
    pair.carry().unwrap();
    assert_eq!(pair.theirs.heard(), Pair::carried());
}

#[test]
fn a_greeting_that_changes_on_the_serving_node_meanwhile_stays() {
    let pair = Pair::parted();
    let mut receiver = pair.theirs.receiver();
    let Plan { steps } = receiver.offer(pair.mine.scan()).unwrap().clone();
    let index = steps.iter().position(|step| matches!(step, Step::Write { .. })).unwrap();
    pair.theirs.write("601/unavail.wav", "quicker");
    let done = receiver.step(index, &mut pair.mine.tree()).unwrap();
    assert_eq!(done, Done::Refused(Why::ChangedOnBoth));
    assert_eq!(fs::read_to_string(pair.theirs.path("601/unavail.wav")).unwrap(), "quicker");
}

#[test]
fn a_carried_message_is_as_readable_as_those_beside_it() {
    let pair = Pair::new();
    pair.theirs.message("601/INBOX/msg0000", 1);
    let mode = |name: &str, mode| {
        fs::set_permissions(pair.theirs.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    for extension in ["wav", "gsm", "txt"] {
        mode(&format!("601/INBOX/msg0000.{extension}"), 0o660);
    }
    mode("601", 0o750);
    let root = rustix::process::geteuid().is_root();
    if root {
        std::os::unix::fs::chown(pair.theirs.path("601"), Some(7), Some(8)).unwrap();
    }
    pair.mine.message("601/INBOX/msg0000", 2);
    pair.mine.message("601/Work/msg0000", 3);
    pair.carry().unwrap();
    let meta = |name: &str| fs::metadata(pair.theirs.path(name)).unwrap();
    assert_eq!(meta("601/INBOX/msg0001.txt").mode() & 0o7777, 0o660);
    assert_eq!(meta("601/Work").mode() & 0o7777, 0o750);
    assert_eq!(meta("601/Work/msg0000.txt").mode() & 0o7777, 0o640);
    if root {
        assert_eq!((meta("601/Work").uid(), meta("601/Work/msg0000.wav").gid()), (7, 8));
    }
}

#[test]
fn a_link_in_the_way_is_not_followed() {
    let pair = Pair::new();
    let outside = pair.theirs.dir.join("outside");
    fs::create_dir_all(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, pair.theirs.path("601")).unwrap();
    pair.mine.message("601/INBOX/msg0000", 1);
    assert!(matches!(pair.carry(), Err(CarryError::Tree(_))));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    std::os::unix::fs::symlink("/etc/passwd", pair.mine.path("601/INBOX/msg0001.wav")).unwrap();
    assert_eq!(pair.mine.scan().torn.0.len(), 0);
}

#[test]
fn a_directory_of_files_needs_no_messages() {
    let pair = Pair::parted();
    let mut receiver =
        Receiver::open(&pair.theirs.tree(), Holds::Files, &pair.theirs.dir.join("other"), LockWay::LockFile)
            .unwrap();
    let mine = scan(&pair.mine.tree(), Holds::Files, &mut Seen::default()).unwrap();
    assert_eq!((mine.messages.len(), mine.torn.0.len()), (0, 0));
    let plan = receiver.offer(mine).unwrap().clone();
    let written = plan.steps.iter().filter(|step| matches!(step, Step::Write { over: None, .. })).count();
    assert_eq!(written, 3 + 4, "{plan}");
    for index in 0..plan.steps.len() {
        receiver.step(index, &mut pair.mine.tree()).unwrap();
    }
    assert_eq!(fs::read_to_string(pair.theirs.path("602/INBOX/msg0001.wav")).unwrap(), "cut off");
}

#[test]
fn what_is_kept_survives_and_what_is_damaged_counts_as_unknown() {
    let pair = Pair::parted();
    pair.carry().unwrap();
    let base = pair.theirs.kept().base().clone();
    assert_eq!(base.messages.len(), 4);
    let state = pair.theirs.dir.join("state");
    // a line that was cut off
    let learned = state.join("learned.1");
    let lines = fs::read(&learned).unwrap();
    fs::write(&learned, [&lines[..], b"\n{\"message\":{\"mail"].concat()).unwrap();
    assert_eq!(pair.theirs.kept().base(), &base);
    fs::write(state.join("base.json"), "torn").unwrap();
    let kept = pair.theirs.kept();
    assert!(kept.damage().is_some());
    assert!(kept.base().messages.is_empty());
    pair.theirs.kept().record(&pair.theirs.scan()).unwrap();
    assert_eq!(pair.theirs.kept().base().messages.len(), 5);
    assert!(pair.theirs.kept().damage().is_none());
}
