//! What the PBX's own API tells: how long phones stay on a dead master, and whether they know the slave.

use std::net::IpAddr;
use std::time::Duration;

use ha_core::Role;

use super::Check;
use crate::confd::{Confd, ConfdConfig, PbxError, Seen};
use crate::context::Context;

/// Looks, unless the settings say that it is none of ours. Blocks.
pub(super) fn checks(context: &Context, role: Role, slave: Option<IpAddr>) -> Vec<Check> {
    let (true, Some(sip)) = (context.settings.pbx.manage, context.profile().sip) else { return Vec::new() };
    if role == Role::Disabled {
        return Vec::new();
    }
    let config = ConfdConfig::of(context, Duration::ZERO);
    // a slave's provd does not run, and its registrars come from the master
    let backup = slave.filter(|_| role == Role::Master);
    match Confd::new(config, sip).look(backup) {
        Ok(seen) => of(context, &seen, sip.paired.max, backup),
        Err(error) => vec![unreachable(&error)],
    }
}

fn unreachable(error: &PbxError) -> Check {
    Check::warn(
        "pbx-api",
        error.to_string(),
        "SIP expiry and registrars cannot be set by `configure` either: correct [pbx], or set `manage = false` there",
    )
}

fn of(context: &Context, seen: &Seen, longest: Duration, backup: Option<IpAddr>) -> Vec<Check> {
    let again =
        format!("run `{} configure` for this node's role again, which sets them", context.profile().program);
    let too_long: Vec<String> = seen
        .expiry_max
        .iter()
        .filter(|(_, max)| max.is_none_or(|max| max > longest))
        .map(|(place, max)| match max {
            Some(max) => format!("{place}: {} s", max.as_secs()),
            None => format!("{place}: not set"),
        })
        .collect();
    let mut checks = vec![match too_long.as_slice() {
        [] => Check::ok("sip-expiry", format!("phones register anew at least every {} s", longest.as_secs())),
        found => Check::fail(
            "sip-expiry",
            format!(
                "a phone may stay with a dead master for longer than {} s: {}",
                longest.as_secs(),
                found.join(", ")
            ),
            again.clone(),
        ),
    }];
    if let Some(backup) = backup {
        checks.push(match seen.without_backup.as_slice() {
            [] => Check::ok("backup-registrars", format!("every registrar names {backup} as backup")),
            found => Check::fail(
                "backup-registrars",
                format!("phones of these do not know {backup}: {}", found.join(", ")),
                format!("{again}, then resynchronise the phones (`--resync`)"),
            ),
        });
    }
    checks
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Level;
    use super::super::testing::{Place, level};
    use super::*;
    use crate::confd::fake::{Fake, State};

    fn place_with(fake: &Fake) -> (Place, Context) {
        let place = Place::new();
        let mut context = place.context();
        context.settings.pbx.confd = format!("http://{}/1.1", fake.address);
        context.settings.pbx.auth = format!("http://{}/0.1", fake.address);
        let key = context.settings.pbx.key_file.display().to_string();
        place.write(&key, "service_id: wazo-upgrade\nservice_key: s3cret-key\n");
        (place, context)
    }

    fn state(max: &str, backup: serde_json::Value) -> State {
        State {
            templates: Some(vec![json!({
                "uuid": "b6a9", "label": "global", "aor_section_options": [["maximum_expiration", max]],
            })]),
            registrars: Some(vec![
                json!({ "id": "default", "backup_host": backup, "proxy_backup_host": backup }),
            ]),
            ..State::default()
        }
    }

    #[test]
    fn an_hour_of_expiry_and_a_registrar_without_backup_fail() {
        let slave = Some("192.0.2.12".parse().unwrap());
        let fake = Fake::serve(state("3600", json!(null)));
        let (_place, context) = place_with(&fake);
        let found = checks(&context, Role::Master, slave);
        assert_eq!(level(&found, "sip-expiry"), Level::Fail);
        assert!(found[0].finding.ends_with("SIP template b6a9: 3600 s"), "{}", found[0].finding);
        assert_eq!(level(&found, "backup-registrars"), Level::Fail);
        assert_eq!(fake.state().puts(), [""; 0], "it looks only");

        let fake = Fake::serve(state("300", json!("192.0.2.12")));
        let (_place, context) = place_with(&fake);
        let found = checks(&context, Role::Master, slave);
        assert_eq!(
            found.iter().map(|check| check.level).collect::<Vec<_>>(),
            [Level::Ok, Level::Ok],
            "{found:?}"
        );
        // a slave is not asked for registrars
        assert_eq!(checks(&context, Role::Slave, slave).len(), 1);
    }

    #[test]
    fn an_expiry_that_is_not_set_fails() {
        let fake = Fake::serve(State {
            templates: Some(vec![json!({ "uuid": "b6a9", "label": "global", "aor_section_options": [] })]),
            ..State::default()
        });
        let (_place, context) = place_with(&fake);
        let found = checks(&context, Role::Slave, None);
        assert!(found[0].finding.ends_with("SIP template b6a9: not set"), "{found:?}");
        assert_eq!(found[0].level, Level::Fail);
    }

    #[test]
    fn an_api_without_key_is_told_and_one_that_is_not_ours_is_not_asked() {
        let place = Place::new();
        let mut context = place.context();
        assert_eq!(level(&checks(&context, Role::Master, None), "pbx-api"), Level::Warn);
        assert_eq!(checks(&context, Role::Disabled, None), []);
        context.settings.pbx.manage = false;
        assert_eq!(checks(&context, Role::Master, None), []);
    }
}
