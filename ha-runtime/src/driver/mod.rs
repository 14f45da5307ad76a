//! The daemon: one loop that feeds a node and does what it asks for. The only caller of `Node::handle`.
//!
//! Handle one input; dispatch each output to a task or a thread; wait for whichever comes first of a report, a request,
//! or the node's deadline; repeat. One consumer, so no lock and no shared state, but for the generation that actions
//! check right before they act.

mod acting;
mod address;
mod changes;
mod checks;
mod clustering;
mod following;
mod handover;
mod keeper;
mod leaving;
mod leftovers;
mod owing;
mod reloading;
mod requests;
pub(crate) mod stale;
mod status;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::Local;
use ha_core::event::{Command, Target};
use ha_core::health::{Rung, Verdict as PeerVerdict};
use ha_core::node::Node;
use ha_core::services::Observed;
use ha_core::{Input, Output, RoleConfig, ServiceState};
use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::clock;
use crate::cluster;
use crate::context::Context;
use crate::control::Request;
use crate::effect::Performer;
use crate::fence::{Beginnings, UNFINISHED};
use crate::lock;
use crate::node_state;
use crate::observe::observe;
use crate::performer;
use crate::probe::{self, Icmp, ProbeOutcome};
use crate::replicate::{self, Ended, Job, Kept};
use crate::report::{Failure, Verdict};
use crate::settings;
use checks::Checking;
pub(crate) use clustering::Opener;
use clustering::{Clustering, Reopened};
use following::Following;
pub use following::without_daemon as followers_without_daemon;
use handover::Waiter;
use keeper::Keeper;
pub use keeper::{AlertLine, DECISION, Notes};
use reloading::Reread;
pub use status::{document as status_document, text as status_text};

/// Between two looks at telephony (`safety.md` 2.6).
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// How long the end waits for the other node to be told.
const GOODBYE: Duration = Duration::from_secs(1);
/// The generation of actions while a role change is under way: none is right.
const NO_GENERATION: u64 = u64::MAX;

/// What reaches the loop.
enum Message {
    /// For the node.
    Input(Input),
    /// From the control socket.
    Request(Request, oneshot::Sender<Verdict>),
    /// A command for the node with an answer: refused, or done when telephony is as wanted.
    Command(Command, Option<ServiceState>, oneshot::Sender<Verdict>),
    /// A role change ended.
    Configured(Result<RoleChanged, Failure>, oneshot::Sender<Verdict>),
    /// The settings were read anew.
    Reloaded(Box<Reread>),
    /// The pair's cluster is to be another one, or is.
    Reopened(Reopened),
    /// A probe ended without an outcome: this program is broken, which must not look like a dead peer.
    Broken(tokio::task::JoinError),
}

/// A role change that was done.
struct RoleChanged {
    role: RoleConfig,
    observed: Observed,
    /// What a person should know.
    notes: String,
    /// The settings' file was written as well, and is to be read.
    settings_written: bool,
}

/// The daemon of one node.
struct Driver {
    context: Context,
    node: Node,
    icmp: Option<Icmp>,
    performer: Arc<Performer>,
    keeper: Keeper,
    generation: Arc<AtomicU64>,
    waiters: Vec<Waiter>,
    configuring: bool,
    /// For the pair as it is now; see [`Driver::give`].
    kept: Kept,
    /// Tells of changes.
    changes: JoinSet<()>,
    /// What stands beside the pair.
    following: Following,
    /// Who settles which node has the address, where the pair shares one.
    clustering: Clustering,
    checking: Checking,
    fence: Arc<tokio::sync::Mutex<Option<crate::fence::Held>>>,
    beginnings: Beginnings,
    /// Held while a look at telephony is under way.
    looking: Arc<tokio::sync::Mutex<()>>,
    /// Held while what a replication left is settled.
    settling: Arc<tokio::sync::Mutex<()>>,
    to_self: mpsc::Sender<Message>,
}

/// Runs the daemon until SIGTERM or SIGINT, which leave telephony as it is; where the pair shares an address it is given
/// away or let go, and telephony stops (`safety.md` 6.3).
pub async fn run(context: Context) -> Verdict {
    run_with(context, Arc::new(cluster::open)).await
}

/// The same with another cluster than the settings say.
pub(crate) async fn run_with(context: Context, opener: Opener) -> Verdict {
    // from here on, before anything takes long: unhandled, it would end the engine
    let hangup = signal(SignalKind::hangup()).map_err(system)?;
    // one daemon a node; the lock lives as long as the process
    let lock = context.root.path(lock::LOCK_DIRECTORY).join("daemon.lock");
    // it lies in memory: without it no engine has run since the machine was started
    let is_first = !lock.exists();
    let alone = lock::hold(&lock, Duration::ZERO);
    let _alone = alone.map_err(|error| Failure::environment(format!("another daemon runs: {error}")))?;
    let keeper = Keeper::start(&context)?;
    let performer = Arc::new(performer::build(&context, keeper.journal())?);
    performer::settle_the_past(&context, &performer, &keeper.journal())?;
    // not before: a role change that was cut short has just been undone
    let role = context.role()?;

    let store = node_state::store(&context)?;
    let record = node_state::load(&store)?;
    let booted = is_first && record.is_some();
    let observed = observe(&context.root, &context.profile().observe);
    let node = Node::new(context.policy(Arc::new(Local)), role, record, observed, clock::now());

    let (to_self, inbox) = mpsc::channel(256);
    keeper.records_go_to(store, to_self.clone());
    let mut driver = Driver::new(context, node, performer, keeper, opener, to_self);
    driver.open_probes(&role)?;
    driver.look_what_is_owed(booted);
    driver.clustering.start(&driver.context, &role)?;
    // not before: a cluster that is started may have a script that would wait for the loop
    let listener = requests::listen(&driver.context.root)?;
    driver.keep_anew();
    if booted {
        driver.feed(Input::Booted);
    }
    tracing::info!("{} {} as {}", driver.context.profile().program, env!("CARGO_PKG_VERSION"), role.role());
    driver.turn(listener, inbox, hangup).await
}

impl Driver {
    /// Of that node. Nobody is probed yet, and no change is looked out for.
    fn new(
        context: Context,
        node: Node,
        performer: Arc<Performer>,
        keeper: Keeper,
        opener: Opener,
        to_self: mpsc::Sender<Message>,
    ) -> Driver {
        let generation = Arc::new(AtomicU64::new(node.record().generation));
        Driver {
            icmp: None,
            performer,
            keeper,
            generation,
            waiters: Vec::new(),
            configuring: false,
            kept: Kept::default(),
            changes: JoinSet::new(),
            following: Following::default(),
            clustering: Clustering::new(opener),
            checking: Checking::default(),
            fence: Arc::default(),
            beginnings: Beginnings::default(),
            looking: Arc::default(),
            settling: Arc::default(),
            to_self,
            context,
            node,
        }
    }

    /// The raw socket is wanted only by a node that has somebody to ping, and then it is an error at once: probes that
    /// cannot be sent must never look like a dead peer.
    fn open_probes(&mut self, role: &RoleConfig) -> Result<(), Failure> {
        if self.context.profile().exclusive_address {
            // the cluster hears the other node, and asks the references
            return Ok(());
        }
        let pinged = pinged(&self.context.settings.probe, role);
        if pinged.is_empty() {
            return Ok(());
        }
        let icmp = match &self.icmp {
            Some(icmp) => icmp,
            None => {
                let opened = Icmp::start().or_else(|raw| Icmp::start_unprivileged().map_err(|_| raw));
                self.icmp.insert(opened.map_err(Failure::environment)?)
            }
        };
        pinged.into_iter().try_for_each(|address| icmp.check(address)).map_err(Failure::environment)
    }

    async fn turn(
        &mut self,
        listener: UnixListener,
        mut inbox: mpsc::Receiver<Message>,
        mut hangup: Signal,
    ) -> Verdict {
        let mut terminate = signal(SignalKind::terminate()).map_err(system)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(system)?;
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.feed(Input::Tick);
        loop {
            self.clustering.turned();
            // also what it cannot say: a lease that ran out while its thread was stopped
            self.hear_the_cluster();
            let deadline = self.node.deadline();
            tokio::select! {
                biased;
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                () = self.clustering.changed() => {}
                message = inbox.recv() => match message {
                    // telephony stays as it is, and the next engine goes on from there
                    Some(Message::Broken(error)) => return Err(Failure::environment(format!("a probe: {error}"))),
                    Some(message) => self.take(message),
                    None => break,
                },
                () = until(deadline) => self.feed(Input::Tick),
                Ok((stream, _)) = listener.accept() => requests::serve(stream, self.to_self.clone()),
                Some(ended) = self.changes.join_next() => self.looks_out_no_more(&ended),
                _ = look.tick() => {
                    self.look_out_again();
                    self.recluster_if_there_is_none();
                    self.look();
                }
                _ = hangup.recv() => self.reload(),
                () = self.clustering.pause() => {}
            }
        }
        let has_left = self.leave(&listener, &mut inbox).await;
        let _ = tokio::time::timeout(GOODBYE, self.kept.close()).await;
        tracing::info!(
            "ending; telephony is {}",
            if has_left { "where the address is now" } else { "left as it is" }
        );
        Ok(crate::report::Report::default())
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Input(input) => self.feed(input),
            Message::Request(request, answer) => self.request(request, answer),
            Message::Command(command, wanted, answer) => self.command(command, wanted, answer),
            Message::Configured(outcome, answer) => self.configured(outcome, answer),
            Message::Broken(error) => tracing::error!("a probe: {error}"),
            Message::Reloaded(read) => self.reloaded(*read),
            Message::Reopened(what) => self.reopened(what),
        }
    }

    fn feed(&mut self, input: Input) {
        // only a command can be refused, and a command is given by `give`
        self.give(input);
    }

    /// The one place where a node is handled. Returns the refusal of a command.
    fn give(&mut self, input: Input) -> Option<Failure> {
        let before = (self.what_is_kept_for(), self.slave_is_down());
        let (generation, stood_by_since) = (self.node.record().generation, self.stands_by_since());
        let recorded = matches!(input, Input::Persisted { .. });
        let outputs = self.node.handle(clock::now(), input);
        if self.what_is_kept_for() != before.0 {
            self.keep_anew();
        } else if self.slave_is_down() != before.1 {
            self.forget_the_slave();
        }
        if self.node.record().generation != generation {
            self.beginnings.raised(self.node.record().generation);
        }
        if let Some(since) = stood_by_since.filter(|_| self.node.record().active) {
            self.tell_of_old_data(since);
        }
        if recorded && self.may_be_replicated_to() {
            self.look_again_what_is_owed();
        }
        if !self.configuring {
            self.generation.store(self.node.record().generation, Ordering::SeqCst);
        }
        let refusal = outputs.refusal().map(Failure::guard);
        for output in outputs {
            self.perform(output);
        }
        self.clustering.stand(self.node.standing());
        handover::answer_waiters(&self.node, &mut self.waiters);
        self.follow();
        self.lower_fence();
        refusal
    }

    /// What the next replication depends on: nothing is kept across a change of it.
    fn what_is_kept_for(&self) -> (RoleConfig, bool, bool) {
        let record = self.node.record();
        (*self.node.role(), record.active, record.maintenance_until.is_some())
    }

    fn slave_is_down(&self) -> bool {
        self.node.peer() == PeerVerdict::Down
    }

    /// Once telephony neither belongs here nor runs, replications may come again.
    fn lower_fence(&self) {
        // when it is being raised, the next input does it
        let Ok(mut fence) = self.fence.try_lock() else { return };
        if fence.is_none() || self.node.record().active && self.may_be_replicated_to() {
            return;
        }
        let status = self.node.status();
        let rests = status.observed == Observed::Stopped || !self.may_be_replicated_to();
        if rests && status.in_flight.is_none() {
            fence.take();
            self.keeper
                .alerts()
                .clear(UNFINISHED, "this node stands by: the next replication brings everything");
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Probe { id, target, address, timeout } => {
                let (probe, to_self) = (self.probe(target, address, timeout), self.to_self.clone());
                tokio::spawn(async move {
                    let message = match tokio::spawn(probe).await {
                        Ok(outcome) => Message::Input(Input::Probe { id, outcome }),
                        Err(error) => Message::Broken(error),
                    };
                    let _ = to_self.send(message).await;
                });
            }
            Output::Persist(record) => self.keeper.persist(*record),
            Output::SetServices { id, to, generation } => self.set_services(id, to, generation),
            Output::Replicate { id, peer, after_change } => {
                let job = if after_change { Job::changes(peer) } else { Job::all(peer) };
                let (context, to_self) = (self.context.clone(), self.to_self.clone());
                let (kept, alerts) = (self.kept.clone(), self.keeper.alerts());
                tokio::spawn(async move {
                    let owned = context.clone();
                    // in a task of its own, so that a report comes whatever happens to it
                    let work = async move { replicate::run(&owned, &kept, &job, |_| {}).await };
                    let running = tokio::spawn(work);
                    let ended =
                        running.await.unwrap_or_else(|error| Ended::not_begun(Failure::environment(error)));
                    replicate::tell(&alerts, &job, &ended);
                    let to_loop = to_self.clone();
                    let _ = tokio::task::spawn_blocking(move || owing::tell(&context, &to_loop)).await;
                    let input = Input::Replicated { id, how: ended.how, took: ended.took };
                    let _ = to_self.send(Message::Input(input)).await;
                });
            }
            Output::HandOver { .. } => self.clustering.hand_over(),
            Output::Check { id, check, timeout } => self.check(id, check, timeout),
            Output::Announce(decision) => {
                tracing::info!("{} {}", decision.rule, decision.why);
                self.keeper.decided(&decision);
            }
            Output::Alert { key, raised, text } => self.keeper.alert(key, raised, text),
            Output::Refused(refusal) => tracing::info!("refused: {refusal}"),
        }
    }

    fn probe(
        &self,
        target: Target,
        address: IpAddr,
        timeout: Duration,
    ) -> impl Future<Output = ProbeOutcome> + Send + 'static {
        let icmp = self.icmp.clone();
        let port = self.context.settings.probe.sip_port;
        async move {
            match (target, icmp) {
                (Target::Peer(Rung::Host) | Target::Reference(_), Some(icmp)) => {
                    icmp.probe(address, timeout).await
                }
                (Target::Peer(Rung::Host) | Target::Reference(_), None) => ProbeOutcome::Lost,
                (Target::Peer(Rung::Port), _) => probe::tcp::probe((address, port).into(), timeout).await,
                (Target::Peer(Rung::Service), _) => probe::sip::probe((address, port).into(), timeout).await,
            }
        }
    }
}

/// Whom a node pings: the peer on the rung for it, the references always. Empty: it needs no socket for it.
fn pinged(probe: &settings::Probe, role: &RoleConfig) -> Vec<IpAddr> {
    let Some(peer) = role.peer() else { return Vec::new() };
    let peer = Some(peer).filter(|_| probe.rungs.contains(&settings::Rung::Host));
    peer.into_iter().chain(probe.reference.iter().copied()).collect()
}

fn system(error: std::io::Error) -> Failure {
    Failure::environment(format!("signals: {error}"))
}

/// Work in a thread of its own: those that tokio lends for blocking work are few, and all of them may hang on a disk or
/// wait for the other node.
async fn in_a_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<T> {
    let (done, result) = oneshot::channel();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || done.send(work()))?;
    result.await.map_err(|_| std::io::Error::other(format!("thread {name} ended without a result")))
}

async fn until(deadline: Option<ha_core::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep(deadline - clock::now().mono).await,
        None => std::future::pending().await,
    }
}

/// Whether telephony is seen as wanted.
fn is_as_wanted(node: &Node, wanted: ServiceState) -> bool {
    node.status().observed == Observed::from(wanted)
}

#[cfg(test)]
mod tests;
