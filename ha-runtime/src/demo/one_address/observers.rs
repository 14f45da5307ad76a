//! Who looks on: phones that register at the one address, questions to it every few milliseconds, the nodes' journals.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};

use super::super::observers::{Observers, read_along, switch_on_phones};
use super::super::seen::{Decided, PHONES};
use super::super::timeline::{Timeline, Who};
use super::answers::{Answer, Answers};
use super::ground::Ground;
use super::network::{OBSERVERS, ROUTER};
use crate::report::Failure;
use crate::root::Root;
use crate::sip::{MAX_MESSAGE, Message, NODE, PhoneEvent, PhoneReport, Request};

/// Between two questions: the resolution of what is measured.
const EVERY: Duration = Duration::from_millis(20);
/// Silence that is told.
pub(super) const SILENCE: Duration = Duration::from_millis(500);
/// Between two looks at what is to be told.
const PAGE: Duration = Duration::from_millis(50);
/// What is seen of the pair from outside.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) answers: Answers,
    pub(super) decisions: Vec<Decided>,
    /// When each phone registered.
    pub(super) registered: BTreeMap<String, Vec<Instant>>,
    /// When an observer was woken, and how late, if it was.
    pub(super) late: Vec<(Instant, Duration)>,
}

impl Seen {
    /// Whether it answered a moment ago.
    pub(super) fn answers(&self, who: Who) -> bool {
        let now = Instant::now();
        self.answers.last(who, now).is_some_and(|at| now - at < SILENCE)
    }

    /// When a node decided by one of these rows, the first time since then.
    pub(super) fn decided(&self, who: Who, rules: &[&str], since: Instant) -> Option<Instant> {
        let mut decisions = self.decisions.iter().filter(|one| one.who == who && one.at >= since);
        decisions.find(|one| rules.contains(&one.rule.as_str())).map(|one| one.at)
    }

    /// When the last of the phones registered, each the first time since then.
    pub(super) fn last_registered(&self, since: Instant) -> Option<Instant> {
        let first = |times: &Vec<Instant>| times.iter().find(|at| **at >= since).copied();
        let all: Option<Vec<Instant>> = self.registered.values().map(first).collect();
        all.filter(|all| all.len() == PHONES)?.into_iter().max()
    }

    /// How late an observer was woken since then, at most.
    pub(super) fn woken_late(&self, since: Instant) -> Duration {
        self.late.iter().filter(|(at, _)| *at >= since).map(|(_, late)| *late).max().unwrap_or_default()
    }
}

/// Begins to ask, and to read both journals.
pub(super) fn start(
    ground: &Ground,
    roots: [(Who, Root); 2],
    timeline: &Timeline,
) -> Result<Observers<Seen>, Failure> {
    let address = ground.telephony();
    let mut sources: Vec<(IpAddr, bool)> = vec![(IpAddr::from([0, 0, 0, 0]), true)];
    if ground.has_network() {
        sources = vec![(ROUTER.into(), true)];
        sources.extend(OBSERVERS.map(|observer| (observer.into(), false)));
    }
    let timeline = timeline.clone();
    Observers::start(move |tasks, publish: watch::Sender<Seen>| {
        for (source, by_phone) in sources {
            tasks.spawn(ask(source, by_phone, address, publish.clone()));
        }
        for (who, root) in roots {
            let publish = publish.clone();
            let decided = move |one| publish.send_modify(|seen| seen.decisions.push(one));
            tasks.spawn(read_along(who, root, decided, timeline.clone()));
        }
        let told = switch_on_phones(address, None, tasks);
        tasks.spawn(follow(told, publish.clone(), timeline.clone()));
        tasks.spawn(tell(publish.subscribe(), timeline));
    })
}

/// Asks with OPTIONS, whatever becomes of the questions before.
async fn ask(source: IpAddr, by_phone: bool, address: SocketAddr, publish: watch::Sender<Seen>) {
    // a source that is not there shows up as a node that never answers
    let Ok(socket) = UdpSocket::bind((source, 0)).await else { return };
    let Ok(local) = socket.local_addr() else { return };
    let mut asked: VecDeque<(String, Instant)> = VecDeque::new();
    let mut next = tokio::time::interval(EVERY);
    next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut buffer = vec![0; MAX_MESSAGE + 1];
    loop {
        tokio::select! {
            biased;
            received = socket.recv_from(&mut buffer) => {
                let heard = Instant::now();
                // refused: nobody listens there now
                let Ok((length, _)) = received else { continue };
                let Ok(Message::Response(response)) = Message::parse(&buffer[..length]) else { continue };
                let who = match response.headers.get(NODE) {
                    Some(name) if name == Who::Primary.word() => Who::Primary,
                    Some(name) if name == Who::Standby.word() => Who::Standby,
                    _ => continue,
                };
                let branch = response.headers.branch().unwrap_or_default();
                let Some(place) = asked.iter().position(|(own, _)| own == branch) else { continue };
                let Some((_, asked)) = asked.remove(place) else { continue };
                publish.send_modify(|seen| seen.answers.0.push(Answer { who, asked, heard, by_phone }));
            }
            due = next.tick() => {
                let late = due.elapsed();
                if late > EVERY {
                    publish.send_modify(|seen| seen.late.push((Instant::now(), late)));
                }
                let request = Request::options(address, local);
                let branch = request.headers.branch().unwrap_or_default().to_owned();
                // before it leaves: it must not look as if it had been asked later
                asked.push_back((branch, Instant::now()));
                let _ = socket.send_to(request.to_string().as_bytes(), address).await;
                while asked.front().is_some_and(|(_, at)| at.elapsed() > SILENCE * 10) {
                    asked.pop_front();
                }
            }
        }
    }
}

/// Tells of each phone's first registration.
async fn follow(
    mut told: mpsc::UnboundedReceiver<PhoneReport>,
    publish: watch::Sender<Seen>,
    timeline: Timeline,
) {
    while let Some(PhoneReport { user, at, event }) = told.recv().await {
        if !matches!(event, PhoneEvent::Registered { .. }) {
            continue;
        }
        let at = at.into_std();
        if !publish.borrow().registered.contains_key(&user) {
            timeline.say_at(at, Who::Phone, &format!("{user} registers at the one address that it knows"));
        }
        publish.send_modify(|seen| seen.registered.entry(user).or_default().push(at));
    }
}

/// Tells who begins to answer and who falls silent.
async fn tell(seen: watch::Receiver<Seen>, timeline: Timeline) {
    let mut answered: BTreeMap<Who, bool> = BTreeMap::new();
    let mut told = Instant::now();
    loop {
        tokio::time::sleep(PAGE).await;
        let changes: Vec<(Who, bool, Option<Instant>)> = {
            let seen = seen.borrow();
            let change = |who: Who| {
                let answers = seen.answers(who);
                let at = if answers {
                    seen.answers.first(who, told)
                } else {
                    seen.answers.last(who, Instant::now())
                };
                (answered.insert(who, answers) != Some(answers)).then_some((who, answers, at))
            };
            [Who::Primary, Who::Standby].into_iter().filter_map(change).collect()
        };
        for (who, answers, at) in changes {
            timeline.serves(who, answers);
            if let Some(at) = at {
                let text = if answers { "answers at the address" } else { "answers no more" };
                timeline.say_at(at, who, text);
            }
        }
        told = Instant::now().checked_sub(SILENCE).unwrap_or(told);
        timeline.settle(Instant::now());
    }
}
