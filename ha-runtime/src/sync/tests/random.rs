//! Any two trees on a real file system: afterwards they are equal, and `rsync` agrees.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use ha_core::replication::guard::DeleteGuard;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
pub(super) enum Thing {
    Dir(u32),
    File(usize, u32),
    LinkTo(usize),
    Symlink(&'static str),
}

/// Paths inside a tree and what is there.
pub(super) type Things = Vec<(PathBuf, Thing)>;

pub(super) fn any_things() -> impl Strategy<Value = Things> {
    // the last is no text, and ends a line
    let segment = prop_oneof![5 => "[abc]".prop_map(String::into_bytes), 1 => Just(b"a-b".to_vec()), 1 => Just(b"\xff\n".to_vec())];
    let name =
        proptest::collection::vec(segment.prop_map(OsString::from_vec), 1..4).prop_map(PathBuf::from_iter);
    let mode = prop_oneof![Just(0o755), Just(0o700), Just(0o2775)];
    let size = prop_oneof![0..20usize, 17_000..60_000usize];
    let thing = prop_oneof![
        mode.prop_map(Thing::Dir),
        (size.clone(), prop_oneof![Just(0o644), Just(0o400), Just(0o4755)])
            .prop_map(|(size, mode)| Thing::File(size, mode)),
        size.prop_map(|size| Thing::File(size, 0o644)),
        (0..10usize).prop_map(Thing::LinkTo),
        prop_oneof![Just("a"), Just("../.."), Just("/etc/passwd")].prop_map(Thing::Symlink),
    ];
    proptest::collection::vec((name, thing), 0..14)
}

/// Puts each thing where the earlier ones let it be put.
pub(super) fn make(root: &Path, things: &[(PathBuf, Thing)]) {
    fs::create_dir_all(root).unwrap();
    let mut files: Vec<PathBuf> = Vec::new();
    for (name, thing) in things {
        let path = root.join(name);
        let above = path.parent().unwrap();
        let mut on_the_way = above.ancestors().take_while(|up| *up != root);
        if on_the_way.any(|up| up.symlink_metadata().is_ok_and(|meta| !meta.is_dir()))
            || path.symlink_metadata().is_ok()
        {
            continue;
        }
        fs::create_dir_all(above).unwrap();
        let set_mode = |mode: u32| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        match thing {
            Thing::Dir(mode) => {
                fs::create_dir(&path).unwrap();
                set_mode(*mode);
            }
            Thing::File(size, mode) => {
                fs::write(&path, vec![*size as u8; *size]).unwrap();
                set_mode(*mode);
                files.push(path);
            }
            Thing::LinkTo(index) if !files.is_empty() => {
                fs::hard_link(&files[index % files.len()], &path).unwrap();
            }
            Thing::LinkTo(_) => {}
            Thing::Symlink(target) => symlink(target, &path).unwrap(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_replica_becomes_any_source(near in any_things(), far in any_things()) {
        let pair = Pair::new();
        make(&pair.near(""), &near);
        make(&pair.far(""), &far);
        // an empty source is refused, which is tested elsewhere
        fs::write(pair.near("always"), "there").unwrap();
        let guard = DeleteGuard { max_percent: 100, max_files: 1000 };
        let options = PushOptions { guard, ..PushOptions::default() };
        pair.push_with(Box::new(|_| passive_slave()), &options).unwrap();
        pair.assert_equal();
        prop_assert_eq!(pair.push().unwrap().changed, 0);
    }
}
