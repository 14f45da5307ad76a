/// A distribution under test: what the lab must know of it that the others do not share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Product {
    /// Its name, as the scripts in `tests/lab` take it.
    pub name: &'static str,
    /// The program under test, below `/usr/bin` of a node.
    pub program: &'static str,
    /// What `configure` takes beside the role and the other node.
    pub configure: &'static str,
    /// The distribution's command that starts and stops telephony.
    pub service: &'static str,
    /// Its folder of state; telephony does not start while a file `disabled` stands there.
    pub state: &'static str,
    /// What stands on a slave and nowhere else, if anything does.
    pub sentinel: Option<&'static str>,
    /// What starts the daemon on a real node.
    pub unit: &'static str,
    /// The copied trees that the lab fills, as a shell expands them.
    pub trees: &'static str,
    /// The one of them that holds `greeting1.wav` to `greeting8.wav`.
    pub greetings: &'static str,
    /// What was recorded on a node, beside the copied trees.
    pub recordings: &'static str,
    /// Tables that are copied.
    pub copied: &'static [&'static str],
    /// Tables that belong to their node and are never copied.
    pub own: &'static [&'static str],
    /// A column of text in one of these.
    pub own_text: (&'static str, &'static str),
}

impl Product {
    /// Wazo (`domain.md` 2).
    pub const WAZO: Product = Product {
        name: "wazo",
        program: "wazo-ha",
        configure: "",
        service: "wazo-service",
        state: "/var/lib/wazo",
        sentinel: Some("/var/lib/wazo/is-secondary"),
        unit: include_str!("../dist/wazo-ha.service"),
        trees: "/etc/asterisk/extensions_extra.d /var/lib/asterisk/moh /var/lib/asterisk/agi-bin \
            /var/lib/wazo/sounds/tenants/*/playback /var/lib/wazo-auth-keys",
        greetings: "/var/lib/wazo/sounds/tenants/*/playback",
        recordings: "/var/lib/wazo/sounds/tenants/*/recordings",
        copied: &[
            "userfeatures",
            "endpoint_sip",
            "endpoint_sip_section_option",
            "extensions",
            "dialaction",
            "auth_user",
        ],
        own: &[
            "infos",
            "call_logd_call_log",
            "cel",
            "queue_log",
            "auth_token",
            "auth_session",
            "netiface",
            "dhcp",
        ],
        own_text: ("call_logd_call_log", "source_name"),
    };

    /// XiVO with its extensions, not the release 1.2 (`domain.md` 3).
    pub const XIVO: Product = Product {
        name: "xivo",
        program: "xivo-ha",
        configure: "",
        service: "xivo-service",
        state: "/var/lib/xivo",
        sentinel: None,
        unit: include_str!("../dist/xivo-ha.service"),
        trees: "/etc/asterisk/extensions_extra.d /var/lib/asterisk/moh /var/lib/asterisk/agi-bin \
            /var/lib/xivo/certificates /var/lib/xivo/sounds/acd /var/lib/xivo/sounds/playback",
        greetings: "/var/lib/xivo/sounds/playback",
        recordings: "/var/lib/xivo/sounds/recordings",
        copied: &[
            "userfeatures",
            "endpoint_sip",
            "endpoint_sip_section_option",
            "extensions",
            "dialaction",
            "dhcp",
            "call_log",
            "stat_agent",
        ],
        own: &["infos", "accesswebservice", "monitoring", "netiface", "session", "cel", "queue_log"],
        own_text: ("accesswebservice", "login"),
    };

    /// SARK (`domain.md` 5): telephony is one unit, the database one SQLite file, and no file keeps telephony from starting.
    pub const SARK: Product = Product {
        name: "sark",
        program: "sark-ha",
        configure: "--cluster-ip 10.77.0.100 --primary-node master --standby-node slave --sync lazy",
        service: "systemctl",
        state: "/var/lib/pbx-ha",
        sentinel: None,
        unit: include_str!("../dist/sark-ha.service"),
        trees: "/etc/asterisk /var/lib/asterisk/sounds /var/spool/asterisk/voicemail",
        greetings: "/var/lib/asterisk/sounds",
        recordings: "/var/spool/asterisk/monitor",
        copied: &["globals", "ipphone"],
        own: &[],
        own_text: ("globals", "pkey"),
    };
}
