//! Notices that something was mounted inside a tree, or is no more: inotify does not tell.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::readlink;

/// The table of this process's mount namespace.
const TABLE: &str = "/proc/self/mountinfo";

/// Shows in `poll`, as an exceptional condition, that anything was mounted or unmounted since the last one.
#[derive(Debug)]
pub(super) struct MountTable(File);

impl MountTable {
    pub(super) fn open() -> io::Result<MountTable> {
        File::open(TABLE).map(MountTable)
    }
}

impl AsFd for MountTable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What is mounted below a directory: the table's lines, sorted.
pub(super) fn below(directory: impl AsFd) -> io::Result<Vec<Box<[u8]>>> {
    let link = format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd());
    let path = readlink(link, Vec::new())?;
    Ok(lines_below(&std::fs::read(TABLE)?, path.to_bytes()))
}

fn lines_below(table: &[u8], directory: &[u8]) -> Vec<Box<[u8]>> {
    let mut prefix = escaped(directory);
    if prefix.last() != Some(&b'/') {
        prefix.push(b'/');
    }
    let lies_below = |line: &&[u8]| {
        let point = line.split(|byte| *byte == b' ').nth(4).unwrap_or_default();
        point.len() > prefix.len() && point.starts_with(&prefix)
    };
    let mut lines: Vec<Box<[u8]>> =
        table.split(|byte| *byte == b'\n').filter(lies_below).map(Box::from).collect();
    lines.sort_unstable();
    lines
}

/// A path as the table writes it.
fn escaped(path: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(path.len());
    for byte in path {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => text.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
            other => text.push(*other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_below_counts() {
        let table = b"22 1 0:20 / / rw - ext4 /dev/vda rw\n\
            31 22 0:26 / /var/lib rw - tmpfs none rw\n\
            44 31 0:27 / /var/lib/a\\040b/sounds rw,nosuid master:3 - tmpfs none rw\n\
            33 31 0:28 / /var/lib/a\\040b/z rw - tmpfs none rw\n\
            45 31 0:27 / /var/lib/a\\040b rw - tmpfs none rw\n\
            46 31 0:27 / /var/lib/a\\040bc/d rw - tmpfs none rw\n";
        let numbers = |directory: &[u8]| -> Vec<String> {
            let lines = lines_below(table, directory);
            lines.iter().map(|line| String::from_utf8_lossy(&line[..2]).into_owned()).collect()
        };
        assert_eq!(numbers(b"/var/lib/a b"), ["33", "44"]);
        assert_eq!(numbers(b"/"), ["31", "33", "44", "45", "46"]);
        assert!(numbers(b"/srv").is_empty());
    }
}
