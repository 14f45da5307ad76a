//! Telephony that crashes, restarts, hangs or is filtered while its host is well.

use std::fs;

use ha_tests::wait::{self, pass, seconds};
use ha_tests::{Host, Moment, Pair, Product, Settings};

/// The start of telephony fails while this stands: nothing brings telephony back by itself.
const NO_START: &str = "[ \"$1\" = start ] && exit 1";

fn when_only_asterisk_crashes_the_slave_takes_over_after_the_grace_for_a_restart(product: Product) {
    let settings = Settings::modern().degraded_after(4);
    let Some(pair) = Pair::of(product).settings(settings).up() else { return };
    pair.on_call(Host::Master, product.service, NO_START);
    let crash = Moment::now();
    pair.lab.sh(Host::Master, "kill -KILL $(cat /run/asterisk/asterisk.pid)").ok();
    let start = pair.await_start(Host::Slave, crash, seconds(30.0));
    assert!(start.at.after(crash) >= seconds(4.0), "before the grace was over");
    let status = pair.await_status(Host::Slave, "serving", seconds(10.0), |status| status.active());
    assert_eq!((status.peer(), status.word("/peer_rungs/host")), ("degraded", "up"));

    pair.no_longer_on_call(Host::Master, product.service);
    pair.service(Host::Master, "start").ok();
    let back = Moment::now();
    pair.await_stop(Host::Slave, back, seconds(40.0));
    pair.await_serving(&[Host::Master], seconds(10.0));
}

fn a_restart_of_telephony_on_the_master_that_takes_twenty_seconds_is_no_takeover(product: Product) {
    let Some(pair) = Pair::of(product).up() else { return };
    pair.on_call(Host::Master, product.service, NO_START);
    let stop = Moment::now();
    pair.service(Host::Master, "stop").ok();
    pass(seconds(20.0));
    pair.no_longer_on_call(Host::Master, product.service);
    pair.service(Host::Master, "start").ok();
    pass(seconds(12.0));
    pair.assert_untouched(Host::Slave, stop);
    pair.await_peace(seconds(20.0));
}

fn a_firewall_that_never_let_sip_probes_through_is_no_takeover_and_doctor_names_it(product: Product) {
    let settings = Settings::modern().degraded_after(4);
    let Some(pair) = Pair::of(product).settings(settings).without_daemons().up() else { return };
    pair.lab.filter(Host::Slave, Host::Master, "udp dport 5060");
    let begin = Moment::now();
    pair.start_daemon(Host::Master);
    pair.start_daemon(Host::Slave);
    pair.await_peace(seconds(20.0));
    pass(seconds(20.0));
    pair.assert_untouched(Host::Slave, begin);
    assert_eq!(pair.status(Host::Slave).word("/peer_rungs/host"), "up");
    pair.ha(Host::Slave, "doctor").says(&["service", "5060"]);

    let crash = pair.lab.crash(Host::Master);
    pair.await_start(Host::Slave, crash, seconds(12.0));
}

fn a_command_that_hangs_is_ended_with_its_children_and_telephony_starts_all_the_same(product: Product) {
    let Some(pair) = Pair::of(product).up() else { return };
    pair.on_call(Host::Slave, "dhcpd-update", "rm /run/lab/on/dhcpd-update; sleep 98765");
    let cut = pair.lab.cut(Host::Master);
    wait::until("the hanging command is called", seconds(12.0), || {
        pair.calls(Host::Slave).iter().any(|call| call.name == "dhcpd-update" && call.at > cut).then_some(())
    });
    pair.await_start(Host::Slave, cut, seconds(45.0));
    pair.await_serving(&[Host::Slave], seconds(10.0));
    assert!(!pair.lab.sh(Host::Slave, "pgrep -f 'sleep 9876[5]'").succeeded(), "the hung command still runs");
}

fn telephony_started_by_hand_on_a_passive_slave_is_stopped_once_and_an_alert_is_sent(product: Product) {
    let Some(pair) = Pair::of(product).up() else { return };
    pair.service(Host::Slave, "enable").ok();
    pair.service(Host::Slave, "start").ok();
    let by_hand = Moment::now();
    pair.await_stop(Host::Slave, by_hand, seconds(25.0));
    pair.await_serving(&[Host::Master], seconds(10.0));
    pass(seconds(15.0));
    assert_eq!(pair.stops(Host::Slave, by_hand).len(), 1);
    let mails = fs::read_to_string(pair.lab.mailbox(Host::Slave, "mail")).unwrap_or_default();
    let alert = format!("{}: started-by-hand", product.program);
    let subjects = |start: &str| {
        let start = format!("to: -s {start}{alert}");
        mails.lines().filter(|line| line.starts_with(&start)).count()
    };
    assert_eq!((subjects(""), subjects("over: ")), (1, 1), "one alert, one end of it: {mails}");
}

for_every_product! {
    when_only_asterisk_crashes_the_slave_takes_over_after_the_grace_for_a_restart,
    a_restart_of_telephony_on_the_master_that_takes_twenty_seconds_is_no_takeover,
    a_firewall_that_never_let_sip_probes_through_is_no_takeover_and_doctor_names_it,
    a_command_that_hangs_is_ended_with_its_children_and_telephony_starts_all_the_same,
    telephony_started_by_hand_on_a_passive_slave_is_stopped_once_and_an_alert_is_sent,
}
