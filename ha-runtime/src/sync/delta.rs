//! `fast_rsync` behind checks: what a peer sends must not crash us, fill our memory or be believed.
//!
//! Whoever uses a rebuilt content compares its strong digest first: the block digests (MD4) prove nothing.

use std::io::Write;

use fast_rsync::{Signature, SignatureOptions, apply_limited};
use thiserror::Error;

/// Block sizes that are made and accepted, in bytes.
const BLOCK: std::ops::RangeInclusive<u32> = 512..=1 << 20;
/// Lengths of block digests that are accepted, in bytes; 16 is what is made.
const HASH: std::ops::RangeInclusive<u32> = 8..=16;

/// A peer's signature or difference is not usable. Nothing was done with it.
#[derive(Debug, Error)]
pub(crate) enum DeltaError {
    /// The library would panic, or need too much.
    #[error("block size {block} or digest length {hash} is out of range")]
    Header { block: u32, hash: u32 },
    #[error("it is no signature")]
    Signature,
    #[error("{0}")]
    Diff(#[from] fast_rsync::DiffError),
    #[error("{0}")]
    Apply(#[from] fast_rsync::ApplyError),
}

/// Block digests of `window`.
pub(crate) fn signature(window: &[u8]) -> Vec<u8> {
    // the root of the length balances the digests' size against the size of what one changed byte costs
    let root = (window.len() as f64).sqrt() as u32;
    let block_size = root.next_power_of_two().clamp(*BLOCK.start(), *BLOCK.end());
    let options = SignatureOptions { block_size, crypto_hash_size: *HASH.end() };
    Signature::calculate(window, options).into_serialized()
}

/// What turns the content that `signature` was made of into `data`.
pub(crate) fn diff(signature: Vec<u8>, data: &[u8]) -> Result<Vec<u8>, DeltaError> {
    let field = |at: usize| -> Result<u32, DeltaError> {
        let bytes = signature.get(at..at + 4).ok_or(DeltaError::Signature)?;
        Ok(u32::from_be_bytes(bytes.try_into().map_err(|_| DeltaError::Signature)?))
    };
    let (block, hash) = (field(4)?, field(8)?);
    // version 0.2.0 divides by the block size
    if !BLOCK.contains(&block) || !HASH.contains(&hash) {
        return Err(DeltaError::Header { block, hash });
    }
    let signature = Signature::deserialize(signature).map_err(|_| DeltaError::Signature)?;
    let mut delta = Vec::new();
    fast_rsync::diff(&signature.index(), data, &mut delta)?;
    Ok(delta)
}

/// Rebuilds the data from `base` and `delta`; at most `limit` bytes.
pub(crate) fn apply(base: &[u8], delta: &[u8], limit: usize, out: &mut impl Write) -> Result<(), DeltaError> {
    Ok(apply_limited(base, delta, out, limit)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_signature_that_would_crash_the_library_is_refused() {
        let good = signature(&[7; 5000]);
        for (at, value) in
            [(4, 0u32), (4, 1), (4, 511), (4, (1 << 20) + 1), (4, u32::MAX), (8, 0), (8, 7), (8, 17)]
        {
            let mut bad = good.clone();
            bad[at..at + 4].copy_from_slice(&value.to_be_bytes());
            assert!(matches!(diff(bad, b"data"), Err(DeltaError::Header { .. })), "{at} {value}");
        }
        assert!(diff(good[..11].to_vec(), b"data").is_err());
        assert!(diff(good[..good.len() - 1].to_vec(), b"data").is_err());
        assert!(diff(vec![0; good.len()], b"data").is_err());
    }

    #[test]
    fn a_difference_cannot_write_more_than_was_announced() {
        let base = vec![1; 4096];
        let delta = diff(signature(&base), &base.repeat(4)).unwrap();
        let mut out = Vec::new();
        assert!(matches!(apply(&base, &delta, 4096, &mut out), Err(DeltaError::Apply(_))));
        assert!(out.len() <= 4096);
    }

    proptest! {
        #[test]
        fn a_difference_rebuilds_the_data(base in proptest::collection::vec(0..3u8, 0..6000), cut in 0..6000usize,
            insert in proptest::collection::vec(any::<u8>(), 0..50)) {
            let cut = cut.min(base.len());
            let data = [&base[..cut], &insert, &base[cut..]].concat();
            let delta = diff(signature(&base), &data).unwrap();
            let mut out = Vec::new();
            apply(&base, &delta, data.len(), &mut out).unwrap();
            prop_assert_eq!(out, data);
        }

        #[test]
        fn garbage_is_an_error_or_harmless(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = diff(bytes.clone(), b"some data");
            let mut out = Vec::new();
            let _ = apply(b"base", &bytes, 1000, &mut out);
            prop_assert!(out.len() <= 1000);
        }
    }
}
