use proptest::prelude::*;

use super::*;
use crate::replication::any_tree::{any_rules, any_tree, dir, file, meta, path};
use crate::replication::filter::Verdict;
use crate::replication::manifest::Digest;

fn tree(entries: Vec<(&str, Entry)>) -> Manifest {
    Manifest::from_entries(entries.into_iter().map(|(text, entry)| (path(text), entry))).unwrap()
}

fn rules(exclude: &[&str]) -> Rules {
    Rules { filter: Filter::new(&[], exclude).unwrap(), delta: DeltaLimits::default() }
}

fn printed(source: &Manifest, replica: &Manifest, rules: &Rules) -> String {
    plan(source, replica, rules).steps.iter().map(|step| format!("{step}\n")).collect()
}

#[test]
fn equal_trees_need_nothing() {
    let tree = tree(vec![("", dir(1)), ("a", dir(1)), ("a/f", file(1, 1))]);
    assert_eq!(plan(&tree, &tree, &rules(&[])).steps, []);
}

#[test]
fn a_missing_tree_is_made_parents_first_and_gets_its_times_last() {
    let source = tree(vec![("", dir(1)), ("a", dir(1)), ("a/f", file(7, 1))]);
    assert_eq!(
        printed(&source, &Manifest::default(), &rules(&[])),
        "make directory .\nmake directory a\nsend a/f (7 bytes)\nrestore the times of a\nrestore the times of .\n"
    );
}

#[test]
fn a_directory_that_became_a_file_is_emptied_first_deepest_first() {
    let source = tree(vec![("", dir(1)), ("a", file(7, 1))]);
    let replica = tree(vec![("", dir(1)), ("a", dir(1)), ("a/b", dir(1)), ("a/b/c", file(1, 1))]);
    assert_eq!(
        printed(&source, &replica, &rules(&[])),
        "delete a/b/c (its name becomes something else)\nremove directory a/b\nremove directory a\n\
         send a (7 bytes)\nrestore the times of .\n"
    );
}

#[test]
fn an_excluded_entry_keeps_the_directories_above_it() {
    let source = tree(vec![("", dir(1))]);
    let replica = tree(vec![
        ("", dir(1)),
        ("t", dir(1)),
        ("t/acd", dir(1)),
        ("t/acd/x", file(1, 1)),
        ("t/monitor", dir(1)),
    ]);
    let planned = plan(&source, &replica, &rules(&["*/monitor*"]));
    let text: Vec<String> = planned.steps.iter().map(ToString::to_string).collect();
    assert_eq!(text, ["delete t/acd/x", "remove directory t/acd"]);

    let source = tree(vec![("", dir(1)), ("t", file(1, 1))]);
    let planned = plan(&source, &replica, &rules(&["*/monitor*"]));
    assert_eq!(planned.blocked, [path("t")]);
    assert!(
        planned
            .to_string()
            .ends_with("leave t: it holds what is excluded, where the source has something else\n")
    );
}

#[test]
fn a_changed_file_is_patched_within_the_limits_and_sent_outside() {
    let limits = DeltaLimits { min: 10, max: 100 };
    let rules = Rules { filter: Filter::default(), delta: limits };
    for (old, new, patched) in
        [(10, 11, true), (9, 11, false), (11, 9, false), (100, 100, true), (100, 101, false)]
    {
        let source = tree(vec![("", dir(1)), ("f", file(new, 2))]);
        let replica = tree(vec![("", dir(1)), ("f", file(old, 1))]);
        let first = &plan(&source, &replica, &rules).steps[0];
        assert_eq!(matches!(first, Step::Patch { .. }), patched, "{old} -> {new}: {first}");
    }
}

#[test]
fn digests_decide_where_both_trees_have_them() {
    let with = |byte, seed| {
        let kind = Kind::File { size: 3, link: None, digest: Some(Box::new(Digest([byte; 32]))) };
        tree(vec![("", dir(1)), ("f", Entry { kind, meta: meta(seed) })])
    };
    assert_eq!(printed(&with(1, 1), &with(1, 1), &rules(&[])), "");
    assert!(printed(&with(1, 1), &with(2, 1), &rules(&[])).starts_with("send f"));
    assert_eq!(
        printed(&with(1, 1), &with(1, 2), &rules(&[])),
        "set owner, mode, times and attributes of f\n"
    );
}

#[test]
fn names_that_were_one_file_and_are_two_are_separated() {
    let linked = |size, link| Entry { kind: Kind::File { size, link, digest: None }, meta: meta(1) };
    let apart = tree(vec![("", dir(1)), ("a", linked(1, None)), ("b", linked(1, None))]);
    let one = tree(vec![("", dir(1)), ("a", linked(1, Some(9))), ("b", linked(1, Some(9)))]);
    assert_eq!(
        printed(&apart, &one, &rules(&[])),
        "send a (1 bytes)\nsend b (1 bytes)\nrestore the times of .\n"
    );
    assert_eq!(printed(&one, &apart, &rules(&[])), "link b to a\nrestore the times of .\n");
}

/// A file tree with inodes, changed only by steps, each of which fails where a kernel would refuse it.
#[derive(Debug, Clone)]
struct Model {
    names: BTreeMap<RelPath, Node>,
    files: Vec<Entry>,
    clock: i64,
}

#[derive(Debug, Clone)]
enum Node {
    File(usize),
    Other(Entry),
}

impl Model {
    fn new(manifest: &Manifest) -> Model {
        let mut model = Model { names: BTreeMap::new(), files: Vec::new(), clock: -1 };
        let mut inodes = BTreeMap::new();
        for (path, entry) in manifest.iter() {
            let node = match entry.kind {
                Kind::File { link, .. } => {
                    let next = model.files.len();
                    let inode = link.map_or(next, |link| *inodes.entry(link).or_insert(next));
                    if inode == next {
                        model.files.push(entry.clone());
                    }
                    Node::File(inode)
                }
                _ => Node::Other(entry.clone()),
            };
            model.names.insert(path.clone(), node);
        }
        model
    }

    fn manifest(&self) -> Manifest {
        let names_of =
            |inode| self.names.values().filter(|n| matches!(n, Node::File(i) if *i == inode)).count();
        Manifest::from_entries(self.names.iter().map(|(path, node)| {
            let mut entry = self.entry(node).clone();
            if let (Kind::File { link, .. }, Node::File(inode)) = (&mut entry.kind, node) {
                *link = (names_of(*inode) > 1).then_some(*inode as u32);
            }
            (path.clone(), entry)
        }))
        .unwrap()
    }

    fn entry<'a>(&'a self, node: &'a Node) -> &'a Entry {
        match node {
            Node::File(inode) => &self.files[*inode],
            Node::Other(entry) => entry,
        }
    }

    fn is_dir(&self, path: &RelPath) -> bool {
        self.names.get(path).is_some_and(|node| self.entry(node).kind == Kind::Dir)
    }

    fn touch(&mut self, path: &RelPath) {
        self.clock -= 1;
        if let Some(Node::Other(entry)) = self.names.get_mut(path) {
            entry.meta.mtime.seconds = self.clock;
        }
    }

    fn put(&mut self, path: &RelPath, node: Node) -> Result<(), String> {
        let parent = path.parent();
        if parent.as_ref().is_some_and(|parent| !self.is_dir(parent)) {
            return Err(format!("{path}: no such directory"));
        }
        if self.is_dir(path) {
            return Err(format!("{path}: is a directory"));
        }
        self.names.insert(path.clone(), node);
        parent.iter().for_each(|parent| self.touch(parent));
        Ok(())
    }

    fn execute(&mut self, step: &Step, source: &Manifest) -> Result<(), String> {
        let path = step.path();
        let wanted = source.get(path).cloned();
        match step {
            Step::MakeDir { .. } if self.names.contains_key(path) => return Err(format!("{path}: exists")),
            Step::MakeDir { .. } => self.put(path, Node::Other(dir(i64::MIN)))?,
            Step::Send { .. } | Step::Patch { .. } => {
                let present = self.names.get(path).map(|node| &self.entry(node).kind);
                if matches!(step, Step::Patch { .. }) && !matches!(present, Some(Kind::File { .. })) {
                    return Err(format!("{path}: nothing to patch"));
                }
                self.files.push(wanted.ok_or("not in the source")?);
                self.put(path, Node::File(self.files.len() - 1))?;
                self.touch(&RelPath::root());
            }
            Step::SetMeta { meta, .. } => {
                match self.names.get_mut(path).ok_or(format!("{path}: missing"))? {
                    Node::File(inode) => self.files[*inode].meta = (**meta).clone(),
                    Node::Other(entry) => entry.meta = (**meta).clone(),
                }
            }
            Step::Link { to, .. } => {
                let node = self.names.get(to).cloned();
                let node = node.filter(|n| matches!(n, Node::File(_))).ok_or(format!("{to}: no file"))?;
                self.put(path, node)?;
                self.touch(&RelPath::root());
            }
            Step::Symlink { target, meta, .. } => {
                let kind = Kind::Symlink { target: target.clone() };
                self.put(path, Node::Other(Entry { kind, meta: (**meta).clone() }))?;
                self.touch(&RelPath::root());
            }
            Step::Delete { directory, .. } => {
                if !self.names.contains_key(path) || self.is_dir(path) != *directory {
                    return Err(format!("{path}: missing, or of another kind"));
                }
                if self.names.keys().any(|name| name.is_below(path)) {
                    return Err(format!("{path}: not empty"));
                }
                self.names.remove(path);
                path.parent().iter().for_each(|parent| self.touch(parent));
            }
        }
        Ok(())
    }
}

/// Names of one file have the same number; which number it is means nothing.
fn same_file(manifest: &Manifest, a: &RelPath, b: &RelPath) -> bool {
    let link = |path| manifest.get(path).and_then(link_of);
    link(a).is_some() && link(a) == link(b)
}

fn without_link(entry: &Entry) -> Entry {
    let mut entry = entry.clone();
    if let Kind::File { link, .. } = &mut entry.kind {
        *link = None;
    }
    entry
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn no_step_fails_the_result_is_the_source_and_then_nothing_is_left_to_do(
        source in any_tree(), replica in any_tree(), rules in any_rules(),
    ) {
        let planned = plan(&source, &replica, &rules);
        let mut model = Model::new(&replica);
        for step in &planned.steps {
            prop_assert_ne!(rules.filter.verdict(step.path()), Verdict::Excluded, "{}", step);
            model.execute(step, &source).map_err(|why| TestCaseError::fail(format!("{step}: {why}")))?;
        }
        let result = model.manifest();

        let wanted: BTreeMap<&RelPath, &Entry> = source
            .iter()
            .filter(|(path, entry)| rules.filter.takes_part(path, &entry.kind) && !planned.blocked.contains(path))
            .collect();
        for (path, entry) in &wanted {
            prop_assert_eq!(result.get(path).map(without_link), Some(without_link(entry)), "{}", path);
            for other in wanted.keys() {
                if path != other {
                    prop_assert_eq!(same_file(&result, path, other), same_file(&source, path, other));
                }
            }
        }
        for (path, entry) in result.iter().filter(|(path, _)| !wanted.contains_key(path)) {
            let was = replica.get(path);
            prop_assert!(was.is_some(), "{} came from nowhere", path);
            let holds_protected = || result.below(path).any(|(below, entry)| {
                !rules.filter.takes_part(below, &entry.kind) && replica.get(below).is_some()
            });
            if rules.filter.takes_part(path, &entry.kind) && !path.is_root() {
                prop_assert!(entry.kind == Kind::Dir && holds_protected(), "{} was left behind", path);
            }
        }
        for (path, entry) in replica.iter() {
            if !rules.filter.takes_part(path, &entry.kind) && !source.iter().any(|(p, e)| p == path && rules.filter.takes_part(p, &e.kind)) {
                prop_assert_eq!(result.get(path).map(without_link), Some(without_link(entry)), "{}", path);
            }
        }
        prop_assert_eq!(plan(&source, &result, &rules).steps, []);
    }

    #[test]
    fn a_plan_does_not_depend_on_the_order_of_discovery(
        source in any_tree(), replica in any_tree(), rules in any_rules(), shift in 1..100u32,
    ) {
        let renumbered = |manifest: &Manifest| {
            let entries = manifest.clone().into_iter().map(|(path, mut entry)| {
                if let Kind::File { link: Some(link), .. } = &mut entry.kind {
                    *link = 1000 - *link * shift;
                }
                (path, entry)
            });
            Manifest::from_entries(entries.collect::<Vec<_>>().into_iter().rev()).unwrap()
        };
        prop_assert_eq!(plan(&source, &replica, &rules), plan(&renumbered(&source), &renumbered(&replica), &rules));
    }
}
