//! The tree of this node, to which the other node's lists are compared.

use std::collections::BTreeMap;

use ha_core::replication::filter::Filter;
use ha_core::replication::listing::{Draft, Listing, Side};
use ha_core::replication::manifest::{Entry, Kind, Meta, Mtime};
use ha_core::replication::path::RelPath;

/// Paths with what is there.
pub(crate) type Tree = BTreeMap<RelPath, Entry>;

/// What takes part: all but `monitor`, at the top and one below.
pub(crate) fn filter() -> Filter {
    Filter::new(&[], &["monitor", "*/monitor"]).expect("these patterns can be read")
}

/// A tree out of `PATH KIND`: `d` directory, `f` file, `1` a file of several names, `l` symbolic link, `s` special.
pub(crate) fn tree(text: &[&str]) -> Tree {
    let entries = text.iter().map(|line| {
        let (path, kind) = line.split_once(' ').expect("a path and a kind");
        let kind = match kind {
            "d" => Kind::Dir,
            "1" => Kind::File { size: 7, link: Some(0), digest: None },
            "l" => Kind::Symlink { target: b"../x".as_slice().into() },
            "s" => Kind::Special,
            _ => Kind::File { size: path.len() as u64, link: None, digest: None },
        };
        let meta = Meta { mode: 0o644, mtime: Mtime { seconds: 5, nanoseconds: 0 }, ..Meta::default() };
        (RelPath::new(path).expect("a path"), Entry { kind, meta })
    });
    entries.collect()
}

/// The source's.
pub(crate) fn own() -> Tree {
    tree(&[
        " d",
        "a d",
        "a/f f",
        "a/g 1",
        "a/h 1",
        "b d",
        "b/c d",
        "b/c/x f",
        "b/l l",
        "b/monitor d",
        "monitor d",
        "z s",
    ])
}

/// The tree as a scan lists it.
pub(crate) fn listing(tree: &Tree, side: Side) -> Listing {
    let filter = filter();
    let Some(root) = tree.get(&RelPath::root()) else { return Listing::absent() };
    let mut draft = Draft::new(root.meta.clone());
    let mut left = vec![Draft::ROOT];
    while let Some(directory) = left.pop() {
        let own = draft.path(directory);
        for (path, entry) in tree.iter().filter(|(path, _)| path.parent().as_ref() == Some(&own)) {
            let name = path.name().expect("only the root has none");
            let part = filter.takes_part(path, &entry.kind);
            draft.push(directory, name, part, entry.clone()).expect("a small tree");
        }
        left.extend(draft.close(directory));
    }
    draft.finish(side)
}
