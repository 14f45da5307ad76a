//! One thing to do at one path.

use std::fmt;

use super::manifest::Meta;
use super::path::{RelPath, printable};

/// One thing to do at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make a directory. Its metadata follow at the end.
    MakeDir {
        /// Where.
        path: RelPath,
    },
    /// Replace or make a file with the source's content and metadata.
    Send {
        /// Which.
        path: RelPath,
        /// Bytes.
        size: u64,
    },
    /// The same, built from the blocks that the replica's file already has.
    Patch {
        /// Which.
        path: RelPath,
        /// Bytes of the result.
        size: u64,
    },
    /// Give a file or directory the source's owner, mode, times and extended attributes.
    SetMeta {
        /// Which.
        path: RelPath,
        /// To what.
        meta: Box<Meta>,
        /// Why.
        because: Because,
    },
    /// Make `path` another name of the file at `to`, which is in place by then.
    Link {
        /// The new name.
        path: RelPath,
        /// The file.
        to: RelPath,
    },
    /// Replace or make a symbolic link, with its owner and time.
    Symlink {
        /// Where.
        path: RelPath,
        /// Its text.
        target: Box<[u8]>,
        /// Its owner and time.
        meta: Box<Meta>,
    },
    /// Remove an entry; a directory is empty by then.
    Delete {
        /// Which.
        path: RelPath,
        /// Whether the replica loses a name, or only changes what the name is.
        because: Removal,
        /// Whether it is a directory.
        directory: bool,
    },
}

/// Why metadata are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// They differ.
    Differs,
    /// An earlier step made the directory or changed its time.
    Touched,
}

/// Why an entry is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// The source does not have it.
    Gone,
    /// It is in the way of an entry of another kind.
    InTheWay,
}

impl Step {
    /// The path that it changes.
    pub fn path(&self) -> &RelPath {
        match self {
            Step::MakeDir { path }
            | Step::Send { path, .. }
            | Step::Patch { path, .. }
            | Step::SetMeta { path, .. }
            | Step::Link { path, .. }
            | Step::Symlink { path, .. }
            | Step::Delete { path, .. } => path,
        }
    }
}

/// A line for `--dry-run`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::MakeDir { path } => write!(f, "make directory {path}"),
            Step::Send { path, size } => write!(f, "send {path} ({size} bytes)"),
            Step::Patch { path, size } => write!(f, "patch {path} ({size} bytes)"),
            Step::SetMeta { path, because: Because::Differs, .. } => {
                write!(f, "set owner, mode, times and attributes of {path}")
            }
            Step::SetMeta { path, because: Because::Touched, .. } => write!(f, "restore the times of {path}"),
            Step::Link { path, to } => write!(f, "link {path} to {to}"),
            Step::Symlink { path, target, .. } => write!(f, "link {path} -> {}", printable(target)),
            Step::Delete { path, directory: true, .. } => write!(f, "remove directory {path}"),
            Step::Delete { path, directory: false, because: Removal::Gone } => write!(f, "delete {path}"),
            Step::Delete { path, directory: false, because: Removal::InTheWay } => {
                write!(f, "delete {path} (its name becomes something else)")
            }
        }
    }
}
