use crate::engine::{self, Part};
use crate::measure::Sample;
use crate::stage::Stage;
use crate::{baseline, data, piped};

/// A change on the master and what brings it to the slave: the timed rows of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// One row of one table.
    OneRow,
    /// 200 rows of six tables.
    ManyRows,
    /// A database in which nothing changed.
    NoRow,
    /// A slave without a row.
    AllRows,
    /// Trees in which nothing changed.
    NoFile,
    /// Twenty new files.
    FewFiles,
    /// Two bytes near the start of a big file.
    FewBytes,
    /// A slave without a file.
    AllFiles,
}

/// What a row must reach, against the baseline of the same run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Target {
    /// How many times faster a verb that opens everything itself must be.
    pub(crate) cold: f64,
    /// How many times faster with the daemon's kept session.
    pub(crate) warm: f64,
    /// Bytes that a cold run may send.
    pub(crate) sent: Option<u64>,
}

/// A run beside those of the row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Beside {
    /// Binary COPY: the other way to make a first copy.
    Piped(Sample),
    /// The tool and the engine once more, with nothing to do: what the change itself costs is the rest.
    Unchanged(Sample, Sample),
}

impl Work {
    /// As the table calls it.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Work::OneRow => "database, one row changed, digests of all tables checked",
            Work::ManyRows => "database, 200 changes in 6 tables",
            Work::NoRow => "database, nothing changed, full digests",
            Work::AllRows => "database, first full copy into an empty slave",
            Work::NoFile => "files, nothing changed",
            Work::FewFiles => "files, 20 small files added",
            Work::FewBytes => "files, 2 bytes inserted into a big file",
            Work::AllFiles => "files, first copy",
        }
    }

    /// What it must reach.
    pub(crate) fn target(self) -> Target {
        let faster = |cold, warm| Target { cold, warm, sent: None };
        match self {
            Work::OneRow => Target { sent: Some(64_000), ..faster(4.0, 10.0) },
            Work::ManyRows => faster(3.0, 8.0),
            Work::NoRow => faster(5.0, 12.0),
            Work::NoFile => Target { sent: Some(4_000), ..faster(1.6, 4.0) },
            Work::FewFiles => faster(1.6, 4.0),
            Work::FewBytes => faster(1.5, 3.0),
            Work::AllRows | Work::AllFiles => faster(1.0, 1.0),
        }
    }

    /// Which part of a replication it is.
    pub(crate) fn part(self) -> Part {
        match self {
            Work::OneRow | Work::ManyRows | Work::NoRow | Work::AllRows => Part::Database,
            Work::NoFile | Work::FewFiles | Work::FewBytes | Work::AllFiles => Part::Files,
        }
    }

    /// Makes the change anew.
    pub(crate) fn prepare(self, stage: &Stage) {
        match self {
            Work::OneRow => data::change_one_row(stage, stage.turn()),
            Work::ManyRows => data::change_many_rows(stage, stage.turn()),
            Work::AllRows => data::empty_rows(stage),
            Work::FewFiles => data::add_files(stage, stage.turn()),
            Work::FewBytes => data::insert_bytes(stage),
            Work::AllFiles => data::empty_files(stage),
            Work::NoRow | Work::NoFile => {}
        }
    }

    /// Has the tool do it that is replaced.
    pub(crate) fn baseline(self, stage: &Stage) -> Sample {
        match self.part() {
            Part::Files => baseline::files(stage),
            Part::Database => baseline::database(stage),
        }
    }

    /// What else is to be run.
    pub(crate) fn beside(self, stage: &Stage) -> Option<Beside> {
        match self {
            Work::AllRows => {
                self.prepare(stage);
                Some(Beside::Piped(piped::database(stage)))
            }
            Work::FewBytes => {
                let tool = self.baseline(stage);
                Some(Beside::Unchanged(tool, engine::replicate(stage, self.part()).sample))
            }
            Work::OneRow | Work::ManyRows | Work::NoRow | Work::NoFile | Work::FewFiles | Work::AllFiles => {
                None
            }
        }
    }
}
