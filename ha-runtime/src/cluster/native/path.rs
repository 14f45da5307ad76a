//! One way to the other node: beats go out and come in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, recv, send, socket_with,
    sockopt,
};

use super::key::DATAGRAM;

/// A socket that hears one address of the other node and nobody else. It is opened when it is wanted: an address that cannot
/// be reached yet, or no more, or from another address of this machine, costs a new one.
#[derive(Debug)]
pub(super) struct Path {
    peer: SocketAddr,
    socket: Option<OwnedFd>,
}

impl Path {
    /// Both nodes listen at `port`.
    pub(super) fn new(peer: IpAddr, port: u16) -> Path {
        Path { peer: SocketAddr::new(peer, port), socket: None }
    }

    /// What cannot be sent is lost, as on the wire: the next beat is soon.
    pub(super) fn send(&mut self, datagram: &[u8]) {
        for _ in 0..2 {
            let socket = match self.socket.take().map_or_else(|| open(self.peer), Ok) {
                Ok(socket) => socket,
                Err(_) => return,
            };
            match send(&socket, datagram, SendFlags::empty()) {
                // nobody listened there to one before: that is told with the next one, which is not sent
                Err(Errno::CONNREFUSED | Errno::INTR) => self.socket = Some(socket),
                Ok(_) | Err(Errno::AGAIN | Errno::NOBUFS) => {
                    self.socket = Some(socket);
                    return;
                }
                Err(_) => return,
            }
        }
    }

    /// The next datagram that waits; one more byte is read than a beat has, to tell what is longer from it.
    pub(super) fn receive<'a>(&self, inbox: &'a mut [u8; DATAGRAM + 1]) -> Option<&'a [u8]> {
        let socket = self.socket.as_ref()?;
        loop {
            match recv(socket, &mut inbox[..], RecvFlags::empty()) {
                Ok((length, _)) => return inbox.get(..length),
                Err(Errno::INTR | Errno::CONNREFUSED) => {}
                Err(_) => return None,
            }
        }
    }

    /// Readable when something waits; `None`: there is no way at present.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }
}

fn open(peer: SocketAddr) -> Result<OwnedFd, Errno> {
    let (family, any) = match peer {
        SocketAddr::V4(_) => (AddressFamily::INET, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        SocketAddr::V6(_) => (AddressFamily::INET6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::DGRAM, flags, None)?;
    // each path has a socket at the port
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if peer.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &SocketAddr::new(any, peer.port()))?;
    connect(&socket, &peer)?;
    Ok(socket)
}
