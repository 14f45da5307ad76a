//! Who serves after both nodes of a pair with one address were off (`safety.md` 5.9).

use std::fs;
use std::time::Duration;

use ha_tests::wait::{self, pass, seconds};
use ha_tests::{Host, Moment, Pair, Probe, VipWatch};

const NODES: [Host; 2] = [Host::Master, Host::Slave];
/// What a node remembers of the address over a reboot.
const MEMORY: &str = "/var/lib/pbx-ha/cluster.json";

fn power_cut(pair: &Pair) {
    for host in NODES {
        pair.lab.crash(host);
    }
}

#[track_caller]
fn comes_to_serve(pair: &Pair, watch: &VipWatch, host: Host, limit: Duration) {
    wait::until(&format!("{host} serves"), limit, || {
        watch.so_far().holders(Probe::Options, Moment::now() - seconds(0.05)).contains(&host).then_some(())
    });
    pair.await_status(host.peer(), "standing by", seconds(20.0), |status| {
        status.peer() == "up" && status.services() == "stopped"
    });
}

#[test]
fn who_served_last_serves_after_a_power_cut_whatever_an_older_disk_says() {
    let Some(pair) = Pair::sark().up() else { return };
    let (memory, kept) = (pair.lab.disk(Host::Master, MEMORY), pair.lab.mailbox(Host::Master, "older"));
    fs::copy(&memory, &kept).expect("it remembers that it serves");
    pair.ha(Host::Master, "switchover").exits(0);
    let watch = VipWatch::start(&pair.lab);
    comes_to_serve(&pair, &watch, Host::Slave, seconds(10.0));

    // the primary is back first, and hears nobody: it waits for who may have served after it
    power_cut(&pair);
    pair.boot(Host::Master);
    // longer than an engine waits that was started anew on a machine that was not
    pass(seconds(8.0));
    let answers = watch.so_far().since(Moment::now() - seconds(7.0));
    assert_eq!(answers.to(Probe::Ping).count(), 0, "{answers}");
    pair.boot(Host::Slave);
    comes_to_serve(&pair, &watch, Host::Slave, seconds(20.0));

    // and with the disk of a time when it did serve
    power_cut(&pair);
    fs::copy(&kept, &memory).expect("an older disk");
    for host in NODES {
        pair.boot(host);
    }
    comes_to_serve(&pair, &watch, Host::Slave, seconds(20.0));
    watch.end().never_both();
}

#[test]
#[ignore = "takes minutes: ./check --long"]
fn nobody_serves_before_a_slow_switch_is_up_and_one_does_then() {
    let Some(pair) = Pair::sark().up() else { return };
    power_cut(&pair);
    for host in NODES {
        pair.power_on(host);
        // the switch passes nothing yet, on either network
        pair.lab.cut_crossover(host);
        pair.lab.cut(host);
    }
    for host in NODES {
        pair.start_daemon(host);
    }
    // longer than a node that hears nobody waits for the other
    pass(seconds(150.0));
    for host in NODES {
        let status = pair.status(host);
        assert_eq!(status.document()["address"]["held"], false, "{host} hears nothing at all: {status:?}");
        assert_eq!(status.services(), "stopped", "{host}: {status:?}");
    }
    let watch = VipWatch::start(&pair.lab);
    for host in NODES {
        pair.lab.heal_crossover(host);
        pair.lab.heal(host);
    }
    comes_to_serve(&pair, &watch, Host::Master, seconds(20.0));
    watch.end().never_both();
}
