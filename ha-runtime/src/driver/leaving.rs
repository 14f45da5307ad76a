//! The end of an engine whose pair shares one address: it is handed over or let go, and telephony stops with it
//! (`safety.md` 6.3).

use std::sync::Arc;
use std::time::Duration;

use ha_core::cluster::{Standing, View};
use ha_core::services::Observed;
use ha_core::{Input, ServiceState};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::{Driver, Message, in_a_thread, requests, until};
use crate::observe::observe;
use crate::telephony;

/// How long telephony may take to stop: longer than the plan's time-out, and shorter than systemd waits for the engine.
const PATIENCE: Duration = Duration::from_secs(17);

impl Driver {
    /// False: this node has an address of its own, so telephony goes on without the engine.
    pub(super) async fn leave(
        &mut self,
        listener: &UnixListener,
        inbox: &mut mpsc::Receiver<Message>,
    ) -> bool {
        let Some(running) = self.clustering.close() else { return false };
        let deadline = Instant::now() + PATIENCE;
        let cluster = running.cluster;
        let view = cluster.view();
        cluster.standing(Standing { able: false, ..self.node.standing() });
        let leaving = in_a_thread("cluster", move || cluster.leave());
        tokio::pin!(leaving);
        loop {
            let due = self.node.deadline();
            tokio::select! {
                left = &mut leaving => {
                    if let Err(error) = left {
                        // what holds the address ends with this process
                        tracing::error!("the cluster did not leave: {error}");
                    }
                    break;
                }
                // a cluster with a script of its own waits until telephony has stopped
                Ok((stream, _)) = listener.accept() => requests::serve(stream, self.to_self.clone()),
                Some(message) = inbox.recv() => self.take(message),
                () = until(due) => self.feed(Input::Tick),
            }
        }
        // by the node's own table, so that its record says what it does
        self.feed(Input::Cluster(View { held: false, ..view }));
        while self.node.status().in_flight.is_some() && Instant::now() < deadline {
            let due = self.node.deadline();
            tokio::select! {
                Some(message) = inbox.recv() => self.take(message),
                () = until(due) => self.feed(Input::Tick),
                () = sleep_until(deadline) => {}
            }
        }
        self.stop_what_runs(deadline).await;
        true
    }

    /// In maintenance the node stops nothing; but nobody reaches telephony whose address has gone, and the other node may
    /// serve.
    async fn stop_what_runs(&self, deadline: Instant) {
        let (context, performer) = (self.context.clone(), Arc::clone(&self.performer));
        let stopping = in_a_thread("telephony", move || {
            let runs = observe(&context.root, &context.profile().observe) == Observed::Running;
            runs.then(|| telephony::bring(&context, &performer, ServiceState::Stopped, || true))
        });
        match tokio::time::timeout_at(deadline, stopping).await {
            Ok(Ok(None | Some(Ok(_)))) => {}
            Ok(Ok(Some(Err(error)))) => tracing::error!("telephony was not stopped: {error}"),
            Ok(Err(error)) => tracing::error!("telephony was not stopped: {error}"),
            Err(_) => tracing::error!("telephony is still being stopped"),
        }
    }
}
