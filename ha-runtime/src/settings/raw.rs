//! The settings file as written: every key optional, no unknown one accepted.

use serde::{Deserialize, Serialize};

use super::cluster::{Kind, References};
use super::quantity::{Rate, Span};
use super::{Policy, Preset, Rung, Transport};

/// One section of the file: every field is optional and left out of the print when it is not set.
macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $name {
            $(
                #[serde(skip_serializing_if = "Option::is_none")]
                pub(super) $field: Option<$type>,
            )*
        }
    };
}

section!(File {
    preset: Preset,
    release: String,
    probe: Probe,
    failback: Failback,
    phones: Phones,
    replication: Replication,
    ssh: Ssh,
    postgres: Postgres,
    pbx: Pbx,
    alert: Alert,
    api: Api,
    cluster: Cluster,
    sark: Hooks,
    cc: ContactCentre,
    xds: MediaServers,
    edge: Edge,
});
section!(Probe {
    rungs: Vec<Rung>,
    reference: Vec<String>,
    degraded_after: Span,
    host: HostRung,
    service: ServiceRung,
});
section!(HostRung { interval: Span, timeout: Span, suspect_interval: Span, down_after: u32, up_after: u32 });
section!(ServiceRung {
    interval: Span,
    timeout: Span,
    suspect_interval: Span,
    down_after: u32,
    up_after: u32,
    sip_port: u16,
});
section!(Failback {
    policy: Policy,
    hold: Span,
    window: String,
    hold_down: Span,
    latch_after: u32,
    latch_window: Span,
});
section!(Phones { give_up: Span });
section!(Replication {
    schedule: String,
    on_change: bool,
    max_delete_percent: u32,
    max_delete_files: u64,
    bandwidth: Rate,
    extra_files: Vec<String>,
    exclude: Vec<String>,
    database_transport: Transport,
});
section!(Ssh {
    user: String,
    port: u16,
    key: String,
    known_hosts: String,
    agent: Vec<String>,
});
section!(Postgres { local: String, remote: String });
section!(Pbx { manage: bool, confd: String, auth: String, key_file: String });
section!(Alert { command: Vec<String>, });
section!(Api { listen: String, token_file: String });
section!(Cluster {
    kind: Kind,
    interface: String,
    key_file: String,
    paths: Vec<String>,
    port: u16,
    references: References,
    lease: Span,
    margin: Span,
    beat: Span,
    permit: Span,
    keepalive: Span,
    deadtime: Span,
    initdead: Span,
});
section!(Hooks { provision: Vec<String>, bind: Vec<String>, rhino: Vec<String> });
section!(ContactCentre {
    automatic: bool,
    master: String,
    slave: String,
    restart: Vec<String>,
    answers: String,
});
section!(MediaServers { servers: Vec<String>, command: Vec<String>, registered: String });
section!(Edge {
    automatic: bool,
    host: String,
    file: String,
    apply: Vec<String>,
    xivo_master: String,
    xivo_slave: String,
    cc_master: String,
    cc_slave: String,
});
