//! The daemon itself: its role changes, its restart, and the scripts that cron calls beside it.

use ha_tests::wait::{pass, seconds};
use ha_tests::{Host, Moment, Pair, Product};

fn a_role_change_while_probes_are_out_is_not_overtaken_by_their_losses(product: Product) {
    let Some(pair) = Pair::of(product).up() else { return };
    pair.lab.cut(Host::Master);
    pass(seconds(1.0));
    pair.ha(Host::Slave, "configure disabled").ok();
    let changed = Moment::now();
    pass(seconds(3.0));
    pair.lab.heal(Host::Master);
    pass(seconds(8.0));
    pair.assert_untouched(Host::Slave, changed);
    assert_eq!(pair.status(Host::Slave).node_type(), "disabled");
    assert!(pair.answers(Host::Slave), "a freed slave keeps its telephony");
    assert!(product.sentinel.is_none_or(|path| !pair.lab.disk(Host::Slave, path).exists()));
}

fn the_scripts_that_cron_calls_beside_the_daemon_leave_the_acting_to_it(product: Product) {
    let Some(pair) = Pair::of(product).up() else { return };
    let begin = Moment::now();
    let check = "/usr/sbin/xivo-check-master-status 10.77.0.11";
    assert_eq!(pair.lab.sh(Host::Slave, check).ok(), "", "cron mails whatever is printed");
    pair.ha(Host::Slave, "check-master 10.77.0.99").exits(0).says(&["not the slave of 10.77.0.99"]);
    pair.lab.sh(Host::Slave, "/usr/sbin/xivo-manage-slave-services start").exits(3);
    pair.assert_untouched(Host::Slave, begin);

    let every = format!(
        "for _ in $(seq 60); do {check} || echo \"exit $?\"; sleep 0.15; done >/run/lab/cron.log 2>&1 &"
    );
    pair.lab.sh(Host::Slave, &every).ok();
    let cut = pair.lab.cut(Host::Master);
    pair.await_start(Host::Slave, cut, seconds(12.0));
    pair.await_status(Host::Slave, "serving", seconds(10.0), |status| status.active());
    pass(seconds(4.0));
    assert_eq!(pair.starts(Host::Slave, cut).len(), 1, "one takeover, whoever asked for it");
    assert_eq!(pair.lab.sh(Host::Slave, "cat /run/lab/cron.log").ok(), "");

    let serving = Moment::now();
    pair.lab.sh(Host::Slave, "/usr/sbin/xivo-manage-slave-services stop").exits(3);
    pair.lab.sh(Host::Slave, "/usr/sbin/xivo-manage-slave-services start").ok();
    pair.assert_untouched(Host::Slave, serving);
}

fn a_daemon_restarted_while_the_slave_serves_changes_no_service(product: Product) {
    let Some(pair) = Pair::of(product).up() else { return };
    let cut = pair.lab.cut(Host::Master);
    pair.await_start(Host::Slave, cut, seconds(12.0));
    let serving = |status: &ha_tests::Status| status.active() && status.services() == "running";
    let before = pair.await_status(Host::Slave, "serving", seconds(10.0), serving);
    let pid = pair.lab.sh(Host::Slave, "cat /run/asterisk/asterisk.pid").ok();

    let restart = Moment::now();
    pair.kill_daemon(Host::Slave);
    pair.start_daemon(Host::Slave);
    pair.await_status(Host::Slave, "serving", seconds(10.0), serving);
    pair.signal_daemon(Host::Slave, "TERM");
    pass(seconds(2.0));
    assert!(!pair.daemon_runs(Host::Slave));
    pair.start_daemon(Host::Slave);
    let after = pair.await_status(Host::Slave, "serving", seconds(10.0), serving);
    pass(seconds(6.0));
    pair.assert_untouched(Host::Slave, restart);
    assert_eq!(pair.lab.sh(Host::Slave, "cat /run/asterisk/asterisk.pid").ok(), pid);
    assert_eq!(after.generation(), before.generation());

    // the master was well all the time, but this slave learns it only now: an active one waits for the policy
    pair.kill_daemon(Host::Slave);
    let healed = pair.lab.heal(Host::Master);
    pair.start_daemon(Host::Slave);
    let stop = pair.await_stop(Host::Slave, healed, seconds(40.0));
    assert!(stop.at.after(healed) >= seconds(5.0), "the first good verdict stopped an active slave");
    pair.await_peace(seconds(20.0));
}

for_every_product! {
    a_role_change_while_probes_are_out_is_not_overtaken_by_their_losses,
    the_scripts_that_cron_calls_beside_the_daemon_leave_the_acting_to_it,
    a_daemon_restarted_while_the_slave_serves_changes_no_service,
}
