//! A file that was changed in any way is rebuilt from what the other node has of it.

#![no_main]

mod content;
#[path = "../../ha-runtime/src/sync/delta.rs"]
#[allow(dead_code, reason = "this target uses a part of it")]
mod delta;
mod input;

use delta::{Basis, DeltaError, More, Piece, signature};
use libfuzzer_sys::fuzz_target;

/// Longest content, in bytes.
const LONGEST: usize = 256 << 10;

fuzz_target!(|data: &[u8]| {
    let mut input = input::Input(data);
    let (kind, length, window) = (input.number::<1>(), input.number::<2>(), input.number::<2>());
    let base = base(kind, length as usize * 2);
    let changed = changed(&base, input);
    let (size, digests) = signature(&content::file(&base)).expect("a file in memory can be read");
    assert_eq!(size, base.len() as u64);
    if size > 0 {
        let basis = Basis::new(size, digests).expect("our own digests are accepted");
        assert!(rebuilt(&basis, &base, &changed, window as usize + 1) == changed);
    }
});

/// Few different blocks for even kinds, many for odd ones.
fn base(kind: u64, length: usize) -> Vec<u8> {
    let mut state = kind / 2 + 1;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if kind % 2 == 0 { state as u8 & 1 } else { (state >> 32) as u8 }
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Parts of the base and bytes of the input, in any order.
fn changed(base: &[u8], mut input: input::Input<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    while !input.0.is_empty() && out.len() < LONGEST {
        let count = input.number::<1>() as usize;
        if count % 2 == 0 {
            out.extend_from_slice(input.bytes(count / 2));
        } else {
            let (from, length) = (input.number::<2>() as usize * 2, input.number::<2>() as usize * 2);
            let part = base.get(from..).unwrap_or_default();
            out.extend_from_slice(&part[..length.min(part.len())]);
        }
    }
    out
}

fn rebuilt(basis: &Basis, base: &[u8], changed: &[u8], window: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut matcher = basis.matcher();
    let mut windows = changed.chunks(window).peekable();
    while let Some(window) = windows.next() {
        let more = if windows.peek().is_some() { More::Follows } else { More::Ends };
        let mut emit = |piece: Piece<'_>| {
            match piece {
                Piece::Copy { offset, length } => {
                    out.extend_from_slice(&base[offset as usize..][..length as usize])
                }
                Piece::Literal(bytes) => out.extend_from_slice(bytes),
            }
            Ok::<_, DeltaError>(())
        };
        matcher.next(window, more, &mut emit).expect("our own digests can be compared with anything");
    }
    out
}
