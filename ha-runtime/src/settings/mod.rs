//! The settings: a TOML file into types that cannot be wrong.
//!
//! Every key is optional. What is not set comes from the preset and from the distribution's profile, so a missing or
//! empty file is a complete configuration. An unknown key is an error: a misspelt guard would otherwise be off.

mod check;
mod cluster;
mod edit;
mod error;
mod followers;
mod hooks;
mod policy;
mod print;
mod quantity;
mod raw;
mod release;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ha_core::failback::Failback;
use ha_core::follow::Followers;
pub use ha_core::health::Rung;
use ha_core::health::RungPolicy;
use ha_core::replication::flow::Flow;
use ha_core::{Profile, Schedule};
use serde::{Deserialize, Serialize};

pub use cluster::{Cluster, ClusterKind, Heartbeat};
pub use edit::with_policy;
pub use error::{Place, SettingsError};
pub use hooks::Hooks;
pub use quantity::{QuantityError, Rate, Span};
pub use release::release;

/// Where the settings are looked for, below the root.
pub const DEFAULT_PATH: &str = "/etc/pbx-ha/pbx-ha.toml";

/// Everything that can be set, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where what is not set comes from.
    pub preset: Preset,
    /// Which release of the distribution, where it is not today's; see [`release`](fn@release).
    pub release: Option<String>,
    /// How the peer is watched.
    pub probe: Probe,
    /// When a slave that serves hands back.
    pub failback: Failback,
    /// What the budget assumes about phones.
    pub phones: Phones,
    /// What is copied, when and how.
    pub replication: Replication,
    /// The way to the far end.
    pub ssh: Ssh,
    /// The two databases.
    pub postgres: Postgres,
    /// The PBX's own API.
    pub pbx: Pbx,
    /// Who is told.
    pub alert: Alert,
    /// The HTTP interface.
    pub api: Api,
    /// How the pair's one address is held; `None`: it is not, and with no distribution whose nodes have one each.
    pub cluster: Option<Cluster>,
    /// What the administrator has run when the address comes or its place changes: `[sark]`.
    pub hooks: Hooks,
    /// What must follow telephony beside the pair: `[cc]`, `[xds]`, `[edge]`.
    pub followers: Followers,
}

/// Two ways to run a pair.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Probes every second on two rungs, failback gated.
    #[default]
    Modern,
    /// The documents' numbers and rules: a round of pings a minute, handed back on the first reply.
    Seed,
}

/// `[probe]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Which rungs are asked. At least one, none twice.
    pub rungs: Vec<Rung>,
    /// Addresses that tell a dead peer from an isolated self. Empty: the rule is off.
    pub reference: Vec<IpAddr>,
    /// How long "host up, telephony not" is borne before it is a failover.
    pub degraded_after: Duration,
    /// `[probe.host]`
    pub host: RungPolicy,
    /// `[probe.service]`; the rung `port` is asked by it too, on the same port over TCP.
    pub service: RungPolicy,
    /// Where the peer's telephony listens: UDP for SIP, TCP for the rung `port`.
    pub sip_port: u16,
}

/// `[failback] policy`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// As soon as the master is ready and everything else allows it.
    Automatic,
    /// When a person says so.
    Manual,
    /// Automatic, within hours of the day.
    Window,
}

/// `[phones]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phones {
    /// How long a phone waits for a silent server before it tries the next.
    pub give_up: Duration,
}

/// `[replication]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replication {
    /// From which node to which, and who begins: the distribution's, in this preset.
    pub flow: Flow,
    /// Five fields, as in `/etc/cron.d`.
    pub schedule: Schedule,
    /// Whether the master's daemon replicates what changed at once, too.
    pub on_change: bool,
    /// A replication that would delete more than this share of the replica's files is refused. 0 to 100.
    pub max_delete_percent: u8,
    /// A replication that would delete more files than this is refused.
    pub max_delete_files: u64,
    /// What a replication may use of the line.
    pub bandwidth: Rate,
    /// Absolute paths of trees that are copied as well.
    pub extra_files: Vec<String>,
    /// Absolute paths, with patterns, that are never copied.
    pub exclude: Vec<String>,
    /// How the slave's database is reached.
    pub database_transport: Transport,
}

/// How the slave's database is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Through the SSH session: the database is open to nobody.
    Ssh,
    /// Directly, as the documents have it: the slave trusts the master's address.
    Tcp,
}

/// `[ssh]`. Paths as given, not below the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssh {
    /// Who logs in at the far end.
    pub user: String,
    /// Not 0.
    pub port: u16,
    /// Our private key.
    pub key: PathBuf,
    /// Who the far end must be.
    pub known_hosts: PathBuf,
    /// What is run there; the last word is `agent`.
    pub agent: Vec<String>,
}

/// `[postgres]`. Connection strings, paths as given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Postgres {
    /// This node's database.
    pub local: String,
    /// The slave's: as seen at the far end (ssh) or from here (tcp). `{peer}` is the peer's address.
    pub remote: String,
}

/// `[pbx]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pbx {
    /// Whether SIP expiry and registrars are ours to set.
    pub manage: bool,
    /// confd's base address, without a trailing slash. Plain HTTP.
    pub confd: String,
    /// wazo-auth's, likewise.
    pub auth: String,
    /// `service_id` and `service_key`, below the root.
    pub key_file: PathBuf,
}

/// `[alert]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Run with the text on standard input; `{subject}` is replaced in every word. Never empty.
    pub command: Vec<String>,
}

/// `[api]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Holds the token, below the root.
    pub token_file: PathBuf,
}

impl Settings {
    /// What holds when nothing is set.
    pub fn defaults(profile: &Profile) -> Settings {
        check::resolve(raw::File::default(), profile).expect("the presets pass their own checks")
    }

    /// Reads a file; one that does not exist means the defaults.
    ///
    /// # Errors
    ///
    /// Name the file, the line, the key, the value and what would be right.
    pub fn load(path: &Path, profile: &Profile) -> Result<Settings, SettingsError> {
        match read(path)? {
            Some(text) => Settings::parse(&text, path, profile),
            None => Ok(Settings::defaults(profile)),
        }
    }

    /// Reads the text of a file; `path` is only named in errors.
    pub fn parse(text: &str, path: &Path, profile: &Profile) -> Result<Settings, SettingsError> {
        let file: raw::File = toml::from_str(text).map_err(|err| error::from_parser(path, text, &err))?;
        check::resolve(file, profile).map_err(|invalid| invalid.at(path, text))
    }

    /// The distribution by its name, and the release that these settings are for where that makes a difference.
    pub fn product(&self, profile: &Profile) -> String {
        followers::product(profile, self.release.as_deref())
    }

    /// The settings in force as a file that would give them, every key spelled out.
    pub fn to_toml(&self) -> String {
        toml::to_string(&print::spell_out(self)).expect("strings, numbers and lists in tables are TOML")
    }
}

/// A settings file's text; `None`: there is no such file.
fn read(path: &Path) -> Result<Option<String>, SettingsError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SettingsError::Read { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests;
