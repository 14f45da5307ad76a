//! The cable is pulled one message before COMMIT, the slave takes over, the cable is plugged in again, and the old
//! COMMIT arrives at last: nothing of that batch may be in the database of the node that serves.

use std::fs;
use std::thread;

use ha_tests::wait::{self, pass, seconds};
use ha_tests::{Event, Host, Pair, Product, Settings};

use crate::database::digest;

/// Starts the wire that can hold a COMMIT, in front of the slave's PostgreSQL: in the folder /run/lab/pg, or on the TCP
/// port that `place` names.
pub(crate) fn start_proxy(pair: &Pair, place: &str) {
    let proxy = concat!(env!("CARGO_MANIFEST_DIR"), "/lab/pgproxy.py");
    let start = format!(
        "chmod 777 /run/lab; install -d -o postgres /run/lab/pg; cd /; setsid setpriv --reuid postgres --regid postgres --init-groups \
         python3 {proxy} /run/lab/pg /var/run/postgresql/.s.PGSQL.5432 /run/lab {place} </dev/null >/run/lab/proxy.err 2>&1 &"
    );
    pair.lab.sh(Host::Slave, &start).ok();
    wait::until("the proxy listens", seconds(5.0), || noted(pair, "ready"));
}

/// When the proxy noted that word, if it did.
pub(crate) fn noted(pair: &Pair, word: &str) -> Option<Event> {
    pair.lab.events(Host::Slave, "proxy.log").into_iter().find(|event| event.name == word)
}

fn old_batch_never_commits(product: Product, settings: Settings, place: &str) {
    let Some(pair) = Pair::of(product).settings(settings).database(20, 4).without_daemons().up() else {
        return;
    };
    start_proxy(&pair, place);
    let noted = |word: &str| noted(&pair, word);
    pair.start_daemon(Host::Master);
    pair.start_daemon(Host::Slave);
    pair.await_peace(seconds(20.0));
    let old = digest(&pair, Host::Slave);

    fs::write(pair.lab.mailbox(Host::Slave, "hold"), "").expect("the mailbox can be written");
    thread::scope(|scope| {
        let running = scope.spawn(|| pair.ha(Host::Master, "replicate database"));
        wait::until("COMMIT is on its way", seconds(30.0), || noted("held"));
        let cut = pair.lab.cut(Host::Master);
        pair.await_start(Host::Slave, cut, seconds(15.0));
        pair.await_status(Host::Slave, "serving", seconds(10.0), |status| status.active());
        pair.lab.heal(Host::Master);
        fs::write(pair.lab.mailbox(Host::Slave, "release"), "").expect("the mailbox can be written");
        wait::until("the old COMMIT arrives", seconds(5.0), || {
            noted("released").or_else(|| noted("refused"))
        });
        pass(seconds(2.0));
        assert_eq!(digest(&pair, Host::Slave), old, "the old batch was committed beside a serving slave");
        let ran = running.join().expect("the verb returns");
        assert!(ran.code == 1 || ran.code == 3, "{ran:?}");
    });

    fs::remove_file(pair.lab.mailbox(Host::Slave, "hold")).expect("it stands");
    pair.await_peace(seconds(60.0));
    pair.ha(Host::Master, "replicate database").ok();
    assert_eq!(digest(&pair, Host::Slave), digest(&pair, Host::Master), "the next replication brings it");
}

fn a_commit_over_ssh_that_arrives_after_a_takeover_is_refused(product: Product) {
    let settings =
        Settings::modern().with("postgres", "remote", "\"host=/run/lab/pg user=postgres dbname=asterisk\"");
    old_batch_never_commits(product, settings, "");
}

fn a_commit_over_tcp_that_arrives_after_a_takeover_is_refused(product: Product) {
    let settings = Settings::modern().with("replication", "database_transport", "\"tcp\"").with(
        "postgres",
        "remote",
        "\"host={peer} port=5433 user=postgres dbname=asterisk\"",
    );
    old_batch_never_commits(product, settings, "5433");
}

for_every_product! {
    a_commit_over_ssh_that_arrives_after_a_takeover_is_refused,
    a_commit_over_tcp_that_arrives_after_a_takeover_is_refused,
}
