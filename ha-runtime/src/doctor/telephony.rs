//! Whether telephony is as the role and the record have it.

use std::fs;

use ha_core::Role;
use ha_core::profile::Switch;
use ha_core::services::Observed;

use super::Check;
use crate::context::Context;
use crate::observe::{forbidden, observe};

/// Where the products keep provisioning plugins.
const PLUGINS: [&str; 2] = ["/var/lib/wazo-provd/plugins", "/var/lib/xivo-provd/plugins"];

/// Whether telephony runs where it belongs. `active`: whether the record says that it belongs here.
pub(super) fn telephony(context: &Context, role: Role, active: bool) -> Check {
    let observed = observe(&context.root, &context.profile().observe);
    match (role, active, observed) {
        (_, _, Observed::Unknown) => Check::not_checked("telephony", "neither a unit nor a pid file tells"),
        (Role::Disabled, ..) => Check::ok("telephony", "a disabled node's telephony is its own affair"),
        (_, true, Observed::Running) => Check::ok("telephony", "it runs, and belongs here"),
        (_, false, Observed::Stopped) => Check::ok("telephony", "it is stopped, and does not belong here"),
        (_, true, Observed::Stopped) => Check::fail(
            "telephony",
            "it belongs here, and does not run",
            "look at `why` and at the units' logs; `services start` starts it",
        ),
        (_, false, Observed::Running) => Check::fail(
            "telephony",
            "it runs, and does not belong here: trunks are registered and phones provisioned by two nodes",
            "`services stop` stops it; find out what started it (an upgrade, a person)",
        ),
    }
}

/// The product's own note that telephony must not run here, compared with the role.
pub(super) fn disabled_file(context: &Context, role: Role, active: bool) -> Option<Check> {
    let observation = &context.profile().observe;
    let off = |switch: &Switch| format!("{}={} in {}", switch.name, switch.off, switch.path);
    let file =
        observation.disabled_file.map(str::to_owned).or_else(|| observation.switches.first().map(off))?;
    let there = forbidden(&context.root, observation);
    Some(match (role, active, there) {
        (Role::Master, true, true) | (Role::Disabled, _, true) => Check::fail(
            "disabled-file",
            format!("{file} is there: units do not start after a reboot or an upgrade"),
            "run `services start`, which removes it",
        ),
        (Role::Slave, false, false) => Check::warn(
            "disabled-file",
            format!("{file} is not there: a reboot or an upgrade starts telephony beside the master"),
            "run `services stop`, which makes it",
        ),
        (Role::Slave, true, true) => Check::warn(
            "disabled-file",
            format!("{file} is there while this slave serves: units that stop do not start again"),
            "run `services start`, which removes it",
        ),
        _ => Check::ok(
            "disabled-file",
            if there { "there, as it should be" } else { "not there, as it should be" },
        ),
    })
}

/// A slave must have no provisioning plugins: the replicated configuration brings them (Wazo documentation).
pub(super) fn plugins(context: &Context) -> Check {
    let mut found = Vec::new();
    for directory in PLUGINS {
        let Ok(entries) = fs::read_dir(context.root.path(directory)) else { continue };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        found.extend(names.filter(|name| !name.starts_with('.')).map(|name| format!("{directory}/{name}")));
    }
    found.sort_unstable();
    match found.as_slice() {
        [] => Check::ok("slave-plugins", "no provisioning plugin is installed"),
        found => Check::warn(
            "slave-plugins",
            format!("installed on the slave: {}", found.join(", ")),
            "uninstall them: provisioning belongs to the master",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::super::testing::Place;
    use super::*;

    const DISABLED: &str = "/var/lib/wazo/disabled";
    const PID: &str = "/run/asterisk/asterisk.pid";

    #[test]
    fn telephony_that_runs_where_it_does_not_belong_fails_and_the_other_way_round() {
        let place = Place::new();
        let level = |role, active| telephony(&place.context(), role, active).level;
        assert!(telephony(&place.context(), Role::Master, true).finding.starts_with("not checked"));
        place.write(DISABLED, "");
        assert_eq!(level(Role::Master, true), Level::Fail);
        assert_eq!(level(Role::Slave, false), Level::Ok);
        // this process stands for Asterisk: it was there before its pid file
        place.write(PID, &std::process::id().to_string());
        assert_eq!(level(Role::Master, true), Level::Ok);
        assert_eq!(level(Role::Slave, false), Level::Fail);
    }

    #[test]
    fn the_products_own_note_must_say_the_same_as_the_role() {
        let place = Place::new();
        let level = |role, active| disabled_file(&place.context(), role, active).unwrap().level;
        assert_eq!(level(Role::Slave, false), Level::Warn);
        assert_eq!(level(Role::Master, true), Level::Ok);
        place.write(DISABLED, "");
        assert_eq!(level(Role::Slave, false), Level::Ok);
        assert_eq!(level(Role::Slave, true), Level::Warn);
        assert_eq!(level(Role::Master, true), Level::Fail);
        assert_eq!(level(Role::Master, false), Level::Ok, "handed over");
        assert_eq!(level(Role::Disabled, false), Level::Fail);
    }

    #[test]
    fn a_plugin_on_a_slave_is_told() {
        let place = Place::new();
        assert_eq!(plugins(&place.context()).level, Level::Ok);
        place.write("/var/lib/wazo-provd/plugins/.cache", "");
        assert_eq!(plugins(&place.context()).level, Level::Ok);
        place.write("/var/lib/wazo-provd/plugins/wazo-snom-8.7/plugin-info", "{}");
        assert_eq!(plugins(&place.context()).level, Level::Warn);
    }
}
