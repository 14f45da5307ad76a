//! What stands beside the pair follows telephony to this node, in a task of its own: telephony never waits for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use ha_core::Side;
use ha_core::follow::Step;
use ha_core::runbook::{News, Order, Progress, Runbook, State};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{AlertLine, Driver, Notes, in_a_thread, until};
use crate::clock;
use crate::context::Context;
use crate::follow::carry_out_while;
use crate::report::Failure;
use crate::state::{Loaded, Store};
use crate::writer::Written;

/// The progress' document in the state directory.
const PROGRESS: &str = "runbook";
/// How long a stalled disk keeps back what follows telephony. Longer than a takeover's, which waits for more: what was
/// done must not be done again for a disk that is slow at the start of a machine.
const DISK_PATIENCE: Duration = Duration::from_secs(10);

/// The runbook, while one is carried out or was: taken away when telephony has left.
type Book = Arc<Mutex<Option<Runbook>>>;

fn open(book: &Book) -> MutexGuard<'_, Option<Runbook>> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The arrival of telephony that is being followed, if any.
#[derive(Default)]
pub(super) struct Following {
    /// `None`: nobody has looked yet whether there is one.
    of: Option<Option<DateTime<Utc>>>,
    book: Book,
    /// Ends with this.
    task: JoinSet<()>,
}

impl Driver {
    /// Begins, goes on or ends, as the record says.
    pub(super) fn follow(&mut self) {
        let arrived = arrival(self.node.record());
        if self.following.of == Some(arrived) {
            return;
        }
        self.follow_no_more("telephony is not at this node alone any more, or maintenance began");
        self.following.of = Some(arrived);
        let Some(side) = Side::of(self.node.role().role()) else { return };
        let steps = self.context.distribution.runbook(&self.context.settings.followers, side);
        let Some(arrived) = arrived else {
            // an engine that ended in the middle has left its alerts: they would keep back those of the next arrival
            return self.over(&steps, "telephony left this node while no engine ran");
        };
        if steps.is_empty() {
            return;
        }
        let fresh = Progress { arrived, side, steps: Default::default() };
        let clerk = Clerk {
            context: self.context.clone(),
            notes: self.keeper.journal(),
            alerts: self.keeper.alerts(),
            book: Arc::clone(&self.following.book),
        };
        self.following.task.spawn(async move {
            let context = clerk.context.clone();
            let opened = in_a_thread("runbook", move || resume(&context, fresh)).await;
            match opened {
                Ok(Ok((store, progress))) => clerk.keep(Runbook::new(steps, progress), store).await,
                Ok(Err(failure)) => tracing::error!("what follows telephony: {failure}"),
                Err(error) => tracing::error!("what follows telephony: {error}"),
            }
        });
    }

    /// What failed here is over: the other side's engine goes on, or this one begins anew. Orders that are out are not
    /// carried out any more as far as they have not begun.
    pub(super) fn follow_no_more(&mut self, why: &str) {
        let ended = std::mem::take(&mut self.following);
        let book = open(&ended.book).take();
        self.over(book.iter().flat_map(Runbook::status).map(|status| status.step), why);
    }

    fn over<'s>(&self, steps: impl IntoIterator<Item = &'s Step>, why: &str) {
        let alerts = self.keeper.alerts();
        steps.into_iter().for_each(|step| alerts.clear(&key(&step.id), why));
    }

    /// For `status`.
    pub(super) fn followers(&self) -> Value {
        document(open(&self.following.book).as_ref())
    }
}

/// What is to be followed now: not while telephony is elsewhere, nor in maintenance.
fn arrival(record: &ha_core::event::Record) -> Option<DateTime<Utc>> {
    record.arrived.filter(|_| record.active && record.maintenance_until.is_none())
}

fn key(step: &str) -> String {
    format!("follow-{step}")
}

/// How far it was, when it was about this arrival.
pub(super) fn resume(context: &Context, fresh: Progress) -> Result<(Store<Progress>, Progress), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::environment(format!("{PROGRESS}: {error}"));
    let store = Store::open(&context.root, PROGRESS).map_err(|error| failed(&error))?;
    // what cannot be read is begun anew: each step may be done twice
    let found = store.load_within(DISK_PATIENCE).map_err(|error| tracing::warn!("{error}"));
    let found = found.ok().flatten().map(Loaded::into_value);
    let same = |found: &Progress| (found.arrived, found.side) == (fresh.arrived, fresh.side);
    let progress = found.filter(same).unwrap_or(fresh);
    Ok((store, progress))
}

/// Carries a runbook out.
pub(super) struct Clerk {
    pub(super) context: Context,
    pub(super) notes: Notes,
    pub(super) alerts: AlertLine,
    /// Seen by `status`; taken away when this is to end.
    pub(super) book: Book,
}

type Ended = (Order, Result<(), String>);

impl Clerk {
    pub(super) async fn keep(self, book: Runbook, store: Store<Progress>) {
        let mut saved = book.progress().clone();
        *open(&self.book) = Some(book);
        let store = Arc::new(store);
        let mut running: JoinSet<Ended> = JoinSet::new();
        loop {
            let Some(progress) = self.with(|book| book.progress().clone()) else { return };
            if progress != saved {
                saved = progress.clone();
                let store = Arc::clone(&store);
                // a disk that does not take it keeps nothing back
                let written = in_a_thread("runbook", move || store.save(&progress)).await;
                if !written.as_ref().is_ok_and(Written::is_durable) {
                    tracing::warn!("{PROGRESS}: {written:?}: after a restart a step may be done twice");
                }
            }
            let now = clock::now().mono;
            let next = self.with(|book| (!book.is_done()).then(|| book.next(now)));
            let Some(Some(orders)) = next else { return };
            let announced = orders.iter().any(|order| matches!(order, Order::Announce(_)));
            for order in orders {
                self.begin(order, &mut running);
            }
            if announced {
                continue;
            }
            let deadline = self.with(|book| book.deadline()).flatten();
            tokio::select! {
                Some(ended) = running.join_next() => match ended {
                    Ok((order, result)) => self.ended(order, result),
                    Err(error) => return tracing::error!("what follows telephony: {error}"),
                },
                () = until(deadline) => {}
            }
        }
    }

    fn with<T>(&self, what: impl FnOnce(&mut Runbook) -> T) -> Option<T> {
        open(&self.book).as_mut().map(what)
    }

    fn begin(&self, order: Order, running: &mut JoinSet<Ended>) {
        let Some(step) = self.with(|book| book.step(order.step()).clone()) else { return };
        let task = match order {
            Order::Act(_) => step.act,
            Order::Check(_) => step.check,
            Order::Announce(index) => {
                let text = format!("telephony has come here; by hand: {}", step.says);
                self.told(&step.id, &text);
                self.alerts.raise(&key(&step.id), &text);
                self.with(|book| book.announced(index, clock::now().wall));
                return;
            }
        };
        let (context, book) = (self.context.clone(), Arc::clone(&self.book));
        // the thread outlives this clerk: what telephony has left must not be done once it is followed elsewhere
        let still_wanted = move || open(&book).is_some();
        running.spawn(async move {
            let Some(task) = task else { return (order, Ok(())) };
            let work = move || carry_out_while(&context, step.place, &task, step.timeout, &still_wanted);
            let result = match in_a_thread("follow", work).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            (order, result)
        });
    }

    fn ended(&self, order: Order, result: Result<(), String>) {
        let now = clock::now();
        let reported = self.with(|book| {
            let news = book.report(order, result, now.mono, now.wall);
            (book.step(order.step()).clone(), news)
        });
        match reported {
            Some((step, Some(News::Done))) => {
                let text = format!("done: {}", step.says);
                self.told(&step.id, &text);
                self.alerts.clear(&key(&step.id), &text);
            }
            Some((step, Some(News::Failed(error)))) => {
                let text = format!(
                    "not done yet: {}. {error}. It is tried again. To undo it: {}",
                    step.says, step.undo
                );
                self.told(&step.id, &text);
                self.alerts.raise(&key(&step.id), &text);
            }
            Some((_, None)) | None => {}
        }
    }

    fn told(&self, step: &str, text: &str) {
        tracing::info!("{step}: {text}");
        let (notes, line) = (self.notes.clone(), json!({ "step": step, "text": text }));
        // a disk that stalls must not stop the loop
        tokio::task::spawn_blocking(move || notes.note("follow", &line));
    }
}

/// The document of `status`: each step in order.
pub(super) fn document(book: Option<&Runbook>) -> Value {
    let steps = book.into_iter().flat_map(Runbook::status).map(|one| {
        let state = match one.state {
            State::Done(_) => "done",
            State::Announced(_) => "announced",
            State::Waiting | State::Acted if one.failed => "failed",
            State::Waiting | State::Acted => "waiting",
        };
        json!({
            "step": one.step.id,
            "says": one.step.says,
            "state": state,
            "tries": one.tries,
            "error": one.error,
            "undo": one.step.undo,
        })
    });
    steps.collect()
}

/// For `status` without a daemon: how far it is, as the daemon wrote it down.
pub fn without_daemon(context: &Context, record: &ha_core::event::Record) -> Result<Value, Failure> {
    let (Some(arrived), Some(side)) = (arrival(record), Side::of(record.role)) else {
        return Ok(document(None));
    };
    let steps = context.distribution.runbook(&context.settings.followers, side);
    let fresh = Progress { arrived, side, steps: Default::default() };
    let (_, progress) = resume(context, fresh)?;
    Ok(document(Some(&Runbook::new(steps, progress))))
}
