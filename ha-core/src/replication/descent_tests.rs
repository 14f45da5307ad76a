use proptest::prelude::*;

use super::*;
use crate::replication::any_tree::{any_rules, any_similar_trees, any_tree, dir, file, path};
use crate::replication::listing::{Side, tests::listing};

/// Without what lies below an excluded directory: a scan does not enter it.
fn as_scanned(manifest: &Manifest, filter: &Filter) -> Manifest {
    let entered = |path: &RelPath| path.parent().is_none_or(|up| filter.verdict(&up) != Verdict::Excluded);
    let entries = manifest.iter().filter(|(path, _)| entered(path));
    Manifest::from_entries(entries.map(|(path, entry)| (path.clone(), entry.clone()))).unwrap()
}

/// The plan through digests, and how many questions it took.
fn descend(source: &Manifest, replica: &Manifest, rules: &Rules) -> (Plan, Vec<Vec<RelPath>>) {
    let here = listing(source, &rules.filter, Side::Source);
    let there = listing(replica, &rules.filter, Side::Replica);
    let mut descent = Descent::new(&here, &there.summary(), &rules.filter);
    let mut questions = Vec::new();
    loop {
        let asked = descent.ask();
        if asked.is_empty() {
            return (descent.finish().unwrap().plan(rules), questions);
        }
        for path in &asked {
            let id = there.find(path).expect("only what was listed is asked for");
            descent.answer(there.listed(id).collect()).unwrap();
        }
        questions.push(asked);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn a_plan_through_digests_is_the_plan_of_the_whole_trees(
        (source, replica) in prop_oneof![any_similar_trees(), (any_tree(), any_tree())], rules in any_rules(),
    ) {
        let whole = plan(&as_scanned(&source, &rules.filter), &as_scanned(&replica, &rules.filter), &rules);
        let (through, questions) = descend(&source, &replica, &rules);
        prop_assert_eq!(&through, &whole);
        let depth = source.iter().chain(replica.iter()).map(|(path, _)| path.depth()).max().unwrap_or(0);
        prop_assert!(questions.len() <= depth + 1, "{:?}", questions);
        let (again, questions) = descend(&source, &source, &rules);
        // a replica's file that is also known by an excluded name is made anew
        prop_assert!(questions.is_empty() || !again.steps.is_empty(), "{:?}", questions);
    }
}

fn tree(entries: Vec<(&str, Entry)>) -> Manifest {
    Manifest::from_entries(entries.into_iter().map(|(text, entry)| (path(text), entry))).unwrap()
}

fn rules() -> Rules {
    Rules { filter: Filter::default(), delta: Default::default() }
}

#[test]
fn only_directories_that_differ_are_asked_for() {
    let with = |size| {
        let same = [
            ("", dir(1)),
            ("a", dir(1)),
            ("a/b", dir(1)),
            ("a/b/f", file(1, 1)),
            ("c", dir(1)),
            ("d", dir(1)),
        ];
        tree(
            same.into_iter()
                .chain([("c/e", dir(1)), ("c/e/f", file(size, 1)), ("d/g", file(1, 1))])
                .collect(),
        )
    };
    let (plan, questions) = descend(&with(2), &with(1), &rules());
    assert_eq!(questions, [vec![path("")], vec![path("c")], vec![path("c/e")]]);
    assert_eq!(plan.counts, Counts { source: 3, replica: 3, deleted: 0 });
    assert_eq!(plan.steps.len(), 3, "{plan}");
}

#[test]
fn many_directories_are_asked_for_at_once_but_not_all() {
    let names: Vec<String> = (0..5000).map(|index| format!("{index:0200}")).collect();
    let flat = |size| {
        let dirs = names.iter().map(|name| (path(name), dir(1)));
        let files = names.iter().map(|name| (path(&format!("{name}/f")), file(size, 1)));
        let all = dirs.chain(files).chain([(RelPath::root(), dir(1))]);
        Manifest::from_entries(all).unwrap()
    };
    let (source, replica) = (flat(2), flat(1));
    let draft = |tree: &Manifest, side| {
        let mut draft = Draft::new(dir(1).meta);
        names.iter().for_each(|name| draft.push(Draft::ROOT, name.as_bytes(), true, dir(1)).unwrap());
        for id in draft.close(Draft::ROOT) {
            let entry = tree.get(&draft.path(id).join("f").unwrap()).unwrap().clone();
            draft.push(id, b"f", true, entry).unwrap();
            drop(draft.close(id));
        }
        draft.finish(side)
    };
    let (here, there) = (draft(&source, Side::Source), draft(&replica, Side::Replica));
    let filter = Filter::default();
    let mut descent = Descent::new(&here, &there.summary(), &filter);
    let mut counts = Vec::new();
    loop {
        let asked = descent.ask();
        if asked.is_empty() {
            break;
        }
        counts.push(asked.len());
        asked
            .iter()
            .for_each(|path| descent.answer(there.listed(there.find(path).unwrap()).collect()).unwrap());
    }
    assert_eq!(counts, [1, 1311, 1311, 1311, 1067]);
    assert_eq!(descent.finish().unwrap().plan(&rules()), plan(&source, &replica, &rules()));
}

#[test]
fn an_answer_that_makes_no_list_is_refused() {
    let source = listing(&tree(vec![("", dir(1)), ("a", file(1, 1))]), &Filter::default(), Side::Source);
    let summary =
        Summary { root: Some((dir(1).meta, crate::replication::manifest::Digest([7; 32]))), files: 9 };
    let filter = Filter::default();
    let listed = |name: &str, entry, below| Listed { name: name.as_bytes().into(), entry, below };
    let answered = |answers: Vec<Vec<Listed>>| {
        let mut descent = Descent::new(&source, &summary, &filter);
        for answer in answers {
            descent.ask();
            descent.answer(answer)?;
        }
        descent.finish()
    };
    let digest = summary.root.as_ref().map(|(_, digest)| *digest);
    for (names, why) in [(["b", "a"], "out of order"), (["a", "a"], "twice")] {
        let answer = names.map(|name| listed(name, file(1, 1), None)).to_vec();
        assert!(matches!(answered(vec![answer]), Err(ManifestError::Unsorted(_))), "{why}");
    }
    for name in ["..", "", "a\0", "a/b"] {
        assert!(answered(vec![vec![listed(name, file(1, 1), None)]]).is_err(), "{name:?}");
    }
    let no_directory = vec![vec![listed("f", file(1, 1), digest)], vec![listed("g", file(1, 1), None)]];
    assert!(matches!(answered(no_directory), Err(ManifestError::Orphan(_))));
    assert!(answered(vec![vec![listed("a", file(1, 1), None)], vec![]]).is_ok(), "nobody asked for more");
}
