//! Bytes from the other node, read as frames: refused or understood, in bounded memory, and each frame has one encoding.

#![no_main]

mod bound;

use ha_core::replication::wire::{Decoder, Frame, decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(frame) = bound::within(allowance(data), || decode(data)) {
        assert_eq!(&written(&[frame])[4..], data, "one frame has one encoding");
    }
    let Some((piece, stream)) = data.split_first() else { return };
    let frames =
        bound::within(allowance(stream) + stream.len() * 4, || read(stream, usize::from(*piece) + 1));
    assert!(stream.starts_with(&written(&frames)), "what was read is what was there");
});

/// A list's item takes four bytes at least and becomes a text or a path of 24 bytes, in a list that doubles; an entry of
/// 40 becomes one of 200.
fn allowance(data: &[u8]) -> usize {
    4096 + data.len() * 32
}

/// The frames of a stream that comes in pieces, as far as they make sense.
fn read(stream: &[u8], piece: usize) -> Vec<Frame> {
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    for piece in stream.chunks(piece) {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return frames,
            }
        }
    }
    frames
}

fn written(frames: &[Frame]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in frames {
        encode(frame, &mut bytes).expect("what was read can be written");
    }
    bytes
}
