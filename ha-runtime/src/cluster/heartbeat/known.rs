//! What the engine, Heartbeat's script and the thread know of the address.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ha_core::cluster::View;
use ha_core::cluster::heartbeat::Resources;
use ha_core::health::Verdict;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::claim::Claim;
use super::tools::{Runs, Seen};

#[derive(Debug)]
pub(super) struct Known {
    claim: Claim,
    state: Mutex<State>,
    changes: Arc<Notify>,
    ends: AtomicBool,
}

#[derive(Debug)]
struct State {
    view: View,
    /// Heartbeat's script brought the address, and has not taken it.
    claimed: bool,
    runs: Runs,
    word: String,
    resources: Resources,
    /// How often Heartbeat was started, the first time included.
    called: u32,
}

impl Known {
    /// As an earlier engine left it.
    pub(super) fn recall(claim: Claim) -> Known {
        let state = State {
            view: View::FIRST,
            claimed: claim.is_made(),
            runs: Runs::No,
            word: String::new(),
            resources: Resources::Moving,
            called: 0,
        };
        Known { claim, state: Mutex::new(state), changes: Arc::default(), ends: AtomicBool::new(false) }
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

    /// The address came. It counts after the next [look](Known::saw), which says how the other node is now.
    pub(super) fn came(&self) -> std::io::Result<()> {
        self.claim.make()?;
        self.state().claimed = true;
        Ok(())
    }

    /// The address is to go, or has gone.
    pub(super) fn gone(&self) {
        if let Err(error) = self.claim.give_up() {
            tracing::error!("{}: {error}", self.claim.path().display());
        }
        self.change(|state| {
            state.claimed = false;
            state.view.held = false;
        });
    }

    pub(super) fn saw(&self, seen: &Seen) {
        self.change(|state| {
            (state.runs, state.resources) = (seen.runs, seen.resources);
            state.word.clone_from(&seen.word);
            let failed_handovers = state.view.failed_handovers;
            // a Heartbeat that has ended hears nobody: one that was dead has not come to life by that
            let is_dead = state.view.peer == Verdict::Down && seen.runs != Runs::Yes;
            let peer = if is_dead { Verdict::Down } else { seen.peer };
            let (held, isolated) = (state.claimed, seen.isolated);
            state.view = View { held, peer, isolated, failed_handovers };
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
