//! A pair under a virtual clock: two nodes, two hosts, a link that can fail one way, lose and delay.
//!
//! The nodes are the real ones; everything around them is arithmetic. `simulate`, the scenarios and the tests use it.

mod shared;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::distribution::ServiceState;
use crate::event::{ActionFailed, ActionId, Command, Input, Output, ProbeId, Record, Replicated, Target};
pub use crate::follow::Side;
use crate::health::{ProbeOutcome, Rung};
use crate::node::{Node, Policy};
use crate::role::{PeerAddress, RoleConfig};
use crate::services::Observed;
use crate::time::{Instant, Now};
use crate::watchdog::{Check, CheckId};
use shared::{Cluster, Seen};

/// What a host's disk does with the engine's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// Writes it.
    Works,
    /// Refuses it: full, or read-only.
    Fails,
    /// Says nothing at all.
    Stalls,
}

/// What becomes of a start or stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actions {
    /// It does what it should.
    Work,
    /// It fails at its end.
    Fail,
}

/// One host around its node.
#[derive(Debug, Clone)]
pub struct Host {
    /// Whether it has power.
    pub powered: bool,
    /// Its processes are stopped; its kernel still answers pings.
    pub frozen: bool,
    /// Its cable is in.
    pub cable: bool,
    /// Its firewall lets pings in.
    pub answers_ping: bool,
    /// Its firewall lets SIP in.
    pub answers_sip: bool,
    /// Telephony runs.
    pub telephony: bool,
    /// Its process is there and answers nothing.
    pub hangs: bool,
    /// It takes an address that the other one hands over.
    pub takes_address: bool,
    /// How long a start takes.
    pub start_takes: Duration,
    /// How long a stop takes.
    pub stop_takes: Duration,
    /// How long a replication from here takes.
    pub replication_takes: Duration,
    /// What becomes of starts and stops.
    pub actions: Actions,
    /// What becomes of records.
    pub disk: Disk,
    /// What survives.
    pub record: Option<Record>,
    /// Records that reached the disk.
    pub written: u32,
    node: Option<Node>,
    life: u64,
    acting: Option<ServiceState>,
    deferred: Vec<(u64, Happening)>,
}

impl Host {
    fn observed(&self) -> Observed {
        match (self.acting, self.telephony) {
            (Some(_), _) => Observed::Unknown,
            (None, true) => Observed::Running,
            (None, false) => Observed::Stopped,
        }
    }
}

/// One line of what happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Since the beginning.
    pub at: Duration,
    /// Where.
    pub side: Side,
    /// What.
    pub text: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Happening {
    Probe(ProbeId, ProbeOutcome),
    Acted(ActionId, ServiceState),
    Persisted(u64, bool),
    Replicated(ActionId, Duration),
    Checked(CheckId, ProbeOutcome),
    Look,
}

#[derive(Debug, Clone)]
struct Scheduled {
    at: Instant,
    order: u64,
    side: Side,
    life: u64,
    what: Happening,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Scheduled) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Scheduled) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Scheduled) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// Between two looks at telephony (`safety.md` 2.6).
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
const WRITE_TAKES: Duration = Duration::from_millis(2);

/// Two hosts, a switch between them, references behind it, and one clock.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The hosts, master first.
    hosts: [Host; 2],
    policies: [Policy; 2],
    /// Whether references answer at all.
    pub references: bool,
    /// Percentage of packets lost from this side to the other.
    pub loss: [u8; 2],
    /// One way between the hosts.
    pub delay: Duration,
    now: Instant,
    began: DateTime<Utc>,
    wall_offset: chrono::Duration,
    queue: BinaryHeap<Reverse<Scheduled>>,
    order: u64,
    random: u64,
    /// Where the policy says that the pair shares an address.
    cluster: Option<Cluster>,
    transcript: Vec<Line>,
}

const ADDRESSES: [IpAddr; 2] =
    [IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2))];

impl Pair {
    /// Both hosts powered and configured, telephony running on the master, engines running, at `began`.
    pub fn new(policy: &Policy, began: DateTime<Utc>) -> Pair {
        let host = |telephony| Host {
            powered: true,
            frozen: false,
            cable: true,
            answers_ping: true,
            answers_sip: true,
            telephony,
            hangs: false,
            takes_address: true,
            start_takes: Duration::from_secs(2),
            stop_takes: Duration::from_secs(1),
            replication_takes: Duration::from_secs(1),
            actions: Actions::Work,
            disk: Disk::Works,
            record: None,
            written: 0,
            node: None,
            life: 0,
            acting: None,
            deferred: Vec::new(),
        };
        let mut pair = Pair {
            hosts: [host(true), host(false)],
            policies: [policy.clone(), policy.clone()],
            references: true,
            loss: [0, 0],
            delay: Duration::from_millis(1),
            now: Instant::default(),
            began,
            wall_offset: chrono::Duration::zero(),
            queue: BinaryHeap::new(),
            order: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            cluster: policy.exclusive.is_some().then(|| Cluster::new(Instant::default())),
            transcript: Vec::new(),
        };
        for side in Side::ALL {
            pair.start_engine(side);
        }
        pair
    }

    /// Which packets are lost: another number, another sequence.
    pub fn seed(&mut self, seed: u64) {
        // the generator stays at zero for ever, so that zero means another number
        self.random = if seed == 0 { 1 } else { seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) };
    }

    /// A host, to look at and to break.
    pub fn host(&mut self, side: Side) -> &mut Host {
        &mut self.hosts[side as usize]
    }

    /// A host's node, when its engine runs.
    pub fn node(&self, side: Side) -> Option<&Node> {
        self.hosts[side as usize].node.as_ref()
    }

    /// Whether phones are answered on this host.
    pub fn serves(&self, side: Side) -> bool {
        let host = &self.hosts[side as usize];
        host.powered && !host.frozen && host.telephony && !host.hangs
    }

    /// Who holds the address that the pair shares.
    pub fn holder(&self) -> Option<Side> {
        self.cluster.as_ref().and_then(Cluster::holder)
    }

    /// Everything that happened so far, in order.
    pub fn transcript(&self) -> &[Line] {
        &self.transcript
    }

    /// Since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.now - Instant::default()
    }

    /// Sets everybody's wall clock forward or back.
    pub fn step_wall_clock(&mut self, by: chrono::Duration) {
        self.wall_offset += by;
    }

    /// Power off: what is not on disk is gone.
    pub fn crash(&mut self, side: Side) {
        self.kill_engine(side);
        let host = self.host(side);
        host.powered = false;
        host.frozen = false;
        host.acting = None;
        host.deferred.clear();
        host.telephony = false;
    }

    /// Power on; `telephony`: whether the host starts it by itself. The engine starts with the host.
    pub fn boot(&mut self, side: Side, telephony: bool) {
        let host = self.host(side);
        host.powered = true;
        host.telephony = telephony;
        self.start_engine(side);
        self.feed(side, Input::Booted);
    }

    /// Ends the engine as SIGKILL does: a start or stop under way goes on without it.
    pub fn kill_engine(&mut self, side: Side) {
        let host = self.host(side);
        host.node = None;
        host.life += 1;
    }

    /// Starts the engine, which reads its record before its first probe.
    pub fn start_engine(&mut self, side: Side) {
        let peer = PeerAddress::new(ADDRESSES[side.other() as usize]).expect("two plain addresses");
        let role = match side {
            Side::Master => RoleConfig::Master { slave: peer },
            Side::Slave => RoleConfig::Slave { master: peer },
        };
        let now = self.now();
        let policy = self.policies[side as usize].clone();
        let host = self.host(side);
        let observed = host.observed();
        host.life += 1;
        host.node = Some(Node::new(policy, role, host.record.clone(), observed, now));
        if let Some(cluster) = &mut self.cluster {
            cluster.restarted(side);
        }
        self.later(side, Duration::ZERO, Happening::Look);
    }

    /// Stops or continues all processes of a host. What reached it meanwhile is found afterwards.
    pub fn freeze(&mut self, side: Side, frozen: bool) {
        self.host(side).frozen = frozen;
        if !frozen {
            for (life, what) in std::mem::take(&mut self.host(side).deferred) {
                self.happen(side, life, what);
            }
        }
    }

    /// Gives a command to a node whose engine runs.
    pub fn command(&mut self, side: Side, command: Command) {
        self.feed(side, Input::Command(command));
    }

    /// The master hears that the slave, told to stand by, does.
    pub fn slave_rests(&mut self) {
        self.feed(Side::Master, Input::SlaveRests);
    }

    /// Something that is replicated changes on this host.
    pub fn change(&mut self, side: Side) {
        self.feed(side, Input::Changed);
    }

    /// Lets time pass.
    pub fn run(&mut self, wait: Duration) {
        let end = self.now + wait;
        loop {
            let queued = self.queue.peek().map(|Reverse(one)| one.at);
            let ticks = Side::ALL.map(|side| self.tick_at(side));
            let beat = self.cluster.as_ref().map(|cluster| cluster.next);
            let dates = ticks.into_iter().flatten().chain(queued).chain(beat);
            let Some(next) = dates.min().filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(next);
            if beat == Some(next) {
                self.beat();
            } else if queued == Some(next) {
                let Some(Reverse(one)) = self.queue.pop() else { continue };
                self.deliver(one.side, one.life, one.what);
            } else {
                for side in Side::ALL {
                    if self.tick_at(side).is_some_and(|at| at <= self.now) {
                        self.feed(side, Input::Tick);
                    }
                }
            }
        }
        self.now = end;
    }

    /// The cluster settles who holds the address, and tells the nodes.
    fn beat(&mut self) {
        let seen = Side::ALL.map(|side| {
            let host = &self.hosts[side as usize];
            Seen {
                runs: host.powered && !host.frozen && host.node.is_some(),
                cable: host.cable,
                sees_reference: self.references,
                able: host.node.as_ref().is_some_and(|node| node.standing().able),
                takes: host.takes_address,
            }
        });
        let (now, before) = (self.now, self.holder());
        let views = self.cluster.as_mut().map(|cluster| cluster.beat(now, seen)).unwrap_or_default();
        let after = self.holder();
        for (side, says) in [(before, "the address leaves"), (after, "the address comes")] {
            if let Some(side) = side.filter(|_| before != after) {
                self.say(side, says);
            }
        }
        for (side, view) in views {
            self.feed(side, Input::Cluster(view));
        }
    }

    fn now(&self) -> Now {
        let elapsed = chrono::Duration::from_std(self.elapsed()).unwrap_or_default();
        Now { mono: self.now, wall: self.began + elapsed + self.wall_offset }
    }

    fn tick_at(&self, side: Side) -> Option<Instant> {
        let host = &self.hosts[side as usize];
        let node = host.node.as_ref().filter(|_| !host.frozen)?;
        Some(node.deadline()?.max(self.now))
    }

    fn deliver(&mut self, side: Side, life: u64, what: Happening) {
        let host = self.host(side);
        if !host.powered {
            return;
        }
        if host.frozen {
            host.deferred.push((life, what));
            return;
        }
        self.happen(side, life, what);
    }

    /// What an engine waited for ends with it; a start or stop does not.
    fn happen(&mut self, side: Side, life: u64, what: Happening) {
        let waited_for = self.hosts[side as usize].life == life;
        match what {
            Happening::Acted(id, state) => self.acted(side, waited_for.then_some(id), state),
            _ if !waited_for => {}
            Happening::Probe(id, outcome) => self.feed(side, Input::Probe { id, outcome }),
            Happening::Checked(id, outcome) => self.feed(side, Input::Checked { id, outcome }),
            Happening::Persisted(generation, written) => {
                self.feed(side, Input::Persisted { generation, written })
            }
            Happening::Replicated(id, took) => {
                let there = side.other();
                let slave = self.node(there).map(Node::record);
                let (generation, refused) =
                    slave.map_or((0, false), |record| (record.generation, record.active));
                let reached = self.hosts[there as usize].powered && self.path_is_whole();
                let (how, said) = match (reached, refused) {
                    (true, false) => (Replicated::Done { generation }, "replicated"),
                    (true, true) => (Replicated::SlaveServes, "the slave serves and is not replicated to"),
                    (false, _) => (Replicated::Failed, "replication failed"),
                };
                self.say(side, said);
                self.feed(side, Input::Replicated { id, how, took });
            }
            Happening::Look => {
                let observed = self.host(side).observed();
                self.later(side, LOOK_INTERVAL, Happening::Look);
                self.feed(side, Input::Observed(observed));
            }
        }
    }

    fn acted(&mut self, side: Side, id: Option<ActionId>, state: ServiceState) {
        let host = self.host(side);
        if host.acting.take() != Some(state) {
            return; // the host lost power meanwhile
        }
        let works = host.actions == Actions::Work;
        if works {
            host.telephony = state == ServiceState::Running;
            host.hangs = false;
        }
        self.say(
            side,
            match (works, state) {
                (true, ServiceState::Running) => "telephony runs",
                (true, ServiceState::Stopped) => "telephony stopped",
                (false, ServiceState::Running) => "start failed",
                (false, ServiceState::Stopped) => "stop failed",
            },
        );
        let result = if works { Ok(()) } else { Err(ActionFailed("simulated failure".to_owned())) };
        if let Some(id) = id {
            self.feed(side, Input::Done { id, result });
        }
    }

    fn feed(&mut self, side: Side, input: Input) {
        let now = self.now();
        let Some(node) = self.host(side).node.as_mut() else { return };
        let outputs = node.handle(now, input);
        for output in outputs {
            self.perform(side, output);
        }
    }

    fn perform(&mut self, side: Side, output: Output) {
        match output {
            Output::Probe { id, target, timeout, .. } => self.probe(side, id, target, timeout),
            Output::Persist(record) => {
                let generation = record.generation;
                match self.host(side).disk {
                    Disk::Works => {
                        self.host(side).record = Some(*record);
                        self.host(side).written += 1;
                        self.later(side, WRITE_TAKES, Happening::Persisted(generation, true));
                    }
                    Disk::Fails => self.later(side, WRITE_TAKES, Happening::Persisted(generation, false)),
                    Disk::Stalls => {}
                }
            }
            Output::SetServices { id, to, .. } => {
                let host = self.host(side);
                assert_eq!(host.acting, None, "a second action beside the first");
                host.acting = Some(to);
                let takes = if to == ServiceState::Running { host.start_takes } else { host.stop_takes };
                self.say(
                    side,
                    if to == ServiceState::Running { "start telephony" } else { "stop telephony" },
                );
                self.later(side, takes, Happening::Acted(id, to));
            }
            Output::Replicate { id, after_change, .. } => {
                if after_change {
                    self.say(side, "replicate the change");
                }
                let takes = self.host(side).replication_takes;
                self.later(side, takes, Happening::Replicated(id, takes));
            }
            Output::Announce(decision) => self.say(side, &format!("{} {}", decision.rule, decision.why)),
            Output::Alert { key, raised: true, text } => self.say(side, &format!("alert {key}: {text}")),
            Output::Alert { key, raised: false, .. } => self.say(side, &format!("alert {key} is over")),
            Output::HandOver { .. } => {
                self.say(side, "ask for a handover");
                if let Some(cluster) = &mut self.cluster {
                    cluster.hand_over(side);
                }
            }
            Output::Check { id, check, timeout } => self.check(side, id, check, timeout),
            Output::Refused(refusal) => self.say(side, &format!("refused: {refusal}")),
        }
    }

    fn probe(&mut self, side: Side, id: ProbeId, target: Target, timeout: Duration) {
        let there = &self.hosts[side.other() as usize];
        let (answers, travels) = match target {
            Target::Peer(Rung::Host) => (there.powered && there.answers_ping, true),
            Target::Peer(Rung::Port | Rung::Service) => {
                (there.powered && there.answers_sip && !there.frozen && there.telephony, true)
            }
            Target::Reference(_) => (self.references, false),
        };
        let whole = if travels { self.path_is_whole() } else { self.hosts[side as usize].cable };
        let lost = travels && (self.lost(side) || self.lost(side.other()));
        let round_trip = self.delay * 2;
        let reply = answers && whole && !lost && round_trip < timeout;
        let (after, outcome) =
            if reply { (round_trip, ProbeOutcome::Reply) } else { (timeout, ProbeOutcome::Lost) };
        self.later(side, after, Happening::Probe(id, outcome));
    }

    fn check(&mut self, side: Side, id: CheckId, check: Check, timeout: Duration) {
        let host = &self.hosts[side as usize];
        let (after, outcome) = match (check, host.telephony, host.hangs) {
            (Check::Process, true, _) => (Duration::ZERO, ProbeOutcome::Reply),
            (_, false, _) => (Duration::ZERO, ProbeOutcome::Lost),
            (Check::Console | Check::Sip, true, true) => (timeout, ProbeOutcome::Lost),
            (Check::Console | Check::Sip, true, false) => (self.delay, ProbeOutcome::Reply),
        };
        self.later(side, after, Happening::Checked(id, outcome));
    }

    fn path_is_whole(&self) -> bool {
        self.hosts.iter().all(|host| host.cable)
    }

    /// Whether a packet from this side is lost; the same sequence in every run.
    fn lost(&mut self, from: Side) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % 100 < u64::from(self.loss[from as usize])
    }

    fn later(&mut self, side: Side, wait: Duration, what: Happening) {
        self.order += 1;
        let (at, order, life) = (self.now + wait, self.order, self.hosts[side as usize].life);
        self.queue.push(Reverse(Scheduled { at, order, side, life, what }));
    }

    fn say(&mut self, side: Side, text: &str) {
        self.transcript.push(Line { at: self.elapsed(), side, text: text.to_owned() });
    }
}
