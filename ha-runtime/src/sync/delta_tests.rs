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
    let (literal, copies) = pieces(&base, &base, 256 << 10);
    assert_eq!((literal, copies), (0, vec![(0, base.len() as u64)]));
}

#[test]
fn two_bytes_in_ten_megabytes_cost_less_than_with_rsync() {
    for size in [10_000_000, 10 << 20] {
        let base = noise(size);
        let data = [&base[..size / 3], b"xy", &base[size / 3..]].concat();
        let (literal, copies) = pieces(&base, &data, 256 << 10);
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
}

#[test]
fn digests_that_would_crash_the_library_are_refused() {
    let (size, good) = signature(&file(&noise(50_000))).unwrap();
    assert!(Basis::new(size, good.clone()).is_ok());
    for (at, value) in [(4, 0u32), (4, 1), (4, 511), (4, u32::MAX), (8, 0), (8, 7), (8, 17), (8, u32::MAX)] {
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
