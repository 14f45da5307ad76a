use proptest::prelude::*;

use super::super::manifest::{Digest, Entry, Kind, Mtime};
use super::*;

fn any_path() -> impl Strategy<Value = RelPath> {
    proptest::collection::vec(proptest::collection::vec(1u8..=255, 1..8), 0..4).prop_filter_map(
        "not every list of bytes is a path",
        |segments| {
            let mut path = RelPath::root();
            for segment in segments {
                path = path.join(segment).ok()?;
            }
            Some(path)
        },
    )
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..50)
}

fn any_target() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(1u8..=255, 1..50)
}

fn any_meta() -> impl Strategy<Value = Meta> {
    let xattrs = proptest::collection::btree_map(any_target(), any_bytes(), 0..3);
    (0..u32::MAX, 0..u32::MAX, 0..=0o7777u16, any::<i64>(), 0..1_000_000_000u32, xattrs).prop_map(
        |(uid, gid, mode, seconds, nanoseconds, xattrs)| Meta {
            uid,
            gid,
            mode,
            mtime: Mtime { seconds, nanoseconds },
            xattrs: xattrs.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
        },
    )
}

fn any_digest() -> impl Strategy<Value = Option<Digest>> {
    proptest::option::of(any::<[u8; 32]>().prop_map(Digest))
}

fn any_listed() -> impl Strategy<Value = Listed> {
    let kind = prop_oneof![
        (any::<u64>(), any::<Option<u32>>(), any_digest())
            .prop_map(|(size, link, digest)| (Kind::File { size, link, digest: digest.map(Box::new) }, None)),
        any_digest().prop_map(|below| (Kind::Dir, below)),
        any_target().prop_map(|target| (Kind::Symlink { target: target.into() }, None)),
        Just((Kind::Special, None)),
    ];
    let name = proptest::collection::vec(1u8..=255, 1..8);
    (name.prop_filter("a name", |name| RelPath::is_name(name)), kind, any_meta()).prop_map(
        |(name, (kind, below), meta)| Listed { name: name.into(), entry: Entry { kind, meta }, below },
    )
}

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        any_path().prop_map(|path| Action::MakeDir { path }),
        any_path().prop_map(|path| Action::Place { path }),
        (any_path(), any_meta()).prop_map(|(path, meta)| Action::SetMeta { path, meta }),
        (any_path(), any_path()).prop_map(|(path, to)| Action::Link { path, to }),
        (any_path(), any_target(), any_meta()).prop_map(|(path, target, meta)| Action::Symlink {
            path,
            target,
            meta
        }),
        (any_path(), any::<bool>()).prop_map(|(path, directory)| Action::Delete { path, directory }),
    ]
}

fn any_content() -> impl Strategy<Value = Content> {
    (any::<u16>(), any_path(), any::<u64>(), any_meta(), any::<Option<u64>>()).prop_map(
        |(dataset, path, size, meta, part)| {
            let part = part.map(|part| part.min(size));
            Content { dataset, path, size, meta, part }
        },
    )
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let generation = any::<u64>();
    let text = "\\PC{0,20}";
    prop_oneof![
        (any::<u16>(), text, text).prop_map(|(version, distribution, program)| Frame::Hello(Hello {
            version,
            distribution,
            program
        })),
        Just(Frame::AskState),
        (0..3usize, generation, any::<bool>(), proptest::collection::vec(text, 0..4)).prop_map(
            |(role, generation, active, datasets)| Frame::State(State {
                role: Role::ALL[role],
                generation,
                active,
                datasets
            })
        ),
        (generation, any::<u64>(), any::<u64>()).prop_map(|(generation, server, id)| Frame::Arm {
            generation,
            transaction: Transaction { server, id }
        }),
        generation.prop_map(|generation| Frame::Armed { generation }),
        any_bytes().prop_map(Frame::Control),
        any_bytes().prop_map(Frame::ControlReply),
        any_bytes().prop_map(Frame::Fetch),
        any_bytes().prop_map(Frame::Fetched),
        (text, any_bytes(), any::<bool>()).prop_map(|(dataset, part, last)| Frame::Offer {
            dataset,
            part,
            last
        }),
        (any_bytes(), any::<bool>()).prop_map(|(part, last)| Frame::Plan { part, last }),
        any::<u32>().prop_map(|step| Frame::CarryOut { step }),
        (any_bytes(), any::<bool>()).prop_map(|(bytes, last)| Frame::Piece { bytes, last }),
        any_bytes().prop_map(Frame::CarriedOut),
        (any::<u16>(), any::<bool>()).prop_map(|(dataset, digests)| Frame::AskTree { dataset, digests }),
        (any::<u64>(), any_digest(), any_meta()).prop_map(|(files, digest, meta)| {
            Frame::Tree(Summary { root: digest.map(|digest| (meta, digest)), files })
        }),
        (any::<u16>(), proptest::collection::vec(any_path(), 0..5))
            .prop_map(|(dataset, paths)| Frame::AskDirectories { dataset, paths }),
        (proptest::collection::vec(any_listed(), 0..5), any::<bool>())
            .prop_map(|(entries, last)| Frame::Directory { entries, last }),
        generation.prop_map(|generation| Frame::Begin { generation }),
        (any::<u64>(), any::<u64>()).prop_map(|(number, kept)| Frame::Ready { number, kept }),
        Just(Frame::AskKept),
        (proptest::collection::vec(any_content(), 0..3), any::<bool>())
            .prop_map(|(contents, last)| Frame::Kept { contents, last }),
        (generation, any::<u16>(), any_path(), any::<u64>(), any_meta()).prop_map(
            |(generation, dataset, path, size, meta)| Frame::File { generation, dataset, path, size, meta }
        ),
        (generation, any::<u64>()).prop_map(|(generation, length)| Frame::Resume { generation, length }),
        Just(Frame::AskSignature),
        (any::<u64>(), any_bytes(), any::<bool>()).prop_map(|(size, bytes, last)| Frame::Signature {
            size,
            bytes,
            last
        }),
        (generation, any_bytes()).prop_map(|(generation, bytes)| Frame::Data { generation, bytes }),
        (generation, any::<u64>(), any::<u64>()).prop_map(|(generation, offset, length)| Frame::Copy {
            generation,
            offset,
            length
        }),
        (generation, any::<[u8; 32]>())
            .prop_map(|(generation, digest)| Frame::FileEnd { generation, digest }),
        generation.prop_map(|generation| Frame::Abandon { generation }),
        (generation, any::<u16>(), any_action()).prop_map(|(generation, dataset, action)| Frame::Step {
            generation,
            dataset,
            action
        }),
        generation.prop_map(|generation| Frame::Prepare { generation }),
        any::<u64>().prop_map(|files| Frame::Prepared { files }),
        generation.prop_map(|generation| Frame::Commit { generation }),
        (any::<u64>(), any::<u64>(), any::<u64>(), proptest::collection::vec(text, 0..3)).prop_map(
            |(number, placed, deleted, warnings)| Frame::Committed(Outcome {
                number,
                placed,
                deleted,
                warnings
            })
        ),
        (0..ErrorKind::ALL.len(), text)
            .prop_map(|(kind, message)| Frame::Error { kind: ErrorKind::ALL[kind], message }),
        any::<u64>().prop_map(|token| Frame::Sync { token }),
        Just(Frame::Bye),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_however_the_stream_is_cut(
        frames in proptest::collection::vec(any_frame(), 1..6), piece in 1..40usize,
    ) {
        let mut bytes = Vec::new();
        for frame in &frames {
            encode(frame, &mut bytes).unwrap();
        }
        let mut decoder = Decoder::default();
        let mut read = Vec::new();
        for piece in bytes.chunks(piece) {
            decoder.push(piece);
            while let Some(frame) = decoder.next_frame().unwrap() {
                read.push(frame);
            }
        }
        prop_assert_eq!(read, frames);
    }

    #[test]
    fn garbage_is_refused_without_a_panic(number in 0..50u8, mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        bytes.insert(0, number);
        if let Ok(frame) = decode(&bytes) {
            let mut again = Vec::new();
            encode(&frame, &mut again).unwrap();
            prop_assert_eq!(&again[4..], &bytes, "one frame has one encoding");
        }
        let mut decoder = Decoder::default();
        decoder.push(&bytes);
        while let Ok(Some(_)) = decoder.next_frame() {}
    }

    #[test]
    fn a_frame_with_one_byte_changed_or_cut_off_is_refused_or_another_frame(
        frame in any_frame(), at in any::<prop::sample::Index>(), flip in 1..=255u8, cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = Vec::new();
        encode(&frame, &mut bytes).unwrap();
        let mut changed = bytes[4..].to_vec();
        let at = at.index(changed.len());
        changed[at] ^= flip;
        if let Ok(other) = decode(&changed) {
            prop_assert_ne!(&other, &frame);
            let mut again = Vec::new();
            encode(&other, &mut again).unwrap();
            prop_assert_eq!(&again[4..], &changed, "one frame has one encoding");
        }
        let cut = cut.index(bytes.len() - 4);
        prop_assert!(decode(&bytes[4..4 + cut]).is_err());
    }
}

#[test]
fn a_length_beyond_the_limit_is_refused_before_anything_is_read() {
    assert_eq!(Decoder::length(u32::MAX.to_be_bytes()), Err(WireError::TooLong(u32::MAX as usize)));
    assert!(Decoder::length([0; 4]).is_err());
    let mut decoder = Decoder::default();
    decoder.push(&[0xff; 4]);
    assert!(decoder.next_frame().is_err());
}

#[test]
fn a_count_of_four_billion_entries_allocates_nothing() {
    // Directory, not the last part, 2^32 - 1 of them, and then nothing
    assert_eq!(decode(&[27, 0, 0xff, 0xff, 0xff, 0xff]), Err(WireError::Malformed("it ends too early")));
    // the same as the length of one field
    assert_eq!(decode(&[5, 0xff, 0xff, 0xff, 0xff, 1]), Err(WireError::Malformed("it ends too early")));
}

#[test]
fn a_file_is_numbered_no_higher_than_entries_are() {
    let kind = Kind::File { size: 1, link: Some(u32::MAX), digest: None };
    let entry = Entry { kind, meta: Meta::default() };
    let frame =
        Frame::Directory { entries: vec![Listed { name: b"a"[..].into(), entry, below: None }], last: true };
    let mut out = Vec::new();
    encode(&frame, &mut out).unwrap();
    assert_eq!(decode(&out[4..]), Ok(frame));
    // the last field but one: eight bytes, of which the upper four are not used
    let number = out.len() - 9;
    out[number + 3] = 1;
    assert_eq!(decode(&out[4..]), Err(WireError::Malformed("a file's number is too high")));
}

#[test]
fn a_path_that_leaves_its_dataset_is_no_frame() {
    for path in [b"/etc".as_slice(), b"..", b"a/../../b", b"a\0"] {
        let mut body = vec![18];
        body.extend([0; 10]);
        body.push(5);
        body.extend((path.len() as u32).to_be_bytes());
        body.extend(path);
        assert_eq!(decode(&body), Err(WireError::Malformed("a path leads out of its dataset")));
    }
}

#[test]
fn a_frame_that_is_too_long_is_not_written() {
    let mut out = vec![7];
    let frame = Frame::Data { generation: 1, bytes: vec![0; MAX_FRAME] };
    assert!(matches!(encode(&frame, &mut out), Err(WireError::TooLong(_))));
    assert_eq!(out, [7]);
    let long = Frame::Error { kind: ErrorKind::Failed, message: "é".repeat(MAX_MESSAGE) };
    encode(&long, &mut out).unwrap();
    let Frame::Error { message, .. } = decode(&out[5..]).unwrap() else { panic!() };
    assert_eq!(message.len(), MAX_MESSAGE);
}
