//! Files whose length and digest are written down elsewhere.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Length and digest of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seal {
    pub(super) bytes: u64,
    digest: String,
}

impl Seal {
    /// Opens the file if it is what was sealed.
    pub(super) fn check(&self, path: &Path) -> io::Result<File> {
        if self.bytes == 0 {
            return File::open("/dev/null");
        }
        let mut file = File::open(path)?;
        let mut hasher = blake3::Hasher::new();
        io::copy(&mut (&file).take(self.bytes), &mut hasher)?;
        if hasher.finalize().to_hex().as_str() != self.digest {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "torn or altered; its digest does not fit",
            ));
        }
        file.rewind()?;
        Ok(file)
    }
}

/// A file that is appended to and digested meanwhile.
#[derive(Debug)]
pub(super) struct Sealing {
    file: File,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Sealing {
    pub(super) fn new(file: File) -> Sealing {
        Sealing { file, hasher: blake3::Hasher::new(), bytes: 0 }
    }

    /// The same for a file that has something in it already; what is appended follows it.
    pub(super) fn again(mut file: File) -> io::Result<Sealing> {
        file.rewind()?;
        let mut hasher = blake3::Hasher::new();
        let bytes = io::copy(&mut file, &mut hasher)?;
        Ok(Sealing { file, hasher, bytes })
    }

    pub(super) fn seal(&self) -> io::Result<Seal> {
        // of nothing, nothing can be lost
        if self.bytes > 0 {
            self.file.sync_all()?;
        }
        Ok(Seal { bytes: self.bytes, digest: self.hasher.finalize().to_hex().to_string() })
    }
}

impl Write for Sealing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
