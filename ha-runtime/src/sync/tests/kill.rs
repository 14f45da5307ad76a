//! The agent as a real process that is killed: every file is old or new, and the next run finishes.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Stdio};
use std::time::Duration;

use super::*;

const DIRECTORY: &str = "PBX_HA_TEST_AGENT_DIRECTORY";

/// Not a test of its own: the process that the others start, an agent on its standard input.
#[test]
#[ignore = "it is started by other tests"]
fn agent_process() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { return };
    let root = Root::new(Path::new(&dir).join("far")).unwrap();
    let node = Node::of(
        vec![Tree::new(&root, "/srv/data", Filter::default()).unwrap()],
        Path::new(&dir).join("state"),
        Box::new(|_| passive_slave()),
    );
    let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().unwrap());
    let ended = serve(&stream, &stream, &node);
    assert!(ended.is_ok() || ended.is_err(), "either way it is over");
}

fn start(pair: &Pair) -> (Child, UnixStream) {
    let (here, there) = UnixStream::pair().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sync::tests::kill::agent_process", "--ignored"])
        .env(DIRECTORY, pair.dir.path())
        .stdin(OwnedFd::from(there))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    (child, here)
}

/// A stream that kills the process at its other end once so many bytes were written, or when the commit is asked for.
struct Deadly {
    stream: UnixStream,
    child: Arc<Mutex<Child>>,
    left: usize,
    /// After the frame that asks for the commit: this long, then death.
    at_commit: Option<Duration>,
}

impl Read for Deadly {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.read(bytes)
    }
}

impl Write for Deadly {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // a frame of its own: length 9, number 21
        let commits = bytes.starts_with(&[0, 0, 0, 9, 21]);
        let count = bytes.len().min(self.left.max(1));
        let written = self.stream.write(&bytes[..count])?;
        self.left = self.left.saturating_sub(written);
        if let Some(after) = self.at_commit.filter(|_| commits) {
            let child = self.child.clone();
            std::thread::spawn(move || {
                std::thread::sleep(after);
                child.lock().unwrap().kill().ok();
            });
        }
        if self.left == 0 {
            self.child.lock().unwrap().kill().ok();
        }
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl AsFd for Deadly {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn push_until_death(pair: &Pair, left: usize, at_commit: Option<Duration>) -> Result<FilesReport, SyncError> {
    let (child, stream) = start(pair);
    let child = Arc::new(Mutex::new(child));
    let deadly = Deadly { stream, child: child.clone(), left, at_commit };
    let trees = pair.near_trees();
    let result = Client::open(deadly, &hello())
        .and_then(|mut client| client.push_files(GENERATION, &trees, &PushOptions::default(), &mut |_| {}));
    let mut child = child.lock().unwrap();
    child.kill().ok();
    child.wait().unwrap();
    result
}

const FILES: usize = 60;

fn old(index: usize) -> String {
    format!("old {index}").repeat(3000)
}

fn new(index: usize) -> String {
    format!("{}, and new", old(index))
}

/// A replica that is old, a source that is new.
fn aged_pair() -> Pair {
    let pair = Pair::new();
    for index in 0..FILES {
        write(pair.near(format!("d{}/{index}", index % 7)), old(index));
    }
    pair.push().unwrap();
    for index in 0..FILES {
        write(pair.near(format!("d{}/{index}", index % 7)), new(index));
        write(pair.near(format!("more/{index}")), new(index));
    }
    fs::remove_file(pair.near("d1/1")).unwrap();
    pair
}

/// How many files are new; none is anything else than old or new.
fn count_new(pair: &Pair) -> usize {
    let mut count = 0;
    for index in (0..FILES).filter(|index| *index != 1) {
        let content = fs::read_to_string(pair.far(format!("d{}/{index}", index % 7))).unwrap();
        assert!(content == old(index) || content == new(index), "file {index} is neither old nor new");
        count += usize::from(content == new(index));
        if let Ok(content) = fs::read_to_string(pair.far(format!("more/{index}"))) {
            assert_eq!(content, new(index), "file more/{index} is half new");
        }
    }
    count
}

#[test]
fn an_agent_killed_during_the_transfer_leaves_the_whole_replica_old() {
    let pair = aged_pair();
    let before = fs::metadata(pair.far("")).unwrap().modified().unwrap();
    let mut deaths = 0;
    for left in [1, 30, 100, 5_000, 40_000, 150_000, 300_000, 600_000] {
        let result = push_until_death(&pair, left, None);
        if result.is_ok() {
            break;
        }
        assert!(matches!(result, Err(SyncError::Cut(_))), "{result:?}");
        assert_eq!(count_new(&pair), 0, "killed after {left} bytes");
        assert!(!pair.far("more").exists());
        deaths += 1;
    }
    assert!(deaths >= 5, "only {deaths} runs were interrupted");
    assert!(fs::metadata(pair.far("")).unwrap().modified().unwrap() >= before);
    push_until_death(&pair, usize::MAX, None).unwrap();
    pair.assert_equal();
}

#[test]
fn a_large_file_goes_on_wherever_the_agent_was_killed() {
    let size = 24_000_000;
    let pair = Pair::new();
    let numbers = (0..size as u32 / 4).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes());
    write(pair.near("large"), numbers.collect::<Vec<u8>>());
    for turn in 0..5 {
        let result = push_until_death(&pair, 4_000_000, None);
        assert!(matches!(result, Err(SyncError::Cut(_))), "turn {turn}: {result:?}");
    }
    let report = pair.push().unwrap();
    pair.assert_equal();
    assert_eq!((report.resumed, report.sent), (1, 0));
    // of each turn, what was on its way is lost
    assert!(report.bytes_sent < size - 5 * 3_000_000, "{report:?}");
}

#[test]
fn an_agent_killed_during_the_commit_leaves_every_file_old_or_new() {
    let mut partial = 0;
    for turn in 0..12u64 {
        let pair = aged_pair();
        let after = Duration::from_micros(turn * turn * 60);
        let result = push_until_death(&pair, usize::MAX, Some(after));
        let new = count_new(&pair);
        partial += usize::from(new > 0 && new < FILES - 1);
        if result.is_ok() {
            assert_eq!(new, FILES - 1);
        }
        pair.push().unwrap();
        pair.assert_equal();
        assert_eq!(count_new(&pair), FILES - 1);
    }
    eprintln!("{partial} of 12 commits were interrupted half way");
}

#[test]
fn an_agent_that_is_asked_to_stop_does_so_between_two_steps_and_says_in_which_state() {
    let pair = aged_pair();
    let mut kinds = Vec::new();
    for patience in (0..).step_by(17) {
        let (here, there) = UnixStream::pair().unwrap();
        let node = pair.node(Box::new(|_| passive_slave()));
        node.patience.store(patience, std::sync::atomic::Ordering::Relaxed);
        let trees = pair.near_trees();
        let result = std::thread::scope(|scope| {
            scope.spawn(|| {
                serve(&there, &there, &node).ok();
                // as the end of a process does
                there.shutdown(std::net::Shutdown::Both).ok();
            });
            let mut client = Client::open(here, &hello())?;
            client.push_files(GENERATION, &trees, &PushOptions::default(), &mut |_| {})
        });
        match result {
            Err(SyncError::Remote { kind, .. }) => kinds.push(kind),
            other => {
                other.unwrap();
                break;
            }
        }
        let new = count_new(&pair);
        match kinds.last() {
            Some(ErrorKind::Cancelled) => assert_eq!(new, 0),
            Some(ErrorKind::Partial) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(kinds.contains(&ErrorKind::Cancelled) && kinds.contains(&ErrorKind::Partial), "{kinds:?}");
    pair.push().unwrap();
    pair.assert_equal();
}
