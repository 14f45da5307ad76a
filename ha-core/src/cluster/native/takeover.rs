//! Rules 2 and 3: how the address comes to a node, and goes.

use std::time::Duration;

use super::super::beat::{Act, Beat, Rank, Stamp};
use super::{Action, By, Native, Phase, Remembered, send};

impl Native {
    /// What a beat of the other node asks of this one.
    pub(super) fn answer(&mut self, now: Stamp, before: Option<Beat>, beat: Beat, out: &mut Vec<Action>) {
        if before.is_none_or(|before| before.session != beat.session || before.act != beat.act) {
            // it should not wait for the next beat to learn what this node makes of it
            send(out);
        }
        match (self.phase, beat.act) {
            // it holds the address: nothing is claimed, and nothing that was let go is missed
            (Phase::Claims { .. }, Act::Holds | Act::Takes) => self.phase = Phase::Rests,
            (Phase::Takes { .. }, Act::Holds) => self.phase = Phase::Rests,
            (Phase::Gives { closed: true, .. }, Act::Holds) => {
                self.phase = Phase::Rests;
                self.remember(Remembered { active: false, ..self.remembered }, out);
            }
            (Phase::Gives { closed, since, .. }, Act::Claims) => {
                self.phase = Phase::Gives { claim: beat.number, closed, since };
                if closed {
                    self.grant(beat.number, out);
                }
            }
            (Phase::Holds { offers: Some(since), .. }, Act::Claims) => {
                self.phase = Phase::Gives { claim: beat.number, closed: false, since };
                out.push(Action::Close);
                out.push(Action::Drop);
            }
            (Phase::Rests, Act::Claims) if !self.goes_before(&beat) => self.grant(beat.number, out),
            (Phase::Claims { .. }, Act::Claims) if !self.goes_before(&beat) => {
                self.phase = Phase::Rests;
                self.grant(beat.number, out);
            }
            (Phase::Claims { since }, _) if beat.granted >= since && self.is_fresh(now, beat.granted) => {
                self.phase = Phase::Takes { by: By::Grant(beat.granted), asked_kernel: false };
            }
            _ => {}
        }
        if self.remembered.active
            && beat.act == Act::Holds
            && beat.epoch > self.remembered.epoch
            && matches!(self.phase, Phase::Rests)
        {
            // it was taken from here while nobody heard this node
            self.remember(Remembered { active: false, ..self.remembered }, out);
        }
    }

    /// The other node is let have the address for this claim.
    fn grant(&mut self, claim: Stamp, out: &mut Vec<Action>) {
        self.granted = claim;
        send(out);
    }

    /// Only for a claim that was sent less than half a lease ago.
    fn is_fresh(&self, now: Stamp, claim: Stamp) -> bool {
        now.saturating_sub(claim) < self.config.terms.lease / 2
    }

    /// Whether the address is rather this node's when neither holds it.
    fn goes_before(&self, beat: &Beat) -> bool {
        let own = (self.remembered.epoch, self.remembered.active, self.config.rank);
        self.could() && own > beat.precedence()
    }

    /// This node could take the address.
    fn could(&self) -> bool {
        self.is_able(self.last_event) && self.link
    }

    pub(super) fn offer(&mut self, now: Stamp, out: &mut Vec<Action>) {
        if let Phase::Holds { offers, .. } = &mut self.phase
            && offers.is_none()
        {
            *offers = Some(now);
            send(out);
        }
    }

    pub(super) fn closed(&mut self, out: &mut Vec<Action>) {
        if let Phase::Gives { claim, closed: false, since } = self.phase {
            self.phase = Phase::Gives { claim, closed: true, since };
            self.grant(claim, out);
        }
    }

    /// Somebody else answers for the address.
    pub(super) fn owner_seen(&mut self, now: Stamp, out: &mut Vec<Action>) {
        self.owner_seen = Some(now);
        if matches!(self.phase, Phase::Holds { .. }) {
            out.push(Action::Announce);
        }
    }

    /// What a node without the address does to get it, and one that has it to be rid of it.
    pub(super) fn take_or_give(&mut self, now: Stamp, out: &mut Vec<Action>) {
        let peer = self.peer.filter(|peer| now.saturating_sub(peer.heard) < self.wait());
        match self.phase {
            Phase::Rests => match peer.map(|peer| peer.beat) {
                Some(beat) if self.should_claim(&beat) => {
                    // what was granted before was for another claim
                    self.phase = Phase::Claims { since: self.last_beat + Duration::from_nanos(1) };
                    send(out);
                }
                Some(_) => {}
                None => self.take_alone(now, out),
            },
            Phase::Claims { .. } => {
                // a claim that nobody answers is put again with every beat
                if !peer.is_some_and(|peer| self.should_claim(&peer.beat)) {
                    self.phase = Phase::Rests;
                }
            }
            Phase::Takes { by, asked_kernel: false } => {
                self.phase = Phase::Takes { by, asked_kernel: true };
                out.push(Action::Permit);
            }
            Phase::Takes { .. } => {}
            Phase::Holds { offers: None, .. } => {
                // the address' network is gone here and not there
                let better = peer.is_some_and(|peer| peer.beat.could_take());
                if !self.link && better {
                    self.offer(now, out);
                }
            }
            Phase::Holds { until, renewing, offers: Some(since) } => {
                let refuses = peer.is_none_or(|peer| !peer.beat.could_take());
                if refuses || now.saturating_sub(since) >= self.wait() {
                    self.phase = Phase::Holds { until, renewing, offers: None };
                    self.failed_handovers += 1;
                    send(out);
                    if self.leaving {
                        out.push(Action::Close);
                        self.remember(Remembered { active: false, ..self.remembered }, out);
                        self.rest(out);
                    }
                }
            }
            Phase::Gives { since, .. } => {
                // it has not come to hold it: whoever goes first claims it
                if now.saturating_sub(since) >= self.wait() {
                    self.phase = Phase::Rests;
                    self.failed_handovers += 1;
                    send(out);
                }
            }
        }
    }

    /// The other node is heard. Whether the address should come here.
    fn should_claim(&self, beat: &Beat) -> bool {
        let free = match beat.act {
            Act::Offers => !self.standing.maintenance,
            // the other node waits for somebody to take what it let go
            Act::Gives => true,
            Act::Rests | Act::Claims => {
                let theirs = beat.able && beat.link;
                self.goes_before(beat) || !theirs && !self.standing.maintenance && !beat.maintenance
            }
            Act::Takes | Act::Holds => false,
        };
        free && self.could()
    }

    fn take_alone(&mut self, now: Stamp, out: &mut Vec<Action>) {
        let due = match self.alone_from(now) {
            Some(due) if now + self.config.probe_wait >= due => due,
            _ => return,
        };
        let probed = self.owner_probed.filter(|at| now.saturating_sub(*at) < self.config.probe_wait * 4);
        match probed {
            None => {
                self.owner_probed = Some(now);
                out.push(Action::ProbeOwner);
            }
            Some(at) if now >= due && now >= at + self.config.probe_wait && self.may_take_alone(now) => {
                if self.alone_until(now).is_some() {
                    self.phase = Phase::Takes { by: By::Alone, asked_kernel: true };
                    out.push(Action::Permit);
                }
            }
            Some(_) => {}
        }
    }

    /// From when on this node may take the address alone; `None`: not as things are.
    pub(super) fn alone_from(&self, now: Stamp) -> Option<Stamp> {
        if !self.could() || self.standing.maintenance || self.is_cut_off(now) {
            return None;
        }
        let wait = match (&self.peer, self.config.rank) {
            (Some(_), _) => self.wait(),
            (None, Rank::Primary) => self.config.boot_wait,
            (None, Rank::Standby) => self.config.boot_wait + self.wait(),
        };
        let heard = self.peer.map_or(self.floor, |peer| peer.heard.max(self.floor));
        // cut off for a while: as if the other node had been heard then, unless that was over before it could count itself
        // alone
        let grace = self.alone_after() - self.config.terms.lease / 5;
        let seen = if self.config.references && self.surroundings.since > heard + grace {
            self.surroundings.since
        } else {
            heard
        };
        let stranger = self.stranger.map_or(Duration::ZERO, |stranger| stranger.heard + self.own_wait());
        Some((heard.max(seen) + wait).max(stranger))
    }

    /// Everything that must hold at the moment when the kernel is asked.
    pub(super) fn may_take_alone(&self, now: Stamp) -> bool {
        let owner = self.owner_probed.zip(self.owner_seen).is_some_and(|(probed, seen)| seen >= probed);
        !owner && self.alone_from(now).is_some_and(|due| now >= due)
    }

    /// How long it takes until this node, who hears nobody, takes the address alone; zero: it hears the other node, or will
    /// not.
    pub(super) fn alone_in(&self, now: Stamp) -> Duration {
        let silent = self.silence(now).is_none_or(|silence| silence >= self.alone_after());
        match self.alone_from(now) {
            Some(due) if silent => due.saturating_sub(now).max(Duration::from_nanos(1)),
            _ => Duration::ZERO,
        }
    }
}
