//! The near end reads a file while its owner may be writing it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ha_core::replication::manifest::Meta;
use ha_core::replication::path::RelPath;
use ha_core::replication::wire::{CHUNK, Frame};

use rustix::fs::Statx;
use std::io::Write;

use super::delta::{self, Basis, DeltaError, More, Piece};
use super::error::SyncError;
use super::link::Link;
use super::meta;
use super::scan::{meta_of, stamp};
use super::stage::open_regular;
use super::tree::{Cursor, Tree};

/// How often a file that changes while it is read is read again.
const ATTEMPTS: usize = 3;

/// A file that was written so lately is read only later: two writes within one tick of the kernel's clock (10 ms at most;
/// before Linux 6.13 a file's times are no finer) leave the same times, and the second one would never be seen.
const TICKS: Duration = Duration::from_millis(20);

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The far end has all of it.
    Whole,
    /// The same; it had the first bytes before.
    Rest,
    /// It was there no more.
    Vanished,
    /// It changed each time that it was read.
    Unsteady,
}

/// Where contents go.
pub(crate) struct Target<'a, S> {
    pub(crate) link: &'a mut Link<S>,
    pub(crate) generation: u64,
    pub(crate) dataset: u16,
    /// The largest file of the other end of which block digests are used.
    pub(crate) max_basis: u64,
}

/// What the far end has of a content since a replication that was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Of the source's file, when it was read.
    pub(crate) size: u64,
    /// What that had beside its content.
    pub(crate) meta: Meta,
    /// `None`: all of it, verified. Otherwise so many of its first bytes.
    pub(crate) part: Option<u64>,
}

impl Kept {
    /// Whether the file still is what was read, by size and metadata as `rsync` decides.
    pub(crate) fn is_of(&self, size: u64, meta: &Meta) -> bool {
        (self.size, &self.meta) == (size, meta)
    }
}

/// Sends the content of the file at `path`, as blocks that changed if `patch`, and not again what is `kept` of it.
pub(crate) fn send_file<S: Read + Write + AsFd>(
    target: &mut Target<'_, S>,
    tree: &Tree,
    cursor: &mut Cursor,
    path: &RelPath,
    patch: bool,
    mut kept: Option<&Kept>,
) -> Result<Sent, SyncError> {
    for _ in 0..ATTEMPTS {
        let fail = |error: io::Error| tree.error("read", path, error);
        let Some(mut file) = open_regular(cursor, path).map_err(fail)? else { return Ok(Sent::Vanished) };
        let before = meta::stat_fd(&file).map_err(|e| fail(e.into()))?;
        let own = meta_of(&file, &before).map_err(|e| fail(e.into()))?;
        let (generation, dataset) = (target.generation, target.dataset);
        let size = before.stx_size;
        // what changes once is of no use at the next attempt
        let part = kept.take().filter(|kept| kept.is_of(size, &own)).and_then(|kept| kept.part);
        std::thread::sleep(until_settled(&before, SystemTime::now()));
        target.link.send(&Frame::File { generation, dataset, path: path.clone(), size, meta: own })?;
        let mut reading = Reading { file: &mut file, hasher: blake3::Hasher::new(), left: size };
        let resumed = part.map_or(Ok(()), |length| target.resume(&mut reading, length));
        let read = resumed.and_then(|()| match patch {
            true => target.difference(&mut reading),
            false => target.chunks(&mut reading),
        });
        let digest = *reading.hasher.finalize().as_bytes();
        match read {
            Ok(()) => {}
            // shorter than it was: it changed, which is found below
            Err(SendError::Source(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(SendError::Source(error)) => return Err(fail(error).into()),
            Err(SendError::Far(error)) => return Err(error),
        }
        let after = meta::stat_fd(&file).map_err(|e| fail(e.into()))?;
        if stamp(&before) == stamp(&after) {
            target.link.send(&Frame::FileEnd { generation, digest })?;
            return Ok(if part.is_some() { Sent::Rest } else { Sent::Whole });
        }
        target.link.send(&Frame::Abandon { generation })?;
    }
    Ok(Sent::Unsteady)
}

/// How long until a later write leaves other times than `stat` has.
fn until_settled(stat: &Statx, now: SystemTime) -> Duration {
    let changed = u64::try_from(stat.stx_ctime.tv_sec).ok();
    let changed = changed.map(|seconds| UNIX_EPOCH + Duration::new(seconds, stat.stx_ctime.tv_nsec));
    // a time to come: the clock was set back, and no wait would help
    let age = changed.and_then(|changed| now.duration_since(changed).ok());
    age.map_or(Duration::ZERO, |age| TICKS.saturating_sub(age))
}

enum SendError {
    Source(io::Error),
    Far(SyncError),
}

impl From<SyncError> for SendError {
    fn from(error: SyncError) -> SendError {
        SendError::Far(error)
    }
}

impl From<DeltaError> for SendError {
    fn from(_: DeltaError) -> SendError {
        SendError::Far(SyncError::Unexpected { asked: ASKED })
    }
}

const ASKED: &str = "a request for block digests";

struct Reading<'a> {
    file: &'a mut File,
    hasher: blake3::Hasher,
    left: u64,
}

impl Reading<'_> {
    /// The next bytes, at most `limit`; empty at the end of what was announced.
    fn next(&mut self, limit: u64) -> Result<Vec<u8>, SendError> {
        let mut bytes = vec![0; limit.min(self.left) as usize];
        self.file.read_exact(&mut bytes).map_err(SendError::Source)?;
        self.hasher.update(&bytes);
        self.left -= bytes.len() as u64;
        Ok(bytes)
    }

    /// Leaves so many bytes out, but for the digest.
    fn pass_over(&mut self, length: u64) -> Result<(), SendError> {
        self.hasher.update_reader((&*self.file).take(length)).map_err(SendError::Source)?;
        if self.hasher.count() != length {
            return Err(SendError::Source(io::ErrorKind::UnexpectedEof.into()));
        }
        self.left -= length;
        Ok(())
    }
}

impl<S: Read + Write + AsFd> Target<'_, S> {
    /// Both ends read what the other end has already, at the same time.
    fn resume(&mut self, reading: &mut Reading<'_>, length: u64) -> Result<(), SendError> {
        self.link.send(&Frame::Resume { generation: self.generation, length })?;
        self.link.flush()?;
        reading.pass_over(length)
    }

    fn chunks(&mut self, reading: &mut Reading<'_>) -> Result<(), SendError> {
        while reading.left > 0 {
            let bytes = reading.next(CHUNK as u64)?;
            self.link.send(&Frame::Data { generation: self.generation, bytes })?;
        }
        Ok(())
    }

    /// Only what the other end does not have; all, when it has nothing.
    fn difference(&mut self, reading: &mut Reading<'_>) -> Result<(), SendError> {
        let (size, digests) = self.signature()?;
        if size == 0 || size > self.max_basis {
            return self.chunks(reading);
        }
        let basis = Basis::new(size, digests)?;
        let mut matcher = basis.matcher();
        while reading.left > 0 {
            let window = reading.next(basis.window())?;
            let more = if reading.left > 0 { More::Follows } else { More::Ends };
            matcher.next(&window, more, &mut |piece| self.piece(&piece))?;
        }
        Ok(())
    }

    fn signature(&mut self) -> Result<(u64, Vec<u8>), SendError> {
        let unexpected = || SendError::from(SyncError::Unexpected { asked: ASKED });
        let mut answer = self.link.ask(ASKED, &Frame::AskSignature)?;
        let mut digests = Vec::new();
        let (mut whole, mut received) = (None, 0);
        loop {
            let Frame::Signature { size, bytes, last } = answer else { return Err(unexpected()) };
            let length = delta::signature_length(size).unwrap_or(0);
            if bytes.is_empty() && !last {
                return Err(unexpected());
            }
            received += bytes.len() as u64;
            if *whole.get_or_insert(size) != size || received > length {
                return Err(unexpected());
            }
            // what will not be used is not kept
            if size <= self.max_basis {
                digests.extend(bytes);
            }
            if last {
                return Ok((size, digests));
            }
            answer = self.link.receive(ASKED)?;
        }
    }

    fn piece(&mut self, piece: &Piece<'_>) -> Result<(), SendError> {
        let generation = self.generation;
        match *piece {
            Piece::Copy { offset, length } => self.link.send(&Frame::Copy { generation, offset, length })?,
            Piece::Literal(bytes) => {
                for part in bytes.chunks(CHUNK) {
                    self.link.send(&Frame::Data { generation, bytes: part.to_vec() })?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_once_no_later_write_can_leave_the_times_that_it_has() {
        let (seconds, nanoseconds) = (1_800_000_000, 995_000_000);
        let mut stat = meta::stat_fd(tempfile::tempfile().unwrap()).unwrap();
        (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec) = (seconds, nanoseconds);
        let changed = UNIX_EPOCH + Duration::new(seconds as u64, nanoseconds);
        let millis = Duration::from_millis;
        for (age, wait) in [(0, 20), (5, 15), (19, 1), (20, 0), (5_000, 0)] {
            assert_eq!(until_settled(&stat, changed + millis(age)), millis(wait), "{age} ms old");
        }
        // the clock was set back, and no wait would help
        assert_eq!(until_settled(&stat, changed - millis(5)), Duration::ZERO);
        stat.stx_ctime.tv_sec = -1;
        assert_eq!(until_settled(&stat, changed), Duration::ZERO, "before 1970");
    }
}
