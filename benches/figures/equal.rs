//! Whether the slave has what the master has, found without the engine's own means.

use std::thread;

use ha_adapters_wazo::PROFILE;
use ha_core::replication::tables::Exclusions;
use ha_tests::Host;

use crate::baseline;
use crate::engine::Part;
use crate::sql::Sql;
use crate::stage::Stage;

/// Panics, naming what differs, unless that part of the slave is the master's.
#[track_caller]
pub(crate) fn check(stage: &Stage, part: Part) {
    match part {
        Part::Files => {
            let listed = baseline::files_that_differ(stage);
            assert!(listed.trim().is_empty(), "rsync finds differences after a replication:\n{listed}");
        }
        Part::Database => {
            let tables = tables(&stage.master);
            let digest = |host| {
                let (lab, tables) = (stage.lab(), &tables);
                move || digests(&Sql::open(lab, host), tables)
            };
            let [master, slave] = thread::scope(|scope| {
                let both = [Host::Master, Host::Slave].map(|host| scope.spawn(digest(host)));
                both.map(|one| one.join().expect("the digest of a table"))
            });
            for (ours, theirs) in master.iter().zip(&slave) {
                assert_eq!(ours, theirs, "a table differs after a replication: name, rows, digest");
            }
        }
    }
}

/// Rows that are copied.
pub(crate) fn rows(stage: &Stage) -> u64 {
    let count = |table: &String| format!("(SELECT count(*) FROM \"{table}\")");
    let counts: Vec<String> = tables(&stage.master).iter().map(count).collect();
    let sum = stage.master.column(&format!("SELECT {}", counts.join(" + ")));
    sum[0].parse().expect("a number")
}

/// The tables that are copied.
pub(crate) fn tables(sql: &Sql) -> Vec<String> {
    let exclusions = Exclusions::new(PROFILE.database.expect("Wazo has a database").exclude);
    let mut tables = sql.column("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1");
    tables.retain(|table| exclusions.reason(table).is_none());
    tables
}

/// One line for each table: its name, its number of rows, and the sum of the MD5s of their text.
fn digests(sql: &Sql, tables: &[String]) -> Vec<String> {
    let each = |table: &String| {
        format!(
            "SELECT '{table} ' || count(*) || ' ' || \
             coalesce(sum(('x' || left(md5(t::text), 16))::bit(64)::bigint::numeric), 0) FROM \"{table}\" t"
        )
    };
    sql.column(&tables.iter().map(each).collect::<Vec<_>>().join(";\n"))
}
