//! The shared address on its interface, and what becomes of the interface.
//!
//! It is added alone, as `/32` or `/128` and without a route: so it does not go when the interface's own address is
//! taken away and set again, as a secondary address of the same network would; and the machine's own connections do
//! not begin at it. It is valid for a few seconds and has to be renewed: the last line behind the
//! [gate](super::gate), for the case that its process and both its copies are gone.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use pnet::datalink::MacAddr;
use rustix::io::Errno;

use super::netlink::{self, ACK, CREATE, DUMP, Message, REPLACE, RequestError, Socket, Writer, messages};

/// `linux/rtnetlink.h`.
const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
/// News of interfaces, of IPv4 addresses and of IPv6 addresses.
const GROUPS: u32 = 0x1 | 0x10 | 0x100;

const INTERFACE_NAME: u16 = 3;
const HARDWARE: u16 = 1;
/// The interface is wanted up, and there is a carrier.
const UP: u32 = 0x1;
const LOWER_UP: u32 = 0x1_0000;
/// What comes before the attributes: `ifinfomsg` and `ifaddrmsg`.
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;

const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
const LIFETIMES: u16 = 6;
const FLAGS: u16 = 8;
/// Somebody else looks for another holder, and waits: no duplicate address detection.
const NO_DAD: u32 = 0x02;
const NO_ROUTE: u32 = 0x200;

/// Why the address is not where it should be.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// There is none of that name.
    #[error("there is no interface {0:?}; `ip link` lists those that there are")]
    NoInterface(String),
    /// The kernel refuses, or the socket failed.
    #[error("cannot {action}: {source}")]
    System {
        /// What was to be done.
        action: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
}

/// An interface as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it: another one when it is made anew.
    pub index: u32,
    /// Its Ethernet address; all zero where it has none.
    pub hardware: MacAddr,
    /// It is up, and something is at the other end of its wire.
    pub carrier: bool,
}

/// What has happened since it was asked last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changes {
    /// The interface, if anything was told of it; after it was deleted, without a carrier.
    pub link: Option<Link>,
    /// The address was held, and was taken away by somebody else or has run out.
    pub removed: bool,
}

/// The address both nodes share, at this node's interface.
#[derive(Debug)]
pub struct Address {
    socket: Socket,
    news: Socket,
    writer: Writer,
    address: IpAddr,
    interface: String,
    link: Link,
    held: bool,
}

impl Address {
    /// `address` on `interface`, which must be there. Nothing is changed yet; from here on [`Address::changes`] hears.
    pub fn new(address: IpAddr, interface: &str) -> Result<Address, AddressError> {
        let failed = |source| AddressError::System { action: "open a netlink socket", source };
        let news = Socket::open(None, GROUPS).map_err(failed)?;
        let mut address = Address {
            socket: Socket::open(None, 0).map_err(failed)?,
            news,
            writer: Writer::default(),
            address,
            interface: interface.to_owned(),
            link: Link { index: 0, hardware: MacAddr::zero(), carrier: false },
            held: false,
        };
        address.look()?;
        Ok(address)
    }

    /// The interface, as it was told of last.
    pub fn link(&self) -> Link {
        self.link
    }

    /// Adds the address, or renews it. `valid` is counted in whole seconds, rounded up: then the kernel takes it away.
    pub fn hold(&mut self, valid: Duration) -> Result<(), AddressError> {
        let seconds = valid.as_secs() + u64::from(valid.subsec_nanos() > 0);
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX).max(1);
        // an IPv6 address that is not preferred answers, and is no connection's beginning unless asked for; that of IPv4 with
        // the whole mask is none anyway
        let preferred = if self.address.is_ipv6() { 0 } else { seconds };
        let mut lifetimes = [0; 16];
        lifetimes[..4].copy_from_slice(&preferred.to_ne_bytes());
        lifetimes[4..8].copy_from_slice(&seconds.to_ne_bytes());
        self.put(NEW_ADDRESS, CREATE | REPLACE | ACK, |writer| {
            writer.attribute(LIFETIMES, &lifetimes);
            writer.attribute(FLAGS, &(NO_DAD | NO_ROUTE).to_ne_bytes());
        });
        match self.socket.request(&self.writer, |_| ()) {
            Ok(()) => {
                self.held = true;
                Ok(())
            }
            Err(error) => Err(self.error("add the address", error)),
        }
    }

    /// Takes the address away. It is no error that it is not there.
    pub fn withdraw(&mut self) -> Result<(), AddressError> {
        self.held = false;
        self.put(DELETE_ADDRESS, ACK, |_| ());
        match self.socket.request(&self.writer, |_| ()) {
            Err(RequestError::Fault(fault)) if matches!(fault.errno, Errno::ADDRNOTAVAIL | Errno::NODEV) => {
                Ok(())
            }
            result => result.map_err(|error| self.error("take the address away", error)),
        }
    }

    /// Whether the interface has the address, whoever added it.
    pub fn present(&mut self) -> Result<bool, AddressError> {
        self.writer.clear();
        self.writer.message(GET_ADDRESS, DUMP, &[family(self.address), 0, 0, 0, 0, 0, 0, 0], |_| ());
        let mut present = false;
        let (address, index) = (self.address, self.link.index);
        self.socket
            .request(&self.writer, |message| present |= is_about(&message, address, index))
            .map_err(|error| AddressError::System { action: "list addresses", source: error.into() })?;
        Ok(present)
    }

    /// What has happened since it was asked last. To be asked whenever this is readable ([`AsFd`]).
    pub fn changes(&mut self) -> Result<Changes, AddressError> {
        let own = self.socket.port();
        let mut changes = Changes::default();
        loop {
            let bytes = match self.news.receive() {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return Ok(changes),
                // more was told than there was room for
                Err(Errno::NOBUFS) => {
                    changes.link = Some(self.look_or_gone()?);
                    changes.removed |= self.held && !self.present()?;
                    continue;
                }
                Err(errno) => {
                    return Err(AddressError::System { action: "hear of interfaces", source: errno.into() });
                }
            };
            for message in messages(bytes) {
                if let Some(link) = link_of(&message, &self.interface, self.link) {
                    self.link = link;
                    changes.link = Some(link);
                }
                let about = message.kind == DELETE_ADDRESS && message.port != own;
                if about && is_about(&message, self.address, self.link.index) {
                    changes.removed |= self.held;
                }
            }
        }
    }

    /// Asks for the interface by its name.
    fn look(&mut self) -> Result<(), AddressError> {
        self.writer.clear();
        let name = &self.interface;
        self.writer.message(GET_LINK, ACK, &[0; LINK_HEADER], |writer| writer.text(INTERFACE_NAME, name));
        let (mut found, last) = (None, self.link);
        self.socket
            .request(&self.writer, |message| found = found.or(link_of(&message, name, last)))
            .map_err(|error| match error {
                RequestError::Fault(_) => AddressError::NoInterface(name.clone()),
                error => AddressError::System { action: "look for the interface", source: error.into() },
            })?;
        self.link = found.ok_or_else(|| AddressError::NoInterface(name.clone()))?;
        Ok(())
    }

    fn look_or_gone(&mut self) -> Result<Link, AddressError> {
        match self.look() {
            Err(AddressError::NoInterface(_)) => self.link.carrier = false,
            result => result?,
        }
        Ok(self.link)
    }

    fn put(&mut self, kind: u16, flags: u16, more: impl FnOnce(&mut Writer)) {
        let bytes = super::bytes(self.address);
        let prefix = u8::try_from(bytes.len() * 8).expect("an address has 32 or 128 bits");
        let [a, b, c, d] = self.link.index.to_ne_bytes();
        self.writer.clear();
        self.writer.message(kind, flags, &[family(self.address), prefix, 0, 0, a, b, c, d], |writer| {
            writer.attribute(LOCAL, &bytes);
            writer.attribute(ADDRESS, &bytes);
            more(writer);
        });
    }

    fn error(&self, action: &'static str, error: RequestError) -> AddressError {
        match error {
            RequestError::Fault(fault) if fault.errno == Errno::NODEV => {
                AddressError::NoInterface(self.interface.clone())
            }
            error => AddressError::System { action, source: error.into() },
        }
    }
}

/// Readable when there may be [`Address::changes`].
impl AsFd for Address {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }
}

/// `AF_INET` or `AF_INET6`.
fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { 2 } else { 10 }
}

fn is_about(message: &Message<'_>, address: IpAddr, index: u32) -> bool {
    let body = message.body;
    if !matches!(message.kind, NEW_ADDRESS | DELETE_ADDRESS) || netlink::word(body, 4) != Some(index) {
        return false;
    }
    let attributes = body.get(ADDRESS_HEADER..).unwrap_or_default();
    // where both are told, the first is this end's
    let own = netlink::attribute(attributes, LOCAL).or_else(|| netlink::attribute(attributes, ADDRESS));
    own == Some(&super::bytes(address))
}

/// What is told of the interface of that name, or of the one that it was.
fn link_of(message: &Message<'_>, name: &str, last: Link) -> Option<Link> {
    let index = netlink::word(message.body, 4)?;
    let flags = netlink::word(message.body, 8)?;
    let attributes = message.body.get(LINK_HEADER..)?;
    match message.kind {
        DELETE_LINK if index == last.index => Some(Link { carrier: false, ..last }),
        NEW_LINK if netlink::attribute(attributes, INTERFACE_NAME).map(netlink::text) == Some(name) => {
            let hardware = netlink::attribute(attributes, HARDWARE)
                .and_then(|bytes| <[u8; 6]>::try_from(bytes).ok())
                .map_or(MacAddr::zero(), MacAddr::from);
            Some(Link { index, hardware, carrier: flags & UP != 0 && flags & LOWER_UP != 0 })
        }
        _ => None,
    }
}
