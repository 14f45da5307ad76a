//! The log of a list of effects: what was there before each of them, on the disk before it is changed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ha_core::effect::{Command, OnFailure};
use serde::{Deserialize, Serialize};

use super::Undo;
use super::files::Former;
use crate::durable::{STATE_DIRECTORY, private_directory, read_if_exists, sync_directory};
use crate::root::Root;

/// One line of the log. `number` counts the effects of the list from 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    /// The list.
    Begin { title: String },
    /// An effect follows.
    Effect { number: usize, text: String },
    /// A file is about to be changed.
    Saved { number: usize, saved: Saved },
    /// A command that belongs to changed files is about to be run.
    Then { number: usize, argv: Vec<String>, timeout: Duration },
    /// A command has run; nothing undoes it.
    Ran { number: usize, text: String },
    /// A call of the PBX's API is about to be made; `undo` when it is known beforehand.
    Calling { number: usize, undo: Option<Undo> },
    /// It was made.
    Called { number: usize, undo: Undo },
    /// The effect was undone.
    Undone { number: usize },
    /// All of the list was done.
    Commit,
}

/// A file before its change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Saved {
    pub(super) target: PathBuf,
    pub(super) former: Former,
    /// Where the new content is written first; may be left behind by a crash.
    pub(super) temporary: PathBuf,
    /// Directories that are created for it, outermost first.
    pub(super) directories: Vec<PathBuf>,
    /// Digest of the new content; `None`: the file is removed.
    pub(super) digest: Option<String>,
}

/// A command of the log, to run again.
pub(super) fn again(argv: &[String], timeout: Duration) -> Command {
    Command { argv: argv.to_vec(), timeout, on_failure: OnFailure::GoOn }
}

/// Where the log lies while a list is being performed.
pub(super) fn log_path(root: &Root) -> PathBuf {
    root.path(STATE_DIRECTORY).join("transaction.jsonl")
}

/// A list in progress. The file appears with the first record that must be on the disk: a list that changes nothing
/// writes nothing.
#[derive(Debug)]
pub(super) struct Transaction {
    path: PathBuf,
    file: Option<File>,
    records: Vec<Record>,
}

impl Transaction {
    pub(super) fn new(root: &Root, title: &str) -> Transaction {
        let begin = Record::Begin { title: title.to_owned() };
        Transaction { path: log_path(root), file: None, records: vec![begin] }
    }

    /// One that a crash left; `None`: none did.
    ///
    /// Err: a record in its middle is not one; a record at its end may be torn, then its effect had not begun.
    pub(super) fn left(root: &Root) -> io::Result<Option<Transaction>> {
        let path = log_path(root);
        let Some(text) = read_if_exists(&path)? else { return Ok(None) };
        let mut records = Vec::new();
        // what has no line end was being written
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in text[..whole].split_inclusive(|byte| *byte == b'\n') {
            records.push(serde_json::from_slice(line)?);
        }
        let file = OpenOptions::new().write(true).open(&path)?;
        // new records must not continue a torn one
        file.set_len(whole as u64)?;
        drop(file);
        let file = OpenOptions::new().append(true).open(&path)?;
        Ok(Some(Transaction { path, file: Some(file), records }))
    }

    pub(super) fn records(&self) -> &[Record] {
        &self.records
    }

    pub(super) fn title(&self) -> &str {
        match self.records.first() {
            Some(Record::Begin { title }) => title,
            _ => "",
        }
    }

    pub(super) fn committed(&self) -> bool {
        self.records.last() == Some(&Record::Commit)
    }

    /// Remembers what need not be on the disk for anything to be undone.
    pub(super) fn note(&mut self, record: Record) -> io::Result<()> {
        if self.file.is_some() {
            return self.save(record);
        }
        self.records.push(record);
        Ok(())
    }

    /// The record, and all before it, are on the disk. Err: then nothing of it may be done.
    pub(super) fn save(&mut self, record: Record) -> io::Result<()> {
        let mut text = Vec::new();
        let fresh = self.file.is_none();
        let before: &[Record] = if fresh { &self.records } else { &[] };
        for record in before.iter().chain([&record]) {
            serde_json::to_writer(&mut text, record)?;
            text.push(b'\n');
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(create(&self.path)?),
        };
        let length = file.metadata()?.len();
        let written = file.write_all(&text).and_then(|()| file.sync_all());
        if let Err(error) = written {
            // half a record in the middle would make the log unreadable
            let _ = file.set_len(length);
            return Err(error);
        }
        if fresh {
            sync_directory(&self.path)?;
        }
        self.records.push(record);
        Ok(())
    }

    /// A command has run. Only told, never undone: a disk that cannot take it must not undo anything.
    pub(super) fn ran(&mut self, number: usize, text: String) {
        let record = Record::Ran { number, text };
        if self.note(record.clone()).is_err() {
            self.records.push(record);
        }
    }

    /// A call was made. Even when that cannot be written, it is remembered for the way back.
    pub(super) fn called(&mut self, number: usize, undo: Undo) -> io::Result<()> {
        let record = Record::Called { number, undo };
        let saved = self.save(record.clone());
        if saved.is_err() {
            self.records.push(record);
        }
        saved
    }

    /// The log is not needed any more.
    pub(super) fn remove(self) -> io::Result<()> {
        if self.file.is_none() {
            return Ok(());
        }
        fs::remove_file(&self.path)?;
        sync_directory(&self.path)
    }
}

fn create(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        private_directory(directory)?;
    }
    // created new: the log of a list that was never undone must not be lost
    OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn nothing_is_written_before_something_must_be_undoable() {
        let (dir, root) = place();
        let mut log = Transaction::new(&root, "configure slave");
        log.note(Record::Effect { number: 0, text: "run x".into() }).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        log.remove().unwrap();
        assert!(Transaction::left(&root).unwrap().is_none());
    }

    #[test]
    fn a_log_cut_at_any_byte_tells_the_records_that_were_whole() {
        let (_dir, root) = place();
        let mut log = Transaction::new(&root, "configure slave");
        for number in 0..3 {
            log.note(Record::Effect { number, text: "write ü\n".into() }).unwrap();
            let argv = vec!["systemctl".to_owned()];
            log.save(Record::Then { number, argv, timeout: Duration::from_millis(1500) }).unwrap();
        }
        log.save(Record::Commit).unwrap();
        let whole = fs::read(log_path(&root)).unwrap();
        for cut in 0..=whole.len() {
            fs::write(log_path(&root), &whole[..cut]).unwrap();
            let mut left = Transaction::left(&root).unwrap().unwrap();
            let lines = whole[..cut].iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(left.records(), &log.records()[..lines], "cut at {cut}");
            assert_eq!(left.committed(), cut == whole.len());
            // and it can be gone on with
            left.save(Record::Undone { number: 7 }).unwrap();
            assert_eq!(Transaction::left(&root).unwrap().unwrap().records().len(), lines + 1);
        }
    }

    #[test]
    fn a_log_that_is_still_there_is_not_overwritten() {
        let (_dir, root) = place();
        Transaction::new(&root, "first").save(Record::Undone { number: 0 }).unwrap();
        assert!(Transaction::new(&root, "second").save(Record::Undone { number: 0 }).is_err());
        assert_eq!(Transaction::left(&root).unwrap().unwrap().title(), "first");
    }
}
