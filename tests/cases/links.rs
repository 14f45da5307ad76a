//! Cables that are pulled, and frames that are lost.

use ha_tests::wait::{self, pass, seconds};
use ha_tests::{Host, Moment, Pair, Product, Settings, SipWatch};

/// Three times what the `modern` preset needs at most, since labs run side by side.
const TAKEOVER: f64 = 12.0;

fn when_the_masters_cable_is_pulled_the_slave_takes_over_and_later_hands_back(product: Product) {
    let Some(pair) = Pair::of(product).up() else { return };
    let watch = SipWatch::start(&pair.lab);
    pair.await_serving(&[Host::Master], seconds(5.0));
    let generation = pair.status(Host::Slave).generation();

    let cut = pair.lab.cut(Host::Master);
    let start = pair.await_start(Host::Slave, cut, seconds(TAKEOVER));
    pair.await_status(Host::Slave, "serving", seconds(10.0), |status| {
        status.active() && status.services() == "running" && status.peer() == "down"
    });
    let outage = wait::until("phones are answered", seconds(5.0), || watch.outage(cut, Host::Slave));
    assert!(outage < seconds(TAKEOVER + 2.0), "{outage:?}");
    let active = pair.status(Host::Slave);
    assert!(active.generation() > generation, "a takeover is a new generation");
    assert!(!active.word("/rule").is_empty() && !active.word("/why").is_empty());
    assert!(!pair.ha(Host::Slave, "why").ok().trim().is_empty());
    println!("from the cut to the start command: {:?}", start.at.after(cut));
    let master = pair.status(Host::Master);
    assert!(master.active() && master.services() == "running", "an isolated master goes on serving its side");

    let healed = pair.lab.heal(Host::Master);
    let stop = pair.await_stop(Host::Slave, healed, seconds(40.0));
    assert!(stop.at.after(healed) >= seconds(5.0), "handed back before the hold was over: {stop:?}");
    pair.await_peace(seconds(20.0));
    pair.await_serving(&[Host::Master], seconds(5.0));
    assert_eq!(pair.starts(Host::Slave, cut).len(), 1, "one takeover");
    assert_eq!(pair.stops(Host::Slave, cut).len(), 1, "one failback");
    pair.assert_untouched(Host::Master, cut);
    let timeline = pair.ha(Host::Slave, "timeline --json").ok();
    assert!(timeline.trim_start().starts_with('[') && timeline.contains(active.word("/rule")), "{timeline}");
}

fn a_slave_whose_own_cable_is_pulled_is_isolated_and_stays_passive(product: Product) {
    let Some(pair) = Pair::of(product).up() else { return };
    let cut = pair.lab.cut(Host::Slave);
    let status = pair.await_status(Host::Slave, "isolated", seconds(TAKEOVER), |status| status.isolated());
    assert!(!status.active());
    pass(seconds(8.0));
    pair.assert_untouched(Host::Slave, cut);
    pair.lab.heal(Host::Slave);
    pair.await_peace(seconds(20.0));
    pair.assert_untouched(Host::Slave, cut);
    pair.assert_untouched(Host::Master, cut);
}

fn when_only_the_masters_answers_are_lost_the_slave_takes_over_and_hands_back_when_they_return(
    product: Product,
) {
    let Some(pair) = Pair::of(product).up() else { return };
    let lost = pair.lab.drop_frames(Host::Master, Host::Slave);
    pair.await_start(Host::Slave, lost, seconds(TAKEOVER));
    pair.await_status(Host::Slave, "serving", seconds(10.0), |status| status.active() && !status.isolated());
    let mended = pair.lab.mend();
    pair.await_stop(Host::Slave, mended, seconds(40.0));
    pair.await_peace(seconds(20.0));
    assert_eq!((pair.starts(Host::Slave, lost).len(), pair.stops(Host::Slave, lost).len()), (1, 1));
    pair.assert_untouched(Host::Master, lost);
}

fn a_third_of_the_frames_lost_one_way_for_a_minute_is_no_takeover(product: Product) {
    let Some(pair) = Pair::of(product).up() else { return };
    let generation = pair.status(Host::Slave).generation();
    let lossy = pair.lab.lose(30, Host::Slave, Host::Master);
    // what differs from Wazo there are names
    pass(seconds(if product == Product::WAZO { 60.0 } else { 20.0 }));
    pair.assert_untouched(Host::Slave, lossy);
    pair.assert_untouched(Host::Master, lossy);
    let status = pair.status(Host::Slave);
    assert!(!status.active() && status.generation() == generation, "{status:?}");
    pair.lab.mend();
    pair.await_peace(seconds(20.0));
}

fn a_flapping_link_moves_telephony_once_and_back_once(product: Product) {
    // longer than a heal and the detection of the next cut together
    let settings = Settings::modern().with("failback", "hold", "\"10s\"");
    let Some(pair) = Pair::of(product).settings(settings).up() else { return };
    let begin = Moment::now();
    for _ in 0..4 {
        pair.lab.cut(Host::Master);
        pass(seconds(6.0));
        pair.lab.heal(Host::Master);
        pass(seconds(2.0));
    }
    assert_eq!(pair.starts(Host::Slave, begin).len(), 1, "taken over at the first cut");
    assert_eq!(pair.stops(Host::Slave, begin).len(), 0, "not handed back while the link flaps");
    pair.await_peace(seconds(40.0));
    assert_eq!((pair.starts(Host::Slave, begin).len(), pair.stops(Host::Slave, begin).len()), (1, 1));
    pair.assert_untouched(Host::Master, begin);
}

for_every_product! {
    when_the_masters_cable_is_pulled_the_slave_takes_over_and_later_hands_back,
    a_slave_whose_own_cable_is_pulled_is_isolated_and_stays_passive,
    when_only_the_masters_answers_are_lost_the_slave_takes_over_and_hands_back_when_they_return,
    a_third_of_the_frames_lost_one_way_for_a_minute_is_no_takeover,
    a_flapping_link_moves_telephony_once_and_back_once,
}
