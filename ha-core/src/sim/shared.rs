//! The cluster of a simulated pair that shares one address, as arithmetic: who hears whom, and who holds the address.
//!
//! Not the cluster's protocol, only what a node sees of one that keeps its word: never two holders, a holder that hears
//! nobody lets go after a lease, and the other node takes after a lease and a margin.

use std::time::Duration;

use super::Side;
use crate::cluster::View;
use crate::health::Verdict;
use crate::time::Instant;

/// Between two beats.
const BEAT: Duration = Duration::from_millis(100);
/// A holder that is cut off for so long has lost the address.
const LEASE: Duration = Duration::from_secs(1);
/// A node that was heard and is silent for so long does not hold it any more.
const LAPSED: Duration = Duration::from_millis(1500);
/// A node that has heard nobody since its start takes the address after so long: 120 s on SARK's page.
const DEAF: [Duration; 2] = [Duration::from_secs(120), Duration::from_millis(121_500)];

/// What the cluster sees of a host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// It has power, its engine runs and is not frozen.
    pub(super) runs: bool,
    pub(super) cable: bool,
    /// A reference answers it.
    pub(super) sees_reference: bool,
    /// See [`Standing`](crate::cluster::Standing).
    pub(super) able: bool,
    /// It takes an address that is offered.
    pub(super) takes: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Member {
    /// Since when it runs.
    since: Option<Instant>,
    heard_at: Option<Instant>,
    peer_able: bool,
    renewed_at: Instant,
    failed_handovers: u32,
    told: Option<View>,
}

/// Both sides of it.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    members: [Member; 2],
    holder: Option<Side>,
    /// It held the address last: it gets it back when both are there.
    last: Side,
    /// Who was asked to hand it over.
    asked: Option<Side>,
    pub(super) next: Instant,
}

impl Cluster {
    pub(super) fn new(now: Instant) -> Cluster {
        Cluster {
            members: Default::default(),
            holder: None,
            last: Side::Master,
            asked: None,
            next: now + BEAT,
        }
    }

    pub(super) fn holder(&self) -> Option<Side> {
        self.holder
    }

    pub(super) fn hand_over(&mut self, side: Side) {
        self.asked = Some(side);
    }

    /// The cluster of this side begins anew with its engine; what the kernel holds, it holds on.
    pub(super) fn restarted(&mut self, side: Side) {
        let member = &mut self.members[side as usize];
        *member = Member { renewed_at: member.renewed_at, ..Member::default() };
    }

    /// One beat. Returns the views that changed, the one that loses the address first.
    pub(super) fn beat(&mut self, now: Instant, seen: [Seen; 2]) -> Vec<(Side, View)> {
        self.next = now + BEAT;
        let heard = seen.iter().all(|one| one.runs && one.cable);
        for side in Side::ALL {
            let (here, there) = (seen[side as usize], seen[side.other() as usize]);
            if !here.runs {
                self.restarted(side);
                continue;
            }
            let member = &mut self.members[side as usize];
            member.since.get_or_insert(now);
            if heard {
                (member.heard_at, member.peer_able) = (Some(now), there.able);
            }
            if heard || here.cable && here.sees_reference {
                member.renewed_at = now;
            }
        }
        self.settle(now, &seen, heard);
        let mut views: Vec<(Side, View)> = Vec::new();
        for side in Side::ALL.into_iter().filter(|side| seen[*side as usize].runs) {
            let view = self.view(now, side, seen[side as usize], heard);
            let told = self.members[side as usize].told.replace(view);
            if told.unwrap_or(View::FIRST) != view {
                views.push((side, view));
            }
        }
        views.sort_by_key(|(_, view)| view.held);
        views
    }

    fn settle(&mut self, now: Instant, seen: &[Seen; 2], heard: bool) {
        let lost = |side: &Side| now - self.members[*side as usize].renewed_at >= LEASE;
        if self.holder.filter(lost).is_some() {
            self.holder = None;
        }
        if let Some(from) = self.asked.take().filter(|from| self.holder == Some(*from)) {
            let to = from.other();
            if heard && seen[to as usize].able && seen[to as usize].takes {
                (self.holder, self.last) = (Some(to), to);
            } else {
                self.members[from as usize].failed_handovers += 1;
            }
        }
        if self.holder.is_none() {
            let may_take = |side: &Side| {
                let (member, here) = (&self.members[*side as usize], &seen[*side as usize]);
                let waited = match (member.heard_at, member.since) {
                    (Some(heard_at), _) => now - heard_at >= LAPSED,
                    (None, Some(since)) => now - since >= DEAF[*side as usize],
                    (None, None) => false,
                };
                here.runs && here.able && (heard || waited && here.cable && here.sees_reference)
            };
            self.holder = [self.last, self.last.other()].into_iter().find(may_take);
            self.last = self.holder.unwrap_or(self.last);
        }
    }

    fn view(&self, now: Instant, side: Side, here: Seen, heard: bool) -> View {
        let member = &self.members[side as usize];
        let peer = match member.heard_at {
            None => Verdict::Unknown,
            Some(at) if now - at >= LAPSED => Verdict::Down,
            Some(_) if member.peer_able => Verdict::Up,
            Some(_) => Verdict::Degraded,
        };
        let isolated = !(heard || here.cable && here.sees_reference);
        let failed_handovers = member.failed_handovers;
        View { held: self.holder == Some(side), peer, isolated, failed_handovers, ended: false }
    }
}
