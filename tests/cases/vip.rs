//! The watch of the address that moves: what the figures of a takeover rest on.

use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use ha_tests::wait::{self, pass, seconds};
use ha_tests::{Answer, Answers, Holding, Host, Lab, Moment, Network, PERIOD, Probe, Silence, VIP, VipWatch};

/// The script of the lab, as a host runs it.
fn tool(name: &str) -> String {
    format!("{}/lab/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Both nodes as a SARK's, with Asterisk's stand-in running on both; the address is nowhere.
fn nodes() -> Option<Lab> {
    let lab = Lab::up()?;
    thread::scope(|scope| {
        for host in [Host::Master, Host::Slave] {
            let lab = &lab;
            scope.spawn(move || {
                lab.sh(host, &tool("sark.sh")).ok();
                lab.sh(host, "systemctl start asterisk && asterisk -rx 'core waitfullybooted'").ok();
            });
        }
    });
    Some(lab)
}

fn take(lab: &Lab, host: Host) {
    lab.sh(host, &format!("ip address add {VIP}/24 dev eth0 && {} {VIP}", tool("garp.py"))).ok();
}

fn release(lab: &Lab, host: Host) {
    lab.sh(host, &format!("ip address del {VIP}/24 dev eth0")).ok();
}

fn who(holdings: &[Holding]) -> Vec<Host> {
    holdings.iter().map(|holding| holding.by).collect()
}

/// Answers of a node to every probe of a kind from one number to another, each 1 ms after it was sent, 10 ms apart.
fn answered(probe: Probe, by: Host, numbers: std::ops::RangeInclusive<u32>, begin: Moment) -> Vec<Answer> {
    let answer = |number: u32| {
        let sent = begin + PERIOD * number;
        Answer { probe, number: number.into(), sent, at: sent + Duration::from_millis(1), by }
    };
    numbers.map(answer).collect()
}

#[test]
fn only_what_was_asked_and_not_answered_is_a_silence() {
    use Host::{Master, Slave};
    let begin = Moment::now();
    let ms = |count: u32| begin + Duration::from_millis(count.into());
    let mut late = answered(Probe::Ping, Slave, 51..=60, begin);
    for answer in &mut late {
        // the client stood still for a second: it did not ask meanwhile
        (answer.sent, answer.at) = (answer.sent + seconds(1.0), answer.at + seconds(1.0));
    }
    let ping = |by, numbers| answered(Probe::Ping, by, numbers, begin);
    let answers = Answers::new(60, [ping(Master, 1..=20), ping(Slave, 41..=50), late].concat());
    let silences = answers.silences(Probe::Ping, seconds(0.1));
    assert_eq!(silences.len(), 1, "{silences:?}");
    let Silence { before, after, .. } = silences[0];
    assert_eq!((before, after), (Master, Slave));
    assert!(silences[0].length().abs_diff(seconds(0.21)) < seconds(0.001), "{silences:?}");
    assert_eq!(answers.holders(Probe::Ping, ms(150)), [Master]);
    assert_eq!(answers.holders(Probe::Ping, ms(300)), []);
    assert_eq!(answers.holders(Probe::Ping, ms(450)), [Slave]);
}

#[test]
fn nodes_that_answer_by_turns_overlap_and_one_after_the_other_do_not() {
    use Host::{Master, Slave};
    let begin = Moment::now();
    let overlap = |one: Vec<Answer>, other: Vec<Answer>| Answers::new(99, [one, other].concat()).overlap();
    let all = |probe, by, numbers| answered(probe, by, numbers, begin);
    let clean = overlap(all(Probe::Ping, Master, 1..=20), all(Probe::Ping, Slave, 21..=40));
    assert_eq!(clean, Duration::ZERO, "the next probe is answered by the other node");

    let even =
        |answers: Vec<Answer>, rest| answers.into_iter().filter(move |answer| answer.number % 2 == rest);
    let by_turns = overlap(
        even(all(Probe::Ping, Master, 1..=40), 0).collect(),
        even(all(Probe::Ping, Slave, 1..=40), 1).collect(),
    );
    assert!(by_turns >= seconds(0.37) && by_turns <= seconds(0.4), "{by_turns:?}");

    let across = overlap(all(Probe::Ping, Master, 1..=40), all(Probe::Options, Slave, 21..=60));
    assert!(across >= seconds(0.19) && across <= seconds(0.21), "one pinged, the other asked: {across:?}");
    let once = overlap(all(Probe::Both, Master, 1..=20), all(Probe::Both, Slave, 20..=40));
    assert!(once > Duration::ZERO && once < PERIOD, "one probe that both answered: {once:?}");
}

#[test]
fn an_address_that_moves_is_silent_for_the_time_between_and_never_at_two_nodes() {
    use Host::{Master, Slave};
    let Some(lab) = nodes() else { return };
    take(&lab, Master);
    let watch = VipWatch::start(&lab);
    pass(seconds(0.5));
    let released = Moment::now();
    release(&lab, Master);
    pass(seconds(0.3));
    let before_taking = Moment::now();
    take(&lab, Slave);
    let taken = Moment::now();
    wait::until("the slave answers", seconds(2.0), || {
        watch.so_far().first(Probe::Options, Slave, taken).map(drop)
    });
    pass(seconds(0.2));
    let answers = watch.end();

    for probe in [Probe::Ping, Probe::Options, Probe::Both] {
        assert_eq!(who(&answers.holdings(probe)), [Master, Slave], "{probe:?}\n{answers}");
        let silences = answers.silences(probe, seconds(0.25));
        assert_eq!(silences.len(), 1, "{probe:?} {silences:?}\n{answers}");
        assert_eq!((silences[0].before, silences[0].after), (Master, Slave));
        assert!(silences[0].to > before_taking && silences[0].from < before_taking - seconds(0.29));
        assert!(silences[0].to.after(taken) < seconds(0.5), "{probe:?}\n{answers}");
        assert_eq!(answers.first(probe, Slave, released), Some(silences[0].to));
        assert_eq!(answers.first(probe, Master, taken), None);
        assert_eq!(answers.holders(probe, released - seconds(0.1)), [Master]);
        assert_eq!(answers.holders(probe, before_taking), []);
    }
    assert_eq!((answers.overlap(), answers.doubles(), answers.strays()), (Duration::ZERO, 0, 0), "{answers}");
    assert!(answers.sent() > 80 && answers.to_string().contains("0 doubles"), "{answers}");
}

#[test]
fn two_nodes_that_hold_the_address_are_seen_while_a_phone_hears_only_one() {
    use Host::{Master, Slave};
    let Some(lab) = nodes() else { return };
    take(&lab, Master);
    let watch = VipWatch::start(&lab);
    pass(seconds(0.3));
    let begin = Moment::now();
    take(&lab, Slave);
    let both = Moment::now();
    pass(seconds(0.5));
    let end = Moment::now();
    release(&lab, Slave);
    pass(seconds(0.3));
    let answers = watch.end();

    let overlap = answers.overlap();
    assert!(overlap >= end.after(both) - seconds(0.03), "{answers}");
    assert!(overlap <= Moment::now().after(begin), "{answers}");
    assert!(answers.doubles() >= 40, "{answers}");
    let middle = both + end.after(both) / 2;
    let mut holders = answers.holders(Probe::Both, middle);
    holders.sort();
    assert_eq!(holders, [Master, Slave]);
    assert_eq!(answers.holders(Probe::Ping, middle), [Slave], "the later one is in the neighbour table");
    assert_eq!(answers.since(end + seconds(0.2)).overlap(), Duration::ZERO);
}

/// Answers everything from whatever address the kernel chooses, as Asterisk bound to 0.0.0.0 does.
const FROM_ANY_ADDRESS: &str = "
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(('0.0.0.0', 5060))
while True:
    data, peer = sock.recvfrom(9999)
    call = [line for line in data.decode().split('\\r\\n') if line.startswith('Call-ID')][0]
    sock.sendto(f'SIP/2.0 200 OK\\r\\n{call}\\r\\n\\r\\n'.encode(), peer)";

#[test]
fn an_answer_from_a_nodes_own_address_is_a_stray_and_no_answer() {
    let Some(lab) = nodes() else { return };
    take(&lab, Host::Master);
    let watch = VipWatch::start(&lab);
    wait::until("answered", seconds(1.0), || watch.so_far().to(Probe::Options).next().map(drop));
    lab.sh(Host::Master, "systemctl stop asterisk").ok();
    let stopped = Moment::now();
    std::fs::write(lab.mailbox(Host::Master, "any.py"), FROM_ANY_ADDRESS).unwrap();
    lab.sh(Host::Master, "setsid python3 /run/lab/any.py </dev/null >/dev/null 2>&1 &").ok();
    wait::until("answers from elsewhere", seconds(3.0), || (watch.so_far().strays() > 20).then_some(()));
    let answers = watch.end().since(stopped);
    assert_eq!(answers.to(Probe::Options).count(), 0, "{answers}");
    assert!(answers.to(Probe::Ping).count() > 20, "{answers}");
}

#[test]
fn each_network_of_the_nodes_breaks_by_itself() {
    use Host::{Master, Slave};
    let Some(lab) = Lab::up() else { return };
    let pings = |address: Ipv4Addr| {
        lab.exec(Slave, &["ping", "-q", "-c", "1", "-W", "1", &address.to_string()]).succeeded()
    };
    let heard = || (pings(Master.address()), pings(Master.crossover_address()));
    assert_eq!(heard(), (true, true));
    lab.part_on(Network::Shared, Master, Slave);
    assert_eq!(heard(), (false, true));
    lab.mend();
    lab.drop_frames_on(Network::Crossover, Master, Slave);
    assert_eq!(heard(), (true, false));
    lab.mend();
    lab.cut_crossover(Master);
    assert_eq!(heard(), (true, false));
    lab.heal_crossover(Master);
    wait::until("healed", seconds(3.0), || (heard() == (true, true)).then_some(()));
    lab.cut(Master);
    assert_eq!(heard(), (false, true));
}
