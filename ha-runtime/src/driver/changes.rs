//! Tells the node when something changed that is replicated.

use std::sync::Arc;
use std::time::Duration;

use ha_core::{Input, Role};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{Driver, Message};
use crate::context::Context;
use crate::replicate::{Afar, Kept, Lookout, OnChange, Sight};

/// Between two looks at the tables.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// A file seldom changes alone: how long is waited for the others.
const GATHERING: Duration = Duration::from_millis(200);

impl Driver {
    /// Forgets what was kept for the next replication, and begins to look out for changes if this node is to replicate them.
    pub(super) fn keep_anew(&mut self) {
        self.kept = match self.why_no_change_is_told() {
            Some(_) => Kept::default(),
            None => match self.node.role().peer() {
                Some(peer) if self.pulls() => Kept::listening(Arc::new(Afar::start(&self.context, peer))),
                _ => Kept::looking_out(Arc::new(Lookout::start(&self.context))),
            },
        };
        self.tell_of_changes();
    }

    /// Forgets what was kept of the slave: one that is back may not be what it was.
    pub(super) fn forget_the_slave(&mut self) {
        if self.pulls() {
            // a line that was cut would be tried again later than now
            return self.keep_anew();
        }
        self.kept = self.kept.without_the_slave();
        self.tell_of_changes();
    }

    fn tell_of_changes(&mut self) {
        self.changes = JoinSet::new();
        if let Some(lookout) = self.kept.lookout() {
            let told =
                tell(self.context.clone(), self.kept.clone(), Arc::clone(lookout), self.to_self.clone());
            self.changes.spawn(told);
        }
        if let Some(afar) = self.kept.afar() {
            self.changes.spawn(tell_from_afar(Arc::clone(afar), self.to_self.clone()));
        }
    }

    /// Whoever looked out for changes ended, which only a defect of this program can bring about: it is said, and nobody
    /// looks out until [`Driver::look_out_again`].
    pub(super) fn looks_out_no_more(&mut self, ended: &Result<(), tokio::task::JoinError>) {
        let why = ended.as_ref().err().map(ToString::to_string).unwrap_or_default();
        tracing::error!("looking out for changes ended, it begins anew: {why}");
        self.changes = JoinSet::new();
        self.kept = Kept::default();
    }

    /// Begins anew after that.
    pub(super) fn look_out_again(&mut self) {
        let somebody = self.kept.lookout().is_some() || self.kept.afar().is_some();
        if !somebody && self.why_no_change_is_told().is_none() {
            self.keep_anew();
        }
    }

    /// For `status`.
    pub(super) fn on_change(&self) -> OnChange {
        let unseen = || {
            OnChange::unseen(
                self.why_no_change_is_told().unwrap_or("a defect of this program ended it; it begins anew"),
            )
        };
        self.kept.on_change().unwrap_or_else(unseen)
    }

    /// What is replicated comes from the other node because this one asks for it.
    pub(super) fn pulls(&self) -> bool {
        self.context.settings.replication.flow.is_pull()
    }

    fn why_no_change_is_told(&self) -> Option<&'static str> {
        let (record, role) = (self.node.record(), self.node.role().role());
        let (pulls, flow) = (self.pulls(), self.context.settings.replication.flow);
        let reasons = [
            (!self.context.settings.replication.on_change, "replication.on_change is false"),
            (role == Role::Disabled, "this node is in no pair"),
            (!pulls && role != Role::Master, "only a master replicates"),
            (pulls && !flow.reaches(role), "only a slave fetches"),
            (!pulls && !record.active, "telephony was handed over to the slave"),
            (pulls && record.active, "this node serves, and nothing is fetched to it"),
            (record.maintenance_until.is_some(), "maintenance is on"),
        ];
        reasons.into_iter().find_map(|(is_so, why)| is_so.then_some(why))
    }
}

/// Until it is aborted.
async fn tell_from_afar(afar: Arc<Afar>, to_self: mpsc::Sender<Message>) {
    let mut told = 0;
    loop {
        told = afar.changed(told).await;
        if to_self.send(Message::Input(Input::Changed)).await.is_err() {
            return;
        }
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
