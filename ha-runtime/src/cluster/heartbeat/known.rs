//! What the engine, Heartbeat's script and the thread know of the address.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ha_core::cluster::View;
use ha_core::cluster::heartbeat::Resources;
use ha_core::health::Verdict;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::claim::Claim;
use super::tools::{Runs, Seen};
use crate::cluster::Said;

/// What the other node said longer ago is not so any more.
const FRESH: Duration = Duration::from_secs(30);
/// An engine that began at most so long before the address came here was not asked to give it: it had just ended.
const BEGINNING: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct Known {
    claim: Claim,
    /// The address goes from here to the other node on purpose only when that says that it could serve.
    hands_back: bool,
    state: Mutex<State>,
    changes: Arc<Notify>,
    ends: AtomicBool,
}

#[derive(Debug)]
struct State {
    view: View,
    /// Heartbeat's script brought the address, and has not taken it.
    claimed: bool,
    /// How often it was brought.
    comings: u32,
    runs: Runs,
    /// Heartbeat's word for the other node, what it means, and of what else it is known.
    word: String,
    heard: Verdict,
    said: Option<(Instant, Said)>,
    /// Why it says nothing, if it does not.
    silent: Option<String>,
    /// It was away, or this engine did not see whether it was: it may be no longer what it was.
    was_away: bool,
    /// When it gave the address, until it is known whether it did so on purpose.
    gave: Option<Instant>,
    resources: Resources,
    /// How often Heartbeat was started, the first time included.
    called: u32,
}

impl Known {
    /// As an earlier engine left it.
    pub(super) fn recall(claim: Claim, hands_back: bool) -> Known {
        let state = State {
            view: View::FIRST,
            claimed: claim.is_made(),
            comings: 0,
            runs: Runs::No,
            word: String::new(),
            heard: Verdict::Unknown,
            said: None,
            silent: None,
            was_away: true,
            gave: None,
            resources: Resources::Moving,
            called: 0,
        };
        let (changes, ends) = (Arc::default(), AtomicBool::new(false));
        Known { claim, hands_back, state: Mutex::new(state), changes, ends }
    }

    pub(super) fn view(&self) -> View {
        self.state().view
    }

    pub(super) fn changes(&self) -> Arc<Notify> {
        Arc::clone(&self.changes)
    }

    /// The engine ends: from now on Heartbeat is not started any more.
    pub(super) fn end(&self) {
        self.ends.store(true, Ordering::SeqCst);
    }

    pub(super) fn ends(&self) -> bool {
        self.ends.load(Ordering::SeqCst)
    }

    pub(super) fn claimed(&self) -> bool {
        self.state().claimed
    }

    /// How often the address came, for a [look](Known::saw) that begins.
    pub(super) fn comings(&self) -> u32 {
        self.state().comings
    }

    /// The address came. It counts after the next whole [look](Known::saw), which says how the other node is now.
    pub(super) fn came(&self) -> std::io::Result<()> {
        self.claim.make()?;
        let mut state = self.state();
        state.claimed = true;
        state.comings = state.comings.wrapping_add(1);
        // one that gave it could serve a moment ago
        state.was_away = state.heard != Verdict::Up;
        state.gave = (!state.was_away).then(Instant::now);
        state.forget();
        Ok(())
    }

    /// The address is to go, or has gone.
    pub(super) fn gone(&self) {
        if let Err(error) = self.claim.give_up() {
            tracing::error!("{}: {error}", self.claim.path().display());
        }
        self.change(|state| {
            (state.claimed, state.gave) = (false, None);
            state.forget();
            (state.view.held, state.view.ended) = (false, false);
        });
    }

    /// `comings`: as many as when the look began.
    pub(super) fn saw(&self, seen: &Seen, comings: u32) {
        self.change(|state| {
            (state.runs, state.resources) = (seen.runs, seen.resources);
            state.word.clone_from(&seen.word);
            // a Heartbeat that has ended hears nobody: one that was dead has not come to life by that
            let is_dead = state.heard == Verdict::Down && seen.runs != Runs::Yes;
            state.heard = if is_dead { Verdict::Down } else { seen.peer };
            if matches!(state.heard, Verdict::Down | Verdict::Unknown) {
                state.was_away = true;
                state.forget();
            }
            state.view.isolated = seen.isolated;
            state.view.held = state.claimed && (state.view.held || comings == state.comings);
            state.judge(self.hands_back);
        });
    }

    /// The coming since which the other node is to be asked how it is; `None`: nobody wants to know, or nobody would answer.
    pub(super) fn coming_to_ask_about(&self) -> Option<u32> {
        let state = self.state();
        let is_there = matches!(state.heard, Verdict::Up | Verdict::Degraded);
        (state.view.held && is_there).then_some(state.comings)
    }

    /// What the other node's engine says of it, or why it says nothing. It was asked since that coming.
    pub(super) fn hear(&self, coming: u32, said: Result<Said, String>) {
        self.change(|state| {
            if !state.view.held || coming != state.comings {
                return;
            }
            match said {
                Ok(said) => {
                    let gave = state.gave.take();
                    let up = Duration::from_secs(said.up);
                    state.view.ended |= gave.is_some_and(|at| up < at.elapsed() + BEGINNING);
                    (state.said, state.silent) = (Some((Instant::now(), said)), None);
                }
                Err(why) => {
                    if state.silent.is_none() {
                        tracing::warn!("the other node does not say whether it could serve: {why}");
                    }
                    state.silent = Some(why);
                }
            }
            state.judge(self.hands_back);
        });
    }

    pub(super) fn not_taken(&self) {
        self.change(|state| state.view.failed_handovers = state.view.failed_handovers.wrapping_add(1));
    }

    pub(super) fn called(&self) {
        self.state().called += 1;
    }

    /// For `status`.
    pub(super) fn facts(&self) -> Value {
        let state = self.state();
        json!({
            "heartbeat": match state.runs {
                Runs::Yes => "runs",
                Runs::No => "stopped",
                Runs::Silent => "does not answer",
            },
            "other_node": state.word,
            "other_node_says": match (state.fresh(), &state.silent) {
                (_, Some(why)) => json!(format!("nothing: {why}")),
                (Some(said), None) => json!(said.in_the_way().unwrap_or("it could serve")),
                (None, None) => Value::Null,
            },
            "resources": format!("{:?}", state.resources).to_lowercase(),
            "started": state.called,
        })
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        let before = state.view;
        change(&mut state);
        if state.view != before {
            self.changes.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // nothing is left half done by whoever panics with it
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget(&mut self) {
        (self.said, self.silent) = (None, None);
    }

    fn fresh(&self) -> Option<&Said> {
        self.said.as_ref().filter(|(at, _)| at.elapsed() < FRESH).map(|(_, said)| said)
    }

    /// The verdict on the other node. Before it gets the address back on purpose it must say that it could serve.
    fn judge(&mut self, hands_back: bool) {
        let is_ready = match self.said {
            None => !self.was_away,
            Some(_) => self.fresh().is_some_and(|said| said.in_the_way().is_none()),
        };
        let waits = hands_back && self.claimed && self.heard == Verdict::Up && !is_ready;
        self.view.peer = if waits { Verdict::Degraded } else { self.heard };
    }
}
