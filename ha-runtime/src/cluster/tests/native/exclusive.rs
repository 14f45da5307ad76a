//! Never do both nodes answer, whatever wires are cut and whoever is stopped.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::watch::Watch;
use super::*;

/// How often the wires change, and how often an engine is stopped.
const ROUNDS: usize = 50;

#[test]
fn never_do_both_answer_while_wires_are_cut_at_random() {
    beside_a_pair(FAST, |pair| {
        let mut random = Random::new();
        pair.serving();
        let watch = Watch::begin(pair);
        for _ in 0..ROUNDS {
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
        for _ in 0..ROUNDS {
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

/// An engine that can be stopped.
struct Process(Child);

impl Process {
    fn start(pair: &Pair, index: usize) -> Process {
        let root = pair.nodes[index].root.path().to_owned();
        let mut child = pair.nodes[index].machine.run(move || {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "--ignored", "--nocapture"])
                .arg("cluster::tests::native::exclusive::an_engine_of_its_own")
                .env("PBX_HA_NODE", index.to_string())
                .env("PBX_HA_ROOT", root)
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        });
        let mut said = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "it runs\n");
        Process(child)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
#[ignore = "it is started by another test, and ends when it is killed"]
fn an_engine_of_its_own() {
    let index = std::env::var("PBX_HA_NODE").unwrap().parse().unwrap();
    let root = Root::new(std::env::var("PBX_HA_ROOT").unwrap()).unwrap();
    let cluster = NativeCluster::start(setup(index, FAST), Key::new(KEY), &root).unwrap();
    cluster.standing(ABLE);
    eprintln!("it runs");
    loop {
        cluster.turned();
        thread::sleep(MILLI * 20);
    }
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
