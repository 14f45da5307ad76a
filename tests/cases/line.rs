//! The line that a master's daemon keeps: one session for many replications, and never an old one where a new one is due.

use ha_tests::wait::{self, seconds};
use ha_tests::{Host, Pair, Settings};

use crate::database::digest;

/// The agents that run on the slave, by process id. A relay, which sshd is asked for by the same words, is not root's.
fn agents(pair: &Pair) -> Vec<String> {
    let listed = pair.lab.sh(Host::Slave, "pgrep -u root -f '^/usr/bin/wazo-ha agent'").stdout;
    listed.lines().map(str::to_owned).collect()
}

/// The one agent that a kept line leaves running.
#[track_caller]
fn kept_agent(pair: &Pair) -> String {
    let agents = wait::within(seconds(10.0), || match agents(pair).as_slice() {
        [one] => Some(one.clone()),
        _ => None,
    });
    agents.unwrap_or_else(|| panic!("one agent is kept, not {:?}", self::agents(pair)))
}

#[track_caller]
fn change_and_replicate(pair: &Pair, lastname: &str) {
    let change = format!("update userfeatures set lastname = '{lastname}' where id = 1;");
    pair.sql(Host::Master, &change);
    pair.lab.sh(Host::Master, &format!("echo {lastname} > /var/lib/asterisk/moh/default/new.wav")).ok();
    pair.ha(Host::Master, "replicate").ok();
    assert_eq!(digest(pair, Host::Slave), digest(pair, Host::Master));
    let file = pair.lab.sh(Host::Slave, "cat /var/lib/asterisk/moh/default/new.wav").ok();
    assert_eq!(file.trim(), lastname);
}

/// How many sessions of a replication the node's database has.
fn logins(pair: &Pair, host: Host) -> String {
    let count = "select count(*) from pg_stat_activity where application_name = 'pbx-ha replication'";
    pair.sql(host, count).trim().to_owned()
}

#[test]
fn replications_of_a_daemon_share_a_line_that_is_opened_anew_when_it_broke_or_is_outdated() {
    let Some(pair) = Pair::wazo().database(5, 1).up() else { return };
    change_and_replicate(&pair, "first");
    let first = kept_agent(&pair);
    change_and_replicate(&pair, "second");
    assert_eq!(kept_agent(&pair), first);
    assert_eq!((logins(&pair, Host::Master), logins(&pair, Host::Slave)), ("1".to_owned(), "1".to_owned()));

    // the session is killed
    pair.lab.sh(Host::Slave, &format!("kill $(ps -o ppid= -p {first})")).ok();
    change_and_replicate(&pair, "third");
    let third = kept_agent(&pair);
    assert_ne!(third, first);

    // a database's connection is
    let end = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pbx-ha replication'";
    for host in [Host::Master, Host::Slave] {
        pair.sql(host, end);
        change_and_replicate(&pair, &format!("after-{host}"));
        assert_eq!(kept_agent(&pair), third, "the session held");
    }

    // the slave's program is upgraded, then its settings are changed
    let mut before = third;
    let upgrades = [
        "cp /usr/bin/wazo-ha /usr/bin/wazo-ha.new; mv -f /usr/bin/wazo-ha.new /usr/bin/wazo-ha",
        "echo '# changed' >> /etc/pbx-ha/pbx-ha.toml",
    ];
    for (number, upgrade) in upgrades.into_iter().enumerate() {
        pair.lab.sh(Host::Slave, upgrade).ok();
        change_and_replicate(&pair, &format!("upgrade-{number}"));
        let after = kept_agent(&pair);
        assert_ne!(after, before, "{upgrade}");
        before = after;
    }

    pair.ha(Host::Master, "maintenance on --for 5m").ok();
    wait::until("maintenance lets the line go", seconds(10.0), || agents(&pair).is_empty().then_some(()));
    wait::until("and its logins", seconds(10.0), || {
        (logins(&pair, Host::Master) == "0" && logins(&pair, Host::Slave) == "0").then_some(())
    });
}

#[test]
fn nothing_comes_over_a_kept_line_to_a_slave_that_serves() {
    let settings = Settings::modern().degraded_after(1).quick_probes();
    let Some(pair) = Pair::wazo().settings(settings).database(5, 1).up() else { return };
    change_and_replicate(&pair, "before");
    let agent = kept_agent(&pair);
    pair.lab.sh(Host::Master, "kill -STOP $(cat /run/asterisk/asterisk.pid)").ok();
    pair.await_status(Host::Slave, "serving", seconds(30.0), |status| {
        status.active() && status.services() == "running"
    });
    let old = digest(&pair, Host::Slave);
    pair.sql(Host::Master, "update userfeatures set lastname = 'meanwhile' where id = 1;");
    pair.ha(Host::Master, "replicate").exits(3).says(&["guard \"active\""]);
    pair.ha(Host::Master, "replicate database").exits(3).says(&["guard \"active\""]);
    assert_eq!(digest(&pair, Host::Slave), old);
    assert_eq!(kept_agent(&pair), agent, "an agent that applies nothing is left alone");
    wait::until("the master is not logged in to a database that serves", seconds(10.0), || {
        (logins(&pair, Host::Slave) == "0").then_some(())
    });

    pair.lab.sh(Host::Master, "kill -CONT $(cat /run/asterisk/asterisk.pid)").ok();
    pair.await_status(Host::Slave, "standing by again", seconds(60.0), |status| {
        !status.active() && status.services() == "stopped"
    });
    change_and_replicate(&pair, "after");
}
