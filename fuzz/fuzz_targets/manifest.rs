//! Lists of files from the other node, against a tree of ours: refused, or a plan that touches nothing but what one of both
//! has and the rules let take part.

#![no_main]

#[path = "../trees.rs"]
#[allow(dead_code, reason = "this target uses a part of it")]
mod trees;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use ha_core::replication::descent::Descent;
use ha_core::replication::filter::{Filter, Verdict};
use ha_core::replication::listing::{Listed, Listing, Side, Summary};
use ha_core::replication::manifest::{Digest, Meta};
use ha_core::replication::path::RelPath;
use ha_core::replication::plan::{DeltaLimits, Plan, Rules};
use ha_core::replication::step::Step;
use ha_core::replication::wire::{Decoder, Frame};
use libfuzzer_sys::fuzz_target;

static OWN: LazyLock<Listing> = LazyLock::new(|| trees::listing(&trees::own(), Side::Source));
static PATHS: LazyLock<BTreeSet<RelPath>> = LazyLock::new(|| trees::own().into_keys().collect());
static FILTER: LazyLock<Filter> = LazyLock::new(trees::filter);

fuzz_target!(|data: &[u8]| {
    let (summary, lists) = heard(data);
    let mut descent = Descent::new(&OWN, &summary, &FILTER);
    let mut theirs = BTreeSet::from([RelPath::root()]);
    let mut lists = lists.into_iter();
    loop {
        let asked = descent.ask();
        if asked.is_empty() {
            break;
        }
        for directory in asked {
            // one that says nothing more has nothing there
            let list = lists.next().unwrap_or_default();
            let names: Vec<_> = list.iter().map(|listed| directory.join(&listed.name)).collect();
            if descent.answer(list).is_err() {
                return;
            }
            theirs.extend(names.into_iter().map(|name| name.expect("what makes no path is refused")));
        }
    }
    let Ok(differing) = descent.finish() else { return };
    let rules = Rules { filter: FILTER.clone(), delta: DeltaLimits::default() };
    check(&differing.plan(&rules), &theirs);
});

/// What the other node says of its tree as a whole, and its lists, as far as that makes sense.
fn heard(data: &[u8]) -> (Summary, Vec<Vec<Listed>>) {
    let mut decoder = Decoder::default();
    decoder.push(data);
    let mut summary = Summary { root: Some((Meta::default(), Digest([0; 32]))), files: 0 };
    let (mut lists, mut list) = (Vec::new(), Vec::new());
    while let Ok(Some(frame)) = decoder.next_frame() {
        match frame {
            Frame::Tree(told) => summary = told,
            Frame::Directory { entries, last } => {
                list.extend(entries);
                if last {
                    lists.push(std::mem::take(&mut list));
                }
            }
            _ => {}
        }
    }
    (summary, lists)
}

fn check(plan: &Plan, theirs: &BTreeSet<RelPath>) {
    let mut deleted = BTreeSet::new();
    for step in &plan.steps {
        let path = step.path();
        assert_ne!(FILTER.verdict(path), Verdict::Excluded, "{step}");
        match step {
            Step::Delete { path, .. } => {
                assert!(!path.is_root() && theirs.contains(path), "{step}");
                assert!(deleted.insert(path), "twice: {step}");
            }
            Step::Link { to, .. } => assert!(PATHS.contains(path) && PATHS.contains(to), "{step}"),
            Step::MakeDir { .. }
            | Step::Send { .. }
            | Step::Patch { .. }
            | Step::SetMeta { .. }
            | Step::Symlink { .. } => assert!(PATHS.contains(path), "{step}"),
        }
    }
}
