//! What operators and metrics see of a node.

use std::time::Duration;

use super::{ChangeWaits, Node};
use crate::distribution::ServiceState;
use crate::event::{Decision, Record};
use crate::health::{Rung, RungVerdict, Verdict};
use crate::role::RoleConfig;
use crate::services::Observed;
use crate::transition::{Address, Guard};
use crate::watchdog::Health;

/// What operators and metrics see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The role with its peer.
    pub role: RoleConfig,
    /// The record in force.
    pub record: Record,
    /// The verdict on the peer.
    pub peer: Verdict,
    /// What each rung says.
    pub rungs: Vec<(Rung, RungVerdict)>,
    /// The peer and all references are silent.
    pub isolated: bool,
    /// What is seen of telephony here.
    pub observed: Observed,
    /// The action under way.
    pub in_flight: Option<ServiceState>,
    /// Failures in a row of the wanted action.
    pub failures: u8,
    /// The last decision; `None` before the first.
    pub decision: Option<Decision>,
    /// What is in the way of failback, most important first.
    pub failback_blocked_by: Vec<Guard>,
    /// When hold and hold-down will be over, if nothing changes.
    pub failback_ready_in: Option<Duration>,
    /// The word of the failback policy.
    pub failback_policy: &'static str,
    /// Whether the address that the pair shares is here; `None`: it shares none, or its cluster has not said it yet.
    pub address_held: Option<bool>,
    /// The cluster was asked to hand it over, and has not answered.
    pub handing_over: bool,
    /// What the watchdog says of telephony here; `None`: it does not run here, or nobody looks after it.
    pub health: Option<Health>,
    /// Why a change is not on the slave yet; `None`: no change is known that is not.
    pub change_waits: Option<ChangeWaits>,
    /// What this node holds newer is to be carried to the serving one before anything is fetched.
    pub owes: bool,
}

impl Node {
    /// What operators see.
    pub fn status(&self) -> Status {
        let services = self.machine.services();
        let hold = self.hold_at.map(|at| at - self.now.mono);
        let hold_down = self.hold_down.map(|deadline| deadline.left(self.now));
        let blocked_by = self.machine.failback_blocked_by();
        let timed = blocked_by.iter().all(|guard| matches!(guard, Guard::Hold | Guard::HoldDown));
        let knows = self.machine.verdict() == Verdict::Up && timed && !blocked_by.is_empty();
        Status {
            role: self.role,
            record: self.record.clone(),
            peer: self.machine.verdict(),
            rungs: self
                .machine
                .ladder()
                .rungs()
                .iter()
                .map(|(rung, state)| (*rung, state.verdict()))
                .collect(),
            isolated: self.machine.isolated(),
            observed: services.observed(),
            in_flight: services.in_flight(),
            failures: services.failures(),
            decision: self.decision.clone(),
            failback_ready_in: knows.then(|| hold.unwrap_or_default().max(hold_down.unwrap_or_default())),
            failback_blocked_by: blocked_by,
            failback_policy: self.policy.failback.policy.word(),
            address_held: match self.machine.address() {
                Address::Own | Address::Unknown => None,
                Address::Held => Some(true),
                Address::Elsewhere => Some(false),
            },
            handing_over: self.machine.handing_over(),
            health: self.health(),
            change_waits: self.change_waits(),
            owes: self.owes(),
        }
    }
}
