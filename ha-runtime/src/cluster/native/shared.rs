//! What the thread and the engine tell each other: words that are read and written whole, so neither waits for the other.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use ha_core::cluster::beat::Act;
use ha_core::cluster::native::{Native, Remembered};
use ha_core::cluster::{Standing, View};
use ha_core::health::Verdict;
use rustix::event::{EventfdFlags, eventfd};

/// What the thread is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Order {
    HandOver = 1,
    Leave = 2,
    Stop = 4,
}

/// Wakes a thread.
#[derive(Debug)]
pub(super) struct Bell(OwnedFd);

impl Bell {
    /// `waits`: whoever [listens](Bell::listen) waits until it rings.
    pub(super) fn new(waits: bool) -> io::Result<Bell> {
        let flags = if waits { EventfdFlags::empty() } else { EventfdFlags::NONBLOCK };
        Ok(Bell(eventfd(0, EventfdFlags::CLOEXEC | flags)?))
    }

    pub(super) fn ring(&self) {
        // it fails only when the counter is full, and then the other one is awake
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    pub(super) fn listen(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What is known of one path.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) peer: IpAddr,
    pub(super) at: Time,
}

/// A point on `CLOCK_BOOTTIME`, or none.
#[derive(Debug, Default)]
pub(super) struct Time(AtomicU64);

impl Time {
    pub(super) fn set(&self, time: Option<Duration>) {
        let nanoseconds = time.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        self.0.store(nanoseconds, Ordering::Release);
    }

    pub(super) fn get(&self) -> Option<Duration> {
        Some(self.0.load(Ordering::Acquire)).filter(|time| *time != 0).map(Duration::from_nanos)
    }
}

/// How often something was so.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn up(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Both directions.
#[derive(Debug)]
pub(super) struct Shared {
    /// To the thread.
    pub(super) bell: Bell,
    orders: AtomicU8,
    standing: AtomicU8,
    pub(super) turned: Time,
    /// From the thread, through the one that speaks for it.
    pub(super) voice: Bell,
    view: AtomicU64,
    remembered: AtomicU64,
    act: AtomicU8,
    pub(super) held_until: Time,
    /// The longest that was to be waited for the other node's lease.
    pub(super) wait: Time,
    pub(super) owner_seen: Time,
    pub(super) paths: Box<[Heard]>,
    /// What came over a path and was no beat of the other node.
    pub(super) foreign: Count,
    pub(super) gate_lost: Count,
    pub(super) refused: Count,
    pub(super) real_time: AtomicBool,
    pub(super) locked: AtomicBool,
    pub(super) ended: AtomicBool,
}

impl Shared {
    pub(super) fn new(peers: &[IpAddr], remembered: Remembered) -> io::Result<Shared> {
        let heard = |peer: &IpAddr| Heard { peer: *peer, at: Time::default() };
        Ok(Shared {
            bell: Bell::new(false)?,
            orders: AtomicU8::new(0),
            standing: AtomicU8::new(0),
            turned: Time::default(),
            voice: Bell::new(true)?,
            view: AtomicU64::new(packed(View::FIRST)),
            remembered: AtomicU64::new(noted(remembered)),
            act: AtomicU8::new(0),
            held_until: Time::default(),
            wait: Time::default(),
            owner_seen: Time::default(),
            paths: peers.iter().map(heard).collect(),
            foreign: Count::default(),
            gate_lost: Count::default(),
            refused: Count::default(),
            real_time: AtomicBool::new(false),
            locked: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        })
    }

    pub(super) fn order(&self, order: Order) {
        self.orders.fetch_or(order as u8, Ordering::AcqRel);
        self.bell.ring();
    }

    /// What was ordered since this was asked last.
    pub(super) fn take_orders(&self) -> impl Fn(Order) -> bool + use<> {
        let orders = self.orders.swap(0, Ordering::AcqRel);
        move |order| orders & order as u8 != 0
    }

    pub(super) fn set_standing(&self, standing: Standing) {
        let Standing { able, carrying, maintenance } = standing;
        let bits = u8::from(able) | u8::from(carrying) << 1 | u8::from(maintenance) << 2;
        if self.standing.swap(bits, Ordering::AcqRel) != bits {
            self.bell.ring();
        }
    }

    pub(super) fn standing(&self) -> Standing {
        let bits = self.standing.load(Ordering::Acquire);
        Standing { able: bits & 1 != 0, carrying: bits & 2 != 0, maintenance: bits & 4 != 0 }
    }

    /// What the engine may know of a node; rings when it has changed.
    pub(super) fn publish(&self, machine: &Native) {
        self.held_until.set(machine.held_until());
        self.wait.set(self.wait.get().max(Some(machine.wait())));
        let act = machine.act() as u8;
        let (view, remembered) = (packed(machine.view()), noted(machine.remembered()));
        let changed = self.act.swap(act, Ordering::AcqRel) != act
            || self.remembered.load(Ordering::Acquire) != remembered;
        self.remembered.store(remembered, Ordering::Release);
        if self.view.swap(view, Ordering::AcqRel) != view || changed {
            self.voice.ring();
        }
    }

    /// The thread has ended, however that came.
    pub(super) fn end(&self) {
        self.held_until.set(None);
        self.act.store(Act::Rests as u8, Ordering::Release);
        let view = View { held: false, ..self.view() };
        self.view.store(packed(view), Ordering::Release);
        self.ended.store(true, Ordering::Release);
        self.voice.ring();
    }

    pub(super) fn view(&self) -> View {
        unpacked(self.view.load(Ordering::Acquire))
    }

    pub(super) fn remembered(&self) -> Remembered {
        let bits = self.remembered.load(Ordering::Acquire);
        Remembered { epoch: bits >> 1, active: bits & 1 != 0 }
    }

    pub(super) fn act(&self) -> &'static str {
        let acts = ["rests", "claims", "takes", "holds", "offers", "gives"];
        acts.get(usize::from(self.act.load(Ordering::Acquire))).copied().unwrap_or("rests")
    }
}

/// An epoch grows by one with each takeover: there are always enough.
fn noted(remembered: Remembered) -> u64 {
    remembered.epoch << 1 | u64::from(remembered.active)
}

fn packed(view: View) -> u64 {
    let View { held, peer, isolated, failed_handovers, ended } = view;
    let peer = match peer {
        Verdict::Unknown => 0,
        Verdict::Up => 1,
        Verdict::Degraded => 2,
        Verdict::Down => 3,
    };
    u64::from(failed_handovers) << 32
        | u64::from(ended) << 4
        | peer << 2
        | u64::from(isolated) << 1
        | u64::from(held)
}

fn unpacked(bits: u64) -> View {
    let peer = match bits >> 2 & 3 {
        0 => Verdict::Unknown,
        1 => Verdict::Up,
        2 => Verdict::Degraded,
        _ => Verdict::Down,
    };
    let failed_handovers = u32::try_from(bits >> 32).unwrap_or(u32::MAX);
    View { held: bits & 1 != 0, peer, isolated: bits & 2 != 0, failed_handovers, ended: bits & 16 != 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_view_comes_back_from_its_word() {
        for held in [false, true] {
            for peer in [Verdict::Unknown, Verdict::Up, Verdict::Degraded, Verdict::Down] {
                for isolated in [false, true] {
                    for failed_handovers in [0, 1, u32::MAX] {
                        for ended in [false, true] {
                            let view = View { held, peer, isolated, failed_handovers, ended };
                            assert_eq!(unpacked(packed(view)), view);
                        }
                    }
                }
            }
        }
    }
}
