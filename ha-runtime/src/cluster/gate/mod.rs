//! The gate before the address that both nodes share: the kernel drops its traffic unless a lease lives.
//!
//! Its life does not depend on this process. Whatever happens here, the kernel closes the gate when the lease has run
//! out. What is not given is an opening by a process that was stopped in between: a grant spends a *permit*, which is
//! taken out before the clock is read, and the kernel refuses the grant when the permit, or the lease that is to be
//! prolonged, has run out meanwhile (`safety.md` 5.6):
//!
//! 1. [`Gate::permit`];
//! 2. read the clock, drain the sockets, decide;
//! 3. [`Gate::open`], or [`Gate::renew`] when it is open.
//!
//! There are two copies of it, and a packet must pass both. The plain one outlives this process, but not `nft flush
//! ruleset`; the owned one is spared by that, but goes with the socket that made it. Where both are gone at once, the
//! address itself runs out (see [`address`](super::address)).
//!
//! Dropped are what asks for the address and what speaks for it: ARP requests for it, packets and neighbour
//! solicitations to it, and ARP, packets and neighbour advertisements from it. So this machine can be a client of the
//! address while the other node has it, hears that node's announcements, and can ask whether anybody has it. What a
//! machine forwards to and from the address is dropped as well: a node is no router between its phones and the other.
//!
//! A time-out is counted in jiffies, from a moment at or before the transaction, and rounded down: the gate is never open
//! for longer than asked (10 ms are the least), and at most two jiffies (8 ms where there are 250 a second) shorter. Jiffies stand still while
//! a machine sleeps; a lease does so too.

mod error;
mod rules;

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::io::Errno;

pub use self::error::{Disturbance, GateError, Spent};
use self::rules::Chain;
use super::bytes;
use super::netlink::{Fault, RequestError, Socket, messages};
use super::nft::{self, Family, News, Table, Transaction};

/// Who may pass.
const LEASE: &str = "lease";
/// What a grant spends.
const PERMIT: &str = "permit";
/// The plain copy and the owned one.
const NAMES: [(&str, bool); 2] = [("pbx_ha", false), ("pbx_ha_owned", true)];

/// The gate of one address.
///
/// When it is dropped, or this process dies, the plain copy stays as it is, and closes when its lease runs out.
#[derive(Debug)]
pub struct Gate {
    socket: Socket,
    news: Socket,
    transaction: Transaction,
    chains: Vec<Chain>,
    tables: Vec<Table>,
    interface: String,
    key: Vec<u8>,
}

impl Gate {
    /// The gate of `address` on `interface`. Nothing is changed yet; from here on [`Gate::disturbance`] hears.
    pub fn new(address: IpAddr, interface: &str) -> Result<Gate, GateError> {
        let failed = |source| GateError::System { action: "open a netlink socket", source };
        let key = bytes(address);
        let chains = rules::chains(address, LEASE);
        Ok(Gate {
            socket: nft::open().map_err(failed)?,
            news: nft::listen().map_err(failed)?,
            transaction: Transaction::default(),
            tables: tables(&chains, true),
            chains,
            interface: interface.to_owned(),
            key,
        })
    }

    /// Makes both copies anew, closed, whatever is left of them or of an earlier process's. It is one transaction: what
    /// was closed is closed at every moment.
    ///
    /// Where the kernel has no hook for what leaves an interface (before Linux 5.16), or the interface is not there, the
    /// gate does without that; see [`Gate::stops_raw_announcements`]. Tables that have an owner came with Linux 5.12: without them
    /// there is no gate.
    pub fn build(&mut self) -> Result<(), GateError> {
        self.change_tables("build the gate", |gate| gate.put_new(|_| true))
    }

    /// Makes the plain copy anew, closed, after somebody has changed it or taken it away, and leaves the owned one as it is:
    /// what was closed is closed at every moment, and what the owned copy lets through waits for [`Gate::reopen`].
    pub fn mend(&mut self) -> Result<(), GateError> {
        self.put_new(|table| !table.owned);
        self.commit("mend the gate")
    }

    /// Takes both copies away: nothing keeps the address closed any more.
    pub fn remove(mut self) -> Result<(), GateError> {
        self.change_tables("remove the gate", |gate| gate.put_absent(|_| true))
    }

    /// The same for whatever gate an engine has left that is gone, of whichever address.
    ///
    /// # Errors
    ///
    /// [`GateError::Taken`]: an engine runs, and has it.
    pub fn remove_left() -> Result<(), GateError> {
        // IPv4's gate has a table in every family; no chain is made, so neither address nor interface matters
        Gate::new(Ipv4Addr::UNSPECIFIED.into(), "")?.remove()
    }

    /// Whether also an ARP announcement that was put together in this process is dropped while the gate is closed. If
    /// not, one that is sent by a process that was stopped right before passes.
    pub fn stops_raw_announcements(&self) -> bool {
        self.key.len() > 4 || self.tables.iter().any(|table| table.family == Family::Netdev)
    }

    /// Takes out a permit, good for one grant within `valid`. One that is left over is void.
    pub fn permit(&mut self, valid: Duration) -> Result<(), GateError> {
        self.transaction.begin();
        for &table in permitting(&self.tables) {
            self.transaction.flush(table, PERMIT);
            self.transaction.add(table, PERMIT, &self.key, valid);
        }
        self.commit("take out a permit")
    }

    /// Opens the gate for `lease`, whether it is open or not. Spends the permit.
    pub fn open(&mut self, lease: Duration) -> Result<(), GateError> {
        self.grant(lease, |transaction, table, set, _| transaction.flush(table, set))
    }

    /// Has an open gate stay open for `lease` from now. Spends the permit.
    pub fn renew(&mut self, lease: Duration) -> Result<(), GateError> {
        self.grant(lease, Transaction::delete)
    }

    /// Has a gate that was [mended](Gate::mend) be open for `lease` from now, if the owned copy still is. Spends the permit.
    pub fn reopen(&mut self, lease: Duration) -> Result<(), GateError> {
        self.grant(lease, |transaction, table, set, key| match table.owned {
            true => transaction.delete(table, set, key),
            false => transaction.flush(table, set),
        })
    }

    /// Closes the gate now, and makes the permit void. What is not there any more is not missed.
    pub fn close(&mut self) -> Result<(), GateError> {
        self.transaction.begin();
        self.tables.iter().for_each(|&table| put_closed(&mut self.transaction, table));
        if self.transaction.commit(&mut self.socket).is_ok() {
            return Ok(());
        }
        // a table that is missing must not keep the others open
        let mut result = Ok(());
        for &table in &self.tables {
            put_closed(self.transaction.begin(), table);
            match self.transaction.commit(&mut self.socket) {
                Ok(()) | Err(RequestError::Fault(Fault { errno: Errno::NOENT, .. })) => {}
                Err(error) => {
                    result = Err(GateError::System { action: "close the gate", source: error.into() });
                }
            }
        }
        result
    }

    /// How long the gate stays open, as the kernel has it; `None`: it is closed.
    pub fn left(&mut self) -> Result<Option<Duration>, GateError> {
        let mut least = None;
        for &table in &self.tables {
            match nft::left(&mut self.socket, table, LEASE, &self.key) {
                Ok(Some(left)) => least = Some(least.map_or(left, |least: Duration| least.min(left))),
                Ok(None) | Err(RequestError::Fault(Fault { errno: Errno::NOENT, .. })) => return Ok(None),
                Err(error) => {
                    return Err(GateError::System { action: "read the lease", source: error.into() });
                }
            }
        }
        Ok(least)
    }

    /// What others did to the gate since it was asked last; `None`: nothing. To be asked whenever this is readable
    /// ([`AsFd`]), which it is after every change of nftables, our own among them.
    pub fn disturbance(&mut self) -> Result<Option<Disturbance>, GateError> {
        let own = self.socket.port();
        let mut found = None;
        // which copy the transaction is about whose news are being read; the owned one counts more
        let mut ours = None;
        loop {
            let bytes = match self.news.receive() {
                Ok(Some(bytes)) => bytes,
                Ok(None) => break,
                Err(Errno::NOBUFS) => {
                    found = found.max(Some(Disturbance::Unheard));
                    continue;
                }
                Err(errno) => {
                    return Err(GateError::System {
                        action: "hear of changes of nftables",
                        source: errno.into(),
                    });
                }
            };
            for message in messages(bytes).filter(|message| message.port != own) {
                match nft::news(&message) {
                    Some(News::Of(table)) => {
                        let copy = NAMES.into_iter().find(|(name, _)| *name == table);
                        ours = ours.max(copy.map(|(_, owned)| owned));
                    }
                    Some(News::By(process, name)) => {
                        let done = ours.take().map(|owned| match owned {
                            true => Disturbance::Undone,
                            false => Disturbance::Changed { process, name: name.to_owned() },
                        });
                        found = found.max(done);
                    }
                    None => {}
                }
            }
        }
        // the end of the news of a transaction may itself have been lost
        Ok(found.max(ours.map(|_| Disturbance::Unheard)))
    }

    fn grant(
        &mut self,
        lease: Duration,
        clear: fn(&mut Transaction, Table, &str, &[u8]),
    ) -> Result<(), GateError> {
        self.transaction.begin();
        for &table in permitting(&self.tables) {
            self.transaction.delete(table, PERMIT, &self.key);
        }
        let permits = self.transaction.next();
        for &table in &self.tables {
            clear(&mut self.transaction, table, LEASE, &self.key);
            self.transaction.add(table, LEASE, &self.key, lease);
        }
        match self.transaction.commit(&mut self.socket) {
            Ok(()) => Ok(()),
            Err(RequestError::Fault(Fault { errno: Errno::NOENT, message })) => {
                self.whole()?;
                Err(GateError::Refused(if message < permits { Spent::Permit } else { Spent::Lease }))
            }
            Err(error) => Err(refusal(error, "open the gate")),
        }
    }

    /// [`GateError::Missing`], unless every set of every table is there.
    fn whole(&mut self) -> Result<(), GateError> {
        let leases = self.tables.iter().map(|&table| (table, LEASE));
        let permits = permitting(&self.tables).map(|&table| (table, PERMIT));
        for (table, set) in leases.chain(permits) {
            nft::look_for_set(&mut self.socket, table, set)
                .map_err(|error| refusal(error, "look for the gate"))?;
        }
        Ok(())
    }

    fn commit(&mut self, action: &'static str) -> Result<(), GateError> {
        self.transaction.commit(&mut self.socket).map_err(|error| refusal(error, action))
    }

    /// With the hook for what leaves the interface, and without it where that cannot be had.
    fn change_tables(&mut self, action: &'static str, put: fn(&mut Gate)) -> Result<(), GateError> {
        self.tables = tables(&self.chains, true);
        put(self);
        let mut result = self.transaction.commit(&mut self.socket);
        if matches!(result, Err(RequestError::Fault(fault)) if fault.errno != Errno::PERM) {
            self.tables = tables(&self.chains, false);
            put(self);
            result = self.transaction.commit(&mut self.socket);
        }
        match result {
            // who lacks the right is refused the first message already
            Err(RequestError::Fault(Fault { errno: Errno::PERM, message: 2.. })) => Err(GateError::Taken),
            result => result.map_err(|error| GateError::System { action, source: error.into() }),
        }
    }

    fn put_absent(&mut self, which: fn(&Table) -> bool) {
        self.transaction.begin();
        for &table in self.tables.iter().filter(|table| which(table)) {
            // only what is there can be deleted
            self.transaction.table(table);
            self.transaction.delete_table(table);
        }
    }

    fn put_new(&mut self, which: fn(&Table) -> bool) {
        self.put_absent(which);
        for &table in self.tables.iter().filter(|table| which(table)) {
            self.transaction.table(table);
            self.transaction.set(table, LEASE, &self.key);
            for chain in self.chains.iter().filter(|chain| chain.family == table.family) {
                self.transaction.chain(table, chain.name, chain.hook(&self.interface));
                chain.rules.iter().for_each(|steps| self.transaction.rule(table, chain.name, steps));
            }
        }
        for &table in permitting(&self.tables).filter(|table| which(table)) {
            self.transaction.set(table, PERMIT, &self.key);
        }
    }
}

/// Readable after every change of nftables: then [`Gate::disturbance`] tells whether it was the gate's.
impl AsFd for Gate {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }
}

/// Both copies of the tables that these chains need.
fn tables(chains: &[Chain], netdev: bool) -> Vec<Table> {
    let mut families: Vec<Family> = chains.iter().map(|chain| chain.family).collect();
    families.dedup();
    families.retain(|family| netdev || *family != Family::Netdev);
    let copy = |(name, owned)| families.iter().map(move |&family| Table { family, name, owned });
    NAMES.into_iter().flat_map(copy).collect()
}

/// The tables with a set of permits: one of each copy.
fn permitting(tables: &[Table]) -> impl Iterator<Item = &Table> {
    tables.iter().filter(|table| table.family == Family::Inet)
}

fn put_closed(transaction: &mut Transaction, table: Table) {
    transaction.flush(table, LEASE);
    if table.family == Family::Inet {
        transaction.flush(table, PERMIT);
    }
}

fn refusal(error: RequestError, action: &'static str) -> GateError {
    match error {
        RequestError::Fault(Fault { errno: Errno::NOENT, .. }) => GateError::Missing,
        error => GateError::System { action, source: error.into() },
    }
}
