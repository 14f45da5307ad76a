//! Whom a node asks, how often, and what it makes of the outcomes.

use super::{Node, REFERENCE_INTERVAL};
use crate::event::{Output, ProbeId, Target};
use crate::health::{ProbeOutcome, RungVerdict, Verdict};
use crate::machine::Event;
use crate::probing::{Due, Probing};

impl Node {
    pub(super) fn outcomes(
        &mut self,
        take: impl FnOnce(&mut Probing) -> Vec<(Target, ProbeOutcome)>,
        out: &mut Vec<Output>,
    ) {
        for (target, outcome) in take(&mut self.probing) {
            self.heard = true;
            match target {
                Target::Peer(rung) => self.step(Event::Probe(rung, outcome), out),
                Target::Reference(index) => {
                    self.step(Event::Reference(index, outcome), out);
                    let dead =
                        (0..self.policy.references.len()).any(|one| !self.machine.references().counts(one));
                    self.alert("reference-silent", dead, out, || {
                        "a reference address is silent while the peer answers; it does not count until it answers".to_owned()
                    });
                }
            }
        }
        if !std::mem::take(&mut self.heard) {
            return;
        }
        let isolated = self.machine.isolated();
        self.alert("isolated", isolated, out, || {
            "the peer and all references are silent: this node is isolated and will not take over".to_owned()
        });
        self.set_paces();
    }

    pub(super) fn set_paces(&mut self) {
        let (now, silent) = (self.now.mono, self.machine.ladder().silent());
        for (rung, policy) in &self.policy.rungs {
            let state = self.machine.ladder().state(*rung);
            let suspected = state.is_some_and(|one| one.suspected() && one.verdict() != RungVerdict::Down);
            let pace = if suspected { policy.suspect_interval() } else { policy.interval() };
            self.probing.pace(now, Target::Peer(*rung), pace);
        }
        let Some((_, base)) = self.policy.rungs.first() else { return };
        let pace = match (silent, self.machine.verdict()) {
            (true, Verdict::Down) => base.interval(),
            (true, _) => base.suspect_interval(),
            (false, _) => REFERENCE_INTERVAL.max(base.interval()),
        };
        for index in 0..self.policy.references.len() {
            self.probing.pace(now, Target::Reference(index), pace);
        }
    }

    pub(super) fn probe(&mut self, out: &mut Vec<Output>) {
        let ids = &mut self.ids;
        let next = || {
            *ids += 1;
            ProbeId(*ids)
        };
        self.probing.due(self.now.mono, next, |Due { id, target, address, timeout }| {
            out.push(Output::Probe { id, target, address, timeout });
        });
    }
}
