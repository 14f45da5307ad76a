//! `sync-key`, and what a verb tells about a replication when no daemon does.

use std::path::PathBuf;

use serde_json::json;

use crate::alert::{Alerts, Sent};
use crate::context::Context;
use crate::far::{Far, Word};
use crate::far_node;
use crate::replicate;
use crate::report::{Failure, Report, Verdict};
use crate::ssh::{KeySync, KeySyncError, NewHost, Origin, Ssh, Terminal, sync_key};
use crate::way;

/// Makes the key when there is none, installs it restricted on the other node, and proves that the agent answers by it.
pub(super) fn sync(context: &Context, accept_new: bool, dry_run: bool) -> Verdict {
    let peer = replicate::counterpart(context.settings.replication.flow, &context.role()?)?;
    let target = way::ssh_target(context, peer);
    if dry_run {
        let text = format!(
            "would make {} unless it is there, and admit it on {peer} for `{}` only",
            target.key.display(),
            target.command.join(" ")
        );
        return Ok(Report::done(text));
    }
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    let request = KeySync {
        target: &target,
        comment: context.profile().key_comment,
        home: &home,
        new_host: if accept_new { NewHost::Accept } else { NewHost::Ask },
    };
    let synced =
        sync_key(&request, &mut Terminal, &mut |ssh| greets(context, ssh)).map_err(|error| match error {
            KeySyncError::HostDeclined { .. } => Failure::guard(error),
            _ => Failure::environment(error),
        })?;
    let made = if synced.key == Origin::Made { "made" } else { "there already" };
    let installed = if synced.installed { "installed" } else { "installed already" };
    let text = format!(
        "key {} {made}, {installed} on {peer}, restricted; the agent there answers\n{}",
        target.key.display(),
        synced.fingerprint
    );
    let json = json!({
        "key": target.key.display().to_string(),
        "fingerprint": synced.fingerprint,
        "made": synced.key == Origin::Made,
        "installed": synced.installed,
    });
    Ok(Report::new(text, json))
}

fn greets(context: &Context, ssh: &Ssh) -> Result<(), String> {
    let stream = ssh.open(Word::Agent).map_err(|error| error.to_string())?;
    let mut client = far_node::greet(context, stream).map_err(|failure| failure.message)?;
    client.state().map(drop).map_err(|error| error.to_string())
}

/// One alert when a replication by hand or from cron fails, one when it works again.
pub(super) fn tell_of_replication(context: &Context, outcome: &Verdict) {
    let Ok(alerts) = Alerts::open(&context.root, context.settings.alert.command.clone()) else { return };
    let key = "replication-failed";
    let sent = match outcome {
        Ok(_) => alerts.clear(key, "replication works again"),
        Err(failure) => {
            let subject = format!("{}: {key}", context.profile().program);
            alerts.raise(key, &subject, &format!("Slave replication failed: {failure}"))
        }
    };
    if let Sent::Failed(error) = sent {
        tracing::warn!("the alert command failed: {error}");
    }
}
