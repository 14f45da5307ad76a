//! The one place where a path of the PBX's layout becomes a path of this machine.

use std::io;
use std::path::{Path, PathBuf};

/// Where programs are looked for, in this order, below the root.
const PROGRAM_DIRECTORIES: [&str; 6] =
    ["usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin"];

/// The directory that stands for `/`.
///
/// With another root than `/` the machine's own files and programs are never touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root(PathBuf);

impl Root {
    /// A root; relative paths are taken from the working directory.
    pub fn new(directory: impl AsRef<Path>) -> io::Result<Root> {
        Ok(Root(std::path::absolute(directory)?))
    }

    /// The directory itself.
    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// Whether this is the machine's own root.
    pub fn is_machine(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// The path on this machine of a path of the PBX's layout.
    pub fn path(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let path = absolute.as_ref();
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The program of that name below the root; `None`: it is not installed there.
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        if name.contains('/') {
            return Some(self.path(name)).filter(|path| path.is_file());
        }
        PROGRAM_DIRECTORIES.iter().map(|dir| self.0.join(dir).join(name)).find(|path| path.is_file())
    }

    /// `PATH` for a program that is started: the root's directories, then the machine's.
    pub fn search_path(&self) -> String {
        let below = PROGRAM_DIRECTORIES.iter().map(|dir| self.0.join(dir).display().to_string());
        let own = PROGRAM_DIRECTORIES.iter().map(|dir| format!("/{dir}"));
        if self.is_machine() { own.collect::<Vec<_>>() } else { below.chain(own).collect() }.join(":")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_lies_below_the_root() {
        let root = Root::new("/srv/pbx").unwrap();
        assert_eq!(root.path("/etc/xivo/ha.conf"), Path::new("/srv/pbx/etc/xivo/ha.conf"));
        assert!(!root.is_machine());
        assert!(Root::new("/").unwrap().is_machine());
    }
}
