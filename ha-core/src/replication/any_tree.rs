//! Trees for property tests.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::filter::Filter;
use super::manifest::{Entry, Kind, Manifest, Meta, Mtime};
use super::path::RelPath;
use super::plan::{DeltaLimits, Rules};

pub(super) fn path(text: &str) -> RelPath {
    RelPath::new(text).unwrap()
}

pub(super) fn meta(seed: i64) -> Meta {
    Meta { mode: 0o644, mtime: Mtime { seconds: seed, nanoseconds: 0 }, ..Meta::default() }
}

pub(super) fn file(size: u64, seed: i64) -> Entry {
    Entry { kind: Kind::File { size, link: None, digest: None }, meta: meta(seed) }
}

pub(super) fn dir(seed: i64) -> Entry {
    Entry { kind: Kind::Dir, meta: meta(seed) }
}

/// A tree over few names, so that two of them often meet: each entry is put where its parents allow it.
pub(super) fn any_tree() -> impl Strategy<Value = Manifest> {
    let segment = prop_oneof![Just("a"), Just("b"), Just("c"), Just("monitor"), Just("a-b")];
    let one = (proptest::collection::vec(segment, 1..4), 0..9u8, 0..2i64);
    (proptest::collection::vec(one, 0..14), any::<bool>()).prop_map(|(entries, exists)| {
        let mut map = BTreeMap::from([(RelPath::root(), dir(0))]);
        for (segments, kind, seed) in entries {
            let full = path(&segments.join("/"));
            let mut above: Vec<RelPath> = std::iter::successors(full.parent(), RelPath::parent).collect();
            above.reverse();
            let blocked = |up: &RelPath| map.get(up).is_some_and(|entry: &Entry| entry.kind != Kind::Dir);
            if map.contains_key(&full) || above.iter().any(blocked) {
                continue;
            }
            for up in above {
                map.entry(up).or_insert_with(|| dir(seed));
            }
            let linked = |link| Entry {
                kind: Kind::File { size: 5, link: Some(link), digest: None },
                meta: meta(link.into()),
            };
            let entry = match kind {
                0 | 1 => dir(seed),
                2 => linked(0),
                3 => linked(1),
                4 => Entry { kind: Kind::Symlink { target: b"a".as_slice().into() }, meta: meta(seed) },
                5 => Entry { kind: Kind::Special, meta: meta(seed) },
                6 => file(20_000, seed),
                _ => file(4, seed),
            };
            map.insert(full, entry);
        }
        if exists { Manifest::from_entries(map).unwrap() } else { Manifest::default() }
    })
}

pub(super) fn any_rules() -> impl Strategy<Value = Rules> {
    let none: &[&str] = &[];
    prop_oneof![
        Just((none, none)),
        Just((none, ["*/monitor*", "monitor"].as_slice())),
        Just((["[ab]+/*"].as_slice(), ["*/m*"].as_slice())),
        Just((["a/b", "c"].as_slice(), none)),
        Just((none, ["a"].as_slice())),
    ]
    .prop_map(|(only, exclude)| Rules {
        filter: Filter::new(only, exclude).unwrap(),
        delta: DeltaLimits { min: 10, max: 1 << 20 },
    })
}

/// Two trees that are mostly the same, as they are day by day: the second lacks some of the first and has some of a third.
pub(super) fn any_similar_trees() -> impl Strategy<Value = (Manifest, Manifest)> {
    (any_tree(), any_tree(), any::<u16>(), any::<u16>()).prop_map(|(source, other, lacks, has)| {
        let mut map: BTreeMap<RelPath, Entry> = BTreeMap::new();
        let stands_in = |map: &BTreeMap<RelPath, Entry>, path: &RelPath| {
            path.parent().is_none_or(|up| map.get(&up).is_some_and(|entry| entry.kind == Kind::Dir))
        };
        for (index, (path, entry)) in source.iter().enumerate() {
            let kept = lacks & (1 << (index % 16)) == 0 || index % 3 > 0 || path.is_root();
            if kept && stands_in(&map, path) {
                map.insert(path.clone(), entry.clone());
            }
        }
        for (index, (path, entry)) in other.iter().enumerate() {
            let free = !map.contains_key(path) || !map.keys().any(|name| name.is_below(path));
            if index % 4 == 0 && has & (1 << (index % 16)) != 0 && free && stands_in(&map, path) {
                map.insert(path.clone(), entry.clone());
            }
        }
        let replica = Manifest::from_entries(map).unwrap();
        (source, replica)
    })
}
