//! The plan of a tree of 100,000 entries. Target: under 30 ms.
//!
//! Wazo's trees hold sounds, music on hold and voicemail greetings: a big installation has some ten thousand. The plan
//! is made while the slave waits with its manifest in memory, once per replication.

mod cpu_time;

use std::hint::black_box;

use cpu_time::CpuTime;
use criterion::{Criterion, criterion_group, criterion_main};
use ha_core::replication::filter::Filter;
use ha_core::replication::manifest::{Entry, Kind, Manifest, Meta, Mtime};
use ha_core::replication::path::RelPath;
use ha_core::replication::plan::{DeltaLimits, Rules, plan};
use ha_core::replication::step::Step;

const DIRECTORIES: usize = 1000;
const FILES_EACH: usize = 99;

/// A thousand directories of 99 files; every `every`-th file has another size and time, and one in so many is missing.
fn tree(every: Option<usize>) -> Manifest {
    let meta = |seconds| Meta {
        uid: 112,
        gid: 119,
        mode: 0o660,
        mtime: Mtime { seconds, nanoseconds: 0 },
        ..Meta::default()
    };
    let path = |text: String| RelPath::new(text).expect("a plain path");
    let mut entries = vec![(RelPath::root(), Entry { kind: Kind::Dir, meta: meta(0) })];
    for directory in 0..DIRECTORIES {
        entries.push((path(format!("tenant-{directory:04}")), Entry { kind: Kind::Dir, meta: meta(1) }));
        for file in 0..FILES_EACH {
            let number = directory * FILES_EACH + file;
            let differs = every.is_some_and(|every| number.is_multiple_of(every));
            if every.is_some_and(|every| number % every == 1) {
                continue;
            }
            let (size, seconds) = if differs { (48_001, 3) } else { (48_000, 2) };
            let kind = Kind::File { size, link: None, digest: None };
            entries.push((
                path(format!("tenant-{directory:04}/greeting-{file:02}.wav")),
                Entry { kind, meta: meta(seconds) },
            ));
        }
    }
    Manifest::from_entries(entries).expect("parents are there")
}

fn files(criterion: &mut Criterion<CpuTime>) {
    let source = tree(None);
    assert_eq!(source.len(), 100_001);
    let filter = Filter::new(&[], &["*/monitor*", "*/recording*"]).expect("patterns as of the profile");
    let rules = Rules { filter, delta: DeltaLimits::default() };
    let mut group = criterion.benchmark_group("plan of 100,000 files, target under 30 ms");
    group.sample_size(20);
    for (name, replica) in [
        ("nothing differs", tree(None)),
        ("one in a hundred differs", tree(Some(100))),
        ("the replica is empty", Manifest::default()),
    ] {
        let steps = plan(&source, &replica, &rules).steps;
        let sent = steps.iter().filter(|step| matches!(step, Step::Send { .. } | Step::Patch { .. })).count();
        let expected = if replica.is_empty() { 99_000 } else { 2 * (source.len() - replica.len()) };
        assert_eq!(sent, expected, "{name}: the tree is not what the bench says");
        group.bench_function(name, |bencher| {
            bencher.iter(|| plan(black_box(&source), black_box(&replica), &rules))
        });
    }
}

criterion_group! {
    name = benches;
    config = cpu_time::config();
    targets = files
}
criterion_main!(benches);
