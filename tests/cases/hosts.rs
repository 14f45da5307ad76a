//! Hosts that lose power, freeze, or boot.

use std::thread;

use ha_tests::wait::{pass, seconds};
use ha_tests::{Host, Pair, Product, Settings};

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

for_every_product! {
    when_the_master_loses_power_the_slave_takes_over_and_hands_back_after_its_boot,
    a_frozen_master_that_still_answers_ping_is_taken_over_once_telephony_is_silent_long_enough,
    two_nodes_that_boot_at_once_end_with_the_master_serving_and_the_slave_never_did,
}
