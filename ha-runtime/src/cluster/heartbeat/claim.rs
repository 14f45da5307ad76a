//! Whether Heartbeat gave the address to this node: a file that does not outlive the machine's memory, so that it holds for
//! whoever asks, also while no engine runs.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::durable::private_directory;
use crate::lock::LOCK_DIRECTORY;
use crate::root::Root;

/// That file. The unit of the package looks for it too, when the engine was killed.
#[derive(Debug, Clone)]
pub(crate) struct Claim(PathBuf);

impl Claim {
    pub(crate) fn of(root: &Root) -> Claim {
        Claim(root.path(LOCK_DIRECTORY).join("heartbeat-held"))
    }

    pub(crate) fn is_made(&self) -> bool {
        self.0.exists()
    }

    pub(crate) fn make(&self) -> io::Result<()> {
        self.0.parent().map_or(Ok(()), private_directory)?;
        File::create(&self.0).map(drop)
    }

    pub(crate) fn give_up(&self) -> io::Result<()> {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}
