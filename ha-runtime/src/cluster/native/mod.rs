//! Our own cluster: beats over UDP, and a lease that the kernel ends (`safety.md` 5).
//!
//! A thread of its own runs the [machine](ha_core::cluster::native::Native) that decides: before all others where the
//! kernel allows it, and without a disk, a child process or a lock. What it waits for is in one `poll`: beats, the
//! interface, changes of nftables, answers of references, claims to the address, orders, the time. What the engine tells it
//! and what it tells the engine are words in memory; a second thread wakes the engine, and writes to the disk.
//!
//! Beats are not stamped by the kernel: a beat counts from when it is read. That is later, if at all, so that the other
//! node's silence is never taken for longer than it was; and a thread that is late has to wait anew anyway.

mod key;
mod memory;
mod path;
mod realtime;
mod references;
mod shared;
mod turn;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ha_core::cluster::beat::Rank;
use ha_core::cluster::native::{Config, PROBE_WAIT};
use ha_core::cluster::{Standing, Terms, View};
use serde::Serialize;
use tokio::sync::Notify;

pub(in crate::cluster) use self::key::secret;
pub use self::key::{Key, KeyError};
use self::shared::{Order, Shared};
use self::turn::Keeper;
use super::Cluster;
use super::address::AddressError;
use super::gate::{Gate, GateError};
use crate::clock::boottime;
use crate::root::Root;

/// What a node has to know to share an address.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Whom it prefers to be.
    pub rank: Rank,
    /// Equal on both nodes, or the longer wait counts.
    pub terms: Terms,
    /// The address that both share.
    pub address: IpAddr,
    /// Where it is put. It must be there when the cluster is started.
    pub interface: String,
    /// The other node's addresses, one for each way to it.
    pub paths: Vec<IpAddr>,
    /// Where both listen, UDP.
    pub port: u16,
    /// Hosts that always answer, asked through the interface. None: this node never knows that it is cut off.
    pub references: Vec<IpAddr>,
    /// How long a node that hears nobody after its machine's start waits;
    /// [`BOOT_WAIT`](ha_core::cluster::native::BOOT_WAIT) but for tests. After a start of the engine alone it is less.
    pub boot_wait: Duration,
}

/// The same at the least where only the engine was started anew: this machine does not come back from where the other one may
/// be coming back from. The other node's lease may be longer than this node's, as far as this one has heard of it.
const RESTART_WAIT: Duration = Duration::from_secs(5);

impl Setup {
    fn config(&self) -> Config {
        Config {
            rank: self.rank,
            terms: self.terms,
            boot_wait: self.boot_wait,
            probe_wait: PROBE_WAIT,
            references: !self.references.is_empty(),
        }
    }
}

/// Why the cluster does not start. The gate is closed then, if it could be built.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No gate, no address.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// The interface is not there, or does not do what is asked.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The system has no room for a thread or a descriptor, or no random numbers.
    #[error("cannot {action}: {source}")]
    System {
        /// What was to be done.
        action: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

/// The thread, seen from the engine.
#[derive(Debug)]
pub struct NativeCluster {
    shared: Arc<Shared>,
    changes: Arc<Notify>,
    /// Lease and margin.
    wait: Duration,
    address: IpAddr,
    interface: String,
    keeper: Option<JoinHandle<()>>,
    voice: Option<JoinHandle<()>>,
}

impl NativeCluster {
    /// Closes the gate, takes away an address that was left on the interface, and starts the thread. What the node
    /// remembers is below `root`.
    pub fn start(setup: Setup, key: Key, root: &Root) -> Result<NativeCluster, StartError> {
        let system = |action| move |source| StartError::System { action, source };
        let file = memory::file(root);
        let remembered = memory::recall(&file);
        let mark = memory::mark(root);
        let wait = setup.terms.lease + setup.terms.margin;
        let boot_wait = match memory::longest_wait(&mark) {
            Some(heard) => setup.boot_wait.min(RESTART_WAIT.max(wait.max(heard) * 2)),
            None => setup.boot_wait,
        };
        let setup = Setup { boot_wait, ..setup };
        let shared = Shared::new(&setup.paths, remembered).map_err(system("make an eventfd"))?;
        let shared = Arc::new(shared);
        shared.turned.set(Some(boottime()));
        let (address, interface) = (setup.address, setup.interface.clone());
        let keeper = Keeper::new(setup, key, remembered, Arc::clone(&shared))?;
        let changes = Arc::new(Notify::new());
        let voice = memory::speak(Arc::clone(&shared), Arc::clone(&changes), file, mark, remembered)
            .map_err(system("start a thread"))?;
        let keeper = thread::Builder::new()
            .name("cluster".to_owned())
            .spawn(move || keeper.run())
            .inspect_err(|_| shared.end())
            .map_err(system("start a thread"))?;
        Ok(NativeCluster {
            shared,
            changes,
            wait,
            address,
            interface,
            keeper: Some(keeper),
            voice: Some(voice),
        })
    }

    /// What there is to know beside the view.
    pub fn known(&self) -> Facts {
        let now = boottime();
        let ago = |time: Option<Duration>| time.map(|time| now.saturating_sub(time).as_secs_f64());
        let shared = &self.shared;
        let remembered = shared.remembered();
        Facts {
            kind: "native",
            runs: self.runs(),
            act: shared.act(),
            epoch: remembered.epoch,
            lease_left: shared.held_until.get().map(|until| until.saturating_sub(now).as_secs_f64()),
            paths: shared
                .paths
                .iter()
                .map(|path| PathFacts { peer: path.peer, heard_ago: ago(path.at.get()) })
                .collect(),
            owner_seen_ago: ago(shared.owner_seen.get()),
            foreign_datagrams: shared.foreign.get(),
            gate_lost: shared.gate_lost.get(),
            grants_refused: shared.refused.get(),
            real_time: shared.real_time.load(Ordering::Acquire),
            locked: shared.locked.load(Ordering::Acquire),
        }
    }

    /// Ends both threads; `order` is how.
    fn end(&mut self, order: Order, patience: Duration) {
        let Some(keeper) = self.keeper.take() else { return };
        self.shared.order(order);
        let begin = boottime();
        while !keeper.is_finished() {
            if boottime() - begin > patience {
                self.shared.order(Order::Stop);
            }
            // a lease is renewed only while the engine's loop turns, which now is this one
            self.turned();
            thread::sleep(Duration::from_millis(5));
        }
        let panicked = keeper.join().is_err();
        if self.voice.take().is_some_and(|voice| voice.join().is_err()) || panicked {
            tracing::error!("a thread of the cluster had panicked");
        }
    }
}

impl Cluster for NativeCluster {
    fn view(&self) -> View {
        let view = self.shared.view();
        // a thread that was stopped cannot say that its lease has run out
        let lives = self.shared.held_until.get().is_some_and(|until| boottime() < until);
        View { held: view.held && lives, ..view }
    }

    fn changes(&self) -> Arc<Notify> {
        Arc::clone(&self.changes)
    }

    fn standing(&self, standing: Standing) {
        self.shared.set_standing(standing);
    }

    fn hand_over(&self) {
        self.shared.order(Order::HandOver);
    }

    fn turned(&self) {
        self.shared.turned.set(Some(boottime()));
    }

    fn runs(&self) -> bool {
        !self.shared.ended.load(Ordering::Acquire)
    }

    fn facts(&self) -> serde_json::Value {
        serde_json::to_value(self.known()).unwrap_or_default()
    }

    fn leave(mut self: Box<Self>) {
        // an offer that nobody takes, and then what was let go and not taken
        self.end(Order::Leave, self.wait * 2);
    }

    fn dissolve(self: Box<Self>) {
        let (address, interface) = (self.address, self.interface.clone());
        self.leave();
        // without it an address that is set by hand would be there and not be reached
        if let Err(error) = Gate::new(address, &interface).and_then(Gate::remove) {
            tracing::error!("the gate of {address} stays closed until the machine is started anew: {error}");
        }
    }
}

impl Drop for NativeCluster {
    fn drop(&mut self) {
        self.end(Order::Stop, Duration::ZERO);
    }
}

/// What `status` tells of the cluster. Times are in seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Facts {
    /// Which kind of cluster.
    pub kind: &'static str,
    /// The thread runs.
    pub runs: bool,
    /// What the node does with the address: `rests`, `claims`, `takes`, `holds`, `offers` or `gives`.
    pub act: &'static str,
    /// Of when this node last held it.
    pub epoch: u64,
    /// How long it is held unless that is renewed; `None`: it is not.
    pub lease_left: Option<f64>,
    /// Each way to the other node.
    pub paths: Vec<PathFacts>,
    /// Since somebody else last answered for the address.
    pub owner_seen_ago: Option<f64>,
    /// Datagrams that came over the paths and that nobody with this key has sealed.
    pub foreign_datagrams: u64,
    /// How often somebody else has taken the gate's tables away, or changed them.
    pub gate_lost: u64,
    /// How often the kernel refused a grant because this thread was too late.
    pub grants_refused: u64,
    /// The kernel lets the thread go before all others.
    pub real_time: bool,
    /// The kernel keeps the process in memory.
    pub locked: bool,
}

/// One way to the other node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PathFacts {
    /// Its address there.
    pub peer: IpAddr,
    /// Since a beat came over it; `None`: never.
    pub heard_ago: Option<f64>,
}
