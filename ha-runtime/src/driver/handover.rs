//! What needs both nodes: switchover, failback by hand, maintenance. Run on the master, carried by the agent
//! (`safety.md` 6.1), because on a Wazo and a XiVO SSH goes from the master to the slave only.

use std::time::{Duration, Instant};

use ha_core::event::Command;
use ha_core::health::Verdict as Peer;
use ha_core::node::Node;
use ha_core::{Input, Role, ServiceState};
use tokio::sync::{mpsc, oneshot};

use super::{Driver, Message, address, is_as_wanted};
use crate::context::Context;
use crate::control::FromPeer;
use crate::far_node;
use crate::probe;
use crate::report::{Blame, Failure, Report, Verdict};
use crate::settings::Span;

/// How long telephony may take to start or stop before a request about it fails; the action itself goes on.
const PATIENCE: Duration = Duration::from_secs(240);

/// What a request waits for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wish {
    /// Telephony is in this state.
    Telephony(ServiceState),
    /// The address that the pair shares has left, and telephony is stopped.
    AddressGone,
}

/// A request that waits until its wish is fulfilled.
pub(super) struct Waiter {
    wish: Wish,
    until: Instant,
    answer: oneshot::Sender<Verdict>,
}

impl Waiter {
    pub(super) fn new(wish: Wish, answer: oneshot::Sender<Verdict>) -> Waiter {
        Waiter { wish, until: Instant::now() + PATIENCE, answer }
    }
}

/// Answers every waiter whose wish is fulfilled, or cannot be.
pub(super) fn answer_waiters(node: &Node, waiters: &mut Vec<Waiter>) {
    if waiters.is_empty() {
        return;
    }
    let status = node.status();
    for waiter in std::mem::take(waiters) {
        let fulfilled = match waiter.wish {
            Wish::Telephony(wanted) if is_as_wanted(node, wanted) && status.in_flight.is_none() => {
                Some(Ok(Report::done("done")))
            }
            Wish::Telephony(_) => None,
            Wish::AddressGone => address::handed_over(&status),
        };
        if let Some(verdict) = fulfilled {
            let _ = waiter.answer.send(verdict);
        } else if status.failures > 0 || waiter.until < Instant::now() {
            let text = "telephony could not be brought to the wanted state; it is tried again, see `status`";
            let _ = waiter.answer.send(Err(Failure::environment(text)));
        } else {
            waiters.push(waiter);
        }
    }
}

/// The slave starts first and reports ready; then the master rests.
pub(super) fn switchover(driver: &mut Driver, answer: oneshot::Sender<Verdict>) {
    let status = driver.node.status();
    if !status.record.active {
        let _ = answer.send(Ok(Report::done("telephony was handed over already")));
        return;
    }
    if matches!(status.peer, Peer::Down | Peer::Unknown) {
        let text = "guard \"peer\": the slave does not answer pings, so its loss could not be noticed after the handover; it is lifted when it answers";
        let _ = answer.send(Err(Failure::guard(text)));
        return;
    }
    let (context, to_self) = (driver.context.clone(), driver.to_self.clone());
    tokio::spawn(async move {
        let _ = answer.send(hand_over(context, to_self).await);
    });
}

pub(super) async fn hand_over(context: Context, to_self: mpsc::Sender<Message>) -> Verdict {
    if let Err(failure) = far_node::ask(context.clone(), FromPeer::TakeOver).await {
        return Err(take_back(context, failure).await);
    }
    command(&to_self, Command::Yield, ServiceState::Stopped).await.map_err(|failure| Failure {
        message: format!("the slave serves, but this node did not stop: {failure}"),
        ..failure
    })?;
    Ok(Report::done("the slave serves; this node stands by until `failback`"))
}

/// The slave did not take over, or did not say so: it must not go on trying while this node serves.
async fn take_back(context: Context, failure: Failure) -> Failure {
    if failure.blame == Blame::Guard {
        // a refusal changed nothing
        return failure;
    }
    let now = match far_node::ask(context, FromPeer::StandBy).await {
        Ok(_) => "it was told to stand by, and this node goes on serving".to_owned(),
        Err(why) => format!(
            "this node goes on serving, and the slave could not be told to stand by ({why}): when it answers again, run `failback`"
        ),
    };
    Failure { message: format!("the slave did not take over: {failure}; {now}"), ..failure }
}

/// The master serves first, and its SIP answers; then the slave is told to rest.
pub(super) fn failback(driver: &mut Driver, answer: oneshot::Sender<Verdict>) {
    let status = driver.node.status();
    if status.record.active && status.peer == Peer::Down {
        let text = "guard \"peer\": this node serves already and the slave does not answer: there is nothing to take back; it is lifted when it answers";
        let _ = answer.send(Err(Failure::guard(text)));
        return;
    }
    let (context, to_self) = (driver.context.clone(), driver.to_self.clone());
    tokio::spawn(async move {
        let _ = answer.send(hand_back(context, to_self).await);
    });
}

async fn hand_back(context: Context, to_self: mpsc::Sender<Message>) -> Verdict {
    command(&to_self, Command::Resume, ServiceState::Running).await?;
    let port = context.settings.probe.sip_port;
    if !sip_answers(port).await {
        let text = format!(
            "telephony was started here but does not answer on UDP port {port} of this machine within 30 s; the slave keeps serving"
        );
        return Err(Failure::environment(text));
    }
    far_node::ask(context, FromPeer::StandBy).await?;
    let _ = to_self.send(Message::Input(Input::SlaveRests)).await;
    Ok(Report::done("this node serves; the slave stands by"))
}

/// Telephony may listen on one address only: any of this machine's counts.
async fn sip_answers(port: u16) -> bool {
    let mut addresses: Vec<std::net::IpAddr> = vec![std::net::Ipv4Addr::LOCALHOST.into()];
    addresses.extend(crate::addresses::own().iter().map(|network| network.ip()));
    for _ in 0..30 {
        for address in &addresses {
            let outcome = probe::sip::probe((*address, port).into(), Duration::from_millis(300)).await;
            if outcome == probe::ProbeOutcome::Reply {
                return true;
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    false
}

/// On both nodes, the slave first: what it has not acknowledged is not in force (`safety.md` 6.1).
pub(super) fn maintenance(driver: &mut Driver, seconds: Option<u64>, answer: oneshot::Sender<Verdict>) {
    let lasts = seconds.map(Duration::from_secs);
    let local = Command::Maintenance { lasts };
    match driver.node.role().role() {
        Role::Master => pass_on(driver, FromPeer::Maintenance { seconds }, Some(local), answer),
        // with one address the master may be asked from here as well, when it admits this node
        Role::Slave if driver.shares_an_address() && driver.node.status().peer != Peer::Down => {
            pass_on(driver, FromPeer::Maintenance { seconds }, Some(local), answer);
        }
        // its master is down: there is nobody else to ask
        Role::Slave if driver.node.status().peer == Peer::Down => {
            let refused = driver.give(Input::Command(local)).map_or(Ok(()), Err);
            let state = if lasts.is_some() { "on" } else { "off" };
            let text = format!("maintenance is {state} on this node; its master is down and was not told");
            let _ = answer.send(refused.map(|()| Report::done(text)));
        }
        Role::Slave => {
            let text =
                "guard \"role\": this node is a slave and its master is not down; run it on the master";
            let _ = answer.send(Err(Failure::guard(text)));
        }
        Role::Disabled => {
            let text = "guard \"role\": this node is not part of a pair; `configure` it first";
            let _ = answer.send(Err(Failure::guard(text)));
        }
    }
}

/// Tells the other node, and when it has acknowledged does the same here. The end of a maintenance is done here in any case:
/// with a slave that is gone, a master that had handed over could not serve before the deadline.
pub(super) fn pass_on(
    driver: &mut Driver,
    what: FromPeer,
    here: Option<Command>,
    answer: oneshot::Sender<Verdict>,
) {
    let (context, to_self) = (driver.context.clone(), driver.to_self.clone());
    tokio::spawn(async move {
        let ends = matches!(what, FromPeer::Maintenance { seconds: None });
        let asked = far_node::ask(context, what.clone()).await;
        let done = match here {
            Some(here) if asked.is_ok() || ends => {
                let (answer, answered) = oneshot::channel();
                let _ = to_self.send(Message::Command(here, None, answer)).await;
                Some(answered.await.unwrap_or_else(|_| Err(Failure::environment("the daemon ended"))))
            }
            _ => None,
        };
        // not acknowledged is failed, whoever's fault it is over there (`safety.md` 6.1)
        let verdict = match (asked, done) {
            (Ok(_), None | Some(Ok(_))) => Ok(Report::done(on_both_nodes(what))),
            (Ok(_) | Err(_), Some(done @ Err(_))) => done,
            (Err(failure), Some(Ok(_))) => {
                let state = "it is over here, and over there at its deadline";
                Err(Failure::environment(format!("the other node did not acknowledge: {failure}; {state}")))
            }
            (Err(failure), None) => {
                let state = "nothing was changed here";
                Err(Failure::environment(format!("the other node did not acknowledge: {failure}; {state}")))
            }
        };
        let _ = answer.send(verdict);
    });
}

/// What was acknowledged, for the person who asked for it.
fn on_both_nodes(what: FromPeer) -> String {
    match what {
        FromPeer::Maintenance { seconds: Some(seconds) } => {
            let lasts = Span(Duration::from_secs(seconds));
            format!("maintenance is on, on both nodes, for {lasts}: nothing is started or stopped")
        }
        FromPeer::Maintenance { seconds: None } => "maintenance is off, on both nodes".to_owned(),
        FromPeer::Acknowledge => {
            "the slave was told: nothing holds failback back for a person any more".to_owned()
        }
        FromPeer::TakeOver => "the slave serves".to_owned(),
        FromPeer::Standing => "the other node answered".to_owned(),
        FromPeer::StandBy => "the slave stands by".to_owned(),
    }
}

async fn command(to_self: &mpsc::Sender<Message>, command: Command, wanted: ServiceState) -> Verdict {
    let (answer, answered) = oneshot::channel();
    let _ = to_self.send(Message::Command(command, Some(wanted), answer)).await;
    answered.await.unwrap_or_else(|_| Err(Failure::environment("the daemon ended")))
}
