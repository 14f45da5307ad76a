//! What of a file is already at the other end, wherever it moved: block digests and matching by `fast_rsync`, behind checks.
//!
//! Whoever uses a rebuilt content compares its strong digest first: the block digests (MD4) prove nothing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use fast_rsync::{IndexedSignature, Signature, SignatureOptions};
use thiserror::Error;

/// Bytes that are matched at once: some of the longest blocks.
pub(crate) const WINDOW: u64 = 4 << 20;

/// Bytes of block digests at most; a longer file (more than a terabyte) is sent whole.
const MAX_SIGNATURE: u64 = 16 << 20;

/// Bytes of a block, least and most. Version 0.2.0 of the library divides by it.
const BLOCK: std::ops::RangeInclusive<u64> = 512..=1 << 20;
/// Bytes of each block's MD4 digest that are told: with the 4 of its rolling checksum, one false match in 2^96 tries.
const HASH: usize = 8;
/// Bytes that stand for one block.
const RECORD: usize = 4 + HASH;
/// Bytes before the first: the library's mark, block size, length of a digest.
const HEADER: usize = 12;

/// A peer's block digests are not usable. Nothing was done with them.
#[derive(Debug, Error)]
pub(crate) enum DeltaError {
    /// Not as many as the file has blocks, or of other blocks than both nodes agree on.
    #[error("the digests do not belong to a file of {size} bytes")]
    Mismatch { size: u64 },
    /// The library refuses them, or its own difference is not of its format.
    #[error("the digests are of another kind")]
    Format,
    #[error("{0}")]
    Diff(#[from] fast_rsync::DiffError),
}

/// Bytes of the blocks of a file with `size` bytes: both nodes know it, neither is told.
///
/// A changed byte costs a block, and each block its record, so the sum is least near this root.
fn block(size: u64) -> u64 {
    let best = size.saturating_mul(RECORD as u64).isqrt();
    best.next_multiple_of(64).clamp(*BLOCK.start(), *BLOCK.end())
}

/// Bytes of the digests of a file with `size` bytes; `None`: there are none of such a file.
pub(crate) fn signature_length(size: u64) -> Option<u64> {
    let length = HEADER as u64 + size.div_ceil(block(size)).saturating_mul(RECORD as u64);
    (size > 0 && length <= MAX_SIGNATURE).then_some(length)
}

/// The digests of all blocks of a file, and its size; 0: there is nothing to build on.
pub(crate) fn signature(file: &File) -> io::Result<(u64, Vec<u8>)> {
    let size = file.metadata()?.len();
    let Some(length) = signature_length(size) else { return Ok((0, Vec::new())) };
    let block = block(size);
    let options = SignatureOptions { block_size: block as u32, crypto_hash_size: HASH as u32 };
    let mut all = Vec::with_capacity(length as usize);
    let mut piece = vec![0; (block * (WINDOW / block)) as usize];
    let mut at = 0;
    while at < size {
        let part = &mut piece[..(size - at).min(WINDOW / block * block) as usize];
        match file.read_exact_at(part, at) {
            Ok(()) => {}
            // it is being written: what is told must be of one state
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok((0, Vec::new())),
            Err(error) => return Err(error),
        }
        let blocks = Signature::calculate(part, options).into_serialized();
        all.extend_from_slice(if at == 0 { &blocks } else { &blocks[HEADER..] });
        at += part.len() as u64;
    }
    Ok((size, all))
}

/// What the other end has of a file.
#[derive(Debug)]
pub(crate) struct Basis {
    signature: Signature,
    size: u64,
    block: u64,
    /// Of the last block, which may be shorter than the others.
    last: [u8; RECORD],
}

/// A part of the new content.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Bytes that the other end has.
    Copy { offset: u64, length: u64 },
    /// Bytes that it has not.
    Literal(&'a [u8]),
}

impl Basis {
    /// Digests as a peer told them for its file of `size` bytes.
    pub(crate) fn new(size: u64, digests: Vec<u8>) -> Result<Basis, DeltaError> {
        let mismatch = || DeltaError::Mismatch { size };
        if signature_length(size) != Some(digests.len() as u64) {
            return Err(mismatch());
        }
        let block = block(size);
        let agreed = [(block as u32).to_be_bytes(), (HASH as u32).to_be_bytes()].concat();
        if digests[4..HEADER] != agreed {
            return Err(mismatch());
        }
        let last = *digests.last_chunk().ok_or_else(mismatch)?;
        let signature = Signature::deserialize(digests).map_err(|_| DeltaError::Format)?;
        Ok(Basis { signature, size, block, last })
    }

    /// Begins a comparison.
    pub(crate) fn matcher(&self) -> Matcher<'_> {
        Matcher { basis: self, index: self.signature.index(), buffer: Vec::new() }
    }
}

/// Finds blocks in a content that comes window by window.
#[derive(Debug)]
pub(crate) struct Matcher<'a> {
    basis: &'a Basis,
    index: IndexedSignature<'a>,
    /// The end of what came last, in which a block may begin; then what comes.
    buffer: Vec<u8>,
}

/// Whether more of the content follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum More {
    Follows,
    Ends,
}

impl Matcher<'_> {
    /// Takes the next window and passes on the pieces that are certain by now, in their order.
    pub(crate) fn next<E: From<DeltaError>>(
        &mut self,
        window: &[u8],
        more: More,
        emit: &mut dyn FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.extend_from_slice(window);
        let mut delta = Vec::new();
        fast_rsync::diff(&self.index, &buffer, &mut delta).map_err(DeltaError::from)?;
        let mut rest = delta.get(4..).ok_or(DeltaError::Format)?;
        let mut held = 0;
        while let Some(piece) = next_piece(&mut rest).ok_or(DeltaError::Format)? {
            let ends = rest == [END];
            match piece {
                Piece::Literal(bytes) if ends && more == More::Follows => {
                    held = bytes.len().min(self.basis.block as usize - 1);
                    emit_literal(&bytes[..bytes.len() - held], emit)?;
                }
                Piece::Literal(bytes) if ends => self.end(bytes, emit)?,
                Piece::Literal(_) | Piece::Copy { .. } => emit(piece)?,
            }
        }
        buffer.drain(..buffer.len() - held);
        self.buffer = buffer;
        Ok(())
    }

    /// The end of the content: the library does not look for a last block that is shorter than the others.
    fn end<E>(&self, bytes: &[u8], emit: &mut dyn FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), E> {
        let length = self.basis.size % self.basis.block;
        let at = bytes.len().checked_sub(length as usize).filter(|_| length > 0);
        let is_last = |at: &usize| {
            let options = SignatureOptions { block_size: length as u32, crypto_hash_size: HASH as u32 };
            Signature::calculate(&bytes[*at..], options).serialized().get(HEADER..) == Some(&self.basis.last)
        };
        match at.filter(is_last) {
            Some(at) => {
                emit_literal(&bytes[..at], emit)?;
                emit(Piece::Copy { offset: self.basis.size - length, length })
            }
            None => emit_literal(bytes, emit),
        }
    }
}

fn emit_literal<E>(bytes: &[u8], emit: &mut dyn FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), E> {
    if bytes.is_empty() { Ok(()) } else { emit(Piece::Literal(bytes)) }
}

/// The last command of a difference in rsync's format.
const END: u8 = 0;

/// The next command of a difference that the library made; `Some(None)`: it ends here.
fn next_piece<'a>(rest: &mut &'a [u8]) -> Option<Option<Piece<'a>>> {
    let (command, tail) = rest.split_first()?;
    *rest = tail;
    // lengths take 1, 2, 4 or 8 bytes
    let mut number = |class: u8| {
        let (bytes, tail) = rest.split_at_checked(1 << class)?;
        *rest = tail;
        Some(bytes.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte)))
    };
    let length = match command {
        &END => return Some(None),
        1..=0x40 => u64::from(*command),
        0x41..=0x44 => number(command - 0x41)?,
        0x45..=0x54 => {
            let (offset, length) = ((command - 0x45) / 4, (command - 0x45) % 4);
            return Some(Some(Piece::Copy { offset: number(offset)?, length: number(length)? }));
        }
        _ => return None,
    };
    let (bytes, tail) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = tail;
    Some(Some(Piece::Literal(bytes)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    /// The pieces that turn `base` into `data`, which comes in windows; checked to rebuild it.
    fn pieces(base: &[u8], data: &[u8], window: usize) -> (usize, Vec<(u64, u64)>) {
        let (size, digests) = signature(&file(base)).unwrap();
        assert_eq!(size, base.len() as u64);
        let basis = Basis::new(size, digests).unwrap();
        let mut matcher = basis.matcher();
        let (mut rebuilt, mut literal, mut copies) = (Vec::new(), 0, Vec::new());
        let mut windows = data.chunks(window).peekable();
        while let Some(window) = windows.next() {
            let more = if windows.peek().is_some() { More::Follows } else { More::Ends };
            let mut emit = |piece: Piece<'_>| {
                match piece {
                    Piece::Copy { offset, length } => {
                        rebuilt.extend_from_slice(&base[offset as usize..][..length as usize]);
                        copies.push((offset, length));
                    }
                    Piece::Literal(bytes) => {
                        rebuilt.extend_from_slice(bytes);
                        literal += bytes.len();
                    }
                }
                Ok::<_, DeltaError>(())
            };
            matcher.next(window, more, &mut emit).unwrap();
        }
        assert!(rebuilt == data);
        (literal, copies)
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1u64;
        let next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        std::iter::repeat_with(next).take(length).collect()
    }

    #[test]
    fn what_moved_is_found_wherever_it_went() {
        let base = noise(3_000_123);
        let block = block(base.len() as u64) as usize;
        for at in [0, 1, 1_234_567, base.len()] {
            let inserted = [&base[..at], b"xy", &base[at..]].concat();
            assert!(pieces(&base, &inserted, 100_000).0 <= block + 2, "at {at}");
            let removed = [&base[..at], &base[(at + 2).min(base.len())..]].concat();
            assert!(pieces(&base, &removed, 100_000).0 <= block, "at {at}");
        }
        let swapped = [&base[2_000_000..], &base[..2_000_000]].concat();
        assert!(pieces(&base, &swapped, 100_000).0 <= 3 * block);
        let (literal, copies) = pieces(&base, &base, WINDOW as usize);
        let whole = (base.len() / block * block) as u64;
        assert_eq!((literal, copies), (0, vec![(0, whole), (whole, base.len() as u64 - whole)]));
    }

    #[test]
    fn two_bytes_in_ten_megabytes_cost_less_than_with_rsync() {
        for size in [10_000_000, 10 << 20] {
            let base = noise(size);
            let data = [&base[..size / 3], b"xy", &base[size / 3..]].concat();
            let (literal, copies) = pieces(&base, &data, WINDOW as usize);
            let told = signature_length(size as u64).unwrap() as usize;
            assert!(told + literal + 30 * copies.len() < 24_000, "{told} + {literal}, {copies:?}");
        }
    }

    #[test]
    fn digests_of_a_long_file_stay_short() {
        assert_eq!(signature_length(0), None);
        assert_eq!(signature_length(1), Some(24));
        assert!(signature_length(4 << 30).unwrap() < 300_000);
        assert!(signature_length(1 << 40).unwrap() <= 12 + (12 << 20));
        assert_eq!(signature_length(2 << 40), None);
        assert_eq!(signature_length(u64::MAX), None);
        assert_eq!(WINDOW % BLOCK.end(), 0, "a window holds whole blocks of the longest kind");
    }

    #[test]
    fn digests_that_would_crash_the_library_are_refused() {
        let (size, good) = signature(&file(&noise(50_000))).unwrap();
        assert!(Basis::new(size, good.clone()).is_ok());
        for (at, value) in
            [(4, 0u32), (4, 1), (4, 511), (4, u32::MAX), (8, 0), (8, 7), (8, 17), (8, u32::MAX)]
        {
            let mut bad = good.clone();
            bad[at..at + 4].copy_from_slice(&value.to_be_bytes());
            assert!(matches!(Basis::new(size, bad), Err(DeltaError::Mismatch { .. })), "{at} {value}");
        }
        for length in [0, 3, 11, 12, good.len() - 1, good.len() - RECORD] {
            assert!(Basis::new(size, good[..length].to_vec()).is_err(), "{length}");
        }
        for size in [0, size / 2, size * 2, u64::MAX] {
            assert!(Basis::new(size, good.clone()).is_err(), "{size}");
        }
        let mut other = good;
        other[0] ^= 1;
        assert!(matches!(Basis::new(size, other), Err(DeltaError::Format)));
    }

    proptest! {
        #[test]
        fn the_pieces_rebuild_the_data_however_it_is_cut(
            base in proptest::collection::vec(0..3u8, 1..6000), cut in 0..6000usize, again in 0..6000usize,
            insert in proptest::collection::vec(any::<u8>(), 0..50), window in 1..3000usize,
        ) {
            let (cut, again) = (cut.min(base.len()), again.min(base.len()));
            pieces(&base, &[&base[..cut], &insert, &base[cut..], &base[again..]].concat(), window);
        }

        #[test]
        fn digests_that_are_garbage_are_refused_or_harmless(
            size in 1..9000u64, mut bytes in proptest::collection::vec(any::<u8>(), 0..300), data in proptest::collection::vec(0..2u8, 0..3000),
        ) {
            if let Some(length) = signature_length(size) {
                bytes.resize(length as usize, 7);
                let good = signature(&file(&vec![0; size as usize])).unwrap().1;
                bytes[..HEADER].copy_from_slice(&good[..HEADER]);
                let basis = Basis::new(size, bytes).unwrap();
                let mut emitted = 0;
                let mut emit = |piece: Piece<'_>| {
                    emitted += match piece {
                        Piece::Copy { length, .. } => length,
                        Piece::Literal(bytes) => bytes.len() as u64,
                    };
                    Ok::<_, DeltaError>(())
                };
                basis.matcher().next(&data, More::Ends, &mut emit).unwrap();
                prop_assert_eq!(emitted, data.len() as u64);
            }
        }
    }
}
