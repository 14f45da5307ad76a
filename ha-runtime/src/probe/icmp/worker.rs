//! The thread: sends what is ordered, reads what comes, gives up what is late.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio::sync::oneshot;

use super::outstanding::Outstanding;
use super::packet;
use super::socket::{Socket, Sockets};
use crate::probe::ProbeOutcome;

/// How many packets of one socket are read before time-outs and orders have their turn: a raw socket is served all ICMP of the
/// machine, and a flood of it must not stop the clock.
const PACKETS_A_TURN: usize = 256;

/// One probe to send.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) target: IpAddr,
    pub(super) deadline: Instant,
    pub(super) reply: oneshot::Sender<ProbeOutcome>,
}

/// What the thread owns.
#[derive(Debug)]
pub(super) struct Worker {
    sockets: Sockets,
    wake: Arc<OwnedFd>,
    orders: Receiver<Order>,
    outstanding: Outstanding,
}

/// Makes the thread look at its orders.
pub(super) fn wake(fd: &OwnedFd) {
    // it fails only when the counter is full, and then the thread is awake
    let _ = rustix::io::write(fd, &1u64.to_ne_bytes());
}

impl Worker {
    pub(super) fn new(sockets: Sockets, wake: Arc<OwnedFd>, orders: Receiver<Order>) -> Worker {
        Worker { sockets, wake, orders, outstanding: Outstanding::default() }
    }

    /// Until nobody can order any more.
    pub(super) fn run(mut self) {
        while self.send_ordered() {
            self.wait();
            // first the replies: one that has come is a reply, however late this thread was woken
            for socket in [&self.sockets.v4, &self.sockets.v6].into_iter().flatten() {
                read(socket, &mut self.outstanding);
            }
            self.outstanding.expire(Instant::now());
        }
    }

    /// Sends what is ordered. `false`: nobody is left to order.
    fn send_ordered(&mut self) -> bool {
        loop {
            match self.orders.try_recv() {
                Ok(order) => self.send(order),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn send(&mut self, Order { target, deadline, reply }: Order) {
        let nonce = packet::nonce();
        let sent = self.sockets.towards(target).and_then(|socket| {
            let sequence = self.outstanding.next_sequence(target).ok_or(Errno::NOBUFS)?;
            socket.send(target, sequence, nonce).map(|()| sequence)
        });
        match sent {
            Ok(sequence) => self.outstanding.insert(target, sequence, nonce, deadline, reply),
            Err(errno) => {
                tracing::debug!(%target, %errno, "an echo request was not sent");
                let _ = reply.send(ProbeOutcome::Lost);
            }
        }
    }

    /// For a packet, an order or the next deadline.
    fn wait(&self) {
        let wait = self.outstanding.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));
        let wait = wait.map(|wait| Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        });
        let sockets = [&self.sockets.v4, &self.sockets.v6].into_iter().flatten().map(|socket| &socket.fd);
        let mut fds: Vec<PollFd<'_>> =
            sockets.chain([&*self.wake]).map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        match poll(&mut fds, wait.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => {
                // out of kernel memory: no spinning, and the time-outs go on
                tracing::warn!(%errno, "waiting for echo replies");
                thread::sleep(Duration::from_millis(10));
            }
        }
        let _ = rustix::io::read(&*self.wake, &mut [0; 8]);
    }
}

fn read(socket: &Socket, outstanding: &mut Outstanding) {
    // longer than any reply to us: 60 bytes of IP header and 16 of ICMP
    let mut buffer = [0; 256];
    for _ in 0..PACKETS_A_TURN {
        match socket.receive(&mut buffer) {
            Ok(Some((source, echo))) => outstanding.answered(source, echo),
            Ok(None) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return,
            // an error report of an earlier packet, taken by reading it: that request's deadline stands
            Err(errno) => tracing::debug!(%errno, "an ICMP socket"),
        }
    }
}
