//! Hosts that lose power, freeze, or boot.

use std::thread;

use ha_tests::wait::{pass, seconds};
use ha_tests::{Host, Moment, Pair, Product, Settings};

fn when_the_master_loses_power_the_slave_takes_over_and_hands_back_after_its_boot(product: Product) {
    let Some(pair) = Pair::of(product).up() else { return };
    let crash = pair.lab.crash(Host::Master);
    pair.await_start(Host::Slave, crash, seconds(12.0));
    pair.await_serving(&[Host::Slave], seconds(10.0));

    let boot = pair.boot(Host::Master);
    let stop = pair.await_stop(Host::Slave, boot, seconds(40.0));
    assert!(stop.at.after(boot) >= seconds(5.0), "handed back before the hold was over");
    pair.await_peace(seconds(20.0));
    pair.await_serving(&[Host::Master], seconds(5.0));
    assert_eq!((pair.starts(Host::Slave, crash).len(), pair.stops(Host::Slave, crash).len()), (1, 1));
    assert_eq!(pair.status(Host::Master).node_type(), "master", "the role survives the crash");
}

fn a_frozen_master_that_still_answers_ping_is_taken_over_once_telephony_is_silent_long_enough(
    product: Product,
) {
    let settings = Settings::modern().degraded_after(4);
    let Some(pair) = Pair::of(product).settings(settings).up() else { return };
    let frozen = pair.lab.freeze(Host::Master);
    let start = pair.await_start(Host::Slave, frozen, seconds(30.0));
    assert!(start.at.after(frozen) >= seconds(4.0), "before the grace for a restart was over");
    let status = pair.await_status(Host::Slave, "serving", seconds(10.0), |status| status.active());
    assert_eq!((status.word("/peer_rungs/host"), status.word("/peer_rungs/service")), ("up", "down"));
    pair.await_serving(&[Host::Slave], seconds(5.0));

    let thawed = pair.lab.thaw(Host::Master);
    pair.await_stop(Host::Slave, thawed, seconds(40.0));
    pair.await_peace(seconds(20.0));
    pair.assert_untouched(Host::Master, frozen);
}

fn two_nodes_that_boot_at_once_end_with_the_master_serving_and_the_slave_never_did(product: Product) {
    let Some(pair) = Pair::of(product).up() else { return };
    let begin = pair.lab.crash(Host::Slave);
    pair.lab.crash(Host::Master);
    thread::scope(|scope| {
        for host in [Host::Master, Host::Slave] {
            let pair = &pair;
            scope.spawn(move || pair.boot(host));
        }
    });
    pair.await_peace(seconds(30.0));
    pass(seconds(5.0));
    assert_eq!(pair.starts(Host::Slave, begin).len(), 0, "the slave served");
    pair.await_serving(&[Host::Master], seconds(5.0));
}

/// What XiVO 1.2 has and today's XiVO has not; only the master's Asterisk may run.
const XIVO_1_2: &str = r#"
    mkdir -p /etc/default /etc/pf-xivo/web-interface
    printf '[general]\nlanguage = "fr"\n[user]\nreadonly-idpwd = "true"\n' > /etc/pf-xivo/web-interface/ipbx.ini
    if [ $(hostname) = master ]; then may=yes on=1; else may=no on=0; fi
    printf '# of the package\nRUNASTERISK=%s\n' $may > /etc/default/asterisk; echo startup=$on > /etc/default/monit
    rm -f /usr/bin/xivo-service /usr/sbin/xivo-service"#;

#[test]
fn a_pair_of_xivo_1_2_moves_with_the_commands_of_its_time() {
    let settings = Settings::modern().with("", "release", "\"1.2\"");
    let Some(pair) = Pair::xivo().settings(settings).unconfigured().up() else { return };
    for host in [Host::Master, Host::Slave] {
        pair.lab.sh(host, XIVO_1_2).ok();
    }
    let on_slave = |script: &str| pair.lab.sh(Host::Slave, script).ok();
    let ini = "cat /etc/pf-xivo/web-interface/ipbx.ini";
    let shipped = on_slave(ini);
    pair.configure();
    assert!(on_slave(ini).contains("\nreadonly-idpwd = \"false\"\n"), "{}", on_slave(ini));
    pair.start_daemon(Host::Master);
    pair.start_daemon(Host::Slave);
    pair.await_peace(seconds(20.0));

    let may_run = "grep -c '^RUNASTERISK=yes' /etc/default/asterisk || true";
    let calls = |arguments: &str, since: Moment| {
        let all = pair.calls(Host::Slave).into_iter();
        all.filter(|call| call.at > since && call.is("service", arguments)).count()
    };
    let cut = pair.lab.cut(Host::Master);
    pair.await_serving(&[Host::Slave], seconds(20.0));
    assert_eq!((on_slave(may_run).trim(), calls("asterisk start", cut)), ("1", 1));
    pair.lab.heal(Host::Master);
    pair.await_serving(&[Host::Master], seconds(40.0));
    pair.await_peace(seconds(20.0));
    assert_eq!((on_slave(may_run).trim(), calls("asterisk stop", cut)), ("0", 1));
    assert_eq!(calls("asterisk start", cut), 1);

    pair.ha(Host::Slave, "configure disabled").ok();
    assert_eq!(on_slave(ini), shipped, "the administrator's own line is in force again");
}

for_every_product! {
    when_the_master_loses_power_the_slave_takes_over_and_hands_back_after_its_boot,
    a_frozen_master_that_still_answers_ping_is_taken_over_once_telephony_is_silent_long_enough,
    two_nodes_that_boot_at_once_end_with_the_master_serving_and_the_slave_never_did,
}
