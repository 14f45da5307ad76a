//! The two sockets, raw or datagram.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, getsockname, ipproto, recvfrom,
    sendto, socket_with,
};

use super::packet::{self, Echo};
use crate::probe::ProbeError;

/// What kind of socket is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Sees all ICMP of the machine; CAP_NET_RAW.
    Raw,
    /// Sees its own replies; `ping_group_range`.
    Datagram,
}

/// What a packet looks like on one socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// IPv4 header, then ICMP: a raw IPv4 socket.
    HeaderAndV4,
    /// ICMP: a datagram IPv4 socket.
    V4,
    /// ICMPv6: either socket.
    V6,
}

/// One socket.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) fd: OwnedFd,
    /// What our echo requests carry. Random on a raw socket, the kernel's choice on a datagram one.
    pub(super) ident: u16,
    form: Form,
}

/// One socket per version of IP, or why there is none.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) v4: Result<Socket, Errno>,
    pub(super) v6: Result<Socket, Errno>,
}

impl Sockets {
    /// Opens both. A version of IP that the machine lacks is left out; to lack both is an error.
    pub(super) fn open(access: Access) -> Result<Sockets, ProbeError> {
        let sockets = Sockets { v4: Socket::open(access, false), v6: Socket::open(access, true) };
        let denied = |socket: &Result<Socket, Errno>| matches!(socket, Err(Errno::PERM | Errno::ACCESS));
        match (&sockets.v4, &sockets.v6) {
            (v4, v6) if denied(v4) || (v4.is_err() && denied(v6)) => Err(match access {
                Access::Raw => ProbeError::RawNotPermitted,
                Access::Datagram => ProbeError::DatagramNotPermitted,
            }),
            (Err(errno), Err(_)) => {
                Err(ProbeError::System { action: "open a socket", source: io::Error::from(*errno) })
            }
            _ => Ok(sockets),
        }
    }

    /// Why there is no socket for that version of IP.
    pub(super) fn missing(&self, version: u8) -> Option<String> {
        let socket = if version == 4 { &self.v4 } else { &self.v6 };
        socket.as_ref().err().map(|errno| io::Error::from(*errno).to_string())
    }

    /// The one for a target.
    pub(super) fn towards(&self, target: IpAddr) -> Result<&Socket, Errno> {
        match target {
            IpAddr::V4(_) => self.v4.as_ref(),
            IpAddr::V6(_) => self.v6.as_ref(),
        }
        .map_err(|errno| *errno)
    }
}

impl Socket {
    fn open(access: Access, v6: bool) -> Result<Socket, Errno> {
        let (family, protocol, any) = if v6 {
            (AddressFamily::INET6, ipproto::ICMPV6, IpAddr::V6(Ipv6Addr::UNSPECIFIED))
        } else {
            (AddressFamily::INET, ipproto::ICMP, IpAddr::V4(Ipv4Addr::UNSPECIFIED))
        };
        let kind = match access {
            Access::Raw => SocketType::RAW,
            Access::Datagram => SocketType::DGRAM,
        };
        let fd = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, Some(protocol))?;
        let ident = match access {
            Access::Raw => packet::ident(),
            Access::Datagram => {
                bind(&fd, &SocketAddr::new(any, 0))?;
                SocketAddr::try_from(getsockname(&fd)?)?.port()
            }
        };
        let form = match (v6, access) {
            (true, _) => Form::V6,
            (false, Access::Raw) => Form::HeaderAndV4,
            (false, Access::Datagram) => Form::V4,
        };
        Ok(Socket { fd, ident, form })
    }

    pub(super) fn send(&self, target: IpAddr, sequence: u16, nonce: u64) -> Result<(), Errno> {
        let echo = Echo { ident: self.ident, sequence, nonce };
        let request = match target {
            IpAddr::V4(_) => packet::request_v4(echo),
            IpAddr::V6(_) => packet::request_v6(echo),
        };
        sendto(&self.fd, &request, SendFlags::empty(), &SocketAddr::new(target, 0)).map(|_| ())
    }

    /// The next packet that waits. `Ok(None)`: it is no echo reply to us.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> Result<Option<(IpAddr, Echo)>, Errno> {
        let (_, length, source) = recvfrom(&self.fd, &mut *buffer, RecvFlags::empty())?;
        let packet = buffer.get(..length).unwrap_or_default();
        let source = source.and_then(|source| SocketAddr::try_from(source).ok());
        Ok(source
            .zip(packet::reply(self.form, packet))
            .and_then(|(source, echo)| (echo.ident == self.ident).then_some((source.ip(), echo))))
    }
}
