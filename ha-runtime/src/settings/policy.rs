//! From the settings to what the core decides by.

use std::sync::Arc;

use ha_core::Zone;
use ha_core::node::Policy;

use super::{Preset, Rung, Settings};

impl Settings {
    /// The policy of a node in this time zone, as far as the settings alone say it; see
    /// [`Context::policy`](crate::context::Context::policy).
    pub fn policy(&self, zone: Arc<dyn Zone>) -> Policy {
        let rung = |rung: &Rung| match rung {
            Rung::Host => (*rung, self.probe.host),
            Rung::Port | Rung::Service => (*rung, self.probe.service),
        };
        // in the seed preset the scripts' cron lines replicate
        let scheduled = self.preset == Preset::Modern;
        Policy {
            rungs: self.probe.rungs.iter().map(rung).collect(),
            references: self.probe.reference.clone(),
            degraded_after: self.probe.degraded_after,
            failback: self.failback.clone(),
            flow: self.replication.flow,
            schedule: scheduled.then(|| self.replication.schedule.clone()),
            on_change: self.replication.on_change,
            exclusive: None,
            zone,
        }
    }
}
