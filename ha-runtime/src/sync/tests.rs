//! Real trees in temporary directories, the agent at the other end of a socket pair.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use ha_core::Role;
use ha_core::replication::descent::Descent;
use ha_core::replication::filter::Filter;
use ha_core::replication::flow::Flow;
use ha_core::replication::listing::{Listing, Side};
use ha_core::replication::plan::{DeltaLimits, Plan, Rules};
use ha_core::replication::wire::{ErrorKind, Hello, Transaction, VERSION};

use super::*;
use crate::agent::{AgentError, AgentHost, Client, Guard, NodeState, serve};
use crate::db::Fate;
use crate::root::Root;

mod answers;
mod faults;
mod guards;
mod hostile;
mod kill;
mod random;
mod resume;
mod switch;

const GENERATION: u64 = 7;

/// What a test wants to happen when the agent asks its node; called with how often it has asked.
type Hook = Box<dyn FnMut(usize) -> NodeState + Send>;

struct Node {
    trees: Vec<Tree>,
    state: PathBuf,
    /// What the database says, and about which transactions it was asked.
    fate: Result<Fate, String>,
    fates: Mutex<Vec<Transaction>>,
    /// How often ids were made durable; `None`: it cannot be done.
    hardened: Mutex<Option<usize>>,
    notes: Mutex<Vec<String>>,
    hook: Mutex<(usize, Hook)>,
    locked: Arc<Mutex<bool>>,
    /// Questions whether to stop that are answered with no.
    patience: std::sync::atomic::AtomicI64,
    outdated: Arc<AtomicBool>,
}

impl Node {
    fn of(trees: Vec<Tree>, state: PathBuf, hook: Hook) -> Node {
        Node {
            trees,
            state,
            fate: Err("there is no database".to_owned()),
            fates: Mutex::default(),
            hardened: Mutex::new(Some(0)),
            notes: Mutex::default(),
            hook: Mutex::new((0, hook)),
            locked: Arc::default(),
            patience: i64::MAX.into(),
            outdated: Arc::default(),
        }
    }
}

struct Held(Arc<Mutex<bool>>);
impl Guard for Held {}
impl Drop for Held {
    fn drop(&mut self) {
        *self.0.lock().unwrap() = false;
    }
}

impl AgentHost for Node {
    fn distribution(&self) -> String {
        "test".to_owned()
    }
    fn program(&self) -> String {
        "1.0".to_owned()
    }
    fn datasets(&self) -> Vec<Tree> {
        self.trees.clone()
    }
    fn node_state(&self) -> Result<NodeState, String> {
        let (asked, hook) = &mut *self.hook.lock().unwrap();
        *asked += 1;
        Ok(hook(*asked))
    }
    fn replicate_lock(&self) -> Result<Box<dyn Guard>, String> {
        let mut locked = self.locked.lock().unwrap();
        if std::mem::replace(&mut *locked, true) {
            return Err("another replication runs".to_owned());
        }
        Ok(Box::new(Held(self.locked.clone())))
    }
    fn trash_directory(&self) -> PathBuf {
        self.state.join("trash")
    }
    fn state_directory(&self) -> PathBuf {
        self.state.clone()
    }
    fn make_ids_durable(&self) -> Result<(), String> {
        let mut hardened = self.hardened.lock().unwrap();
        *hardened.as_mut().ok_or_else(|| "nobody answers".to_owned())? += 1;
        Ok(())
    }
    fn fate(&self, transaction: Transaction) -> Result<Fate, String> {
        self.fates.lock().unwrap().push(transaction);
        self.fate.clone()
    }
    fn note(&self, text: &str) {
        self.notes.lock().unwrap().push(text.to_owned());
    }
    fn cancelled(&self) -> bool {
        self.patience.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) <= 0
    }
    fn is_outdated(&self) -> Option<String> {
        self.outdated.load(Ordering::SeqCst).then(|| "its program was replaced".to_owned())
    }
    fn control(&self, request: &[u8]) -> Result<Vec<u8>, String> {
        if request == b"fail" { Err("no daemon runs".to_owned()) } else { Ok([b"re:", request].concat()) }
    }
}

fn passive_slave() -> NodeState {
    NodeState { flow: Flow::Push, role: Role::Slave, generation: GENERATION, active: false, owes: false }
}

/// Two nodes' file systems in one temporary directory, one dataset `/srv/data`.
struct Pair {
    dir: tempfile::TempDir,
    filter: Filter,
    far_filter: Filter,
    locked: Arc<Mutex<bool>>,
    outdated: Arc<AtomicBool>,
}

impl Pair {
    fn new() -> Pair {
        Pair::excluding(&[])
    }

    fn excluding(exclude: &[&str]) -> Pair {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("near/srv/data")).unwrap();
        fs::create_dir_all(dir.path().join("far/srv")).unwrap();
        let filter = Filter::new(&[], exclude).unwrap();
        Pair {
            dir,
            filter: filter.clone(),
            far_filter: filter,
            locked: Arc::default(),
            outdated: Arc::default(),
        }
    }

    fn near(&self, path: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join("near/srv/data").join(path)
    }

    fn far(&self, path: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join("far/srv/data").join(path)
    }

    fn trash(&self) -> PathBuf {
        self.dir.path().join("state/trash")
    }

    fn tree(&self, side: &str, filter: &Filter) -> Tree {
        let root = Root::new(self.dir.path().join(side)).unwrap();
        Tree::new(&root, "/srv/data", filter.clone()).unwrap()
    }

    fn near_trees(&self) -> Vec<Tree> {
        vec![self.tree("near", &self.filter)]
    }

    fn node(&self, hook: Hook) -> Node {
        let mut node =
            Node::of(vec![self.tree("far", &self.far_filter)], self.dir.path().join("state"), hook);
        node.locked = self.locked.clone();
        node.outdated = self.outdated.clone();
        node
    }

    /// Runs `near` against an agent in a thread, which must not take what it hears for nonsense.
    fn with_agent<T>(&self, hook: Hook, near: impl FnOnce(&mut Client<UnixStream>) -> T) -> T {
        let (here, there) = UnixStream::pair().unwrap();
        let node = self.node(hook);
        std::thread::scope(|scope| {
            let agent = scope.spawn(|| serve(&there, &there, &node));
            let mut client = Client::open(here, &hello()).unwrap();
            let result = near(&mut client);
            drop(client);
            // the near end may hang up before the last refusal is written
            let ended = agent.join().unwrap();
            assert!(matches!(ended, Ok(()) | Err(AgentError::Cut(_))), "{ended:?}");
            result
        })
    }

    fn push_with(&self, hook: Hook, options: &PushOptions) -> Result<FilesReport, SyncError> {
        let trees = self.near_trees();
        self.with_agent(hook, |client| client.push_files(GENERATION, &trees, options, &mut |_| {}))
    }

    fn push(&self) -> Result<FilesReport, SyncError> {
        self.push_with(Box::new(|_| passive_slave()), &PushOptions::default())
    }

    /// Nothing is left to do, by digest, and `rsync` agrees.
    fn assert_equal(&self) {
        let listed =
            |name: &str, side| scan(&self.tree(name, &self.filter), Digests::Yes, side).unwrap().listing;
        let (near, far) = (listed("near", Side::Source), listed("far", Side::Replica));
        let rules = Rules { filter: self.filter.clone(), delta: DeltaLimits::default() };
        assert_eq!(plan_between(&near, &far, &rules).to_string(), "");
        let leftovers: Vec<_> =
            names_below(&self.far("")).into_iter().filter(|n| n.contains(".pbx-ha")).collect();
        assert_eq!(leftovers, Vec::<String>::new());
        let rsync = Command::new("rsync")
            .args(["-aHX", "-n", "-i", "--delete"])
            .args([self.near(""), self.far("")])
            .output();
        match rsync {
            Ok(out) => {
                assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
                assert_eq!(String::from_utf8_lossy(&out.stdout), "", "rsync sees differences");
            }
            Err(_) => eprintln!("rsync is not installed: not compared with it"),
        }
    }
}

/// What makes the second equal to the first.
fn plan_between(near: &Listing, far: &Listing, rules: &Rules) -> Plan {
    let mut descent = Descent::new(near, &far.summary(), &rules.filter);
    loop {
        let asked = descent.ask();
        if asked.is_empty() {
            return descent.finish().unwrap().plan(rules);
        }
        asked.iter().for_each(|path| descent.answer(far.listed(far.find(path).unwrap()).collect()).unwrap());
    }
}

fn hello() -> Hello {
    Hello { version: VERSION, distribution: "test".to_owned(), program: "1.0".to_owned() }
}

fn names_below(path: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).into_iter().flatten() {
        let entry = entry.unwrap();
        names.push(entry.path().display().to_string());
        if entry.file_type().unwrap().is_dir() {
            names.extend(names_below(&entry.path()));
        }
    }
    names.sort();
    names
}

fn write(path: PathBuf, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("not root: owners, file capabilities and trusted attributes are not tested");
    }
    root
}

/// One of everything that the file system can hold.
fn fill(pair: &Pair) {
    write(pair.near("plain"), "content");
    write(pair.near("empty"), "");
    write(pair.near("a/b/c/deep"), vec![b'x'; 100_000]);
    fs::create_dir_all(pair.near("empty-dir")).unwrap();
    write(pair.near(std::ffi::OsStr::from_bytes(b"caf\xe9")), "not UTF-8");
    write(pair.near("a-b"), "sorts between a and a/b");
    symlink("plain", pair.near("link")).unwrap();
    symlink("/nowhere/at/all", pair.near("dangling")).unwrap();
    symlink("../../../..", pair.near("a/outside")).unwrap();
    fs::hard_link(pair.near("a/b/c/deep"), pair.near("twin")).unwrap();
    fs::hard_link(pair.near("plain"), pair.near("a/plain-too")).unwrap();
    write(pair.near("read-only"), "r");
    write(pair.near("secret"), "s");
    fs::set_permissions(pair.near("read-only"), fs::Permissions::from_mode(0o444)).unwrap();
    fs::set_permissions(pair.near("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(pair.near("empty-dir"), fs::Permissions::from_mode(0o3775)).unwrap();
    let xattr = |path: PathBuf, name: &str, value: &[u8]| {
        rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty())
    };
    if let Err(error) = xattr(pair.near("plain"), "user.note", b"\0binary\xff") {
        eprintln!("no extended attributes here ({error}): not tested");
    } else {
        xattr(pair.near("a"), "user.on-a-directory", b"").unwrap();
    }
    if is_root() {
        std::os::unix::fs::chown(pair.near("a/b"), Some(1234), Some(4321)).unwrap();
        std::os::unix::fs::chown(pair.near("a-b"), Some(1234), Some(4321)).unwrap();
        std::os::unix::fs::lchown(pair.near("dangling"), Some(99), Some(98)).unwrap();
        write(pair.near("setuid"), "#!");
        std::os::unix::fs::chown(pair.near("setuid"), Some(33), Some(33)).unwrap();
        fs::set_permissions(pair.near("setuid"), fs::Permissions::from_mode(0o6755)).unwrap();
        // version 2 of the kernel's own format, with CAP_NET_BIND_SERVICE
        let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        write(pair.near("capable"), "#!");
        if let Err(error) = xattr(pair.near("capable"), "security.capability", &capability) {
            eprintln!("no file capabilities here ({error}): not tested");
        }
        // version 2, user::rw-, user:1234:rw-, group::r--, mask::rw-, other::---
        let mut acl = vec![2, 0, 0, 0];
        for (tag, bits, id) in [(1u16, 6u16, -1i32), (2, 6, 1234), (4, 4, -1), (16, 6, -1), (32, 0, -1)] {
            acl.extend(tag.to_le_bytes());
            acl.extend(bits.to_le_bytes());
            acl.extend(id.to_le_bytes());
        }
        write(pair.near("acl"), "shared");
        if let Err(error) = xattr(pair.near("acl"), "system.posix_acl_access", &acl) {
            eprintln!("no ACLs here ({error}): not tested");
        }
    }
    let old = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
    fs::File::open(pair.near("a/b")).unwrap().set_modified(old).unwrap();
    fs::File::open(pair.near("plain")).unwrap().set_modified(old).unwrap();
}

#[test]
fn a_tree_with_one_of_everything_arrives_as_rsync_would_bring_it() {
    let pair = Pair::new();
    fill(&pair);
    let report = pair.push().unwrap();
    pair.assert_equal();
    assert!(report.verified && report.sent >= 7, "{report:?}");
    assert_eq!((report.deleted, report.patched, &report.skipped), (0, 0, &vec![]));
    assert_eq!(
        fs::metadata(pair.far("twin")).unwrap().ino(),
        fs::metadata(pair.far("a/b/c/deep")).unwrap().ino()
    );
    if is_root() {
        assert_eq!(fs::metadata(pair.far("setuid")).unwrap().mode() & 0o7777, 0o6755);
        for (name, attribute) in [("capable", "security.capability"), ("acl", "system.posix_acl_access")] {
            let value = |path: PathBuf| {
                let mut value = [0; 100];
                rustix::fs::getxattr(path, attribute, &mut value[..]).map(|length| value[..length].to_vec())
            };
            assert_eq!(value(pair.near(name)), value(pair.far(name)), "{attribute}");
        }
    }

    let again = pair.push().unwrap();
    assert_eq!((again.sent, again.patched, again.deleted, again.changed), (0, 0, 0, 0));
}

#[test]
fn whatever_changed_is_brought_over_and_nothing_else() {
    let pair = Pair::new();
    fill(&pair);
    for index in 0..40 {
        write(pair.near(format!("many/{index}")), format!("{index}"));
    }
    pair.push().unwrap();

    // a file becomes a directory, a directory a file, a link a file, a file a link
    fs::remove_file(pair.near("read-only")).unwrap();
    write(pair.near("read-only/now/deep"), "d");
    fs::remove_dir_all(pair.near("a/b")).unwrap();
    write(pair.near("a/b"), "a file now");
    fs::remove_file(pair.near("link")).unwrap();
    write(pair.near("link"), "no link");
    fs::remove_file(pair.near("a-b")).unwrap();
    symlink("empty", pair.near("a-b")).unwrap();
    // hard links are made, broken and moved
    fs::remove_file(pair.near("a/plain-too")).unwrap();
    write(pair.near("a/plain-too"), "its own file now");
    fs::hard_link(pair.near("empty"), pair.near("read-only/now/twin")).unwrap();
    // metadata only
    fs::set_permissions(pair.near("secret"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::set_permissions(pair.near("empty-dir"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::remove_file(pair.near("many/3")).unwrap();
    if rustix::fs::removexattr(pair.near("plain"), "user.note").is_ok() {
        let set = |path: PathBuf, value: &[u8]| {
            rustix::fs::setxattr(path, "user.on-a-directory", value, rustix::fs::XattrFlags::empty())
                .unwrap();
        };
        set(pair.near("a"), b"another value");
        set(pair.far("many"), b"the source has none");
    }

    let report = pair.push().unwrap();
    pair.assert_equal();
    assert_eq!(report.patched, 0);
    assert!(report.sent <= 5, "{report:?}");
    assert_eq!(pair.push().unwrap().changed, 0);
}

#[test]
fn a_large_file_travels_as_the_blocks_that_changed() {
    let pair = Pair::new();
    let mut content: Vec<u8> = (0..20_000_000u32)
        .flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 24).to_le_bytes())
        .take(20_000_000)
        .collect();
    write(pair.near("large"), &content);
    write(pair.near("small"), vec![1; 30_000]);
    pair.push().unwrap();

    content[100] ^= 1;
    content[18_000_000] ^= 1;
    content.extend(b"and a tail");
    write(pair.near("large"), &content);
    let report = pair.push().unwrap();
    pair.assert_equal();
    assert_eq!((report.patched, report.sent), (1, 0));
    assert!(report.bytes_sent < 60_000, "{} bytes", report.bytes_sent);

    // everything behind an insertion moves, and is found where it went
    content.splice(5_000_000..5_000_000, *b"in");
    write(pair.near("large"), &content);
    let report = pair.push().unwrap();
    pair.assert_equal();
    assert_eq!((report.patched, report.sent), (1, 0));
    assert!(report.bytes_sent + report.bytes_received < 60_000, "{report:?}");

    // shorter, and nothing in common
    write(pair.near("large"), vec![9; 9_000_000]);
    write(pair.near("small"), "");
    let report = pair.push().unwrap();
    pair.assert_equal();
    assert_eq!((report.patched, report.sent), (1, 1));
}

#[test]
fn a_full_comparison_finds_what_size_and_time_hide() {
    let pair = Pair::new();
    write(pair.near("f"), "right");
    pair.push().unwrap();
    let time = fs::metadata(pair.near("f")).unwrap().modified().unwrap();
    fs::write(pair.far("f"), "wrong").unwrap();
    fs::File::options().write(true).open(pair.far("f")).unwrap().set_modified(time).unwrap();

    assert_eq!(pair.push().unwrap().sent, 0);
    let full = PushOptions { compare: Compare::Full, ..PushOptions::default() };
    let report = pair.push_with(Box::new(|_| passive_slave()), &full).unwrap();
    assert_eq!((report.sent, report.mode), (1, Mode::Full));
    assert_eq!(fs::read_to_string(pair.far("f")).unwrap(), "right");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!((&json["part"], &json["mode"], &json["sent"]), (&"files".into(), &"full".into(), &1.into()));
}

#[test]
fn directories_above_a_dataset_are_made_but_never_changed() {
    let pair = Pair::new();
    fs::remove_dir(pair.dir.path().join("far/srv")).unwrap();
    write(pair.near("f"), "x");
    fs::set_permissions(pair.dir.path().join("near/srv"), fs::Permissions::from_mode(0o711)).unwrap();
    pair.push().unwrap();
    let srv = pair.dir.path().join("far/srv");
    assert_ne!(fs::metadata(&srv).unwrap().mode() & 0o777, 0o711);
    fs::set_permissions(&srv, fs::Permissions::from_mode(0o750)).unwrap();
    write(pair.near("g"), "x");
    pair.push().unwrap();
    assert_eq!(fs::metadata(&srv).unwrap().mode() & 0o777, 0o750);
    pair.assert_equal();
}

#[test]
fn a_dry_run_prints_the_steps_and_changes_nothing() {
    let pair = Pair::new();
    write(pair.near("d/f"), "1234");
    let trees = pair.near_trees();
    let text = pair.with_agent(Box::new(|_| passive_slave()), |client| {
        let plans = client.plan_files(&trees, &PushOptions::default()).unwrap();
        plans.iter().map(ToString::to_string).collect::<String>()
    });
    assert_eq!(text, "/srv/data:\n  make directory .\n  make directory d\n  send d/f (4 bytes)\n");
    assert!(!pair.far("").exists());
}

#[test]
fn what_is_deleted_lies_in_the_trash_for_a_while() {
    let pair = Pair::new();
    write(pair.near("kept"), "k");
    write(pair.near("d/gone"), "precious");
    pair.push().unwrap();
    fs::remove_dir_all(pair.near("d")).unwrap();
    let report = pair.push().unwrap();
    assert_eq!((report.deleted, &report.warnings), (1, &vec![]));
    pair.assert_equal();
    let kept = names_below(&pair.trash());
    let gone = kept.iter().find(|name| name.ends_with("/srv/data/d/gone")).expect("it is in the trash");
    assert_eq!(fs::read_to_string(gone).unwrap(), "precious");
    let run = fs::read_dir(pair.trash()).unwrap().next().unwrap().unwrap();
    assert_eq!(run.metadata().unwrap().mode() & 0o777, 0o700);
}

#[test]
fn a_request_reaches_the_far_daemon_and_its_answer_comes_back() {
    let pair = Pair::new();
    pair.with_agent(Box::new(|_| passive_slave()), |client| {
        assert_eq!(client.control(b"{}").unwrap(), b"re:{}");
        assert!(matches!(client.control(b"fail"), Err(SyncError::Remote { kind: ErrorKind::Failed, .. })));
        assert_eq!(client.state().unwrap().generation, GENERATION);
        assert_eq!(client.peer(), &hello());
    });
}
