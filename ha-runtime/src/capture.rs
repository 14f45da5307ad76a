//! What a command writes to its standard output and standard error.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::process::Stdio;

use rustix::fs::{MemfdFlags, OFlags, fcntl_setfl, memfd_create};

/// How much of a command's output is kept, from its end.
pub const OUTPUT_KEPT: usize = 16 * 1024;
/// Output above this is thrown away while the command runs, but for the part that is kept.
const OUTPUT_HELD: u64 = 1024 * 1024;

/// A command's output: a nameless file in memory.
///
/// Not a pipe: a service that the command starts inherits it, so its end would never come, and when the engine ended the
/// service would die of SIGPIPE. A file needs no reader, blocks nobody, and outlives the engine.
pub(crate) struct Capture {
    file: File,
    kept: Vec<u8>,
}

impl Capture {
    pub(crate) fn new() -> io::Result<Capture> {
        let file = memfd_create("pbx-ha-output", MemfdFlags::CLOEXEC)?;
        // appending: after a truncation writers go on at the new end
        fcntl_setfl(&file, OFlags::APPEND)?;
        Ok(Capture { file: file.into(), kept: Vec::new() })
    }

    /// One more end for writing.
    pub(crate) fn stdio(&self) -> io::Result<Stdio> {
        Ok(self.file.as_fd().try_clone_to_owned()?.into())
    }

    /// Keeps memory bounded while the command writes.
    pub(crate) fn trim(&mut self) {
        if self.file.metadata().is_ok_and(|meta| meta.len() > OUTPUT_HELD) {
            self.take();
        }
    }

    fn take(&mut self) {
        let Ok(length) = self.file.metadata().map(|meta| meta.len()) else { return };
        let start = length.saturating_sub(OUTPUT_KEPT as u64);
        let mut end = vec![0; OUTPUT_KEPT.min(length as usize)];
        if self.file.read_exact_at(&mut end, start).is_ok() {
            self.kept.extend_from_slice(&end);
            let surplus = self.kept.len().saturating_sub(OUTPUT_KEPT);
            self.kept.drain(..surplus);
        }
        // a failure only costs memory
        let _ = self.file.set_len(0);
    }

    /// The end of what was written so far.
    pub(crate) fn tail(&mut self) -> String {
        self.take();
        // the cut may have gone through a character
        let torn = self.kept.iter().take(3).take_while(|byte| *byte & 0xc0 == 0x80).count();
        String::from_utf8_lossy(&self.kept[torn..]).into_owned()
    }
}
