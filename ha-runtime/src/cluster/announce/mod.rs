//! Who has the shared address: telling it to the network, asking for it, and hearing others who have it.
//!
//! With IPv4 it is ARP. An announcement is sent in both forms, as a request (RFC 5227, section 3) and as a reply: what
//! is on a network follows either the one or the other, older phones and routers among it. The question is RFC 5227's
//! probe: it names no sender, so that nobody takes this machine for the holder. With IPv6 it is the unsolicited
//! neighbour advertisement with the override flag (RFC 4861, 7.2.6), and the neighbour solicitation.
//!
//! What a process sends by itself passes the [gate](super::gate) as well, so one that was stopped in between does not
//! announce an address that it has lost: sending fails then. The question passes a closed gate, and so do answers.

mod arp;
mod neighbour;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pnet::datalink::MacAddr;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::address::Link;

/// More than any message that is looked for here: what is longer is cut, and still told from one.
const INBOX: usize = 256;

/// Another machine that has the address, or says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Claim {
    /// Its Ethernet address; `None`: it did not tell, as neighbour advertisements need not.
    pub hardware: Option<MacAddr>,
}

/// The shared address as the network knows it, on one interface.
#[derive(Debug)]
pub struct Announcer {
    fd: OwnedFd,
    speaker: Speaker,
}

#[derive(Debug)]
enum Speaker {
    Arp(arp::Speaker),
    Neighbour(neighbour::Speaker),
}

impl Announcer {
    /// For `address` on the interface `name`, which now is `link`. To be made anew when the interface has got another
    /// index or another Ethernet address.
    pub fn open(address: IpAddr, name: &str, link: Link) -> io::Result<Announcer> {
        let (fd, speaker) = match address {
            IpAddr::V4(address) => {
                (arp::open(name, link)?, Speaker::Arp(arp::Speaker { address, hardware: link.hardware }))
            }
            IpAddr::V6(address) => {
                (neighbour::open(link)?, Speaker::Neighbour(neighbour::Speaker { address, link }))
            }
        };
        Ok(Announcer { fd, speaker })
    }

    /// Tells the network that the address is here. The gate must be open.
    pub fn announce(&self) -> io::Result<()> {
        match &self.speaker {
            Speaker::Arp(speaker) => speaker.announce(&self.fd),
            Speaker::Neighbour(speaker) => speaker.announce(&self.fd),
        }
        .map_err(io::Error::from)
    }

    /// Asks whether anybody has the address. An answer is [heard](Announcer::heard) soon, or none.
    pub fn ask(&self) -> io::Result<()> {
        match &self.speaker {
            Speaker::Arp(speaker) => speaker.ask(&self.fd),
            Speaker::Neighbour(speaker) => speaker.ask(&self.fd),
        }
        .map_err(io::Error::from)
    }

    /// The next one that was heard to have the address, asked or not; `None`: nobody more. Never this machine itself.
    pub fn heard(&self) -> io::Result<Option<Claim>> {
        let mut buffer = [0; INBOX];
        loop {
            let length = match recv(&self.fd, &mut buffer, RecvFlags::empty()) {
                Ok((length, _)) => length,
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let message = buffer.get(..length).unwrap_or_default();
            let claim = match &self.speaker {
                Speaker::Arp(speaker) => speaker.claim(message),
                Speaker::Neighbour(speaker) => speaker.claim(message),
            };
            if claim.is_some() {
                return Ok(claim);
            }
        }
    }
}

/// Readable when there may be something to be [heard](Announcer::heard).
impl AsFd for Announcer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
