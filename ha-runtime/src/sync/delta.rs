//! What of a file is already at the other end, wherever it moved: block digests and matching by `fast_rsync`, behind checks.
//!
//! Whoever uses a rebuilt content compares its strong digest first: the block digests (MD4) prove nothing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use fast_rsync::{IndexedSignature, Signature, SignatureOptions};
use thiserror::Error;

/// Bytes that are read at once, or four blocks.
const WINDOW: u64 = 256 << 10;

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

/// Bytes that are read at once: whole blocks.
fn window(block: u64) -> u64 {
    WINDOW.max(4 * block) / block * block
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
    let mut piece = vec![0; window(block) as usize];
    let mut at = 0;
    while at < size {
        let part = &mut piece[..(size - at).min(window(block)) as usize];
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

    /// Bytes of the new content that are best matched at once.
    pub(crate) fn window(&self) -> u64 {
        window(self.block)
    }

    /// Begins a comparison.
    pub(crate) fn matcher(&self) -> Matcher<'_> {
        Matcher { basis: self, index: self.signature.index(), buffer: Vec::new(), copies: Copies::default() }
    }
}

/// Finds blocks in a content that comes window by window.
#[derive(Debug)]
pub(crate) struct Matcher<'a> {
    basis: &'a Basis,
    index: IndexedSignature<'a>,
    /// The end of what came last, in which a block may begin; then what comes.
    buffer: Vec<u8>,
    copies: Copies,
}

/// Copies that follow each other at both ends are one, also across windows.
#[derive(Debug, Default)]
struct Copies(Option<(u64, u64)>);

/// Where pieces go.
type Emit<'e, E> = &'e mut dyn FnMut(Piece<'_>) -> Result<(), E>;

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
        emit: Emit<'_, E>,
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
                    self.copies.then(Piece::Literal(&bytes[..bytes.len() - held]), emit)?;
                }
                Piece::Literal(bytes) if ends => self.end(bytes, emit)?,
                Piece::Literal(_) | Piece::Copy { .. } => self.copies.then(piece, emit)?,
            }
        }
        if more == More::Ends {
            self.copies.flush(emit)?;
        }
        buffer.drain(..buffer.len() - held);
        self.buffer = buffer;
        Ok(())
    }

    /// The end of the content: the library does not look for a last block that is shorter than the others.
    fn end<E>(&mut self, bytes: &[u8], emit: Emit<'_, E>) -> Result<(), E> {
        let length = self.basis.size % self.basis.block;
        let at = bytes.len().checked_sub(length as usize).filter(|_| length > 0);
        let is_last = |at: &usize| {
            let options = SignatureOptions { block_size: length as u32, crypto_hash_size: HASH as u32 };
            Signature::calculate(&bytes[*at..], options).serialized().get(HEADER..) == Some(&self.basis.last)
        };
        match at.filter(is_last) {
            Some(at) => {
                self.copies.then(Piece::Literal(&bytes[..at]), emit)?;
                self.copies.then(Piece::Copy { offset: self.basis.size - length, length }, emit)
            }
            None => self.copies.then(Piece::Literal(bytes), emit),
        }
    }
}

impl Copies {
    fn then<E>(&mut self, piece: Piece<'_>, emit: Emit<'_, E>) -> Result<(), E> {
        match (piece, self.0) {
            (Piece::Literal([]), _) => Ok(()),
            (Piece::Literal(_), _) => {
                self.flush(emit)?;
                emit(piece)
            }
            (Piece::Copy { offset, length }, Some((from, before))) if offset == from + before => {
                self.0 = Some((from, before + length));
                Ok(())
            }
            (Piece::Copy { offset, length }, _) => {
                self.flush(emit)?;
                self.0 = Some((offset, length));
                Ok(())
            }
        }
    }

    fn flush<E>(&mut self, emit: Emit<'_, E>) -> Result<(), E> {
        self.0.take().map_or(Ok(()), |(offset, length)| emit(Piece::Copy { offset, length }))
    }
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
#[path = "delta_tests.rs"]
mod tests;
