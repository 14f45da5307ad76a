//! Two nodes, two kernels, a network and an adversary, visited exhaustively: never are both entitled.
//!
//! A tick is a third of a lease: within it a direction that works delivers a beat. The adversary may disturb at any tick: it
//! changes which directions work, who sees a reference, and whose turn comes first; it stops a node for as long as it likes,
//! also in the middle of a grant; it holds a beat back and delivers it later; it cuts a host's power, or kills its engine
//! and leaves the kernel; it has the address handed over. Every sequence of so many disturbances is tried, at every
//! distance. It keeps to the assumption, and to nothing else: while both nodes run, a direction works or one of them sees
//! no reference.

mod passing;
mod search;

use std::collections::VecDeque;
use std::time::Duration;

use super::*;

const TICK: Duration = Duration::from_secs(1);
/// All times are kept relative to this; what is older than it is as good as that old.
const NOW: Stamp = Duration::from_secs(24);
const LEASE: u32 = 3;
const MARGIN: u32 = 2;

fn config(rank: Rank, margin: u32) -> Config {
    let terms = Terms { lease: TICK * LEASE, margin: TICK * margin, beat: TICK, permit: TICK };
    Config { rank, terms, boot_wait: TICK * 7, probe_wait: TICK, references: true }
}

/// What the thread around a node is in the middle of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Pending {
    Nothing,
    /// The permit is in the kernel.
    Permit,
    /// The clock has been read.
    Grant {
        lasts: Duration,
        first: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Host {
    /// `None`: no power, or no engine.
    engine: Option<Native>,
    pending: Pending,
    stopped: bool,
    /// What the kernel has.
    lease_until: Stamp,
    permit_until: Stamp,
    disk: Remembered,
    /// Sent by this host, held up on the way.
    delayed: Option<Beat>,
    starts: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Weather {
    /// From this host to the other one.
    works: [bool; 2],
    sees_reference: [bool; 2],
    /// The second host's turn comes first.
    reversed: bool,
}

impl Weather {
    const FINE: Weather = Weather { works: [true; 2], sees_reference: [true; 2], reversed: false };

    fn of(bits: u8) -> Weather {
        let bit = |n: u8| bits & 1 << n == 0;
        Weather { works: [bit(0), bit(1)], sees_reference: [bit(2), bit(3)], reversed: !bit(4) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    hosts: [Host; 2],
    weather: Weather,
    /// Sent by this host, and not lost: the other one hears it in its next turn.
    wire: [Option<Beat>; 2],
    /// How many more times the adversary may disturb.
    left: u8,
}

enum Tick {
    Fine,
    /// Both were entitled.
    Overlap,
    /// The adversary broke its word.
    Impossible,
}

#[derive(Debug, Clone, Copy)]
struct Game {
    margin: u32,
    /// The adversary keeps to the assumption.
    keeps: bool,
    disturbances: u8,
}

impl Host {
    fn start(&mut self, index: usize, margin: u32) {
        let rank = if index == 0 { Rank::Primary } else { Rank::Standby };
        // drawn at random: no two starts have the same
        let session = 1 + index as u64 * 100 + u64::from(self.starts);
        self.starts += 1;
        let mut engine = Native::new(config(rank, margin), session, self.disk, NOW);
        let mut out = Vec::new();
        engine.handle(
            NOW,
            Event::Standing(Standing { able: true, carrying: false, maintenance: false }),
            &mut out,
        );
        engine.handle(NOW, Event::Link(true), &mut out);
        self.engine = Some(engine);
        self.pending = Pending::Nothing;
        // the gate is built anew, closed
        self.lease_until = Duration::ZERO;
        self.permit_until = Duration::ZERO;
    }

    fn entitled(&self) -> bool {
        self.lease_until > NOW
    }
}

/// One turn of a host's loop, and what it sent.
struct Turn<'a> {
    host: &'a mut Host,
    choices: &'a mut Choices,
    left: &'a mut u8,
    sees_reference: bool,
    saw: bool,
    sent: bool,
}

/// A path through the tree of choices: replayed, then extended.
#[derive(Default)]
struct Choices {
    path: Vec<(u8, u8)>,
    at: usize,
}

impl Choices {
    fn pick(&mut self, of: u8) -> u8 {
        if self.at == self.path.len() {
            self.path.push((0, of));
        }
        self.at += 1;
        self.path[self.at - 1].0
    }

    /// Whether the adversary disturbs here.
    fn disturbs(&mut self, left: &mut u8) -> bool {
        let does = *left > 0 && self.pick(2) == 1;
        *left -= u8::from(does);
        does
    }

    /// To the next path; false: all have been.
    fn next(&mut self) -> bool {
        self.at = 0;
        while let Some((choice, of)) = self.path.pop() {
            if choice + 1 < of {
                self.path.push((choice + 1, of));
                return true;
            }
        }
        false
    }
}

impl Turn<'_> {
    fn tell(&mut self, event: Event) {
        let mut queue = VecDeque::from([event]);
        while let Some(event) = queue.pop_front() {
            let Some(engine) = &mut self.host.engine else { return };
            let mut out = Vec::new();
            engine.handle(NOW, event, &mut out);
            for action in out {
                match action {
                    Action::Send => self.sent = true,
                    Action::Ask if self.sees_reference => {
                        self.saw = true;
                        queue.push_back(Event::Answered { asked: NOW });
                    }
                    // nobody answers: an adversary's network loses that, too
                    Action::Ask | Action::ProbeOwner | Action::Hold | Action::Drop | Action::Announce => {}
                    Action::Permit => {
                        self.host.permit_until = NOW + TICK;
                        self.host.pending = Pending::Permit;
                    }
                    Action::Grant { lasts, first } => self.host.pending = Pending::Grant { lasts, first },
                    Action::Close => {
                        self.host.lease_until = Duration::ZERO;
                        queue.push_back(Event::Closed);
                    }
                    // a disk may be slow, and lose what it was told last
                    Action::Remember(remembered) => {
                        if !self.choices.disturbs(self.left) {
                            self.host.disk = remembered;
                        }
                    }
                    Action::StartOver => panic!("nobody was set back"),
                }
            }
        }
    }

    /// As much of a grant as the adversary lets it do at once.
    fn finish(&mut self) {
        while self.host.pending != Pending::Nothing {
            if self.choices.disturbs(self.left) {
                self.host.stopped = true;
                return;
            }
            self.step();
        }
    }

    fn step(&mut self) {
        match std::mem::replace(&mut self.host.pending, Pending::Nothing) {
            Pending::Nothing => {}
            Pending::Permit => self.tell(Event::Permitted(true)),
            Pending::Grant { lasts, first } => {
                let host = &mut *self.host;
                // gone a permit's time after it was put there: within this tick or in the next
                let permitted = host.permit_until >= NOW;
                let open = host.lease_until > NOW;
                let granted = permitted && (first || open);
                if granted && !(first && open) {
                    host.lease_until = NOW + lasts;
                }
                host.permit_until = Duration::ZERO;
                self.tell(Event::Granted(granted));
            }
        }
    }
}

impl World {
    fn start(game: Game, epochs: [Remembered; 2]) -> World {
        let host = |index: usize| {
            let mut host = Host {
                engine: None,
                pending: Pending::Nothing,
                stopped: false,
                lease_until: Duration::ZERO,
                permit_until: Duration::ZERO,
                disk: epochs[index],
                delayed: None,
                starts: 0,
            };
            host.start(index, game.margin);
            host
        };
        let left = game.disturbances;
        World { hosts: [host(0), host(1)], weather: Weather::FINE, wire: [None, None], left }
    }

    /// Every world that can follow a tick later; whether somebody was entitled beside another in between.
    fn successors(&self, game: Game, mut visit: impl FnMut(World)) -> bool {
        let mut choices = Choices::default();
        let mut overlap = false;
        loop {
            let mut next = self.clone();
            match next.tick(game, &mut choices) {
                Tick::Impossible => {}
                Tick::Overlap if game.keeps => return true,
                Tick::Overlap | Tick::Fine => {
                    overlap |= next.both_entitled();
                    next.pass();
                    visit(next);
                }
            }
            if !choices.next() {
                return overlap;
            }
        }
    }

    /// Both hosts' turns.
    fn tick(&mut self, game: Game, choices: &mut Choices) -> Tick {
        if self.left > 0 {
            let change = choices.pick(33);
            if change > 0 {
                self.weather = Weather::of(change - 1);
                self.left -= 1;
            }
        }
        let (mut ran, mut saw) = ([false; 2], [false; 2]);
        let mut overlap = false;
        let order = if self.weather.reversed { [1, 0] } else { [0, 1] };
        for index in order {
            (ran[index], saw[index]) = self.run(index, game, choices);
            overlap |= self.both_entitled();
        }
        let parted = self.weather.works == [false; 2];
        if game.keeps && ran == [true; 2] && parted && saw == [true; 2] {
            return Tick::Impossible;
        }
        if overlap { Tick::Overlap } else { Tick::Fine }
    }

    /// Whether it ran, and saw a reference.
    fn run(&mut self, index: usize, game: Game, choices: &mut Choices) -> (bool, bool) {
        let other = 1 - index;
        let World { hosts, weather, wire, left } = self;
        if hosts[index].engine.is_none() {
            if choices.pick(2) == 1 {
                return (false, false);
            }
            hosts[index].start(index, game.margin);
        }
        if hosts[index].stopped {
            // for as long as the adversary likes
            if choices.pick(2) == 1 {
                return (false, false);
            }
            hosts[index].stopped = false;
        } else if *left > 0 {
            let fault = choices.pick(4);
            *left -= u8::from(fault > 0);
            let host = &mut hosts[index];
            match fault {
                1 => host.stopped = true,
                // the power fails; or only the engine is killed, and the kernel goes on
                2 | 3 => {
                    (host.engine, host.pending) = (None, Pending::Nothing);
                    if fault == 2 {
                        host.lease_until = Duration::ZERO;
                    }
                }
                _ => {}
            }
            if fault > 0 {
                return (false, false);
            }
        }
        let mut incoming = wire[other].take();
        if incoming.is_none() && hosts[other].delayed.is_some() && choices.pick(2) == 1 {
            incoming = hosts[other].delayed.take();
        }
        let sees_reference = weather.sees_reference[index];
        let host = &mut hosts[index];
        let mut turn = Turn { host, choices, left, sees_reference, saw: false, sent: false };
        turn.tell(Event::LoopTurned(NOW));
        if let Some(beat) = incoming {
            turn.tell(Event::Beat { beat, received: NOW });
        }
        // in the middle of a grant the socket has just been drained
        if turn.host.pending != Pending::Nothing {
            turn.step();
        }
        turn.finish();
        if !turn.host.stopped {
            turn.tell(Event::Tick);
            turn.finish();
        }
        let holds = turn.host.engine.as_ref().is_some_and(|engine| engine.act() == Act::Holds);
        if holds && !turn.host.stopped && turn.choices.disturbs(turn.left) {
            turn.tell(Event::HandOver);
        }
        let (sent, saw) = (turn.sent, turn.saw);
        // one beat a turn, with what is so at its end
        if let Some(engine) = host.engine.as_mut().filter(|_| sent) {
            let beat = engine.beat(NOW);
            if weather.works[index] {
                wire[index] = Some(beat);
                host.delayed = None;
            } else if host.delayed.is_none() && choices.disturbs(left) {
                host.delayed = Some(beat);
            }
        }
        (true, saw)
    }

    fn both_entitled(&self) -> bool {
        self.hosts.iter().all(Host::entitled)
    }
}
