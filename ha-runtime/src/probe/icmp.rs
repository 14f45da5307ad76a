//! Echo requests and their replies, both versions of IP.
//!
//! One thread owns the sockets and keeps the time. Packets are built and read with pnet; the sockets are opened here, because pnet's
//! are not close-on-exec, so that every command that is run would inherit them, and cannot be polled without unsafe code.

mod outstanding;
pub(crate) mod packet;
mod socket;
mod worker;

use std::future::Future;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::oneshot;

pub(crate) use self::socket::Form;
use self::socket::{Access, Sockets};
use self::worker::{Order, Worker};
use super::{ProbeError, ProbeOutcome};

/// Sends echo requests; cheap to clone.
///
/// The thread ends, and is waited for, when the last clone and the last unfinished probe are dropped.
#[derive(Debug, Clone)]
pub struct Icmp(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    /// `None` only while it is dropped.
    orders: Option<mpsc::Sender<Order>>,
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
    missing: [Option<String>; 2],
}

impl Icmp {
    /// With raw sockets, which need the capability `CAP_NET_RAW`.
    ///
    /// A machine without IPv6 is no error: see [`Icmp::check`].
    pub fn start() -> Result<Icmp, ProbeError> {
        Icmp::over(Sockets::open(Access::Raw)?)
    }

    /// With datagram sockets, which any user of the groups in `net.ipv4.ping_group_range` may open.
    pub fn start_unprivileged() -> Result<Icmp, ProbeError> {
        Icmp::over(Sockets::open(Access::Datagram)?)
    }

    fn over(sockets: Sockets) -> Result<Icmp, ProbeError> {
        let missing = [sockets.missing(4), sockets.missing(6)];
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| ProbeError::System { action: "make an eventfd", source: error.into() })?;
        let wake = Arc::new(wake);
        let (orders, inbox) = mpsc::channel();
        let worker = Worker::new(sockets, Arc::clone(&wake), inbox);
        let thread = thread::Builder::new()
            .name("icmp".to_owned())
            .spawn(move || worker.run())
            .map_err(|source| ProbeError::System { action: "start a thread", source })?;
        Ok(Icmp(Arc::new(Handle { orders: Some(orders), wake, thread: Some(thread), missing })))
    }

    /// Whether the machine has sockets for the target's version of IP. Ask once, when the target becomes known.
    pub fn check(&self, target: IpAddr) -> Result<(), ProbeError> {
        let (family, missing) = match target {
            IpAddr::V4(_) => ("IPv4", &self.0.missing[0]),
            IpAddr::V6(_) => ("IPv6", &self.0.missing[1]),
        };
        match missing {
            None => Ok(()),
            Some(cause) => Err(ProbeError::NoFamily { target, family, cause: cause.clone() }),
        }
    }

    /// Sends one echo request now, not at the first poll, and waits for its own reply.
    ///
    /// A request that cannot be sent is [`ProbeOutcome::Lost`] at once: that is how it looks when the cable is out. So is
    /// one to a target that [`Icmp::check`] refuses. Dropping the future forgets the probe.
    pub fn probe(
        &self,
        target: IpAddr,
        timeout: Duration,
    ) -> impl Future<Output = ProbeOutcome> + Send + 'static {
        let (reply, outcome) = oneshot::channel();
        let handle = Arc::clone(&self.0);
        handle.order(Order { target, deadline: deadline(timeout), reply });
        async move {
            let outcome = outcome.await;
            drop(handle);
            // not Lost: a fault of this program must not look like a dead master
            outcome.expect("the ICMP thread runs as long as a probe is unfinished")
        }
    }
}

/// A time-out that no clock reaches is a very long one.
fn deadline(timeout: Duration) -> Instant {
    const A_YEAR: Duration = Duration::from_secs(365 * 86_400);
    Instant::now() + timeout.min(A_YEAR)
}

impl Handle {
    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // a failure drops the order, and with it the outcome's sender: the probe's future says so
            let _ = orders.send(order);
        }
        worker::wake(&self.wake);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.orders = None;
        worker::wake(&self.wake);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the ICMP thread had panicked");
        }
    }
}

#[cfg(test)]
mod tests;
