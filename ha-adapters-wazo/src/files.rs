//! What of the file system is copied to the slave.

use ha_core::profile::Dataset;

/// The documentation's five trees.
const DOCUMENTATION: &str = "Wazo documentation, High availability, \"Configuration Details\"";

/// Two more that `wazo-sync` copies: the services' keys belong to accounts in the replicated tables, and a slave with
/// the one but not the other cannot log in to itself.
const SCRIPT: &str = "wazo-sync";

pub(crate) const DATASETS: &[Dataset] = &[
    Dataset::whole("/etc/asterisk/extensions_extra.d", DOCUMENTATION),
    Dataset::whole("/etc/xivo/asterisk", DOCUMENTATION),
    Dataset::whole("/var/lib/asterisk/agi-bin", DOCUMENTATION),
    Dataset::whole("/var/lib/asterisk/moh", DOCUMENTATION),
    Dataset {
        root: "/var/lib/wazo/sounds/tenants",
        // wazo-sync: <tenant>/<category> for tenants named [a-z0-9-]+, ...
        only: &["[a-z0-9-]+/*"],
        // ... except the categories of what was recorded on this node ("monitoring-jingles" is skipped there too).
        exclude: &["*/monitor*", "*/recording*"],
        source: DOCUMENTATION,
    },
    Dataset::whole("/root/.config/wazo-auth-cli", SCRIPT),
    Dataset::whole("/var/lib/wazo-auth-keys", SCRIPT),
];
