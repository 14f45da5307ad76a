use super::*;
use crate::replication::any_tree::{dir, file, path};
use crate::replication::filter::Filter;
use crate::replication::manifest::{Manifest, ManifestError};

/// The tree as a scan lists it: what is excluded is named, but not entered.
pub(in crate::replication) fn listing(manifest: &Manifest, filter: &Filter, side: Side) -> Listing {
    let Some(root) = manifest.get(&RelPath::root()) else { return Listing::absent() };
    let mut draft = Draft::new(root.meta.clone());
    let mut left = vec![Draft::ROOT];
    while let Some(directory) = left.pop() {
        let own = draft.path(directory);
        // backwards: a kernel lists in any order
        let inside: Vec<_> =
            manifest.iter().filter(|(path, _)| path.parent().as_ref() == Some(&own)).collect();
        for (path, entry) in inside.into_iter().rev() {
            let part = filter.takes_part(path, &entry.kind);
            draft.push(directory, path.name().unwrap(), part, entry.clone()).unwrap();
        }
        left.extend(draft.close(directory));
    }
    draft.finish(side)
}

fn root_digest(entries: Vec<(&str, Entry)>, exclude: &[&str], side: Side) -> Digest {
    let entries = entries.into_iter().map(|(text, entry)| (path(text), entry));
    let manifest = Manifest::from_entries(entries).unwrap();
    listing(&manifest, &Filter::new(&[], exclude).unwrap(), side).summary().root.unwrap().1
}

#[test]
fn whatever_a_plan_looks_at_changes_the_digests_of_all_directories_above() {
    use crate::replication::manifest::Mtime;
    let with = |entry| root_digest(vec![("", dir(0)), ("a", dir(1)), ("a/x", entry)], &[], Side::Source);
    let symlink = |text: &[u8]| Entry { kind: Kind::Symlink { target: text.into() }, meta: Meta::default() };
    let mut others = vec![
        file(4, 1),
        file(5, 1),
        file(4, 2),
        dir(1),
        dir(2),
        symlink(b"t"),
        symlink(b"u"),
        symlink(b"tu"),
        Entry { kind: Kind::Special, meta: Meta::default() },
    ];
    for change in 0..6 {
        let mut other = file(4, 1);
        match change {
            0 => other.meta.uid = 9,
            1 => other.meta.gid = 9,
            2 => other.meta.mode = 0o600,
            3 => other.meta.mtime = Mtime { seconds: 1, nanoseconds: 7 },
            4 => other.meta.xattrs.insert(b"user.a"[..].into(), b"b"[..].into()),
            _ => other.meta.xattrs.insert(b"user.ab"[..].into(), b""[..].into()),
        }
        others.push(other);
    }
    for byte in 0..2 {
        let digest = Some(Box::new(Digest([byte; 32])));
        others.push(Entry { kind: Kind::File { size: 4, link: None, digest }, meta: file(4, 1).meta });
    }
    let mut digests: Vec<Digest> = others.iter().cloned().map(with).collect();
    let count = digests.len();
    digests.sort_by_key(|digest| digest.0);
    digests.dedup();
    assert_eq!(digests.len(), count, "each differs from all others: {others:?}");
}

#[test]
fn names_of_one_file_are_told_from_files_that_look_alike() {
    let linked = |link| Entry { kind: Kind::File { size: 4, link, digest: None }, meta: Meta::default() };
    let digest = |links: [Option<u32>; 3], exclude: &[&str], side| {
        let names = ["a/1", "b/2", "b/3"].into_iter().zip(links.map(linked));
        let dirs = [("", dir(0)), ("a", dir(0)), ("b", dir(0))];
        root_digest(dirs.into_iter().chain(names).collect(), exclude, side)
    };
    let source = |links| digest(links, &[], Side::Source);
    let apart = source([None, None, None]);
    assert_eq!(apart, source([Some(7), None, None]), "its other names are elsewhere");
    assert_eq!(apart, source([Some(7), Some(8), None]));
    assert_ne!(apart, source([Some(7), Some(7), None]));
    assert_ne!(source([None, Some(7), Some(7)]), source([Some(7), Some(7), None]));
    assert_eq!(source([Some(1), Some(1), None]), digest([Some(5), Some(5), Some(3)], &[], Side::Replica));
    // a replica's file must lose its excluded name, a source's name is not looked at
    let links = [Some(7), Some(7), None];
    let hidden = |side, links| digest(links, &["b"], side);
    assert_eq!(hidden(Side::Source, links), hidden(Side::Replica, [None, None, None]));
    assert_eq!(hidden(Side::Replica, links), hidden(Side::Replica, [None, None, None]), "b is not entered");
    let beside = |side, links| digest(links, &["b/2"], side);
    assert_eq!(beside(Side::Source, links), beside(Side::Replica, [None, None, None]));
    assert_ne!(beside(Side::Source, links), beside(Side::Replica, links));
}

#[test]
fn a_name_that_is_no_name_and_a_path_that_is_too_long_are_refused() {
    let mut draft = Draft::new(Meta::default());
    for bad in [&b""[..], b"..", b"a/b", b"a\0", &[b'a'; 256]] {
        assert!(matches!(draft.push(Draft::ROOT, bad, true, dir(0)), Err(ManifestError::Path(_))), "{bad:?}");
    }
    let mut here = Draft::ROOT;
    for _ in 0..16 {
        draft.push(here, &[b'd'; 254], true, dir(0)).unwrap();
        here = draft.close(here).next().unwrap();
    }
    assert_eq!(draft.path(here).as_bytes().len(), 16 * 255 - 1);
    draft.push(here, &[b'x'; 15], true, file(1, 1)).unwrap();
    assert!(draft.push(here, &[b'x'; 16], true, file(1, 1)).is_err());
    let id = draft.close(here).next();
    assert_eq!(id, None);
    draft.finish(Side::Source);
}

#[test]
fn a_directory_that_vanished_is_not_listed() {
    let mut draft = Draft::new(Meta::default());
    for name in ["b", "a"] {
        draft.push(Draft::ROOT, name.as_bytes(), true, dir(0)).unwrap();
    }
    let [a, b] = draft.close(Draft::ROOT).collect::<Vec<_>>()[..] else { panic!() };
    assert_eq!((draft.name(a), draft.name(b)), (&b"a"[..], &b"b"[..]));
    drop(draft.close(b));
    draft.vanish(a);
    let listing = draft.finish(Side::Source);
    let names: Vec<_> = listing.children(Draft::ROOT).map(|child| child.name).collect();
    assert_eq!(names, [b"b"]);
    assert_eq!(listing.find(&path("b")), Some(b));
    assert_eq!((listing.find(&path("a")), listing.find(&path("b/c"))), (None, None));
    let without = root_digest(vec![("", dir(0)), ("b", dir(0))], &[], Side::Source);
    assert_eq!(listing.digest(Draft::ROOT), without);
}
