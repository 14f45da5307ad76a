//! A slave that answers what nobody could have asked for is not listened to for long.

use std::io::{BufWriter, Write};

use ha_core::replication::listing::{Listed, Summary};
use ha_core::replication::manifest::{Digest, Entry, Kind, Meta};
use ha_core::replication::wire::{Frame, State, encode};

use super::*;

/// Bytes that may come before the near end has had enough, and while it waits for the end of it; and what the connection
/// holds.
const ENOUGH: u64 = (64 << 20) + (64 << 20) + (4 << 20);

/// Answers to one frame, as long as somebody reads them.
type Answers = Box<dyn Iterator<Item = Frame>>;

/// Pushes to a slave that says what `answers` says, and the usual to what that passes over; says how that ended and how
/// much it could say.
fn push_to(
    pair: &Pair,
    mut answers: impl FnMut(&Frame) -> Option<Answers> + Send,
) -> (Result<FilesReport, SyncError>, u64) {
    let (here, there) = UnixStream::pair().unwrap();
    let trees = pair.near_trees();
    std::thread::scope(|scope| {
        let slave = scope.spawn(move || {
            let mut said = 0;
            while let Ok(Some(frame)) = read_frame(&mut &there, &mut 0) {
                let all = answers(&frame).unwrap_or_else(|| Box::new(usual(&frame).into_iter()));
                let mut out = BufWriter::new(&there);
                for answer in all {
                    let mut bytes = Vec::new();
                    encode(&answer, &mut bytes).unwrap();
                    said += bytes.len() as u64;
                    if out.write_all(&bytes).is_err() {
                        return said;
                    }
                }
                if out.flush().is_err() {
                    return said;
                }
            }
            said
        });
        let mut client = Client::open(here, &hello()).unwrap();
        let result = client.push_files(GENERATION, &trees, &PushOptions::default(), &mut |_| {});
        drop(client);
        (result, slave.join().unwrap())
    })
}

/// What a slave says that has an empty directory.
fn usual(frame: &Frame) -> Vec<Frame> {
    match frame {
        Frame::Hello(_) => vec![Frame::Hello(hello())],
        Frame::AskState => vec![Frame::State(State {
            role: Role::Slave,
            generation: GENERATION,
            active: false,
            datasets: vec!["/srv/data".to_owned()],
        })],
        Frame::Begin { .. } => vec![Frame::Ready { number: 1, kept: 0 }],
        Frame::AskTree { .. } => {
            vec![Frame::Tree(Summary { root: Some((Meta::default(), Digest([7; 32]))), files: 1 })]
        }
        Frame::AskDirectories { paths, .. } => {
            paths.iter().map(|_| Frame::Directory { entries: Vec::new(), last: true }).collect()
        }
        Frame::Sync { token } => vec![Frame::Sync { token: *token }],
        _ => Vec::new(),
    }
}

/// A file with as many attributes as one may have.
fn heavy(name: usize) -> Listed {
    let value = |index: u8| (Box::from([b'u', index]), vec![index; 60 << 10].into_boxed_slice());
    let meta = Meta { xattrs: (1..5).map(value).collect(), ..Meta::default() };
    let kind = Kind::File { size: 1, link: None, digest: None };
    Listed { name: format!("{name:09}").into_bytes().into(), entry: Entry { kind, meta }, below: None }
}

fn ready_pair() -> Pair {
    let pair = Pair::new();
    write(pair.near("a"), vec![1; 100_000]);
    pair
}

fn is_nonsense(result: &Result<FilesReport, SyncError>) -> bool {
    matches!(result, Err(SyncError::Unexpected { .. }))
}

#[test]
fn a_list_of_a_directory_that_does_not_end_is_cut_off() {
    let (result, said) = push_to(&ready_pair(), |frame| {
        let parts = (0..).map(|name| Frame::Directory { entries: vec![heavy(name)], last: false });
        matches!(frame, Frame::AskDirectories { .. }).then(|| -> Answers { Box::new(parts) })
    });
    assert!(is_nonsense(&result), "{result:?}");
    assert!(said < ENOUGH, "{said} bytes");
}

#[test]
fn a_part_of_a_list_that_adds_nothing_and_is_not_the_last_is_cut_off() {
    let empty = Frame::Directory { entries: Vec::new(), last: false };
    let kept = Frame::Kept { contents: Vec::new(), last: false };
    let (result, _) = push_to(&ready_pair(), |frame| {
        let parts = std::iter::repeat_n(empty.clone(), 1000);
        matches!(frame, Frame::AskDirectories { .. }).then(|| -> Answers { Box::new(parts) })
    });
    assert!(is_nonsense(&result), "{result:?}");
    let (result, _) = push_to(&ready_pair(), |frame| match frame {
        Frame::Begin { .. } => Some(Box::new([Frame::Ready { number: 1, kept: 1 }].into_iter())),
        Frame::AskKept => Some(Box::new(std::iter::repeat_n(kept.clone(), 1000))),
        _ => None,
    });
    assert!(is_nonsense(&result), "{result:?}");
}

#[test]
fn block_digests_that_are_more_than_their_file_can_have_are_cut_off() {
    let size = 100_000;
    let entry = Entry { kind: Kind::File { size, link: None, digest: None }, meta: Meta::default() };
    let listed = Listed { name: (*b"a").into(), entry, below: None };
    for (size, bytes) in [(size, 200_000), (size, 0), (u64::MAX, 1), (0, 1)] {
        let part = Frame::Signature { size, bytes: vec![7; bytes], last: false };
        let mut asked = false;
        let (result, _) = push_to(&ready_pair(), |frame| match frame {
            Frame::AskDirectories { .. } => {
                let entries = vec![listed.clone()];
                Some(Box::new([Frame::Directory { entries, last: true }].into_iter()))
            }
            Frame::AskSignature => {
                asked = true;
                Some(Box::new(std::iter::repeat_n(part.clone(), 100)))
            }
            _ => None,
        });
        assert!(asked, "a file of {size} bytes");
        assert!(is_nonsense(&result), "{bytes} of {size}: {result:?}");
    }
}

#[test]
fn a_slave_that_does_not_stop_when_it_is_asked_to_go_on_is_left() {
    for (what, frame) in [
        ("small frames", Frame::Prepared { files: 1 }),
        ("refusals", Frame::Error { kind: ErrorKind::Busy, message: "no".to_owned() }),
        ("large frames", Frame::Directory { entries: vec![heavy(0), heavy(1)], last: true }),
    ] {
        let (result, said) = push_to(&ready_pair(), |asked| {
            let endless = std::iter::repeat(frame.clone());
            matches!(asked, Frame::AskTree { .. }).then(|| -> Answers { Box::new(endless) })
        });
        let wanted = is_nonsense(&result) || matches!(result, Err(SyncError::Remote { .. }));
        assert!(wanted && said < ENOUGH, "{what}: {result:?} after {said} bytes");
    }
}

#[test]
fn a_frame_that_says_it_is_longer_than_any_is_not_waited_for() {
    let (here, there) = UnixStream::pair().unwrap();
    (&there).write_all(&[0xff; 4]).unwrap();
    let result = Client::open(here, &hello());
    assert!(matches!(result, Err(SyncError::Wire(_))), "{result:?}");
}
