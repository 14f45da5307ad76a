//! A copy of a database that somebody may be writing: what one moment's reader would have seen, never anything between.
//!
//! It is made by SQLite's own backup, in one step and so under one lock: without a log writers wait for as long as the
//! copy takes, with one nobody waits. The copy stays until the next: one that is the same byte for byte changes nothing,
//! so that a database in which nothing happened looks, by size and time, as it did.

use std::fs::{self, File};
use std::io::{self, Seek};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Instant;

use ha_core::replication::manifest::Meta;
use ha_core::replication::path::RelPath;
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::super::error::TreeError;
use super::super::meta;
use super::super::scan::meta_of;
use super::super::stage::open_regular;
use super::super::tree::{Cursor, Tree};
use super::{PATIENCE, PAUSE, busy, failed, open};
use crate::durable::{private_directory, temporary_beside};

/// Where copies lie, in the state directory, each at the path of its original.
pub(crate) const SNAPSHOTS: &str = "snapshots";

/// Copies the database of a tree to where it lies below `copies`; the tree of the copy, to be read instead. One at a time.
/// `None`: it is a tree of files.
///
/// Errors: there is no such database, it is damaged, or it stayed locked. An earlier copy is as it was.
pub(crate) fn snapshot(tree: &Tree, copies: &Path) -> Result<Option<Tree>, TreeError> {
    let Some(name) = tree.database_file() else { return Ok(None) };
    let copied = copy(tree, name, copies).map(Some);
    copied.map_err(|error| tree.error("copy the database", name, error))
}

fn copy(tree: &Tree, name: &RelPath, copies: &Path) -> io::Result<Tree> {
    private_directory(copies)?;
    let directory = tree.open().map_err(io::Error::other)?.ok_or(io::ErrorKind::NotFound)?;
    let above = Meta { xattrs: meta::xattrs_of(&directory)?, ..meta::of_statx(&meta::stat_fd(&directory)?) };
    let original = open_regular(&mut Cursor::new(directory), name)?.ok_or(io::ErrorKind::NotFound)?;
    let original = meta_of(&original, &meta::stat_fd(&original)?)?;

    let copy = tree.elsewhere(copies);
    let to = copy.path(name)?;
    let parent = to.parent().unwrap_or(copies);
    fs::create_dir_all(parent)?;
    let temporary = temporary_beside(&to)?;
    let kept = back_up(&tree.path(name)?, &temporary).and_then(|()| keep(&temporary, &to, &original));
    if kept.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    // the original's directory changes with each of its journals, which is no change of what is copied
    let mtime = meta::of_statx(&meta::stat_fd(&kept?)?).mtime;
    meta::apply(File::open(parent)?, &Meta { mtime, ..above })?;
    Ok(copy)
}

fn back_up(from: &Path, to: &Path) -> io::Result<()> {
    // made here, so that nobody else can ever read it
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let source = open(from).map_err(failed)?;
    let mut copy = Connection::open(to).map_err(failed)?;
    // it is thrown away if this does not come to its end
    copy.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF").map_err(failed)?;
    let backup = Backup::new(&source, &mut copy).map_err(failed)?;
    let deadline = Instant::now() + PATIENCE;
    while backup.step(-1).map_err(failed)? != StepResult::Done {
        if Instant::now() > deadline {
            return Err(failed(busy()));
        }
        std::thread::sleep(PAUSE);
    }
    drop(backup);
    copy.close().map_err(|(_, error)| failed(error))
}

/// Puts the copy in the place of the last one, unless it is the same; the one that is kept.
fn keep(temporary: &Path, to: &Path, original: &Meta) -> io::Result<File> {
    let mut new = File::open(temporary)?;
    let mut before = match File::open(to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        opened => Some(opened?),
    };
    let same = match &mut before {
        Some(before) => {
            before.metadata()?.len() == new.metadata()?.len() && digest(before)? == digest(&mut new)?
        }
        None => false,
    };
    let kept = before.filter(|_| same).unwrap_or(new);
    let mtime = meta::of_statx(&meta::stat_fd(&kept)?).mtime;
    meta::apply(&kept, &Meta { mtime, ..original.clone() })?;
    if same {
        fs::remove_file(temporary)?
    } else {
        fs::rename(temporary, to)?
    }
    Ok(kept)
}

fn digest(file: &mut File) -> io::Result<blake3::Hash> {
    file.rewind()?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file)?;
    Ok(hasher.finalize())
}
