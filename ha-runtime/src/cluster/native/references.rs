//! Hosts that always answer, asked through the address' interface: whether this node is cut off.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recvfrom, sendto};
use socket2::{Domain, Protocol, Socket, Type};

use crate::probe::icmp::Form;
use crate::probe::icmp::packet::{self, Echo};

/// Replies that are read in a turn: a raw socket hears all ICMP of the machine.
const DRAIN: usize = 256;

/// The references, and what was asked of them.
#[derive(Debug)]
pub(super) struct References {
    hosts: Vec<IpAddr>,
    interface: String,
    sockets: [Option<OwnedFd>; 2],
    ident: u16,
    sequence: u16,
    /// Added to the time of the question: nobody can guess an answer to one that was not asked.
    mask: u64,
}

impl References {
    /// No packet is sent through another interface. The sockets are opened when they are wanted.
    pub(super) fn new(hosts: Vec<IpAddr>, interface: &str) -> References {
        References {
            hosts,
            interface: interface.to_owned(),
            sockets: [None, None],
            ident: packet::ident(),
            sequence: 0,
            mask: packet::nonce(),
        }
    }

    /// The interface is another one now.
    pub(super) fn reopen(&mut self) {
        self.sockets = [None, None];
    }

    /// Asks each of them. What cannot be asked does not answer.
    pub(super) fn ask(&mut self, now: Duration) {
        self.sequence = self.sequence.wrapping_add(1);
        let nonce = nanoseconds(now).wrapping_add(self.mask);
        let echo = Echo { ident: self.ident, sequence: self.sequence, nonce };
        for host in &self.hosts {
            let slot = &mut self.sockets[usize::from(host.is_ipv6())];
            if slot.is_none() {
                *slot = open(*host, &self.interface).ok();
            }
            let Some(socket) = slot else { continue };
            let request = if host.is_ipv4() { packet::request_v4(echo) } else { packet::request_v6(echo) };
            let _ = sendto(socket, &request, SendFlags::empty(), &SocketAddr::new(*host, 0));
        }
    }

    /// When the newest question was asked that has been answered since this was called last.
    pub(super) fn answered(&self, now: Duration) -> Option<Duration> {
        let mut newest = None;
        for (socket, form) in self.sockets.iter().zip([Form::HeaderAndV4, Form::V6]) {
            let Some(socket) = socket else { continue };
            let mut inbox = [0; 256];
            for _ in 0..DRAIN {
                let (length, source) = match recvfrom(socket, &mut inbox, RecvFlags::empty()) {
                    Ok((length, _, source)) => (length, source),
                    Err(Errno::INTR) => continue,
                    Err(_) => break,
                };
                let source = source.and_then(|source| SocketAddr::try_from(source).ok());
                let known = source.is_some_and(|source| self.hosts.contains(&source.ip()));
                let echo = packet::reply(form, inbox.get(..length).unwrap_or_default());
                if let Some(echo) = echo.filter(|echo| known && echo.ident == self.ident) {
                    let asked = Duration::from_nanos(echo.nonce.wrapping_sub(self.mask));
                    newest = newest.max(Some(asked).filter(|asked| *asked <= now));
                }
            }
        }
        newest
    }

    /// Readable when there may be an answer.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().flatten().map(AsFd::as_fd)
    }
}

/// Five hundred years are enough.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn open(host: IpAddr, interface: &str) -> std::io::Result<OwnedFd> {
    let (domain, protocol) = match host {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::RAW.nonblocking().cloexec(), Some(protocol))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    Ok(socket.into())
}
