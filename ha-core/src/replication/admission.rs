//! Who may be replicated to: the guards of `safety.md` 4, asked at the opening and again before each commit.

use thiserror::Error;

use super::flow::Flow;
use crate::role::Role;

/// What the receiving node says about itself. It states its generation when a replication opens, and every change carries
/// that number back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Receiver {
    /// From where to where data flow in its pair.
    pub flow: Flow,
    /// Its role.
    pub role: Role,
    /// Grows at every change of its role or activity.
    pub generation: u64,
    /// Whether its telephony runs, is being started, or belongs there.
    pub active: bool,
    /// Whether it has served since what it held newer was last carried to the serving node.
    pub owes: bool,
}

/// A guard refuses. In which state that leaves the replica is for whoever asked to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum Unwilling {
    /// Only a slave is a replica.
    #[error(
        "guard \"role\": the receiving node is {0}, and only a slave is replicated to; `configure slave` there lifts it"
    )]
    NotSlave(Role),
    /// What it has may be newer.
    #[error(
        "guard \"active\": telephony runs on the receiving node, and what it has may be newer; it is lifted when that stands by"
    )]
    Active,
    /// What it has may be newer.
    #[error(
        "guard \"carry\": what the receiving node holds newer has not been carried to the serving one yet; it is lifted \
         when that is done, which that node begins by itself while the other serves"
    )]
    Owes,
    /// It is not the node any more that it was at the opening.
    #[error(
        "guard \"stale\": the receiving node's generation is {now} and was {stated} at the opening: its role or activity changed meanwhile: run it again"
    )]
    Stale {
        /// At the opening.
        stated: u64,
        /// Now.
        now: u64,
    },
}

impl Receiver {
    /// Whether a replication that was opened at generation `stated` may change something here now.
    pub fn admits(&self, stated: u64) -> Result<(), Unwilling> {
        match (self.flow.reaches(self.role), self.active) {
            (false, _) => Err(Unwilling::NotSlave(self.role)),
            (true, true) => Err(Unwilling::Active),
            (true, false) if self.generation != stated => {
                Err(Unwilling::Stale { stated, now: self.generation })
            }
            (true, false) if self.owes => Err(Unwilling::Owes),
            (true, false) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_passive_slave_of_the_stated_generation_is_replicated_to_or_whoever_stands_by() {
        for (flow, role) in [Flow::Push, Flow::FromMaster, Flow::FromActive]
            .iter()
            .flat_map(|flow| Role::ALL.map(|role| (*flow, role)))
        {
            for (active, owes) in [(false, false), (false, true), (true, false), (true, true)] {
                for (generation, stated) in [(7, 7), (8, 7), (7, 8), (0, 0), (u64::MAX, 0)] {
                    let receiver = Receiver { flow, role, generation, active, owes };
                    let either = flow == Flow::FromActive && role == Role::Master;
                    let wanted = (role == Role::Slave || either) && !active && !owes && generation == stated;
                    assert_eq!(receiver.admits(stated).is_ok(), wanted, "{receiver:?}, {stated}");
                }
            }
        }
    }

    #[test]
    fn every_takeover_of_a_node_ends_the_replications_that_were_opened_before_it() {
        let before =
            Receiver { flow: Flow::Push, role: Role::Slave, generation: 4, active: false, owes: false };
        let serving = Receiver { generation: 5, active: true, ..before };
        let handed_back = Receiver { generation: 6, ..before };
        assert_eq!(before.admits(4), Ok(()));
        assert_eq!(serving.admits(4), Err(Unwilling::Active));
        assert_eq!(handed_back.admits(4), Err(Unwilling::Stale { stated: 4, now: 6 }));
    }
}
