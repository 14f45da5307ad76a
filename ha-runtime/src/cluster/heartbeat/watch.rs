//! The thread that listens to Heartbeat, and asks it to move.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use ha_core::cluster::View;
use ha_core::cluster::heartbeat::Resources;
use ha_core::health::Verdict;

use super::known::Known;
use super::tools::{Runs, Seen, Tools};
use crate::settings::Heartbeat;

/// What the thread is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Look at once: Heartbeat brought the address.
    Look,
    /// The other node is to have the address.
    HandOver,
    /// The other node has the address, and a person wants it here.
    Fetch,
    End,
}

/// A move that Heartbeat was asked for.
struct Wish {
    here: bool,
    since: Instant,
    asked: Option<Instant>,
}

/// A move that has not come about by then does not any more.
const PATIENCE: Duration = Duration::from_secs(15);
/// Heartbeat passes over what it is asked for while it moves something, and tells nobody.
const AGAIN: Duration = Duration::from_secs(4);
/// What Heartbeat says of its resources is right only after it has moved all of them.
const SETTLED: Duration = Duration::from_secs(10);
/// A Heartbeat that does not come is not called more often than this. On a machine that is busy the other node may be some
/// seconds late to miss one that was killed.
const RESTART: Duration = Duration::from_secs(10);
/// The shortest silence of Heartbeat on its own node that means anything: a machine may be busy.
const SILENCE: Duration = Duration::from_secs(5);

pub(super) struct Watch {
    tools: Tools,
    known: Arc<Known>,
    orders: Receiver<Order>,
    pace: Duration,
    silence: Duration,
    restart: Duration,
    wish: Option<Wish>,
    /// Since when Heartbeat says otherwise than its script did.
    differs: Option<Instant>,
    answered: Instant,
    /// When Heartbeat last spoke for the other node.
    heard: Instant,
    /// For so long a node that was dead has not come back unheard and taken the address.
    dead_for: Duration,
    called: Option<Instant>,
}

impl Watch {
    pub(super) fn new(
        tools: Tools,
        known: Arc<Known>,
        orders: Receiver<Order>,
        heartbeat: Heartbeat,
    ) -> Watch {
        let Heartbeat { deadtime, initdead, .. } = heartbeat;
        let pace = (deadtime / 5).clamp(Duration::from_millis(200), Duration::from_secs(1));
        let (wish, differs, called) = (None, None, None);
        let (silence, answered) = (deadtime.max(SILENCE), Instant::now());
        // the other node must have missed one that was killed: otherwise each believes that the other has the address
        let restart = RESTART.max(deadtime * 3);
        // one that hears nobody after its start takes nothing for as long as `initdead`
        let (heard, dead_for) = (answered, initdead / 2);
        Watch {
            tools,
            known,
            orders,
            pace,
            silence,
            restart,
            wish,
            differs,
            answered,
            heard,
            dead_for,
            called,
        }
    }

    /// Until it is told to end, or nobody is there any more who could.
    pub(super) fn run(mut self) {
        loop {
            match self.orders.recv_timeout(self.pace) {
                Ok(Order::Look) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Order::HandOver) => self.hand_over(),
                Ok(Order::Fetch) => self.wish = Some(Wish { here: true, since: Instant::now(), asked: None }),
                Ok(Order::End) | Err(RecvTimeoutError::Disconnected) => return,
            }
            let _ = self.look();
        }
    }

    /// An engine begins: what an earlier one noted holds unless Heartbeat knows better.
    pub(super) fn begin(&mut self) {
        let seen = self.look();
        if self.known.claimed() && seen.resources.held_by(self.tools.role) == Some(false) {
            self.known.gone();
        }
    }

    fn look(&mut self) -> Seen {
        let comings = self.known.comings();
        let seen = self.tools.look();
        match seen.runs {
            Runs::Yes => {
                self.answered = Instant::now();
                self.heard = self.answered;
            }
            // its words are kept, for a while
            Runs::Silent if self.answered.elapsed() < self.silence => return seen,
            Runs::Silent => self.without("Heartbeat does not answer on this node"),
            Runs::No => {
                self.answered = Instant::now();
                self.without("Heartbeat has ended on this node");
                self.call();
            }
        }
        self.known.saw(&seen, comings);
        self.pursue(&seen);
        if seen.runs == Runs::Yes {
            self.compare(&seen);
        }
        seen
    }

    /// The other node takes the address when it misses this one's beats: what was held here goes before, or soon after. From
    /// a node that is dead nobody takes it, until that may have come back unheard.
    fn without(&mut self, why: &str) {
        let is_dead = self.known.view().peer == Verdict::Down && self.heard.elapsed() < self.dead_for;
        if !self.known.claimed() || is_dead {
            return;
        }
        tracing::error!("{why}: the address is given up, and telephony stops with it");
        self.release();
        self.called = Some(Instant::now());
    }

    fn release(&mut self) {
        self.known.gone();
        if let Err(error) = self.tools.drop_address() {
            tracing::error!("the address may still be here: {error}");
        }
    }

    fn call(&mut self) {
        if self.known.ends() || self.called.is_some_and(|at| at.elapsed() < self.restart) {
            return;
        }
        self.called = Some(Instant::now());
        match self.tools.start() {
            Ok(()) => self.known.called(),
            Err(error) => tracing::error!("Heartbeat does not start: {error}"),
        }
    }

    fn hand_over(&mut self) {
        let View { held, peer, .. } = self.known.view();
        if !held || self.wish.as_ref().is_some_and(|wish| !wish.here) {
            return;
        }
        if matches!(peer, Verdict::Up | Verdict::Degraded) {
            self.wish = Some(Wish { here: false, since: Instant::now(), asked: None });
        } else {
            tracing::warn!("the other node is not heard: Heartbeat is not asked to hand the address over");
            self.known.not_taken();
        }
    }

    /// Asks for what is wished when Heartbeat can hear it, and sees whether it came about.
    fn pursue(&mut self, seen: &Seen) {
        let Some(wish) = &mut self.wish else { return };
        if wish.here == self.known.claimed() {
            self.wish = None;
            return;
        }
        let hears = seen.resources != Resources::Moving && wish.asked.is_none_or(|at| at.elapsed() > AGAIN);
        let failed = if wish.since.elapsed() > PATIENCE || seen.peer == Verdict::Down {
            Some("Heartbeat did not move it".to_owned())
        } else if hears {
            wish.asked = Some(Instant::now());
            let ask = if wish.here { self.tools.take_over() } else { self.tools.stand_by() };
            ask.err().map(|error| error.to_string())
        } else {
            None
        };
        if let Some(why) = failed {
            tracing::error!("the address stays where it is: {why}");
            if !wish.here {
                self.known.not_taken();
            }
            self.wish = None;
        }
    }

    /// Heartbeat and its script may say different things for long only when one of them was not heard.
    fn compare(&mut self, seen: &Seen) {
        let claimed = self.known.claimed();
        let believed = seen.resources.held_by(self.tools.role);
        if believed.is_none_or(|believed| believed == claimed) {
            self.differs = None;
            return;
        }
        if self.differs.get_or_insert_with(Instant::now).elapsed() < SETTLED {
            return;
        }
        self.differs = None;
        if claimed {
            tracing::error!("Heartbeat does not know that it gave the address to this node: it goes");
            self.release();
        } else {
            // its script was refused, as long as no engine ran: nobody serves
            tracing::warn!("Heartbeat believes that this node has the address: it is taken");
            if let Err(error) = self.tools.take() {
                tracing::error!("the address was not taken: {error}");
            }
        }
    }
}
