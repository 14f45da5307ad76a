//! What the two machines do meanwhile: full disks, files that change, things in the way.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use super::*;

/// A stream that does something each time that it is written to.
struct Meddling<F> {
    stream: UnixStream,
    meddle: F,
}

impl<F> Read for Meddling<F> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.read(bytes)
    }
}

impl<F: FnMut()> Write for Meddling<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.meddle)();
        self.stream.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl<F> AsFd for Meddling<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn push_meddling(pair: &Pair, meddle: impl FnMut()) -> Result<FilesReport, SyncError> {
    let (here, there) = UnixStream::pair().unwrap();
    let node = pair.node(Box::new(|_| passive_slave()));
    let trees = pair.near_trees();
    std::thread::scope(|scope| {
        let agent = scope.spawn(|| serve(&there, &there, &node));
        let mut client = Client::open(Meddling { stream: here, meddle }, &hello())?;
        let result = client.push_files(GENERATION, &trees, &PushOptions::default(), &mut |_| {});
        drop(client);
        agent.join().unwrap().ok();
        result
    })
}

#[test]
fn a_file_that_changes_each_time_it_is_read_is_skipped_and_never_half_copied() {
    let pair = Pair::new();
    write(pair.near("log"), vec![1; 200_000]);
    write(pair.near("calm"), "calm");
    pair.push().unwrap();
    write(pair.near("log"), vec![2; 300_000]);
    write(pair.near("calm"), "calmer");
    fs::hard_link(pair.near("log"), pair.near("log-too")).unwrap();
    let path = pair.near("log");
    let mut count = 0;
    let report = push_meddling(&pair, move || {
        count += 1;
        fs::write(&path, vec![3; 300_000 + count]).unwrap();
    })
    .unwrap();
    assert_eq!(report.skipped.len(), 1);
    assert!(report.skipped[0].ends_with("/near/srv/data/log changed each time that it was read"));
    assert_eq!(fs::read(pair.far("log")).unwrap(), vec![1; 200_000]);
    assert!(!pair.far("log-too").exists());
    assert_eq!(fs::read_to_string(pair.far("calm")).unwrap(), "calmer");
    pair.push().unwrap();
    pair.assert_equal();
}

#[test]
fn a_file_that_changes_once_is_read_again() {
    let pair = Pair::new();
    write(pair.near("a"), vec![1; 3_000_000]);
    let path = pair.near("a");
    let mut changes = 0;
    let report = push_meddling(&pair, move || {
        // the greeting, the questions, then the content; the content is what this must meet
        changes += 1;
        if changes == 6 {
            fs::write(&path, vec![2; 2_000_000]).unwrap();
        }
    })
    .unwrap();
    assert_eq!((report.sent, report.skipped.len()), (1, 0));
    assert!(report.bytes_sent > 2_100_000, "it was read once only");
    assert_eq!(fs::read(pair.far("a")).unwrap(), vec![2; 2_000_000]);
    pair.push().unwrap();
    pair.assert_equal();
}

#[test]
fn a_file_that_vanishes_before_it_is_read_leaves_what_it_would_have_replaced() {
    let pair = Pair::new();
    write(pair.near("d/inside"), "precious until replaced");
    write(pair.near("z"), "z");
    pair.push().unwrap();
    fs::remove_dir_all(pair.near("d")).unwrap();
    write(pair.near("d"), "a file now");
    write(pair.near("a"), vec![1; 200_000]);
    let path = pair.near("d");
    let mut writes = 0;
    let report = push_meddling(&pair, move || {
        writes += 1;
        // after greeting, state, opening and list: the content of "a", which is read before "d"
        if writes == 5 {
            fs::remove_file(&path).unwrap();
        }
    })
    .unwrap();
    assert_eq!((report.sent, report.skipped.len()), (1, 1));
    assert!(report.skipped[0].ends_with("/near/srv/data/d vanished"), "{:?}", report.skipped);
    assert_eq!(fs::read_to_string(pair.far("d/inside")).unwrap(), "precious until replaced");
    pair.push().unwrap();
    pair.assert_equal();
}

#[test]
fn what_comes_back_before_its_deletion_is_told_is_not_deleted() {
    let pair = Pair::new();
    write(pair.near("always"), "there");
    write(pair.near("moved/f"), "its owner moves it for a moment");
    write(pair.near("gone"), "gone");
    pair.push().unwrap();
    let aside = pair.dir.path().join("aside");
    fs::rename(pair.near("moved"), &aside).unwrap();
    fs::remove_file(pair.near("gone")).unwrap();
    // something must be sent, so that there is a moment between the list and the deletions
    write(pair.near("sent"), vec![7; 500_000]);
    let (back, sent) = (pair.near("moved"), pair.near("sent"));
    let mut seen = 0;
    let report = push_meddling(&pair, move || {
        // greeting, state, opening, question, list of the root, list of "moved": then the content
        seen += 1;
        if seen == 7 {
            fs::rename(&aside, &back).unwrap();
            assert!(sent.exists());
        }
    })
    .unwrap();
    assert_eq!((report.sent, report.deleted), (1, 0), "{report:?}");
    assert_eq!(report.warnings.len(), 3, "{report:?}");
    assert!(report.warnings[0].contains("data/moved/f came back"), "{report:?}");
    assert!(pair.far("moved/f").exists());
    assert_eq!(pair.push().unwrap().deleted, 1);
    pair.assert_equal();
}

#[test]
fn what_moves_to_where_it_was_not_seen_is_deleted_nowhere() {
    let pair = Pair::new();
    write(pair.near("old/always"), "there");
    write(pair.near("new/message"), "heard soon");
    pair.push().unwrap();
    // as if the scan had seen "old" before and "new" after it was moved
    let aside = pair.dir.path().join("aside");
    fs::rename(pair.near("new/message"), &aside).unwrap();
    write(pair.near("sent"), vec![7; 500_000]);
    let (moved, mut seen) = (pair.near("old/message"), 0);
    let report = push_meddling(&pair, move || {
        seen += 1;
        if seen == 7 {
            fs::rename(&aside, &moved).unwrap();
        }
    })
    .unwrap();
    assert_eq!((report.sent, report.deleted), (1, 0), "{report:?}");
    assert!(report.warnings[0].contains("files came or went in"), "{report:?}");
    assert!(pair.far("new/message").exists());
    let report = pair.push().unwrap();
    assert_eq!((report.sent, report.deleted), (1, 1), "{report:?}");
    pair.assert_equal();
}

#[test]
fn what_would_be_replaced_stays_when_its_replacement_is_taken_back() {
    let pair = Pair::new();
    write(pair.near("d/inside"), "precious");
    write(pair.near("z"), "z");
    pair.push().unwrap();
    let aside = pair.dir.path().join("aside");
    fs::rename(pair.near("d"), &aside).unwrap();
    std::os::unix::fs::symlink("z", pair.near("d")).unwrap();
    write(pair.near("sent"), vec![7; 500_000]);
    let (back, mut seen) = (pair.near("d"), 0);
    let report = push_meddling(&pair, move || {
        seen += 1;
        if seen == 7 {
            fs::remove_file(&back).unwrap();
            fs::rename(&aside, &back).unwrap();
        }
    })
    .unwrap();
    assert!(report.warnings[0].contains("data/d changed its kind again"), "{report:?}");
    assert_eq!(fs::read_to_string(pair.far("d/inside")).unwrap(), "precious");
    pair.push().unwrap();
    pair.assert_equal();
}

/// A stream that spoils the first copied block that passes.
struct Spoiling(UnixStream, bool);

impl Read for Spoiling {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}

impl Write for Spoiling {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut bytes = bytes.to_vec();
        // frames are written together; of Copy, number 15, the last byte of the offset is meant
        let mut at = 0;
        while let Some(header) = bytes.get(at..at + 5) {
            if header[4] == 15 && !std::mem::replace(&mut self.1, true) {
                bytes[at + 20] ^= 1;
            }
            let length: [u8; 4] = bytes[at..at + 4].try_into().unwrap();
            at += 4 + u32::from_be_bytes(length) as usize;
        }
        self.0.write_all(&bytes)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl AsFd for Spoiling {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[test]
fn a_difference_that_yields_the_wrong_content_is_noticed_and_the_whole_file_sent() {
    let pair = Pair::new();
    write(pair.near("f"), vec![1; 50_000]);
    pair.push().unwrap();
    write(pair.near("f"), vec![2; 50_001]);
    // no two blocks alike, so that another offset is another content
    let kept: Vec<u8> = (0..40_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    write(pair.near("g"), [kept.clone(), vec![2; 20_000]].concat());
    pair.push().unwrap();
    write(pair.near("g"), [kept, vec![3; 20_000]].concat());
    let (here, there) = UnixStream::pair().unwrap();
    let node = pair.node(Box::new(|_| passive_slave()));
    let trees = pair.near_trees();
    let report = std::thread::scope(|scope| {
        scope.spawn(|| serve(&there, &there, &node));
        let mut client = Client::open(Spoiling(here, false), &hello()).unwrap();
        client.push_files(GENERATION, &trees, &PushOptions::default(), &mut |_| {}).unwrap()
    });
    assert_eq!((report.sent, report.patched), (1, 0));
    pair.assert_equal();
}

#[test]
fn two_datasets_travel_together_or_not_at_all() {
    let pair = Pair::new();
    let tree = |side: &str, name| {
        let root = Root::new(pair.dir.path().join(side)).unwrap();
        Tree::new(&root, name, Filter::default()).unwrap()
    };
    let names = ["/srv/data", "/srv/other/deep"];
    let mut node = pair.node(Box::new(|_| passive_slave()));
    // the far end lists them in another order
    node.trees = names.iter().rev().map(|name| tree("far", name)).collect();
    let trees = names.map(|name| tree("near", name));
    write(pair.near("a"), "a");
    let other = pair.dir.path().join("near/srv/other/deep/b");
    write(other.clone(), "b");
    let push = || {
        let (here, there) = UnixStream::pair().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| serve(&there, &there, &node));
            let mut client = Client::open(here, &hello()).unwrap();
            client.push_files(GENERATION, &trees, &PushOptions::default(), &mut |_| {})
        })
    };
    let report = push().unwrap();
    assert_eq!((report.files, report.sent), (2, 2));
    assert_eq!(fs::read_to_string(pair.dir.path().join("far/srv/other/deep/b")).unwrap(), "b");
    // the second is refused: the first does not change either
    write(pair.near("a"), "changed");
    fs::remove_file(other).unwrap();
    assert!(matches!(push(), Err(SyncError::Guard { dataset, .. }) if dataset == names[1]));
    assert_eq!(fs::read_to_string(pair.far("a")).unwrap(), "a");
}

#[test]
fn what_an_earlier_run_left_is_swept_by_the_next() {
    let pair = Pair::new();
    write(pair.near("f"), "x");
    pair.push().unwrap();
    let left = pair.far(".pbx-ha-stage-0123456789abcdef");
    write(left.join("1"), "half a file");
    symlink("/etc", pair.far(".pbx-ha-stage-a-link")).unwrap();
    pair.push().unwrap();
    pair.assert_equal();
    assert!(Path::new("/etc").is_dir());
}

#[test]
fn devices_sockets_and_pipes_are_left_alone_on_both_sides() {
    let pair = Pair::new();
    write(pair.near("f"), "x");
    let fifo = |path: PathBuf| {
        rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RWXU).unwrap();
    };
    fifo(pair.near("pipe"));
    let _socket = std::os::unix::net::UnixListener::bind(pair.near("socket")).unwrap();
    write(pair.far("own/x"), "goes");
    fifo(pair.far("own/pipe"));
    // where the source has a file, a pipe is in its place
    write(pair.near("g"), "a file");
    fifo(pair.far("g"));
    let report = pair.push().unwrap();
    assert_eq!(report.warnings.len(), 2, "{report:?}");
    assert!(report.warnings[0].contains("is a device, socket or pipe and is not copied"));
    assert!(pair.far("own/pipe").exists() && !pair.far("own/x").exists());
    assert!(!pair.far("pipe").exists() && !pair.far("socket").exists());
    assert_eq!(fs::read_to_string(pair.far("g")).unwrap(), "a file");
    assert_eq!(pair.push().unwrap().changed, 0);
}

/// A small file system mounted on the replica, unmounted at the end.
struct Small(PathBuf);

impl Small {
    fn mount(at: PathBuf, options: &str) -> Option<Small> {
        Small::mount_with(at, &["-t", "tmpfs", "-o", options, "none"])
    }

    /// One that keeps whole seconds only, in the file `image`.
    fn mount_coarse(at: PathBuf, image: &Path) -> Option<Small> {
        fs::File::create(image).unwrap().set_len(8 << 20).unwrap();
        let made = Command::new("mkfs.ext4").args(["-q", "-I", "128"]).arg(image).output();
        if !made.is_ok_and(|made| made.status.success()) {
            eprintln!("SKIPPED: no mkfs.ext4");
            return None;
        }
        Small::mount_with(at, &["-t", "ext4", "-o", "loop", image.to_str().unwrap()])
    }

    fn mount_with(at: PathBuf, arguments: &[&str]) -> Option<Small> {
        fs::create_dir_all(&at).unwrap();
        let mounted = Command::new("mount").args(arguments).arg(&at).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Small(at));
        }
        eprintln!("SKIPPED: cannot mount (not root?)");
        None
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(&self.0).status();
        assert!(status.is_ok_and(|status| status.success()), "{} stays mounted", self.0.display());
    }
}

#[test]
fn a_full_disk_at_the_far_end_leaves_the_old_files_in_place() {
    let pair = Pair::new();
    let Some(_small) = Small::mount(pair.far(""), "size=1m,mode=755") else { return };
    write(pair.near("a"), "old");
    pair.push().unwrap();
    write(pair.near("a"), "new");
    write(pair.near("big"), vec![7; 3_000_000]);
    match pair.push() {
        Err(SyncError::Remote { kind: ErrorKind::NoSpace, message }) => {
            assert!(message.contains("/far/srv/data/big"), "{message}");
            assert!(message.contains("nothing was changed"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(names_below(&pair.far("")).len(), 1);
    assert_eq!(fs::read_to_string(pair.far("a")).unwrap(), "old");
    fs::remove_file(pair.near("big")).unwrap();
    pair.push().unwrap();
    assert_eq!(fs::read_to_string(pair.far("a")).unwrap(), "new");
}

#[test]
fn a_file_system_that_rounds_times_is_named_and_costs_no_content() {
    let pair = Pair::new();
    let Some(_small) = Small::mount_coarse(pair.far(""), &pair.dir.path().join("image")) else { return };
    fs::remove_dir(pair.far("lost+found")).unwrap();
    write(pair.near("f"), vec![7; 100_000]);
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
    fs::File::options().write(true).open(pair.near("f")).unwrap().set_modified(time).unwrap();
    for turn in 0..2 {
        let report = pair.push().unwrap();
        assert_eq!(report.warnings.len(), 1, "{report:?}");
        assert!(report.warnings[0].contains("below /srv/data rounds times"), "{report:?}");
        assert_eq!((report.sent, report.patched), (1 - turn, turn), "{report:?}");
    }
    assert_eq!(fs::read(pair.far("f")).unwrap(), vec![7; 100_000]);
}

#[test]
fn a_trash_on_another_file_system_gets_copies_until_it_is_full() {
    let pair = Pair::new();
    let Some(_small) = Small::mount(pair.trash(), "size=64k,mode=700") else { return };
    for name in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"] {
        write(pair.near(name), name);
    }
    write(pair.near("y-small"), "kept for a while");
    write(pair.near("z-large"), vec![1; 200_000]);
    pair.push().unwrap();
    fs::remove_file(pair.near("y-small")).unwrap();
    fs::remove_file(pair.near("z-large")).unwrap();
    let report = pair.push().unwrap();
    pair.assert_equal();
    assert_eq!(report.deleted, 2);
    assert_eq!(report.warnings.len(), 1, "{:?}", report.warnings);
    assert!(report.warnings[0].contains("z-large was deleted without going to the trash"));
    let kept = names_below(&pair.trash());
    let small = kept.iter().find(|name| name.ends_with("y-small")).expect("it is in the trash");
    assert_eq!(fs::read_to_string(small).unwrap(), "kept for a while");
    assert!(!kept.iter().any(|name| name.ends_with("z-large")));
}

#[test]
fn the_trash_keeps_to_its_limits_oldest_first() {
    let pair = Pair::new();
    let tree = pair.tree("far", &Filter::default());
    let limit = TrashLimit { bytes: 100, runs: 2 };
    for index in 0..4 {
        let name = format!("f{index}");
        write(pair.far(&name), vec![0; 30]);
        let mut trash = Trash::new(pair.trash(), limit);
        let mut cursor = TreeCursor::new(tree.open().unwrap().unwrap());
        let path = ha_core::replication::path::RelPath::new(&name).unwrap();
        let mut warnings = Vec::new();
        assert!(trash.take(&tree, &mut cursor, &path, &mut warnings).unwrap());
        assert_eq!(warnings, Vec::<String>::new());
        trash.prune().unwrap();
        // the names of runs are times of a millisecond
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let kept: Vec<_> =
        names_below(&pair.trash()).into_iter().filter(|name| name.contains("/data/f")).collect();
    assert_eq!(kept.len(), 2);
    assert!(kept[0].ends_with("/f2") && kept[1].ends_with("/f3"), "{kept:?}");
}

#[test]
fn garbage_ends_an_agent_without_a_panic_or_a_change() {
    use proptest::prelude::*;
    let pair = Pair::new();
    write(pair.near("f"), "x");
    pair.push().unwrap();
    let mut runner = proptest::test_runner::TestRunner::default();
    let greeting = {
        let mut bytes = Vec::new();
        ha_core::replication::wire::encode(&ha_core::replication::wire::Frame::Hello(hello()), &mut bytes)
            .unwrap();
        bytes
    };
    let any = proptest::collection::vec((0..26u8, proptest::collection::vec(any::<u8>(), 0..60)), 0..8);
    runner
        .run(&any, |frames| {
            let mut input = greeting.clone();
            for (number, body) in frames {
                input.extend((body.len() as u32 + 1).to_be_bytes());
                input.push(number);
                input.extend(body);
            }
            let mut output = Vec::new();
            let _ = serve(&input[..], &mut output, &pair.node(Box::new(|_| passive_slave())));
            prop_assert_eq!(names_below(&pair.far("")).len(), 1);
            Ok(())
        })
        .unwrap();
}
