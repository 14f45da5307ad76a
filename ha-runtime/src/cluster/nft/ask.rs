//! Questions to nftables, and its news.

use std::io;
use std::time::Duration;

use rustix::net::netlink::NETFILTER;

use super::{ENTRY, NFTABLES, TABLE, Table, element, message};
use crate::cluster::netlink::{self, ACK, Message, RequestError, Socket, Writer};

/// The multicast group that hears of every transaction, as a bit.
const GROUP: u32 = 1 << 6;
const GET_SET: u16 = 10;
const GET_ELEMENT: u16 = 13;
const NEW_GENERATION: u16 = 15;

/// How long an address still stays in a set. An error of the kernel: it is not in there, or there is no such set.
pub(in crate::cluster) fn left(
    socket: &mut Socket,
    table: Table,
    set: &str,
    key: &[u8],
) -> Result<Option<Duration>, RequestError> {
    let mut writer = Writer::default();
    message(&mut writer, table, GET_ELEMENT, ACK, |writer| element(writer, set, key, |_| ()));
    let mut left = None;
    socket.request(&writer, |message| {
        let expires = body(&message)
            .and_then(|body| netlink::attribute(body, 3))
            .and_then(|list| netlink::attribute(list, ENTRY))
            .and_then(|element| netlink::attribute(element, 5))
            .and_then(|value| Some(u64::from_be_bytes(*value.first_chunk()?)));
        left = left.or(expires.map(Duration::from_millis));
    })?;
    Ok(left)
}

/// An error of the kernel: there is no such set.
pub(in crate::cluster) fn look_for_set(
    socket: &mut Socket,
    table: Table,
    set: &str,
) -> Result<(), RequestError> {
    let mut writer = Writer::default();
    message(&mut writer, table, GET_SET, ACK, |writer| writer.text(2, set));
    socket.request(&writer, |_| ())
}

/// A socket for transactions and questions: no news come over it.
pub(in crate::cluster) fn open() -> io::Result<Socket> {
    Socket::open(Some(NETFILTER), 0)
}

/// A socket that hears of every transaction of this network namespace.
pub(in crate::cluster) fn listen() -> io::Result<Socket> {
    Socket::open(Some(NETFILTER), GROUP)
}

/// What is told of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cluster) enum News<'a> {
    /// Something in the table of that name.
    Of(&'a str),
    /// It was done by this process: the end of the news of one transaction.
    By(u32, &'a str),
}

/// What a message tells, if anything.
pub(in crate::cluster) fn news<'a>(message: &Message<'a>) -> Option<News<'a>> {
    let body = body(message)?;
    if message.kind == NFTABLES << 8 | NEW_GENERATION {
        let process =
            netlink::attribute(body, 2).and_then(|pid| Some(u32::from_be_bytes(*pid.first_chunk()?)));
        let name = netlink::attribute(body, 3).map(netlink::text);
        return Some(News::By(process.unwrap_or_default(), name.unwrap_or_default()));
    }
    netlink::attribute(body, TABLE).map(|name| News::Of(netlink::text(name)))
}

fn body<'a>(message: &Message<'a>) -> Option<&'a [u8]> {
    if message.kind >> 8 == NFTABLES { message.body.get(4..) } else { None }
}
