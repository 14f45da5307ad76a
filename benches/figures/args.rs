use clap::Parser;

use crate::row::Row;

/// How fast a replication is, beside the tools that it replaces
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    /// A few hundred files and a hundred users, one round: shows that everything works, its figures mean nothing
    #[arg(long)]
    pub(crate) small: bool,
    /// Only this row; may be given again
    #[arg(long, value_name = "ROW")]
    only: Vec<Row>,
    /// Runs per figure; the median is printed (default: 5, with --small 1)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Instead of the table: time without changes as files and users grow; writes docs/replication-growth.svg
    #[arg(long, conflicts_with = "only")]
    pub(crate) growth: bool,
}

impl Arguments {
    /// What to measure.
    pub(crate) fn rows(&self) -> Vec<Row> {
        if self.only.is_empty() { Row::all() } else { self.only.clone() }
    }

    /// How often.
    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.small { 1 } else { 5 })
    }
}
