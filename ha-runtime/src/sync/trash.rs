//! Where deleted entries go, for a while.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ha_core::replication::path::RelPath;
use rustix::fs::{AtFlags, CWD, FileType, readlinkat, renameat, statx, unlinkat};
use rustix::io::Errno;

use super::meta;
use super::scan::meta_of;
use super::stage::open_regular;
use super::tree::{Cursor, Tree, to_path};

/// How much is kept of what replications deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrashLimit {
    /// Bytes, all runs together. What does not fit is deleted at once.
    pub bytes: u64,
    /// Runs; the oldest go first.
    pub runs: usize,
}

impl Default for TrashLimit {
    fn default() -> TrashLimit {
        TrashLimit { bytes: 512 << 20, runs: 30 }
    }
}

/// The trash of one run: a dated directory outside the datasets, readable for its owner only.
#[derive(Debug)]
pub(crate) struct Trash {
    directory: PathBuf,
    run: Option<PathBuf>,
    limit: TrashLimit,
    used: u64,
}

impl Trash {
    pub(crate) fn new(directory: PathBuf, limit: TrashLimit) -> Trash {
        Trash { directory, run: None, limit, used: 0 }
    }

    /// Moves the entry at `path`, which is no directory, out of the tree. `Ok(false)`: it was not there.
    ///
    /// What has no room is deleted; `warnings` says so.
    pub(crate) fn take(
        &mut self,
        tree: &Tree,
        cursor: &mut Cursor,
        path: &RelPath,
        warnings: &mut Vec<String>,
    ) -> io::Result<bool> {
        let (dir, name) = cursor.parent(path)?;
        let stat = match statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, meta::MASK) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let kind = FileType::from_raw_mode(stat.stx_mode.into());
        let size = if kind == FileType::RegularFile { stat.stx_size } else { 0 };
        let mut why = None;
        if self.used.saturating_add(size) > self.limit.bytes || self.limit.runs == 0 {
            why = Some("the trash's limit is reached".to_owned());
        } else {
            match self.place(tree, path).and_then(|to| self.move_to(cursor, path, kind, &to)) {
                Ok(()) => self.used += size,
                Err(error) => why = Some(error.to_string()),
            }
        }
        if let Some(why) = why {
            warnings.push(format!("{} was deleted without going to the trash: {why}", tree.display(path)));
            let (dir, name) = cursor.parent(path)?;
            match unlinkat(dir, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// Removes the oldest runs until the limit holds.
    pub(crate) fn prune(&self) -> io::Result<()> {
        let mut runs = match fs::read_dir(&self.directory) {
            Ok(list) => list.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        // names are dates: the newest first
        runs.sort_by(|a, b| b.cmp(a));
        let mut total = 0u64;
        for (index, run) in runs.iter().enumerate() {
            total = total.saturating_add(size_below(run)?);
            if index >= self.limit.runs || total > self.limit.bytes {
                fs::remove_dir_all(run)?;
            }
        }
        Ok(())
    }

    /// Where the entry is to lie; the directories above it are made.
    fn place(&mut self, tree: &Tree, path: &RelPath) -> io::Result<PathBuf> {
        if self.run.is_none() {
            // two runs in one second are told apart by the second half; the trash is ours alone, so it need not be secret
            let stamp = chrono::Utc::now().format("%Y%m%dT%H%M%S%.3fZ");
            let unique = getrandom::u32().map_err(io::Error::other)?;
            self.run = Some(self.directory.join(format!("{stamp}-{unique:08x}")));
        }
        let run = self.run.clone().unwrap_or_default();
        let to = run.join(to_path(tree.inside())).join(to_path(path));
        if let Some(above) = to.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(above)?;
        }
        Ok(to)
    }

    fn move_to(&self, cursor: &mut Cursor, path: &RelPath, kind: FileType, to: &Path) -> io::Result<()> {
        let (dir, name) = cursor.parent(path)?;
        match renameat(dir, name, CWD, to) {
            Ok(()) => return Ok(()),
            Err(Errno::XDEV) => {}
            Err(error) => return Err(error.into()),
        }
        // the trash is on another file system
        match kind {
            FileType::RegularFile => {
                let copied = copy(cursor, path, to);
                if copied.is_err() {
                    let _ = fs::remove_file(to);
                }
                copied?;
            }
            FileType::Symlink => copy_link(dir, name, to)?,
            _ => return Err(io::Error::other("it is a device, socket or pipe")),
        }
        let (dir, name) = cursor.parent(path)?;
        Ok(unlinkat(dir, name, AtFlags::empty())?)
    }
}

fn copy(cursor: &mut Cursor, path: &RelPath, to: &Path) -> io::Result<()> {
    let mut from = open_regular(cursor, path)?.ok_or_else(|| io::Error::other("it changed meanwhile"))?;
    let mut out = File::options().write(true).create_new(true).mode(0o600).open(to)?;
    io::copy(&mut from, &mut out)?;
    out.sync_all()?;
    meta::apply(&out, &meta_of(&from, &meta::stat_fd(&from)?)?).map(drop)
}

fn copy_link(dir: BorrowedFd<'_>, name: &[u8], to: &Path) -> io::Result<()> {
    let target = readlinkat(dir, name, Vec::new())?;
    Ok(rustix::fs::symlinkat(target.as_c_str(), CWD, to)?)
}

/// Bytes of a file, or of everything in a directory; links are not followed.
pub(crate) fn size_below(path: &Path) -> io::Result<u64> {
    let own = fs::symlink_metadata(path)?;
    if !own.is_dir() {
        return Ok(own.len());
    }
    let mut total = 0;
    for entry in fs::read_dir(path)? {
        total += size_below(&entry?.path())?;
    }
    Ok(total)
}
