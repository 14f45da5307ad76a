//! The few words of nftables that the gate needs, as messages of one transaction.
//!
//! Numbers are those of the kernel's `linux/netfilter/nf_tables.h`.

mod ask;

use std::time::Duration;

pub(super) use self::ask::{News, left, listen, look_for_set, news, open};
use super::netlink::{CREATE, RequestError, Socket, Writer};

/// Our subsystem, in the upper half of a message's type.
const NFTABLES: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const NEW_SET: u16 = 9;
const NEW_ELEMENT: u16 = 12;
const DELETE_ELEMENT: u16 = 14;

/// The attribute that names the table, in every kind of message.
const TABLE: u16 = 1;
/// In every list, what an entry is called.
const ENTRY: u16 = 1;
const TABLE_OWNED: u32 = 2;
const SET_TIMEOUT: u32 = 0x10;
const REGISTER: u32 = 1;
/// The longest jiffy there is (100 a second). Older kernels round down to none what is shorter, and none is for ever.
const SHORTEST: Duration = Duration::from_millis(10);
const VERDICT_REGISTER: u32 = 0;

/// Where a table's chains hang.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// Both versions of IP.
    Inet = 1,
    /// ARP, as the kernel's own stack sends and hears it.
    Arp = 3,
    /// An interface.
    Netdev = 5,
}

/// One table, which is meant by its family and its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) family: Family,
    pub(super) name: &'static str,
    /// Ours alone to change, and gone when our socket is.
    pub(super) owned: bool,
}

/// Where a chain hangs: the hook's number in its family, its place among other chains, and the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hook<'a> {
    pub(super) number: u32,
    pub(super) priority: i32,
    pub(super) interface: Option<&'a str>,
}

/// Where in a packet is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    /// The header of ARP or IP.
    Network = 1,
    /// What follows it.
    Transport = 2,
}

/// What is known of a packet without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meta {
    /// The two bytes of Ethernet's type.
    Protocol = 1,
    /// The version of IP, as `NFPROTO_*`.
    Version = 15,
    /// The protocol that IP carries.
    Carried = 16,
}

/// A step of a rule. There is one register: a step that reads puts something there, the next one looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Know(Meta),
    /// Base, offset and length in bytes.
    Read(Base, u32, u32),
    Equal(Vec<u8>),
    Differs(Vec<u8>),
    NotIn(&'static str),
    Drop,
}

/// Changes that happen all together or not at all.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    writer: Writer,
}

impl Transaction {
    /// Begins anew.
    pub(super) fn begin(&mut self) -> &mut Transaction {
        self.writer.clear();
        self.writer.message(BATCH_BEGIN, 0, &header(0, NFTABLES), |_| ());
        self
    }

    /// Which message comes next, as [`netlink::Fault`] counts.
    pub(super) fn next(&self) -> u32 {
        self.writer.messages() + 1
    }

    /// A table, if there is none yet.
    pub(super) fn table(&mut self, table: Table) {
        self.put(table, NEW_TABLE, CREATE, |writer| {
            let flags = if table.owned { TABLE_OWNED } else { 0 };
            writer.attribute(2, &flags.to_be_bytes());
        });
    }

    /// Takes a table away, with everything in it. It must be there.
    pub(super) fn delete_table(&mut self, table: Table) {
        self.put(table, DELETE_TABLE, 0, |_| ());
    }

    /// A set of addresses that leave it by themselves.
    pub(super) fn set(&mut self, table: Table, set: &str, key: &[u8]) {
        let id = self.next();
        // nft's own number for the type, so that it prints addresses
        let (kind, length): (u32, u32) = if key.len() == 4 { (7, 4) } else { (8, 16) };
        self.put(table, NEW_SET, CREATE, |writer| {
            writer.text(2, set);
            writer.attribute(3, &SET_TIMEOUT.to_be_bytes());
            writer.attribute(4, &kind.to_be_bytes());
            writer.attribute(5, &length.to_be_bytes());
            writer.attribute(10, &id.to_be_bytes());
        });
    }

    /// A chain that lets through what its rules do not drop.
    pub(super) fn chain(&mut self, table: Table, chain: &str, hook: Hook<'_>) {
        self.put(table, NEW_CHAIN, CREATE, |writer| {
            writer.text(3, chain);
            writer.nest(4, |writer| {
                writer.attribute(1, &hook.number.to_be_bytes());
                writer.attribute(2, &hook.priority.to_be_bytes());
                if let Some(interface) = hook.interface {
                    writer.text(3, interface);
                }
            });
            writer.text(7, "filter");
        });
    }

    /// One more rule at the end of a chain.
    pub(super) fn rule(&mut self, table: Table, chain: &str, steps: &[Step]) {
        // without APPEND a rule comes first, and the order of ours is of no matter
        self.put(table, NEW_RULE, CREATE, |writer| {
            writer.text(2, chain);
            writer.nest(4, |writer| steps.iter().for_each(|step| write_step(writer, step)));
        });
    }

    /// Puts an address into a set for so long, and for 10 ms at least.
    pub(super) fn add(&mut self, table: Table, set: &str, key: &[u8], timeout: Duration) {
        let millis = u64::try_from(timeout.max(SHORTEST).as_millis()).unwrap_or(u64::MAX).to_be_bytes();
        self.elements(table, NEW_ELEMENT, CREATE, set, key, |writer| writer.attribute(4, &millis));
    }

    /// Takes an address out of a set. Refused, with everything else, when it is not in there or its time has run out.
    pub(super) fn delete(&mut self, table: Table, set: &str, key: &[u8]) {
        self.elements(table, DELETE_ELEMENT, 0, set, key, |_| ());
    }

    /// Takes everything out of a set, if there is anything.
    pub(super) fn flush(&mut self, table: Table, set: &str) {
        self.put(table, DELETE_ELEMENT, 0, |writer| writer.text(2, set));
    }

    fn elements(
        &mut self,
        table: Table,
        kind: u16,
        flags: u16,
        set: &str,
        key: &[u8],
        more: impl FnOnce(&mut Writer),
    ) {
        self.put(table, kind, flags, |writer| element(writer, set, key, more));
    }

    fn put(&mut self, table: Table, kind: u16, flags: u16, body: impl FnOnce(&mut Writer)) {
        message(&mut self.writer, table, kind, flags, body);
    }

    /// Asks the kernel for all of it.
    pub(super) fn commit(&mut self, socket: &mut Socket) -> Result<(), RequestError> {
        // success has no other voice than the acknowledgement of one message, and the end of a batch cannot be acknowledged
        // before Linux 6.10
        self.writer.acknowledge();
        self.writer.message(BATCH_END, 0, &header(0, NFTABLES), |_| ());
        socket.request(&self.writer, |_| ())
    }
}

/// Family, version, and what only a batch uses: its subsystem.
fn header(family: u8, subsystem: u16) -> [u8; 4] {
    let [high, low] = subsystem.to_be_bytes();
    [family, 0, high, low]
}

fn message(writer: &mut Writer, table: Table, kind: u16, flags: u16, body: impl FnOnce(&mut Writer)) {
    writer.message(NFTABLES << 8 | kind, flags, &header(table.family as u8, 0), |writer| {
        writer.text(TABLE, table.name);
        body(writer);
    });
}

fn element(writer: &mut Writer, set: &str, key: &[u8], more: impl FnOnce(&mut Writer)) {
    writer.text(2, set);
    writer.nest(3, |writer| {
        writer.nest(ENTRY, |writer| {
            writer.nest(1, |writer| writer.attribute(1, key));
            more(writer);
        });
    });
}

fn write_step(writer: &mut Writer, step: &Step) {
    let register = REGISTER.to_be_bytes();
    let mut expression = |name: &str, data: &dyn Fn(&mut Writer)| {
        writer.nest(ENTRY, |writer| {
            writer.text(1, name);
            writer.nest(2, data);
        });
    };
    let compared = |writer: &mut Writer, operation: u32, value: &[u8]| {
        writer.attribute(1, &register);
        writer.attribute(2, &operation.to_be_bytes());
        writer.nest(3, |writer| writer.attribute(1, value));
    };
    match step {
        Step::Know(what) => expression("meta", &|writer| {
            writer.attribute(1, &register);
            writer.attribute(2, &(*what as u32).to_be_bytes());
        }),
        Step::Read(base, offset, length) => expression("payload", &|writer| {
            for (kind, value) in [(1, REGISTER), (2, *base as u32), (3, *offset), (4, *length)] {
                writer.attribute(kind, &value.to_be_bytes());
            }
        }),
        Step::Equal(value) => expression("cmp", &|writer| compared(writer, 0, value)),
        Step::Differs(value) => expression("cmp", &|writer| compared(writer, 1, value)),
        Step::NotIn(set) => expression("lookup", &|writer| {
            writer.text(1, set);
            writer.attribute(2, &register);
            writer.attribute(5, &1u32.to_be_bytes());
        }),
        Step::Drop => expression("immediate", &|writer| {
            writer.attribute(1, &VERDICT_REGISTER.to_be_bytes());
            writer.nest(2, |writer| writer.nest(2, |writer| writer.attribute(1, &0u32.to_be_bytes())));
        }),
    }
}
