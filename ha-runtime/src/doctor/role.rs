//! The settings, the role, and whether the files of the role are as `configure` leaves them.

use std::net::IpAddr;

use ha_core::effect::Block;
use ha_core::{Effect, PeerAddress, RoleChange, RoleConfig, ServiceState};

use super::Check;
use crate::addresses;
use crate::context::Context;
use crate::effect::{Performer, Would};
use crate::report::Failure;
use crate::settings::{Preset, Transport};

/// Whether the settings could be read; with a fault all else was looked at with the defaults.
pub(super) fn settings(context: &Context, fault: Option<&Failure>) -> Check {
    let path = context.settings_path.display();
    match fault {
        Some(fault) => Check::fail(
            "settings",
            format!("{fault}; all that follows was looked at with the defaults"),
            "correct the file; a daemon that runs keeps its former settings, one that starts refuses to",
        ),
        None if context.settings_path.exists() => Check::ok("settings", format!("{path} is read")),
        None => Check::ok("settings", format!("{path} does not exist: the defaults hold")),
    }
}

/// The role with its check.
pub(super) fn role(context: &Context) -> (Option<RoleConfig>, Check) {
    match context.role() {
        Ok(role) => {
            let with = role.peer().map(|peer| format!(" with {peer}")).unwrap_or_default();
            (Some(role), Check::ok("role-file", format!("this node is {}{with}", role.role())))
        }
        Err(failure) => {
            let todo =
                "correct the file, or remove it and run `configure` with the role that this node should have";
            (None, Check::fail("role-file", failure.message, todo))
        }
    }
}

/// Whether the address can be the other node's.
pub(super) fn peer_address(peer: IpAddr, own: &[IpAddr]) -> Check {
    let todo = "run `configure` with the VoIP address of the other node";
    match PeerAddress::new(peer).and_then(|address| address.not_one_of(own)) {
        Ok(_) => Check::ok("peer-address", format!("{peer} is not this machine")),
        Err(error) => Check::fail("peer-address", error.to_string(), todo),
    }
}

/// Whether the nodes are in one network, where the distribution needs that.
pub(super) fn same_subnet(context: &Context, peer: IpAddr) -> Option<Check> {
    let why = context.profile().same_subnet?;
    let id = "same-subnet";
    Some(match addresses::apart(peer) {
        _ if !context.root.is_machine() => {
            Check::not_checked(id, "the networks of a PBX below another root cannot be seen from here")
        }
        None => Check::ok(id, format!("{peer} is in one of this machine's networks")),
        Some(apart) => Check::fail(
            id,
            format!("{apart}. {why}"),
            "give both nodes an address in one network, and run `configure` with the other node's there",
        ),
    })
}

/// This machine's addresses.
pub(super) fn own_addresses() -> Vec<IpAddr> {
    addresses::own().iter().map(|network| network.ip()).collect()
}

/// Everything that `configure` would write for a role that the node has already; nothing is run.
pub(super) fn effects(context: &Context, role: &RoleConfig) -> Vec<Effect> {
    let settings = &context.settings;
    context.distribution.apply_role(&RoleChange {
        from: role,
        to: role,
        shared: None,
        cron: settings.preset == Preset::Seed,
        database_over_tcp: settings.replication.database_transport == Transport::Tcp,
        manage_pbx: false,
        restart_services: false,
        resync: false,
    })
}

/// The files of the role, compared with what `configure` would make of them.
pub(super) fn files(context: &Context, role: &RoleConfig) -> Vec<Check> {
    let profile = context.profile();
    let again = match role.peer() {
        Some(peer) => format!("run `{} configure {} --remote {peer}` again", profile.program, role.role()),
        None => format!("run `{} configure disabled` again", profile.program),
    };
    let performer = Performer::new(context.root.clone(), profile.program);
    let effects = effects(context, role);
    // the id, what is well, what is wrong, and which effects it is about
    type Part<'a> = (&'static str, &'a str, &'a str, fn(&Effect) -> bool);
    let (cron_well, cron_wrong) = match context.settings.preset {
        Preset::Seed => {
            ("the role's cron lines are there", "the role's cron lines are not as the preset needs them")
        }
        Preset::Modern => (
            "no cron line of the scripts acts beside the engine",
            "cron lines of the scripts act beside the engine",
        ),
    };
    let parts: [Part<'_>; 4] = [
        (
            "sentinels",
            "they say the same as the role file",
            "they do not say the same as the role file",
            |effect| path_of(effect).is_some_and(|path| !path.starts_with(CRON)),
        ),
        ("cron-files", cron_well, cron_wrong, |effect| {
            path_of(effect).is_some_and(|path| path.starts_with(CRON))
        }),
        (
            "database-access",
            "PostgreSQL's files are as the role needs them",
            "PostgreSQL's files are not as the role needs them",
            |effect| matches!(effect, Effect::SetBlocks { then: Some(_), .. }),
        ),
        (
            "role-lines",
            "the product's own files have the role's lines",
            "the product's own files have not the role's lines",
            |effect| matches!(effect, Effect::SetBlocks { then: None, .. }),
        ),
    ];
    // where telephony's switches stand is no matter of the role: a node that has handed over has them off
    let switched = profile.switched(ServiceState::Running);
    let mut checks = Vec::new();
    for (id, well, wrong, of) in parts {
        let mine: Vec<&Effect> = effects
            .iter()
            .filter(|effect| of(effect) && path_of(effect) != Some(profile.role_file))
            .filter(|effect| Some(*effect) != switched.as_ref())
            .collect();
        if mine.is_empty() {
            continue;
        }
        let found: Vec<String> = mine
            .iter()
            .filter_map(|effect| match performer.preview(&[our_own(effect)]).pop()?.would {
                Would::Change => Some(named(effect)),
                Would::Not(why) => Some(why),
                Would::Nothing | Would::Run | Would::Call => None,
            })
            .collect();
        checks.push(match found.as_slice() {
            [] => Check::ok(id, well),
            found => Check::fail(id, format!("{wrong}: {}", found.join(", ")), again.clone()),
        });
    }
    checks
}

/// Without the removal of the scripts' lines, about which there is a check of its own.
fn our_own(effect: &Effect) -> Effect {
    match effect.clone() {
        Effect::SetBlocks { blocks, then } => {
            let blocks = blocks.into_iter().map(|block| Block { replaces: None, ..block }).collect();
            Effect::SetBlocks { blocks, then }
        }
        other => other,
    }
}

const CRON: &str = "/etc/cron.d/";

/// The file that an effect writes or removes as a whole.
fn path_of(effect: &Effect) -> Option<&str> {
    match effect {
        Effect::WriteFile { path, .. } | Effect::RemoveFile { path } => Some(path),
        Effect::Run(_)
        | Effect::RunUnless { .. }
        | Effect::SetBlocks { .. }
        | Effect::SetVariables { .. }
        | Effect::SipExpiry(_)
        | Effect::BackupRegistrars(_)
        | Effect::SynchronizeDevices => None,
    }
}

fn named(effect: &Effect) -> String {
    match effect {
        Effect::RemoveFile { path } => format!("{path} should not be there"),
        Effect::WriteFile { path, .. } => format!("{path} is missing or different"),
        Effect::SetBlocks { blocks, .. } => {
            let paths: Vec<&str> = blocks.iter().map(|block| block.path.as_str()).collect();
            format!("in {}", paths.join(" or "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::super::testing::{Place, level};
    use super::*;

    const SLAVE: &str = r#"{"node_type": "slave", "remote_address": "192.0.2.11"}"#;
    const MASTER: &str = r#"{"node_type": "master", "remote_address": "192.0.2.12"}"#;

    fn checks(place: &Place) -> Vec<Check> {
        let context = place.context();
        files(&context, &context.role().unwrap())
    }

    #[test]
    fn settings_that_cannot_be_read_are_one_finding_among_others() {
        let place = Place::new();
        assert_eq!(settings(&place.context(), None).level, Level::Ok);
        place.settings("preset = \"fast\"");
        let root = place.root();
        let fault = Context::load(&ha_adapters_wazo::Wazo, root.clone(), None).unwrap_err();
        let context = Context::with_defaults(&ha_adapters_wazo::Wazo, root, None);
        let check = settings(&context, Some(&fault));
        assert_eq!(check.level, Level::Fail);
        assert!(check.finding.contains("fast"), "{}", check.finding);
    }

    #[test]
    fn a_role_file_that_cannot_be_read_fails_and_says_what_would_be_right() {
        let place = Place::new();
        assert_eq!(role(&place.context()).1.finding, "this node is disabled");
        place.write("/etc/xivo/ha.conf", "master");
        let (found, check) = role(&place.context());
        assert_eq!((found, check.level), (None, Level::Fail));
        assert!(check.finding.contains("/etc/xivo/ha.conf"), "{}", check.finding);
        place.write("/etc/xivo/ha.conf", SLAVE);
        assert_eq!(role(&place.context()).1.finding, "this node is slave with 192.0.2.11");
    }

    #[test]
    fn a_peer_that_is_this_machine_or_nobody_fails() {
        let own = ["10.77.0.11".parse().unwrap()];
        assert_eq!(peer_address("10.77.0.12".parse().unwrap(), &own).level, Level::Ok);
        let check = peer_address(own[0], &own);
        assert_eq!(check.level, Level::Fail);
        assert!(check.finding.contains("this machine's own"), "{}", check.finding);
        assert_eq!(peer_address("127.0.0.1".parse().unwrap(), &[]).level, Level::Fail);
    }

    #[test]
    fn sentinels_of_another_role_fail() {
        let place = Place::new();
        place.write("/etc/xivo/ha.conf", SLAVE);
        place.write("/var/lib/wazo/is-secondary", "");
        assert_eq!(level(&checks(&place), "sentinels"), Level::Ok);
        place.write("/var/lib/wazo/is-primary", "");
        assert_eq!(level(&checks(&place), "sentinels"), Level::Fail);
        place.remove("/var/lib/wazo/is-primary");
        place.remove("/var/lib/wazo/is-secondary");
        let checks = checks(&place);
        assert_eq!(level(&checks, "sentinels"), Level::Fail);
        let todo = checks[0].todo.clone().unwrap();
        assert_eq!(todo, "run `wazo-ha configure slave --remote 192.0.2.11` again");
    }

    #[test]
    fn cron_lines_of_the_scripts_fail_beside_the_engine_and_are_missed_without_it() {
        let place = Place::new();
        place.write("/etc/xivo/ha.conf", MASTER);
        assert_eq!(level(&checks(&place), "cron-files"), Level::Ok);
        place.write("/etc/cron.d/xivo-ha-master", "0 * * * * root /usr/bin/wazo-sync >/dev/null\n");
        assert_eq!(level(&checks(&place), "cron-files"), Level::Fail);

        place.settings("preset = \"seed\"");
        assert_eq!(level(&checks(&place), "cron-files"), Level::Fail, "half of its lines");
        place.write(
            "/etc/cron.d/xivo-ha-master",
            "0 * * * * root /usr/sbin/xivo-master-slave-db-replication 192.0.2.12 >/dev/null\n\
             0 * * * * root /usr/bin/wazo-sync >/dev/null\n",
        );
        assert_eq!(level(&checks(&place), "cron-files"), Level::Ok);
    }

    #[test]
    fn a_slave_that_is_reached_over_tcp_must_have_its_lines() {
        let place = Place::new();
        place.write("/etc/xivo/ha.conf", SLAVE);
        place.write("/etc/postgresql/15/main/pg_hba.conf", "local all all peer\n");
        place.write("/etc/postgresql/15/main/postgresql.conf", "port = 5432\n");
        assert_eq!(level(&checks(&place), "database-access"), Level::Ok);
        place.settings("[replication]\ndatabase_transport = \"tcp\"");
        assert_eq!(level(&checks(&place), "database-access"), Level::Fail);
    }
}
