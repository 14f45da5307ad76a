//! Commands of the administrator's own at a role change and at a takeover: `[sark]`.

use ha_core::Profile;

use super::check::refuse;
use super::error::Invalid;
use super::followers::command;
use super::raw;

/// `[sark]`: what SARK's own configuration does with the address (`domain.md` 5.5). Each is a program and its arguments;
/// in those at a role change `{cluster_ip}` is the address, or nothing outside a pair. `None`: nothing is run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    /// At a role change: has phones provisioned with the address.
    pub provision: Option<Vec<String>>,
    /// At a role change: has Asterisk answer from the address.
    pub bind: Option<Vec<String>>,
    /// Before telephony starts, where a failover card is installed: switches the lines to this node.
    pub rhino: Option<Vec<String>>,
}

pub(super) fn resolve(raw: Option<raw::Hooks>, profile: &Profile) -> Result<Hooks, Invalid> {
    let Some(raw) = raw else { return Ok(Hooks::default()) };
    if !profile.exclusive_address {
        return refuse("sark", format!("{} has no [sark]: remove the section", profile.name));
    }
    let hook = |key, set: Option<Vec<String>>| {
        set.map(|argv| command(key, Some(argv), &["/usr/local/bin/hook", "{cluster_ip}"])).transpose()
    };
    Ok(Hooks {
        provision: hook("sark.provision", raw.provision)?,
        bind: hook("sark.bind", raw.bind)?,
        rhino: hook("sark.rhino", raw.rhino)?,
    })
}
