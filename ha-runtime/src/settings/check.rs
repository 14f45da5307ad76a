//! From the file to typed settings: presets, defaults and what values must keep.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ha_core::failback::{Failback, FailbackPolicy};
use ha_core::health::RungPolicy;
use ha_core::replication::flow::Flow;
use ha_core::{DailyWindow, Profile, Schedule, preset};

use super::cluster;
use super::error::Invalid;
use super::followers::{self, Sections};
use super::hooks;
use super::quantity::{Rate, Span};
use super::{
    Alert, Api, Pbx, Phones, Policy, Postgres, Preset, Probe, Replication, Rung, Settings, Ssh, Transport,
    raw,
};
use crate::durable::STATE_DIRECTORY;
use crate::lock::LOCK_DIRECTORY;

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(super) fn refuse<T>(key: &'static str, why: impl Into<String>) -> Result<T, Invalid> {
    Err(Invalid { key, why: why.into() })
}

/// A set value, or what a preset says.
pub(super) fn or(set: Option<Span>, default: Duration) -> Duration {
    set.map_or(default, |span| span.0)
}

pub(super) fn resolve(file: raw::File, profile: &Profile) -> Result<Settings, Invalid> {
    let preset = file.preset.unwrap_or_default();
    let replication = replication(file.replication.unwrap_or_default(), preset, profile)?;
    let beside = Sections { cc: file.cc, xds: file.xds, edge: file.edge };
    let probe = probe(file.probe.unwrap_or_default(), preset, profile)?;
    let cluster = cluster::resolve(file.cluster, preset, !probe.reference.is_empty(), profile)?;
    let followers = followers::resolve(beside, file.release.as_deref(), preset, profile)?;
    Ok(Settings {
        preset,
        release: file.release,
        probe,
        failback: failback(file.failback.unwrap_or_default(), preset, profile)?,
        // safety rules 6.4: a phone's usual 32 s (64 x T1 of RFC 3261, timer B)
        phones: Phones { give_up: or(file.phones.and_then(|phones| phones.give_up), secs(32)) },
        ssh: ssh(file.ssh.unwrap_or_default(), profile)?,
        postgres: postgres(file.postgres.unwrap_or_default(), replication.database_transport)?,
        pbx: pbx(file.pbx.unwrap_or_default(), profile)?,
        alert: alert(file.alert.unwrap_or_default())?,
        api: api(file.api.unwrap_or_default())?,
        cluster,
        hooks: hooks::resolve(file.sark, profile)?,
        followers,
        replication,
    })
}

fn probe(raw: raw::Probe, preset: Preset, profile: &Profile) -> Result<Probe, Invalid> {
    let (rungs, host) = match preset {
        Preset::Modern => (vec![Rung::Host, Rung::Service], preset::MODERN_RUNG),
        Preset::Seed => (vec![Rung::Host], preset::seed_rung(&profile.seed_round)),
    };
    let service = raw.service.unwrap_or_default();
    let sip_port = service.sip_port.unwrap_or(5060);
    if sip_port == 0 {
        return refuse("probe.service.sip_port", "0 is no port: give the peer's SIP port, as 5060");
    }
    let service = raw::HostRung {
        interval: service.interval,
        timeout: service.timeout,
        suspect_interval: service.suspect_interval,
        down_after: service.down_after,
        up_after: service.up_after,
    };
    Ok(Probe {
        rungs: distinct(raw.rungs.unwrap_or(rungs))?,
        reference: hosts("probe.reference", raw.reference.unwrap_or_default(), REFERENCE)?,
        degraded_after: or(raw.degraded_after, preset::DEGRADED_AFTER),
        host: ladder(raw.host.unwrap_or_default(), host, &HOST)?,
        service: ladder(service, preset::MODERN_RUNG, &SERVICE)?,
        sip_port,
    })
}

fn distinct(rungs: Vec<Rung>) -> Result<Vec<Rung>, Invalid> {
    let key = "probe.rungs";
    if rungs.is_empty() {
        return refuse(key, "is empty: name at least one of \"host\", \"port\" and \"service\"");
    }
    let mut sorted = rungs.clone();
    sorted.sort();
    sorted.dedup();
    if sorted.len() != rungs.len() {
        return refuse(
            key,
            "names a rung twice: name each of \"host\", \"port\" and \"service\" at most once",
        );
    }
    Ok(sorted)
}

const REFERENCE: &str = "a router's or a server's address";

/// Addresses of other machines, each once. `wanted` says what would be right.
pub(super) fn hosts(key: &'static str, texts: Vec<String>, wanted: &str) -> Result<Vec<IpAddr>, Invalid> {
    let mut addresses = Vec::new();
    for text in texts {
        match text.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
            Ok(ip) if ip.is_loopback() => {
                return refuse(key, format!("{ip} is this machine itself: give {wanted}"));
            }
            Ok(ip) if ip.is_unspecified() || ip.is_multicast() => {
                return refuse(key, format!("{text} is not one host: give {wanted}"));
            }
            Ok(ip) if addresses.contains(&ip) => return refuse(key, format!("{ip} is listed twice")),
            Ok(ip) => addresses.push(ip),
            Err(_) => {
                let why = format!("\"{text}\" is not an IP address: host names are not accepted");
                return refuse(key, why);
            }
        }
    }
    Ok(addresses)
}

/// The names under which a rung's values are refused.
struct Keys {
    interval: &'static str,
    timeout: &'static str,
    suspect_interval: &'static str,
    down_after: &'static str,
    up_after: &'static str,
}

const HOST: Keys = Keys {
    interval: "probe.host.interval",
    timeout: "probe.host.timeout",
    suspect_interval: "probe.host.suspect_interval",
    down_after: "probe.host.down_after",
    up_after: "probe.host.up_after",
};
const SERVICE: Keys = Keys {
    interval: "probe.service.interval",
    timeout: "probe.service.timeout",
    suspect_interval: "probe.service.suspect_interval",
    down_after: "probe.service.down_after",
    up_after: "probe.service.up_after",
};

/// A shorter interval shortens the *defaults* of the other two with it; what is set is never bent.
fn ladder(raw: raw::HostRung, default: RungPolicy, keys: &Keys) -> Result<RungPolicy, Invalid> {
    let interval = or(raw.interval, default.interval());
    let timeout = or(raw.timeout, default.timeout().min(interval));
    let suspect_interval = or(raw.suspect_interval, default.suspect_interval().min(interval));
    for (key, value) in
        [(keys.interval, interval), (keys.timeout, timeout), (keys.suspect_interval, suspect_interval)]
    {
        if value.is_zero() {
            return refuse(key, "\"0s\" would never end: give at least \"1ms\"");
        }
        if value > interval {
            let (value, most) = (Span(value), Span(interval));
            return refuse(key, format!("\"{value}\" is longer than the interval: at most \"{most}\""));
        }
    }
    let down_after = count(raw.down_after, default.down_after(), keys.down_after)?;
    let up_after = count(raw.up_after, default.up_after(), keys.up_after)?;
    RungPolicy::new(interval, timeout, suspect_interval, down_after, up_after)
        .or_else(|error| refuse(keys.interval, error.to_string()))
}

fn count(set: Option<u32>, default: u8, key: &'static str) -> Result<u8, Invalid> {
    match set.map(u8::try_from) {
        None => Ok(default),
        Some(Ok(0)) => refuse(key, "0 would decide without an answer: at least 1"),
        Some(Ok(count)) => Ok(count),
        Some(Err(_)) => refuse(key, format!("{} is too many: at most {}", set.unwrap_or_default(), u8::MAX)),
    }
}

fn failback(raw: raw::Failback, preset: Preset, profile: &Profile) -> Result<Failback, Invalid> {
    let default = match preset {
        Preset::Modern => preset::MODERN_FAILBACK,
        Preset::Seed => preset::SEED_FAILBACK,
    };
    // checked even where the policy has no use for it: a policy that is switched over later must not fail then
    let window = match raw.window.as_deref().map(DailyWindow::parse) {
        Some(Err(error)) => return refuse("failback.window", error.to_string()),
        Some(Ok(window)) => Some(window),
        None => None,
    };
    let by_profile = if profile.automatic_failback { Policy::Automatic } else { Policy::Manual };
    let policy = match (raw.policy.unwrap_or(by_profile), window) {
        (Policy::Automatic, _) => FailbackPolicy::Automatic,
        (Policy::Manual, _) => FailbackPolicy::Manual,
        (Policy::Window, Some(window)) => FailbackPolicy::Window(window),
        (Policy::Window, None) => {
            let why = "\"window\" needs the key failback.window: give it, as \"02:00-05:00\"";
            return refuse("failback.policy", why);
        }
    };
    let latch_window = or(raw.latch_window, default.latch_window);
    if latch_window.is_zero() {
        return refuse("failback.latch_window", "\"0s\" holds no failover: give at least \"1ms\", as \"1h\"");
    }
    Ok(Failback {
        policy,
        hold: or(raw.hold, default.hold),
        hold_down: or(raw.hold_down, default.hold_down),
        latch_after: raw.latch_after.unwrap_or(default.latch_after),
        latch_window,
    })
}

fn replication(raw: raw::Replication, preset: Preset, profile: &Profile) -> Result<Replication, Invalid> {
    let schedule = raw.schedule.unwrap_or_else(|| profile.schedule.to_owned());
    let schedule = match Schedule::parse(&schedule) {
        Ok(schedule) => schedule,
        Err(error) => return refuse("replication.schedule", error.to_string()),
    };
    let percent = raw.max_delete_percent.unwrap_or(20);
    let Some(max_delete_percent) = u8::try_from(percent).ok().filter(|percent| *percent <= 100) else {
        return refuse("replication.max_delete_percent", format!("{percent} is not a share: 0 to 100"));
    };
    let by_preset = match preset {
        Preset::Modern => true,
        Preset::Seed => false,
    };
    Ok(Replication {
        flow: Flow::of(profile.direction, !by_preset),
        schedule,
        on_change: raw.on_change.unwrap_or(by_preset),
        max_delete_percent,
        max_delete_files: raw.max_delete_files.unwrap_or(1000),
        bandwidth: raw.bandwidth.unwrap_or(Rate(None)),
        extra_files: not_our_own(tree_paths("replication.extra_files", raw.extra_files)?, profile)?,
        exclude: tree_paths("replication.exclude", raw.exclude)?,
        database_transport: raw.database_transport.unwrap_or(Transport::Ssh),
    })
}

/// Absolute, and nothing that leads elsewhere: the paths go to the far end as well.
fn tree_paths(key: &'static str, paths: Option<Vec<String>>) -> Result<Vec<String>, Invalid> {
    let paths = paths.unwrap_or_default();
    for path in &paths {
        let plain = path.strip_prefix('/').is_some_and(|rest| {
            rest.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'))
        });
        if !plain {
            let why = format!(
                "\"{path}\" is not a plain absolute path: write it from /, without \"..\" and without a / at the end"
            );
            return refuse(key, why);
        }
    }
    Ok(paths)
}

/// What a node knows of itself must not become what the other one knows of itself; and each replication would be a change.
fn not_our_own(paths: Vec<String>, profile: &Profile) -> Result<Vec<String>, Invalid> {
    let settings = Path::new(super::DEFAULT_PATH).parent().unwrap_or(Path::new("/"));
    let own = [Path::new(STATE_DIRECTORY), Path::new(LOCK_DIRECTORY), settings, Path::new(profile.role_file)];
    for path in &paths {
        if let Some(own) = own.iter().find(|own| own.starts_with(path) || Path::new(path).starts_with(own)) {
            let own = own.display();
            let why = format!(
                "\"{path}\" takes in what each node keeps for itself ({own}): name directories beside it"
            );
            return refuse("replication.extra_files", why);
        }
    }
    Ok(paths)
}

fn ssh(raw: raw::Ssh, profile: &Profile) -> Result<Ssh, Invalid> {
    let user = raw.user.unwrap_or_else(|| "root".to_owned());
    let named = user.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if user.is_empty() || user.starts_with('-') || !named {
        return refuse("ssh.user", format!("\"{user}\" is not a user's name, as \"root\""));
    }
    let port = raw.port.unwrap_or(22);
    if port == 0 {
        return refuse("ssh.port", "0 is no port: give sshd's, as 22");
    }
    let agent =
        raw.agent.unwrap_or_else(|| vec![format!("/usr/bin/{}", profile.program), "agent".to_owned()]);
    // the far end tells agent from relay by this word
    if agent.len() < 2 || agent.last().is_none_or(|word| word != "agent") {
        let why = format!(
            "{agent:?} must end with the word \"agent\", as [\"/usr/bin/{}\", \"agent\"]",
            profile.program
        );
        return refuse("ssh.agent", why);
    }
    Ok(Ssh {
        user,
        port,
        key: absolute("ssh.key", raw.key, "/root/.ssh/xivo_id_rsa")?,
        known_hosts: absolute("ssh.known_hosts", raw.known_hosts, "/root/.ssh/known_hosts")?,
        agent,
    })
}

pub(super) fn absolute(key: &'static str, set: Option<String>, default: &str) -> Result<PathBuf, Invalid> {
    let path = set.unwrap_or_else(|| default.to_owned());
    if !Path::new(&path).is_absolute() || path.contains('\0') {
        return refuse(key, format!("\"{path}\" is not an absolute path, as \"{default}\""));
    }
    Ok(PathBuf::from(path))
}

fn postgres(raw: raw::Postgres, transport: Transport) -> Result<Postgres, Invalid> {
    let local = "host=/var/run/postgresql user=postgres dbname=asterisk";
    let remote = match transport {
        Transport::Ssh => local,
        Transport::Tcp => "host={peer} user=postgres dbname=asterisk",
    };
    let check = |key, set: Option<String>, default: &str| match set {
        Some(text) if !text.contains('=') => {
            // not repeated: it may hold a password
            refuse(key, format!("is not a connection string: write keywords and values, as \"{default}\""))
        }
        Some(text) => Ok(text),
        None => Ok(default.to_owned()),
    };
    Ok(Postgres {
        local: check("postgres.local", raw.local, local)?,
        remote: check("postgres.remote", raw.remote, remote)?,
    })
}

fn pbx(raw: raw::Pbx, profile: &Profile) -> Result<Pbx, Invalid> {
    Ok(Pbx {
        manage: raw.manage.unwrap_or(true),
        confd: plain_http("pbx.confd", raw.confd, "http://127.0.0.1:9486/1.1")?,
        auth: plain_http("pbx.auth", raw.auth, "http://127.0.0.1:9497/0.1")?,
        key_file: absolute("pbx.key_file", raw.key_file, profile.key_file)?,
    })
}

/// The address of a service on this machine. Without TLS a token must not leave it.
fn plain_http(key: &'static str, set: Option<String>, default: &str) -> Result<String, Invalid> {
    let url = set.unwrap_or_else(|| default.to_owned());
    let authority = url.strip_prefix("http://").map(|rest| rest.split('/').next().unwrap_or(rest));
    let local = authority.is_some_and(|authority| match authority.parse::<SocketAddr>() {
        Ok(address) => address.ip().to_canonical().is_loopback(),
        Err(_) => authority
            .split_once(':')
            .is_some_and(|(host, port)| host == "localhost" && port.parse::<u16>().is_ok()),
    });
    if !local || url.contains(['?', '#', ' ']) {
        let why = format!("\"{url}\" is not plain HTTP on this machine with a port, as \"{default}\"");
        return refuse(key, why);
    }
    Ok(url.trim_end_matches('/').to_owned())
}

fn alert(raw: raw::Alert) -> Result<Alert, Invalid> {
    let command =
        raw.command.unwrap_or_else(|| ["mail", "-s", "{subject}", "root"].map(str::to_owned).to_vec());
    if command.first().is_none_or(String::is_empty) {
        return refuse("alert.command", "names no program: as [\"mail\", \"-s\", \"{subject}\", \"root\"]");
    }
    Ok(Alert { command })
}

fn api(raw: raw::Api) -> Result<Api, Invalid> {
    let listen = raw.listen.as_deref().unwrap_or("127.0.0.1:9487");
    let Ok(listen) = listen.parse() else {
        let why = format!("\"{listen}\" is not an IP address with a port, as \"127.0.0.1:9487\"");
        return refuse("api.listen", why);
    };
    Ok(Api { listen, token_file: absolute("api.token_file", raw.token_file, "/var/lib/pbx-ha/api-token")? })
}
