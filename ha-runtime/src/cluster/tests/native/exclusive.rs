//! Never do both nodes answer, whatever wires are cut and whoever is stopped.

use rustix::process::Signal;

use super::process::Process;
use super::watch::Watch;
use super::*;

/// How often the wires change, and how often an engine is stopped; the long form sets it.
fn rounds() -> usize {
    std::env::var("FAULT_POINTS").map_or(25, |points| points.parse().unwrap())
}

#[test]
fn never_do_both_answer_while_wires_are_cut_at_random() {
    beside_a_pair(FAST, |pair| {
        let mut random = Random::new();
        pair.serving();
        let watch = Watch::begin(pair);
        for _ in 0..rounds() {
            let up = |bit: u64| if bit & 1 == 0 { "down" } else { "up" };
            let wires = random.next();
            sh(&format!("ip link set port0 {}; ip link set port1 {}", up(wires), up(wires >> 1)));
            pair.nodes[PRIMARY].machine.sh(&format!("ip link set eth1 {}", up(wires >> 2)));
            thread::sleep(MILLI * random.below(850) + MILLI * 50);
        }
        (0..2).for_each(|index| pair.plug(index));
        wait_until("somebody answers when all is well again", || who_answers().is_some());
        wait_until("every path is heard again", || {
            let paths = |node: &Node| node.engine().known().paths;
            pair.nodes.iter().flat_map(paths).all(|path| path.heard_ago.is_some_and(|ago| ago < 0.3))
        });
        watch.finds_one_at_a_time();
    });
}

#[test]
fn never_do_both_answer_while_engines_are_stopped_at_random() {
    beside_a_pair(FAST, |pair| {
        let mut random = Random::new();
        let engines = [PRIMARY, STANDBY].map(|index| Process::start(pair, index));
        pair.comes_to_answer(PRIMARY, PATIENCE);
        let watch = Watch::begin(pair);
        let (lease, least) = (FAST.lease, MILLI * 10);
        for _ in 0..rounds() {
            let stopped = &engines[usize::from(random.below(2) == 0)];
            stopped.signal(Signal::STOP);
            let pause = [lease - least, lease + least, FAST.permit, lease * 3, MILLI * random.below(600)];
            thread::sleep(pause[random.below(5) as usize]);
            stopped.signal(Signal::CONT);
            thread::sleep(MILLI * random.below(300));
        }
        wait_until("somebody answers when all is well again", || who_answers().is_some());
        watch.finds_one_at_a_time();
    });
}

struct Random(u64);

impl Random {
    fn new() -> Random {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).unwrap();
        let random = Random(u64::from_ne_bytes(seed) | 1);
        eprintln!("seed {}", random.0);
        random
    }

    fn below(&mut self, limit: u64) -> u32 {
        u32::try_from(self.next() % limit).unwrap()
    }

    /// Marsaglia's xorshift.
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }
}
