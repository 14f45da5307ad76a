//! A standby that fetches: what changes on the node that serves is there a moment later.

use ha_tests::wait::{self, pass, seconds};
use ha_tests::{Host, Pair, Settings};

/// Runs SQL in a node's SARK database, as a script of SARK's does: opened, changed, closed.
fn sql(pair: &Pair, host: Host, statement: &str) -> String {
    let script = format!(
        "import sqlite3\nwith sqlite3.connect('/opt/sark/db/sark.db') as base:\n    for row in base.execute(\"{statement}\"): print(*row)\n"
    );
    pair.write(host, "/run/lab/query.py", &script);
    pair.lab.sh(host, "python3 /run/lab/query.py").ok()
}

#[test]
fn what_changes_on_the_serving_node_is_on_the_other_a_moment_later_and_nothing_is_fetched_for_nothing() {
    let settings = Settings::sark().with("replication", "on_change", "true");
    let Some(pair) = Pair::sark().settings(settings).up() else { return };
    let fetched = || pair.status(Host::Slave).word("/replication/files/last_success").to_owned();
    let at_rest = |what: &str| {
        pair.await_status(Host::Slave, what, seconds(30.0), |status| {
            let (on_change, files) =
                (&status.document()["replication"]["on_change"], &status.document()["replication"]["files"]);
            on_change["watching"] == true && on_change["pending"] == false && files["would_lose_seconds"] == 0
        });
    };
    at_rest("as the master is, first");
    pair.write(Host::Master, "/var/lib/asterisk/sounds/new.wav", "a greeting");
    sql(&pair, Host::Master, "insert into ipphone values ('1999', 'default', 'new', 'pw')");
    wait::until("both are on the slave", seconds(20.0), || {
        let greeting =
            pair.lab.sh(Host::Slave, "cat /var/lib/asterisk/sounds/new.wav").stdout == "a greeting";
        let row = sql(&pair, Host::Slave, "select desc from ipphone where pkey = '1999'");
        (greeting && row.trim() == "new").then_some(())
    });
    at_rest("at rest again");

    // fetching is no change: but for the minute's turn, nothing more comes
    let mut times = vec![fetched()];
    for _ in 0..12 {
        pass(seconds(0.5));
        times.push(fetched());
    }
    times.dedup();
    assert!(times.len() <= 2, "fetched again and again: {times:?}");

    // the way back: the other node's turn to fetch
    pair.ha(Host::Master, "switchover").exits(0);
    pair.write(Host::Slave, "/var/lib/asterisk/sounds/newer.wav", "another");
    wait::until("it is on the master", seconds(30.0), || {
        (pair.lab.sh(Host::Master, "cat /var/lib/asterisk/sounds/newer.wav").stdout == "another")
            .then_some(())
    });
}
