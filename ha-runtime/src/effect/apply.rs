//! One file's change, and its way back.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::Boundary;
use super::files::{Change, FileError, Former};
use super::transaction::Saved;
use crate::durable::{rename, sync_directory, temporary_beside, write_new};

/// What is written down before the change.
pub(super) fn prepare(change: &Change) -> io::Result<Saved> {
    let mut directories: Vec<PathBuf> = change
        .target
        .ancestors()
        .skip(1)
        .take_while(|directory| !directory.exists())
        .map(Path::to_owned)
        .collect();
    directories.reverse();
    Ok(Saved {
        target: change.target.clone(),
        former: change.former.clone(),
        temporary: temporary_beside(&change.target)?,
        directories,
        digest: change.wanted.as_ref().map(|(content, _)| digest(content)),
    })
}

/// Makes the change that `saved` was prepared from.
pub(super) fn apply(change: &Change, saved: &Saved, passed: &dyn Fn(Boundary)) -> io::Result<()> {
    for directory in &saved.directories {
        DirBuilder::new().mode(0o755).create(directory)?;
        fs::set_permissions(directory, Permissions::from_mode(0o755))?;
        sync_directory(directory)?;
        passed(Boundary::DirectoryMade);
    }
    if let Some((content, attributes)) = &change.wanted {
        write_new(&saved.temporary, content, *attributes)?;
        passed(Boundary::TemporaryWritten);
        rename(&saved.temporary, &saved.target)?;
    } else {
        fs::remove_file(&saved.target)?;
        sync_directory(&saved.target)?;
    }
    passed(Boundary::FileChanged);
    Ok(())
}

/// What a restoration found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Restored {
    /// It is as it was before.
    Yes,
    /// Somebody else has changed the file meanwhile: theirs is kept.
    ChangedSince,
}

/// Brings the file back, byte for byte, mode and owner included. Doing it again is no error.
pub(super) fn restore(saved: &Saved, passed: &dyn Fn(Boundary)) -> Result<Restored, FileError> {
    let failed = |source| FileError::Io { path: saved.target.clone(), source };
    remove_if_there(&saved.temporary).map_err(failed)?;
    let now = Former::of(&saved.target)?;
    if now != saved.former {
        let ours = match &now {
            Former::Absent => saved.digest.is_none(),
            Former::File { content, .. } => saved.digest.as_deref() == Some(&digest(content)),
            Former::Link { .. } => false,
        };
        if !ours {
            return Ok(Restored::ChangedSince);
        }
        bring_back(saved, passed).map_err(failed)?;
        passed(Boundary::FileChanged);
    }
    for directory in saved.directories.iter().rev() {
        // somebody may have put something into it
        if fs::remove_dir(directory).is_ok() {
            sync_directory(directory).map_err(failed)?;
        }
    }
    Ok(Restored::Yes)
}

fn bring_back(saved: &Saved, passed: &dyn Fn(Boundary)) -> io::Result<()> {
    match &saved.former {
        Former::Absent => {
            remove_if_there(&saved.target)?;
            return sync_directory(&saved.target);
        }
        Former::File { content, attributes } => write_new(&saved.temporary, content, *attributes)?,
        Former::Link { target } => symlink(target, &saved.temporary)?,
    }
    passed(Boundary::TemporaryWritten);
    rename(&saved.temporary, &saved.target)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn digest(content: &[u8]) -> String {
    blake3::hash(content).to_hex().to_string()
}
