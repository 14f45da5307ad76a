//! Replication on change: what a user or a phone changes on the master is on the slave moments later.

use std::fs;
use std::time::Duration;

use ha_tests::wait::{self, seconds};
use ha_tests::{Host, Moment, Pair, Settings, Status};

use crate::database::digest;

/// Without a median of some seconds there would be no reason to look for changes at all.
const MEDIAN: Duration = Duration::from_secs(3);
/// Longest wait for one change on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

fn on_change() -> Settings {
    Settings::modern().with("replication", "on_change", "true")
}

/// Whether the master says that the slave has everything and that it would be told of changes.
fn has_everything(status: &Status) -> bool {
    let replication = &status.document()["replication"];
    let lost = |part: &str| replication[part]["would_lose_seconds"].as_u64();
    replication["on_change"]["watching"] == true
        && replication["on_change"]["pending"] == false
        && (lost("files"), lost("database")) == (Some(0), Some(0))
}

/// Waits until the slave has everything.
pub(crate) fn await_everything(pair: &Pair) {
    pair.await_status(Host::Master, "known to have sent everything", seconds(60.0), has_everything);
}

const FILE: &str = "/var/lib/asterisk/moh/default/new.wav";

/// Changes a file and a row, alternately, and measures until the slave has it.
fn time_of_a_change(pair: &Pair, number: usize) -> Duration {
    let (change, question) = if number.is_multiple_of(2) {
        (format!("echo {number} > {FILE}"), format!("cat {FILE}"))
    } else {
        let psql = "cd /; setpriv --reuid postgres --regid postgres --init-groups psql -X -qAt asterisk";
        let sql = |sql: &str| format!("{psql} -c \"{sql}\"");
        (
            sql(&format!("update userfeatures set lastname = '{number}' where id = 1")),
            sql("select lastname from userfeatures where id = 1"),
        )
    };
    let begin = Moment::now();
    pair.lab.sh(Host::Master, &change).ok();
    wait::until(&format!("change {number} is on the slave"), LIMIT, || {
        (pair.lab.sh(Host::Slave, &question).stdout.trim() == number.to_string()).then_some(())
    });
    Moment::now().after(begin)
}

#[test]
fn a_change_is_on_the_slave_within_seconds_without_a_schedule() {
    let Some(pair) = Pair::wazo().settings(on_change()).database(20, 1).up() else { return };
    await_everything(&pair);
    assert_eq!(digest(&pair, Host::Slave), digest(&pair, Host::Master));
    let mut times: Vec<Duration> = (0..10)
        .map(|number| {
            let time = time_of_a_change(&pair, number);
            await_everything(&pair);
            time
        })
        .collect();
    times.sort();
    println!("from a change to the slave: {times:?}");
    assert!(times[times.len() / 2] < MEDIAN, "{times:?}");
    assert_eq!(digest(&pair, Host::Slave), digest(&pair, Host::Master));
}

#[test]
fn a_verb_behind_the_gate_compares_only_what_may_have_changed() {
    let Some(pair) = Pair::wazo().settings(on_change()).database(5, 1).up() else { return };
    await_everything(&pair);
    let unchanged = || {
        let out = pair.ha(Host::Master, "replicate --if-changed --json").ok();
        let parts: serde_json::Value = serde_json::from_str(&out).unwrap();
        [0, 1].map(|part| parts[part]["unchanged"] == true)
    };
    assert_eq!(unchanged(), [true, true]);
    // the other node's own counters are asked as well; of its files nobody but a comparison knows
    pair.sql(Host::Slave, "update userfeatures set lastname = 'written by somebody' where id = 1;");
    assert_eq!(unchanged(), [true, false]);
    assert_eq!(digest(&pair, Host::Slave), digest(&pair, Host::Master));
    assert_eq!(unchanged(), [true, true]);
}

#[test]
fn a_change_that_waits_is_told_and_comes_when_the_slave_is_back() {
    let Some(pair) = Pair::wazo().settings(on_change()).database(5, 1).up() else { return };
    await_everything(&pair);
    pair.lab.cut(Host::Slave);
    pair.await_status(Host::Master, "missing its slave", seconds(30.0), |status| status.peer() == "down");
    pair.lab.sh(Host::Master, &format!("echo waits > {FILE}")).ok();
    pair.await_status(Host::Master, "holding a change back", seconds(10.0), |status| {
        status.word("/replication/on_change/waits_for") == "peer"
            && status.document()["replication"]["files"]["would_lose_seconds"].as_u64() > Some(0)
    });
    pair.lab.heal(Host::Slave);
    await_everything(&pair);
    assert_eq!(pair.lab.sh(Host::Slave, &format!("cat {FILE}")).ok().trim(), "waits");
}

#[test]
fn rows_that_stay_on_their_node_wake_nobody_and_a_slave_that_was_written_to_is_not_believed() {
    let Some(pair) = Pair::wazo().settings(on_change()).database(5, 1).up() else { return };
    await_everything(&pair);
    let last = || {
        let status = pair.status(Host::Master);
        status.word("/replication/database/last_success").to_owned()
    };
    let before = last();
    pair.sql(Host::Master, "update call_logd_call_log set source_name = 'busy';");
    // long enough for two looks at what PostgreSQL counts
    wait::pass(seconds(5.0));
    assert_eq!(last(), before, "an excluded table was taken for a change");

    // the master's files change and its tables do not: of these the slave's own counters are asked
    pair.sql(Host::Slave, "update userfeatures set lastname = 'written by somebody' where id = 1;");
    pair.lab.sh(Host::Master, &format!("echo wakes > {FILE}")).ok();
    wait::until("the slave's tables are as the master's again", LIMIT, || {
        (digest(&pair, Host::Slave) == digest(&pair, Host::Master)).then_some(())
    });
}

#[test]
fn after_a_failover_changes_wait_for_the_failback_and_come_again_without_an_alert() {
    // long enough to see on a busy machine that the master waits for it
    let settings = on_change().with("failback", "hold", "\"20s\"");
    let Some(pair) = Pair::wazo().settings(settings).database(5, 1).up() else { return };
    await_everything(&pair);
    let cut = pair.lab.cut(Host::Master);
    pair.await_start(Host::Slave, cut, seconds(30.0));
    pair.lab.heal(Host::Master);
    pair.await_status(Host::Master, "waiting for a slave that serves", seconds(30.0), |status| {
        status.word("/replication/on_change/waits_for") == "serves"
    });
    pair.await_status(Host::Slave, "standing by", seconds(60.0), |status| {
        !status.active() && status.services() == "stopped"
    });
    await_everything(&pair);
    assert_eq!(pair.status(Host::Master).peer(), "degraded", "its telephony rests");
    for number in [100, 101] {
        time_of_a_change(&pair, number);
    }
    let mails = fs::read_to_string(pair.lab.mailbox(Host::Master, "mail")).unwrap_or_default();
    assert!(!mails.contains("replication-failed"), "{mails}");
}
