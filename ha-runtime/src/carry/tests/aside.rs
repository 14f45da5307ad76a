//! What is kept beside.

use ha_core::replication::path::RelPath;

use super::*;

#[test]
fn nothing_that_was_set_aside_is_ever_replaced() {
    let pair = Pair::new();
    let node = &pair.mine;
    node.write("601/busy.wav", "first");
    let (tree, mut aside) = (node.tree(), node.aside());
    let path = RelPath::new("default/601/busy.wav").unwrap();
    let mut keep = || aside.keep(&tree, &path, Why::ChangedOnBoth).unwrap().unwrap();
    let first = keep();
    assert_eq!(keep(), first, "twice is once");
    let resumed = node.aside().keep(&tree, &path, Why::ChangedOnBoth).unwrap();
    assert_eq!(resumed.as_ref(), Some(&first), "also when it is resumed");
    node.write("601/busy.wav", "second");
    let second = keep();
    assert_ne!(first.kept, second.kept);
    let read = |kept: &RelPath| fs::read_to_string(aside.directory().join(kept.to_string())).unwrap();
    assert_eq!((read(&first.kept), read(&second.kept)), ("first".to_owned(), "second".to_owned()));
    assert_eq!(aside.lines().unwrap(), [first, second]);
    assert_eq!(fs::metadata(aside.directory()).unwrap().mode() & 0o7777, 0o700);
    assert_eq!(
        files(aside.directory()),
        ["manifest", "vm/default/601/busy.wav", "vm/default/601/busy.wav.2"]
    );
}

#[test]
fn what_is_gone_by_then_is_no_error() {
    let pair = Pair::new();
    let path = RelPath::new("default/601/busy.wav").unwrap();
    assert!(pair.mine.aside().keep(&pair.mine.tree(), &path, Why::ChangedOnBoth).unwrap().is_none());
}
