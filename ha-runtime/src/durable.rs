//! Files that are either wholly old or wholly new, whatever dies in between.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Where the engine keeps what must survive a restart, below the root. Mode 0700.
pub const STATE_DIRECTORY: &str = "/var/lib/pbx-ha";

/// Permission bits and owner of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Attributes {
    /// Permission bits, set whatever the umask says.
    pub mode: u32,
    /// User and group; `None`: whoever the engine runs as.
    pub owner: Option<(u32, u32)>,
}

impl Attributes {
    /// A file of the engine's own: nobody else reads it.
    pub const PRIVATE: Attributes = Attributes { mode: 0o600, owner: None };

    /// Those of an existing file.
    pub fn of(meta: &fs::Metadata) -> Attributes {
        Attributes { mode: meta.mode() & 0o7777, owner: Some((meta.uid(), meta.gid())) }
    }
}

/// A name beside `target` that nobody can guess, hidden from cron and from `include_dir`.
///
/// Err: the kernel has no random numbers.
pub fn temporary_beside(target: &Path) -> io::Result<PathBuf> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(io::Error::other)?;
    let nonce = u128::from_ne_bytes(nonce);
    Ok(target.with_file_name(format!(".pbx-ha.{nonce:032x}")))
}

/// Writes `content` to `temporary`, which must not exist yet, down to the disk.
///
/// Err: nothing is left at `temporary`.
pub fn write_new(temporary: &Path, content: &[u8], attributes: Attributes) -> io::Result<()> {
    // O_EXCL does not follow a symbolic link either
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    let written = (|| {
        file.write_all(content)?;
        let meta = file.metadata()?;
        if let Some((uid, gid)) = attributes.owner
            && (uid, gid) != (meta.uid(), meta.gid())
        {
            std::os::unix::fs::fchown(&file, Some(uid), Some(gid))?;
        }
        // after the owner: chown clears set-id bits
        file.set_permissions(Permissions::from_mode(attributes.mode))?;
        file.sync_all()
    })();
    if written.is_err() {
        // the first error is the one to tell
        let _ = fs::remove_file(temporary);
    }
    written
}

/// Renames `temporary` over `target`, down to the disk.
pub fn rename(temporary: &Path, target: &Path) -> io::Result<()> {
    fs::rename(temporary, target)?;
    sync_directory(target)
}

/// Replaces `target` as a whole: temporary file, fsync, rename, fsync of the directory.
///
/// Err: `target` is as it was.
pub fn replace(target: &Path, content: &[u8], attributes: Attributes) -> io::Result<()> {
    let temporary = temporary_beside(target)?;
    write_new(&temporary, content, attributes)?;
    rename(&temporary, target).inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

/// Makes the last rename, creation or removal in the directory of `entry` survive a power failure.
pub fn sync_directory(entry: &Path) -> io::Result<()> {
    File::open(entry.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// Creates a directory that only the engine's user enters, with its parents.
pub fn private_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_directory(directory),
    }
}

/// The content of a file; `None`: there is none.
pub fn read_if_exists(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_has_the_mode_that_was_asked_for_and_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("ha.conf");
        replace(&target, b"one", Attributes { mode: 0o666, owner: None }).unwrap();
        replace(&target, b"two", Attributes { mode: 0o646, owner: None }).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"two");
        assert_eq!(fs::metadata(&target).unwrap().mode() & 0o7777, 0o646);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_temporary_file_that_lies_in_wait_is_not_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        let temporary = dir.path().join("temporary");
        std::os::unix::fs::symlink(&victim, &temporary).unwrap();
        assert!(write_new(&temporary, b"x", Attributes::PRIVATE).is_err());
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
    }
}
