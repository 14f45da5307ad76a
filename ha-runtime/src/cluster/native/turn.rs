//! The thread: one turn after the other.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ha_core::cluster::Standing;
use ha_core::cluster::beat::{Act, Beat, Stamp};
use ha_core::cluster::native::{Action, Event, Native, Remembered};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::key::{DATAGRAM, Key};
use super::path::Path;
use super::references::References;
use super::shared::{Order, Shared};
use super::{Setup, StartError, realtime};
use crate::clock::boottime;
use crate::cluster::address::Address;
use crate::cluster::announce::Announcer;
use crate::cluster::gate::{Disturbance, Gate, GateError};

/// Datagrams that are read from a path in one go: as many as a socket has room for.
const DRAIN: usize = 512;
/// The address on the interface is good for so long, and is renewed so often: the second line (`safety.md` 5.5).
const VALID: Duration = Duration::from_secs(3);
const REFRESH: Duration = Duration::from_secs(1);
/// What failed is tried again so often.
const AGAIN: Duration = Duration::from_secs(1);
/// A holder contradicts another one who speaks for the address at most so often.
const CONTRADICT: Duration = Duration::from_secs(1);

/// Runs the machine.
#[derive(Debug)]
pub(super) struct Keeper {
    setup: Setup,
    key: Key,
    machine: Native,
    gate: Gate,
    address: Address,
    announcer: Option<Announcer>,
    paths: Vec<Path>,
    references: References,
    shared: Arc<Shared>,
    actions: Vec<Action>,
    agenda: VecDeque<Event>,
    standing: Option<Standing>,
    turned: Option<Stamp>,
    /// The machine wants a permit.
    permit: bool,
    /// When the last one was taken out.
    permitted: Stamp,
    /// The gate is not what was made, since it was last tried to make it anew.
    broken: Option<Stamp>,
    /// The address is to be on the interface, where it was put then.
    refreshed: Option<Stamp>,
    contradicted: Stamp,
    leaving: bool,
}

/// Says that the thread has ended, also when it panics.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Keeper {
    /// Closes the gate before anything else.
    pub(super) fn new(
        setup: Setup,
        key: Key,
        remembered: Remembered,
        shared: Arc<Shared>,
    ) -> Result<Keeper, StartError> {
        let mut gate = Gate::new(setup.address, &setup.interface)?;
        gate.build()?;
        let mut address = Address::new(setup.address, &setup.interface)?;
        address.withdraw()?;
        let machine = machine(&setup, remembered)
            .map_err(|source| StartError::System { action: "draw a random number", source })?;
        Ok(Keeper {
            announcer: Announcer::open(setup.address, &setup.interface, address.link()).ok(),
            paths: setup.paths.iter().map(|peer| Path::new(*peer, setup.port)).collect(),
            references: References::new(setup.references.clone(), &setup.interface),
            key,
            machine,
            gate,
            address,
            shared,
            actions: Vec::with_capacity(16),
            agenda: VecDeque::with_capacity(16),
            standing: None,
            turned: None,
            permit: false,
            permitted: Duration::ZERO,
            broken: None,
            refreshed: None,
            contradicted: Duration::ZERO,
            leaving: false,
            setup,
        })
    }

    /// Until it is told to end.
    pub(super) fn run(mut self) {
        let _ending = Ending(Arc::clone(&self.shared));
        self.shared.real_time.store(realtime::hurry(), Ordering::Release);
        self.shared.locked.store(realtime::lock(), Ordering::Release);
        self.tell(Event::Link(self.address.link().carrier));
        while self.turn() {
            self.wait();
        }
        // nothing of it is left but a gate that is closed
        let _ = self.gate.close();
        let _ = self.address.withdraw();
    }

    /// Everything that has happened; false: it is over.
    fn turn(&mut self) -> bool {
        self.hear();
        self.look_at_gate();
        self.look_at_interface();
        self.look_for_owner();
        if let Some(asked) = self.references.answered(boottime()) {
            self.tell(Event::Answered { asked });
        }
        if !self.obey() {
            return false;
        }
        self.tell(Event::Tick);
        self.prolong();
        self.refresh();
        self.shared.publish(&self.machine);
        !(self.leaving && self.machine.act() == Act::Rests)
    }

    /// Until something happens, or the machine wants to know the time.
    fn wait(&self) {
        let mut until = self.machine.deadline();
        if self.permit {
            until = until.min(self.permitted + self.setup.terms.beat / 2);
        }
        if let Some(at) = self.refreshed {
            until = until.min(at + REFRESH);
        }
        let left = until.saturating_sub(boottime());
        let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        let fixed = [self.shared.bell.as_fd(), self.gate.as_fd(), self.address.as_fd()];
        let announcer = self.announcer.as_ref().map(AsFd::as_fd);
        let paths = self.paths.iter().filter_map(Path::fd);
        let all = fixed.into_iter().chain(announcer).chain(paths).chain(self.references.fds());
        let mut fds: Vec<PollFd<'_>> = all.map(readable).collect();
        // what failed is looked at like what was woken
        let _ = poll(&mut fds, Some(&timeout));
    }

    /// Tells the machine, and does what it asks for.
    fn tell(&mut self, event: Event) {
        self.tell_at(boottime(), event);
    }

    fn tell_at(&mut self, now: Stamp, event: Event) {
        let mut next = Some((now, event));
        while let Some((now, event)) = next {
            let mut actions = std::mem::take(&mut self.actions);
            self.machine.handle(now, event, &mut actions);
            actions.drain(..).for_each(|action| self.perform(action));
            self.actions = actions;
            next = self.agenda.pop_front().map(|event| (boottime(), event));
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Send => {
                let beat = self.machine.beat(boottime());
                let datagram = self.key.seal(&beat.encode());
                self.paths.iter_mut().for_each(|path| path.send(&datagram));
            }
            Action::Ask => self.references.ask(boottime()),
            // what cannot be said now is said again, or not wanted any more
            Action::ProbeOwner => drop(self.announcer().map(Announcer::ask)),
            Action::Announce => drop(self.announcer().map(Announcer::announce)),
            Action::Permit => self.permit = true,
            Action::Grant { lasts, first } => {
                call("grant");
                let granted = if first { self.gate.open(lasts) } else { self.gate.renew(lasts) };
                if matches!(granted, Err(GateError::Refused(_))) {
                    self.shared.refused.up();
                }
                call("granted");
                self.agenda.push_back(Event::Granted(granted.is_ok()));
            }
            Action::Close => {
                if self.gate.close().is_err() {
                    // anew, it is closed
                    self.rebuild();
                }
                self.agenda.push_back(Event::Closed);
            }
            Action::Hold => {
                self.refreshed = Some(boottime());
                let _ = self.address.hold(VALID);
            }
            Action::Drop => {
                self.refreshed = None;
                // else it runs out
                let _ = self.address.withdraw();
            }
            // it is published, and written down by whoever may wait for a disk
            Action::Remember(_) => {}
            Action::StartOver => self.start_over(),
        }
    }

    /// Every beat that has come.
    fn hear(&mut self) {
        for index in 0..self.paths.len() {
            for _ in 0..DRAIN {
                let mut inbox = [0; DATAGRAM + 1];
                let Some(datagram) = self.paths[index].receive(&mut inbox) else { break };
                let beat = self.key.open(datagram).map(Beat::decode);
                let Some(Ok(beat)) = beat else {
                    self.shared.foreign.up();
                    continue;
                };
                // after it was read: it cannot have come later
                let received = boottime();
                if let Some(heard) = self.shared.paths.get(index) {
                    heard.at.set(Some(received));
                }
                self.tell_at(received, Event::Beat { beat, received });
            }
        }
    }

    /// Takes out the permit that is wanted, and has the machine decide by what has come until then.
    fn prolong(&mut self) {
        // a holder that is alone could go on without end
        let paced = self.machine.act() != Act::Takes;
        if !self.permit || paced && boottime() < self.permitted + self.setup.terms.beat / 2 {
            return;
        }
        self.permit = false;
        self.permitted = boottime();
        call("permit");
        let permitted = self.gate.permit(self.setup.terms.permit).is_ok();
        call("clock");
        let now = boottime();
        call("drain");
        self.hear();
        self.tell_at(now, Event::Permitted(permitted));
    }

    /// Somebody has taken the gate's tables away, or changed them.
    fn look_at_gate(&mut self) {
        let disturbance = self.gate.disturbance();
        let lost = !matches!(disturbance, Ok(None));
        if lost {
            self.shared.gate_lost.up();
        }
        let has_owned = matches!(disturbance, Ok(Some(Disturbance::Changed { .. }))) && self.broken.is_none();
        if has_owned && self.mend() {
            return;
        }
        let again = self.broken.is_some_and(|tried| boottime() >= tried + AGAIN);
        if lost || again {
            self.rebuild();
            self.tell(Event::GateLost);
        }
    }

    /// Makes the plain copy anew while the owned one is there; false: that cannot be.
    ///
    /// The address is not withdrawn for it, nor let go, as it is where the owned copy may be gone as well (`safety.md` 5.5). A
    /// packet must pass both copies, and nobody but the kernel can change the owned one: all the while the gate was open for
    /// no longer than the lease in there. The plain copy is made closed, and opens by a grant like any other, with a permit
    /// and the clock read after it: the kernel refuses it once the owned copy's lease has run out. It lasts no longer than a
    /// permit beyond what the address was held for before, as every grant may, which the margin covers. Should this process
    /// die between the change and here, which takes the owned copy along, the address runs out as it would have before it could
    /// be withdrawn.
    fn mend(&mut self) -> bool {
        call("mend");
        if self.gate.mend().is_err() {
            return false;
        }
        if self.machine.held_until().is_none() {
            return true;
        }
        call("mend-permit");
        if self.gate.permit(self.setup.terms.permit).is_err() {
            return false;
        }
        call("mend-clock");
        let now = boottime();
        self.hear();
        // what was heard may have made it let go: then both copies are closed
        let Some(until) = self.machine.held_until() else { return true };
        if now >= until {
            return false;
        }
        call("mend-grant");
        let reopened = self.gate.reopen(until - now);
        if matches!(reopened, Err(GateError::Refused(_))) {
            self.shared.refused.up();
        }
        reopened.is_ok()
    }

    /// The address goes before the gate is made anew, closed.
    fn rebuild(&mut self) {
        self.refreshed = None;
        let _ = self.address.withdraw();
        self.broken = self.gate.build().is_err().then(boottime);
    }

    fn look_at_interface(&mut self) {
        let before = self.address.link();
        let Ok(changes) = self.address.changes() else { return };
        if let Some(link) = changes.link {
            if (link.index, link.hardware) != (before.index, before.hardware) {
                self.announcer = None;
                self.references.reopen();
                // the gate has a hook of the interface that is gone
                self.rebuild();
                self.tell(Event::GateLost);
            }
            self.tell(Event::Link(link.carrier));
        }
        if changes.removed && self.refreshed.is_some() {
            let _ = self.address.hold(VALID);
            let _ = self.announcer().map(Announcer::announce);
        }
    }

    fn look_for_owner(&mut self) {
        let mut seen = false;
        if let Some(announcer) = &self.announcer {
            for _ in 0..DRAIN {
                match announcer.heard() {
                    Ok(Some(_)) => seen = true,
                    Ok(None) | Err(_) => break,
                }
            }
        }
        let now = boottime();
        if !seen {
            return;
        }
        self.shared.owner_seen.set(Some(now));
        let holds = self.machine.held_until().is_some();
        if !holds || now >= self.contradicted + CONTRADICT {
            self.contradicted = now;
            self.tell(Event::OwnerSeen);
        }
    }

    /// Does what was ordered; false: at once.
    fn obey(&mut self) -> bool {
        self.shared.bell.listen();
        let standing = self.shared.standing();
        if self.standing != Some(standing) {
            self.standing = Some(standing);
            self.tell(Event::Standing(standing));
        }
        let turned = self.shared.turned.get();
        if let Some(time) = turned.filter(|_| turned != self.turned) {
            self.turned = turned;
            self.tell(Event::LoopTurned(time));
        }
        let ordered = self.shared.take_orders();
        if ordered(Order::HandOver) {
            self.tell(Event::HandOver);
        }
        if ordered(Order::Leave) {
            self.leaving = true;
            self.tell(Event::Leave);
        }
        !ordered(Order::Stop)
    }

    /// Keeps the address on the interface while it is held.
    fn refresh(&mut self) {
        let now = boottime();
        if self.refreshed.is_some_and(|at| now >= at + REFRESH) && self.machine.held_until().is_some() {
            self.refreshed = Some(now);
            let _ = self.address.hold(VALID);
        }
    }

    fn announcer(&mut self) -> Option<&Announcer> {
        if self.announcer.is_none() {
            let Setup { address, interface, .. } = &self.setup;
            self.announcer = Announcer::open(*address, interface, self.address.link()).ok();
        }
        self.announcer.as_ref()
    }

    /// The machine was set back to an earlier state: as if the engine had just been started.
    fn start_over(&mut self) {
        self.rebuild();
        self.agenda.clear();
        self.permit = false;
        // without a random number nothing is begun: the other node says again what made this necessary
        if let Ok(machine) = machine(&self.setup, self.machine.remembered()) {
            self.machine = machine;
            self.standing = None;
            self.turned = None;
            self.agenda.push_back(Event::Link(self.address.link().carrier));
        }
    }
}

/// Between any two of these calls the machine may stand still; a test has it do so.
#[inline]
fn call(_name: &str) {
    #[cfg(test)]
    crate::cluster::tests::native::process::call(_name);
}

fn readable(fd: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::from_borrowed_fd(fd, PollFlags::IN)
}

/// A node with a session of its own.
fn machine(setup: &Setup, remembered: Remembered) -> io::Result<Native> {
    let mut session = [0; 8];
    getrandom::fill(&mut session).map_err(io::Error::other)?;
    // 0 is nobody's
    let session = u64::from_ne_bytes(session).max(1);
    Ok(Native::new(setup.config(), session, remembered, boottime()))
}
