//! Everything of the daemon that touches a disk or a mail program: threads of their own, so that the loop never waits.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use chrono::Utc;
use ha_core::Input;
use ha_core::event::{Decision, Record};
use serde::Serialize;
use serde_json::json;
use tokio::sync::mpsc;

use super::Message;
use crate::alert::{Alerts, Sent};
use crate::context::Context;
use crate::journal::{Entry, Journal};
use crate::process::ProcessRecord;
use crate::report::Failure;
use crate::state::Store;

/// The journal's kind of line for a decision.
pub const DECISION: &str = "decision";

/// Appends to the journal without ever failing its caller: a journal that cannot be written delays nothing and is told.
#[derive(Debug, Clone)]
pub struct Notes(Arc<Journal>);

impl Notes {
    /// Opens the journal.
    pub fn open(context: &Context) -> Result<Notes, Failure> {
        let journal = Journal::open(&context.root);
        Ok(Notes(Arc::new(journal.map_err(|error| Failure::environment(format!("journal: {error}")))?)))
    }

    /// Writes a line, waiting at most 500 ms.
    pub fn note(&self, kind: &str, payload: &impl Serialize) {
        self.append(Entry::new(Utc::now(), kind, payload));
    }

    /// Writes that a command is about to begin.
    pub fn command(&self, record: &ProcessRecord) {
        self.append(Entry::command(Utc::now(), record));
    }

    /// Writes a decision. Whether it is on the disk.
    fn decision(&self, decision: &Decision) -> bool {
        // the line has a time of its own, which is the decision's
        let payload = json!({
            "generation": decision.generation,
            "from": decision.from,
            "to": decision.to,
            "rule": decision.rule,
            "why": decision.why,
        });
        self.append(Entry::new(decision.time, DECISION, &payload))
    }

    fn append(&self, entry: serde_json::Result<Entry>) -> bool {
        match entry {
            Ok(entry) => {
                let written = self.0.append(&entry);
                if !written.is_durable() {
                    tracing::warn!("the journal does not take lines: {written:?}");
                }
                written.is_durable()
            }
            Err(error) => {
                tracing::warn!("journal: {error}");
                false
            }
        }
    }
}

/// What the alert thread is told.
enum Alerting {
    Raise(String, String, String),
    Clear(String, String),
    Command(Vec<String>),
}

/// A way to the alert thread, for tasks.
#[derive(Debug, Clone)]
pub struct AlertLine {
    to_thread: Sender<Alerting>,
    program: &'static str,
}

impl AlertLine {
    /// A condition holds.
    pub fn raise(&self, key: &str, text: &str) {
        let subject = format!("{}: {key}", self.program);
        let _ = self.to_thread.send(Alerting::Raise(key.to_owned(), subject, text.to_owned()));
    }

    /// It is over.
    pub fn clear(&self, key: &str, text: &str) {
        let _ = self.to_thread.send(Alerting::Clear(key.to_owned(), text.to_owned()));
    }
}

/// The threads.
pub(super) struct Keeper {
    notes: Notes,
    alerts: AlertLine,
    decisions: Sender<Decision>,
    records: Mutex<Option<Sender<Record>>>,
}

impl Keeper {
    pub(super) fn start(context: &Context) -> Result<Keeper, Failure> {
        let notes = Notes::open(context)?;
        let system = |error: std::io::Error| Failure::environment(format!("alerts: {error}"));
        let hook = context.settings.alert.command.clone();
        let alerts = Alerts::open(&context.root, hook).map_err(system)?;
        let (to_alerts, from_loop) = channel();
        let root = context.root.clone();
        spawn("alerts", move || tell_alerts(&root, alerts, &from_loop))?;
        let (decisions, decided) = channel::<Decision>();
        let alerts = AlertLine { to_thread: to_alerts, program: context.profile().program };
        let (journal, line) = (notes.clone(), alerts.clone());
        spawn("decisions", move || write_decisions(&journal, &line, &decided))?;
        Ok(Keeper { notes, alerts, decisions, records: Mutex::new(None) })
    }

    /// Records are saved one after the other, and reported to the loop.
    pub(super) fn records_go_to(&self, store: Store<Record>, reports: mpsc::Sender<Message>) {
        let (to_thread, from_loop) = channel::<Record>();
        let saving = move || {
            for record in from_loop {
                let written = store.save(&record).is_durable();
                let input = Input::Persisted { generation: record.generation, written };
                if reports.blocking_send(Message::Input(input)).is_err() {
                    return;
                }
            }
        };
        if spawn("records", saving).is_ok() {
            *self.records.lock().unwrap_or_else(PoisonError::into_inner) = Some(to_thread);
        }
    }

    pub(super) fn persist(&self, record: Record) {
        if let Some(records) = &*self.records.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = records.send(record);
        }
    }

    pub(super) fn journal(&self) -> Notes {
        self.notes.clone()
    }

    pub(super) fn alerts(&self) -> AlertLine {
        self.alerts.clone()
    }

    pub(super) fn decided(&self, decision: &Decision) {
        let _ = self.decisions.send(decision.clone());
    }

    pub(super) fn alert(&self, key: &str, raised: bool, text: String) {
        if raised {
            tracing::warn!("{key}: {text}");
            self.alerts.raise(key, &text);
        } else {
            tracing::info!("{key} is over");
            let text = if text.is_empty() { format!("{key} is over") } else { text };
            self.alerts.clear(key, &text);
        }
    }

    pub(super) fn alert_by(&self, hook: Vec<String>) {
        let _ = self.alerts.to_thread.send(Alerting::Command(hook));
    }
}

/// A journal that takes no lines is told, once, and so is its recovery.
fn write_decisions(journal: &Notes, alerts: &AlertLine, decided: &Receiver<Decision>) {
    for decision in decided {
        if journal.decision(&decision) {
            alerts.clear("journal", "the journal is written again");
        } else {
            alerts.raise(
                "journal",
                "the journal cannot be written: decisions are taken all the same, `timeline` lacks them",
            );
        }
    }
}

fn tell_alerts(root: &crate::root::Root, mut alerts: Alerts, from_loop: &Receiver<Alerting>) {
    for one in from_loop {
        let sent = match one {
            Alerting::Raise(key, subject, text) => alerts.raise(&key, &subject, &text),
            Alerting::Clear(key, text) => alerts.clear(&key, &text),
            Alerting::Command(hook) => {
                match Alerts::open(root, hook) {
                    Ok(again) => alerts = again,
                    Err(error) => tracing::warn!("alerts: {error}"),
                }
                continue;
            }
        };
        if let Sent::Failed(error) = sent {
            tracing::warn!("the alert command failed: {error}");
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
    thread.map(drop).map_err(|error| Failure::environment(format!("thread {name}: {error}")))
}
