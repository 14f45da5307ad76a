//! What is known of this node without its daemon: the record, the role file and a look at telephony.

use ha_core::RoleConfig;
use ha_core::event::Record;
use ha_core::replication::admission::Receiver;
use ha_core::services::Observed;

use crate::context::Context;
use crate::observe::observe;
use crate::replicate;
use crate::report::Failure;
use crate::state::{Loaded, Store};

/// The record's document in the state directory.
const RECORD: &str = "state";

/// Opens the record.
pub fn store(context: &Context) -> Result<Store<Record>, Failure> {
    Store::open(&context.root, RECORD).map_err(|error| Failure::environment(format!("state: {error}")))
}

/// Reads the record; `None`: there never was one. A torn one gives its predecessor and a warning.
pub fn load(store: &Store<Record>) -> Result<Option<Record>, Failure> {
    match store.load() {
        Ok(Some(Loaded::Previous { value, because })) => {
            tracing::warn!("the record before the last is used: {because}");
            Ok(Some(value))
        }
        Ok(loaded) => Ok(loaded.map(Loaded::into_value)),
        Err(error) => Err(Failure::environment(format!(
            "{error}; look at it, then remove it: the engine starts as if it had never run"
        ))),
    }
}

/// Reads it anew from the disk and from what runs.
pub fn now(context: &Context) -> Result<Receiver, Failure> {
    let role = context.role()?;
    let record = load(&store(context)?)?.filter(|record| belongs(record, &role));
    let owes = replicate::owes(context, role.role(), record.as_ref())?;
    let running = observe(&context.root, &context.profile().observe) == Observed::Running;
    let recorded = record.as_ref().is_some_and(|record| record.active);
    Ok(Receiver {
        flow: context.settings.replication.flow,
        role: role.role(),
        generation: record.map_or(0, |record| record.generation),
        active: recorded || running,
        owes,
    })
}

/// Whether the record is about this role and this peer.
pub fn belongs(record: &Record, role: &RoleConfig) -> bool {
    record.role == role.role() && record.remote_address == role.remote_address()
}
