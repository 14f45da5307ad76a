//! What must follow telephony beside the pair: `[cc]`, `[xds]` and `[edge]`.

use std::net::IpAddr;

use ha_core::Profile;
use ha_core::follow::{ContactCentre, Edge, Followers, MediaServers, Sides};
use ha_core::profile::Follower;
use ureq::http::Uri;

use super::check::refuse;
use super::error::Invalid;
use super::{Preset, raw};

/// The three sections as written.
pub(super) struct Sections {
    pub(super) cc: Option<raw::ContactCentre>,
    pub(super) xds: Option<raw::MediaServers>,
    pub(super) edge: Option<raw::Edge>,
}

/// A section that is not there: nothing of that kind follows.
pub(super) fn resolve(
    sections: Sections,
    release: Option<&str>,
    preset: Preset,
    profile: &Profile,
) -> Result<Followers, Invalid> {
    let known = |key, there, follower| match there && !profile.followers.contains(&follower) {
        true => refuse(key, format!("{} has no [{key}]: remove the section", product(profile, release))),
        false => Ok(()),
    };
    known("cc", sections.cc.is_some(), Follower::ContactCentre)?;
    known("xds", sections.xds.is_some(), Follower::MediaServers)?;
    known("edge", sections.edge.is_some(), Follower::Edge)?;
    let edge = sections.edge.map(|raw| edge(raw, preset)).transpose()?;
    let beside = edge.as_ref().map(|edge| edge.cc);
    Ok(Followers {
        contact_centre: sections.cc.map(|raw| contact_centre(raw, beside, preset)).transpose()?,
        media_servers: sections.xds.map(media_servers).transpose()?,
        edge,
    })
}

/// The distribution, with its release where that makes a difference.
pub(super) fn product(profile: &Profile, release: Option<&str>) -> String {
    [Some(profile.name), release].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// The documents make it manual work (Resilience Administration, "On Failover, some manual steps are required").
fn by_preset(preset: Preset) -> bool {
    match preset {
        Preset::Modern => true,
        Preset::Seed => false,
    }
}

fn contact_centre(
    raw: raw::ContactCentre,
    beside: Option<Sides<IpAddr>>,
    preset: Preset,
) -> Result<ContactCentre, Invalid> {
    let host = |key, set: Option<String>, beside: Option<IpAddr>| match (set, beside) {
        (None, Some(beside)) => Ok(beside),
        (set, _) => required(key, set, "a contact centre's address, as \"10.77.0.21\""),
    };
    let hosts = Sides {
        master: host("cc.master", raw.master, beside.map(|cc| cc.master))?,
        slave: host("cc.slave", raw.slave, beside.map(|cc| cc.slave))?,
    };
    distinct("cc.slave", "cc.master", hosts)?;
    Ok(ContactCentre {
        automatic: raw.automatic.unwrap_or_else(|| by_preset(preset)),
        hosts,
        restart: command("cc.restart", raw.restart, &["xivocc-dcomp", "restart", "xuc"])?,
        answers: answers(raw.answers.unwrap_or_else(|| "http://{cc}:8090/".to_owned()))?,
    })
}

fn answers(url: String) -> Result<String, Invalid> {
    let uri = url.replace("{cc}", "10.77.0.21").parse::<Uri>().ok();
    let good = uri.is_some_and(|uri| uri.scheme_str() == Some("http") && uri.host().is_some());
    if !url.is_empty() && !good {
        let why =
            format!("\"{url}\" is not plain HTTP, as \"http://{{cc}}:8090/\", or \"\" when nobody is asked");
        return refuse("cc.answers", why);
    }
    Ok(url)
}

fn media_servers(raw: raw::MediaServers) -> Result<MediaServers, Invalid> {
    let names = raw.servers.unwrap_or_default();
    if names.is_empty() {
        return refuse("xds.servers", "names nobody: list the media servers, as [\"mds1\"]");
    }
    for (index, name) in names.iter().enumerate() {
        word("xds.servers", name, "mds1")?;
        if names[..index].contains(name) {
            return refuse("xds.servers", format!("\"{name}\" is listed twice"));
        }
    }
    let registered = raw.registered.unwrap_or_else(|| "Registered".to_owned());
    word("xds.registered", &registered, "Registered")?;
    let command = command("xds.command", raw.command, &["asterisk", "-rx", "sip show registry"])?;
    Ok(MediaServers { names, command, registered })
}

/// One word in the sense of [`Wanted`](ha_core::follow::Wanted): another would never be found.
fn word(key: &'static str, text: &str, example: &str) -> Result<(), Invalid> {
    if text.is_empty() || !text.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c)) {
        let why = format!(
            "\"{text}\" is not one word of letters, digits, \"-\", \"_\" and \".\", as \"{example}\""
        );
        return refuse(key, why);
    }
    Ok(())
}

fn edge(raw: raw::Edge, preset: Preset) -> Result<Edge, Invalid> {
    let (node, centre) = ("a node's address, as \"10.77.0.11\"", "a contact centre's, as \"10.77.0.21\"");
    let xivo = Sides {
        master: required("edge.xivo_master", raw.xivo_master, node)?,
        slave: required("edge.xivo_slave", raw.xivo_slave, node)?,
    };
    let cc = Sides {
        master: required("edge.cc_master", raw.cc_master, centre)?,
        slave: required("edge.cc_slave", raw.cc_slave, centre)?,
    };
    distinct("edge.xivo_slave", "edge.xivo_master", xivo)?;
    distinct("edge.cc_slave", "edge.cc_master", cc)?;
    let host = raw.host.map(|host| address("edge.host", &host)).transpose()?;
    if raw.automatic == Some(true) && host.is_none() {
        let why = "true needs the key edge.host: give the Edge's address, as \"10.77.0.31\"";
        return refuse("edge.automatic", why);
    }
    Ok(Edge {
        // where it is unknown there is nothing to do but to tell
        automatic: host.is_some() && raw.automatic.unwrap_or_else(|| by_preset(preset)),
        host,
        file: file(raw.file.unwrap_or_else(|| "/etc/docker/edge/.env".to_owned()))?,
        apply: command("edge.apply", raw.apply, &["edge-dcomp", "up", "-d"])?,
        xivo,
        cc,
    })
}

fn file(path: String) -> Result<String, Invalid> {
    let plain = path.starts_with('/') && !path.ends_with('/') && !path.contains(char::is_control);
    if !plain {
        let why = format!("{path:?} is not a file's absolute path, as \"/etc/docker/edge/.env\"");
        return refuse("edge.file", why);
    }
    Ok(path)
}

fn required(key: &'static str, set: Option<String>, wanted: &str) -> Result<IpAddr, Invalid> {
    match set {
        Some(text) => address(key, &text),
        None => refuse(key, format!("is missing: give {wanted}")),
    }
}

fn address(key: &'static str, text: &str) -> Result<IpAddr, Invalid> {
    match text.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(ip) if ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::from([255; 4]) => {
            refuse(key, format!("{text} is not one host: give its own address"))
        }
        Ok(ip) => Ok(ip),
        Err(_) => refuse(key, format!("\"{text}\" is not an IP address: host names are not accepted")),
    }
}

fn distinct(key: &'static str, other: &str, hosts: Sides<IpAddr>) -> Result<(), Invalid> {
    if hosts.master == hosts.slave {
        let why =
            format!("{} is {other} as well: each side has one of its own, give the slave's", hosts.slave);
        return refuse(key, why);
    }
    Ok(())
}

pub(super) fn command(
    key: &'static str,
    set: Option<Vec<String>>,
    default: &[&str],
) -> Result<Vec<String>, Invalid> {
    let argv = set.unwrap_or_else(|| default.iter().map(|word| (*word).to_owned()).collect());
    if argv.first().is_none_or(String::is_empty) {
        return refuse(key, format!("names no program: as {default:?}"));
    }
    match argv.iter().find(|word| word.contains(char::is_control)) {
        Some(word) => refuse(key, format!("{word:?} holds a control character: write words as {default:?}")),
        None => Ok(argv),
    }
}
