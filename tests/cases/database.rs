//! Replication of the database: what arrives, and what must not when something fails in the middle.

use std::thread;

use ha_tests::wait::{self, seconds};
use ha_tests::{Host, Pair, Ran};

/// Tables that are replicated.
const COPIED: [&str; 6] =
    ["userfeatures", "endpoint_sip", "endpoint_sip_section_option", "extensions", "dialaction", "auth_user"];

/// Tables that belong to their node and are never copied.
const OWN: [&str; 7] =
    ["infos", "call_logd_call_log", "cel", "queue_log", "auth_token", "auth_session", "netiface"];

/// The content of the replicated tables, a digest each.
pub(crate) fn digest(pair: &Pair, host: Host) -> String {
    content(pair, host, &COPIED)
}

/// The content of the node's own tables, a digest each.
pub(crate) fn own(pair: &Pair, host: Host) -> String {
    content(pair, host, &OWN)
}

fn content(pair: &Pair, host: Host, tables: &[&str]) -> String {
    let each = |table: &&str| {
        format!("select '{table}', md5(string_agg(t::text, '|' order by t::text)) from \"{table}\" t;")
    };
    pair.sql(host, &tables.iter().map(each).collect::<Vec<_>>().join("\n"))
}

/// Makes the slave's own rows unlike the master's.
pub(crate) const MARK_OWN: &str =
    "update infos set uuid = 'slave'; update call_logd_call_log set source_name = 'slave';";

fn replicate(pair: &Pair) -> Ran {
    pair.ha(Host::Master, "replicate database --json")
}

#[test]
fn the_database_arrives_and_what_belongs_to_the_slave_stays() {
    let Some(pair) = Pair::wazo().database(40, 4).up() else { return };
    pair.sql(Host::Slave, MARK_OWN);
    let kept = own(&pair, Host::Slave);
    let report = replicate(&pair).ok();
    for word in ["\"database\"", "rows_inserted", "tables_changed"] {
        assert!(report.contains(word), "{word}: {report}");
    }
    assert_eq!(digest(&pair, Host::Slave), digest(&pair, Host::Master));
    assert_eq!(own(&pair, Host::Slave), kept);

    pair.sql(Host::Master, "update userfeatures set lastname = 'changed' where id = 7;");
    let second: String = replicate(&pair).ok().split_whitespace().collect();
    let one_row = second.contains("\"rows_updated\":1,") || second.contains("\"rows_updated\":1}");
    assert!(one_row, "one row was changed: {second}");
    assert_eq!(digest(&pair, Host::Slave), digest(&pair, Host::Master));
    pair.ha(Host::Master, "replicate database --full").ok();
    assert_eq!(digest(&pair, Host::Slave), digest(&pair, Host::Master));
}

#[test]
fn a_slave_that_dies_in_the_middle_of_a_replication_has_the_whole_old_database() {
    let Some(pair) = Pair::wazo().database(600, 4).up() else { return };
    let old = digest(&pair, Host::Slave);
    let before = pair.lab.received(Host::Slave);
    thread::scope(|scope| {
        let running = scope.spawn(|| replicate(&pair));
        wait::until("a part of the rows has arrived", seconds(30.0), || {
            (pair.lab.received(Host::Slave) > before + 1_000_000).then_some(())
        });
        pair.lab.crash(Host::Slave);
        running.join().expect("the verb returns").exits(1);
    });
    pair.boot(Host::Slave);
    assert_eq!(digest(&pair, Host::Slave), old, "a part of a batch was committed");
    pair.await_peace(seconds(30.0));
    replicate(&pair).ok();
    assert_eq!(digest(&pair, Host::Slave), digest(&pair, Host::Master));
}

#[test]
fn a_schema_one_column_apart_is_refused_and_the_table_is_named() {
    let Some(pair) = Pair::wazo().database(10, 2).up() else { return };
    pair.sql(Host::Slave, "alter table userfeatures add column extra text;");
    let old = digest(&pair, Host::Slave);
    replicate(&pair).exits(3).says(&["userfeatures", "extra"]);
    assert_eq!(digest(&pair, Host::Slave), old);
    let error = pair.status(Host::Master).replication_error("database").unwrap_or_default().to_owned();
    assert!(error.contains("userfeatures"), "status tells it too: {error}");
    pair.sql(Host::Slave, "alter table userfeatures drop column extra;");
    replicate(&pair).ok();
    assert_eq!(digest(&pair, Host::Slave), digest(&pair, Host::Master));
}

#[test]
fn a_slave_whose_database_is_sql_ascii_is_refused() {
    // without rows: such a database does not even take the json of a real one
    let Some(pair) = Pair::wazo().database(10, 0).slave_encoding("SQL_ASCII").up() else { return };
    let old = digest(&pair, Host::Slave);
    replicate(&pair).exits(3).says(&["SQL_ASCII", "UTF8"]);
    assert_eq!(digest(&pair, Host::Slave), old);
}
