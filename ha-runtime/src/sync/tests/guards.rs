//! Who refuses what, and that nothing changed then.

use ha_core::replication::guard::{DeleteGuard, Refused};
use ha_core::replication::wire::Frame;

use super::*;

/// The far side's names, contents and times.
pub(super) fn state_of(pair: &Pair) -> (Vec<String>, String) {
    let found = scan(&pair.tree("far", &pair.far_filter), Digests::Yes, Side::Replica).unwrap();
    (names_below(&pair.dir.path().join("far")), format!("{:?}", found.listing.summary()))
}

fn kind(result: Result<FilesReport, SyncError>) -> ErrorKind {
    match result {
        Err(SyncError::Remote { kind, message }) => {
            assert!(message.contains("nothing was changed"), "{message}");
            kind
        }
        other => panic!("not refused: {other:?}"),
    }
}

/// A pair whose next replication would send, change and delete.
pub(super) fn ready_pair() -> Pair {
    let pair = Pair::new();
    for index in 0..20 {
        write(pair.near(format!("d/{index}")), "old");
    }
    pair.push().unwrap();
    write(pair.near("d/1"), "newer");
    write(pair.near("new/file"), "n");
    fs::remove_file(pair.near("d/2")).unwrap();
    pair
}

#[test]
fn a_node_that_serves_or_is_no_slave_is_not_replicated_to() {
    let pair = ready_pair();
    let before = state_of(&pair);
    let options = PushOptions::default();
    let with = |state: NodeState| kind(pair.push_with(Box::new(move |_| state), &options));
    assert_eq!(with(NodeState { role: Role::Master, ..passive_slave() }), ErrorKind::NotSlave);
    assert_eq!(with(NodeState { role: Role::Disabled, ..passive_slave() }), ErrorKind::NotSlave);
    assert_eq!(with(NodeState { active: true, ..passive_slave() }), ErrorKind::Active);
    assert_eq!(with(NodeState { generation: GENERATION + 1, ..passive_slave() }), ErrorKind::Stale);
    assert_eq!(state_of(&pair), before);
    assert!(ErrorKind::Stale.is_refusal() && ErrorKind::Active.is_refusal());
}

#[test]
fn a_takeover_at_any_question_before_the_commit_changes_nothing() {
    let pair = ready_pair();
    let before = state_of(&pair);
    // the state is asked for: by the near end, at the opening, under the lock, before the first rename
    let mut asked = 0;
    for turn in 1.. {
        let changed = NodeState { generation: GENERATION + 1, active: true, ..passive_slave() };
        let hook: Hook = Box::new(move |count| if count >= turn { changed } else { passive_slave() });
        let result = pair.push_with(hook, &PushOptions::default());
        if result.is_ok() {
            break;
        }
        assert_eq!(kind(result), ErrorKind::Active);
        assert_eq!(state_of(&pair), before, "asked {turn} times");
        asked = turn;
    }
    assert_eq!(asked, 4);
    pair.assert_equal();
}

#[test]
fn a_replication_that_finds_the_lock_taken_waits_for_nobody_and_changes_nothing() {
    let pair = ready_pair();
    let before = state_of(&pair);
    *pair.locked.lock().unwrap() = true;
    assert!(matches!(pair.push(), Err(SyncError::Remote { kind: ErrorKind::Busy, .. })));
    assert_eq!(state_of(&pair), before);
    *pair.locked.lock().unwrap() = false;
    pair.push().unwrap();
    assert!(!*pair.locked.lock().unwrap(), "the lock is given back");
}

#[test]
fn an_empty_or_missing_source_empties_nothing() {
    let pair = ready_pair();
    let before = state_of(&pair);
    fs::remove_dir_all(pair.near("")).unwrap();
    for _ in 0..2 {
        match pair.push() {
            Err(SyncError::Guard { dataset, why: Refused::SourceEmpty(20) }) => {
                assert_eq!(dataset, "/srv/data")
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(state_of(&pair), before);
        fs::create_dir_all(pair.near("only/directories")).unwrap();
    }
}

#[test]
fn more_deletions_than_allowed_are_refused_until_the_limit_is_raised() {
    let pair = ready_pair();
    for index in 3..9 {
        fs::remove_file(pair.near(format!("d/{index}"))).unwrap();
    }
    let before = state_of(&pair);
    let error = pair.push().unwrap_err();
    assert!(error.is_refusal());
    assert!(error.to_string().contains("7 of 20 files would be deleted (35 %), 4 are allowed"), "{error}");
    assert_eq!(state_of(&pair), before);
    let guard = DeleteGuard { max_percent: 50, max_files: 1000 };
    let trees = pair.near_trees();
    pair.with_agent(Box::new(|_| passive_slave()), |client| {
        let mut push = |options| client.push_files(GENERATION, &trees, &options, &mut |_| {});
        assert!(push(PushOptions::default()).is_err());
        assert!(!*pair.locked.lock().unwrap(), "a refusal gives the lock back");
        push(PushOptions { guard, ..PushOptions::default() }).unwrap();
        assert_eq!(client.state().unwrap().generation, GENERATION);
    });
    pair.assert_equal();
}

#[test]
fn what_is_excluded_is_neither_sent_nor_deleted_however_deep_it_lies() {
    let pair = Pair::excluding(&["*/monitor*"]);
    write(pair.near("t1/acd/a.wav"), "a");
    write(pair.near("t1/monitor/secret.wav"), "never leaves the master");
    write(pair.far("t1/monitor/kept.wav"), "slave's own");
    write(pair.far("t2/monitor/kept.wav"), "slave's own, in a tenant that the master does not have");
    write(pair.far("t2/acd/gone.wav"), "g");
    pair.push().unwrap();
    let names: Vec<_> = names_below(&pair.far(""))
        .into_iter()
        .map(|name| name.rsplit_once("/data/").unwrap().1.to_owned())
        .collect();
    assert_eq!(
        names,
        [
            "t1",
            "t1/acd",
            "t1/acd/a.wav",
            "t1/monitor",
            "t1/monitor/kept.wav",
            "t2",
            "t2/monitor",
            "t2/monitor/kept.wav"
        ]
    );
    assert_eq!(pair.push().unwrap().changed, 0);
}

#[test]
fn the_far_end_keeps_to_its_own_exclusions() {
    let mut pair = Pair::new();
    pair.far_filter = Filter::new(&[], &["private"]).unwrap();
    write(pair.near("private/f"), "x");
    write(pair.near("a"), "x");
    let before = state_of(&pair);
    assert_eq!(kind(pair.push()), ErrorKind::NotAccepted);
    assert_eq!(state_of(&pair), before);
}

#[test]
fn a_dataset_that_the_far_end_does_not_know_is_refused_by_name() {
    let pair = Pair::new();
    let root = Root::new(pair.dir.path().join("near")).unwrap();
    let trees = [Tree::new(&root, "/etc", Filter::default()).unwrap()];
    let result = pair.with_agent(Box::new(|_| passive_slave()), |client| {
        client.push_files(GENERATION, &trees, &PushOptions::default(), &mut |_| {})
    });
    assert!(matches!(result, Err(SyncError::UnknownDataset(name)) if name == "/etc"));
}

#[test]
fn a_link_on_the_way_to_a_dataset_is_not_followed() {
    let pair = ready_pair();
    let outside = pair.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::rename(pair.dir.path().join("far/srv/data"), pair.dir.path().join("far/srv/real")).unwrap();
    symlink(&outside, pair.dir.path().join("far/srv/data")).unwrap();
    let error = pair.push().unwrap_err().to_string();
    assert!(error.contains("links on the way to a dataset are not followed"), "{error}");
    assert_eq!(names_below(&outside), Vec::<String>::new());
}

#[test]
fn a_link_inside_the_replica_is_replaced_and_not_followed() {
    let pair = ready_pair();
    let outside = pair.dir.path().join("outside");
    write(outside.join("1"), "not ours");
    fs::remove_dir_all(pair.far("d")).unwrap();
    symlink(&outside, pair.far("d")).unwrap();
    pair.push().unwrap();
    pair.assert_equal();
    assert_eq!(fs::read_to_string(outside.join("1")).unwrap(), "not ours");
    assert_eq!(names_below(&outside).len(), 1);
}

#[test]
fn a_link_swapped_in_just_before_the_commit_leads_nowhere() {
    let pair = ready_pair();
    let outside = pair.dir.path().join("outside");
    write(outside.join("1"), "not ours");
    write(outside.join("2"), "not ours either");
    let (d, to) = (pair.far("d"), outside.clone());
    let hook: Hook = Box::new(move |asked| {
        if asked == 4 {
            fs::remove_dir_all(&d).unwrap();
            symlink(&to, &d).unwrap();
        }
        passive_slave()
    });
    match pair.push_with(hook, &PushOptions::default()) {
        Err(SyncError::Remote { kind: ErrorKind::Partial, message }) => {
            assert!(message.contains("every file is old or new"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(fs::read_to_string(outside.join("1")).unwrap(), "not ours");
    assert_eq!(names_below(&outside).len(), 2);
    pair.push().unwrap();
    pair.assert_equal();
}

#[test]
fn undoing_a_directory_follows_no_link_either() {
    let pair = Pair::new();
    let far = pair.dir.path().join("far");
    let tree = Tree::new(&Root::new(&far).unwrap(), "/srv/new/data", pair.filter.clone()).unwrap();
    assert_eq!(tree.create().unwrap().1, 2);
    let outside = pair.dir.path().join("outside");
    fs::create_dir_all(outside.join("data")).unwrap();
    fs::rename(far.join("srv/new"), far.join("srv/aside")).unwrap();
    symlink(&outside, far.join("srv/new")).unwrap();
    tree.unmake(2);
    assert!(outside.join("data").is_dir() && far.join("srv/new").is_symlink());

    fs::remove_file(far.join("srv/new")).unwrap();
    fs::rename(far.join("srv/aside"), far.join("srv/new")).unwrap();
    tree.unmake(2);
    assert!(!far.join("srv/new").exists() && far.join("srv").is_dir());
}

/// Frames given to an agent as they are, and the frames that it answers.
fn converse(pair: &Pair, frames: &[Frame]) -> Vec<Frame> {
    converse_with(&pair.node(Box::new(|_| passive_slave())), frames)
}

pub(super) fn converse_with(node: &Node, frames: &[Frame]) -> Vec<Frame> {
    let mut input = Vec::new();
    for frame in frames {
        ha_core::replication::wire::encode(frame, &mut input).unwrap();
    }
    let mut output = Vec::new();
    serve(&input[..], &mut output, node).ok();
    let mut read = &output[..];
    std::iter::from_fn(|| read_frame(&mut read, &mut 0).unwrap()).collect()
}

#[test]
fn an_agent_answers_nobody_who_does_not_say_who_he_is() {
    let pair = ready_pair();
    let refused = |frames: &[Frame]| match converse(&pair, frames).pop() {
        Some(Frame::Error { kind, .. }) => kind,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&[Frame::AskState]), ErrorKind::Protocol);
    assert_eq!(refused(&[Frame::Hello(Hello { version: VERSION + 1, ..hello() })]), ErrorKind::Mismatch);
    let other = Hello { distribution: "other".to_owned(), ..hello() };
    assert_eq!(refused(&[Frame::Hello(other), Frame::AskState]), ErrorKind::Mismatch);
}

#[test]
fn frames_in_an_order_that_makes_no_sense_change_nothing() {
    use ha_core::replication::manifest::Meta;
    use ha_core::replication::path::RelPath;
    use ha_core::replication::wire::Action;
    let pair = ready_pair();
    let before = state_of(&pair);
    let generation = GENERATION;
    let begin = || vec![Frame::Hello(hello()), Frame::Begin { generation }];
    let path = |text: &str| RelPath::new(text).unwrap();
    let step = |generation, dataset, action| Frame::Step { generation, dataset, action };
    let delete = || Action::Delete { path: path("d/1"), directory: false };
    let file = |generation, name: &str| Frame::File {
        generation,
        dataset: 0,
        path: path(name),
        size: 3,
        meta: Meta::default(),
    };
    let end = || Frame::FileEnd { generation, digest: [0; 32] };
    let data = || Frame::Data { generation, bytes: b"abc".to_vec() };
    let copy = |offset, length| Frame::Copy { generation, offset, length };
    let ask_tree = |dataset| Frame::AskTree { dataset, digests: false };
    let ask_directory = |name| Frame::AskDirectories { dataset: 0, paths: vec![path(name)] };
    let commit = || [Frame::Prepare { generation }, Frame::Commit { generation }];
    for (frames, expected) in [
        (vec![Frame::Commit { generation }], ErrorKind::Protocol),
        (vec![step(generation, 0, delete()), Frame::Commit { generation }], ErrorKind::Protocol),
        (vec![step(generation - 1, 0, delete())], ErrorKind::Stale),
        (vec![step(generation, 9, delete())], ErrorKind::NotAccepted),
        (vec![data()], ErrorKind::Protocol),
        (vec![Frame::AskSignature], ErrorKind::Protocol),
        (vec![file(generation, "x"), data(), data()], ErrorKind::Corrupt),
        (vec![file(generation, "x"), data(), end()], ErrorKind::Corrupt),
        (vec![file(generation, "x"), end()], ErrorKind::Corrupt),
        (vec![file(generation, ""), data()], ErrorKind::NotAccepted),
        (vec![file(generation, ".pbx-ha-stage-1/1")], ErrorKind::NotAccepted),
        (vec![file(generation - 1, "x")], ErrorKind::Stale),
        (vec![Frame::Ready { number: 0, kept: 0 }], ErrorKind::Protocol),
        (vec![file(generation, "x"), copy(0, 1)], ErrorKind::Corrupt),
        (vec![file(generation, "d/1"), Frame::AskSignature, copy(0, 4)], ErrorKind::Corrupt),
        (vec![file(generation, "d/1"), Frame::AskSignature, copy(0, 0)], ErrorKind::Corrupt),
        (vec![file(generation, "d/1"), Frame::AskSignature, copy(1, 3)], ErrorKind::Corrupt),
        (vec![file(generation, "d/1"), Frame::AskSignature, copy(u64::MAX, 2)], ErrorKind::Corrupt),
        (vec![ask_directory("d")], ErrorKind::Protocol),
        (vec![ask_tree(9)], ErrorKind::NotAccepted),
        (vec![ask_tree(0), ask_directory("d/1")], ErrorKind::Protocol),
        (vec![ask_tree(0), ask_directory("nowhere")], ErrorKind::Protocol),
    ] {
        let all = [begin(), frames.clone()].concat();
        let said = converse(&pair, &all);
        assert!(
            said.iter().any(|frame| matches!(frame, Frame::Error { kind, .. } if *kind == expected)),
            "{frames:?}: {said:?}"
        );
        // whatever is said after a refusal belongs to what was refused
        let said = converse(&pair, &[all, commit().to_vec()].concat());
        assert!(!said.iter().any(|frame| matches!(frame, Frame::Committed(_))), "{frames:?}: {said:?}");
        assert_eq!(state_of(&pair), before, "{frames:?}");
    }
    // a file that is placed must have come
    let place = step(generation, 0, Action::Place { path: path("never") });
    let said = converse(
        &pair,
        &[begin(), vec![file(generation, "x"), Frame::Abandon { generation }, place], commit().to_vec()]
            .concat(),
    );
    assert!(!said.iter().any(|frame| matches!(frame, Frame::Committed(_))), "{said:?}");
    assert_eq!(state_of(&pair), before);
}

#[test]
fn a_stream_that_ends_in_the_middle_of_a_file_leaves_no_trace() {
    let pair = ready_pair();
    let before = state_of(&pair);
    use ha_core::replication::manifest::Meta;
    let generation = GENERATION;
    let path = ha_core::replication::path::RelPath::new("half").unwrap();
    let file = Frame::File { generation, dataset: 0, path, size: 9, meta: Meta::default() };
    let data = Frame::Data { generation, bytes: b"half".to_vec() };
    converse(&pair, &[Frame::Hello(hello()), Frame::Begin { generation }, file, data]);
    assert_eq!(state_of(&pair), before);
    assert!(!*pair.locked.lock().unwrap());
}

#[test]
fn an_agent_that_is_outdated_ends_the_replication_that_it_has_begun_and_begins_no_other() {
    let pair = Pair::new();
    write(pair.near("a"), "a");
    let outdated = pair.outdated.clone();
    // once it was opened, and again before the commit
    let replaced = move |asked| {
        outdated.store(asked >= 3, Ordering::SeqCst);
        passive_slave()
    };
    let (here, there) = UnixStream::pair().unwrap();
    let (node, trees) = (pair.node(Box::new(replaced)), pair.near_trees());
    std::thread::scope(|scope| {
        let agent = scope.spawn(|| serve(&there, &there, &node));
        let mut client = Client::open(here, &hello()).unwrap();
        client.push_files(GENERATION, &trees, &PushOptions::default(), &mut |_| {}).unwrap();
        match client.state() {
            Err(SyncError::Remote { kind: ErrorKind::Cancelled, message }) => {
                assert!(message.contains("its program was replaced"), "{message}");
            }
            other => panic!("{other:?}"),
        }
        // while the near end still listens
        agent.join().unwrap().unwrap();
    });
    pair.assert_equal();
}
