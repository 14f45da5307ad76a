//! How the one address of a pair is held: `[cluster]`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ha_core::Profile;
use ha_core::cluster::Terms;
use ha_core::cluster::native::PROBE_WAIT;
use serde::{Deserialize, Serialize};

use super::check::{absolute, hosts, or, refuse};
use super::error::Invalid;
use super::quantity::Span;
use super::{Preset, raw};

/// `[cluster]`: there is no default for it as a whole, because which references there are is known to nobody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Who settles which node has the address.
    pub kind: ClusterKind,
    /// Where the address is put: an interface in the phones' network.
    pub interface: String,
    /// The secret that both nodes have, below the root.
    pub key_file: PathBuf,
    /// The other node's addresses over which the nodes hear each other. Empty: the role's.
    pub paths: Vec<IpAddr>,
    /// Where both listen, UDP.
    pub port: u16,
    /// `references = "none"`: nothing tells a dead peer from a cut line, and whoever set it up knows it.
    pub without_references: bool,
}

impl Cluster {
    /// How long the other node is silent before its address is taken: at most, as long as nothing else goes wrong.
    pub fn silence(&self) -> Duration {
        match self.kind {
            ClusterKind::Native(Terms { lease, margin, .. }) => lease + margin + PROBE_WAIT,
            ClusterKind::Heartbeat(Heartbeat { deadtime, .. }) => deadtime,
        }
    }
}

/// `[cluster] kind`, with what is set for that kind alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterKind {
    /// Our own: a lease that the kernel keeps.
    Native(Terms),
    /// Debian's Heartbeat 3, with `haresources`.
    Heartbeat(Heartbeat),
}

/// What Heartbeat's `ha.cf` says of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Between two heartbeats.
    pub keepalive: Duration,
    /// The silence after which the other node counts as dead.
    pub deadtime: Duration,
    /// The same right after Heartbeat's start.
    pub initdead: Duration,
}

/// The word of `[cluster] kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Native,
    Heartbeat,
}

/// The word of `[cluster] references`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum References {
    None,
}

/// Safety rules 5.6.
const TERMS: Terms = Terms {
    lease: Duration::from_secs(1),
    margin: Duration::from_millis(500),
    beat: Duration::from_millis(100),
    permit: Duration::from_millis(150),
};
/// Five beats may be lost (safety rules 5.2).
const BEATS: u32 = 6;
/// The kernel ends a lease and a permit up to a jiffy late each: 4 ms at 250 Hz, the slowest clock of Debian's kernels.
const JIFFIES: Duration = Duration::from_millis(8);
/// How far two clocks may go apart, in millionths: 500 (safety rules 5.6), for each of the two nodes.
const DRIFT: u32 = 2 * 500;

/// A direction that works delivers a beat in every fifth of a lease. More than safety rules 5.6 ask for: with less, two nodes
/// that start while each hears the other only at times can both come to serve (`never_are_both_entitled...` with a
/// smaller margin).
const WINDOW: u32 = 5;

/// SARK's page: "If the standby node does not come on-line within 120 seconds".
const INITDEAD: Duration = Duration::from_secs(120);
/// Beside the HTTP interface's port.
const NATIVE_PORT: u16 = 9488;
/// `ha-cluster` in IANA's list, Heartbeat's default.
const HEARTBEAT_PORT: u16 = 694;

/// A section that is not there: the address is not held.
pub(super) fn resolve(
    raw: Option<raw::Cluster>,
    preset: Preset,
    has_references: bool,
    profile: &Profile,
) -> Result<Option<Cluster>, Invalid> {
    let Some(raw) = raw else { return Ok(None) };
    if !profile.exclusive_address {
        let name = profile.name;
        return refuse("cluster", format!("{name} has an address for each node: remove the section"));
    }
    // the documents' engine is Heartbeat
    let by_preset = match preset {
        Preset::Modern => Kind::Native,
        Preset::Seed => Kind::Heartbeat,
    };
    let kind = raw.kind.unwrap_or(by_preset);
    belongs(kind, &raw)?;
    let without_references = references(raw.references, kind, has_references)?;
    let (kind, port) = match kind {
        Kind::Native => (ClusterKind::Native(terms(&raw)?), NATIVE_PORT),
        Kind::Heartbeat => (ClusterKind::Heartbeat(heartbeat(&raw, preset)?), HEARTBEAT_PORT),
    };
    let port = raw.port.unwrap_or(port);
    if port == 0 {
        return refuse("cluster.port", "0 is no port: give the UDP port of both nodes, as 9488");
    }
    Ok(Some(Cluster {
        kind,
        // SARK takes eth0 wherever it needs an interface (`domain.md` 5.5)
        interface: interface(raw.interface.unwrap_or_else(|| "eth0".to_owned()))?,
        key_file: absolute("cluster.key_file", raw.key_file, "/etc/pbx-ha/cluster.key")?,
        paths: hosts("cluster.paths", raw.paths.unwrap_or_default(), "an address of the other node")?,
        port,
        without_references,
    }))
}

/// A key of the other kind would be without effect, and whoever wrote it does not expect that.
fn belongs(kind: Kind, raw: &raw::Cluster) -> Result<(), Invalid> {
    let keys = [
        ("cluster.lease", raw.lease.is_some(), Kind::Native),
        ("cluster.margin", raw.margin.is_some(), Kind::Native),
        ("cluster.beat", raw.beat.is_some(), Kind::Native),
        ("cluster.permit", raw.permit.is_some(), Kind::Native),
        ("cluster.keepalive", raw.keepalive.is_some(), Kind::Heartbeat),
        ("cluster.deadtime", raw.deadtime.is_some(), Kind::Heartbeat),
        ("cluster.initdead", raw.initdead.is_some(), Kind::Heartbeat),
    ];
    match keys.into_iter().find(|(_, there, of)| *there && *of != kind) {
        Some((key, ..)) if kind == Kind::Native => {
            refuse(key, "is Heartbeat's: with kind = \"native\" set lease, margin, beat and permit")
        }
        Some((key, ..)) => refuse(
            key,
            "is the native cluster's: with kind = \"heartbeat\" set keepalive, deadtime and initdead",
        ),
        None => Ok(()),
    }
}

/// Without a reference a node that is cut off cannot know it, and two nodes serve (safety rules 2.4 and 5.1).
fn references(set: Option<References>, kind: Kind, has_references: bool) -> Result<bool, Invalid> {
    match (set, kind) {
        (Some(References::None), _) if has_references => {
            refuse("cluster.references", "\"none\" contradicts the key probe.reference: remove one of them")
        }
        (None, Kind::Native) if !has_references => refuse(
            "cluster.references",
            "is missing: name hosts that always answer in probe.reference, as the network's router, or write \
             references = \"none\": then both nodes serve when the line between them is cut",
        ),
        (set, _) => Ok(set.is_some()),
    }
}

fn terms(raw: &raw::Cluster) -> Result<Terms, Invalid> {
    let terms = Terms {
        lease: or(raw.lease, TERMS.lease),
        margin: or(raw.margin, TERMS.margin),
        beat: or(raw.beat, TERMS.beat),
        permit: or(raw.permit, TERMS.permit),
    };
    let Terms { lease, margin, beat, permit } = terms;
    for (key, value) in [("cluster.beat", beat), ("cluster.permit", permit)] {
        if value.is_zero() {
            return refuse(key, "\"0s\" is no time: give at least \"1ms\"");
        }
    }
    let least = beat * BEATS;
    if lease < least {
        let (lease, least, beat) = (Span(lease), Span(least), Span(beat));
        let why = format!("\"{lease}\" lapses when beats every \"{beat}\" are lost: at least \"{least}\"");
        return refuse("cluster.lease", why);
    }
    let least = permit + lease / WINDOW + JIFFIES + lease * DRIFT / 1_000_000;
    if margin < least {
        // a whole number of milliseconds that is enough
        let enough =
            Duration::from_millis(u64::try_from(least.as_micros().div_ceil(1000)).unwrap_or(u64::MAX));
        let why = format!(
            "\"{}\" does not cover a permit of \"{}\", a fifth of the lease, the kernel's clock and two clocks that drift: \
             at least \"{}\"",
            Span(margin),
            Span(permit),
            Span(enough)
        );
        return refuse("cluster.margin", why);
    }
    Ok(terms)
}

fn heartbeat(raw: &raw::Cluster, preset: Preset) -> Result<Heartbeat, Invalid> {
    let secs = Duration::from_secs;
    let (keepalive, deadtime) = match preset {
        // 10.3 s from the crash to the address on the other node in the lab, with room for a node that is slow
        Preset::Modern => (secs(1), secs(10)),
        // the sample ha.cf's heartbeat (`domain.md` 5.6); its deadtime of 30 s would not leave SARK's page its 30 s
        Preset::Seed => (secs(2), secs(10)),
    };
    let deadtime = or(raw.deadtime, deadtime);
    let heartbeat = Heartbeat {
        keepalive: or(raw.keepalive, keepalive),
        deadtime,
        initdead: or(raw.initdead, INITDEAD.max(deadtime * 2)),
    };
    if heartbeat.keepalive.is_zero() {
        return refuse("cluster.keepalive", "\"0s\" is no time: give at least \"1ms\"");
    }
    // a warning comes after a third of the deadtime, which must not be before the next heartbeat
    let least = heartbeat.keepalive * 4;
    if heartbeat.deadtime < least {
        let (deadtime, least) = (Span(heartbeat.deadtime), Span(least));
        let why = format!("\"{deadtime}\" is less than four heartbeats: at least \"{least}\"");
        return refuse("cluster.deadtime", why);
    }
    // ha.cf(5): a network that comes up late must not look like a dead node
    let least = heartbeat.deadtime * 2;
    if heartbeat.initdead < least {
        let (initdead, least) = (Span(heartbeat.initdead), Span(least));
        let why = format!("\"{initdead}\" is less than twice the deadtime: at least \"{least}\"");
        return refuse("cluster.initdead", why);
    }
    Ok(heartbeat)
}

/// A name that the kernel takes (15 bytes), of characters that mean nothing in nftables or in Heartbeat's files.
fn interface(name: String) -> Result<String, Invalid> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let named = name.starts_with(|first: char| first.is_ascii_alphanumeric()) && name.bytes().all(plain);
    if !named || name.len() > 15 {
        let why = format!("\"{name}\" is not an interface's name, as \"eth0\"");
        return refuse("cluster.interface", why);
    }
    if name == "lo" {
        return refuse(
            "cluster.interface",
            "\"lo\" reaches no phone: name the one in their network, as \"eth0\"",
        );
    }
    Ok(name)
}
