//! What the other node says that a file is made of: refused, or made of what is there, inside what was announced, in
//! bounded memory; and verified only if it is what the digest says.

#![no_main]

mod bound;
mod content;
#[path = "../../ha-runtime/src/sync/delta.rs"]
#[allow(dead_code, reason = "this target uses a part of it")]
mod delta;
#[path = "../../ha-runtime/src/sync/incoming.rs"]
#[allow(dead_code, reason = "this target uses a part of it")]
mod incoming;
mod input;

/// The one file that is present, in place of a tree.
mod stage {
    use std::fs::File;
    use std::io;

    use ha_core::replication::path::RelPath;

    use crate::tree::Cursor;

    pub(crate) fn open_regular(present: &mut Cursor, _path: &RelPath) -> io::Result<Option<File>> {
        present.0.as_ref().map(File::try_clone).transpose()
    }
}

mod tree {
    #[derive(Debug)]
    pub(crate) struct Cursor(pub(crate) Option<std::fs::File>);
}

use std::fs::File;
use std::io::{Read, Seek};

use ha_core::replication::manifest::Meta;
use ha_core::replication::path::RelPath;
use incoming::{Incoming, ReceiveError};
use libfuzzer_sys::fuzz_target;

/// Longest content that is made, in bytes.
const LONGEST: usize = 1 << 20;
/// The numbers of the new file and of the part that waits.
const NEW: u64 = 2;
const PART: u64 = 1;

fuzz_target!(|data: &[u8]| {
    let mut input = input::Input(data);
    let (present, part) = (noise(1, input.number::<2>()), noise(2, input.number::<2>()));
    let (size, asked) = (input.number::<8>(), input.number::<1>() == 1);
    let mut cursor = tree::Cursor((!present.is_empty()).then(|| content::file(&present)));
    let waiting = content::file(&part);
    let path = RelPath::new("f").expect("a path");
    let mut incoming = Incoming::new(path, NEW, size, Meta::default(), content::file(&[]));
    if asked {
        incoming.signature(&mut cursor).expect("a file in memory can be read");
    }
    let mut model =
        Model { present: if asked { &present } else { &[] }, part: &part, size, made: Vec::new() };
    while !input.0.is_empty() && model.made.len() < LONGEST {
        if !say(&mut input, &mut incoming, &mut model, &waiting) {
            return;
        }
        assert_eq!(incoming.written(), model.made.len() as u64);
        assert!(made(incoming.file()) == model.made);
    }
});

/// What should come of it.
struct Model<'a> {
    present: &'a [u8],
    part: &'a [u8],
    size: u64,
    made: Vec<u8>,
}

impl Model<'_> {
    fn has_room(&self, more: u64) -> bool {
        more <= self.size - self.made.len() as u64
    }

    fn copied(&self, offset: u64, length: u64) -> Option<&[u8]> {
        let range = usize::try_from(offset).ok()?..usize::try_from(offset.checked_add(length)?).ok()?;
        self.present.get(range).filter(|bytes| !bytes.is_empty() && self.has_room(length))
    }
}

/// Passes on the next thing said; whether more may be said.
fn say(input: &mut input::Input<'_>, incoming: &mut Incoming, model: &mut Model<'_>, waiting: &File) -> bool {
    let (result, made) = match input.number::<1>() {
        0 => {
            let length = input.number::<1>() as usize;
            let bytes = input.bytes(length);
            let wanted = model.has_room(bytes.len() as u64).then(|| bytes.to_vec());
            (within(|| incoming.data(bytes)), wanted)
        }
        kind @ (1 | 2) => {
            let (offset, length) = match kind {
                1 => (input.number::<2>(), input.number::<2>()),
                _ => (input.number::<8>(), input.number::<8>()),
            };
            let wanted = model.copied(offset, length).map(<[u8]>::to_vec);
            (within(|| incoming.copy(offset, length)), wanted)
        }
        3 => {
            let length = input.number::<8>();
            let part = usize::try_from(length).ok().and_then(|length| model.part.get(..length));
            let wanted = part.filter(|part| {
                !part.is_empty() && model.made.is_empty() && model.has_room(part.len() as u64)
            });
            let mut file = waiting.try_clone().expect("a file in memory can be had twice");
            file.rewind().expect("it has a beginning");
            let result = within(|| incoming.resume(file, PART, length));
            assert!(result.is_err() || incoming.number() == PART, "it is the file that waited");
            (result, wanted.map(<[u8]>::to_vec))
        }
        kind => {
            let mut digest = *blake3::hash(&model.made).as_bytes();
            digest[0] ^= u8::from(kind > 4);
            let whole = kind == 4 && model.made.len() as u64 == model.size;
            let verified = incoming.verify(digest);
            assert_eq!(verified.is_ok(), whole, "{verified:?}");
            return false;
        }
    };
    assert!(!matches!(result, Err(ReceiveError::Io(_))), "{result:?}");
    assert_eq!(result.is_ok(), made.is_some(), "{result:?}");
    model.made.extend(made.unwrap_or_default());
    // whoever refuses receives no more of it
    result.is_ok()
}

/// One piece of a file is read at once, and a message written.
fn within<T>(f: impl FnOnce() -> T) -> T {
    bound::within((256 << 10) + 4096, f)
}

fn made(mut file: &File) -> Vec<u8> {
    let mut all = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut all)).expect("a file in memory can be read");
    all
}

fn noise(seed: u64, length: u64) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(length as usize).collect()
}
