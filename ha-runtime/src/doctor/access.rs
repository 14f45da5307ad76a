//! Who may reach the database: what the scripts left in PostgreSQL's own files.
//!
//! The scripts let the master in as the superuser without a password, from an address, and to all interfaces. With an IPv6
//! address they wrote `/32`, which is the master and 2^96 - 1 others; after a change of role or address lines stayed.

use std::net::IpAddr;

use ha_core::effect::Block;
use ha_core::{Effect, RoleConfig};

use super::{Check, role};
use crate::context::Context;
use crate::effect::blocks::outside;
use crate::effect::installed;
use crate::settings::Transport;

/// Largest file that is looked at.
const FILE_MAX: u64 = 4 << 20;

/// Looks at every installed version's files.
pub(super) fn checks(context: &Context, role: &RoleConfig) -> Vec<Check> {
    let mut trust = Vec::new();
    let mut open = Vec::new();
    let mut listening = Vec::new();
    let mut unread = Vec::new();
    let mut looked = 0;
    let blocks = role::effects(context, role).into_iter().filter_map(|effect| match effect {
        Effect::SetBlocks { blocks, .. } => Some(blocks),
        _ => None,
    });
    for Block { path: pattern, replaces, .. } in blocks.flatten() {
        for path in installed(&context.root, &pattern) {
            let text = match super::read_text(&context.root.path(&path), FILE_MAX) {
                Ok(Some(text)) => text,
                Ok(None) => continue,
                Err(error) => {
                    unread.push(format!("{path}: {error}"));
                    continue;
                }
            };
            looked += 1;
            for (number, line) in outside(&text) {
                let at = format!("{path} line {number}: {line}");
                if replaces.as_ref().is_some_and(|prefix| line.starts_with(prefix.as_str())) {
                    trust.push(if trusts_half_the_internet(line) {
                        format!("{at} (2^96 addresses)")
                    } else {
                        at
                    });
                } else if path.ends_with("pg_hba.conf") && trusts_everybody(line) {
                    open.push(at);
                } else if path.ends_with("postgresql.conf") && listens_everywhere(line) {
                    listening.push(at);
                }
            }
        }
    }
    if looked == 0 && unread.is_empty() {
        return Vec::new();
    }
    let mut checks = vec![
        some("trust-lines", "no line of the scripts trusts an address", &trust, Check::fail, || {
            format!(
                "run `{} configure` for this node's role again, which removes them",
                context.profile().program
            )
        }),
        some("open-database", "no line trusts a whole network", &open, Check::fail, || {
            "remove the line from pg_hba.conf, or give it a method with a password, and reload PostgreSQL"
                .to_owned()
        }),
    ];
    if context.settings.replication.database_transport == Transport::Ssh {
        checks.push(some("listen-addresses", "the database listens as it is shipped", &listening, Check::warn, || {
            "replication comes over SSH and needs no open port: remove the line and restart PostgreSQL, unless something \
             else needs it"
                .to_owned()
        }));
    }
    if !unread.is_empty() {
        checks.push(Check::warn("database-files", unread.join("\n"), "run `doctor` as root"));
    }
    checks
}

fn some(
    id: &'static str,
    well: &str,
    found: &[String],
    bad: fn(&'static str, String, String) -> Check,
    todo: impl FnOnce() -> String,
) -> Check {
    if found.is_empty() { Check::ok(id, well) } else { bad(id, found.join("\n"), todo()) }
}

/// The words of a line before its comment.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split('#').next().unwrap_or_default().split_ascii_whitespace()
}

/// An IPv6 address with the length of an IPv4 one.
fn trusts_half_the_internet(line: &str) -> bool {
    words(line).any(|word| {
        let parts = word.split_once('/').and_then(|(address, length)| Some((address.parse().ok()?, length)));
        matches!(parts, Some((IpAddr::V6(_), "32")))
    })
}

/// `host DATABASE USER ADDRESS [MASK] trust`, for more than this machine and more than one address.
fn trusts_everybody(line: &str) -> bool {
    let fields: Vec<&str> = words(line).collect();
    let [kind, _, _, address, rest @ ..] = fields.as_slice() else { return false };
    if !kind.starts_with("host") || !rest.iter().take(2).any(|word| *word == "trust") {
        return false;
    }
    if matches!(*address, "all" | "samenet") {
        return true;
    }
    let mask = rest.first().and_then(|mask| mask.parse::<IpAddr>().ok());
    let (ip, one) = match (address.split_once('/'), mask) {
        (Some((ip, length)), _) => (ip, ["32", "128"].contains(&length)),
        (None, Some(IpAddr::V4(mask))) => (*address, mask.to_bits() == u32::MAX),
        (None, Some(IpAddr::V6(mask))) => (*address, mask.to_bits() == u128::MAX),
        (None, None) => return false,
    };
    match ip.parse::<IpAddr>() {
        Ok(ip @ IpAddr::V6(_)) if address.ends_with("/32") => !ip.is_loopback(),
        Ok(ip) => !ip.is_loopback() && !one,
        Err(_) => false,
    }
}

fn listens_everywhere(line: &str) -> bool {
    let text = line.split('#').next().unwrap_or_default();
    let Some((key, value)) = text.split_once(['=', ' ']) else { return false };
    // the equals sign is optional in postgresql.conf
    let value = value.trim().trim_start_matches('=').trim().trim_matches('\'');
    key.trim() == "listen_addresses"
        && value.split(',').any(|one| matches!(one.trim(), "*" | "0.0.0.0" | "::"))
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::super::testing::{Place, level};
    use super::*;

    const HBA: &str = "/etc/postgresql/15/main/pg_hba.conf";
    const OLD_HBA: &str = "/etc/postgresql/11/main/pg_hba.conf";
    const CONF: &str = "/etc/postgresql/15/main/postgresql.conf";

    fn look(place: &Place) -> Vec<Check> {
        checks(&place.context(), &RoleConfig::Disabled)
    }

    #[test]
    fn a_machine_without_postgresql_has_nothing_to_look_at() {
        assert_eq!(look(&Place::new()), []);
    }

    #[test]
    fn a_trust_line_of_the_scripts_fails_in_any_version_and_ours_does_not() {
        let place = Place::new();
        place.write(HBA, "local all all peer\nhost all all 127.0.0.1/32 trust\n");
        place.write(OLD_HBA, "# host asterisk postgres 10.77.0.11/32 trust\n");
        assert_eq!(level(&look(&place), "trust-lines"), Level::Ok);
        let ours = "# BEGIN pbx-ha: written by wazo-ha, do not edit\nhost asterisk postgres 10.77.0.11/32 trust\n# END pbx-ha\n";
        place.write(HBA, ours);
        assert_eq!(level(&look(&place), "trust-lines"), Level::Ok);
        place.write(OLD_HBA, "local all all peer\nhost asterisk postgres 10.77.0.11/32 trust\n");
        let checks = look(&place);
        assert_eq!(level(&checks, "trust-lines"), Level::Fail);
        assert!(
            checks[0].finding.contains("/etc/postgresql/11/main/pg_hba.conf line 2"),
            "{}",
            checks[0].finding
        );
    }

    #[test]
    fn an_ipv6_address_with_32_bits_is_told_for_what_it_is() {
        let place = Place::new();
        place.write(HBA, "host asterisk postgres 2001:db8::11/128 trust\n");
        assert!(!look(&place)[0].finding.contains("2^96"));
        place.write(HBA, "host asterisk postgres 2001:db8::11/32 trust\n");
        let checks = look(&place);
        assert_eq!(level(&checks, "trust-lines"), Level::Fail);
        assert!(checks[0].finding.ends_with("(2^96 addresses)"), "{}", checks[0].finding);
    }

    #[test]
    fn a_line_that_trusts_a_network_fails_and_one_with_a_password_does_not() {
        let place = Place::new();
        for (line, expected) in [
            ("host all all 0.0.0.0/0 trust", Level::Fail),
            ("host all all ::/0 trust # from an image", Level::Fail),
            ("hostssl all all all trust", Level::Fail),
            ("host all all 10.0.0.0 255.0.0.0 trust", Level::Fail),
            ("host all all 2001:db8::1/32 trust", Level::Fail),
            ("host all all samenet trust", Level::Fail),
            ("host all all 0.0.0.0/0 scram-sha-256", Level::Ok),
            ("host all all 127.0.0.0/8 trust", Level::Ok),
            ("host all all ::1/128 trust", Level::Ok),
            ("host all all 10.1.2.3 255.255.255.255 trust", Level::Ok),
            ("local all all trust", Level::Ok),
            ("# host all all 0.0.0.0/0 trust", Level::Ok),
        ] {
            place.write(HBA, &format!("{line}\n"));
            assert_eq!(level(&look(&place), "open-database"), expected, "{line}");
        }
    }

    #[test]
    fn a_database_that_listens_everywhere_is_told_when_nobody_comes_over_tcp() {
        let place = Place::new();
        for (line, expected) in [
            ("listen_addresses = '*'", Level::Warn),
            ("listen_addresses='localhost, 0.0.0.0'", Level::Warn),
            ("listen_addresses '*'", Level::Warn),
            ("#listen_addresses = '*'", Level::Ok),
            ("listen_addresses = 'localhost' # not '*'", Level::Ok),
        ] {
            place.write(CONF, &format!("{line}\n"));
            assert_eq!(level(&look(&place), "listen-addresses"), expected, "{line}");
        }
        place.settings("[replication]\ndatabase_transport = \"tcp\"");
        assert!(!look(&place).iter().any(|check| check.id == "listen-addresses"));
    }
}
