//! `replication-figures`: how fast a replication is, beside the tools that it replaces, as one Markdown table.
//!
//! Needs root: both machines are hosts of the lab. Everything is real: two PostgreSQL servers, sshd, `rsync`, `pg_dump`.
//! The tool that is replaced and the engine take turns in the same run, so that noise meets both, and after each
//! replication the slave is compared with the master by other means than the engine's.

mod args;
mod baseline;
mod chart;
mod data;
mod engine;
mod equal;
mod growth;
mod idle;
mod latency;
mod measure;
mod piped;
mod process;
mod quantity;
mod reader;
mod row;
mod scale;
mod scene;
mod sql;
mod stage;
mod table;
mod timing;
mod work;

use std::process::ExitCode;

use clap::Parser;

use args::Arguments;
use scale::Scale;
use stage::Stage;
use table::Table;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    engine::build();
    let scale = if arguments.small { Scale::SMALL } else { Scale::FULL };
    let Some(mut stage) = Stage::up(scale) else { return ExitCode::FAILURE };
    if arguments.growth {
        growth::measure(&mut stage, &arguments);
        return ExitCode::SUCCESS;
    }
    // the slave has everything once, by the tools that are replaced
    baseline::files(&stage);
    baseline::database(&stage);
    stage.settle(engine::Part::Database);
    println!("{}", scene::describe(&stage, arguments.rounds()));
    let mut table = Table::default();
    for row in arguments.rows() {
        eprintln!("measuring {}", row.word());
        row.measure(&mut stage, arguments.rounds(), &mut table);
    }
    print!("{table}");
    ExitCode::SUCCESS
}
