use std::collections::BTreeMap;
use std::fmt;

use crate::Host;

/// A settings file of the program under test, by section and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings(BTreeMap<&'static str, BTreeMap<&'static str, String>>);

impl Settings {
    /// The `modern` preset with the client as reference address, short waits before a failback, and no schedule that
    /// would fire during a test, nor a replication on change; SIP expiry and registrars are left alone, because the lab has
    /// no confd.
    pub fn modern() -> Settings {
        Settings(BTreeMap::new())
            .with("", "preset", "\"modern\"")
            .with("probe", "reference", "[\"10.77.0.20\"]")
            .with("failback", "hold", "\"5s\"")
            .with("replication", "schedule", "\"30 4 29 2 *\"")
            .with("replication", "on_change", "false")
            .with("pbx", "manage", "false")
    }

    /// The same for SARK, which has no confd: the address is held by the native cluster on both networks.
    pub fn sark() -> Settings {
        let mut settings = Settings::modern().with("cluster", "interface", "\"eth0\"");
        settings.0.remove("pbx");
        settings
    }

    /// With the shortest lease that the safety rules know (`safety.md` 5.6).
    pub fn fast_lease(self) -> Settings {
        self.with("cluster", "lease", "\"300ms\"")
            .with("cluster", "margin", "\"150ms\"")
            .with("cluster", "beat", "\"50ms\"")
            .with("cluster", "permit", "\"50ms\"")
    }

    /// With Debian's Heartbeat in the native cluster's place, which waits 5 s for the other node at its start; both times are
    /// TOML durations, such as `2s`.
    pub fn heartbeat(self, keepalive: &str, deadtime: &str) -> Settings {
        self.with("cluster", "kind", "\"heartbeat\"")
            .with("cluster", "keepalive", &format!("\"{keepalive}\""))
            .with("cluster", "deadtime", &format!("\"{deadtime}\""))
            .with("cluster", "initdead", "\"5s\"")
    }

    /// As they stand on that node: where there is a cluster, it hears the other node on both networks.
    pub fn on(self, host: Host) -> Settings {
        if !self.0.contains_key("cluster") {
            return self;
        }
        let (shared, crossover) = (host.peer().address(), host.peer().crossover_address());
        self.with("cluster", "paths", &format!("[\"{shared}\", \"{crossover}\"]"))
    }

    /// With one more value, or another one for that key. The value is TOML: a string brings its quotes.
    pub fn with(mut self, section: &'static str, key: &'static str, value: &str) -> Settings {
        self.0.entry(section).or_default().insert(key, value.to_owned());
        self
    }

    /// With the machines that stand beside a pair in the lab.
    pub(crate) fn followers(self) -> Settings {
        [
            ("cc", "master", "\"10.77.0.21\""),
            ("cc", "slave", "\"10.77.0.22\""),
            ("edge", "host", "\"10.77.0.31\""),
            ("edge", "xivo_master", "\"10.77.0.11\""),
            ("edge", "xivo_slave", "\"10.77.0.12\""),
            ("edge", "cc_master", "\"10.77.0.21\""),
            ("edge", "cc_slave", "\"10.77.0.22\""),
            ("xds", "servers", "[\"mds1\", \"mds2\"]"),
        ]
        .into_iter()
        .fold(self, |settings, (section, key, value)| settings.with(section, key, value))
    }

    /// With a crashed telephony on a living host taken over after `seconds` instead of the preset's half minute.
    pub fn degraded_after(self, seconds: u32) -> Settings {
        self.with("probe", "degraded_after", &format!("\"{seconds}s\""))
    }

    /// With probes every 100 ms, lost after 80 ms, and three losses to a verdict.
    pub fn quick_probes(self) -> Settings {
        ["probe.host", "probe.service"].into_iter().fold(self, |settings, rung| {
            settings
                .with(rung, "interval", "\"100ms\"")
                .with(rung, "timeout", "\"80ms\"")
                .with(rung, "suspect_interval", "\"100ms\"")
                .with(rung, "down_after", "3")
        })
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (section, keys) in &self.0 {
            if !section.is_empty() {
                writeln!(f, "[{section}]")?;
            }
            for (key, value) in keys {
                writeln!(f, "{key} = {value}")?;
            }
        }
        Ok(())
    }
}
