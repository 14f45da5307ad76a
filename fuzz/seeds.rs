//! Writes the inputs that the fuzzer begins with: `cargo run --example seeds` in this directory.
//!
//! Whatever the targets have found worth keeping beside them stays.

mod spools;
mod trees;

use std::fs;
use std::io;
use std::path::Path;

use ha_core::replication::descent::Descent;
use ha_core::replication::listing::Side;
use ha_core::replication::wire::{Frame, decode, encode};
use ha_core::voicemail::{Base, Spool};

fn main() -> io::Result<()> {
    for (target, seeds) in [
        ("frames", frames()),
        ("signature", signatures()),
        ("delta", deltas()),
        ("incoming", incomings()),
        ("manifest", manifests()),
        ("schedule", schedules()),
        ("offer", offers()),
    ] {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        fs::create_dir_all(&directory)?;
        for (name, seed) in seeds {
            fs::write(directory.join(name), seed)?;
        }
    }
    Ok(())
}

type Seeds = Vec<(String, Vec<u8>)>;

/// The shortest frame of zeros of each kind, whichever there are, as a stream of one; and the frames of some trees.
fn frames() -> Seeds {
    let shortest = |number: u8| {
        let body = |length: usize| [vec![number], vec![0; length]].concat();
        (0..300).map(body).find(|body| decode(body).is_ok())
    };
    let each = (0..=u8::MAX).filter_map(|number| Some((format!("kind-{number}"), shortest(number)?)));
    let stream = |bytes: Vec<u8>| [vec![16], bytes].concat();
    each.chain(manifests().into_iter().map(|(name, bytes)| (name, stream(bytes)))).collect()
}

/// What a replica says of a tree during a comparison with ours, until nothing is left to ask.
fn manifests() -> Seeds {
    let replicas: [(&str, &[&str]); 6] = [
        ("absent", &[]),
        ("empty", &[" d"]),
        ("other", &[" d", "a d", "a/f f", "a/old f", "c d", "c/d d", "c/d/e f"]),
        ("kinds", &[" d", "a f", "b d", "b/c l", "b/l d", "b/l/x f", "z d"]),
        ("excluded", &[" d", "b d", "b/monitor d", "gone d", "gone/monitor d", "gone/x f", "monitor d"]),
        ("links", &[" d", "a d", "a/f 1", "a/g 1", "b d", "b/c d", "b/c/x 1", "z s"]),
    ];
    replicas.map(|(name, lines)| (format!("tree-{name}"), told(&trees::tree(lines)))).into()
}

fn told(replica: &trees::Tree) -> Vec<u8> {
    let (own, filter) = (trees::listing(&trees::own(), Side::Source), trees::filter());
    let replica = trees::listing(replica, Side::Replica);
    let mut bytes = Vec::new();
    let mut tell = |frame: &Frame| encode(frame, &mut bytes).expect("a small frame");
    tell(&Frame::Tree(replica.summary()));
    let mut descent = Descent::new(&own, &replica.summary(), &filter);
    loop {
        let asked = descent.ask();
        if asked.is_empty() {
            return bytes;
        }
        for path in asked {
            let directory = replica.find(&path).expect("only what was listed is asked for");
            let entries: Vec<_> = replica.listed(directory).collect();
            tell(&Frame::Directory { entries: entries.clone(), last: true });
            descent.answer(entries).expect("a list of our own");
        }
    }
}

/// What returning nodes hold, and what they had before.
fn offers() -> Seeds {
    let own = spools::own();
    let mine = [
        ("same", own.clone()),
        ("empty", Spool::default()),
        (
            "newer",
            spools::spool(&[
                "default/601/INBOX/msg0000.txt 1001",
                "default/601/INBOX/msg0000.wav missed",
                "default/601/Old/msg0001.txt 1003",
                "default/601/Old/msg0001.wav later",
                "default/601/busy.wav other",
                "default/602/unavail.wav new",
                "default/603/Old/msg0000.txt 2",
                "default/603/Old/msg0000.wav full",
                "default/601/INBOX/msg0007.wav torn",
            ]),
        ),
    ];
    let offer = |(name, mine): (&str, Spool)| {
        [("with", Base::of(&own)), ("without", Base::default())].map(|(known, base)| {
            (format!("{name}-{known}-base"), serde_json::to_vec(&(&mine, base)).expect("it has a text"))
        })
    };
    mine.into_iter().flat_map(offer).collect()
}

/// `signature.rs`: a kind, a size, a content with its length, digests.
fn signatures() -> Seeds {
    let seed = |kind: u8, size: u64, content: &[u8], digests: &[u8]| {
        let length = content.len() as u16;
        [&[kind], size.to_be_bytes().as_slice(), &length.to_be_bytes(), content, digests].concat()
    };
    // the library's mark, blocks of 512 bytes, 8 bytes of each MD4; then one block's record
    let header = [0x72, 0x73, 0x01, 0x36, 0, 0, 2, 0, 0, 0, 0, 8];
    let good = [header.as_slice(), &[1; 12]].concat();
    let without =
        |at: usize| good.iter().enumerate().map(|(i, byte)| if i == at { 0 } else { *byte }).collect();
    let no_block: Vec<u8> = without(6);
    let no_digest: Vec<u8> = without(11);
    [
        ("one-block", seed(0, 512, &[0; 700], &good)),
        ("no-block-size", seed(0, 512, b"content", &no_block)),
        ("no-digest-length", seed(0, 512, b"content", &no_digest)),
        ("cut", seed(0, 512, b"content", &good[..20])),
        ("of-nothing", seed(0, 0, b"content", &header)),
        ("of-too-much", seed(0, u64::MAX, b"content", &good)),
        ("well-begun", seed(1, 5000, &[0; 1200], &[])),
        ("well-begun-garbage", seed(9, 5000, &[0; 1200], &[7; 40])),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .into()
}

/// `delta.rs`: a kind, half the length of the base, a window, then parts.
fn deltas() -> Seeds {
    let part = |from: u16, length: u16| [&[1], from.to_be_bytes().as_slice(), &length.to_be_bytes()].concat();
    let text = |text: &[u8]| [&[text.len() as u8 * 2], text].concat();
    let seed = |kind: u8, length: u16, window: u16, parts: &[Vec<u8>]| {
        [&[kind], length.to_be_bytes().as_slice(), &window.to_be_bytes(), &parts.concat()].concat()
    };
    [
        ("equal", seed(1, 3000, 65535, &[part(0, 3000)])),
        ("inserted", seed(1, 3000, 900, &[part(0, 1001), text(b"xy"), part(1001, 3000)])),
        ("removed", seed(3, 9000, 5000, &[part(0, 400), part(500, 9000)])),
        ("swapped", seed(1, 3000, 300, &[part(2000, 1000), part(0, 2000)])),
        ("repeated", seed(0, 2000, 700, &[part(0, 2000), part(0, 2000), part(1, 512)])),
        ("all-new", seed(1, 1000, 100, &[text(b"nothing of it")])),
        ("gone", seed(1, 1000, 100, &[])),
        ("short-end", seed(5, 777, 65535, &[text(b"a"), part(0, 777)])),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .into()
}

/// `incoming.rs`: the length of the present file, of the part that waits, the announced size, whether digests are asked
/// for, then what is said.
fn incomings() -> Seeds {
    let data = |bytes: &[u8]| [&[0, bytes.len() as u8], bytes].concat();
    let copy = |from: u16, length: u16| [&[1], from.to_be_bytes().as_slice(), &length.to_be_bytes()].concat();
    let anywhere =
        |from: u64, length: u64| [&[2], from.to_be_bytes().as_slice(), &length.to_be_bytes()].concat();
    let resume = |length: u64| [&[3], length.to_be_bytes().as_slice()].concat();
    let (honest, lie) = (vec![4], vec![5]);
    let seed = |present: u16, part: u16, size: u64, asked: u8, said: &[Vec<u8>]| {
        let lengths = [present.to_be_bytes(), part.to_be_bytes()].concat();
        [&lengths, size.to_be_bytes().as_slice(), &[asked], &said.concat()].concat()
    };
    [
        ("plain", seed(0, 0, 5, 0, &[data(b"plain"), honest.clone()])),
        ("patched", seed(3000, 0, 3002, 1, &[copy(0, 1000), data(b"in"), copy(1000, 2000), honest.clone()])),
        ("never-asked", seed(3000, 0, 3000, 0, &[copy(0, 3000)])),
        ("behind-the-end", seed(3000, 0, 9000, 1, &[copy(2999, 2)])),
        ("around-the-end", seed(3000, 0, u64::MAX, 1, &[anywhere(u64::MAX, 2)])),
        ("beyond-any-file", seed(3000, 0, u64::MAX, 1, &[anywhere(1 << 63, 2)])),
        ("of-no-length", seed(3000, 0, 9, 1, &[anywhere(1, 0)])),
        ("more-than-announced", seed(3000, 0, 9, 1, &[copy(0, 9), data(b"x")])),
        ("another-digest", seed(0, 0, 5, 0, &[data(b"plain"), lie])),
        ("too-little", seed(0, 0, 5, 0, &[data(b"pla"), honest.clone()])),
        ("gone-on", seed(0, 2000, 2003, 0, &[resume(2000), data(b"end"), honest.clone()])),
        ("gone-on-earlier", seed(700, 2000, 1003, 1, &[resume(1000), copy(1, 3), honest.clone()])),
        ("gone-on-too-far", seed(0, 2000, 4000, 0, &[resume(2001)])),
        ("gone-on-late", seed(0, 2000, 4000, 0, &[data(b"x"), resume(2000)])),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .into()
}

/// `schedule.rs`: a time, then the text.
fn schedules() -> Seeds {
    let texts = [
        "0 * * * *",
        "*/15 8-18 * * mon-fri",
        "0,30 0-23/2 1,15 jan-mar,12 7",
        "30 2 29 2 *",
        "0 0 13 * fri",
        "@hourly",
        "@reboot",
        "0 0 31 2 *",
        "61 * * * *",
        "5-1 * * * *",
        "*/0 * * * *",
        "* * * *",
    ];
    let seed = |(index, text): (usize, &&str)| {
        let seconds = 1_700_000_000u32 + index as u32 * 3601;
        (format!("text-{index:02}"), [seconds.to_be_bytes().as_slice(), text.as_bytes()].concat())
    };
    texts.iter().enumerate().map(seed).collect()
}
