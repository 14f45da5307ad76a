//! Two nodes with two wires between them, one through a switch that is a phone and a reference as well.

mod exclusive;
mod foreign;
mod moves;
pub(in crate::cluster) mod process;
mod stops;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use ha_core::cluster::beat::Rank;
use ha_core::cluster::{Standing, Terms, View};
use ha_core::health::Verdict;

use super::*;
use crate::cluster::Cluster;
use crate::cluster::native::{Facts, Key, NativeCluster, Setup};
use crate::root::Root;

/// The time to live of what a node sends tells who answered.
const TTLS: [u8; 2] = [101, 102];
const PRIMARY: usize = 0;
const STANDBY: usize = 1;
const PORT: u16 = 9488;
/// Of both nodes.
const KEY: &[u8] = &[7; 32];
const MILLI: Duration = Duration::from_millis(1);

const DEFAULT: Terms = Terms {
    lease: Duration::from_secs(1),
    margin: Duration::from_millis(500),
    beat: Duration::from_millis(100),
    permit: Duration::from_millis(150),
};
const FAST: Terms = Terms {
    lease: Duration::from_millis(300),
    margin: Duration::from_millis(150),
    beat: Duration::from_millis(50),
    permit: Duration::from_millis(50),
};

/// One of the two, and its engine.
struct Node {
    machine: Phone,
    root: tempfile::TempDir,
    engine: Option<Engine>,
}

/// A loop that turns.
struct Engine {
    cluster: Arc<NativeCluster>,
    ends: Arc<AtomicBool>,
    turns: JoinHandle<()>,
}

struct Pair {
    nodes: [Node; 2],
    terms: Terms,
}

/// Runs the test on the switch.
fn beside_a_pair(terms: Terms, test: impl FnOnce(&mut Pair) + Send + 'static) {
    elsewhere(move || {
        let mut pair = Pair::cabled(terms);
        test(&mut pair);
    });
}

impl Pair {
    fn cabled(terms: Terms) -> Pair {
        sh(&format!(
            "ip link set lo up; ip link add br0 type bridge; ip addr add {PHONE}/24 dev br0; ip link set br0 up"
        ));
        let machines = [Phone::start(), Phone::start()];
        let other = machines[1].1;
        for (index, (machine, there)) in machines.iter().enumerate() {
            sh(&format!(
                "ip link add port{index} type veth peer name {WIRE} netns {there};
                 ip link set port{index} master br0 up"
            ));
            if index == 0 {
                machine.sh(&format!("ip link add eth1 type veth peer name eth1 netns {other}"));
            }
            machine.sh(&format!(
                "ip link set lo up; ip addr add {}/24 dev {WIRE}; ip addr add {}/24 dev eth1;
                 ip link set {WIRE} up; ip link set eth1 up; echo {} > /proc/sys/net/ipv4/ip_default_ttl",
                own(index)[0],
                own(index)[1],
                TTLS[index]
            ));
        }
        wait_until("the wires are up", || reaches(own(0)[0]) && reaches(own(1)[0]));
        let nodes =
            machines.map(|(machine, _)| Node { machine, root: tempfile::tempdir().unwrap(), engine: None });
        Pair { nodes, terms }
    }

    /// Starts a node's engine, able to serve.
    fn start_with(&mut self, index: usize, key: &[u8]) {
        let setup = setup(index, self.terms);
        let (key, node) = (Key::new(key), &mut self.nodes[index]);
        let root = Root::new(node.root.path()).unwrap();
        let cluster = node.machine.run(move || NativeCluster::start(setup, key, &root).unwrap());
        node.engine = Some(Engine::run(cluster));
        node.engine().standing(ABLE);
    }

    fn start(&mut self, index: usize) {
        self.start_with(index, KEY);
    }

    /// Both run, and the primary serves; how long that took.
    fn serving(&mut self) -> Duration {
        self.start(PRIMARY);
        self.start(STANDBY);
        self.comes_to_answer(PRIMARY, PATIENCE)
    }

    /// As if somebody had pulled the plugs of a node: the one between the nodes first, or it would hand over through that.
    fn unplug(&self, index: usize) {
        self.nodes[index].machine.sh("ip link set eth1 down");
        sh(&format!("ip link set port{index} down"));
    }

    fn plug(&self, index: usize) {
        self.nodes[index].machine.sh("ip link set eth1 up");
        sh(&format!("ip link set port{index} up"));
    }

    /// How long it takes until a phone hears that node from the address.
    fn comes_to_answer(&self, index: usize, limit: Duration) -> Duration {
        let begin = Instant::now();
        while who_answers() != Some(index) {
            let facts = self.nodes.each_ref().map(|node| node.engine.as_ref().map(Engine::facts));
            assert!(begin.elapsed() < limit, "node {index} does not answer in {limit:?}: {facts:#?}");
        }
        begin.elapsed()
    }
}

const ABLE: Standing = Standing { able: true, carrying: false, maintenance: false };

impl Node {
    fn engine(&self) -> &NativeCluster {
        &self.engine.as_ref().unwrap().cluster
    }

    /// SIGTERM.
    fn leave(&mut self) {
        self.engine.take().unwrap().end().leave();
    }

    /// Where it keeps what it remembers.
    fn memory(&self) -> PathBuf {
        self.root.path().join("var/lib/pbx-ha/cluster.json")
    }
}

impl Engine {
    fn run(cluster: NativeCluster) -> Engine {
        let (cluster, ends) = (Arc::new(cluster), Arc::new(AtomicBool::new(false)));
        let (turning, ended) = (Arc::clone(&cluster), Arc::clone(&ends));
        let turns = thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                turning.turned();
                thread::sleep(MILLI * 20);
            }
        });
        Engine { cluster, ends, turns }
    }

    fn facts(&self) -> (View, Facts) {
        (self.cluster.view(), self.cluster.known())
    }

    /// Its loop turns no more.
    fn end(self) -> Box<NativeCluster> {
        self.ends.store(true, Ordering::Relaxed);
        self.turns.join().unwrap();
        Box::new(Arc::into_inner(self.cluster).unwrap())
    }
}

/// A node's addresses, in the switch's network and on the wire between the nodes.
fn own(index: usize) -> [&'static str; 2] {
    [["10.9.0.1", "10.8.0.1"], ["10.9.0.2", "10.8.0.2"]][index]
}

/// A node as it is cabled.
fn setup(index: usize, terms: Terms) -> Setup {
    Setup {
        rank: if index == PRIMARY { Rank::Primary } else { Rank::Standby },
        terms,
        address: VIP.parse().unwrap(),
        interface: WIRE.to_owned(),
        paths: own(1 - index).map(|address| address.parse().unwrap()).into(),
        port: PORT,
        references: vec![PHONE.parse().unwrap()],
        boot_wait: Duration::from_secs(120),
    }
}

/// Which node answers a ping to the address.
fn who_answers() -> Option<usize> {
    let said = output(&format!("ping -n -c 1 -W 0.1 {VIP}"));
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    TTLS.iter().position(|ttl| said.contains(&format!("ttl={ttl} ")))
}
