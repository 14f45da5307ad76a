//! Real trees in temporary directories, the kernel's own events.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ha_core::replication::filter::Filter;
use ha_core::replication::listing::Side;

use super::map::Wd;
use super::tree::{Event, Noticed, Watched, count};
use super::*;
use crate::root::Root;

mod random;

/// A machine that stands still for a while is no failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// A directory with the tree `/srv/data`, and what lies beside it.
struct Place {
    dir: tempfile::TempDir,
    filter: Filter,
}

impl Place {
    fn new() -> Place {
        Place::with(&[], &[])
    }

    fn with(only: &[&str], exclude: &[&str]) -> Place {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("srv/data")).unwrap();
        fs::create_dir_all(dir.path().join("beside")).unwrap();
        Place { dir, filter: Filter::new(only, exclude).unwrap() }
    }

    fn tree(&self) -> Tree {
        Tree::new(&Root::new(self.dir.path()).unwrap(), "/srv/data", self.filter.clone()).unwrap()
    }

    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join("srv/data").join(path)
    }

    fn beside(&self, path: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join("beside").join(path)
    }

    fn watched(&self) -> Watched {
        Watched::new(&self.tree()).unwrap().unwrap()
    }
}

/// Everything that is in the queue by now.
fn all(watched: &mut Watched) -> Noticed {
    let mut most = Noticed::Nothing;
    while rustix::io::ioctl_fionread(watched.queue()).unwrap() > 0 {
        most = most.max(watched.read().unwrap());
    }
    most
}

/// The history once everything that happened is in it.
fn settled(watch: &Watch) -> Seen {
    let begin = Instant::now();
    loop {
        let (first, second) = (watch.seen(), watch.seen());
        if first == second {
            return first;
        }
        assert!(begin.elapsed() < PATIENCE, "it never rests: {:?}", watch.why_not());
        std::thread::yield_now();
    }
}

fn write(path: PathBuf) {
    fs::write(path, "content").unwrap();
}

type Op = fn(&Place);

#[test]
fn each_kind_of_change_is_seen() {
    let place = Place::new();
    fs::create_dir_all(place.at("dir/inner")).unwrap();
    fs::create_dir_all(place.at("empty")).unwrap();
    write(place.at("file"));
    write(place.at("dir/inner/file"));
    write(place.beside("file"));
    let mut watched = place.watched();
    assert_eq!((all(&mut watched), watched.directories()), (Noticed::Nothing, 4));
    let kinds: [(&str, Op); 16] = [
        ("written", |p| write(p.at("file"))),
        ("made", |p| write(p.at("dir/new"))),
        ("deep", |p| write(p.at("dir/inner/new"))),
        ("appended", |p| {
            OpenOptions::new().append(true).open(p.at("file")).unwrap().write_all(b"more").unwrap();
        }),
        ("cut", |p| File::options().write(true).open(p.at("file")).unwrap().set_len(1).unwrap()),
        ("mode", |p| fs::set_permissions(p.at("file"), fs::Permissions::from_mode(0o600)).unwrap()),
        ("mode of a directory", |p| {
            fs::set_permissions(p.at("dir"), fs::Permissions::from_mode(0o700)).unwrap();
        }),
        ("mode of the root", |p| fs::set_permissions(p.at(""), fs::Permissions::from_mode(0o711)).unwrap()),
        ("attribute", |p| {
            rustix::fs::setxattr(p.at("file"), "user.a", b"b", rustix::fs::XattrFlags::empty()).unwrap();
        }),
        ("replaced", |p| fs::rename(p.beside("file"), p.at("file")).unwrap()),
        ("renamed", |p| fs::rename(p.at("file"), p.at("file2")).unwrap()),
        ("linked", |p| fs::hard_link(p.at("file2"), p.at("file3")).unwrap()),
        ("symlink", |p| symlink("file2", p.at("link")).unwrap()),
        ("removed", |p| fs::remove_file(p.at("file2")).unwrap()),
        ("directory made", |p| fs::create_dir(p.at("another")).unwrap()),
        ("directory removed", |p| fs::remove_dir(p.at("empty")).unwrap()),
    ];
    for (kind, op) in kinds {
        op(&place);
        assert_eq!(all(&mut watched), Noticed::Change, "{kind}");
        assert_eq!(all(&mut watched), Noticed::Nothing, "{kind}");
    }
    assert_eq!(watched.directories(), 4);
}

#[test]
fn reading_and_scanning_are_no_change() {
    let place = Place::new();
    fs::create_dir_all(place.at("dir")).unwrap();
    write(place.at("dir/file"));
    let mut watched = place.watched();
    crate::sync::scan(&place.tree(), crate::sync::Digests::Yes, Side::Source).unwrap();
    assert_eq!(fs::read_to_string(place.at("dir/file")).unwrap(), "content");
    assert_eq!(rustix::io::ioctl_fionread(watched.queue()).unwrap(), 0);
    assert_eq!(all(&mut watched), Noticed::Nothing);
}

#[test]
fn what_is_excluded_and_our_own_stage_are_no_change_and_have_no_watch() {
    let place = Place::with(&["[a-z]+/*"], &["*/monitor*"]);
    fs::create_dir_all(place.at("tenant/monitor/deep")).unwrap();
    fs::create_dir_all(place.at("UPPER/deep")).unwrap();
    let mut watched = place.watched();
    assert_eq!(watched.directories(), 2);
    let silent: [(&str, Op); 9] = [
        ("in an excluded directory", |p| write(p.at("tenant/monitor/deep/file"))),
        ("excluded file", |p| write(p.at("tenant/monitored"))),
        ("excluded directory", |p| fs::create_dir_all(p.at("tenant/monitor2/x")).unwrap()),
        ("above what is copied, a file", |p| write(p.at("file"))),
        ("of a name that does not count", |p| write(p.at("UPPER/deep/file"))),
        ("stage", |p| fs::create_dir(p.at(".pbx-ha-stage-0123")).unwrap()),
        ("in the stage", |p| write(p.at(".pbx-ha-stage-0123/7"))),
        ("stage removed", |p| fs::remove_dir_all(p.at(".pbx-ha-stage-0123")).unwrap()),
        ("below", |p| {
            fs::create_dir(p.at("tenant/.pbx-ha-stage-1")).unwrap();
            fs::remove_dir(p.at("tenant/.pbx-ha-stage-1")).unwrap();
        }),
    ];
    for (kind, op) in silent {
        op(&place);
        assert_eq!(all(&mut watched), Noticed::Nothing, "{kind}");
    }
    assert_eq!(watched.directories(), 2);
    let loud: [(&str, Op); 3] = [
        ("a tenant", |p| fs::create_dir(p.at("another")).unwrap()),
        ("its sounds", |p| write(p.at("another/sound"))),
        ("out of the stage", |p| {
            fs::create_dir(p.at(".pbx-ha-stage-2")).unwrap();
            write(p.at(".pbx-ha-stage-2/1"));
            fs::rename(p.at(".pbx-ha-stage-2/1"), p.at("another/sound")).unwrap();
        }),
    ];
    for (kind, op) in loud {
        op(&place);
        assert_eq!(all(&mut watched), Noticed::Change, "{kind}");
    }
}

#[test]
fn a_directory_that_comes_goes_or_is_renamed_takes_its_watches_along() {
    let place = Place::with(&[], &["excluded"]);
    fs::create_dir_all(place.beside("come/a/b")).unwrap();
    let mut watched = place.watched();
    let mut step = |directories: usize, op: Op| {
        op(&place);
        assert_eq!((all(&mut watched), watched.directories()), (Noticed::Change, directories));
    };
    step(4, |p| fs::rename(p.beside("come"), p.at("here")).unwrap());
    step(4, |p| write(p.at("here/a/b/file")));
    step(4, |p| fs::rename(p.at("here"), p.at("there")).unwrap());
    step(4, |p| write(p.at("there/a/b/file")));
    step(5, |p| fs::create_dir_all(p.at("new")).unwrap());
    step(5, |p| fs::rename(p.at("there/a"), p.at("new/a")).unwrap());
    step(5, |p| write(p.at("new/a/b/file")));
    // an excluded place is none of ours, and back
    step(3, |p| fs::rename(p.at("new/a"), p.at("excluded")).unwrap());
    fs::write(place.at("excluded/b/file"), "other").unwrap();
    step(5, |p| fs::rename(p.at("excluded"), p.at("new/a")).unwrap());
    step(4, |p| fs::rename(p.at("new/a/b"), p.beside("gone")).unwrap());
    step(4, |p| {
        write(p.beside("gone/file"));
        write(p.at("new/a/file"));
    });
    // two places at once, and one that is taken by another
    step(4, |p| {
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        let (new, there) = (p.at("new"), p.at("there"));
        rustix::fs::renameat_with(rustix::fs::CWD, new, rustix::fs::CWD, there, flags).unwrap();
    });
    step(4, |p| write(p.at("there/a/file")));
    step(4, |p| write(p.at("new/file")));
    step(4, |p| {
        fs::remove_file(p.at("new/file")).unwrap();
    });
    step(3, |p| fs::rename(p.at("there"), p.at("new")).unwrap());
    step(3, |p| write(p.at("new/a/file")));
    step(1, |p| fs::remove_dir_all(p.at("new")).unwrap());
}

#[test]
fn what_is_made_at_once_with_its_directories_is_seen_afterwards() {
    let place = Place::new();
    let mut watched = place.watched();
    fs::create_dir_all(place.at("a/b/c")).unwrap();
    write(place.at("a/b/c/before"));
    assert_eq!((all(&mut watched), watched.directories()), (Noticed::Change, 4));
    write(place.at("a/b/c/after"));
    assert_eq!(all(&mut watched), Noticed::Change);
    // the name is used again before anyone looked
    fs::remove_dir_all(place.at("a")).unwrap();
    fs::create_dir_all(place.at("a/d")).unwrap();
    assert_eq!((all(&mut watched), watched.directories()), (Noticed::Change, 3));
    write(place.at("a/d/file"));
    assert_eq!(all(&mut watched), Noticed::Change);
}

#[test]
fn a_symbolic_link_to_a_directory_outside_is_not_followed() {
    let place = Place::new();
    fs::create_dir_all(place.at("dir/inner")).unwrap();
    fs::create_dir_all(place.beside("inner")).unwrap();
    symlink(place.beside(""), place.at("link")).unwrap();
    let mut watched = place.watched();
    assert_eq!(watched.directories(), 3);
    write(place.beside("inner/file"));
    assert_eq!(all(&mut watched), Noticed::Nothing);
    // one that takes the place of a directory is a change, and is not entered either
    fs::rename(place.at("dir"), place.beside("dir")).unwrap();
    symlink(place.beside("dir"), place.at("dir")).unwrap();
    assert_eq!((all(&mut watched), watched.directories()), (Noticed::Change, 1));
    write(place.beside("dir/inner/file"));
    assert_eq!(all(&mut watched), Noticed::Nothing);
}

#[test]
fn a_queue_that_overflows_loses_the_tree() {
    let place = Place::new();
    let mut watched = place.watched();
    let flags = rustix::fs::inotify::ReadFlags::QUEUE_OVERFLOW;
    assert_eq!(watched.take(&Event { wd: Wd(-1), flags, name: None }).unwrap(), Noticed::Lost);

    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    if limit > 100_000 {
        eprintln!("skipped: this machine's inotify queues hold {limit} events");
        return;
    }
    // an event that repeats the one before it is not kept
    for _ in 0..=limit / 3 {
        write(place.at("file"));
        fs::remove_file(place.at("file")).unwrap();
    }
    assert_eq!(all(&mut watched), Noticed::Lost);
}

#[test]
fn a_thousand_directories_have_a_watch_each_and_two_overlapping_trees_have_their_own() {
    let place = Place::new();
    for number in 0..1000 {
        fs::create_dir_all(place.at(format!("{}/{number}", number % 10))).unwrap();
    }
    let inner = Tree::new(&Root::new(place.dir.path()).unwrap(), "/srv/data/3", Filter::default()).unwrap();
    let watch = Watch::start(&[place.tree(), inner]).unwrap();
    let before = settled(&watch);
    assert_eq!((watch.directories(), count(&place.tree())), (1011 + 101, 1011));
    write(place.at("7/997/file"));
    assert_ne!(watch.seen(), before);
    let before = settled(&watch);
    fs::remove_dir_all(place.at("3")).unwrap();
    assert_ne!(watch.seen(), before);
    settled(&watch);
    assert_eq!(watch.directories(), 1011 - 101);
}

#[tokio::test]
async fn whoever_waits_is_woken_by_a_change_and_not_before() {
    let place = Place::new();
    let watch = Watch::start(&[place.tree()]).unwrap();
    let before = settled(&watch);
    tokio::select! {
        biased;
        () = watch.changed(before) => panic!("nothing changed"),
        () = async {} => {}
    }
    write(place.at("file"));
    tokio::time::timeout(PATIENCE, watch.changed(before)).await.unwrap();
    assert_ne!(watch.seen(), before);
    // one that is long over
    tokio::time::timeout(PATIENCE, watch.changed(before)).await.unwrap();
}

#[tokio::test]
async fn a_tree_that_is_missing_is_waited_for_and_missed_again() {
    let place = Place::new();
    fs::remove_dir(place.at("")).unwrap();
    let watch = Watch::start(&[place.tree()]).unwrap();
    let absent = settled(&watch);
    assert_eq!((watch.directories(), watch.why_not()), (0, None));
    fs::create_dir_all(place.at("dir")).unwrap();
    tokio::time::timeout(PATIENCE, watch.changed(absent)).await.unwrap();
    let present = settled(&watch);
    assert_eq!(watch.directories(), 2);
    // the directory above is replaced, of which no watch tells
    fs::rename(place.dir.path().join("srv"), place.beside("srv")).unwrap();
    fs::create_dir_all(place.at("")).unwrap();
    tokio::time::timeout(PATIENCE, watch.changed(present)).await.unwrap();
    let other = settled(&watch);
    write(place.at("file"));
    assert_ne!(watch.seen(), other);
    let before = settled(&watch);
    fs::remove_dir_all(place.at("")).unwrap();
    assert_ne!(watch.seen(), before);
    settled(&watch);
    assert_eq!(watch.directories(), 0);
}

#[tokio::test]
async fn a_link_on_the_way_to_a_tree_is_named_and_never_followed() {
    let place = Place::new();
    fs::rename(place.at(""), place.beside("data")).unwrap();
    symlink(place.beside("data"), place.dir.path().join("srv/data")).unwrap();
    let watch = Watch::start(&[place.tree()]).unwrap();
    let begin = Instant::now();
    while watch.why_not().is_none() {
        assert!(begin.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    let reason = watch.why_not().unwrap();
    assert!(reason.contains("srv/data") && reason.contains("symbolic link"), "{reason}");
    assert_ne!(watch.seen(), watch.seen(), "nothing is known, so nothing is the same");
    assert_eq!(watch.directories(), 0);
}

#[test]
fn the_thread_ends_with_its_watch() {
    let place = Place::new();
    let watch = Watch::start(&[place.tree()]).unwrap();
    let thread = Arc::downgrade(&watch.shared);
    drop(watch);
    let begin = Instant::now();
    while thread.upgrade().is_some() {
        assert!(begin.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
}

/// Runs a test of this binary that is ignored otherwise, by a script in new namespaces.
fn run_in(namespaces: &[&str], script: &str, test: &str) {
    let output = Command::new("unshare")
        .args(namespaces)
        .args(["sh", "-ec", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", test])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if text.contains("unshare: ") || text.contains("not possible here") {
        eprintln!("SKIPPED {test}: {text}");
        return;
    }
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn the_limit_of_watches_is_told_with_what_would_be_enough() {
    let script = "echo 20 > /proc/sys/user/max_inotify_watches || echo not possible here; exec \"$@\"";
    run_in(&["--user", "--map-root-user"], script, "watch::tests::where_only_20_watches_may_be_had");
}

#[test]
#[ignore = "it is started by another test"]
fn where_only_20_watches_may_be_had() {
    let place = Place::new();
    for number in 0..30 {
        fs::create_dir(place.at(number.to_string())).unwrap();
    }
    let watch = Watch::start(&[place.tree()]).unwrap();
    let begin = Instant::now();
    while watch.why_not().is_none() {
        assert!(begin.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    let reason = watch.why_not().unwrap();
    assert!(
        reason.contains("31 directories") && reason.contains("sysctl fs.inotify.max_user_watches="),
        "{reason}"
    );
    assert_ne!(watch.seen(), watch.seen());
    drop(watch);
    for number in 0..20 {
        fs::remove_dir(place.at(number.to_string())).unwrap();
    }
    // then it is enough, until it is not any more
    let watch = Watch::start(&[place.tree()]).unwrap();
    settled(&watch);
    for number in 0..20 {
        fs::create_dir(place.at(number.to_string())).unwrap();
    }
    while watch.why_not().is_none() {
        assert!(begin.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    assert_eq!(watch.directories(), 0, "half a watch is none");
}

#[test]
fn what_is_mounted_inside_is_watched_and_missed() {
    run_in(&["--mount", "--propagation", "private"], "exec \"$@\"", "watch::tests::where_mounts_are_private");
}

#[test]
#[ignore = "it is started by another test"]
fn where_mounts_are_private() {
    let mount = |arguments: &[&str], path: PathBuf| {
        let status = Command::new(arguments[0]).args(&arguments[1..]).arg(path).status().unwrap();
        assert!(status.success());
    };
    let place = Place::new();
    fs::create_dir_all(place.at("a b")).unwrap();
    let watch = Watch::start(&[place.tree()]).unwrap();
    let awaited = |since: Seen| {
        let begin = Instant::now();
        while watch.seen() == since {
            assert!(begin.elapsed() < PATIENCE);
            std::thread::yield_now();
        }
        settled(&watch)
    };
    let mut seen = settled(&watch);
    for path in ["a b", ""] {
        mount(&["mount", "-t", "tmpfs", "none"], place.at(path));
        seen = awaited(seen);
        write(place.at(path).join("file"));
        assert_ne!(watch.seen(), seen, "inside what was mounted");
        seen = settled(&watch);
        mount(&["umount"], place.at(path));
        seen = awaited(seen);
        write(place.at(path).join("file"));
        assert_ne!(watch.seen(), seen, "inside what was hidden");
        seen = settled(&watch);
    }
}
