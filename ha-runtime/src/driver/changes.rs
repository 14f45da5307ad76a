//! Tells the node when something changed that is replicated.

use std::sync::Arc;
use std::time::Duration;

use ha_core::{Input, Role};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{Driver, Message};
use crate::context::Context;
use crate::replicate::{Kept, Lookout, OnChange, Sight};

/// Between two looks at the tables.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// A file seldom changes alone: how long is waited for the others.
const GATHERING: Duration = Duration::from_millis(200);

impl Driver {
    /// Forgets what was kept for the next replication, and begins to look out for changes if this node is to replicate them.
    pub(super) fn keep_anew(&mut self) {
        self.changes = JoinSet::new();
        self.kept = match self.why_no_change_is_told() {
            Some(_) => Kept::default(),
            None => Kept::looking_out(Lookout::start(&self.context)),
        };
        if let Some(lookout) = self.kept.lookout() {
            let told =
                tell(self.context.clone(), self.kept.clone(), Arc::clone(lookout), self.to_self.clone());
            self.changes.spawn(told);
        }
    }

    /// For `status`.
    pub(super) fn on_change(&self) -> OnChange {
        let unseen = || OnChange::unseen(self.why_no_change_is_told().unwrap_or_default());
        self.kept.on_change().unwrap_or_else(unseen)
    }

    fn why_no_change_is_told(&self) -> Option<&'static str> {
        let record = self.node.record();
        let reasons = [
            (!self.context.settings.replication.on_change, "replication.on_change is false"),
            (self.node.role().role() != Role::Master, "only a master replicates"),
            (!record.active, "telephony was handed over to the slave"),
            (record.maintenance_until.is_some(), "maintenance is on"),
        ];
        reasons.into_iter().find_map(|(is_so, why)| is_so.then_some(why))
    }
}

/// Until it is aborted. What is not known at first counts as a change.
async fn tell(context: Context, kept: Kept, lookout: Arc<Lookout>, to_self: mpsc::Sender<Message>) {
    let mut told = Sight::default();
    let mut sight = lookout.look(&context).await;
    let mut look = interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if kept.is_news(&sight, &told) {
            if to_self.send(Message::Input(Input::Changed)).await.is_err() {
                return;
            }
            told = sight.clone();
        }
        let tables = tokio::select! {
            () = lookout.files_changed(sight.files) => {
                sleep(GATHERING).await;
                lookout.last_sight()
            }
            _ = look.tick() => lookout.look(&context).await,
        };
        // what cannot be seen for a while is compared with what was seen before that
        sight = Sight { tables: tables.tables.or(sight.tables), ..tables };
    }
}
