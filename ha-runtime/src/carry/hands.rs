//! The serving node's tree, and a private directory in it where contents wait: on the same file system, so that they need
//! only a second name to be in their place.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ha_core::carry::FileState;
use ha_core::replication::path::RelPath;
use ha_core::voicemail::{Message, Name, Place};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Statx, Uid, chmodat, chownat, fchmod, fsync, linkat, mkdirat,
    openat, statx, unlinkat,
};
use rustix::io::Errno;

use super::error::CarryError;
use super::folder_lock::look;
use super::point;
use crate::sync::{META, STAGE_PREFIX, Tree, TreeCursor, TreeError, names, stat_fd};

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What waits is called so: a part of a message with its extension behind, or the one file that is no message.
const PART: &str = "part.";
pub(super) const WRITTEN: &str = "file";

/// The tree and the directory in it.
#[derive(Debug)]
pub(super) struct Hands {
    pub(super) tree: Tree,
    pub(super) root: OwnedFd,
    pub(super) stage: OwnedFd,
}

impl Hands {
    pub(super) fn open(tree: &Tree) -> Result<Hands, TreeError> {
        let (root, made) = tree.create()?;
        let fail = |error: io::Error| tree.error("make a temporary directory in", &RelPath::root(), error);
        if made > 0 {
            // there was none, so nobody's settings are lost; who reads it must get in
            fchmod(&root, Mode::from_raw_mode(0o755)).map_err(|error| fail(error.into()))?;
        }
        match mkdirat(&root, stage_name(), Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(fail(error.into())),
        }
        let stage =
            openat(&root, stage_name(), DIRECTORY, Mode::empty()).map_err(|error| fail(error.into()))?;
        let stat = stat_fd(&stage).map_err(|error| fail(error.into()))?;
        if stat.stx_uid != rustix::process::geteuid().as_raw() || stat.stx_mode & 0o7777 != 0o700 {
            return Err(fail(io::Error::other("another user may have made what is there; remove it")));
        }
        Ok(Hands { tree: tree.clone(), root, stage })
    }

    /// Whether somebody else left the directory there.
    pub(super) fn left_something(tree: &Tree) -> Result<bool, TreeError> {
        let Some(root) = tree.open()? else { return Ok(false) };
        match statx(&root, stage_name(), AtFlags::SYMLINK_NOFOLLOW, META) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(tree.error("look into", &RelPath::root(), error)),
        }
    }

    pub(super) fn error(
        &self,
        doing: &'static str,
        path: &RelPath,
        error: impl Into<io::Error>,
    ) -> CarryError {
        self.tree.error(doing, path, error.into()).into()
    }

    /// Where a part waits.
    pub(super) fn part(extension: &Name) -> String {
        format!("{PART}{}", extension.as_str())
    }

    /// Takes a content in, down to the disk. It is not kept when it is another one.
    pub(super) fn take_in(
        &self,
        name: &str,
        path: &RelPath,
        state: &FileState,
        content: &mut dyn Read,
    ) -> Result<(), CarryError> {
        let fail = |error: io::Error| self.error("receive", path, error);
        self.drop_waiting(name).map_err(fail)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            openat(&self.stage, name, flags, Mode::RUSR | Mode::WUSR).map_err(|error| fail(error.into()))?;
        let mut copy = Copy { file: File::from(file), hasher: blake3::Hasher::new() };
        // one byte more than there should be is enough to know
        let size = io::copy(&mut content.take(state.size.saturating_add(1)), &mut copy).map_err(fail)?;
        if size != state.size || *copy.hasher.finalize().as_bytes() != state.digest.0 {
            self.drop_waiting(name).map_err(fail)?;
            return Err(CarryError::Differs { path: path.to_string() });
        }
        copy.file.sync_all().map_err(fail)?;
        point();
        Ok(())
    }

    /// Gives what waits the owner and mode of what lies in its directory already.
    pub(super) fn dress(&self, name: &str, like: &Statx) -> io::Result<()> {
        let is_dir = FileType::from_raw_mode(like.stx_mode.into()) == FileType::Directory;
        let mode = u32::from(like.stx_mode) & if is_dir { 0o666 } else { 0o777 };
        let (uid, gid) = (Uid::from_raw(like.stx_uid), Gid::from_raw(like.stx_gid));
        chownat(&self.stage, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(chmodat(&self.stage, name, Mode::from_raw_mode(mode), AtFlags::empty())?)
    }

    /// Gives what waits its name; whatever has that name stays. `false`: something else has it.
    pub(super) fn put(&self, name: &str, dir: &OwnedFd, target: &[u8]) -> io::Result<bool> {
        let linked = linkat(&self.stage, name, dir, target, AtFlags::empty());
        match linked {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => {
                let target = std::str::from_utf8(target).map_err(io::Error::other)?;
                let inode = |found: Option<Statx>| found.map(|stat| stat.stx_ino);
                Ok(inode(look(dir, target)?) == inode(look(&self.stage, name)?))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A directory of the tree, made when it is absent as those above it are.
    pub(super) fn directory(&self, path: &RelPath) -> Result<OwnedFd, CarryError> {
        let fail = |error: io::Error| self.error("make the directory", path, error);
        let mut here = self.root.try_clone().map_err(fail)?;
        for segment in path.segments() {
            here = below(here.as_fd(), segment).map_err(fail)?;
        }
        Ok(here)
    }

    /// A directory of the tree; `None`: there is none.
    pub(super) fn existing(&self, path: &RelPath) -> Result<Option<OwnedFd>, CarryError> {
        let fail = |error: io::Error| self.error("open", path, error);
        let mut cursor = TreeCursor::new(self.root.try_clone().map_err(fail)?);
        match cursor.directory(path) {
            Ok(directory) => directory.try_clone_to_owned().map(Some).map_err(fail),
            Err(error) if crate::sync::absent(&error) => Ok(None),
            Err(error) => Err(fail(error)),
        }
    }

    /// Whether all parts of a message wait.
    pub(super) fn holds(&self, parts: &[Name]) -> io::Result<bool> {
        parts.iter().try_fold(true, |all, part| Ok(all && look(&self.stage, &Hands::part(part))?.is_some()))
    }

    /// Which numbers the parts that wait have in a folder: where they were put, or come from.
    pub(super) fn linked(&self, parts: &[Name], folder: &OwnedFd, like: &Place) -> io::Result<BTreeSet<u16>> {
        let (mut inodes, mut numbers) = (Vec::new(), BTreeSet::new());
        for extension in parts {
            inodes.extend(look(&self.stage, &Hands::part(extension))?.map(|stat| (extension, stat.stx_ino)));
        }
        for file in names(folder)? {
            let Some((place, extension)) = like.beside(file.to_bytes()) else { continue };
            let waiting = inodes.iter().find(|(part, _)| **part == extension);
            let Some((_, inode)) = waiting else { continue };
            if look(folder, file.to_str().unwrap_or_default())?.is_some_and(|stat| stat.stx_ino == *inode) {
                numbers.insert(place.number);
            }
        }
        Ok(numbers)
    }

    /// Takes the parts' names in a folder away again, the text's first: without it there is no message.
    pub(super) fn unlink(&self, parts: &[Name], folder: &OwnedFd, place: &Place) -> io::Result<()> {
        let (texts, others): (Vec<&Name>, Vec<_>) =
            parts.iter().partition(|part| part.as_str() == Message::TEXT);
        for part in texts.into_iter().chain(others) {
            let (name, waiting) = (place.file_name(part), Hands::part(part));
            let inode = look(&self.stage, &waiting)?.map(|stat| stat.stx_ino);
            if inode.is_some() && look(folder, &name)?.map(|stat| stat.stx_ino) == inode {
                unlinkat(folder, name, AtFlags::empty())?;
                point();
            }
        }
        Ok(fsync(folder)?)
    }

    /// Removes all contents that wait.
    pub(super) fn clear(&self) -> io::Result<()> {
        for name in names(&self.stage)? {
            if name.to_bytes().starts_with(PART.as_bytes()) || name.to_bytes() == WRITTEN.as_bytes() {
                unlinkat(&self.stage, &name, AtFlags::empty())?;
                point();
            }
        }
        Ok(())
    }

    pub(super) fn drop_waiting(&self, name: &str) -> io::Result<()> {
        match unlinkat(&self.stage, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// It goes when nothing waits in it.
impl Drop for Hands {
    fn drop(&mut self) {
        // one in which something waits is found by the next start
        let _ = unlinkat(&self.root, stage_name(), AtFlags::REMOVEDIR);
    }
}

fn stage_name() -> Vec<u8> {
    [STAGE_PREFIX, b"carry"].concat()
}

/// A directory's entry, itself a directory.
fn below(here: BorrowedFd<'_>, segment: &[u8]) -> io::Result<OwnedFd> {
    match openat(here, segment, DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) => {}
        result => return Ok(result?),
    }
    let above = stat_fd(here)?;
    match mkdirat(here, segment, Mode::RWXU) {
        // Asterisk may have been quicker, and then it is as Asterisk makes it
        Err(Errno::EXIST) => return Ok(openat(here, segment, DIRECTORY, Mode::empty())?),
        result => result?,
    }
    let (uid, gid) = (Uid::from_raw(above.stx_uid), Gid::from_raw(above.stx_gid));
    chownat(here, segment, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    let made = openat(here, segment, DIRECTORY, Mode::empty())?;
    fchmod(&made, Mode::from_raw_mode(u32::from(above.stx_mode) & 0o7777))?;
    fsync(here)?;
    point();
    Ok(made)
}

/// Writes a file and digests what it writes.
struct Copy {
    file: File,
    hasher: blake3::Hasher,
}

impl Write for Copy {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
