//! Two nodes with the real terms on one world clock, each with a clock of its own that drifts; for tests.

use std::time::Duration;

use super::*;

pub(super) const MS: Duration = Duration::from_millis(1);
/// How fine the world goes.
const STEP: Duration = Duration::from_millis(5);

pub(super) fn default_terms() -> Terms {
    Terms { lease: MS * 1000, margin: MS * 500, beat: MS * 100, permit: MS * 150 }
}

pub(super) fn fast_terms() -> Terms {
    Terms { lease: MS * 300, margin: MS * 150, beat: MS * 50, permit: MS * 50 }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pending {
    Nothing,
    Permit,
    Grant { lasts: Duration, first: bool },
}

#[derive(Debug)]
pub(super) struct Host {
    pub(super) engine: Option<Native>,
    config: Config,
    /// Of this host's clock, in millionths.
    drift: i64,
    /// When its clock began.
    began: Duration,
    pub(super) disk: Remembered,
    pub(super) lease_until: Duration,
    permit_until: Duration,
    pub(super) pending: Pending,
    /// It runs again then.
    pub(super) stopped_until: Duration,
    pub(super) sees_reference: bool,
    /// Another owner answers when it asks.
    pub(super) owner: bool,
    pub(super) standing: Standing,
    pub(super) link: bool,
    /// The engine's loop does not turn; the thread that beats does.
    pub(super) hangs: bool,
    starts: u64,
    /// It is stopped before this step of a grant, for so long: the next one, the one after it, ...
    pub(super) stops_at: Option<(u32, Duration)>,
    /// How often it told the network where the address is.
    pub(super) announced: u32,
}

#[derive(Debug)]
pub(super) struct Pair {
    pub(super) now: Duration,
    pub(super) hosts: [Host; 2],
    /// How long a beat of this host is on its way; `None`: it gets lost.
    pub(super) delay: [Option<Duration>; 2],
    /// Arrival, sender, beat.
    wire: Vec<(Duration, usize, Beat)>,
    /// Every beat that was sent, for those who record.
    pub(super) recorded: Vec<(usize, Beat)>,
    pub(super) overlap: Duration,
}

impl Host {
    pub(super) fn clock(&self, now: Duration) -> Stamp {
        let passed = now - self.began;
        let millionths = u128::from(1_000_000_u64.saturating_add_signed(self.drift));
        Duration::from_nanos(u64::try_from(passed.as_nanos() * millionths / 1_000_000).expect("a short test"))
    }

    pub(super) fn entitled(&self, now: Duration) -> bool {
        self.lease_until > now
    }
}

impl Pair {
    pub(super) fn new(terms: Terms, drift: [i64; 2]) -> Pair {
        let host = |rank, drift| Host {
            engine: None,
            config: Config { rank, terms, boot_wait: BOOT_WAIT, probe_wait: PROBE_WAIT, references: true },
            drift,
            began: Duration::ZERO,
            disk: Remembered::default(),
            lease_until: Duration::ZERO,
            permit_until: Duration::ZERO,
            pending: Pending::Nothing,
            stopped_until: Duration::ZERO,
            sees_reference: true,
            owner: false,
            standing: Standing { able: true, carrying: false, maintenance: false },
            link: true,
            hangs: false,
            starts: 0,
            stops_at: None,
            announced: 0,
        };
        Pair {
            now: Duration::ZERO,
            hosts: [host(Rank::Primary, drift[0]), host(Rank::Standby, drift[1])],
            delay: [Some(MS); 2],
            wire: Vec::new(),
            recorded: Vec::new(),
            overlap: Duration::ZERO,
        }
    }

    /// Both up, the primary serving.
    pub(super) fn in_peace(terms: Terms, drift: [i64; 2]) -> Pair {
        let mut pair = Pair::new(terms, drift);
        pair.boot(0);
        pair.boot(1);
        pair.run(terms.lease * 3);
        assert_eq!(pair.holder(), Some(0), "{pair:#?}");
        pair
    }

    /// The host's power comes back, or its engine is started.
    pub(super) fn boot(&mut self, index: usize) {
        let now = self.now;
        let host = &mut self.hosts[index];
        host.starts += 1;
        let session = host.starts * 2 + index as u64;
        host.engine = Some(Native::new(host.config, session, host.disk, host.clock(now)));
        (host.pending, host.lease_until, host.permit_until) =
            (Pending::Nothing, Duration::ZERO, Duration::ZERO);
    }

    pub(super) fn crash(&mut self, index: usize) {
        self.kill(index);
        self.hosts[index].lease_until = Duration::ZERO;
    }

    /// Only the engine: the kernel goes on.
    pub(super) fn kill(&mut self, index: usize) {
        self.hosts[index].engine = None;
        self.hosts[index].pending = Pending::Nothing;
    }

    pub(super) fn stop(&mut self, index: usize, lasts: Duration) {
        self.hosts[index].stopped_until = self.now + lasts;
    }

    pub(super) fn part(&mut self) {
        self.delay = [None; 2];
    }

    pub(super) fn heal(&mut self) {
        self.delay = [Some(MS); 2];
    }

    /// The only one who is entitled.
    pub(super) fn holder(&self) -> Option<usize> {
        match [0, 1].map(|index| self.hosts[index].entitled(self.now)) {
            [true, false] => Some(0),
            [false, true] => Some(1),
            _ => None,
        }
    }

    /// Lets time pass until that is so; how long it took. Panics when it does not become so within `limit`.
    #[track_caller]
    pub(super) fn until(&mut self, limit: Duration, so: impl Fn(&Pair) -> bool) -> Duration {
        let begin = self.now;
        while !so(self) {
            assert!(self.now - begin < limit, "not within {limit:?}: {self:#?}");
            self.step();
        }
        self.now - begin
    }

    pub(super) fn run(&mut self, lasts: Duration) {
        let end = self.now + lasts;
        while self.now < end {
            self.step();
        }
    }

    pub(super) fn step(&mut self) {
        self.now += STEP;
        for index in 0..2 {
            self.turn(index);
        }
        if self.hosts.iter().all(|host| host.entitled(self.now)) {
            self.overlap += STEP;
        }
    }

    /// One turn of a host's loop.
    fn turn(&mut self, index: usize) {
        if self.hosts[index].engine.is_none() || self.hosts[index].stopped_until > self.now {
            return;
        }
        if self.hosts[index].pending != Pending::Nothing {
            // it was stopped in the middle of a grant
            self.drain(index);
            self.go_on(index);
        }
        self.drain(index);
        let clock = self.hosts[index].clock(self.now);
        let (standing, link) = (self.hosts[index].standing, self.hosts[index].link);
        if !self.hosts[index].hangs {
            self.tell(index, Event::LoopTurned(clock));
        }
        for event in [Event::Standing(standing), Event::Link(link), Event::Tick] {
            self.tell(index, event);
        }
    }

    fn drain(&mut self, index: usize) {
        let now = self.now;
        let due: Vec<Beat> = self
            .wire
            .extract_if(.., |(at, from, _)| *from != index && *at <= now)
            .map(|(_, _, beat)| beat)
            .collect();
        for beat in due {
            let received = self.hosts[index].clock(now);
            self.tell(index, Event::Beat { beat, received });
        }
    }

    pub(super) fn tell(&mut self, index: usize, event: Event) {
        let now = self.now;
        let mut events = std::collections::VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let host = &mut self.hosts[index];
            let clock = host.clock(now);
            let Some(engine) = &mut host.engine else { return };
            let mut out = Vec::new();
            engine.handle(clock, event, &mut out);
            for action in out {
                match action {
                    Action::Send => {
                        let beat = engine.beat(clock);
                        self.recorded.push((index, beat));
                        self.wire.extend(self.delay[index].map(|delay| (now + delay, index, beat)));
                    }
                    Action::Ask if host.sees_reference => events.push_back(Event::Answered { asked: clock }),
                    Action::ProbeOwner if host.owner => events.push_back(Event::OwnerSeen),
                    Action::Announce => host.announced += 1,
                    Action::Ask | Action::ProbeOwner | Action::Hold | Action::Drop => {}
                    Action::Permit => {
                        host.permit_until = now + host.config.terms.permit;
                        host.pending = Pending::Permit;
                    }
                    Action::Grant { lasts, first } => host.pending = Pending::Grant { lasts, first },
                    Action::Close => {
                        host.lease_until = Duration::ZERO;
                        events.push_back(Event::Closed);
                    }
                    Action::Remember(remembered) => host.disk = remembered,
                    Action::StartOver => {
                        host.starts += 1;
                        let session = host.starts * 2 + index as u64;
                        *engine = Native::new(host.config, session, host.disk, clock);
                        host.lease_until = Duration::ZERO;
                    }
                }
            }
        }
        if self.hosts[index].pending != Pending::Nothing && self.hosts[index].stopped_until <= now {
            match &mut self.hosts[index].stops_at {
                Some((0, lasts)) => {
                    let lasts = *lasts;
                    self.hosts[index].stops_at = None;
                    self.stop(index, lasts);
                }
                Some((steps, _)) => {
                    *steps -= 1;
                    self.go_on(index);
                }
                None => self.go_on(index),
            }
        }
    }

    /// The next step of a grant.
    fn go_on(&mut self, index: usize) {
        let now = self.now;
        let host = &mut self.hosts[index];
        match std::mem::replace(&mut host.pending, Pending::Nothing) {
            Pending::Nothing => {}
            Pending::Permit => self.tell(index, Event::Permitted(true)),
            Pending::Grant { lasts, first } => {
                let granted = host.permit_until > now && (first || host.entitled(now));
                if granted {
                    // the kernel counts with this host's clock
                    let millionths = 1_000_000.0 / (1_000_000 + host.drift) as f64;
                    host.lease_until = now + lasts.mul_f64(millionths);
                }
                host.permit_until = Duration::ZERO;
                self.tell(index, Event::Granted(granted));
            }
        }
    }
}
