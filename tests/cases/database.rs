//! Replication of the database: what arrives, and what must not when something fails in the middle.

use std::thread;

use ha_tests::wait::{self, seconds};
use ha_tests::{Host, Pair, Product, Ran};

/// The content of the replicated tables, a digest each.
pub(crate) fn digest(pair: &Pair, host: Host) -> String {
    content(pair, host, pair.product.copied)
}

/// The content of the node's own tables, a digest each.
pub(crate) fn own(pair: &Pair, host: Host) -> String {
    content(pair, host, pair.product.own)
}

fn content(pair: &Pair, host: Host, tables: &[&str]) -> String {
    let each = |table: &&str| {
        format!("select '{table}', md5(string_agg(t::text, '|' order by t::text)) from \"{table}\" t;")
    };
    pair.sql(host, &tables.iter().map(each).collect::<Vec<_>>().join("\n"))
}

/// Makes the slave's own rows unlike the master's.
pub(crate) fn mark_own(pair: &Pair) {
    let (table, column) = pair.product.own_text;
    let sql = format!("update infos set uuid = 'slave'; update {table} set {column} = 'slave';");
    pair.sql(Host::Slave, &sql);
}

fn replicate(pair: &Pair) -> Ran {
    pair.ha(Host::Master, "replicate database --json")
}

fn the_database_arrives_and_what_belongs_to_the_slave_stays(product: Product) {
    let Some(pair) = Pair::of(product).database(40, 4).up() else { return };
    mark_own(&pair);
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
    pair.ha(Host::Master, "doctor").says(&["tables are replicated, of one shape on both nodes"]);
}

fn a_slave_that_dies_in_the_middle_of_a_replication_has_the_whole_old_database(product: Product) {
    let Some(pair) = Pair::of(product).database(600, 4).up() else { return };
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

fn a_schema_one_column_apart_is_refused_and_the_table_is_named(product: Product) {
    let Some(pair) = Pair::of(product).database(10, 2).up() else { return };
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

fn a_slave_whose_database_is_sql_ascii_is_refused(product: Product) {
    // without rows: such a database does not even take the json of a real one
    let Some(pair) = Pair::of(product).database(10, 0).slave_encoding("SQL_ASCII").up() else { return };
    let old = digest(&pair, Host::Slave);
    replicate(&pair).exits(3).says(&["SQL_ASCII", "UTF8"]);
    assert_eq!(digest(&pair, Host::Slave), old);
}

/// The documents' exclusions of the one are not those of the other.
#[test]
fn dhcp_settings_and_call_logs_arrive_at_a_xivo_slave_and_its_web_service_accounts_stay() {
    let Some(pair) = Pair::xivo().without_daemons().database(2, 1).up() else { return };
    pair.sql(
        Host::Master,
        "update dhcp set pool_start = '10.77.0.100'; insert into call_log (id, source_name) values (9000, 'arrives');
         update accesswebservice set login = 'of the master'; update monitoring set alert_emails = 'of the master';
         update netiface set ifname = 'master' || id; delete from queue_log;",
    );
    let kept = own(&pair, Host::Slave);
    replicate(&pair).ok();
    assert_eq!(pair.sql(Host::Slave, "select distinct pool_start from dhcp").trim(), "10.77.0.100");
    assert_eq!(pair.sql(Host::Slave, "select source_name from call_log where id = 9000").trim(), "arrives");
    assert_eq!(own(&pair, Host::Slave), kept);
    assert_eq!(digest(&pair, Host::Slave), digest(&pair, Host::Master));
}

for_every_product! {
    a_slave_that_dies_in_the_middle_of_a_replication_has_the_whole_old_database,
    a_slave_whose_database_is_sql_ascii_is_refused,
    the_database_arrives_and_what_belongs_to_the_slave_stays,
    a_schema_one_column_apart_is_refused_and_the_table_is_named,
}
