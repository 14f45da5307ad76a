//! The commit: what was received and listed is done, in the order of the list.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;

use ha_core::replication::manifest::Meta;
use ha_core::replication::path::RelPath;
use ha_core::replication::wire::{Action, Outcome};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, fsync, mkdirat, openat, renameat, statx, syncfs, unlinkat,
};
use rustix::io::Errno;

use super::error::TreeError;
use super::meta;
use super::stage::Stage;
use super::trash::Trash;
use super::tree::{Cursor, Tree};

/// Up to this many directories are brought to disk one by one.
const FSYNC_EACH: usize = 64;

/// Why a commit stopped.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// A step failed.
    Failed(TreeError),
    /// We were asked to stop.
    Cancelled,
}

/// Does `actions` in one tree. Each either happens as a whole or not at all; after an error the rest is not done, and a
/// further run continues from there.
pub(crate) fn commit(
    tree: &Tree,
    stage: Option<Stage>,
    actions: Vec<Action>,
    trash: &mut Trash,
    cancelled: &dyn Fn() -> bool,
    outcome: &mut Outcome,
) -> Result<(), Stopped> {
    if actions.is_empty() {
        return Ok(());
    }
    let (root, _) = tree.create().map_err(Stopped::Failed)?;
    let mut commit = Commit {
        tree,
        stage: Staging(stage),
        cursor: Cursor::new(
            root.try_clone().map_err(|e| Stopped::Failed(tree.error("open", &RelPath::root(), e)))?,
        ),
        trash,
        outcome,
        changed: BTreeSet::new(),
        own: None,
    };
    if let Some(stage) = &mut commit.stage.0 {
        stage.settle();
    }
    for action in actions {
        if cancelled() {
            return Err(Stopped::Cancelled);
        }
        commit.perform(action).map_err(Stopped::Failed)?;
    }
    commit.sync(&root).map_err(Stopped::Failed)?;
    let own = commit.own.take();
    // removing our temporary directory changes the tree's time, so its own metadata come after that
    drop(commit);
    if let Some(meta) = own {
        let fail = |error| Stopped::Failed(tree.error(SET_META, &RelPath::root(), error));
        meta::apply(&root, &meta).map_err(fail)?;
    }
    Ok(())
}

const SET_META: &str = "set owner, mode, times and attributes of";

/// The temporary directory; made when the first step needs it, if no content did.
struct Staging(Option<Stage>);

impl Staging {
    fn staged(&mut self, tree: &Tree) -> io::Result<&mut Stage> {
        match &mut self.0 {
            Some(stage) => Ok(stage),
            empty => Ok(empty.insert(Stage::new(tree).map_err(io::Error::other)?)),
        }
    }
}

struct Commit<'a> {
    tree: &'a Tree,
    stage: Staging,
    cursor: Cursor,
    trash: &'a mut Trash,
    outcome: &'a mut Outcome,
    /// Directories whose entries changed.
    changed: BTreeSet<RelPath>,
    /// Metadata of the tree's own directory, set last of all.
    own: Option<Meta>,
}

impl Commit<'_> {
    fn perform(&mut self, action: Action) -> Result<(), TreeError> {
        if !matches!(action, Action::SetMeta { .. }) {
            self.changed.extend(action.path().parent());
        }
        match action {
            Action::MakeDir { path } if path.is_root() => Ok(()),
            Action::MakeDir { path } => {
                self.make_dir(&path).map_err(|e| self.tree.error("make the directory", &path, e))
            }
            Action::Place { path } => {
                self.place(&path).map_err(|e| self.tree.error("rename a received file to", &path, e))
            }
            Action::SetMeta { path, meta } if path.is_root() => {
                self.own = Some(meta);
                Ok(())
            }
            Action::SetMeta { path, meta } => {
                self.set_meta(&path, &meta).map_err(|e| self.tree.error(SET_META, &path, e))
            }
            Action::Link { path, to } => {
                self.link(&path, &to).map_err(|e| self.tree.error("make the hard link", &path, e))
            }
            Action::Symlink { path, target, meta } => self
                .symlink(&path, &target, &meta)
                .map_err(|e| self.tree.error("make the symbolic link", &path, e)),
            Action::Delete { path } => self.delete(&path).map_err(|e| self.tree.error("delete", &path, e)),
        }
    }

    fn make_dir(&mut self, path: &RelPath) -> io::Result<()> {
        let (dir, name) = self.cursor.parent(path)?;
        // open to its owner only until its metadata come, at the end
        match mkdirat(dir, name, Mode::RWXU) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => {
                let stat = statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, meta::MASK)?;
                let is_dir = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory;
                if is_dir { Ok(()) } else { Err(Errno::EXIST.into()) }
            }
            Err(error) => Err(error.into()),
        }
    }

    fn place(&mut self, path: &RelPath) -> io::Result<()> {
        let name = self.stage.0.as_ref().and_then(|stage| stage.name_of(path));
        let name = name.ok_or_else(|| io::Error::other("it was never received"))?;
        self.rename(&name, path)?;
        self.outcome.placed += 1;
        Ok(())
    }

    fn rename(&mut self, staged: &str, path: &RelPath) -> io::Result<()> {
        let stage = self.stage.0.as_ref().ok_or_else(|| io::Error::other("nothing was received"))?;
        let (dir, name) = self.cursor.parent(path)?;
        renameat(stage.dir(), staged, dir, name).map_err(|error| match error {
            Errno::XDEV => io::Error::other(
                "another file system is mounted inside the dataset: make that directory a dataset of its own, or exclude it",
            ),
            other => other.into(),
        })
    }

    fn set_meta(&mut self, path: &RelPath, meta: &Meta) -> io::Result<()> {
        let (dir, name) = self.cursor.parent(path)?;
        // opened as a path: a file without read permission, or a pipe that took its place, is no trouble
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(dir, name, flags, Mode::empty())?;
        match FileType::from_raw_mode(meta::stat_fd(&fd)?.stx_mode.into()) {
            FileType::RegularFile | FileType::Directory => meta::apply(&fd, meta),
            _ => Err(io::Error::other("it is no file or directory any more")),
        }
    }

    fn link(&mut self, path: &RelPath, to: &RelPath) -> io::Result<()> {
        let stage = self.stage.staged(self.tree)?;
        let (dir, name) = self.cursor.parent(to)?;
        let staged = stage.link(dir, name)?;
        self.rename(&staged, path)
    }

    fn symlink(&mut self, path: &RelPath, target: &[u8], meta: &Meta) -> io::Result<()> {
        let staged = self.stage.staged(self.tree)?.symlink(target, meta)?;
        self.rename(&staged, path)
    }

    fn delete(&mut self, path: &RelPath) -> io::Result<()> {
        let (dir, name) = self.cursor.parent(path)?;
        let is_dir = match statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, meta::MASK) {
            Ok(stat) => FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if !is_dir {
            let taken = self.trash.take(self.tree, &mut self.cursor, path, &mut self.outcome.warnings)?;
            self.outcome.deleted += u64::from(taken);
            return Ok(());
        }
        match unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY) => {
                let shown = self.tree.display(path);
                self.outcome.warnings.push(format!("{shown} is kept: something was put there meanwhile"));
                Ok(())
            }
            result => Ok(result?),
        }
    }

    /// Brings the names to disk; the contents are there already.
    fn sync(&mut self, root: impl AsFd) -> Result<(), TreeError> {
        let fail = |error: io::Error| self.tree.error("bring to disk", &RelPath::root(), error);
        if self.changed.len() > FSYNC_EACH {
            return syncfs(root).map_err(|error| fail(error.into()));
        }
        for path in &self.changed {
            match self.cursor.directory(path) {
                Ok(dir) => fsync(dir).map_err(|error| fail(error.into()))?,
                // deleted itself since
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
                Err(error) => return Err(fail(error)),
            }
        }
        Ok(())
    }
}
