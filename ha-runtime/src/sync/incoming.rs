//! A content on its way in, into a temporary file.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

use ha_core::replication::manifest::Meta;
use ha_core::replication::path::RelPath;
use ha_core::replication::wire::Content;

use super::delta;
use super::stage::open_regular;
use super::tree::Cursor;

/// Bytes that are copied at once from the present file.
const PIECE: u64 = 256 << 10;

/// Bytes of the longest file: the kernel takes what is beyond it for a mistake of ours.
const LONGEST: u64 = i64::MAX as u64;

/// A content on its way in.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) path: RelPath,
    number: u64,
    size: u64,
    meta: Meta,
    file: File,
    hasher: blake3::Hasher,
    written: u64,
    /// The present file, once its digests were asked for: what is copied comes from the file that they are of.
    base: Option<File>,
}

/// What a content on its way in can run into.
#[derive(Debug)]
pub(crate) enum ReceiveError {
    /// Here.
    Io(io::Error),
    /// There.
    Corrupt(String),
}

impl From<io::Error> for ReceiveError {
    fn from(error: io::Error) -> ReceiveError {
        ReceiveError::Io(error)
    }
}

impl Incoming {
    /// Into `file`, which is the one of that number where contents wait.
    pub(crate) fn new(path: RelPath, number: u64, size: u64, meta: Meta, file: File) -> Incoming {
        Incoming { path, number, size, meta, file, hasher: blake3::Hasher::new(), written: 0, base: None }
    }

    /// Goes on behind the first `length` bytes of `part`, the file of that number, in its place; nothing may be here yet.
    pub(crate) fn resume(&mut self, part: File, number: u64, length: u64) -> Result<(), ReceiveError> {
        self.announced(length)?;
        self.hasher.update_reader((&part).take(length))?;
        if length == 0 || self.written > 0 || self.hasher.count() != length {
            return Err(ReceiveError::Corrupt(format!("{length} bytes of it do not wait here")));
        }
        // what is behind them is not verified by anybody
        part.set_len(length)?;
        (self.file, self.number, self.written) = (part, number, length);
        Ok(())
    }

    /// Size and block digests of the present file; size 0 when there is nothing to build on.
    pub(crate) fn signature(&mut self, present: &mut Cursor) -> io::Result<(u64, Vec<u8>)> {
        self.base = open_regular(present, &self.path)?;
        self.base.as_ref().map_or(Ok((0, Vec::new())), delta::signature)
    }

    /// Appends plain bytes.
    pub(crate) fn data(&mut self, bytes: &[u8]) -> Result<(), ReceiveError> {
        self.announced(bytes.len() as u64)?;
        Ok(self.append(bytes)?)
    }

    /// Appends bytes of the present file.
    pub(crate) fn copy(&mut self, offset: u64, length: u64) -> Result<(), ReceiveError> {
        self.announced(length)?;
        let beyond = || {
            let file = "the present file does not have";
            ReceiveError::Corrupt(format!(
                "{length} bytes from byte {offset} on are to be kept, which {file}"
            ))
        };
        let end =
            offset.checked_add(length).filter(|end| length > 0 && *end <= LONGEST).ok_or_else(beyond)?;
        let mut bytes = vec![0; length.min(PIECE) as usize];
        let mut at = offset;
        while at < end {
            let piece = &mut bytes[..(end - at).min(PIECE) as usize];
            match self.base.as_ref().ok_or_else(beyond)?.read_exact_at(piece, at) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(beyond()),
                Err(error) => return Err(error.into()),
            }
            at += piece.len() as u64;
            self.append(piece)?;
        }
        Ok(())
    }

    /// Whether all of it is here, and is what was read at the other end.
    pub(crate) fn verify(&self, digest: [u8; 32]) -> Result<(), ReceiveError> {
        if self.written != self.size {
            let (got, size) = (self.written, self.size);
            return Err(ReceiveError::Corrupt(format!("{got} of {size} bytes arrived")));
        }
        if self.hasher.finalize() != digest {
            return Err(ReceiveError::Corrupt("its digest is not the source's".to_owned()));
        }
        Ok(())
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn meta(&self) -> &Meta {
        &self.meta
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// How much of it is here.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// How it is listed: `None`, once it is verified; until then, how much of it is here.
    pub(crate) fn content(&self, dataset: u16, part: Option<u64>) -> Content {
        Content { dataset, path: self.path.clone(), size: self.size, meta: self.meta.clone(), part }
    }

    fn announced(&self, more: u64) -> Result<(), ReceiveError> {
        if more > self.size - self.written {
            let size = self.size;
            return Err(ReceiveError::Corrupt(format!("more than the announced {size} bytes arrived")));
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.file.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_beyond_four_gigabytes_are_copied_from_where_they_are() {
        let base = tempfile::tempfile().unwrap();
        let (begin, end) = (5 << 30, (5 << 30) + PIECE + 3);
        // holes but for the end
        let bytes: Vec<u8> = (begin..end).map(|at| (at % 251) as u8).collect();
        base.write_all_at(&bytes, begin).unwrap();
        let path = RelPath::new("f").unwrap();
        let file = tempfile::tempfile().unwrap();
        let mut incoming = Incoming::new(path, 1, u64::MAX, Meta::default(), file);
        incoming.base = Some(base);
        incoming.copy(begin, end - begin).unwrap();
        let mut made = vec![0; bytes.len()];
        incoming.file().read_exact_at(&mut made, 0).unwrap();
        assert!(made == bytes);
        assert!(matches!(incoming.copy(end - 1, 2), Err(ReceiveError::Corrupt(_))));
    }
}
