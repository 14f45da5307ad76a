//! Linux-HA's Heartbeat 3 as the cluster: it decides where the address is, and the engine lives with it (`domain.md` 5.6).
//!
//! Each node's engine writes Heartbeat's files from the same values, and starts and stops Heartbeat with itself. Heartbeat
//! moves two resources, one after the other: the address, and a script that tells the engine
//! ([`Cluster::told`]) that the address came or is to go; telephony follows that. A thread listens to `cl_status`, and asks
//! for a move by `hb_standby`. Heartbeat itself never moves the address home: the engine does, when the other engine says
//! over SSH that it could serve. There is no lease: nothing but Heartbeat keeps the address from being at both nodes.
//!
//! Of Heartbeat's faults two are met: one that was killed, or does not answer, loses the address here, and is started again
//! when the other node must have noticed it. That both nodes serve while the line between them is cut stays as it
//! is, and so does that for some seconds nobody does after it was healed: Heartbeat begins anew at both.

mod asking;
mod claim;
mod files;
mod known;
#[cfg(test)]
mod tests;
mod tools;
mod watch;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ha_core::Role;
use ha_core::cluster::heartbeat::{Files, Pair};
use ha_core::cluster::{Standing, View};
use ha_core::health::Verdict;
use pnet::datalink::{self, NetworkInterface};
use tokio::sync::Notify;

use self::asking::Asks;
pub(crate) use self::claim::Claim;
pub(crate) use self::files::differing;
use self::known::Known;
pub(crate) use self::tools::UNIT;
use self::tools::{Runs, Tools};
use self::watch::{Order, Watch};
use super::gate::Gate;
use super::native::KeyError;
use super::{Charter, Cluster};
use crate::context::Context;
use crate::report::Failure;
use crate::root::Root;
use crate::settings::Heartbeat;

/// How long the thread is waited for when the engine ends: systemd does not wait for long.
const FAREWELL: Duration = Duration::from_secs(1);

/// Heartbeat, seen from the engine.
pub struct HeartbeatCluster {
    known: Arc<Known>,
    tools: Tools,
    files: Files,
    orders: Sender<Order>,
    watch: Option<JoinHandle<()>>,
    /// Dropped, it ends the thread that asks the other node; not waited for: it may be with a question.
    _asking: Sender<()>,
}

/// Opens the cluster of a charter: Heartbeat's files are as they should be, and it runs. One that runs with such files
/// already is left as it is.
pub(super) fn open(
    context: &Context,
    charter: &Charter,
    heartbeat: Heartbeat,
) -> Result<HeartbeatCluster, Failure> {
    if let Some(program) = missing(&context.root) {
        return Err(Failure::environment(format!(
            "{program} is not installed below {}: install the package heartbeat",
            context.root.directory().display()
        )));
    }
    let files = wanted(context, charter, heartbeat)?;
    if context.root.is_machine()
        && let Err(error) = Gate::remove_left()
    {
        // of the native kind, before the settings changed
        tracing::warn!("a gate that keeps the address closed may be left: {error}");
    }
    let tools = tools(context, charter, files.group.clone());
    let asks = (charter.role == Role::Slave).then(|| asking::over_ssh(context));
    HeartbeatCluster::start(tools, files, heartbeat, asks).map_err(Failure::environment)
}

fn tools(context: &Context, charter: &Charter, group: String) -> Tools {
    let other = match charter.role {
        Role::Master => &charter.shared.standby_node,
        Role::Slave | Role::Disabled => &charter.shared.primary_node,
    };
    Tools {
        root: context.root.clone(),
        role: charter.role,
        other: other.clone(),
        references: charter.references.clone(),
        group,
    }
}

/// The other node as Heartbeat knows it: its name there, and the verdict on it; `None`: no Heartbeat answers.
pub(crate) fn hears(context: &Context, charter: &Charter) -> (String, Option<Verdict>) {
    let tools = tools(context, charter, String::new());
    let seen = tools.look();
    (tools.other, (seen.runs == Runs::Yes).then_some(seen.peer))
}

/// A program of Heartbeat's that is not installed.
pub(crate) fn missing(root: &Root) -> Option<&'static str> {
    Tools::missing(root)
}

/// Heartbeat's files as they are to be on this node.
pub(crate) fn wanted(context: &Context, charter: &Charter, heartbeat: Heartbeat) -> Result<Files, Failure> {
    let settings = &charter.settings;
    let key = super::native::secret(&context.root.path(&settings.key_file))
        .map_err(|error: KeyError| Failure::environment(error))?;
    let interfaces = datalink::interfaces();
    let prefix = prefix(&interfaces, &settings.interface, charter.address)?;
    let peers = if settings.paths.is_empty() { vec![charter.peer] } else { settings.paths.clone() };
    let paths: Vec<(&str, IpAddr)> =
        peers.into_iter().map(|peer| (way(&interfaces, peer).unwrap_or(&settings.interface), peer)).collect();
    let pair = Pair {
        shared: &charter.shared,
        prefix,
        interface: &settings.interface,
        paths: &paths,
        references: &charter.references,
        port: settings.port,
        keepalive: heartbeat.keepalive,
        deadtime: heartbeat.deadtime,
        initdead: heartbeat.initdead,
    };
    context.distribution.heartbeat(&pair, &String::from_utf8_lossy(&key)).map_err(Failure::usage)
}

/// The length of the prefix of the network in which the address is.
fn prefix(interfaces: &[NetworkInterface], name: &str, address: IpAddr) -> Result<u8, Failure> {
    let mut networks = interfaces.iter().filter(|one| one.name == name).flat_map(|one| &one.ips);
    let found = networks.find(|network| network.ip() != address && network.contains(address));
    found.map(|network| network.prefix()).ok_or_else(|| {
        Failure::usage(format!(
            "{address} is in no network of the interface {name}: set [cluster] interface to the one in the phones' network, or \
             `configure --cluster-ip` with a free address of it"
        ))
    })
}

/// The interface over which a host in one of its networks is reached.
fn way(interfaces: &[NetworkInterface], peer: IpAddr) -> Option<&str> {
    let reaches = |one: &&NetworkInterface| one.ips.iter().any(|network| network.contains(peer));
    interfaces.iter().find(reaches).map(|one| one.name.as_str())
}

fn in_thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, String> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map_err(|error| format!("cannot start a thread: {error}"))
}

impl HeartbeatCluster {
    /// `asks`: on the node that would hand the address back.
    fn start(
        tools: Tools,
        files: Files,
        heartbeat: Heartbeat,
        asks: Option<Asks>,
    ) -> Result<HeartbeatCluster, String> {
        let differs = !files::differing(&tools.root, &files).map_err(|error| error.to_string())?.is_empty();
        let runs = tools.look().runs;
        if differs && runs != Runs::No {
            tracing::warn!("Heartbeat runs with other files than it should: it begins anew");
            tools.stop().map_err(|error| error.to_string())?;
        }
        files::write(&tools.root, &files).map_err(|error| error.to_string())?;
        let known = Arc::new(Known::recall(Claim::of(&tools.root), asks.is_some()));
        let (orders, taken) = channel();
        let mut watch = Watch::new(tools.clone(), Arc::clone(&known), taken, heartbeat);
        // so that an engine that begins anew where the address is knows it before it decides anything
        watch.begin();
        let watch = in_thread("heartbeat", move || watch.run())?;
        let (asking, end) = channel();
        if let Some(asks) = asks {
            let known = Arc::clone(&known);
            in_thread("other-node", move || asking::run(&known, &asks, &end))?;
        }
        Ok(HeartbeatCluster { known, tools, files, orders, watch: Some(watch), _asking: asking })
    }

    /// The thread may be with a command that takes long: it starts nothing any more, and is not waited for then.
    fn wait_for_the_watch(&mut self) {
        let Some(watch) = self.watch.take() else { return };
        let until = Instant::now() + FAREWELL;
        while !watch.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(10));
        }
        if watch.is_finished() && watch.join().is_err() {
            tracing::error!("the thread that listens to Heartbeat had panicked");
        }
    }
}

impl Cluster for HeartbeatCluster {
    fn view(&self) -> View {
        self.known.view()
    }

    fn changes(&self) -> Arc<Notify> {
        self.known.changes()
    }

    /// Heartbeat has no words for it: the other node's engine asks.
    fn standing(&self, _: Standing) {}

    fn hand_over(&self) {
        let _ = self.orders.send(Order::HandOver);
    }

    fn fetch(&self) -> bool {
        self.orders.send(Order::Fetch).is_ok()
    }

    fn moves(&self) -> Option<&str> {
        Some(&self.files.group)
    }

    /// Heartbeat goes on without the engine; systemd has it give the address away when the engine was killed.
    fn turned(&self) {}

    fn told(&self, here: bool) -> Result<(), Failure> {
        if here {
            self.known.came().map_err(|error| Failure::environment(format!("{}: {error}", self.claim())))?;
            let _ = self.orders.send(Order::Look);
        } else {
            self.known.gone();
        }
        Ok(())
    }

    fn runs(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| !watch.is_finished())
    }

    fn facts(&self) -> serde_json::Value {
        self.known.facts()
    }

    /// Heartbeat's own end gives the address to the other node, and is quicker than asking for that first.
    fn leave(mut self: Box<Self>) {
        self.known.end();
        // it may have ended
        let _ = self.orders.send(Order::End);
        if let Err(error) = self.tools.stop() {
            tracing::error!("Heartbeat was not stopped: {error}");
        }
        self.wait_for_the_watch();
        if Claim::of(&self.tools.root).is_made() {
            self.known.gone();
            if let Err(error) = self.tools.drop_address() {
                tracing::error!("the address may still be here: {error}");
            }
        }
    }

    fn dissolve(self: Box<Self>) {
        let (root, files) = (self.tools.root.clone(), self.files.clone());
        self.leave();
        if let Err(error) = files::remove(&root, &files) {
            tracing::error!("Heartbeat's files were not all removed: {error}");
        }
    }
}

impl HeartbeatCluster {
    fn claim(&self) -> String {
        Claim::of(&self.tools.root).path().display().to_string()
    }
}

impl Drop for HeartbeatCluster {
    fn drop(&mut self) {
        // not waited for: it may be with a command
        let _ = self.orders.send(Order::End);
    }
}
