//! Rule 1: how long the address is held.

use std::time::Duration;

use super::super::beat::{Act, Stamp};
use super::{ANNOUNCE_AGAIN, Action, By, Native, Phase, Remembered, send};

/// Between two questions to the references while the other node is heard.
const ASK_IN_PEACE: Duration = Duration::from_secs(10);

impl Native {
    /// So long does silence last before a holder counts itself alone. A direction that works delivers a beat within a
    /// fifth of a lease (the assumption), so a node whose beats arrive is heard long before.
    pub(super) fn alone_after(&self) -> Duration {
        self.config.terms.lease * 6 / 10
    }

    /// So long may questions to the references remain unanswered before this node counts as cut off: less than
    /// [`Native::alone_after`] by that fifth and a beat, so that no two nodes count as alone and as not cut off in turns.
    pub(super) fn cut_off_after(&self) -> Duration {
        self.config.terms.lease * 3 / 10
    }

    /// No reference answers.
    pub(super) fn is_cut_off(&self, now: Stamp) -> bool {
        self.config.references
            && match self.surroundings.unanswered {
                Some(asked) => now.saturating_sub(asked) >= self.cut_off_after(),
                None => self.surroundings.answered.is_none(),
            }
    }

    pub(super) fn silence(&self, now: Stamp) -> Option<Duration> {
        self.peer.map(|peer| now.saturating_sub(peer.heard))
    }

    /// Asks the references: seldom while the other node is heard, with each beat while it is not.
    pub(super) fn look_round(&mut self, now: Stamp, out: &mut Vec<Action>) {
        if !self.config.references {
            return;
        }
        let beat = self.config.terms.beat;
        let heard = self.silence(now).is_some_and(|silence| silence < beat * 3 / 2);
        let calm = heard && self.surroundings.unanswered.is_none();
        let pace = if calm { ASK_IN_PEACE } else { beat };
        if self.surroundings.asked.is_none_or(|asked| now >= asked + pace) {
            self.surroundings.asked = Some(now);
            self.surroundings.unanswered.get_or_insert(now);
            out.push(Action::Ask);
        }
    }

    pub(super) fn answered(&mut self, asked: Stamp) {
        if self.surroundings.answered.is_some_and(|before| asked <= before) {
            return;
        }
        if self.is_cut_off(self.last_event) {
            self.surroundings.since = asked;
        }
        self.surroundings.answered = Some(asked);
        if self.surroundings.unanswered.is_some_and(|first| first <= asked) {
            // later ones are on the way; the next question counts again
            self.surroundings.unanswered = None;
        }
    }

    /// What rule 1 permits now; `None`: nothing that is longer than what is.
    fn permits(&self, now: Stamp) -> Option<Stamp> {
        let lease = self.config.terms.lease;
        let acknowledged = self.acknowledged.filter(|(number, _)| *number >= self.renews_from);
        let by_peer = acknowledged.map(|(number, _)| number + lease);
        by_peer.max(self.alone_until(now))
    }

    /// How long it may be held alone.
    pub(super) fn alone_until(&self, now: Stamp) -> Option<Stamp> {
        let silent = self.silence(now).is_none_or(|silence| silence >= self.alone_after());
        if !silent || self.defers_to_a_stranger(now) {
            return None;
        }
        let lease = self.config.terms.lease;
        if !self.config.references {
            return Some(now + lease);
        }
        let answered = self.surroundings.answered.filter(|asked| *asked >= self.renews_from)?;
        let last_word = self.acknowledged.map(|(_, when)| when);
        last_word.is_none_or(|when| answered > when).then_some(answered + lease)
    }

    /// Somebody is there who does not hear this node, and who will take the address before long.
    fn defers_to_a_stranger(&self, now: Stamp) -> bool {
        self.stranger.is_some_and(|stranger| {
            let lasts = stranger.heard.saturating_sub(stranger.since) >= self.alone_after();
            let speaks = now.saturating_sub(stranger.heard) < self.own_wait();
            speaks && lasts && stranger.holds
        })
    }

    /// Asks for a permit when the lease can be prolonged.
    pub(super) fn renew(&mut self, now: Stamp, out: &mut Vec<Action>) {
        let lease = self.config.terms.lease;
        // the loop may hang: what it would have stopped must not be kept up for it
        let turns = now.saturating_sub(self.loop_turned) < lease / 2 && now >= self.renews_at;
        let permits = self.permits(now);
        if let Phase::Holds { until, renewing, .. } = &mut self.phase
            && !*renewing
            && turns
            && now < *until
            && permits.is_some_and(|permitted| permitted > *until)
        {
            *renewing = true;
            out.push(Action::Permit);
        }
    }

    /// The permit is in place, everything that had come has been heard: still so?
    pub(super) fn permitted(&mut self, now: Stamp, permitted: bool, out: &mut Vec<Action>) {
        let permits = self.permits(now);
        let taken = self.taken_until(now);
        match &mut self.phase {
            Phase::Holds { until, renewing, .. } => match permits.filter(|to| to > until && now < *until) {
                Some(to) if permitted && *renewing => {
                    self.granting = Some(to);
                    out.push(Action::Grant { lasts: to - now, first: false });
                }
                _ => *renewing = false,
            },
            Phase::Takes { .. } => match taken.filter(|to| *to > now) {
                Some(to) if permitted => {
                    self.granting = Some(to);
                    out.push(Action::Grant { lasts: to - now, first: true });
                }
                _ => self.phase = Phase::Rests,
            },
            Phase::Rests | Phase::Claims { .. } | Phase::Gives { .. } => {}
        }
    }

    /// The kernel has said what became of a grant.
    pub(super) fn granted(&mut self, now: Stamp, granted: bool, out: &mut Vec<Action>) {
        let to = self.granting.take();
        match (&mut self.phase, to) {
            (Phase::Holds { until, renewing, .. }, to) => {
                *renewing = false;
                match to.filter(|_| granted) {
                    Some(to) => *until = to,
                    // it was too late for this one
                    None => self.renews_at = now + self.config.terms.beat,
                }
            }
            (Phase::Takes { .. }, Some(until)) if granted => {
                let heard = self.peer.map_or(0, |peer| peer.beat.epoch);
                let epoch = self.remembered.epoch.max(heard) + 1;
                self.phase = Phase::Holds { until, renewing: false, offers: None };
                self.announce_at = Some(now + ANNOUNCE_AGAIN);
                out.push(Action::Hold);
                out.push(Action::Announce);
                self.remember(Remembered { epoch, active: true }, out);
                send(out);
            }
            (Phase::Takes { .. }, _) => {
                self.phase = Phase::Rests;
                send(out);
            }
            // what this node does with the address has changed since; the kernel may hold it open
            (Phase::Rests | Phase::Claims { .. } | Phase::Gives { .. }, _) if granted => {
                out.push(Action::Close);
            }
            (Phase::Rests | Phase::Claims { .. } | Phase::Gives { .. }, _) => {}
        }
    }

    /// The lease has run out, or another one holds the address as well, since later: it is let go.
    pub(super) fn lapse(&mut self, now: Stamp, out: &mut Vec<Action>) {
        let Phase::Holds { until, .. } = self.phase else { return };
        let rival =
            self.peer.map(|peer| peer.beat).filter(|beat| beat.act >= Act::Holds && beat.act < Act::Gives);
        let own = (self.remembered.epoch, self.config.rank);
        let yields = rival.is_some_and(|beat| (beat.epoch, beat.rank) > own);
        if now >= until || yields {
            out.push(Action::Close);
            self.rest(out);
        }
    }

    /// What the way permits by which the address is taken.
    fn taken_until(&self, now: Stamp) -> Option<Stamp> {
        let Phase::Takes { by, .. } = self.phase else { return None };
        match by {
            By::Grant(claim) => Some(claim + self.config.terms.lease),
            By::Alone if self.may_take_alone(now) => self.alone_until(now),
            By::Alone => None,
        }
    }
}
