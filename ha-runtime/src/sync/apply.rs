//! The switch: what was received and listed is done, in the order of the list.
//!
//! It is the same whether it is asked for, or found unfinished after a crash: each step looks whether an earlier attempt
//! has done it, so a list that was cut anywhere is simply done again from its beginning.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use ha_core::replication::manifest::Meta;
use ha_core::replication::path::RelPath;
use ha_core::replication::wire::{Action, Outcome};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Statx, fsync, mkdirat, openat, renameat, statx, syncfs, unlinkat,
};
use rustix::io::Errno;

use super::error::TreeError;
use super::intent::{Intent, IntentDirectory, WaitingTree};
use super::meta;
use super::sqlite;
use super::stage::Stage;
use super::trash::Trash;
use super::tree::{Cursor, Tree};

/// Up to this many directories are brought to disk one by one.
const FSYNC_EACH: usize = 64;

/// Why a switch stopped.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// A step failed.
    Failed(TreeError),
    /// We were asked to stop.
    Cancelled,
}

impl From<TreeError> for Stopped {
    fn from(error: TreeError) -> Stopped {
        Stopped::Failed(error)
    }
}

/// Does the steps of a promise, down to the disk; the promise stays. Each step happens as a whole or not at all; after an
/// error the rest is not done, and a further call does all of it.
pub(crate) fn carry_out(
    directory: &IntentDirectory,
    intent: &Intent,
    trees: &[Tree],
    trash: &mut Trash,
    cancelled: &dyn Fn() -> bool,
) -> Result<Outcome, Stopped> {
    let mut outcome = Outcome { number: intent.number, ..Outcome::default() };
    let mut switches: Vec<Switch> = directory.waiting(intent, trees)?.into_iter().map(Switch::new).collect();
    for switch in &switches {
        if let Some(stage) = &switch.to.stage {
            stage.release();
        }
    }
    for step in directory.steps(intent)? {
        if cancelled() {
            return Err(Stopped::Cancelled);
        }
        let (dataset, action) = step?;
        // the agent lets no other number in
        if let Some(switch) = switches.get_mut(usize::from(dataset)) {
            switch.perform(action, trash, &mut outcome)?;
        }
    }
    if !IntentDirectory::leaves_contents(intent) {
        switches.into_iter().try_for_each(Switch::finish)?;
    }
    Ok(outcome)
}

const SET_META: &str = "set owner, mode, times and attributes of";

/// The switch of one tree.
struct Switch {
    to: WaitingTree,
    /// Opened, and the tree made if need be, by the first step.
    open: Option<(OwnedFd, Cursor)>,
    /// Directories whose entries changed; a few more than are brought to disk one by one, at most.
    changed: BTreeSet<RelPath>,
    /// Metadata of the tree's own directory, set last of all.
    own: Option<Meta>,
}

impl Switch {
    fn new(to: WaitingTree) -> Switch {
        Switch { to, open: None, changed: BTreeSet::new(), own: None }
    }

    fn perform(&mut self, action: Action, trash: &mut Trash, outcome: &mut Outcome) -> Result<(), TreeError> {
        if !matches!(action, Action::SetMeta { .. }) && self.changed.len() <= FSYNC_EACH {
            self.changed.extend(action.path().parent());
        }
        let (doing, done) = match &action {
            Action::MakeDir { path } => ("make the directory", self.make_dir(path)),
            Action::Place { path } => ("rename a received file to", self.place(path, outcome)),
            Action::SetMeta { path, meta } => (SET_META, self.set_meta(path, meta)),
            Action::Link { path, to } => ("make the hard link", self.link(path, to)),
            Action::Symlink { path, target, meta } => {
                ("make the symbolic link", self.symlink(path, target, meta))
            }
            Action::Delete { path, directory } => ("delete", self.delete(path, *directory, trash, outcome)),
        };
        done.map_err(|error| self.to.tree.error(doing, action.path(), error))
    }

    fn cursor(&mut self) -> io::Result<&mut Cursor> {
        if self.open.is_none() {
            let (root, _) = self.to.tree.create().map_err(io::Error::other)?;
            if let Some(stage) = &mut self.to.stage {
                stage.settle();
            }
            self.open = Some((root.try_clone()?, Cursor::new(root)));
        }
        Ok(&mut self.open.as_mut().expect("it has just been opened").1)
    }

    fn make_dir(&mut self, path: &RelPath) -> io::Result<()> {
        let cursor = self.cursor()?;
        if path.is_root() {
            return Ok(());
        }
        let (dir, name) = cursor.parent(path)?;
        // open to its owner only until its metadata come, at the end
        match mkdirat(dir, name, Mode::RWXU) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) if is_dir(&look(dir, name)?) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn place(&mut self, path: &RelPath, outcome: &mut Outcome) -> io::Result<()> {
        let waiting = self.to.contents.get(path).copied();
        let waiting = waiting.ok_or_else(|| io::Error::other("it was never received"))?;
        let _old = self.retire(&waiting.name(), path)?;
        if self.to.stage.is_none() || !self.rename(&waiting.name(), path)? {
            let (dir, name) = self.cursor()?.parent(path)?;
            let placed = look(dir, name).is_ok_and(|stat| stat.stx_ino == waiting.inode);
            if !placed {
                return Err(io::Error::other("what was received for it is lost"));
            }
        }
        outcome.placed += 1;
        Ok(())
    }

    /// A database that is in its place and is about to be replaced goes as a whole, with what lies beside it.
    fn retire(&mut self, staged: &str, path: &RelPath) -> io::Result<Option<sqlite::Retired>> {
        // after an earlier attempt it is the new one that is there
        let waits = self.to.stage.as_ref().is_some_and(|stage| look(stage.dir(), staged.as_bytes()).is_ok());
        if !waits || self.to.tree.database_file() != Some(path) {
            return Ok(None);
        }
        self.cursor()?;
        sqlite::retire(&self.to.tree.path(path)?).map(Some)
    }

    /// Puts a staged entry in its place. `Ok(false)`: it is not in the stage (any more).
    fn rename(&mut self, staged: &str, path: &RelPath) -> io::Result<bool> {
        self.cursor()?;
        let (Some(stage), Some((_, cursor))) = (&self.to.stage, &mut self.open) else {
            return Err(io::Error::other("nothing was received"));
        };
        let (dir, name) = cursor.parent(path)?;
        match renameat(stage.dir(), staged, dir, name) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn set_meta(&mut self, path: &RelPath, meta: &Meta) -> io::Result<()> {
        let cursor = self.cursor()?;
        if path.is_root() {
            self.own = Some(meta.clone());
            return Ok(());
        }
        let (dir, name) = cursor.parent(path)?;
        // opened as a path: a file without read permission, or a pipe that took its place, is no trouble
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(dir, name, flags, Mode::empty())?;
        match FileType::from_raw_mode(meta::stat_fd(&fd)?.stx_mode.into()) {
            FileType::RegularFile | FileType::Directory => meta::apply_to_path(&fd, meta).map(drop),
            _ => Err(io::Error::other("it is no file or directory any more")),
        }
    }

    fn link(&mut self, path: &RelPath, to: &RelPath) -> io::Result<()> {
        let inode = |stat: Statx| (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino);
        let (dir, name) = self.cursor()?.parent(to)?;
        let wanted = inode(look(dir, name)?);
        let (dir, name) = self.cursor()?.parent(path)?;
        // a rename of one name of a file to another of its names would do nothing, and leave both
        if look(dir, name).is_ok_and(|stat| inode(stat) == wanted) {
            return Ok(());
        }
        self.stage()?;
        let (Some(stage), Some((_, cursor))) = (&mut self.to.stage, &mut self.open) else {
            return Err(io::Error::other("nothing is open"));
        };
        let (dir, name) = cursor.parent(to)?;
        let staged = stage.link(dir, name)?;
        self.rename(&staged, path).map(drop)
    }

    fn symlink(&mut self, path: &RelPath, target: &[u8], meta: &Meta) -> io::Result<()> {
        let staged = self.stage()?.symlink(target, meta)?;
        self.rename(&staged, path).map(drop)
    }

    /// The temporary directory; a new one when an earlier attempt had come so far that it removed it.
    fn stage(&mut self) -> io::Result<&mut Stage> {
        self.cursor()?;
        match &mut self.to.stage {
            Some(stage) => Ok(stage),
            empty => Ok(empty.insert(Stage::new(&self.to.tree).map_err(io::Error::other)?)),
        }
    }

    fn delete(
        &mut self,
        path: &RelPath,
        directory: bool,
        trash: &mut Trash,
        outcome: &mut Outcome,
    ) -> io::Result<()> {
        self.cursor()?;
        let Some((_, cursor)) = &mut self.open else { return Ok(()) };
        let (dir, name) = match cursor.parent(path) {
            Ok(found) => found,
            // gone, or become something else, with all that was in it
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        match look(dir, name) {
            // what is there came later, perhaps from an earlier attempt
            Ok(stat) if is_dir(&stat) != directory => return Ok(()),
            Ok(_) => {}
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
        if !directory {
            let taken = trash.take(&self.to.tree, cursor, path, &mut outcome.warnings)?;
            outcome.deleted += u64::from(taken);
            return Ok(());
        }
        match unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY) => {
                let shown = self.to.tree.display(path);
                outcome.warnings.push(format!("{shown} is kept: something was put there meanwhile"));
                Ok(())
            }
            result => Ok(result?),
        }
    }

    /// Brings the names to disk (the contents are there already), and clears up.
    fn finish(mut self) -> Result<(), TreeError> {
        self.sync()?;
        // removing our temporary directory changes the tree's time, so its own metadata come after that
        if let Some(stage) = self.to.stage.take() {
            stage.remove()?;
        }
        if let (Some((root, _)), Some(meta)) = (&self.open, &self.own) {
            let fail = |error: io::Error| self.to.tree.error(SET_META, &RelPath::root(), error);
            meta::apply(root, meta).map_err(fail)?;
            fsync(root).map_err(|error| fail(error.into()))?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), TreeError> {
        let Some((root, cursor)) = &mut self.open else { return Ok(()) };
        let fail = |error: io::Error| self.to.tree.error("bring to disk", &RelPath::root(), error);
        if self.changed.len() > FSYNC_EACH {
            return syncfs(root).map_err(|error| fail(error.into()));
        }
        for path in &self.changed {
            match cursor.directory(path) {
                Ok(dir) => fsync(dir).map_err(|error| fail(error.into()))?,
                // deleted itself since
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(fail(error)),
            }
        }
        Ok(())
    }
}

/// What `name` is; a link is not followed.
pub(super) fn look(dir: impl AsFd, name: &[u8]) -> io::Result<Statx> {
    Ok(statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, meta::MASK)?)
}

fn is_dir(stat: &Statx) -> bool {
    FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory
}

/// Whether there is nothing at a path, or something else than a directory on the way to it.
pub(super) fn is_absent(error: &io::Error) -> bool {
    let absent = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| absent.contains(&code))
}
