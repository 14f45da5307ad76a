use std::str::FromStr;
use std::time::Duration;

use crate::engine::{Part, Replication, replicate, replicate_if_changed};
use crate::idle;
use crate::latency;
use crate::measure::{Sample, median};
use crate::process::peaks;
use crate::quantity::{bytes, time};
use crate::reader;
use crate::stage::{Daemons, Stage};
use crate::table::{Line, Met, Table};
use crate::timing::{Timing, middle};
use crate::work::Work;
use crate::{baseline, scale::Scale};

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Row {
    /// A change, timed.
    Work(Work),
    /// How long a client of the slave's database waits meanwhile.
    Readers,
    /// A replication of a database in which, as PostgreSQL counts, nothing happened.
    Gate,
    /// A replication of trees in which nothing happened while they were watched.
    Watch,
    /// Of both sides, of files.
    Memory,
    /// From a change to the slave, nobody asking.
    Latency,
    /// With call records written.
    Idle,
}

/// In the order of the issue, each with its word for `--only`.
const ROWS: [(&str, Row); 14] = [
    ("one-row", Row::Work(Work::OneRow)),
    ("200-rows", Row::Work(Work::ManyRows)),
    ("no-row", Row::Work(Work::NoRow)),
    ("gate", Row::Gate),
    ("all-rows", Row::Work(Work::AllRows)),
    ("readers", Row::Readers),
    ("no-file", Row::Work(Work::NoFile)),
    ("watch", Row::Watch),
    ("20-files", Row::Work(Work::FewFiles)),
    ("2-bytes", Row::Work(Work::FewBytes)),
    ("all-files", Row::Work(Work::AllFiles)),
    ("memory", Row::Memory),
    ("latency", Row::Latency),
    ("idle", Row::Idle),
];

/// A reader may wait so long.
const LONGEST_WAIT: Duration = Duration::from_millis(50);
/// A verb behind the gate may take so long.
const GATE: Duration = Duration::from_millis(20);
/// A change must be on the slave by then.
const LATENCY: Duration = Duration::from_secs(3);
/// One side may need so much memory.
const MEMORY: u64 = 40_000_000;
/// Of a core.
const IDLE: f64 = 0.01;

impl Row {
    /// All of them, in the order of the table.
    pub(crate) fn all() -> Vec<Row> {
        ROWS.iter().map(|(_, row)| *row).collect()
    }

    /// As `--only` calls it.
    pub(crate) fn word(self) -> &'static str {
        let (word, _) = ROWS.iter().find(|(_, row)| *row == self).expect("every row has a word");
        word
    }

    /// Measures it and adds it to the table.
    pub(crate) fn measure(self, stage: &mut Stage, rounds: u32, table: &mut Table) {
        let line = match self {
            Row::Work(work) => {
                let timing = Timing::take(stage, work, rounds);
                table.details.extend(timing.details());
                timing.line()
            }
            Row::Readers => readers(stage),
            Row::Gate => {
                behind(stage, Part::Database, rounds, "database, nothing changed, behind the gate", "20 ms")
            }
            Row::Watch => {
                behind(stage, Part::Files, rounds, "files, nothing changed, behind the watch", "nothing sent")
            }
            Row::Memory => memory(stage),
            Row::Latency => on_change(stage, rounds),
            Row::Idle => idle(stage),
        };
        table.lines.push(line);
    }
}

impl FromStr for Row {
    type Err = String;

    fn from_str(text: &str) -> Result<Row, String> {
        let found = ROWS.iter().find(|(word, _)| *word == text);
        let words = || ROWS.map(|(word, _)| word).join(", ");
        found.map(|(_, row)| *row).ok_or_else(|| format!("no such row; there are {}", words()))
    }
}

/// The worst wait over all works of the database.
fn readers(stage: &mut Stage) -> Line {
    let works = [Work::OneRow, Work::ManyRows, Work::NoRow, Work::AllRows];
    let mut longest = [Duration::ZERO; 3];
    let mut usual = Duration::ZERO;
    let mut note = |column: usize, waits: reader::Waits| {
        longest[column] = longest[column].max(waits.longest);
        usual = usual.max(waits.usual);
    };
    for work in works {
        work.prepare(stage);
        let waits = reader::during(stage, || {
            work.baseline(stage);
        });
        note(0, waits);
        stage.settle(work.part());
    }
    for daemons in stage.both_ways() {
        stage.daemons(daemons);
        let column = if daemons == Daemons::Stopped { 1 } else { 2 };
        for work in works {
            work.prepare(stage);
            let waits = reader::during(stage, || {
                replicate(stage, work.part());
            });
            note(column, waits);
            stage.settle(work.part());
        }
    }
    let [baseline, cold, warm] = longest;
    let late = [("cold", cold), ("warm", warm)].into_iter().filter(|(_, wait)| *wait > LONGEST_WAIT);
    Line {
        work: "a reader's longest wait on the slave during any of these".to_owned(),
        baseline: time(baseline),
        cold: time(cold),
        warm: time(warm),
        wanted: format!("{} at most (usual answer: {})", time(LONGEST_WAIT), time(usual)),
        met: Met::unless(late.map(|(name, wait)| format!("{name} {}", time(wait))).collect()),
    }
}

/// A verb whose daemon knows that nothing changed.
fn behind(stage: &mut Stage, part: Part, rounds: u32, work: &str, wanted: &str) -> Line {
    stage.daemons(Daemons::OnChange);
    // what is on the slave is known once it was compared
    replicate(stage, part);
    let runs: Vec<Replication> = (0..rounds.max(3)).map(|_| replicate_if_changed(stage, part)).collect();
    let took = middle(&runs, |run| run.sample.took);
    let sent = middle(&runs, |run| run.bytes_sent.unwrap_or(run.sample.sent));
    let missed = match part {
        Part::Database if took >= GATE => vec![time(took)],
        Part::Files if sent > 0 => vec![format!("{} sent", bytes(sent))],
        Part::Database | Part::Files => Vec::new(),
    };
    Line {
        work: work.to_owned(),
        baseline: String::new(),
        cold: String::new(),
        warm: format!("{}, {} sent", time(took), bytes(sent)),
        wanted: wanted.to_owned(),
        met: Met::unless(missed),
    }
}

/// The largest process of each side, over a run in which nothing changed and a first copy.
fn memory(stage: &mut Stage) -> Line {
    let works = [Work::NoFile, Work::AllFiles];
    let worst = |stage: &Stage, near, far, replicate: fn(&Stage) -> Sample| {
        let mut worst = [0, 0];
        for work in works {
            work.prepare(stage);
            let peaks = peaks(stage, near, far, || {
                replicate(stage);
            });
            worst = [worst[0].max(peaks[0]), worst[1].max(peaks[1])];
        }
        worst
    };
    let engine = |stage: &Stage| replicate(stage, Part::Files).sample;
    stage.daemons(Daemons::Stopped);
    let rsync = worst(stage, "rsync", "rsync", baseline::files);
    let cold = worst(stage, "wazo-ha replicate", "wazo-ha agent", engine);
    stage.daemons(Daemons::OnRequest);
    let warm = worst(stage, "wazo-ha run", "wazo-ha agent", engine);
    let cell = |sides: [u64; 2]| format!("{} and {}", bytes(sides[0]), bytes(sides[1]));
    let mut missed = Vec::new();
    for (name, sides) in [("cold", cold), ("warm", warm)] {
        assert!(sides.iter().all(|side| *side > 0), "a side of the {name} run was not seen: {sides:?}");
        missed.extend(
            sides.into_iter().filter(|side| *side > MEMORY).map(|side| format!("{name} {}", bytes(side))),
        );
    }
    Line {
        work: "memory, near and far, of files".to_owned(),
        baseline: cell(rsync),
        cold: cell(cold),
        warm: cell(warm),
        wanted: format!("{} each at most", bytes(MEMORY)),
        met: Met::unless(missed),
    }
}

fn on_change(stage: &mut Stage, rounds: u32) -> Line {
    let work = "from a change to the slave, nobody asking, median";
    let wanted = format!("{} at most", time(LATENCY));
    stage.daemons(Daemons::OnChange);
    let mut cells = Vec::new();
    let mut missed = Vec::new();
    for (name, part) in [("row", Part::Database), ("file", Part::Files)] {
        let times = latency::take(stage, part, rounds * 2);
        let usual = median(times.iter().copied()).expect("there are rounds");
        let worst = times.iter().max().copied().unwrap_or_default();
        cells.push(format!("{name} {}, worst {}", time(usual), time(worst)));
        if usual > LATENCY {
            missed.push(format!("{name} {}", time(usual)));
        }
    }
    Line {
        work: work.to_owned(),
        baseline: "up to an hour".to_owned(),
        cold: String::new(),
        warm: cells.join("; "),
        wanted,
        met: Met::unless(missed),
    }
}

fn idle(stage: &mut Stage) -> Line {
    let window = Duration::from_secs(if stage.scale == Scale::SMALL { 3 } else { 30 });
    let idle = idle::take(stage, window);
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    let whole = idle.daemon + idle.postgres;
    Line {
        work: "idle, 50 call records a second, share of a core".to_owned(),
        baseline: String::new(),
        cold: String::new(),
        warm: format!(
            "daemon {}, its part of PostgreSQL {}, on the slave {}",
            percent(idle.daemon),
            percent(idle.postgres),
            percent(idle.slave)
        ),
        wanted: format!("{} at most on the master", percent(IDLE)),
        met: Met::unless(if whole > IDLE { vec![percent(whole)] } else { Vec::new() }),
    }
}
