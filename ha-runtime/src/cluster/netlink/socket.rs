//! Sockets. The kernel works on a request while it is being sent, so its answers wait when `send` returns.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, getsockname, recvfrom,
    send, socket_with,
};

use super::{Message, Writer, messages, word};

const ERROR: u16 = 2;
const DONE: u16 = 3;
/// More than the kernel puts into one answer.
const INBOX: usize = 32 * 1024;

/// What the kernel said of a request that it did not carry out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cluster) struct Fault {
    /// Which message, from 1.
    pub(in crate::cluster) message: u32,
    pub(in crate::cluster) errno: Errno,
}

/// Why there is no answer, or a bad one.
#[derive(Debug)]
pub(in crate::cluster) enum RequestError {
    /// The kernel refused.
    Fault(Fault),
    /// The socket failed.
    Io(io::Error),
}

impl From<Errno> for RequestError {
    fn from(errno: Errno) -> RequestError {
        RequestError::Io(errno.into())
    }
}

impl From<RequestError> for io::Error {
    fn from(error: RequestError) -> io::Error {
        match error {
            RequestError::Fault(fault) => fault.errno.into(),
            RequestError::Io(error) => error,
        }
    }
}

/// A socket to one of the kernel's subsystems.
#[derive(Debug)]
pub(in crate::cluster) struct Socket {
    fd: OwnedFd,
    port: u32,
    inbox: Box<[u8]>,
}

impl Socket {
    /// `None` is routing, which has the number 0; `groups`: whose news it hears, a bit each.
    pub(in crate::cluster) fn open(protocol: Option<Protocol>, groups: u32) -> io::Result<Socket> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        let port = SocketAddrNetlink::try_from(getsockname(&fd)?)?.pid();
        Ok(Socket { fd, port, inbox: vec![0; INBOX].into() })
    }

    /// Its name to the kernel: what news tell of who caused them.
    pub(in crate::cluster) fn port(&self) -> u32 {
        self.port
    }

    /// Sends what was written, and hands over each answer.
    pub(in crate::cluster) fn request(
        &mut self,
        writer: &Writer,
        mut each: impl FnMut(Message<'_>),
    ) -> Result<(), RequestError> {
        send(&self.fd, &writer.bytes, SendFlags::empty())?;
        let mut answered = false;
        let mut fault = None;
        while let Some(bytes) = self.receive()? {
            for message in messages(bytes) {
                answered = true;
                match message.kind {
                    ERROR | DONE => {
                        let errno = word(message.body, 0).unwrap_or_default().cast_signed().saturating_neg();
                        if errno != 0 && fault.is_none() {
                            let errno = Errno::from_raw_os_error(errno);
                            fault = Some(Fault { message: message.sequence, errno });
                        }
                    }
                    _ => each(message),
                }
            }
        }
        match fault {
            Some(fault) => Err(RequestError::Fault(fault)),
            None if answered => Ok(()),
            None => Err(RequestError::Io(io::Error::other("the kernel did not answer a netlink request"))),
        }
    }

    /// What waits there, a bundle of messages; `None`: nothing more. Only the kernel is listened to.
    pub(in crate::cluster) fn receive(&mut self) -> Result<Option<&[u8]>, Errno> {
        let length = loop {
            match recvfrom(&self.fd, &mut *self.inbox, RecvFlags::empty()) {
                Ok((_, length, source)) => {
                    let source = source.and_then(|source| SocketAddrNetlink::try_from(source).ok());
                    if source.is_some_and(|source| source.pid() == 0) {
                        break length;
                    }
                }
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        };
        Ok(self.inbox.get(..length))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
