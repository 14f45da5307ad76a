//! What others send, and what others do to the kernel's tables.

use std::net::UdpSocket;

use ha_core::cluster::beat::{BEAT_LENGTH, Beat};
use pnet::datalink::{self, Channel, Config};

use super::*;

/// Ethernet, IPv4 and UDP before a beat.
const HEADERS: usize = 14 + 20 + 8;

/// What the primary sends through the switch.
struct Recorder {
    ends: Arc<AtomicBool>,
    records: JoinHandle<Vec<Vec<u8>>>,
}

impl Recorder {
    fn start() -> Recorder {
        let config = Config { read_timeout: Some(MILLI * 20), ..Config::default() };
        let interface = datalink::interfaces().into_iter().find(|known| known.name == "port0").unwrap();
        let Ok(Channel::Ethernet(_, mut frames)) = datalink::channel(&interface, config) else {
            panic!("no channel")
        };
        let ends = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&ends);
        let records = thread::spawn(move || {
            let (from, port) = ([10, 9, 0, 1], PORT.to_be_bytes());
            let mut datagrams = Vec::new();
            while !ended.load(Ordering::Relaxed) {
                let Ok(frame) = frames.next() else { continue };
                if frame.len() > HEADERS && frame[26..30] == from && frame[36..38] == port {
                    datagrams.push(frame[HEADERS..].to_vec());
                }
            }
            datagrams
        });
        Recorder { ends, records }
    }

    fn end(self) -> Vec<Vec<u8>> {
        self.ends.store(true, Ordering::Relaxed);
        self.records.join().unwrap()
    }
}

#[test]
fn a_node_with_another_key_is_not_heard() {
    beside_a_pair(FAST, |pair| {
        pair.start(PRIMARY);
        pair.start_with(STANDBY, &[8; 32]);
        wait_until("their datagrams come", || {
            pair.nodes.iter().all(|node| node.engine().known().foreign_datagrams > 20)
        });
        for node in &pair.nodes {
            let (view, facts) = (node.engine().view(), node.engine().known());
            assert!(facts.paths.iter().all(|path| path.heard_ago.is_none()), "{facts:?}");
            assert!(!view.held && !matches!(view.peer, Verdict::Up | Verdict::Degraded), "{view:?}");
        }
    });
}

#[test]
fn a_recording_of_a_dead_node_does_not_keep_the_other_from_serving() {
    beside_a_pair(FAST, |pair| {
        let recorder = Recorder::start();
        pair.serving();
        thread::sleep(Duration::from_secs(1));
        let begin = Instant::now();
        pair.unplug(PRIMARY);
        let recorded = recorder.end();
        assert!(recorded.len() > 10, "{}", recorded.len());

        sh("ip addr add 10.9.0.1/32 dev br0");
        let socket = UdpSocket::bind(("10.9.0.1", PORT)).unwrap();
        let ends = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&ends);
        let player = thread::spawn(move || {
            let mut played = 0;
            while !ended.load(Ordering::Relaxed) {
                for datagram in &recorded {
                    played += usize::from(socket.send_to(datagram, (own(STANDBY)[0], PORT)).is_ok());
                    thread::sleep(MILLI);
                }
            }
            played
        });
        let standby = &pair.nodes[STANDBY];
        pair.comes_to_answer(STANDBY, Duration::from_secs(3));
        eprintln!("the standby answered {:?} after the plugs were pulled", begin.elapsed());
        ends.store(true, Ordering::Relaxed);
        let played = player.join().unwrap();
        let facts = standby.engine().known();
        eprintln!("{played} were played");
        assert!(
            facts.paths[0].heard_ago.is_some_and(|ago| ago < 1.0),
            "they came, with a good tag: {facts:?}"
        );
        assert_eq!(facts.foreign_datagrams, 0);
    });
}

#[test]
fn a_flush_of_all_rules_is_survived() {
    beside_a_pair(DEFAULT, |pair| {
        pair.serving();
        wait_until("the standby is ready", || pair.nodes[PRIMARY].engine().view().peer == Verdict::Up);
        let epoch = pair.nodes[PRIMARY].engine().known().epoch;
        for round in 1..=3 {
            let begin = Instant::now();
            pair.nodes[PRIMARY].machine.sh("nft flush ruleset");
            wait_until("it is noticed", || pair.nodes[PRIMARY].engine().known().gate_lost == round);
            wait_until("the address answers", || who_answers().is_some());
            eprintln!("answered again {:?} after the flush", begin.elapsed());
            assert_eq!(who_answers(), Some(PRIMARY));
            let tables = pair.nodes[PRIMARY].machine.sh("nft list tables");
            assert!(tables.contains("inet pbx_ha\n") && tables.contains("inet pbx_ha_owned"), "{tables}");
        }
        let (view, facts) = (pair.nodes[PRIMARY].engine().view(), pair.nodes[PRIMARY].engine().known());
        assert!(view.held && facts.epoch == epoch, "it was never let go: {facts:#?}");
        // the standby's gate is closed again as well
        pair.nodes[STANDBY].machine.sh("nft flush ruleset");
        wait_until("it is noticed", || pair.nodes[STANDBY].engine().known().gate_lost == 1);
        wait_until("both copies are there", || {
            let tables = pair.nodes[STANDBY].machine.sh("nft list tables");
            tables.contains("inet pbx_ha\n") && tables.contains("inet pbx_ha_owned")
        });
        assert_eq!(who_answers(), Some(PRIMARY));
    });
}

#[test]
fn an_address_that_somebody_takes_away_is_put_back() {
    beside_a_pair(DEFAULT, |pair| {
        pair.serving();
        pair.nodes[PRIMARY].machine.sh(&format!("ip addr del {VIP}/32 dev {WIRE}"));
        let took = pair.comes_to_answer(PRIMARY, Duration::from_secs(1));
        eprintln!("put back in {took:?}");
    });
}

#[test]
fn a_machine_that_was_set_back_begins_anew() {
    beside_a_pair(FAST, |pair| {
        let recorder = Recorder::start();
        pair.start(PRIMARY);
        thread::sleep(MILLI * 500);
        let own_beat = |datagrams: Vec<Vec<u8>>| {
            Beat::decode(&datagrams.last().expect("it beats")[..BEAT_LENGTH]).unwrap()
        };
        let before = own_beat(recorder.end());
        assert_ne!(before.session, 0);

        // the other node has heard what this one, set back, will only send in an hour
        let told = Beat {
            session: before.session ^ 1,
            echo: before.session,
            heard: before.number + Duration::from_secs(3600),
            ..before
        };
        sh(&format!("ip addr add {}/32 dev br0", own(STANDBY)[0]));
        pair.nodes[STANDBY].machine.sh(&format!("ip addr del {}/24 dev {WIRE}", own(STANDBY)[0]));
        let socket = UdpSocket::bind((own(STANDBY)[0], PORT)).unwrap();
        let recorder = Recorder::start();
        wait_until("it is heard", || {
            socket.send_to(&Key::new(KEY).seal(&told.encode()), (own(PRIMARY)[0], PORT)).unwrap();
            let paths = pair.nodes[PRIMARY].engine().known().paths;
            paths[0].heard_ago.is_some()
        });
        thread::sleep(MILLI * 500);
        let after = own_beat(recorder.end());
        assert!(![0, before.session].contains(&after.session), "another session: {after:?}");
        assert!(after.able && after.link, "it was told again what it is: {after:?}");
    });
}
