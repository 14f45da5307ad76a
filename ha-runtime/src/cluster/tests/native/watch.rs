//! A third machine that asks both nodes at the same time, all the time.

use pnet::datalink::{self, Channel, Config, DataLinkReceiver, DataLinkSender, MacAddr};

use super::*;

const PACE: Duration = Duration::from_millis(2);
const ETHERNET: usize = 14;
const IP: usize = 20;
const ECHO: usize = 8;

/// Which nodes answered each question.
type Answers = Vec<[bool; 2]>;

/// Two threads that ask and hear.
pub(super) struct Watch {
    ends: Arc<AtomicBool>,
    asking: JoinHandle<usize>,
    hearing: JoinHandle<Answers>,
}

impl Watch {
    pub(super) fn begin(pair: &Pair) -> Watch {
        let nodes = pair.nodes.each_ref().map(|node| node.machine.run(hardware).parse().unwrap());
        let ends = Arc::new(AtomicBool::new(false));
        let (asks, hears) = channel_of("br0");
        let own = hardware_of("br0").parse().unwrap();
        let (ended, heard) = (Arc::clone(&ends), Arc::clone(&ends));
        let asking = thread::spawn(move || ask(asks, own, nodes, &ended));
        let hearing = thread::spawn(move || hear(hears, nodes, &heard));
        Watch { ends, asking, hearing }
    }

    /// Both have served, most of the time one of them did, and never both.
    pub(super) fn finds_one_at_a_time(self) {
        let (asked, answers) = self.end();
        let by = |index: usize| answers.iter().filter(|by| by[index]).count();
        eprintln!("{asked} questions, answered by {:?}", [by(0), by(1)]);
        let both: Vec<usize> = (0..answers.len()).filter(|at| answers[*at] == [true; 2]).collect();
        assert!(both.is_empty(), "answered by both: {both:?}");
        assert!(by(0) > 0 && by(1) > 0, "the address moved");
        assert!((by(0) + by(1)) * 5 > asked, "and was served");
    }

    /// How many questions there were, and the answers.
    fn end(self) -> (usize, Answers) {
        self.ends.store(true, Ordering::Relaxed);
        (self.asking.join().unwrap(), self.hearing.join().unwrap())
    }
}

#[test]
fn who_watches_sees_it_when_both_answer() {
    beside_a_pair(FAST, |pair| {
        for node in &pair.nodes {
            node.machine.sh(&format!("ip addr add {VIP}/32 dev {WIRE}"));
        }
        let watch = Watch::begin(pair);
        thread::sleep(MILLI * 500);
        let (asked, answers) = watch.end();
        let both = answers.iter().filter(|by| **by == [true; 2]).count();
        assert!(both > asked / 2, "{both} of {asked}");
    });
}

fn channel_of(name: &str) -> (Box<dyn DataLinkSender>, Box<dyn DataLinkReceiver>) {
    let config = Config { read_timeout: Some(MILLI * 20), ..Config::default() };
    let interface = datalink::interfaces().into_iter().find(|known| known.name == name).unwrap();
    match datalink::channel(&interface, config) {
        Ok(Channel::Ethernet(sender, receiver)) => (sender, receiver),
        _ => panic!("no channel"),
    }
}

/// Asks both, one right after the other; how often.
fn ask(mut wire: Box<dyn DataLinkSender>, own: MacAddr, nodes: [MacAddr; 2], ends: &AtomicBool) -> usize {
    let mut asked = 0_u32;
    while !ends.load(Ordering::Relaxed) {
        for node in nodes {
            // a full queue loses one
            let _ = wire.send_to(&question(own, node, asked), None);
        }
        asked += 1;
        thread::sleep(PACE);
    }
    asked.try_into().unwrap()
}

/// An echo request to the address, for that node.
fn question(own: MacAddr, node: MacAddr, number: u32) -> [u8; ETHERNET + IP + ECHO] {
    let mut frame = [0; ETHERNET + IP + ECHO];
    frame[..6].copy_from_slice(&node.octets());
    frame[6..12].copy_from_slice(&own.octets());
    frame[12..14].copy_from_slice(&[8, 0]);
    let (header, echo) = frame[ETHERNET..].split_at_mut(IP);
    // version and length, time to live, ICMP
    header[0] = 0x45;
    header[3] = u8::try_from(IP + ECHO).unwrap();
    header[8] = 64;
    header[9] = 1;
    header[12..16].copy_from_slice(&[10, 9, 0, 3]);
    header[16..20].copy_from_slice(&[10, 9, 0, 9]);
    let sum = checksum(header);
    header[10..12].copy_from_slice(&sum);
    // an identifier and a sequence number: the number
    echo[0] = 8;
    echo[4..8].copy_from_slice(&number.to_be_bytes());
    let sum = checksum(echo);
    echo[2..4].copy_from_slice(&sum);
    frame
}

fn hear(mut wire: Box<dyn DataLinkReceiver>, nodes: [MacAddr; 2], ends: &AtomicBool) -> Answers {
    let mut answers = Answers::new();
    while !ends.load(Ordering::Relaxed) {
        let Ok(frame) = wire.next() else { continue };
        let Some(echo) = frame.get(ETHERNET + IP..ETHERNET + IP + ECHO) else { continue };
        let from_the_address = frame[12..14] == [8, 0] && frame[26..30] == [10, 9, 0, 9];
        if !from_the_address || frame[23] != 1 || echo[0] != 0 {
            continue;
        }
        let Some(by) = nodes.iter().position(|node| node.octets() == frame[6..12]) else { continue };
        let number = u32::from_be_bytes(echo[4..8].try_into().unwrap()) as usize;
        // pings of the test itself have large ones
        if number < 1 << 20 {
            answers.resize(answers.len().max(number + 1), [false; 2]);
            answers[number][by] = true;
        }
    }
    answers
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    (!u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap()).to_be_bytes()
}
