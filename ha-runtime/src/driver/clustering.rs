//! The cluster of a pair that shares one address: opened, listened to, and opened anew when the pair is another one.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ha_core::cluster::{Standing, View};
use ha_core::{Input, RoleConfig};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{Driver, Message, in_a_thread};
use crate::cluster::{Agreed, Charter, Cluster, Said};
use crate::context::Context;
use crate::report::{Failure, Verdict};

/// Opens the cluster of a charter; the daemon's is [`crate::cluster::open`].
pub(crate) type Opener = Arc<dyn Fn(&Context, &Charter) -> Result<Box<dyn Cluster>, Failure> + Send + Sync>;

/// The alert's key.
const ALERT: &str = "cluster";

/// A cluster that runs.
pub(super) struct Running {
    pub(super) charter: Charter,
    pub(super) cluster: Box<dyn Cluster>,
    changes: Arc<Notify>,
    /// As the node was told last.
    told: View,
}

impl Running {
    fn open(opener: &Opener, context: &Context, charter: Charter) -> Result<Running, Failure> {
        let cluster = opener(context, &charter)?;
        Ok(Running { changes: cluster.changes(), told: View::FIRST, charter, cluster })
    }
}

/// This node's cluster, if its pair shares an address.
pub(super) struct Clustering {
    opener: Opener,
    /// With the engine.
    begun: Instant,
    running: Option<Running>,
    /// One is being closed, opened, or thought about, in a thread.
    busy: bool,
    /// Something changed meanwhile.
    again: bool,
    /// The engine ends: none is opened any more.
    closed: bool,
}

/// What a thread made of the role and the settings.
pub(super) enum Reopened {
    /// The cluster that runs is the right one, or none is.
    AsItIs,
    /// Another one is wanted, or none: the one that runs is to leave.
    Other(Option<Charter>),
    /// There is another one, or none.
    Done(Option<Running>),
    /// None can be had now.
    Failed(Failure),
}

impl Clustering {
    /// None runs yet.
    pub(super) fn new(opener: Opener) -> Clustering {
        Clustering { opener, begun: Instant::now(), running: None, busy: false, again: false, closed: false }
    }

    /// At the engine's start: without a cluster a node that needs one does not begin. Blocks.
    pub(super) fn start(&mut self, context: &Context, role: &RoleConfig) -> Result<(), Failure> {
        let charter = Charter::of(context, role)?;
        let open = |charter| Running::open(&self.opener, context, charter);
        self.running = charter.map(open).transpose()?;
        Ok(())
    }

    /// The loop turned.
    pub(super) fn turned(&self) {
        if let Some(running) = &self.running {
            running.cluster.turned();
        }
    }

    /// Until the loop must turn again.
    pub(super) async fn pause(&self) {
        match &self.running {
            Some(running) => tokio::time::sleep(running.charter.pace()).await,
            None => std::future::pending().await,
        }
    }

    /// Until the cluster says something.
    pub(super) async fn changed(&self) {
        match &self.running {
            Some(running) => running.changes.notified().await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn stand(&self, standing: Standing) {
        if let Some(running) = &self.running {
            running.cluster.standing(standing);
        }
    }

    pub(super) fn hand_over(&self) {
        if let Some(running) = &self.running {
            running.cluster.hand_over();
        }
    }

    /// See [`Cluster::fetch`].
    pub(super) fn fetch(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.cluster.fetch())
    }

    /// What this node says of itself and of the pair, for the other one.
    pub(super) fn say(&self, standing: Standing) -> Verdict {
        match &self.running {
            Some(Running { charter, cluster, .. }) => {
                let agreed = Agreed::new(charter, cluster.moves());
                Said::new(standing, self.begun.elapsed(), agreed).into()
            }
            None => Err(Failure::guard("guard \"cluster\": no cluster runs on the node that was asked")),
        }
    }

    /// What the cluster's own script says; an error without a cluster.
    pub(super) fn told(&self, here: bool) -> Result<(), Failure> {
        match &self.running {
            Some(running) => running.cluster.told(here),
            None => Err(Failure::guard("guard \"cluster\": no cluster runs here, so no address comes here")),
        }
    }

    pub(super) fn take(&mut self) -> Option<Running> {
        self.running.take()
    }

    /// The same for good.
    pub(super) fn close(&mut self) -> Option<Running> {
        self.closed = true;
        self.take()
    }

    /// The address that phones know.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.running.as_ref().map(|running| running.charter.address)
    }

    /// The document of `status`.
    pub(super) fn facts(&self) -> Value {
        let Some(Running { charter, cluster, .. }) = &self.running else { return Value::Null };
        let mut facts = json!({ "kind": charter.kind(), "assumption": charter.assumption() });
        if let (Value::Object(facts), Value::Object(more)) = (&mut facts, cluster.facts()) {
            facts.extend(more);
        }
        facts
    }

    fn news(&mut self) -> Option<View> {
        let running = self.running.as_mut()?;
        let view = running.cluster.view();
        (std::mem::replace(&mut running.told, view) != view).then_some(view)
    }
}

impl Driver {
    /// Tells the node what is settled, if that is news.
    pub(super) fn hear_the_cluster(&mut self) {
        if let Some(view) = self.clustering.news() {
            self.feed(Input::Cluster(view));
        }
    }

    /// The role or the settings may be others: then so is the cluster. The old one lets the address go first.
    pub(super) fn recluster(&mut self) {
        if !self.context.profile().exclusive_address || self.clustering.closed {
            return;
        }
        if std::mem::replace(&mut self.clustering.busy, true) {
            self.clustering.again = true;
            return;
        }
        let (context, role) = (self.context.clone(), *self.node.role());
        let present = self.clustering.running.as_ref().map(|running| running.charter.clone());
        self.spawn_reopening(move || match Charter::of(&context, &role) {
            Ok(charter) if charter == present => Reopened::AsItIs,
            Ok(charter) => Reopened::Other(charter),
            Err(failure) => Reopened::Failed(failure),
        });
    }

    /// One that could not be had is tried again, and one that ended by a defect of its own begins anew.
    pub(super) fn recluster_if_there_is_none(&mut self) {
        if let Some(ended) = self.clustering.running.take_if(|running| !running.cluster.runs()) {
            tracing::error!(
                "the cluster ended, which only a defect of this program can bring about: it begins anew"
            );
            self.feed(Input::Cluster(View { held: false, ..ended.told }));
        }
        if self.clustering.running.is_none() && self.node.role().peer().is_some() {
            self.recluster();
        }
    }

    fn spawn_reopening(&self, work: impl FnOnce() -> Reopened + Send + 'static) {
        let to_self = self.to_self.clone();
        tokio::spawn(async move {
            // a report comes whatever happens
            let done = in_a_thread("cluster", work).await;
            let done = done.unwrap_or_else(|error| Reopened::Failed(Failure::environment(error)));
            let _ = to_self.send(Message::Reopened(done)).await;
        });
    }

    pub(super) fn reopened(&mut self, what: Reopened) {
        let alerts = self.keeper.alerts();
        match what {
            Reopened::Other(charter) => return self.replace(charter),
            Reopened::AsItIs => {}
            Reopened::Done(running) => {
                self.clustering.running = running;
                self.clustering.stand(self.node.standing());
                alerts.clear(ALERT, "the cluster runs as it should");
            }
            Reopened::Failed(failure) => {
                let text = format!("the cluster cannot be opened: {failure}");
                tracing::error!("{text}");
                alerts.raise(ALERT, &text);
            }
        }
        self.clustering.busy = false;
        self.hear_the_cluster();
        if std::mem::take(&mut self.clustering.again) {
            self.recluster();
        }
    }

    /// In the place of the one that runs.
    fn replace(&mut self, charter: Option<Charter>) {
        let old = self.clustering.take();
        let (context, opener) = (self.context.clone(), Arc::clone(&self.clustering.opener));
        if let Some(old) = &old {
            // the other node takes over as from one that is gone, and telephony here ends with the address
            old.cluster.standing(Standing { able: false, ..self.node.standing() });
            let view = old.cluster.view();
            self.feed(Input::Cluster(View { held: false, ..view }));
        }
        self.spawn_reopening(move || {
            match old {
                Some(old) if charter.is_none() => old.cluster.dissolve(),
                Some(old) => old.cluster.leave(),
                None => {}
            }
            match charter.map(|charter| Running::open(&opener, &context, charter)).transpose() {
                Ok(running) => Reopened::Done(running),
                Err(failure) => Reopened::Failed(failure),
            }
        });
    }
}
