//! From which node data flow to which, and who opens the way.

use thiserror::Error;

use crate::profile::Direction;
use crate::role::Role;

/// From which node data flow to which, and who opens the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flow {
    /// The master sends to its slave (Wazo, XiVO).
    Push,
    /// The slave fetches from its master, whichever of them serves (SARK's page).
    FromMaster,
    /// Whoever stands by fetches from whoever serves (`safety.md` 7).
    FromActive,
}

/// A node refuses to be fetched from. Nothing was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum Reluctant {
    /// Its distribution's master sends.
    #[error("guard \"direction\": nothing is fetched from a node of this distribution: its master sends")]
    Pushes,
    /// What it has is not what the other is to have.
    #[error(
        "guard \"role\": the node to be fetched from is {0}, and only a master is; `configure master` there lifts it"
    )]
    NotMaster(Role),
    /// What it has may be older.
    #[error(
        "guard \"passive\": the node to be fetched from does not serve, and what it has may be older; it is lifted when \
         telephony runs there"
    )]
    Passive,
}

impl Flow {
    /// What a distribution and a preset make of it.
    pub fn of(direction: Direction, seed: bool) -> Flow {
        match (direction, seed) {
            (Direction::Push, _) => Flow::Push,
            (Direction::Pull, true) => Flow::FromMaster,
            (Direction::Pull, false) => Flow::FromActive,
        }
    }

    /// Whether the receiver opens the way.
    pub fn is_pull(self) -> bool {
        match self {
            Flow::Push => false,
            Flow::FromMaster | Flow::FromActive => true,
        }
    }

    /// Whether the other node logs in to one of that role.
    pub fn is_logged_in_to(self, role: Role) -> bool {
        match (self, role) {
            (_, Role::Disabled) | (Flow::Push, Role::Master) | (Flow::FromMaster, Role::Slave) => false,
            (Flow::Push, Role::Slave) | (Flow::FromMaster, Role::Master) => true,
            (Flow::FromActive, Role::Master | Role::Slave) => true,
        }
    }

    /// Whether a node of that role may be replicated to, while it stands by.
    pub fn reaches(self, role: Role) -> bool {
        match (self, role) {
            (_, Role::Disabled) | (Flow::Push | Flow::FromMaster, Role::Master) => false,
            (_, Role::Slave) | (Flow::FromActive, Role::Master) => true,
        }
    }

    /// Whether what the other node holds newer may be carried to a node: only to one that serves, since the other is made
    /// equal to it afterwards.
    pub fn carried_to(self, role: Role, active: bool) -> Result<(), Reluctant> {
        match (self, role, active) {
            (Flow::Push, ..) => Err(Reluctant::Pushes),
            (Flow::FromMaster | Flow::FromActive, _, false) => Err(Reluctant::Passive),
            (Flow::FromMaster | Flow::FromActive, _, true) => self.source(role, active),
        }
    }

    /// Whether a node may be fetched from.
    pub fn source(self, role: Role, active: bool) -> Result<(), Reluctant> {
        match (self, role, active) {
            (Flow::Push, ..) => Err(Reluctant::Pushes),
            (Flow::FromMaster, Role::Master, _) => Ok(()),
            (Flow::FromMaster, Role::Slave | Role::Disabled, _) => Err(Reluctant::NotMaster(role)),
            (Flow::FromActive, Role::Disabled, _) => Err(Reluctant::NotMaster(role)),
            (Flow::FromActive, Role::Master | Role::Slave, false) => Err(Reluctant::Passive),
            (Flow::FromActive, Role::Master | Role::Slave, true) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_never_flow_both_ways_between_two_nodes() {
        let pairs = [(Role::Master, Role::Slave), (Role::Slave, Role::Master)];
        for flow in [Flow::FromMaster, Flow::FromActive] {
            for (here, there) in pairs {
                for (here_active, there_active) in [(true, false), (false, true), (false, false)] {
                    let comes = |from: Role, from_active: bool, to: Role, to_active: bool| {
                        flow.source(from, from_active).is_ok() && flow.reaches(to) && !to_active
                    };
                    let both = comes(here, here_active, there, there_active)
                        && comes(there, there_active, here, here_active);
                    assert!(!both, "{flow:?} {here} {here_active} {there_active}");
                }
            }
        }
    }

    #[test]
    fn a_passive_node_is_fetched_from_only_as_the_documents_have_it() {
        assert_eq!(Flow::FromActive.source(Role::Slave, true), Ok(()));
        assert_eq!(Flow::FromActive.source(Role::Master, false), Err(Reluctant::Passive));
        assert_eq!(Flow::FromMaster.source(Role::Master, false), Ok(()));
        assert_eq!(Flow::FromMaster.source(Role::Slave, true), Err(Reluctant::NotMaster(Role::Slave)));
        for flow in [Flow::FromMaster, Flow::FromActive] {
            assert_eq!(flow.carried_to(Role::Master, false), Err(Reluctant::Passive));
            assert_eq!(flow.carried_to(Role::Master, true), Ok(()));
        }
        for (role, active) in Role::ALL.into_iter().flat_map(|role| [(role, false), (role, true)]) {
            assert_eq!(Flow::Push.source(role, active), Err(Reluctant::Pushes));
            assert_eq!(Flow::Push.carried_to(role, active), Err(Reluctant::Pushes));
        }
    }
}
