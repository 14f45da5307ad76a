//! Whatever is done to a tree: when a scan finds it otherwise than before, the watch has told.

use std::os::unix::fs::MetadataExt;

use ha_core::replication::listing::Side;
use ha_core::replication::manifest::{Entry, Kind, Mtime};
use ha_core::replication::path::RelPath;
use proptest::prelude::*;

use super::*;
use crate::sync::{Digests, scan};

#[derive(Debug, Clone)]
enum Op {
    Write(usize, u8),
    MakeDir(usize),
    Remove(usize),
    Rename(usize, usize),
    Link(usize, usize),
    Symlink(usize, usize),
    Mode(usize, u32),
}

/// From here on the paths take no part.
const OUTSIDE: usize = 7;
/// Inside the tree, excluded, and beside it.
const PATHS: [&str; 12] = [
    "a",
    "b",
    "a/a",
    "a/b",
    "a/a/a",
    "b/c",
    "b/c/d",
    "excluded",
    "excluded/a",
    "../../beside/a",
    "../../beside/a/b",
    "../../beside/c",
];

fn any_op() -> impl Strategy<Value = Op> {
    let path = || 0..PATHS.len();
    prop_oneof![
        3 => (path(), any::<u8>()).prop_map(|(path, byte)| Op::Write(path, byte)),
        4 => path().prop_map(Op::MakeDir),
        1 => path().prop_map(Op::Remove),
        4 => (path(), path()).prop_map(|(from, to)| Op::Rename(from, to)),
        1 => (path(), path()).prop_map(|(from, to)| Op::Link(from, to)),
        1 => (path(), path()).prop_map(|(to, at)| Op::Symlink(to, at)),
        1 => (path(), prop_oneof![Just(0o700), Just(0o755)]).prop_map(|(path, mode)| Op::Mode(path, mode)),
    ]
}

/// Does it, if it can be done.
fn perform(place: &Place, op: &Op) {
    let at = |index: &usize| place.at(PATHS[*index]);
    // a file is seen under its name in the tree: not when it is written under another one, through a link of either kind
    let elsewhere = |index: &usize| {
        let linked = |path: PathBuf| path.metadata().is_ok_and(|meta| meta.is_file() && meta.nlink() > 1);
        at(index).ancestors().any(|up| up.is_symlink()) || (*index >= OUTSIDE && linked(at(index)))
    };
    let done = match op {
        Op::Write(path, _) | Op::Mode(path, _) if elsewhere(path) => Ok(()),
        Op::Write(path, byte) => fs::write(at(path), vec![*byte; usize::from(*byte)]),
        Op::MakeDir(path) => fs::create_dir(at(path)),
        Op::Remove(path) => fs::remove_file(at(path)).or_else(|_| fs::remove_dir_all(at(path))),
        Op::Rename(from, to) => fs::rename(at(from), at(to)),
        Op::Link(from, to) => fs::hard_link(at(from), at(to)),
        Op::Symlink(to, path) => symlink(at(to), at(path)),
        Op::Mode(path, mode) => fs::set_permissions(at(path), fs::Permissions::from_mode(*mode)),
    };
    // many cannot be done; what matters is what there is afterwards
    drop(done);
}

/// What a scan says of all that takes part. Of a directory's time nothing: an excluded entry changes it, too. Of hard
/// links nothing: the other name may lie outside.
fn listed(place: &Place) -> Vec<(RelPath, Entry)> {
    let listing = scan(&place.tree(), Digests::Yes, Side::Source).unwrap().listing;
    let root = listing.find(&RelPath::root());
    let mut entries = Vec::new();
    let mut ahead: Vec<_> = root.map(|id| (RelPath::root(), id)).into_iter().collect();
    while let Some((above, id)) = ahead.pop() {
        for child in listing.children(id).filter(|child| child.takes_part) {
            let path = above.join(child.name).unwrap();
            ahead.extend(child.directory.map(|below| (path.clone(), below)));
            entries.push((path, child.entry));
        }
    }
    for (_, entry) in &mut entries {
        match &mut entry.kind {
            Kind::Dir => entry.meta.mtime = Mtime { seconds: 0, nanoseconds: 0 },
            Kind::File { link, .. } => *link = None,
            Kind::Symlink { .. } | Kind::Special => {}
        }
    }
    entries
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_changes_a_scan_changes_what_is_seen(ops in proptest::collection::vec(any_op(), 1..40)) {
        let place = Place::with(&[], &["excluded"]);
        let watch = Watch::start(&[place.tree()]).unwrap();
        let (mut before, mut seen) = (listed(&place), settled(&watch));
        for op in &ops {
            perform(&place, op);
            let told = watch.seen() != seen;
            let after = listed(&place);
            prop_assert!(told || after == before, "{op:?} was not seen");
            (before, seen) = (after, settled(&watch));
        }
        prop_assert_eq!(watch.directories(), count(&place.tree()));
    }
}
