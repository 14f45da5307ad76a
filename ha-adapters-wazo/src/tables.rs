//! What of the database stays on its node.

use ha_core::profile::{Database, Exclusion, Why};

/// One database holds all of Wazo's daemons' tables.
pub(crate) const DATABASE: Database = Database { name: "asterisk", exclude: EXCLUDE };

const EXCLUDE: &[Exclusion] = &[
    // xivo-master-slave-db-replication, its 15 tables. Four of them exist in older releases only; a name that is
    // not in the schema excludes nothing.
    Exclusion::keep("call_log", Why::Seed),
    Exclusion::keep("call_log_participant", Why::Seed),
    Exclusion::keep("cel", Why::Seed),
    Exclusion::keep("dhcp", Why::Seed),
    Exclusion::keep("queue_log", Why::Seed),
    Exclusion::keep("session", Why::Seed),
    Exclusion::keep("stat_agent", Why::Seed),
    Exclusion::keep("stat_agent_periodic", Why::Seed),
    Exclusion::keep("stat_call_on_queue", Why::Seed),
    Exclusion::keep("stat_queue", Why::Seed),
    Exclusion::keep("stat_queue_periodic", Why::Seed),
    Exclusion::keep("mail", Why::Seed),
    Exclusion::keep("monitoring", Why::Seed),
    Exclusion::keep("netiface", Why::Seed),
    Exclusion::keep("resolvconf", Why::Seed),
    // "Call logs" moved here in 2021; the script's list was never updated, so the slave's own were lost each hour.
    // Retention, configuration and tenants of call-logd are settings and are copied.
    Exclusion::keep("call_logd_call_log*", Why::SeedToday),
    Exclusion::keep("call_logd_export", Why::SeedToday),
    Exclusion::keep("call_logd_recording", Why::SeedToday),
    Exclusion::keep("call_logd_voicemail_transcription", Why::SeedToday),
    // "Call center statistics", added in 2016 and never excluded. stats_conf* are settings and are copied.
    Exclusion::keep("stat_switchboard_queue", Why::SeedToday),
    // The installation's UUID and version.
    Exclusion::keep("infos", Why::Identity),
    // Each daemon's schema revision: the next upgrade of the slave starts from it.
    Exclusion::keep("alembic_version*", Why::Identity),
    Exclusion::keep("call_logd_alembic_version", Why::Identity),
    Exclusion::keep("chatd_alembic_version", Why::Identity),
    // Tokens and sessions of this node's daemons and users: replacing them logs the slave's daemons out, every hour.
    // auth_refresh_token and its mirror chatd_refresh_token are *not* here: they are logins that a person made once
    // and that must work on the slave as well.
    Exclusion::keep("auth_token", Why::Runtime),
    Exclusion::keep("auth_session", Why::Runtime),
    Exclusion::keep("auth_saml_session", Why::Runtime),
    Exclusion::keep("auth_saml_pysaml2_cache", Why::Runtime),
    Exclusion::keep("chatd_session", Why::Runtime),
    // Calls that are up at this moment on this node's Asterisk. chatd_endpoint and chatd_user hold state as well, but
    // chatd_line and much else point at them, and chatd corrects the state when telephony starts.
    Exclusion::keep("chatd_channel", Why::Runtime),
    // What this node's webhookd has delivered.
    Exclusion::keep("webhookd_subscription_log", Why::Runtime),
];

#[cfg(test)]
mod tests {
    use ha_core::replication::tables::Exclusions;

    use super::*;

    fn stays(table: &str) -> bool {
        Exclusions::new(EXCLUDE).reason(table).is_some()
    }

    #[test]
    fn what_the_documents_exclude_stays_under_its_present_names() {
        for table in [
            "call_logd_call_log",
            "call_logd_call_log_destination",
            "call_logd_call_log_participant",
            "call_logd_recording",
            "call_logd_voicemail_transcription",
            "call_logd_export",
            "stat_switchboard_queue",
            "queue_log",
            "cel",
        ] {
            assert!(stays(table), "{table} would be copied");
        }
    }

    #[test]
    fn each_daemons_schema_revision_stays() {
        for table in [
            "alembic_version",
            "alembic_version_auth",
            "alembic_version_dird",
            "alembic_version_webhookd",
            "call_logd_alembic_version",
            "chatd_alembic_version",
        ] {
            assert!(stays(table), "{table} would be copied");
        }
    }

    #[test]
    fn configuration_and_what_relogging_agents_needs_is_copied() {
        for table in [
            "agent_login_status",
            "agent_membership_status",
            "auth_refresh_token",
            "auth_saml_config",
            "auth_tenant",
            "auth_user",
            "call_logd_config",
            "call_logd_retention",
            "call_logd_tenant",
            "chatd_endpoint",
            "chatd_line",
            "chatd_refresh_token",
            "chatd_room_message",
            "chatd_user",
            "endpoint_sip",
            "provisioning",
            "queue",
            "queuefeatures",
            "stats_conf",
            "stats_conf_queue",
            "webhookd_subscription",
            "webhookd_subscription_event",
        ] {
            assert!(!stays(table), "{table} would stay");
        }
    }
}
