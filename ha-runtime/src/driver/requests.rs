//! Requests over the control socket.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ha_core::event::Command;
use ha_core::services::Observed;
use ha_core::{Input, Role, ServiceState};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use super::handover::{self, Waiter, Wish};
use super::{Driver, Message, NO_GENERATION, RoleChanged, is_as_wanted, owing};
use crate::configure::{self, RoleRequest};
use crate::control::{self, Answer, FromPeer, LINE_MAX, Request};
use crate::lock::LOCK_DIRECTORY;
use crate::observe::observe;
use crate::replicate::{self, Job, Scope};
use crate::report::{Failure, Report, Verdict};
use crate::root::Root;

/// Opens the socket. A left-over one of a dead daemon is replaced; the daemon's lock says that it is dead.
pub(super) fn listen(root: &Root) -> Result<UnixListener, Failure> {
    let path = control::path(root);
    let open = || {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root.path(LOCK_DIRECTORY))?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    open().map_err(|error| Failure::environment(format!("control socket {}: {error}", path.display())))
}

/// One connection: one line in, one line out.
pub(super) fn serve(stream: UnixStream, to_loop: mpsc::Sender<Message>) {
    tokio::spawn(async move {
        let (read, mut write) = stream.into_split();
        let mut line = Vec::new();
        let mut lines = BufReader::new(read.take(LINE_MAX));
        let read = tokio::time::timeout(Duration::from_secs(5), lines.read_until(b'\n', &mut line)).await;
        if !matches!(read, Ok(Ok(count)) if count > 0) {
            return;
        }
        let verdict = match serde_json::from_slice::<Request>(&line) {
            Ok(request) => {
                let (answer, answered) = oneshot::channel();
                let _ = to_loop.send(Message::Request(request, answer)).await;
                let ended = |_| Err(Failure::environment("the daemon ended before it was done"));
                answered.await.unwrap_or_else(ended)
            }
            Err(error) => Err(Failure::usage(format!("request: {error}"))),
        };
        let mut text = serde_json::to_vec(&Answer::from(verdict)).unwrap_or_default();
        text.push(b'\n');
        let _ = write.write_all(&text).await;
    });
}

impl Driver {
    pub(super) fn request(&mut self, request: Request, answer: oneshot::Sender<Verdict>) {
        let role = self.node.role().role();
        match request {
            Request::Status => self.status(answer),
            Request::CheckMaster => {
                let _ = answer.send(self.check_master());
            }
            Request::Configure { role, remote, restart_services, resync, shared, auto_failback } => {
                let wanted = RoleRequest { role, remote, restart_services, resync, shared, auto_failback };
                self.configure(wanted, answer);
            }
            Request::Services { start } => self.services(start, answer),
            Request::Replicate { files, database, full, dry_run } => {
                self.replicate(files, database, full, dry_run, answer);
            }
            Request::Switchover if self.shares_an_address() => self.hand_over(Command::HandOver, answer),
            Request::Failback if self.may_fetch() => self.fetch(answer),
            Request::Failback if self.shares_an_address() => self.hand_over(Command::HandBack, answer),
            Request::Switchover | Request::Failback if role != Role::Master => {
                let _ = answer.send(Err(refuse_on_slave(role)));
            }
            Request::Switchover => handover::switchover(self, answer),
            Request::Failback => handover::failback(self, answer),
            Request::Maintenance { seconds } => handover::maintenance(self, seconds, answer),
            Request::Acknowledge if role == Role::Master => {
                handover::pass_on(self, FromPeer::Acknowledge, None, answer);
            }
            Request::Acknowledge => self.command(Command::Acknowledge, None, answer),
            Request::Follow => self.command(Command::Follow, None, answer),
            Request::Address { here: true } => {
                let told = self.clustering.told(true);
                let _ = answer.send(told.map(|()| Report::done("telephony follows the address")));
            }
            Request::Address { here: false } => self.address_leaves(answer),
            Request::FromPeer(what) => self.asked_by_peer(&what, answer),
        }
    }

    fn asked_by_peer(&mut self, what: &FromPeer, answer: oneshot::Sender<Verdict>) {
        match what {
            FromPeer::TakeOver => self.command(Command::TakeOver, Some(ServiceState::Running), answer),
            FromPeer::StandBy => self.command(Command::StandBy, Some(ServiceState::Stopped), answer),
            FromPeer::Maintenance { seconds } => {
                let lasts = seconds.map(Duration::from_secs);
                self.command(Command::Maintenance { lasts }, None, answer);
            }
            FromPeer::Acknowledge => self.command(Command::Acknowledge, None, answer),
            FromPeer::Standing => {
                let _ = answer.send(self.clustering.say(self.node.standing()));
            }
        }
    }

    /// Gives the node a command; answers when it is refused, or when telephony is as `wanted`.
    pub(super) fn command(
        &mut self,
        command: Command,
        wanted: Option<ServiceState>,
        answer: oneshot::Sender<Verdict>,
    ) {
        if let Some(refusal) = self.give(Input::Command(command)) {
            let _ = answer.send(Err(refusal));
            return;
        }
        match wanted {
            // as it is now it may not stay: the action in flight may be the other one
            Some(wanted) if !is_as_wanted(&self.node, wanted) || self.node.status().in_flight.is_some() => {
                self.waiters.push(Waiter::new(Wish::Telephony(wanted), answer))
            }
            _ => {
                let _ = answer.send(Ok(Report::done("done")));
            }
        }
    }

    fn check_master(&self) -> Verdict {
        if self.node.role().role() != Role::Slave {
            // as the script without its sentinel: nothing to do, and no error
            return Ok(Report::done("this node is not a slave: nothing to check"));
        }
        let status = self.node.status();
        let peer = format!("{:?}", status.peer).to_lowercase();
        let why = status.decision.map(|decision| decision.why).unwrap_or_default();
        Ok(Report::new(format!("master is {peer}: {why}"), json!({ "peer": peer, "why": why })))
    }

    /// By hand: only in maintenance, or when it is what the engine wants anyway (`safety.md` 3.2).
    fn services(&mut self, start: bool, answer: oneshot::Sender<Verdict>) {
        let to = if start { ServiceState::Running } else { ServiceState::Stopped };
        let status = self.node.status();
        let maintenance = status.record.maintenance_until.is_some();
        if let Some(refusal) = self.node.refuses_to_start().filter(|_| start) {
            let _ = answer.send(Err(Failure::guard(refusal)));
            return;
        }
        let wanted = match self.node.role().role() {
            Role::Slave | Role::Master => {
                Some(if status.record.active { ServiceState::Running } else { ServiceState::Stopped })
            }
            Role::Disabled => None,
        };
        if !maintenance && wanted.is_some_and(|wanted| wanted != to) {
            let text = "guard \"daemon\": the engine wants telephony the other way here; `maintenance on` or `switchover` and `failback` lift it";
            let _ = answer.send(Err(Failure::guard(text)));
            return;
        }
        let (context, performer) = (self.context.clone(), Arc::clone(&self.performer));
        let to_self = self.to_self.clone();
        let (current, generation) = (Arc::clone(&self.generation), status.record.generation);
        tokio::task::spawn_blocking(move || {
            // the engine may decide otherwise while an earlier action is waited for
            let still = || current.load(Ordering::SeqCst) == generation;
            let verdict = crate::cli::services::bring(&context, &performer, to, still);
            let observed = observe(&context.root, &context.profile().observe);
            let _ = to_self.blocking_send(Message::Input(Input::Observed(observed)));
            let _ = answer.send(verdict);
        });
    }

    fn replicate(
        &mut self,
        files: Scope,
        database: Scope,
        full: bool,
        dry_run: bool,
        answer: oneshot::Sender<Verdict>,
    ) {
        let status = self.node.status();
        let flow = self.context.settings.replication.flow;
        let peer = match replicate::counterpart(flow, self.node.role()) {
            // whether a node that fetches may is looked at right before it does
            Ok(peer) if status.record.active || flow.is_pull() => peer,
            Ok(_) => {
                let _ = answer.send(Err(Failure::guard(ha_core::event::Refusal::Yielded)));
                return;
            }
            Err(failure) => {
                let _ = answer.send(Err(failure));
                return;
            }
        };
        let job = Job { peer, files, database, full, dry_run, by_hand: true };
        let (context, kept, alerts) = (self.context.clone(), self.kept.clone(), self.keeper.alerts());
        let to_self = self.to_self.clone();
        tokio::spawn(async move {
            let ended = replicate::run(&context, &kept, &job, |_| {}).await;
            if !dry_run {
                replicate::tell(&alerts, &job, &ended);
                let _ = tokio::task::spawn_blocking(move || owing::tell(&context, &to_self)).await;
            }
            let _ = answer.send(ended.verdict);
        });
    }

    fn configure(&mut self, wanted: RoleRequest, answer: oneshot::Sender<Verdict>) {
        if self.configuring || self.node.status().in_flight.is_some() {
            let text = "guard \"busy\": a role change, a start or a stop is under way; wait until it ends";
            let _ = answer.send(Err(Failure::guard(text)));
            return;
        }
        // a role whose peer cannot be asked is refused before anything is changed
        if let Err(failure) = wanted.check().and_then(|role| self.open_probes(&role)) {
            let _ = answer.send(Err(failure));
            return;
        }
        // from here on no start or stop that was decided for the old role is right
        self.configuring = true;
        self.generation.store(NO_GENERATION, Ordering::SeqCst);
        let (context, performer) = (self.context.clone(), Arc::clone(&self.performer));
        let to_self = self.to_self.clone();
        let settings_written = wanted.auto_failback.is_some();
        let work = move || {
            configure::apply(&context, &performer, &wanted).map(|(role, notes)| {
                let observed = observe(&context.root, &context.profile().observe);
                RoleChanged { role, observed, notes, settings_written }
            })
        };
        tokio::spawn(async move {
            // a report comes whatever happens: without one no start would be right ever again
            let outcome = super::in_a_thread("configure", work).await;
            let outcome = outcome.map_err(Failure::environment).and_then(|outcome| outcome);
            let _ = to_self.send(Message::Configured(outcome, answer)).await;
        });
    }

    pub(super) fn configured(
        &mut self,
        outcome: Result<RoleChanged, Failure>,
        answer: oneshot::Sender<Verdict>,
    ) {
        self.configuring = false;
        let verdict = outcome.map(|RoleChanged { role, observed, notes, settings_written }| {
            let observed = if role.role() == Role::Disabled { Observed::Unknown } else { observed };
            self.feed(Input::Command(Command::SetRole { role, observed }));
            if settings_written {
                self.reload();
            }
            self.recluster();
            configure::report(&role, notes)
        });
        self.generation.store(self.node.record().generation, Ordering::SeqCst);
        let _ = answer.send(verdict);
    }
}

fn refuse_on_slave(role: Role) -> Failure {
    Failure::guard(match role {
        Role::Slave => "guard \"role\": this node is a slave; run it on the master",
        Role::Master | Role::Disabled => {
            "guard \"role\": this node is not part of a pair; `configure` it first"
        }
    })
}
