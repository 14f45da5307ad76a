//! What of the database stays on its node.

use ha_core::profile::{Database, Exclusion, Why};

/// One database holds all of XiVO's daemons' tables.
pub(crate) const DATABASE: Database = Database { name: "asterisk", exclude: EXCLUDE };

/// The architecture page names menus of the web interface; these are their tables (`domain.md` 3.1). Call logs and
/// statistics of the call centre are not in its list, so they are copied. HA settings, provisioning and voicemail
/// messages are files. A name that this release does not have excludes nothing.
const EXCLUDE: &[Exclusion] = &[
    // Network, but for DHCP.
    Exclusion::keep("netiface", Why::Seed),
    Exclusion::keep("resolvconf", Why::Seed),
    Exclusion::keep("mail", Why::Seed),
    // Support.
    Exclusion::keep("monitoring", Why::Seed),
    // Access Web Services.
    Exclusion::keep("accesswebservice", Why::Seed),
    // Event data.
    Exclusion::keep("queue_log", Why::Seed),
    Exclusion::keep("cel", Why::Seed),
    // Log-ins to the web interface: the scripts leave them out since 2014.
    Exclusion::keep("session", Why::Seed),
    // The installation's UUID and version.
    Exclusion::keep("infos", Why::Identity),
    // Each daemon's schema revision: the next upgrade of the slave starts from it.
    Exclusion::keep("alembic_version*", Why::Identity),
    // Tokens of this node's daemons and users, with what they permit: replacing them logs the slave's daemons out. Of the
    // common ancestor's running state nothing else was in the database yet when XiVO went its own way.
    Exclusion::keep("auth_token", Why::Runtime),
    Exclusion::keep("auth_acl", Why::Runtime),
];

/// The 1.2 page: "every setting in the Configuration menu" stays, so DHCP too. Most of these were in another database at
/// that time; they are named for the releases in which the two are one already.
pub(crate) const EXCLUDE_1_2: &[Exclusion] = &[
    Exclusion::keep("netiface", Why::Seed),
    Exclusion::keep("resolvconf", Why::Seed),
    Exclusion::keep("mail", Why::Seed),
    Exclusion::keep("dhcp", Why::Seed),
    Exclusion::keep("monitoring", Why::Seed),
    Exclusion::keep("accesswebservice", Why::Seed),
    // "Call history / call records are not recorded" on a slave: its own are not overwritten either.
    Exclusion::keep("cel", Why::Seed),
    Exclusion::keep("queue_log", Why::SeedToday),
    Exclusion::keep("session", Why::Runtime),
    Exclusion::keep("infos", Why::Identity),
    Exclusion::keep("alembic_version*", Why::Identity),
];

#[cfg(test)]
mod tests {
    use ha_core::replication::tables::Exclusions;

    use super::*;

    #[test]
    fn dhcp_call_logs_statistics_and_what_relogging_agents_needs_are_copied() {
        for table in
            ["dhcp", "call_log", "stat_agent", "stat_queue_periodic", "agent_login_status", "provisioning"]
        {
            assert_eq!(Exclusions::new(EXCLUDE).reason(table), None, "{table}");
        }
    }

    #[test]
    fn what_says_which_installation_this_is_stays() {
        for table in ["infos", "alembic_version", "alembic_version_auth"] {
            assert!(Exclusions::new(EXCLUDE).reason(table).is_some(), "{table} would be copied");
        }
    }
}
