//! What a role change does, in the order in which it protects.
//!
//! Into a pair: the role and what the pair shares are written; then Asterisk's unit is taken from systemd, because the
//! cluster decides where it runs. Telephony itself is not touched: who has the address starts it. Out of the pair: the
//! same in reverse, and Asterisk runs, as on every machine that is alone.

use std::time::Duration;

use ha_core::effect::{Command, OnFailure};
use ha_core::{Effect, Role, RoleChange, role_file};

use crate::{PROFILE, asha_conf};

/// Beside the unit, whichever package brings it.
pub(crate) const DROP_IN: &str = "/etc/systemd/system/asterisk.service.d/pbx-ha.conf";

const DROP_IN_TEXT: &str = "\
# Written by sark-ha for a node of a pair; `sark-ha configure disabled` removes it.
[Unit]
# An address that comes and goes needs more than the five starts in 10 s that systemd allows.
StartLimitIntervalSec=0

[Service]
# Where Asterisk runs is decided by the cluster: one that comes back by itself races with the failover.
Restart=no
# No command that a hung Asterisk would have to answer: SIGTERM with SIGCONT at once, SIGKILL after 5 s, to all of it.
ExecStop=
KillMode=control-group
TimeoutStopSec=5s
";

pub(crate) fn apply(change: &RoleChange<'_>) -> Vec<Effect> {
    let role = Effect::WriteFile {
        path: PROFILE.role_file.to_owned(),
        content: role_file::render(change.to),
        mode: 0o644,
    };
    let shared = change.shared.map(|shared| Effect::SetVariables {
        path: asha_conf::PATH.to_owned(),
        variables: asha_conf::variables(shared)
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
    });
    let reload = Effect::Run(systemctl(&["daemon-reload"]));
    let mut effects = Vec::new();
    match change.to.role() {
        Role::Disabled => {
            effects.push(Effect::RemoveFile { path: DROP_IN.to_owned() });
            effects.push(role);
            effects.extend(shared);
            effects.push(reload);
            effects.push(Effect::Run(systemctl(&["enable", "asterisk.service"])));
            effects.push(Effect::RunUnless {
                check: PROFILE.services.status.command(),
                commands: PROFILE.services.start.iter().map(|step| step.command()).collect(),
            });
        }
        Role::Master | Role::Slave => {
            effects.push(role);
            effects.extend(shared);
            effects.push(Effect::Run(systemctl(&["disable", "asterisk.service"])));
            effects.push(Effect::WriteFile {
                path: DROP_IN.to_owned(),
                content: DROP_IN_TEXT.to_owned(),
                mode: 0o644,
            });
            // last: what is in force is what is written, also when something before it failed and was undone
            effects.push(reload);
        }
    }
    effects
}

fn systemctl(words: &[&str]) -> Command {
    let argv = std::iter::once(&"systemctl").chain(words).map(|word| (*word).to_owned()).collect();
    Command { argv, timeout: Duration::from_secs(30), on_failure: OnFailure::Fail }
}
