//! When telephony has come to a node and to no other.
//!
//! A slave knows: it takes over. Only when its telephony was found running at the engine's start it waits until the master
//! is silent, for both may serve. A master that the slave took over from may have served all the time, or comes back from a
//! crash and knows nothing of it. But it sees whether the slave serves: its telephony answers, or it refuses a
//! replication for that reason, or takes one and has another generation than at the last, because it served while nobody
//! looked; and asked to stand by, it says so. When that is over while the master serves, telephony has come home; when it
//! begins again, telephony is not here alone any more, and what follows it is the slave's until then. A slave that is dead
//! when the master's machine comes up says nothing: then it counts as having served.
//!
//! Where the pair shares one address none of this is needed: telephony arrives with the address (`sharing.rs`).

use super::Node;
use crate::health::Verdict;
use crate::role::Role;

impl Node {
    /// Looks at the peer's verdict.
    pub(super) fn watch_the_peer(&mut self) {
        match self.role.role() {
            // with a shared address telephony arrives with the address
            _ if self.policy.exclusive.is_some() || self.machine.maintenance() => {}
            Role::Disabled => {}
            Role::Master => self.watch_the_slave(),
            Role::Slave => self.watch_the_master(),
        }
    }

    fn watch_the_master(&mut self) {
        let is_silent = match self.machine.verdict() {
            Verdict::Unknown | Verdict::Up => false,
            Verdict::Degraded | Verdict::Down => !self.machine.isolated(),
        };
        if is_silent && self.machine.active() {
            self.record.arrived.get_or_insert(self.now.wall);
        }
    }

    fn watch_the_slave(&mut self) {
        let verdict = self.machine.verdict();
        match verdict {
            Verdict::Up if self.slave_answers() => self.slave_serves(),
            Verdict::Up | Verdict::Unknown => {}
            // a node that hears nobody at all does not know who serves
            Verdict::Down if self.machine.isolated() => {}
            Verdict::Degraded | Verdict::Down => {
                // a slave that is gone cannot say whether it served while this machine was down
                self.record.peer_serves |= self.away && verdict == Verdict::Down;
                self.telephony_came_back();
            }
        }
        let tells = match verdict {
            Verdict::Unknown => false,
            Verdict::Up | Verdict::Degraded => true,
            Verdict::Down => !self.machine.isolated(),
        };
        self.away &= !tells;
    }

    /// The slave serves. A runbook that goes on here would undo what the slave's has done.
    pub(super) fn slave_serves(&mut self) {
        if self.role.role() == Role::Master && self.policy.exclusive.is_none() {
            self.record.peer_serves = true;
            self.record.arrived = None;
        }
    }

    /// A slave of this generation has taken a replication, which none does that serves.
    pub(super) fn slave_was_heard(&mut self, generation: u64) {
        if self.policy.exclusive.is_some() {
            return;
        }
        let before = self.record.peer_generation.replace(generation);
        self.record.peer_serves |= before.is_some_and(|before| before != generation);
        self.slave_rests();
        self.record.peer_generation = Some(generation);
    }

    /// The slave says that it rests. Where its telephony was heard a moment ago, its silence is waited for: heard again,
    /// it would count as serving once more.
    pub(super) fn slave_rests(&mut self) {
        if self.role.role() == Role::Master && !self.slave_answers() {
            self.telephony_came_back();
        }
    }

    fn slave_answers(&self) -> bool {
        self.machine.verdict() == Verdict::Up && self.machine.ladder().telephony_answers()
    }

    /// The slave does not serve, or is gone: if it did, and this master serves, telephony has come here.
    fn telephony_came_back(&mut self) {
        if self.record.peer_serves && self.machine.active() {
            self.record.peer_serves = false;
            self.record.arrived = Some(self.now.wall);
            // the slave's next one tells of this return, not of another
            self.record.peer_generation = None;
        }
    }
}
