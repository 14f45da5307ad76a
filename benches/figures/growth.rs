//! Time without changes, as there is more that did not change.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::args::Arguments;
use crate::chart::{self, Curve, Panel};
use crate::quantity::{count, time};
use crate::scale::Scale;
use crate::stage::Stage;
use crate::timing::{Timing, middle};
use crate::work::Work;
use crate::{baseline, data, engine::Part};

/// The medians at one size.
struct Point {
    size: u32,
    baseline: Duration,
    cold: Duration,
    warm: Duration,
}

/// Small files, users.
const FILES: [u32; 3] = [10_000, 100_000, 1_000_000];
const USERS: [u32; 3] = [500, 5_000, 20_000];
/// With `--small` so many times fewer.
const SMALLER: u32 = 100;

/// Measures it, prints it, and draws it unless the figures mean nothing.
pub(crate) fn measure(stage: &mut Stage, arguments: &Arguments) {
    let smaller = if arguments.small { SMALLER } else { 1 };
    let rounds = arguments.rounds();
    data::remove_small_files(stage);
    let files = FILES.map(|files| {
        stage.scale = stage.scale.with_files(files / smaller);
        data::write_files(stage);
        point(stage, Work::NoFile, files / smaller, rounds)
    });
    print("small files", &files);
    data::remove_small_files(stage);
    let users = USERS.map(|users| {
        stage.scale = Scale { users: users / smaller, ..stage.scale };
        data::load_rows(stage);
        point(stage, Work::NoRow, users / smaller, rounds)
    });
    print("users", &users);
    if arguments.small {
        eprintln!("no chart is drawn of figures that mean nothing");
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/replication-growth.svg");
    let drawn = chart::svg(&[
        panel("files: nothing changed", "small files", &files, "rsync"),
        panel("database: nothing changed, full digests", "users", &users, "dump way"),
    ]);
    fs::create_dir_all(path.parent().expect("docs"))
        .and_then(|()| fs::write(&path, drawn))
        .expect("the chart");
    eprintln!("written: {}", path.display());
}

fn point(stage: &mut Stage, work: Work, size: u32, rounds: u32) -> Point {
    eprintln!("measuring {}: {}", work.words(), count(size.into()));
    match work.part() {
        Part::Files => baseline::files(stage),
        Part::Database => baseline::database(stage),
    };
    stage.settle(work.part());
    let timing = Timing::take(stage, work, rounds);
    Point {
        size,
        baseline: timing.to_beat(),
        cold: middle(&timing.cold, |run| run.sample.took),
        warm: middle(&timing.warm, |run| run.sample.took),
    }
}

fn print(what: &str, points: &[Point]) {
    println!("| {what} | baseline | cold | warm | under the baseline |\n| --- | --- | --- | --- | --- |");
    for Point { size, baseline, cold, warm } in points {
        let under = if cold.max(warm) < baseline { "yes" } else { "**no**" };
        println!(
            "| {} | {} | {} | {} | {under} |",
            count((*size).into()),
            time(*baseline),
            time(*cold),
            time(*warm)
        );
    }
    for (name, of) in [("cold", (|point| point.cold) as fn(&Point) -> Duration), ("warm", |point| point.warm)]
    {
        for pair in points.windows(2) {
            let size = f64::from(pair[1].size) / f64::from(pair[0].size);
            let longer = of(&pair[1]).as_secs_f64() / of(&pair[0]).as_secs_f64();
            let verdict = if longer <= size { "no more than linear" } else { "**more than linear**" };
            println!("\n{name}: {size} times the {what}, {longer:.1} times the time: {verdict}");
        }
    }
    println!();
}

fn panel(title: &str, unit: &str, points: &[Point], tool: &str) -> Panel {
    let curve = |name: &str, of: fn(&Point) -> Duration| Curve {
        name: name.to_owned(),
        points: points.iter().map(|point| (f64::from(point.size), of(point).as_secs_f64())).collect(),
    };
    Panel {
        title: title.to_owned(),
        unit: unit.to_owned(),
        curves: vec![
            curve(tool, |point| point.baseline),
            curve("wazo-ha, cold", |point| point.cold),
            curve("wazo-ha, warm", |point| point.warm),
        ],
    }
}
