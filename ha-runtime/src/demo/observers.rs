//! Observers beside the pair: who answers SIP OPTIONS, where each phone is registered, what each node decides.

use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chrono::Utc;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::seen::{Answer, Decided, PHONES, Seen};
use super::stage::Place;
use super::timeline::{Timeline, Who};
use crate::cli;
use crate::probe::{ProbeOutcome, sip};
use crate::report::Failure;
use crate::root::Root;
use crate::sip::{Phone, PhoneEvent, PhoneReport, PhoneSettings, Server};

/// Between two questions of the observer: the resolution of what it measures.
const GLANCE: Duration = Duration::from_millis(20);
/// Between two looks into a node's journal.
const PAGE: Duration = Duration::from_millis(50);
/// Silence that counts as no answer. A port that nobody listens at is told at once.
const SILENCE: Duration = Duration::from_secs(1);

/// From one registration of a phone to the next.
pub(super) const PERIOD: Duration = Duration::from_secs(2);
/// How long a phone asks one server before it tries the other one.
pub(super) const GIVE_UP: Duration = Duration::from_secs(1);
/// From switching on to the end, on the slowest of machines; half a minute is usual.
const PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks at what they see.
const AGAIN: Duration = Duration::from_millis(20);
/// Who they are.
const USERS: [&str; PHONES] = ["1001", "1002", "1003"];

/// Whoever looks on, on a thread of its own; they end when this is dropped.
#[derive(Debug)]
pub(super) struct Observers<S> {
    seen: watch::Receiver<S>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl<S: Clone + Default + Send + Sync + 'static> Observers<S> {
    /// `begin` spawns them; they publish what they see.
    pub(super) fn start(
        begin: impl FnOnce(&mut JoinSet<()>, watch::Sender<S>) + Send + 'static,
    ) -> Result<Observers<S>, Failure> {
        let (publish, seen) = watch::channel(S::default());
        let (end, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(Failure::environment)?;
        let observe = move || {
            runtime.block_on(async {
                let mut tasks = JoinSet::new();
                begin(&mut tasks, publish);
                // an error means that the demonstration is over as well
                let _ = ended.await;
            });
        };
        let thread = std::thread::Builder::new().name("observers".into()).spawn(observe);
        let thread = Some(thread.map_err(Failure::environment)?);
        Ok(Observers { seen, end: Some(end), thread })
    }

    /// What is seen now.
    pub(super) fn seen(&self) -> S {
        self.seen.borrow().clone()
    }

    /// Whether it looks like that.
    pub(super) fn see(&self, like: impl FnOnce(&S) -> bool) -> bool {
        like(&self.seen.borrow())
    }

    /// Waits until it does. Err: that was not in time, counted from `begun`, or what `check` says.
    pub(super) fn until(
        &self,
        what: &str,
        begun: Instant,
        mut check: impl FnMut() -> Result<(), Failure>,
        like: impl Fn(&S) -> bool,
    ) -> Result<(), Failure> {
        while !self.see(&like) {
            check()?;
            if begun.elapsed() > PATIENCE {
                let text = format!("not seen within {} s of switching on: {what}", PATIENCE.as_secs());
                return Err(Failure::environment(text));
            }
            std::thread::sleep(AGAIN);
        }
        check()
    }
}

impl<S> Drop for Observers<S> {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // a panic in it has been printed
            let _ = thread.join();
        }
    }
}

/// Begins to ask both nodes, and switches the phones on, which belong to the master.
pub(super) fn start(master: &Place, slave: &Place, timeline: &Timeline) -> Result<Observers<Seen>, Failure> {
    let nodes = [(Who::Master, master.clone()), (Who::Slave, slave.clone())];
    let timeline = timeline.clone();
    Observers::start(move |tasks, publish: watch::Sender<Seen>| {
        let [first, backup] = nodes.each_ref().map(|(_, place)| place.telephony);
        for (who, place) in nodes {
            tasks.spawn(ask(who, place.telephony, publish.clone(), timeline.clone()));
            let heard = publish.clone();
            let decided = move |one| heard.send_modify(|seen| seen.decisions.push(one));
            tasks.spawn(read_along(who, place.root, decided, timeline.clone()));
        }
        let told = switch_on_phones(first, Some(backup), tasks);
        tasks.spawn(follow(told, publish, timeline.clone()));
        tasks.spawn(async move {
            loop {
                timeline.settle(Instant::now());
                tokio::time::sleep(PAGE).await;
            }
        });
    })
}

/// Phones that register at the first address as long as it answers, and what they tell of it.
pub(super) fn switch_on_phones(
    primary: SocketAddr,
    backup: Option<SocketAddr>,
    tasks: &mut JoinSet<()>,
) -> mpsc::UnboundedReceiver<PhoneReport> {
    let (reports, told) = mpsc::unbounded_channel();
    for (number, user) in (0..).zip(USERS) {
        let settings = PhoneSettings {
            user: user.to_owned(),
            primary,
            backup,
            expires: Duration::from_secs(30),
            period: PERIOD,
            give_up: GIVE_UP,
        };
        let phone = Phone::new(settings, reports.clone());
        tasks.spawn(async move {
            // phones do not move in step
            tokio::time::sleep(PERIOD / 3 * number).await;
            phone.run().await;
        });
    }
    told
}

/// Prints and publishes a node's decisions as its journal grows.
pub(super) async fn read_along(who: Who, root: Root, publish: impl Fn(Decided), timeline: Timeline) {
    let mut read = 0;
    loop {
        // a journal that cannot be read shows up as a decision that is never seen
        let decisions = cli::decisions(&root, None).unwrap_or_default();
        for decision in decisions.get(read..).unwrap_or_default() {
            let age = (Utc::now() - decision.time).to_std().unwrap_or_default();
            let now = Instant::now();
            let at = now.checked_sub(age).unwrap_or(now);
            timeline.say_at(at, who, &format!("{} ({})", decision.why, decision.rule));
            let decided = Decided { at, who, rule: decision.rule.clone() };
            publish(decided);
        }
        read = decisions.len();
        tokio::time::sleep(PAGE).await;
    }
}

async fn ask(who: Who, address: SocketAddr, publish: watch::Sender<Seen>, timeline: Timeline) {
    let mut before = None;
    loop {
        let answers = sip::probe(address, SILENCE).await == ProbeOutcome::Reply;
        if before != Some(answers) {
            let at = Instant::now();
            timeline.serves(who, answers);
            if before.is_some() || answers {
                let text = if answers { "telephony answers" } else { "telephony is silent" };
                timeline.say_at(at, who, text);
            }
            publish.send_modify(|seen| seen.answers.push(Answer { at, who, answers }));
            before = Some(answers);
        }
        tokio::time::sleep(GLANCE).await;
    }
}

async fn follow(
    mut told: mpsc::UnboundedReceiver<PhoneReport>,
    publish: watch::Sender<Seen>,
    timeline: Timeline,
) {
    while let Some(PhoneReport { user, at, event }) = told.recv().await {
        let PhoneEvent::Registered { server, .. } = event else { continue };
        let last = publish.borrow().phones.get(&user).and_then(|moves| moves.last().map(|(_, at)| *at));
        if last == Some(server) {
            continue;
        }
        let at = at.into_std();
        timeline.phone(&user, Some(server));
        let whom = match server {
            Server::Primary => Who::Master,
            Server::Backup => Who::Slave,
        };
        let again = if last.is_some() { "is now registered" } else { "registers" };
        timeline.say_at(at, Who::Phone, &format!("{user} {again} at the {}", whom.word()));
        publish.send_modify(|seen| seen.phones.entry(user).or_default().push((at, server)));
    }
}
