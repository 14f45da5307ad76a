//! A tick passes, and what makes no difference any more is forgotten: worlds that behave alike become one.

use super::*;

impl World {
    /// A tick passes: everything is a tick older.
    pub(super) fn pass(&mut self) {
        let older = |stamp: &mut Stamp| *stamp = stamp.saturating_sub(TICK);
        for index in 0..2 {
            for beat in [&mut self.wire[index], &mut self.hosts[index].delayed].into_iter().flatten() {
                beat.pass(older);
                at_most(&mut beat.heard, LEASE);
                at_most(&mut beat.number, LEASE);
                stale(&mut beat.granted);
                beat.alone_in = beat.alone_in.min(TICK * 2 * (LEASE + MARGIN));
            }
            let host = &mut self.hosts[index];
            older(&mut host.lease_until);
            older(&mut host.permit_until);
            if let Some(engine) = &mut host.engine {
                engine.pass(older);
                engine.simplify();
            }
            if host.lease_until <= NOW {
                host.lease_until = Duration::ZERO;
            }
            if host.permit_until < NOW {
                host.permit_until = Duration::ZERO;
            }
        }
        self.level_epochs();
    }

    /// Only which epoch is greater matters, and by how little: they are brought down together.
    fn level_epochs(&mut self) {
        let mut seen: Vec<u64> = Vec::new();
        self.each_epoch(|epoch| seen.push(*epoch));
        seen.sort_unstable();
        seen.dedup();
        self.each_epoch(|epoch| {
            *epoch = seen.iter().position(|one| one == epoch).expect("it was seen") as u64;
        });
    }

    fn each_epoch(&mut self, mut visit: impl FnMut(&mut u64)) {
        for index in 0..2 {
            for beat in [&mut self.wire[index], &mut self.hosts[index].delayed].into_iter().flatten() {
                visit(&mut beat.epoch);
            }
            let host = &mut self.hosts[index];
            visit(&mut host.disk.epoch);
            if let Some(engine) = &mut host.engine {
                visit(&mut engine.remembered.epoch);
                if let Some(peer) = &mut engine.peer {
                    visit(&mut peer.beat.epoch);
                }
            }
        }
    }
}

impl Beat {
    fn pass(&mut self, older: impl Fn(&mut Stamp)) {
        older(&mut self.number);
        older(&mut self.heard);
        older(&mut self.granted);
    }
}

/// A grant is for a claim of less than half a lease ago.
fn stale(claim: &mut Stamp) {
    if *claim + TICK * LEASE / 2 <= NOW {
        *claim = Duration::ZERO;
    }
}

/// What is older than so many ticks is as good as that old.
fn at_most(stamp: &mut Stamp, ticks: u32) {
    *stamp = (*stamp).max(NOW - TICK * ticks);
}

impl Native {
    /// Forgets what makes no difference any more.
    fn simplify(&mut self) {
        let wait = LEASE + MARGIN;
        let heard = self.peer.map_or(Duration::ZERO, |peer| peer.heard);
        if let Some(peer) = &mut self.peer {
            at_most(&mut peer.heard, wait);
            at_most(&mut peer.beat.number, LEASE);
            (peer.beat.heard, peer.beat.granted, peer.beat.alone_in, peer.beat.echo) = Default::default();
            // only what is later than what was heard last prolongs a wait
            let grace = TICK * LEASE * 4 / 10;
            at_most(&mut self.surroundings.since, wait);
            if self.surroundings.since <= heard + grace || self.surroundings.since + TICK * wait <= NOW {
                self.surroundings.since = Duration::ZERO;
            }
            at_most(&mut self.floor, wait);
            if self.floor <= heard || self.floor + TICK * wait <= NOW {
                self.floor = Duration::ZERO;
            }
        }
        if let Some(stranger) = &mut self.stranger {
            at_most(&mut stranger.heard, wait);
            at_most(&mut stranger.since, wait);
            at_most(&mut stranger.number, LEASE + 1);
        }
        let holds = matches!(self.phase, Phase::Holds { .. } | Phase::Takes { .. });
        if let Some((number, when)) = &mut self.acknowledged {
            at_most(number, LEASE);
            at_most(when, LEASE);
            if !holds {
                // a grant brings its own, and whoever takes it alone has heard nothing for longer
                *when = Duration::ZERO;
            }
        }
        // it is asked again when the answer is old
        let resting = self.phase == Phase::Rests;
        self.owner_probed = self.owner_probed.filter(|probed| resting && *probed + TICK * 3 > NOW);
        if let Some(answered) = &mut self.surroundings.answered {
            at_most(answered, LEASE);
            if *answered >= self.renews_from
                && (!holds || self.acknowledged.is_none_or(|(n, _)| n >= self.renews_from))
            {
                self.renews_from = Duration::ZERO;
            }
        }
        if self.renews_from + TICK * LEASE <= NOW {
            self.renews_from = Duration::ZERO;
        }
        if let Some(asked) = &mut self.surroundings.asked {
            at_most(asked, 1);
        }
        if let Some(unanswered) = &mut self.surroundings.unanswered {
            at_most(unanswered, 2);
        }
        stale(&mut self.granted);
        if let Phase::Claims { since } = &mut self.phase {
            at_most(since, 2);
        }
        // only what the engine is told depends on it
        self.started = Duration::ZERO;
        at_most(&mut self.last_event, 3);
        // every turn begins with them, and is a beat later
        self.renews_at = Duration::ZERO;
        self.last_beat = self.last_beat.min(NOW - TICK).max(NOW - TICK);
        self.loop_turned = NOW - TICK;
    }

    fn pass(&mut self, older: impl Fn(&mut Stamp)) {
        if let Some(peer) = &mut self.peer {
            peer.beat.pass(&older);
            older(&mut peer.heard);
        }
        if let Some(stranger) = &mut self.stranger {
            for stamp in [&mut stranger.number, &mut stranger.heard, &mut stranger.since] {
                older(stamp);
            }
        }
        let surroundings = &mut self.surroundings;
        older(&mut surroundings.since);
        for stamp in [&mut surroundings.answered, &mut surroundings.asked, &mut surroundings.unanswered] {
            stamp.as_mut().into_iter().for_each(&older);
        }
        if let Some((number, when)) = &mut self.acknowledged {
            older(number);
            older(when);
        }
        for stamp in [
            &mut self.floor,
            &mut self.granted,
            &mut self.renews_from,
            &mut self.renews_at,
            &mut self.last_beat,
            &mut self.last_event,
            &mut self.loop_turned,
        ] {
            older(stamp);
        }
        for stamp in [&mut self.granting, &mut self.owner_probed, &mut self.owner_seen] {
            stamp.as_mut().into_iter().for_each(&older);
        }
        // it says nothing about who holds the address
        self.announce_at = None;
        self.failed_handovers = 0;
        match &mut self.phase {
            Phase::Rests => {}
            Phase::Claims { since } => older(since),
            Phase::Takes { by, .. } => {
                if let By::Grant(claim) = by {
                    older(claim);
                }
            }
            Phase::Holds { until, offers, .. } => {
                older(until);
                offers.as_mut().into_iter().for_each(&older);
            }
            Phase::Gives { claim, since, .. } => {
                older(claim);
                older(since);
            }
        }
    }
}
