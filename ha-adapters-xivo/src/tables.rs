//! What of the database stays on its node.

use ha_core::profile::{Database, Exclusion, Why};

/// One database holds all of XiVO's daemons' tables.
pub(crate) const DATABASE: Database = Database { name: "asterisk", exclude: EXCLUDE };

/// The architecture page names menus of the web interface; these are their tables (`domain.md` 3.1). Call logs and
/// statistics of the call centre are not in its list, so they are copied. HA settings, provisioning and voicemail
/// messages are files. A name that this release does not have excludes nothing.
const EXCLUDE: &[Exclusion] = &[
    // Network, but for DHCP.
    keep("netiface", Why::Seed),
    keep("resolvconf", Why::Seed),
    keep("mail", Why::Seed),
    // Support.
    keep("monitoring", Why::Seed),
    // Access Web Services.
    keep("accesswebservice", Why::Seed),
    // Event data.
    keep("queue_log", Why::Seed),
    keep("cel", Why::Seed),
    // Log-ins to the web interface: the scripts leave them out since 2014.
    keep("session", Why::Seed),
    // The installation's UUID and version.
    keep("infos", Why::Identity),
    // Each daemon's schema revision: the next upgrade of the slave starts from it.
    keep("alembic_version*", Why::Identity),
    // Tokens of this node's daemons and users, with what they permit: replacing them logs the slave's daemons out. Of the
    // common ancestor's running state nothing else was in the database yet when XiVO went its own way.
    keep("auth_token", Why::Runtime),
    keep("auth_acl", Why::Runtime),
];

/// The 1.2 page: "every setting in the Configuration menu" stays, so DHCP too. Most of these were in another database at
/// that time; they are named for the releases in which the two are one already.
pub(crate) const EXCLUDE_1_2: &[Exclusion] = &[
    keep("netiface", Why::Seed),
    keep("resolvconf", Why::Seed),
    keep("mail", Why::Seed),
    keep("dhcp", Why::Seed),
    keep("monitoring", Why::Seed),
    keep("accesswebservice", Why::Seed),
    // "Call history / call records are not recorded" on a slave: its own are not overwritten either.
    keep("cel", Why::Seed),
    keep("queue_log", Why::SeedToday),
    keep("session", Why::Runtime),
    keep("infos", Why::Identity),
    keep("alembic_version*", Why::Identity),
];

const fn keep(table: &'static str, why: Why) -> Exclusion {
    Exclusion { table, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stays(table: &str) -> bool {
        EXCLUDE.iter().any(|exclusion| match exclusion.table.strip_suffix('*') {
            Some(prefix) => table.starts_with(prefix),
            None => table == exclusion.table,
        })
    }

    #[test]
    fn dhcp_call_logs_and_statistics_are_copied_as_the_page_has_it() {
        for table in ["dhcp", "call_log", "call_log_participant", "stat_agent", "stat_queue_periodic"] {
            assert!(!stays(table), "{table} would stay");
        }
    }

    #[test]
    fn configuration_and_what_relogging_agents_needs_is_copied() {
        for table in ["agent_login_status", "agent_membership_status", "auth_policy", "provisioning", "queue"]
        {
            assert!(!stays(table), "{table} would stay");
        }
    }

    #[test]
    fn what_says_which_installation_this_is_stays() {
        for table in ["infos", "alembic_version", "alembic_version_auth"] {
            assert!(stays(table), "{table} would be copied");
        }
    }
}
