use proptest::prelude::*;

use super::*;

fn path(text: &str) -> RelPath {
    RelPath::new(text).unwrap()
}

fn state(content: u8) -> FileState {
    FileState { size: content.into(), digest: Digest([content; 32]) }
}

fn files<const N: usize>(all: [(&str, u8); N]) -> Files {
    Files(all.into_iter().map(|(name, content)| (path(name), state(content))).collect())
}

#[test]
fn a_file_that_only_the_returning_node_wrote_is_carried() {
    let base = files([("unavail.wav", 1)]);
    let mine = files([("unavail.wav", 2), ("busy.wav", 3)]);
    let expected = [
        (path("busy.wav"), Fate::Carry { over: None }),
        (path("unavail.wav"), Fate::Carry { over: Some(state(1)) }),
    ];
    assert_eq!(newer(&base, &mine, &base), expected);
}

#[test]
fn a_file_that_both_wrote_stays_where_telephony_is() {
    let (base, mine, theirs) = (files([("a", 1)]), files([("a", 2)]), files([("a", 3)]));
    assert_eq!(newer(&base, &mine, &theirs), [(path("a"), Fate::Aside(Why::ChangedOnBoth))]);
    assert_eq!(newer(&base, &mine, &Files::default()), [(path("a"), Fate::Aside(Why::DeletedThere))]);
    assert_eq!(newer(&base, &base, &theirs), []);
    assert_eq!(newer(&base, &base, &Files::default()), []);
}

#[test]
fn without_a_base_nothing_that_differs_is_replaced() {
    let (mine, theirs) = (files([("a", 2), ("b", 1)]), files([("a", 3)]));
    let expected = [(path("a"), Fate::Aside(Why::ChangedOnBoth)), (path("b"), Fate::Carry { over: None })];
    assert_eq!(newer(&Files::default(), &mine, &theirs), expected);
}

#[test]
fn a_file_in_the_place_of_a_directory_is_in_the_way() {
    let nothing = Files::default();
    let aside = |name| vec![(path(name), Fate::Aside(Why::InTheWay))];
    assert_eq!(newer(&nothing, &files([("a/b", 1)]), &files([("a", 1)])), aside("a/b"));
    assert_eq!(newer(&nothing, &files([("a", 1)]), &files([("a/b/c", 1)])), aside("a"));
    let carried = vec![(path("a"), Fate::Carry { over: None })];
    assert_eq!(newer(&nothing, &files([("a", 1)]), &files([("a-b", 1)])), carried);
}

/// Few names and contents, so that they often meet. No name is above another one.
fn any_files() -> impl Strategy<Value = Files> {
    let name = prop_oneof![Just("a"), Just("b/c"), Just("b/d"), Just("e")];
    proptest::collection::btree_map(name.prop_map(path), (0..4u8).prop_map(state), 0..4).prop_map(Files)
}

proptest! {
    #[test]
    fn no_content_of_either_node_is_lost_and_twice_is_once(
        base in any_files(), mine in any_files(), theirs in any_files(), crash in 0..5usize,
    ) {
        let plan = newer(&base, &mine, &theirs);
        let (mut after, mut aside) = (theirs.clone(), Files::default());
        for (path, fate) in plan.iter().take(crash).chain(&newer(&base, &mine, &theirs)) {
            match fate {
                Fate::Carry { over } => {
                    // done again it finds its own content
                    let present = after.0.get(path).copied();
                    prop_assert!(present == *over || present == mine.0.get(path).copied());
                    after.0.insert(path.clone(), mine.0[path]);
                }
                Fate::Aside(_) => { aside.0.insert(path.clone(), mine.0[path]); }
            }
        }
        for (path, state) in &mine.0 {
            let kept = [&after, &aside, &base].iter().any(|files| files.0.get(path) == Some(state));
            prop_assert!(kept, "{path} of the returning node is lost");
        }
        for (path, state) in &theirs.0 {
            let replaced = after.0.get(path) != Some(state);
            prop_assert!(!replaced || base.0.get(path) == Some(state), "{path} of the serving node is lost");
        }
        let again = newer(&base, &mine, &after);
        let all_aside = again.iter().all(|(path, fate)| matches!(fate, Fate::Aside(_)) && aside.0.contains_key(path));
        prop_assert!(all_aside);
    }
}
