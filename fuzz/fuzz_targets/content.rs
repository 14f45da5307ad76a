//! Files in memory, for what is done with open files.

use std::fs::File;
use std::io::Write;

use rustix::fs::{MemfdFlags, memfd_create};

/// An open file that holds `content`.
pub(crate) fn file(content: &[u8]) -> File {
    let mut file =
        File::from(memfd_create("fuzz", MemfdFlags::CLOEXEC).expect("a file in memory can be had"));
    file.write_all(content).expect("it can be written");
    file
}
