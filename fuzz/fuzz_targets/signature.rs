//! Block digests as the other node sends them: refused, or used without a crash, and whatever is built on them has the
//! right length and stays inside the file that they are said to be of.

#![no_main]

mod bound;
mod content;
#[path = "../../ha-runtime/src/sync/delta.rs"]
#[allow(dead_code, reason = "this target uses a part of it")]
mod delta;
mod input;

use delta::{Basis, DeltaError, More, Piece, signature};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut input = input::Input(data);
    let (kind, size, length) = (input.number::<1>(), input.number::<8>(), input.number::<2>());
    let content = input.bytes(length as usize);
    // what begins as it should gets further
    let (size, digests) = match kind {
        0 => (size, input.0.to_vec()),
        _ => beginning_well(size % (64 << 10) + 1, input.0),
    };
    let allowed = (1 << 20) + 64 * (digests.len() + content.len());
    bound::within(allowed, || compare(size, digests, content, kind as usize * 64 + 1));
});

fn beginning_well(size: u64, rest: &[u8]) -> (u64, Vec<u8>) {
    let (size, mut digests) =
        signature(&content::file(&vec![0; size as usize])).expect("a file in memory can be read");
    let kept = rest.len().min(digests.len() - 12);
    digests[12..12 + kept].copy_from_slice(&rest[..kept]);
    (size, digests)
}

fn compare(size: u64, digests: Vec<u8>, content: &[u8], window: usize) {
    let Ok(basis) = Basis::new(size, digests) else { return };
    let mut at = 0;
    let mut emit = |piece: Piece<'_>| {
        at += match piece {
            Piece::Copy { offset, length } => {
                assert!(
                    offset.checked_add(length).is_some_and(|end| end <= size),
                    "{offset} + {length} of {size}"
                );
                length as usize
            }
            Piece::Literal(bytes) => {
                assert_eq!(content.get(at..at + bytes.len()), Some(bytes));
                bytes.len()
            }
        };
        Ok::<_, DeltaError>(())
    };
    let mut matcher = basis.matcher();
    let mut windows = content.chunks(window).peekable();
    while let Some(window) = windows.next() {
        let more = if windows.peek().is_some() { More::Follows } else { More::Ends };
        match matcher.next(window, more, &mut emit) {
            Ok(()) => {}
            // of a kind that the library reads and does not compare
            Err(DeltaError::Diff(_)) => return,
            Err(error) => panic!("digests that were accepted can be compared with anything: {error}"),
        }
    }
    assert_eq!(at, content.len());
}
