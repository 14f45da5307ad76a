//! A voicemail of our own, shared by the `offer` target and its seeds.

use ha_core::carry::FileState;
use ha_core::replication::manifest::Digest;
use ha_core::replication::path::RelPath;
use ha_core::voicemail::{Found, Spool};

/// Of lines `PATH CONTENT`. A text is a message's with that `origtime`.
pub fn spool(lines: &[&str]) -> Spool {
    Spool::new(lines.iter().map(|line| {
        let (path, content) = line.split_once(' ').expect("a path and a content");
        let content = if path.ends_with(".txt") {
            format!("[message]\norigtime={content}\n")
        } else {
            content.to_owned()
        };
        let digest = Digest(*blake3::hash(content.as_bytes()).as_bytes());
        Found {
            path: RelPath::new(path).expect("a path"),
            state: FileState { size: content.len() as u64, digest },
            text: path.ends_with(".txt").then(|| content.into_bytes()),
        }
    }))
}

/// What the serving node has: messages new and heard, greetings, and one that is not whole.
pub fn own() -> Spool {
    spool(&[
        "default/601/INBOX/msg0000.txt 1000",
        "default/601/INBOX/msg0000.wav hello",
        "default/601/INBOX/msg0003.txt 1003",
        "default/601/INBOX/msg0003.wav later",
        "default/601/Old/msg0000.txt 900",
        "default/601/Old/msg0000.wav heard",
        "default/601/busy.wav engaged",
        "default/602/greet.wav name",
        "default/602/INBOX/msg0000.wav torn",
        "default/603/Old/msg9998.txt 1",
        "default/603/Old/msg9998.wav last",
    ])
}
