//! What the engine, Heartbeat's script and the thread know of the address.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use std::time::Instant;

use ha_core::cluster::View;
use ha_core::cluster::heartbeat::Resources;
use ha_core::health::Verdict;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::asking::FRESH;
use super::claim::Claim;
use super::tools::{Runs, Seen};
use crate::cluster::Said;

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
    said: Option<(Instant, Result<Said, String>)>,
    /// It was away, or this engine did not see whether it was: it may be no longer what it was.
    was_away: bool,
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
            was_away: true,
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
        (state.claimed, state.said) = (true, None);
        state.comings = state.comings.wrapping_add(1);
        // one that gave it could serve a moment ago
        state.was_away = state.heard != Verdict::Up;
        Ok(())
    }

    /// The address is to go, or has gone.
    pub(super) fn gone(&self) {
        if let Err(error) = self.claim.give_up() {
            tracing::error!("{}: {error}", self.claim.path().display());
        }
        self.change(|state| {
            (state.claimed, state.said) = (false, None);
            state.view.held = false;
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
                (state.said, state.was_away) = (None, true);
            }
            state.view.isolated = seen.isolated;
            state.view.held = state.claimed && (state.view.held || comings == state.comings);
            state.judge(self.hands_back);
        });
    }

    /// What the other node's engine says of it, or why it says nothing.
    pub(super) fn hear(&self, said: Result<Said, String>) {
        self.change(|state| {
            state.said = state.claimed.then(|| (Instant::now(), said));
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
            "other_node_says": match &state.said {
                None => Value::Null,
                Some((_, Err(why))) => json!(format!("nothing: {why}")),
                Some((_, Ok(said))) => json!(said.words()),
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
    /// The verdict on the other node. Before it gets the address back on purpose it must say that it could serve.
    fn judge(&mut self, hands_back: bool) {
        let is_ready = match &self.said {
            None => !self.was_away,
            Some((at, said)) => at.elapsed() < FRESH && said.as_ref().is_ok_and(Said::could_take),
        };
        let waits = hands_back && self.claimed && self.heard == Verdict::Up && !is_ready;
        self.view.peer = if waits { Verdict::Degraded } else { self.heard };
    }
}
