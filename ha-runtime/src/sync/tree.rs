//! A dataset's directory on this machine, and the only way into it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use ha_core::profile::Dataset;
use ha_core::replication::filter::Filter;
use ha_core::replication::path::{BadPath, RelPath, printable};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, mkdirat, openat, statx, unlinkat};
use rustix::io::Errno;

use super::error::TreeError;
use crate::root::Root;

/// Beginning of the names of our own temporary directories. They are never copied, and removed when found.
pub(crate) const STAGE_PREFIX: &[u8] = b".pbx-ha-stage-";

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A dataset's directory on this machine.
///
/// It is reached from the PBX's root one segment at a time, and no symbolic link is followed on the way: whoever may
/// write below `/var/lib` must not be able to make us read or write elsewhere.
#[derive(Debug, Clone)]
pub struct Tree {
    name: String,
    root: PathBuf,
    inside: RelPath,
    filter: Filter,
    /// The one file that takes part, if it is an SQLite database.
    database: Option<RelPath>,
}

impl Tree {
    /// The directory `absolute` of the PBX's layout, below `root`. Its name is `absolute`, on both nodes.
    pub fn new(root: &Root, absolute: &str, filter: Filter) -> Result<Tree, BadPath> {
        let inside = RelPath::new(absolute.trim_matches('/'))?;
        Ok(Tree {
            name: absolute.to_owned(),
            root: root.directory().to_owned(),
            inside,
            filter,
            database: None,
        })
    }

    /// The SQLite database at `absolute`: of its directory, this file alone takes part. Its name is `absolute`.
    pub fn database(root: &Root, absolute: &str, filter: Filter) -> Result<Tree, BadPath> {
        let file = RelPath::new(absolute.trim_matches('/'))?;
        let (inside, name) = (file.parent(), file.name().map(RelPath::new).transpose()?);
        let tree = Tree::new(root, absolute, filter)?;
        Ok(Tree { inside: inside.unwrap_or_else(RelPath::root), database: name, ..tree })
    }

    /// The database's file, if it is one.
    pub(crate) fn database_file(&self) -> Option<&RelPath> {
        self.database.as_ref()
    }

    /// The same dataset below another directory.
    pub(crate) fn elsewhere(&self, root: &Path) -> Tree {
        Tree { root: root.to_owned(), ..self.clone() }
    }

    /// The path on this machine, for a library that knows files by their path only. Below the root it may lead over links.
    pub(crate) fn path(&self, path: &RelPath) -> io::Result<PathBuf> {
        Ok(self.root.canonicalize()?.join(to_path(&self.inside)).join(to_path(path)))
    }

    /// The directory of a profile's dataset, with the rules that apply to it here.
    pub fn of(root: &Root, dataset: &Dataset, filter: Filter) -> Result<Tree, BadPath> {
        Tree::new(root, dataset.root, filter)
    }

    /// What both nodes call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What of it is copied.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Where it lies below the PBX's root.
    pub(crate) fn inside(&self) -> &RelPath {
        &self.inside
    }

    /// The path on this machine, to print.
    pub(crate) fn display(&self, path: &RelPath) -> String {
        let mut text = self.root.display().to_string();
        for part in [&self.inside, path].into_iter().filter(|part| !part.is_root()) {
            text.push_str(if text.ends_with('/') { "" } else { "/" });
            text.push_str(&printable(part.as_bytes()));
        }
        text
    }

    pub(crate) fn error(
        &self,
        doing: &'static str,
        path: &RelPath,
        source: impl Into<io::Error>,
    ) -> TreeError {
        TreeError { doing, path: self.display(path), source: source.into() }
    }

    /// The directory; `None`: there is none.
    pub(crate) fn open(&self) -> Result<Option<OwnedFd>, TreeError> {
        let mut here = open_root(&self.root)?;
        for segment in self.inside.segments() {
            here = match openat(&here, segment, DIRECTORY, Mode::empty()) {
                Ok(fd) => fd,
                Err(Errno::NOENT) => return Ok(None),
                Err(error) => return Err(self.not_a_directory(segment, error)),
            };
        }
        Ok(Some(here))
    }

    /// The directory, made when absent, with what is missing above it. Directories that exist are left as they are.
    ///
    /// Also says how many were made, the tree's own included.
    pub(crate) fn create(&self) -> Result<(OwnedFd, usize), TreeError> {
        let mut here = open_root(&self.root)?;
        let depth = self.inside.depth();
        let mut made = 0;
        for (index, segment) in self.inside.segments().enumerate() {
            // the tree's own mode comes with its metadata; until then nobody else looks in
            let mode = if index + 1 == depth { 0o700 } else { 0o755 };
            match mkdirat(&here, segment, Mode::from_raw_mode(mode)) {
                Ok(()) => made += 1,
                Err(Errno::EXIST) => {}
                Err(error) => return Err(self.error("make the directory", &RelPath::root(), error)),
            }
            here = openat(&here, segment, DIRECTORY, Mode::empty())
                .map_err(|error| self.not_a_directory(segment, error))?;
        }
        Ok((here, made))
    }

    /// Removes up to `count` directories that [`Tree::create`] made, innermost first, as far as they are empty.
    pub(crate) fn unmake(&self, count: usize) {
        let Ok(root) = open_root(&self.root) else { return };
        let mut way = Cursor::new(root);
        let mut path = self.inside.clone();
        for _ in 0..count {
            // a directory on the way may have become a link meanwhile, so never by its full name
            let Ok((parent, name)) = way.parent(&path) else { return };
            if unlinkat(parent, name, AtFlags::REMOVEDIR).is_err() {
                return;
            }
            let Some(above) = path.parent() else { return };
            path = above;
        }
    }

    fn not_a_directory(&self, segment: &[u8], error: Errno) -> TreeError {
        let source = match error {
            Errno::NOTDIR | Errno::LOOP => io::Error::other(format!(
                "\"{}\" is a symbolic link or no directory; links on the way to a dataset are not followed",
                printable(segment)
            )),
            other => other.into(),
        };
        self.error("open", &RelPath::root(), source)
    }
}

/// The root may itself be reached over links: the operator chose it.
fn open_root(root: &Path) -> Result<OwnedFd, TreeError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, root, flags, Mode::empty()).map_err(|error| TreeError {
        doing: "open",
        path: root.display().to_string(),
        source: error.into(),
    })
}

/// A relative path for the standard library.
pub(crate) fn to_path(path: &RelPath) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(path.as_bytes()))
}

/// Opens directories inside a tree, each from the one above, and remembers the last way taken.
#[derive(Debug)]
pub(crate) struct Cursor {
    root: OwnedFd,
    way: Vec<(Box<[u8]>, OwnedFd)>,
}

impl Cursor {
    pub(crate) fn new(root: OwnedFd) -> Cursor {
        Cursor { root, way: Vec::new() }
    }

    /// The directory at `path`.
    pub(crate) fn directory(&mut self, path: &RelPath) -> io::Result<BorrowedFd<'_>> {
        let common =
            path.segments().zip(&self.way).take_while(|(wanted, (name, _))| **wanted == **name).count();
        self.way.truncate(common);
        for segment in path.segments().skip(common) {
            let fd = openat(self.here(), segment, DIRECTORY, Mode::empty())?;
            self.way.push((segment.into(), fd));
        }
        Ok(self.here())
    }

    /// The directory that holds `path`, and its name there. The root itself is held by nothing inside the tree.
    pub(crate) fn parent<'a>(&mut self, path: &'a RelPath) -> io::Result<(BorrowedFd<'_>, &'a [u8])> {
        match (path.parent(), path.name()) {
            (Some(parent), Some(name)) => Ok((self.directory(&parent)?, name)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is the dataset's root")),
        }
    }

    /// What is at `path`, if there is anything. No link is followed.
    pub(crate) fn look(&mut self, path: &RelPath) -> io::Result<Option<FileType>> {
        let found = self
            .parent(path)
            .and_then(|(dir, name)| Ok(statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE)?));
        match found {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.stx_mode.into()))),
            // nothing, or something else than a directory on the way
            Err(error) if absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.way.last().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd())
    }
}

/// Whether an error says that there is nothing to be found that way.
pub(crate) fn absent(error: &io::Error) -> bool {
    let gone = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::NXIO].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| gone.contains(&code))
}
