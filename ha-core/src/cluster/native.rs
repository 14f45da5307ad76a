//! Who holds the address, settled between two nodes by beats; the kernel enforces what was settled (`safety.md` 5).
//!
//! Three rules keep it exclusive.
//!
//! 1. *The holder's lease* never runs past the moment when it sent the newest beat that the other node has acknowledged,
//!    plus a lease. Past that only *alone*: nothing was heard of the other node for most of a lease, and a reference has
//!    answered a question asked after the last acknowledgement.
//! 2. *Who hears the other node* takes the address only when the other one lets it: a claim, a grant that names it. Whoever
//!    grants has closed its gate before, and gives up its own claim.
//! 3. *Who hears nobody* takes it when a lease and a margin have passed since the other node was last heard, or since this
//!    node last was cut off from everybody, or slept.
//!
//! What was acknowledged was heard, so by 3 the other node waits until what 1 permits has run out. All times are of one
//! clock, this node's; an acknowledgement names a beat by when it was sent.

mod renewal;
mod takeover;

use std::time::Duration;

use super::beat::{Act, Beat, Rank, Stamp};
use super::{Standing, Terms, View};
use crate::health::Verdict;
use crate::role::Role;

/// How long an owner of the address has to answer before it is taken.
pub const PROBE_WAIT: Duration = Duration::from_millis(50);
/// Again announced so long after it was taken: a switch or a phone may have missed the first.
const ANNOUNCE_AGAIN: Duration = Duration::from_secs(5);
/// How long a node that hears nobody after its start waits before it takes the address, in case the other one is still
/// starting; the documents' `initdead`.
pub const BOOT_WAIT: Duration = Duration::from_secs(120);

/// What is constant about a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Config {
    /// Whom it prefers to be.
    pub rank: Rank,
    /// Lease, margin, beat, permit.
    pub terms: Terms,
    /// See [`BOOT_WAIT`].
    pub boot_wait: Duration,
    /// See [`PROBE_WAIT`].
    pub probe_wait: Duration,
    /// Whether there are references; without them nobody is ever known to be cut off.
    pub references: bool,
}

impl Rank {
    /// Of a role; a disabled node has none.
    pub fn of(role: Role) -> Option<Rank> {
        match role {
            Role::Master => Some(Rank::Primary),
            Role::Slave => Some(Rank::Standby),
            Role::Disabled => None,
        }
    }
}

/// What survives a restart of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
pub struct Remembered {
    /// Of when this node last held the address.
    pub epoch: u64,
    /// It has not let it go since.
    pub active: bool,
}

/// What happens to a node. Beats that have arrived are told before anything else that happens at that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// [`Native::deadline`] was reached, or something else woke the loop.
    Tick,
    /// An authenticated beat, and when the kernel received it.
    Beat {
        /// What it says.
        beat: Beat,
        /// When it came, on this node's clock.
        received: Stamp,
    },
    /// A reference answered the question that was asked then.
    Answered {
        /// When it was asked.
        asked: Stamp,
    },
    /// Somebody else answers for the address.
    OwnerSeen,
    /// The permit is in the kernel, since before this event; or could not be put there.
    Permitted(bool),
    /// The kernel has taken the grant, or refused it.
    Granted(bool),
    /// The gate is closed.
    Closed,
    /// The gate is not what was made any more; it is closed now and made anew.
    GateLost,
    /// What the node says of itself.
    Standing(Standing),
    /// Whether the address' interface is up.
    Link(bool),
    /// The engine's loop turned then.
    LoopTurned(Stamp),
    /// The other node is to have the address.
    HandOver,
    /// The engine ends: as [`Event::HandOver`], and afterwards nothing is taken any more.
    Leave,
}

/// What a node asks for, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Send [`Native::beat`] over every path.
    Send,
    /// Ask every reference, through the address' interface.
    Ask,
    /// Ask who has the address.
    ProbeOwner,
    /// Put the permit into the kernel, then read the clock, tell all beats that have come, then [`Event::Permitted`].
    Permit,
    /// Have the kernel delete the permit and open the gate for so long, in one; then [`Event::Granted`].
    Grant {
        /// From now.
        lasts: Duration,
        /// Nothing is open yet.
        first: bool,
    },
    /// Close the gate, then [`Event::Closed`].
    Close,
    /// The address is this node's: put it on the interface.
    Hold,
    /// It is not any more: take it off.
    Drop,
    /// Tell everybody in the network where it is.
    Announce,
    /// Write this down.
    Remember(Remembered),
    /// The other node has heard beats of this session that this node has not sent yet: the machine was set back to an
    /// earlier state. Begin anew, with another session.
    StartOver,
}

/// What is known of the other node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Peer {
    beat: Beat,
    /// When its newest beat came.
    heard: Stamp,
}

/// Beats of somebody who does not answer this node's: the other node, deaf since it or this one was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Stranger {
    session: u64,
    number: Stamp,
    /// The newest one came.
    heard: Stamp,
    /// The first one of an unbroken row came.
    since: Stamp,
    /// It holds the address, or will before long.
    holds: bool,
}

/// Answers of references.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Surroundings {
    /// When the newest answered question was asked.
    answered: Option<Stamp>,
    /// When the first of an unbroken row of answered ones was.
    since: Stamp,
    /// When the last question was asked.
    asked: Option<Stamp>,
    /// When the first question was asked that is not answered, nor any later one.
    unanswered: Option<Stamp>,
}

/// What a node does with the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    /// Nothing.
    Rests,
    /// Asks the other node for it: claims with this number or later ones are meant.
    Claims { since: Stamp },
    /// Is about to hold it.
    Takes { by: By, asked_kernel: bool },
    /// Holds it at most until then.
    Holds { until: Stamp, renewing: bool, offers: Option<Stamp> },
    /// Closes the gate, or has, for this claim of the other node.
    Gives { claim: Stamp, closed: bool, since: Stamp },
}

/// Why a node may take the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum By {
    /// The other node has granted this claim.
    Grant(Stamp),
    /// The other node is not there.
    Alone,
}

/// One node. Total: every event in every state. Nothing here reads a clock.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Native {
    config: Config,
    session: u64,
    remembered: Remembered,
    standing: Standing,
    link: bool,
    leaving: bool,
    phase: Phase,
    peer: Option<Peer>,
    stranger: Option<Stranger>,
    surroundings: Surroundings,
    /// This engine's start.
    started: Stamp,
    /// That, or the last time that it slept or lost its gate: no wait began before.
    floor: Stamp,
    /// The newest own beat that was acknowledged, and when that was heard.
    acknowledged: Option<(Stamp, Stamp)>,
    /// The newest claim of the other node that was granted.
    granted: Stamp,
    /// What the kernel has been asked for.
    granting: Option<Stamp>,
    /// Earlier sessions of the other node: what comes of them is a recording.
    past: [u64; 8],
    /// The kernel refused: not again before.
    renews_at: Stamp,
    /// Nothing older than this renews.
    renews_from: Stamp,
    last_beat: Stamp,
    last_event: Stamp,
    loop_turned: Stamp,
    owner_probed: Option<Stamp>,
    owner_seen: Option<Stamp>,
    announce_at: Option<Stamp>,
    failed_handovers: u32,
}

impl Native {
    /// A node whose engine starts now. `session`: random, not 0. Its gate is closed.
    pub fn new(config: Config, session: u64, remembered: Remembered, now: Stamp) -> Native {
        Native {
            config,
            session,
            remembered,
            standing: Standing { able: false, carrying: false, maintenance: false },
            link: false,
            leaving: false,
            phase: Phase::Rests,
            peer: None,
            stranger: None,
            surroundings: Surroundings { answered: None, since: now, asked: None, unanswered: None },
            started: now,
            floor: now,
            acknowledged: None,
            granted: Duration::ZERO,
            granting: None,
            past: [0; 8],
            renews_at: now,
            renews_from: now,
            last_beat: now,
            last_event: now,
            loop_turned: now,
            owner_probed: None,
            owner_seen: None,
            announce_at: None,
            failed_handovers: 0,
        }
    }

    /// What it does with the address.
    pub fn act(&self) -> Act {
        match self.phase {
            Phase::Rests => Act::Rests,
            Phase::Claims { .. } => Act::Claims,
            Phase::Takes { .. } => Act::Takes,
            Phase::Holds { offers: None, .. } => Act::Holds,
            Phase::Holds { offers: Some(_), .. } => Act::Offers,
            Phase::Gives { .. } => Act::Gives,
        }
    }

    /// Until when it holds the address, at most, unless it is renewed.
    pub fn held_until(&self) -> Option<Stamp> {
        match self.phase {
            Phase::Holds { until, .. } => Some(until),
            _ => None,
        }
    }

    /// What survives a restart.
    pub fn remembered(&self) -> Remembered {
        self.remembered
    }

    /// For the node's table.
    pub fn view(&self) -> View {
        let now = self.last_event;
        if !self.has_settled(now) {
            return View::FIRST;
        }
        let peer = match &self.peer {
            Some(peer) if now.saturating_sub(peer.heard) < self.wait() => {
                if peer.beat.could_take() && !peer.beat.carrying { Verdict::Up } else { Verdict::Degraded }
            }
            Some(_) => Verdict::Down,
            None if now.saturating_sub(self.floor) < self.wait() => Verdict::Unknown,
            None => Verdict::Down,
        };
        View {
            held: matches!(self.phase, Phase::Holds { .. }),
            peer,
            isolated: peer == Verdict::Down && self.is_cut_off(now),
            failed_handovers: self.failed_handovers,
            // who ends says so before
            ended: false,
        }
    }

    /// Whether it is said where the address is. An engine that was started anew beside another node gets the address back
    /// within moments if it is this node's; nobody is told before that it is not here, or telephony that still runs (nothing has
    /// stopped it where no unit does) would be stopped for those moments. It ends when either node has the address, or when it
    /// would have come from a node that is there.
    fn has_settled(&self, now: Stamp) -> bool {
        let holds = |act| matches!(act, Act::Holds | Act::Offers);
        let there = self.peer.is_some_and(|peer| holds(peer.beat.act));
        holds(self.act()) || there || now.saturating_sub(self.started) >= self.wait()
    }

    /// When [`Event::Tick`] is wanted.
    pub fn deadline(&self) -> Stamp {
        let now = self.last_event;
        let next = self.last_beat + self.config.terms.beat;
        let alone = self.alone_from(now).filter(|_| self.phase == Phase::Rests);
        let alone = alone.and_then(|due| {
            [due.saturating_sub(self.config.probe_wait), due].into_iter().find(|at| *at > now)
        });
        alone.map_or(next, |at| at.min(next))
    }

    /// One event.
    pub fn handle(&mut self, now: Stamp, event: Event, out: &mut Vec<Action>) {
        // the clock of one node does not go backwards; a caller that says so is not believed
        let now = now.max(self.last_event);
        if now - self.last_event > self.config.terms.beat * 2 {
            self.woke(now);
        }
        self.last_event = now;
        match event {
            Event::Tick => {}
            Event::Beat { beat, received } => self.heard(now, beat, received.min(now), out),
            Event::Answered { asked } => self.answered(asked),
            Event::OwnerSeen => self.owner_seen(now, out),
            Event::Permitted(permitted) => self.permitted(now, permitted, out),
            Event::Granted(granted) => self.granted(now, granted, out),
            Event::Closed => self.closed(out),
            Event::GateLost => self.gate_lost(now, out),
            Event::Standing(standing) => self.standing = standing,
            Event::Link(link) => self.link = link,
            Event::LoopTurned(turned) => self.loop_turned = self.loop_turned.max(turned),
            Event::HandOver => self.offer(now, out),
            Event::Leave => {
                self.leaving = true;
                self.offer(now, out);
            }
        }
        self.lapse(now, out);
        self.look_round(now, out);
        self.renew(now, out);
        self.take_or_give(now, out);
        if self.announce_at.is_some_and(|at| now >= at) {
            self.announce_at = None;
            out.push(Action::Announce);
        }
        if now >= self.last_beat + self.config.terms.beat {
            send(out);
        }
    }

    /// The next beat; its number is greater than all before.
    pub fn beat(&mut self, now: Stamp) -> Beat {
        let number = now.max(self.last_beat + Duration::from_nanos(1));
        self.last_beat = number;
        let (echo, heard) = match (&self.peer, &self.stranger) {
            // a stranger is the same node, with a newer session, or nobody was heard before
            (Some(peer), Some(stranger)) if peer.heard + self.config.terms.beat * 2 < stranger.heard => {
                (stranger.session, stranger.number)
            }
            (Some(peer), _) => (peer.beat.session, peer.beat.number),
            (None, Some(stranger)) => (stranger.session, stranger.number),
            (None, None) => (0, Duration::ZERO),
        };
        Beat {
            session: self.session,
            echo,
            number,
            heard,
            epoch: self.remembered.epoch,
            act: self.act(),
            granted: self.granted,
            rank: self.config.rank,
            was_active: self.remembered.active,
            able: self.is_able(now),
            carrying: self.standing.carrying,
            maintenance: self.standing.maintenance,
            link: self.link && !self.is_cut_off(now),
            wait: self.own_wait(),
            alone_in: self.alone_in(now),
        }
    }

    /// Whether this beat is news of a session, and whether it comes from somebody who hears this node.
    fn heard(&mut self, now: Stamp, beat: Beat, received: Stamp, out: &mut Vec<Action>) {
        if beat.session == self.session || self.past.contains(&beat.session) {
            return;
        }
        if beat.echo == self.session && beat.heard > self.last_beat {
            return out.push(Action::StartOver);
        }
        let same = self.peer.is_some_and(|peer| peer.beat.session == beat.session);
        let is_news = match &self.peer {
            Some(peer) if same => beat.number > peer.beat.number,
            _ => match &self.stranger {
                Some(stranger) if stranger.session == beat.session => beat.number > stranger.number,
                _ => true,
            },
        };
        if !is_news {
            return;
        }
        // another session of the other node is a newer one when it has heard what the last one had not; what was
        // recorded, or was long on its way, has not
        let heard_more = self.acknowledged.is_none_or(|(number, _)| beat.heard > number);
        if beat.echo != self.session || !(same || self.peer.is_none() || heard_more) {
            return self.strange(beat, received);
        }
        self.stranger = None;
        if heard_more {
            self.acknowledged = Some((beat.heard, now));
        }
        let before = self.peer.replace(Peer { beat, heard: received });
        if let Some(before) = before.filter(|_| !same) {
            self.past.rotate_right(1);
            self.past[0] = before.beat.session;
        }
        self.answer(now, before.map(|peer| peer.beat), beat, out);
    }

    fn strange(&mut self, beat: Beat, received: Stamp) {
        let row = self.stranger.filter(|stranger| {
            stranger.session == beat.session
                && received.saturating_sub(stranger.heard) < self.config.terms.lease
        });
        let soon = !beat.alone_in.is_zero() && beat.alone_in < self.own_wait() * 2;
        self.stranger = Some(Stranger {
            session: beat.session,
            number: beat.number,
            heard: received,
            since: row.map_or(received, |row| row.since),
            holds: beat.act == Act::Holds || beat.act == Act::Offers || soon,
        });
    }

    /// The loop slept: what it was about to do rests on what was heard before.
    fn woke(&mut self, now: Stamp) {
        self.floor = now;
        self.renews_from = now;
        match &mut self.phase {
            Phase::Claims { .. } | Phase::Takes { .. } => self.phase = Phase::Rests,
            Phase::Holds { renewing, .. } => *renewing = false,
            Phase::Rests | Phase::Gives { .. } => {}
        }
    }

    fn gate_lost(&mut self, now: Stamp, out: &mut Vec<Action>) {
        self.floor = now;
        match self.phase {
            Phase::Holds { .. } => self.rest(out),
            // it is closed now, whatever it was
            Phase::Takes { .. } | Phase::Claims { .. } => self.phase = Phase::Rests,
            Phase::Rests | Phase::Gives { .. } => {}
        }
    }

    /// The address is not held any more, and the gate is closed or has been asked to be.
    fn rest(&mut self, out: &mut Vec<Action>) {
        self.phase = Phase::Rests;
        self.announce_at = None;
        out.push(Action::Drop);
        send(out);
    }

    fn remember(&mut self, remembered: Remembered, out: &mut Vec<Action>) {
        if self.remembered != remembered {
            self.remembered = remembered;
            out.push(Action::Remember(remembered));
        }
    }

    /// Whether telephony could be started here, and the loop that would do it turns.
    fn is_able(&self, now: Stamp) -> bool {
        let turns = now.saturating_sub(self.loop_turned) < self.config.terms.lease / 2;
        self.standing.able && !self.leaving && turns
    }

    /// Lease and margin of this node.
    fn own_wait(&self) -> Duration {
        self.config.terms.lease + self.config.terms.margin
    }

    /// How long silence must last before the other node's lease has run out: the larger of both nodes' sums.
    pub fn wait(&self) -> Duration {
        let theirs = self.peer.map_or(Duration::ZERO, |peer| peer.beat.wait);
        self.own_wait().max(theirs)
    }
}

/// One beat a step is enough.
fn send(out: &mut Vec<Action>) {
    if !out.contains(&Action::Send) {
        out.push(Action::Send);
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod pair;
#[cfg(test)]
mod tests;
