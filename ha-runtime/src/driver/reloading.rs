//! The settings are read anew while the daemon runs.

use std::sync::Arc;

use chrono::Local;
use ha_core::{Input, Policy, RoleConfig};

use super::{Driver, Message, Notes};
use crate::clock;
use crate::cluster::Charter;
use crate::context::Context;
use crate::effect::Performer;
use crate::performer;
use crate::report::Failure;

/// The settings, read anew, and what comes of them.
pub(super) struct Reread {
    pub(super) context: Context,
    pub(super) policy: Policy,
    pub(super) performer: Arc<Performer>,
}

impl Driver {
    /// SIGHUP: the settings are read anew, and used when they are right.
    pub(super) fn reload(&self) {
        let (context, to_self, role) = (self.context.clone(), self.to_self.clone(), *self.node.role());
        let journal = self.keeper.journal();
        tokio::task::spawn_blocking(move || match reread(&context, &role, journal) {
            Ok(read) => {
                let _ = to_self.blocking_send(Message::Reloaded(Box::new(read)));
            }
            Err(failure) => tracing::error!("settings are kept as they were: {failure}"),
        });
    }

    pub(super) fn reloaded(&mut self, read: Reread) {
        let Reread { context, policy, performer } = read;
        let before = std::mem::replace(&mut self.context, context);
        let role = *self.node.role();
        if let Err(failure) = self.open_probes(&role) {
            self.context = before;
            return tracing::error!("settings are kept as they were: {failure}");
        }
        if !self.node.change_policy(policy, clock::now()) {
            self.context = before;
            return tracing::error!(
                "settings are kept as they were: telephony is being started or stopped, try again"
            );
        }
        self.performer = performer;
        self.keep_anew();
        self.follow_no_more("the settings were read anew");
        self.keeper.alert_by(self.context.settings.alert.command.clone());
        tracing::info!("settings read anew");
        self.feed(Input::Tick);
        self.recluster();
    }
}

pub(super) fn reread(context: &Context, role: &RoleConfig, journal: Notes) -> Result<Reread, Failure> {
    let context = context.reread()?;
    // a pair whose cluster could not be opened would serve nobody
    Charter::of(&context, role)?;
    let policy = context.policy(Arc::new(Local));
    let performer = Arc::new(performer::build(&context, journal)?);
    Ok(Reread { context, policy, performer })
}
