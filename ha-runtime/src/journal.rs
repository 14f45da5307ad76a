//! The journal: what the engine decided and did, one JSON document a line, kept over crashes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::durable::{STATE_DIRECTORY, private_directory, sync_directory};
use crate::process::{ProcessRecord, surviving_group};
use crate::root::Root;
use crate::writer::{PATIENCE, Writer, Written};

/// A journal file is put aside when it is longer than this.
pub const ROTATE_AT: u64 = 1024 * 1024;
/// So many old files are kept.
pub const KEPT: usize = 5;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Wall time.
    pub time: DateTime<Utc>,
    /// What kind of line: `transition`, `command`, `alert`, ...
    pub kind: String,
    /// The kind's own fields.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

/// The kind of the line that is written before a command's first instruction.
const COMMAND: &str = "command";

impl Entry {
    /// A command that is about to run. [`survivors`] finds it again.
    pub fn command(time: DateTime<Utc>, record: &ProcessRecord) -> serde_json::Result<Entry> {
        Entry::new(time, COMMAND, record)
    }

    /// A line of any serialisable payload; one that is not an object, or has a field `time` or `kind` of its own, becomes
    /// the field `value`.
    pub fn new(time: DateTime<Utc>, kind: &str, payload: &impl Serialize) -> serde_json::Result<Entry> {
        let fields = match serde_json::to_value(payload)? {
            // a name twice in one line would make it unreadable
            Value::Object(fields) if !fields.contains_key("time") && !fields.contains_key("kind") => fields,
            value => Map::from_iter([("value".to_owned(), value)]),
        };
        Ok(Entry { time, kind: kind.to_owned(), fields })
    }
}

/// `/var/lib/pbx-ha/journal.jsonl` below the root, and its older parts `.1` (newest) to `.5`.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    writer: Writer,
}

impl Journal {
    /// Starts its thread; the disk is not touched before the first line.
    pub fn open(root: &Root) -> io::Result<Journal> {
        Ok(Journal { path: path(root), writer: Writer::start("journal")? })
    }

    /// Appends a line, down to the disk, waiting at most [`PATIENCE`].
    pub fn append(&self, entry: &Entry) -> Written {
        self.append_within(PATIENCE, entry)
    }

    /// As [`Journal::append`], waiting at most `patience`.
    pub fn append_within(&self, patience: Duration, entry: &Entry) -> Written {
        let mut line = match serde_json::to_vec(entry) {
            Ok(line) => line,
            Err(error) => return Written::Failed(error.into()),
        };
        line.push(b'\n');
        let path = self.path.clone();
        self.writer.within(patience, move || append(&path, &line))
    }
}

/// The lines since a time, oldest first; all of them for `None`. Torn and foreign lines are passed over.
///
/// Err: a part exists and cannot be read.
pub fn since(root: &Root, time: Option<DateTime<Utc>>) -> io::Result<impl Iterator<Item = Entry>> {
    let path = path(root);
    let mut texts = Vec::new();
    for number in (0..=KEPT).rev() {
        match fs::read(part(&path, number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            text => texts.push(text?),
        }
    }
    Ok(texts
        .into_iter()
        .flat_map(|text| entries(&text))
        .filter(move |entry| time.is_none_or(|time| entry.time >= time)))
}

/// The last `count` lines, oldest first.
pub fn tail(root: &Root, count: usize) -> io::Result<Vec<Entry>> {
    let mut all: Vec<Entry> = since(root, None)?.collect();
    all.drain(..all.len().saturating_sub(count));
    Ok(all)
}

/// Commands that an earlier run of the engine started and that still run: they are awaited or ended before anything is
/// done ([`crate::process::await_group`], [`crate::process::end_group`]).
pub fn survivors(root: &Root) -> io::Result<Vec<ProcessRecord>> {
    Ok(since(root, None)?
        .filter(|entry| entry.kind == COMMAND)
        .filter_map(|entry| serde_json::from_value(Value::Object(entry.fields)).ok())
        .filter(|record| surviving_group(record).is_some())
        .collect())
}

fn path(root: &Root) -> PathBuf {
    root.path(STATE_DIRECTORY).join("journal.jsonl")
}

fn part(path: &Path, number: usize) -> PathBuf {
    if number == 0 { path.to_owned() } else { path.with_extension(format!("jsonl.{number}")) }
}

/// Only what ends with a line end counts: a line without one was being written when the machine died.
fn entries(text: &[u8]) -> Vec<Entry> {
    text.split_inclusive(|byte| *byte == b'\n')
        .filter(|line| line.ends_with(b"\n"))
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect()
}

fn append(path: &Path, line: &[u8]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        private_directory(directory)?;
    }
    let mut file = open(path)?;
    if file.metadata()?.len() >= ROTATE_AT {
        drop(file);
        rotate(path)?;
        file = open(path)?;
    }
    let length = file.metadata()?.len();
    // after a crash in the middle of a line the next one begins on a line of its own
    let mut text = if ends_a_line(&mut file, length)? { Vec::new() } else { vec![b'\n'] };
    text.extend_from_slice(line);
    // one call: lines of the daemon and of a verb do not mix
    file.write_all(&text)?;
    file.sync_data()?;
    if length == 0 { sync_directory(path) } else { Ok(()) }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(path)
}

fn ends_a_line(file: &mut File, length: u64) -> io::Result<bool> {
    if length == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

fn rotate(path: &Path) -> io::Result<()> {
    let directory = File::open(path.parent().unwrap_or(Path::new("/")))?;
    // the other process that writes may be rotating: then it is done in a moment
    flock(&directory, FlockOperation::LockExclusive)?;
    if fs::metadata(path)?.len() < ROTATE_AT {
        return Ok(());
    }
    for number in (0..KEPT).rev() {
        match fs::rename(part(path, number), part(path, number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    directory.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn entry(number: i64) -> Entry {
        let time = DateTime::from_timestamp(1_700_000_000 + number, 0).unwrap();
        Entry::new(time, "transition", &json!({"rule": "S4", "why": format!("nümber\n{number}")})).unwrap()
    }

    fn place() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path()).unwrap();
        (dir, root)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_was_appended_is_read_back_in_order() {
        let (dir, root) = place();
        let journal = Journal::open(&root).unwrap();
        for number in 0..4 {
            assert!(journal.append_within(LONG, &entry(number)).is_durable());
        }
        assert_eq!(since(&root, None).unwrap().collect::<Vec<_>>(), [0, 1, 2, 3].map(entry));
        assert_eq!(since(&root, Some(entry(2).time)).unwrap().collect::<Vec<_>>(), [2, 3].map(entry));
        assert_eq!(tail(&root, 1).unwrap(), [entry(3)]);
        use std::os::unix::fs::MetadataExt;
        let mode = |path: &str| fs::metadata(dir.path().join(path)).unwrap().mode() & 0o777;
        assert_eq!((mode("var/lib/pbx-ha"), mode("var/lib/pbx-ha/journal.jsonl")), (0o700, 0o600));
    }

    #[test]
    fn a_payload_with_a_time_of_its_own_is_read_back() {
        let (_dir, root) = place();
        let payload = json!({"time": "noon", "kind": 7});
        let entry = Entry::new(entry(0).time, "odd", &payload).unwrap();
        assert!(Journal::open(&root).unwrap().append_within(LONG, &entry).is_durable());
        assert_eq!(tail(&root, 1).unwrap()[0].fields["value"], payload);
    }

    #[test]
    fn a_crash_at_any_byte_loses_at_most_the_line_being_written() {
        let (_dir, root) = place();
        let path = path(&root);
        for number in 0..3 {
            let mut line = serde_json::to_vec(&entry(number)).unwrap();
            line.push(b'\n');
            append(&path, &line).unwrap();
        }
        let whole = fs::read(&path).unwrap();
        let mut added = serde_json::to_vec(&entry(9)).unwrap();
        added.push(b'\n');
        for cut in 0..=whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let complete = whole[..cut].iter().filter(|byte| **byte == b'\n').count();
            let mut expected: Vec<Entry> = (0..3).take(complete).map(entry).collect();
            assert_eq!(since(&root, None).unwrap().collect::<Vec<_>>(), expected, "cut at {cut}");
            append(&path, &added).unwrap();
            // a line whose end alone was missing is whole again: its end is written before the next one
            if cut > 0 && whole.get(cut) == Some(&b'\n') {
                expected.push(entry(complete as i64));
            }
            expected.push(entry(9));
            assert_eq!(since(&root, None).unwrap().collect::<Vec<_>>(), expected, "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_in_the_file_hinder_reading(bytes: Vec<u8>) {
            let text = [&bytes, b"\n".as_slice(), &serde_json::to_vec(&entry(1)).unwrap(), b"\n"].concat();
            prop_assert_eq!(entries(&text).pop(), Some(entry(1)));
        }
    }

    #[test]
    fn old_parts_are_put_aside_and_the_oldest_is_dropped() {
        let (_dir, root) = place();
        let path = path(&root);
        let long = |number: i64| {
            let fields = json!({"n": number, "text": "x".repeat(ROTATE_AT as usize)});
            Entry::new(entry(number).time, "long", &fields).unwrap()
        };
        for number in 0..8 {
            let mut line = serde_json::to_vec(&long(number)).unwrap();
            line.push(b'\n');
            append(&path, &line).unwrap();
        }
        let read: Vec<Value> = since(&root, None).unwrap().map(|entry| entry.fields["n"].clone()).collect();
        assert_eq!(read, [2, 3, 4, 5, 6, 7].map(Value::from));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), KEPT + 1);
    }

    #[test]
    #[ignore = "the other process of a_command_that_outlives_a_killed_engine_is_found_and_ended"]
    fn run_a_command_until_killed() {
        use ha_core::effect::{Command, OnFailure};
        let root = Root::new(std::env::var_os("JOURNAL_ROOT").expect("started by the other test")).unwrap();
        let journal = Journal::open(&root).unwrap();
        let argv = vec!["wazo-service".to_owned(), "start".to_owned()];
        let command = Command { argv, timeout: LONG, on_failure: OnFailure::Fail };
        let ran = crate::command::run(&root, &command, &mut |record| {
            assert!(journal.append_within(LONG, &Entry::command(Utc::now(), record).unwrap()).is_durable());
        });
        panic!("not killed: {ran:?}");
    }

    #[test]
    fn a_command_that_outlives_a_killed_engine_is_found_and_ended() {
        use std::os::unix::fs::PermissionsExt;
        let (dir, root) = place();
        let program = dir.path().join("usr/bin/wazo-service");
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        fs::write(&program, "#!/bin/sh\necho > ${0%usr/bin/wazo-service}begun\nsleep 60\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let mut engine = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "journal::tests::run_a_command_until_killed"])
            .env("JOURNAL_ROOT", dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        while !dir.path().join("begun").exists() {
            assert!(engine.try_wait().unwrap().is_none(), "it ended before its command began");
            std::thread::yield_now();
        }
        engine.kill().unwrap();
        engine.wait().unwrap();
        let found = survivors(&root).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].argv, ["wazo-service", "start"]);
        crate::process::end_group(&found[0], LONG).unwrap();
        assert_eq!(survivors(&root).unwrap(), []);
    }

    #[test]
    fn a_full_disk_is_told() {
        let (_dir, root) = place();
        fs::create_dir_all(path(&root).parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("/dev/full", path(&root)).unwrap();
        let Written::Failed(error) = Journal::open(&root).unwrap().append_within(LONG, &entry(1)) else {
            panic!("it was written to a full disk");
        };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_stalled_disk_delays_the_caller_by_the_patience_alone() {
        let (_dir, root) = place();
        fs::create_dir_all(path(&root).parent().unwrap()).unwrap();
        // a full pipe that nobody reads stands for the disk: the write does not return
        let fifo = path(&root);
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let journal = Journal::open(&root).unwrap();
        let long = Entry::new(entry(0).time, "long", &"x".repeat(200_000)).unwrap();
        let start = std::time::Instant::now();
        assert!(matches!(journal.append_within(Duration::from_millis(50), &long), Written::Pending));
        assert!(matches!(journal.append_within(LONG, &entry(1)), Written::Pending), "not waited for again");
        assert!(start.elapsed() < LONG);
        // the disk comes back: what was waiting is written
        let mut disk = File::open(&fifo).unwrap();
        let mut text = Vec::new();
        while !text.ends_with(b"mber\\n1\"}\n") {
            let mut piece = [0; 4096];
            let length = disk.read(&mut piece).unwrap();
            text.extend_from_slice(&piece[..length]);
        }
        assert_eq!(entries(&text), [long, entry(1)]);
    }
}
