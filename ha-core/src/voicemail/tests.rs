use std::collections::BTreeSet;

use proptest::prelude::*;

use super::plan::{MessageFate, fate};
use super::*;
use crate::carry::{Carried, MAX_SIZE, Why};

mod model;

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn found(path: &str, content: &str) -> Found {
    let digest = Digest(*blake3::hash(content.as_bytes()).as_bytes());
    Found {
        path: RelPath::new(path).unwrap(),
        state: FileState { size: content.len() as u64, digest },
        text: path.ends_with(".txt").then(|| content.as_bytes().to_vec()),
    }
}

/// A message as Asterisk leaves it: its recording in one format and its text.
fn message(place: &str, sound: &str, text: &str) -> [Found; 2] {
    let text = format!(";\n[message]\n{text}\nduration=5\n");
    [found(&format!("default/{place}.wav"), sound), found(&format!("default/{place}.txt"), &text)]
}

fn spool<const N: usize>(messages: [[Found; 2]; N]) -> Spool {
    Spool::new(messages.into_iter().flatten())
}

fn lines(base: &Base, mine: &Spool, theirs: &Spool) -> Vec<String> {
    plan(base, mine, theirs).steps.iter().map(ToString::to_string).collect()
}

const BO: &str = "origtime=1000\ncallerid=Bo <602>";
const CY: &str = "origtime=1001\ncallerid=Cy <603>";

#[test]
fn a_message_that_only_the_returning_node_has_is_put_behind_the_others() {
    let mine = spool([message("601/INBOX/msg0000", "hello", BO), message("601/INBOX/msg0001", "later", CY)]);
    let theirs = spool([message("601/INBOX/msg0000", "new", "origtime=2000")]);
    let expected = [
        "carry default/601/INBOX/msg0000 to default/601/INBOX/msg0001",
        "carry default/601/INBOX/msg0001 to default/601/INBOX/msg0002",
    ];
    assert_eq!(lines(&Base::default(), &mine, &theirs), expected);
    assert_eq!(lines(&Base::of(&mine), &mine, &theirs), [""; 0], "they were deleted there");
}

#[test]
fn a_message_that_was_heard_before_the_crash_is_not_new_again() {
    let new = spool([message("601/INBOX/msg0000", "hello", BO)]);
    let heard = spool([message("601/Old/msg0000", "hello", BO)]);
    let expected = ["move default/601/INBOX/msg0000 to default/601/Old/msg0000, as on the returning node"];
    assert_eq!(lines(&Base::of(&new), &heard, &new), expected);
    assert_eq!(lines(&Base::of(&new), &new, &heard), [""; 0]);
    assert_eq!(lines(&Base::default(), &heard, &new), [""; 0], "who moved it is not known");
}

#[test]
fn the_same_recording_of_another_call_is_another_message() {
    let one = spool([message("601/INBOX/msg0000", "silence", BO)]);
    for other in [CY, "origtime=1000\ncallerid=Cy <603>", "origtime=999\ncallerid=Bo <602>"] {
        let mine = spool([message("601/INBOX/msg0000", "silence", other)]);
        assert_eq!(lines(&Base::of(&one), &mine, &one).len(), 1, "{other}");
    }
    let elsewhere = spool([message("602/INBOX/msg0000", "silence", BO)]);
    assert_eq!(lines(&Base::of(&one), &elsewhere, &one).len(), 1);
}

#[test]
fn a_message_that_was_given_its_id_on_one_node_only_is_the_same() {
    let plain = spool([message("601/INBOX/msg0000", "hello", BO)]);
    let named = spool([message("601/INBOX/msg0000", "hello", &format!("{BO}\nmsg_id=1000-1"))]);
    let copy = spool([message("601/INBOX/msg0000", "hello", &format!("{BO}\nmsg_id=1000-2"))]);
    for (mine, theirs) in [(&plain, &named), (&named, &plain)] {
        assert_eq!(lines(&Base::default(), mine, theirs), [""; 0]);
        assert_eq!(lines(&Base::of(&plain), mine, &Spool::default()), [""; 0]);
    }
    assert_eq!(lines(&Base::default(), &copy, &named).len(), 1, "a copy that was forwarded");
}

#[test]
fn what_makes_no_message_is_set_aside_and_locks_are_nothing() {
    let [sound, text] = message("601/INBOX/msg0001", "cut", BO);
    let alone = [
        found("default/601/INBOX/msg0000.wav", "only sound"),
        sound.clone(),
        Found { text: Some(Vec::new()), ..text },
        found("default/601/tmp/aBcDeF.wav", "being recorded"),
        found("default/601/INBOX/.lock", ""),
        found("default/601/INBOX/.lock-01234567", ""),
        found("default/601/INBOX/lock", ""),
    ];
    let mine = Spool::new(alone);
    assert_eq!((mine.messages.len(), mine.files.0.len(), mine.torn.0.len()), (0, 0, 4));
    let steps = plan(&Base::default(), &mine, &Spool::default()).steps;
    assert!(
        steps.iter().all(|step| matches!(step, Step::SetAside { why: Why::Incomplete, .. })),
        "{steps:?}"
    );
    assert_eq!(steps.len(), 4);
    // ... and takes a number that nothing is put over
    assert_eq!(mine.next_number(&Mailbox { context: name("default"), name: name("601") }, &name("INBOX")), 2);
}

#[test]
fn greetings_and_passwords_are_files() {
    let base = Spool::new([found("default/601/unavail.wav", "old"), found("default/601/busy.wav", "old")]);
    let mine = Spool::new([found("default/601/unavail.wav", "mine"), found("default/601/busy.wav", "mine")]);
    let theirs =
        Spool::new([found("default/601/unavail.wav", "old"), found("default/601/busy.wav", "theirs")]);
    let expected = [
        "replace default/601/unavail.wav by the returning node's newer one",
        "set aside default/601/busy.wav: it differs on both nodes, and the serving node's is kept",
    ];
    assert_eq!(lines(&Base::of(&base), &mine, &theirs), expected);
}

#[test]
fn a_folder_that_asterisk_cannot_number_further_takes_no_more() {
    let theirs = spool([message("601/INBOX/msg9997", "last but one", BO)]);
    let mine = spool([
        message("601/INBOX/msg0000", "fits", "origtime=1"),
        message("601/INBOX/msg0001", "does not", "origtime=2"),
    ]);
    let expected = [
        "carry default/601/INBOX/msg0000 to default/601/INBOX/msg9998",
        "set aside default/601/INBOX/msg0001.txt default/601/INBOX/msg0001.wav: its folder on the serving node holds as many \
         messages as Asterisk can number",
    ];
    assert_eq!(lines(&Base::default(), &mine, &theirs), expected);
}

#[test]
fn a_message_that_a_crash_left_in_two_folders_is_heard_and_stays_where_it_is() {
    let both = spool([message("601/INBOX/msg0000", "hello", BO), message("601/Old/msg0000", "hello", BO)]);
    let new = spool([message("601/INBOX/msg0000", "hello", BO)]);
    assert_eq!(lines(&Base::of(&new), &new, &both), [""; 0]);
    assert_eq!(lines(&Base::of(&new), &both, &new).len(), 1);
}

#[test]
fn of_a_message_on_both_the_one_that_moved_it_decides_and_heard_wins() {
    let names = ["INBOX", "Old", "Work", "Urgent"].map(name);
    for base in &names {
        for mine in &names {
            for theirs in &names {
                let both_moved = mine != base && theirs != base && mine != theirs;
                let moves = (mine != base && theirs == base)
                    || (both_moved && theirs.is_unheard() && !mine.is_unheard());
                let expected = if moves { MessageFate::Move } else { MessageFate::Stay };
                assert_eq!(fate(Some(base), mine, &[theirs]), expected, "{base} {mine} {theirs}");
                assert_eq!(fate(None, mine, &[theirs]), MessageFate::Stay);
            }
        }
    }
}

#[test]
fn names_that_are_more_than_a_name_are_refused() {
    for bad in ["", ".", "..", "a/b", "a\u{0}"] {
        assert!(serde_json::from_value::<Name>(bad.into()).is_err(), "{bad:?}");
    }
}

#[test]
fn gaps_are_closed_around_what_makes_no_message() {
    let [sound, _] = message("601/INBOX/msg0001", "cut", BO);
    let files = ["601/INBOX/msg0002", "601/INBOX/msg0005", "602/INBOX/msg0000"].map(|at| message(at, at, BO));
    let spool = Spool::new(files.into_iter().flatten().chain([sound]));
    let gaps: Vec<String> =
        spool.gaps().iter().map(|(message, to)| format!("{} {to}", message.place)).collect();
    let expected = [
        "default/601/INBOX/msg0002 default/601/INBOX/msg0000",
        "default/601/INBOX/msg0005 default/601/INBOX/msg0002",
    ];
    assert_eq!(gaps, expected);
}

proptest! {
    #[test]
    fn gaps_that_are_closed_leave_the_order_and_no_gaps(pair in model::pairs()) {
        let mut after = pair.carried(&[]);
        let before = after.clone();
        for (message, to) in model::spool(&before).gaps() {
            let moved = after.remove(&message.place).unwrap();
            prop_assert_eq!(after.insert(to, moved), None);
        }
        prop_assert!(model::spool(&after).gaps().is_empty());
        prop_assert_eq!(before.values().collect::<Vec<_>>(), after.values().collect::<Vec<_>>());
        for place in after.keys().filter(|place| place.number > 0) {
            let before = Place { number: place.number - 1, ..place.clone() };
            prop_assert!(after.contains_key(&before), "a gap before {}", place);
        }
    }

    #[test]
    fn what_is_kept_and_sent_comes_back(pair in model::pairs()) {
        let text = serde_json::to_string(&(pair.mine(), pair.base(), pair.plan())).unwrap();
        let (mine, base, plan): (Spool, Base, Plan) = serde_json::from_str(&text).unwrap();
        prop_assert_eq!((mine, base, plan), (pair.mine(), pair.base(), pair.plan()));
    }

    #[test]
    fn no_message_is_lost_or_doubled_and_each_is_where_its_owner_put_it(pair in model::pairs()) {
        let after = pair.carried(&[]);
        let at = |node: &model::Node, message: &model::Recorded| -> Vec<Place> {
            node.iter().filter(|(_, other)| other.key() == message.key()).map(|(place, _)| place.clone()).collect()
        };
        let known = pair.known();
        let all: BTreeSet<_> = pair.mine.values().chain(pair.theirs.values()).collect();
        for message in all {
            let (base, mine, theirs) = (at(&known, message), at(&pair.mine, message), at(&pair.theirs, message));
            let result = at(&after, message);
            let deleted = theirs.is_empty() && !base.is_empty();
            prop_assert_eq!(result.len(), usize::from(!deleted), "{:?}", message);
            let Some(result) = result.first() else { continue };
            let folder = |places: &[Place]| places.first().map(|place| place.folder.clone());
            let (base, mine, theirs) = (folder(&base), folder(&mine), folder(&theirs));
            let heard = |folder: &Option<Name>| folder.as_ref().is_some_and(|folder| !folder.is_unheard());
            match (base, mine, theirs) {
                (_, mine, None) => prop_assert_eq!(Some(result.folder.clone()), mine),
                (None, _, theirs) | (_, None, theirs) => prop_assert_eq!(Some(result.folder.clone()), theirs),
                (base, mine, theirs) if mine == base => prop_assert_eq!(Some(result.folder.clone()), theirs),
                (base, mine, theirs) if theirs == base => prop_assert_eq!(Some(result.folder.clone()), mine),
                (_, mine, theirs) => {
                    let result = Some(result.folder.clone());
                    prop_assert!(result == mine || result == theirs);
                    prop_assert_eq!(heard(&result), heard(&mine) || heard(&theirs));
                }
            }
        }
    }

    #[test]
    fn numbers_that_are_there_stay_and_others_follow_in_the_order_of_the_calls(pair in model::pairs()) {
        let after = pair.carried(&[]);
        let next = |place: &Place| pair.their_spool().next_number(&place.mailbox, &place.folder);
        let mut last: BTreeMap<(Mailbox, Name), (u16, i64)> = BTreeMap::new();
        for (place, message) in &after {
            let folder = (place.mailbox.clone(), place.folder.clone());
            if place.number < next(place) {
                prop_assert_eq!(pair.theirs.get(place), Some(message), "{} is another message now", place);
                continue;
            }
            let expected = last.get(&folder).map_or(next(place), |(number, _)| number + 1);
            prop_assert_eq!(place.number, expected, "a gap before {}", place);
            prop_assert!(last.get(&folder).is_none_or(|(_, time)| *time <= message.time()));
            last.insert(folder, (place.number, message.time()));
        }
    }

    #[test]
    fn twice_is_once_and_a_crash_after_any_step_changes_nothing(
        pair in model::pairs(), crashes in proptest::collection::vec(0..4usize, 0..4),
    ) {
        let after = pair.carried(&[]);
        prop_assert_eq!(&pair.carried(&crashes), &after);
        let again = plan(&pair.base(), &pair.mine(), &model::spool(&after));
        prop_assert!(again.steps.is_empty(), "{}", again);
        // what was carried is known to be on both: who deletes it there is not contradicted
        let mut base = pair.base();
        let learned = Base::of(&model::spool(&after)).messages;
        let put = learned.into_iter().filter(|known| !base.messages.contains(known)).collect::<Vec<_>>();
        put.into_iter().for_each(|known| base.learn(known));
        prop_assert!(plan(&base, &pair.mine(), &Spool::default()).steps.is_empty());
    }
}

#[test]
fn no_more_is_carried_than_its_kind_allows_and_nothing_that_is_not_is_forgotten() {
    let mine = Spool::new([found("new.wav", "1"), found("other.wav", "2")]);
    let theirs = Spool::new([found("other.wav", "1")]);
    let plan = |carried| -> Vec<String> {
        let plan = plan(&Base::of(&theirs), &mine, &theirs).limited_to(carried, &mine);
        plan.steps.iter().map(ToString::to_string).collect()
    };
    let aside = |path| format!("set aside {path}: {}", Why::NotCarried);
    let replaced = "replace other.wav by the returning node's newer one".to_owned();
    assert_eq!(plan(Carried::Messages), ["carry new.wav".to_owned(), replaced]);
    assert_eq!(plan(Carried::NewFiles), ["carry new.wav".to_owned(), aside("other.wav")]);
    assert_eq!(plan(Carried::Nothing), [aside("new.wav"), aside("other.wav")]);
}

#[test]
fn a_message_that_is_too_large_is_set_aside_with_all_its_parts() {
    let mut mine = spool([message("601/INBOX/msg0000", "hello", BO)]);
    let wav = mine.messages[0].parts.get_mut(&name("wav")).unwrap();
    wav.size = MAX_SIZE + 1;
    let plan = plan(&Base::default(), &mine, &Spool::default()).limited_to(Carried::Messages, &mine);
    let [Step::SetAside { paths, why: Why::TooLarge }] = plan.steps.as_slice() else { panic!("{plan}") };
    assert_eq!(paths.len(), 2, "{plan}");
}
