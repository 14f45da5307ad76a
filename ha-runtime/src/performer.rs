//! The performer of this node's effects, and what an earlier engine left behind.

use std::sync::Arc;
use std::time::Duration;

use crate::confd::{Confd, ConfdConfig};
use crate::context::Context;
use crate::driver::Notes;
use crate::durable::{STATE_DIRECTORY, private_directory};
use crate::effect::Performer;
use crate::journal;
use crate::lock::Lock;
use crate::process::{self, ProcessRecord};
use crate::report::Failure;

/// How long a service that is being restarted is waited for before its API counts as dead.
const API_PATIENCE: Duration = Duration::from_secs(20);
/// With the PBX's API, and every command on record in `notes` before its first instruction (`safety.md` 3.3). One journal
/// for all of an engine: a disk that stalls is waited for once, not once by each that writes.
pub fn build(context: &Context, notes: Notes) -> Result<Performer, Failure> {
    let performer = Performer::new(context.root.clone(), context.profile().program)
        .on_start(move |record: &ProcessRecord| notes.command(record));
    let (true, Some(sip)) = (context.settings.pbx.manage, context.profile().sip) else {
        return Ok(performer);
    };
    let state = context.root.path(STATE_DIRECTORY);
    private_directory(&state)
        .map_err(|error| Failure::environment(format!("{}: {error}", state.display())))?;
    let config = ConfdConfig::of(context, API_PATIENCE);
    Ok(performer.with_api(Arc::new(Confd::new(config, sip))))
}

/// Ends what an engine that was killed had running, then undoes what it had half done. To be called before anything is
/// decided.
pub fn settle_the_past(context: &Context, performer: &Performer, notes: &Notes) -> Result<(), Failure> {
    let patience = Duration::from_secs(60);
    let _act = Lock::Act.lock_within(&context.root, patience).map_err(Failure::environment)?;
    let survivors = journal::survivors(&context.root)
        .map_err(|error| Failure::environment(format!("journal: {error}")))?;
    for record in survivors {
        tracing::warn!("a command of an earlier engine still runs, it is ended: {}", record.argv.join(" "));
        process::end_group(&record, Duration::from_secs(5)).map_err(Failure::environment)?;
    }
    match performer.recover() {
        Ok(None) => {}
        Ok(Some(recovered)) => {
            tracing::warn!("{recovered}");
            notes.note("recovered", &recovered.to_string());
        }
        Err(error) => return Err(Failure::environment(error)),
    }
    Ok(())
}
