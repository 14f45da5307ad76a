//! What people and the peer ask of a node, and what it refuses.

use super::Node;
use crate::event::{Command, Output, Refusal};
use crate::failback::LastingDeadline;
use crate::health::Verdict;
use crate::machine::Event;
use crate::role::{Role, RoleConfig};
use crate::services::Observed;
use crate::transition::Address;

impl Node {
    pub(super) fn command(&mut self, command: Command, out: &mut Vec<Output>) {
        if let Some(refusal) = self.refuses(&command) {
            out.push(Output::Refused(refusal));
            return;
        }
        match command {
            Command::SetRole { role, observed } => self.set_role(role, observed, out),
            Command::TakeOver => self.step(Event::TakeOver, out),
            Command::StandBy => self.step(Event::StandBy, out),
            Command::Yield => self.step(Event::Yield, out),
            Command::Resume => self.step(Event::Resume, out),
            Command::HandOver | Command::HandBack => {
                self.announce_request(out);
                self.step(Event::HandOver, out);
            }
            Command::Maintenance { lasts } => {
                self.maintenance = lasts.map(|lasts| LastingDeadline::after(self.now, lasts));
                self.step(Event::Maintenance(lasts.is_some()), out);
            }
            Command::Acknowledge => {
                self.record.failovers.clear();
                self.step(Event::Acknowledge, out);
                self.alert("latched", false, out, String::new);
                self.alert("handover-failed", false, out, String::new);
            }
            Command::Replicate => self.replicate(false, out),
            Command::Follow => self.record.arrived = Some(self.now.wall),
        }
    }

    pub(super) fn refuses(&self, command: &Command) -> Option<Refusal> {
        let role = self.role.role();
        let wants = match command {
            Command::TakeOver | Command::StandBy => Role::Slave,
            Command::Yield | Command::Resume => Role::Master,
            Command::Replicate if self.replicates() => role,
            Command::Replicate if self.policy.flow.is_pull() => Role::Slave,
            Command::Replicate => Role::Master,
            Command::SetRole { .. }
            | Command::Maintenance { .. }
            | Command::Acknowledge
            | Command::HandOver
            | Command::HandBack
            | Command::Follow => role,
        };
        if role != wants {
            return Some(Refusal::Role { is: role, wants });
        }
        if matches!(command, Command::HandOver | Command::HandBack) {
            return self.refuses_to_hand_over(matches!(command, Command::HandBack));
        }
        let verdict = self.machine.verdict();
        let moves =
            matches!(command, Command::TakeOver | Command::StandBy | Command::Yield | Command::Resume);
        match command {
            Command::Follow if self.machine.maintenance() => Some(Refusal::Maintenance),
            Command::Follow if !self.machine.active() || self.record.peer_serves => {
                Some(Refusal::ServesElsewhere)
            }
            _ if moves && self.policy.exclusive.is_some() => Some(Refusal::SharedAddress),
            _ if moves && self.machine.maintenance() => Some(Refusal::Maintenance),
            Command::TakeOver if self.machine.isolated() => Some(Refusal::Isolated),
            Command::StandBy if verdict == Verdict::Down => Some(Refusal::NotReady { verdict }),
            Command::Replicate if self.policy.flow.is_pull() && self.serves_itself() => {
                Some(Refusal::ServesItself)
            }
            Command::Replicate if !self.policy.flow.is_pull() && !self.machine.active() => {
                Some(Refusal::Yielded)
            }
            Command::Replicate if self.replicating.is_running() => Some(Refusal::Replicating),
            Command::Replicate if verdict == Verdict::Down => Some(Refusal::PeerDown),
            _ => None,
        }
    }

    fn refuses_to_hand_over(&self, back: bool) -> Option<Refusal> {
        let verdict = self.machine.verdict();
        let is_at_home = back && self.role.role() == Role::Master;
        match self.machine.address() {
            Address::Own => Some(Refusal::OwnAddress),
            _ if self.role.role() == Role::Disabled => Some(Refusal::OwnAddress),
            Address::Unknown | Address::Elsewhere => Some(Refusal::ServesElsewhere),
            Address::Held if is_at_home => Some(Refusal::AtHome),
            Address::Held if self.machine.maintenance() => Some(Refusal::Maintenance),
            Address::Held if self.machine.handing_over() => Some(Refusal::HandingOver),
            Address::Held if verdict != Verdict::Up => Some(Refusal::OtherNotReady { verdict }),
            Address::Held => None,
        }
    }

    /// Why telephony may not be started here by hand; `None`: no address says so.
    pub fn refuses_to_start(&self) -> Option<Refusal> {
        match self.machine.address() {
            Address::Elsewhere if self.role.role() != Role::Disabled => Some(Refusal::AddressElsewhere),
            Address::Own | Address::Unknown | Address::Held | Address::Elsewhere => None,
        }
    }

    /// The handover changes no activity before the address has left, so what was asked for is said now.
    fn announce_request(&mut self, out: &mut Vec<Output>) {
        let (id, why) = command_row(Event::HandOver);
        self.announce(id, why, self.machine.situation().from, self.machine.verdict(), out);
    }

    /// Another role, or another peer: everything that was known about the old pair is forgotten, except the generation.
    /// The same role again forgets nothing: a latch, a maintenance or a handover are not undone by `configure`.
    pub(super) fn set_role(&mut self, role: RoleConfig, observed: Observed, out: &mut Vec<Output>) {
        if role == self.role {
            return self.step(Event::Observed(observed), out);
        }
        let record = Node::begin(&self.policy, &role, self.record.generation + 1, self.now);
        let (ids, alerts) = (self.ids, std::mem::take(&mut self.alerts));
        let sharing = self.sharing.anew();
        *self = Node::assemble(self.policy.clone(), role, record, observed, self.now);
        // ids go on, so that a report about the old role's probes or actions names nothing
        self.ids = ids;
        self.sharing = sharing;
        for key in alerts {
            out.push(Output::Alert { key, raised: false, text: String::new() });
        }
        self.step(Event::Observed(observed), out);
    }
}

/// The rows of commands, which the table of verdicts does not have.
pub(super) fn command_row(event: Event) -> (&'static str, &'static str) {
    match event {
        Event::TakeOver => ("C1", "the master hands telephony over: serve"),
        Event::StandBy => ("C2", "the master serves again by request: stand by"),
        Event::Yield => ("C3", "telephony was handed over to the slave by request: stand by"),
        Event::HandOver => ("C5", "the address is handed over by request"),
        _ => ("C4", "telephony was asked back by request: serve"),
    }
}
