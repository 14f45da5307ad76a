//! The three files of a Heartbeat 3 cluster with `haresources`, as text (`domain.md` 5.6).
//!
//! They are equal on both nodes, byte for byte, but for the `ucast` lines, which name the other node.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ha_core::cluster::heartbeat::{ConfFile, Files, Pair};

use crate::asha_conf::{self, CLUSTER_IP};

/// Who hears whom, how often, and over which lines.
pub const HA_CF: &str = "/etc/ha.d/ha.cf";
/// What the cluster moves, and where it belongs.
pub const HARESOURCES: &str = "/etc/ha.d/haresources";
/// The secret. Heartbeat refuses it with any other mode than [`AUTHKEYS_MODE`].
pub const AUTHKEYS: &str = "/etc/ha.d/authkeys";
/// For its owner alone.
pub const AUTHKEYS_MODE: u32 = 0o600;
/// The resource that starts and stops telephony with the address, below `/etc/ha.d/resource.d`.
pub const RESOURCE: &str = "sark-ha";
/// Whom it asks.
const PROGRAM: &str = "/usr/bin/sark-ha";

/// What that is, on the disk.
const RESOURCE_SCRIPT: &str = "/etc/ha.d/resource.d/sark-ha";
/// The first line of every file below, but for the one that the kernel reads first.
const MARK: &str = "# Written by sark-ha ";

/// What Heartbeat's files cannot hold: which value, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeartbeatError {
    /// There is nothing to hold.
    #[error("{CLUSTER_IP} in {} is empty: run `configure` with --cluster-ip first", asha_conf::PATH)]
    NoAddress,
    /// Nobody would be heard.
    #[error("no way to the other node is known: name its addresses in [cluster] paths")]
    NoPath,
    /// Heartbeat's `ucast` and `ping`.
    #[error("{0}: Heartbeat hears and asks hosts over IPv4 only: give the host's IPv4 address")]
    NotIpv4(IpAddr),
    /// A prefix that there is not.
    #[error("{address}/{prefix}: a prefix is 1 to {most} long")]
    Prefix {
        /// The shared address.
        address: IpAddr,
        /// As given.
        prefix: u8,
        /// For addresses of that version.
        most: u8,
    },
    /// Not repeated: it is a secret.
    #[error(
        "the cluster's key is not one word of 16 to 256 printable ASCII characters without #: make another one"
    )]
    Key,
}

/// The text of [`HA_CF`].
///
/// # Errors
///
/// There is no way to the other node, or one that Heartbeat does not know.
pub fn ha_cf(pair: &Pair<'_>) -> Result<String, HeartbeatError> {
    if pair.paths.is_empty() {
        return Err(HeartbeatError::NoPath);
    }
    let mut text = marked("");
    let mut line = |words: std::fmt::Arguments<'_>| {
        // writing to a String does not fail
        let _ = writeln!(text, "{words}");
    };
    line(format_args!("logfacility daemon"));
    line(format_args!("keepalive {}", time(pair.keepalive)));
    line(format_args!("warntime {}", time(pair.deadtime / 3)));
    line(format_args!("deadtime {}", time(pair.deadtime)));
    line(format_args!("initdead {}", time(pair.initdead)));
    // before the lines that use it: Heartbeat reads in order
    line(format_args!("udpport {}", pair.port));
    for (interface, address) in pair.paths {
        line(format_args!("ucast {interface} {}", ipv4(*address)?));
    }
    // the engine asks for it, when the other node has carried back what it holds newer
    line(format_args!("auto_failback off"));
    line(format_args!("node {}", pair.shared.primary_node));
    line(format_args!("node {}", pair.shared.standby_node));
    for reference in pair.references {
        line(format_args!("ping {}", ipv4(*reference)?));
    }
    Ok(text)
}

/// The text of [`HARESOURCES`]: the address first, telephony when it is there; given up in reverse.
///
/// # Errors
///
/// There is no address, or no such prefix.
pub fn haresources(pair: &Pair<'_>) -> Result<String, HeartbeatError> {
    let node = &pair.shared.primary_node;
    Ok(marked(&format!("{node} {} {RESOURCE}\n", address_resource(pair)?)))
}

/// The text of [`AUTHKEYS`], from the text of the key file; a line end there is no part of the key.
///
/// # Errors
///
/// The key is no word that Heartbeat reads as a whole, or one that can be guessed.
pub fn authkeys(key: &str) -> Result<String, HeartbeatError> {
    let key = key.trim_end_matches(['\r', '\n']);
    let plain = key.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !plain || !(16..=256).contains(&key.len()) {
        return Err(HeartbeatError::Key);
    }
    Ok(marked(&format!("auth 1\n1 sha1 {key}\n")))
}

/// All of them, and the script by which Heartbeat tells the engine that the address comes or goes.
///
/// # Errors
///
/// As of each.
pub fn files(pair: &Pair<'_>, key: &str) -> Result<Files, HeartbeatError> {
    let file = |path, text, mode| ConfFile { path, text, mode };
    let files = vec![
        file(AUTHKEYS, authkeys(key)?, AUTHKEYS_MODE),
        file(RESOURCE_SCRIPT, resource_script(), 0o755),
        file(HARESOURCES, haresources(pair)?, 0o644),
        file(HA_CF, ha_cf(pair)?, 0o644),
    ];
    Ok(Files { files, mark: MARK, group: address_resource(pair)? })
}

/// The text of the resource script. A program that cannot be asked must not keep Asterisk running where the address goes.
fn resource_script() -> String {
    format!(
        "#!/bin/sh\n{}case ${{1:-}} in\n\
         start|status) exec {PROGRAM} resource \"$1\";;\n\
         stop) {PROGRAM} resource stop || systemctl stop asterisk.service;;\n\
         *) echo \"usage: $0 start|stop|status\" >&2; exit 2;;\n\
         esac\n",
        marked("")
    )
}

/// Heartbeat's word for the address, and for the group that begins with it.
fn address_resource(pair: &Pair<'_>) -> Result<String, HeartbeatError> {
    let Some(address) = pair.shared.cluster_ip else { return Err(HeartbeatError::NoAddress) };
    let (prefix, interface) = (pair.prefix, pair.interface);
    let most = if address.is_ipv4() { 32 } else { 128 };
    if !(1..=most).contains(&prefix) {
        return Err(HeartbeatError::Prefix { address, prefix, most });
    }
    Ok(format!("IPaddr2::{address}/{prefix}/{interface}"))
}

fn marked(text: &str) -> String {
    format!("{MARK}from {} and its settings: change those.\n{text}", asha_conf::PATH)
}

/// A number alone is seconds.
fn time(duration: Duration) -> String {
    match duration.as_millis() {
        millis if millis.is_multiple_of(1000) => (millis / 1000).to_string(),
        millis => format!("{millis}ms"),
    }
}

fn ipv4(address: IpAddr) -> Result<Ipv4Addr, HeartbeatError> {
    match address {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(_) => Err(HeartbeatError::NotIpv4(address)),
    }
}

#[cfg(test)]
mod tests {
    use ha_core::distribution::{Shared, Synch};

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn shared() -> Shared {
        Shared {
            cluster_ip: Some(ip("10.77.0.100")),
            primary_node: "sark1".to_owned(),
            standby_node: "sark2".to_owned(),
            synch: Synch::Lazy,
        }
    }

    fn pair<'a>(shared: &'a Shared, paths: &'a [(&'a str, IpAddr)], references: &'a [IpAddr]) -> Pair<'a> {
        Pair {
            shared,
            prefix: 24,
            interface: "eth0",
            paths,
            references,
            port: 694,
            keepalive: Duration::from_millis(200),
            deadtime: Duration::from_secs(2),
            initdead: Duration::from_secs(120),
        }
    }

    #[test]
    fn the_nodes_files_differ_in_the_way_to_the_other_alone() {
        let (shared, references) = (shared(), [ip("10.77.0.1")]);
        let (to_standby, to_primary) = (
            [("eth0", ip("10.77.0.12")), ("eth1", ip("10.78.0.12"))],
            [("eth0", ip("10.77.0.11")), ("eth1", ip("10.78.0.11"))],
        );
        let primary = ha_cf(&pair(&shared, &to_standby, &references)).unwrap();
        assert_eq!(
            primary,
            "# Written by sark-ha from /etc/asha.conf and its settings: change those.\n\
             logfacility daemon\n\
             keepalive 200ms\n\
             warntime 666ms\n\
             deadtime 2\n\
             initdead 120\n\
             udpport 694\n\
             ucast eth0 10.77.0.12\n\
             ucast eth1 10.78.0.12\n\
             auto_failback off\n\
             node sark1\n\
             node sark2\n\
             ping 10.77.0.1\n"
        );
        let standby = ha_cf(&pair(&shared, &to_primary, &references)).unwrap();
        let common = |text: &str| {
            text.lines().filter(|line| !line.starts_with("ucast")).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(common(&primary), common(&standby));
        let resources = |paths| haresources(&pair(&shared, paths, &references)).unwrap();
        assert_eq!(
            resources(&to_standby),
            "# Written by sark-ha from /etc/asha.conf and its settings: change those.\n\
             sark1 IPaddr2::10.77.0.100/24/eth0 sark-ha\n"
        );
        assert_eq!(resources(&to_primary), resources(&to_standby));
    }

    #[test]
    fn whole_seconds_are_written_without_a_unit() {
        let (shared, paths) = (shared(), [("eth0", ip("10.77.0.12"))]);
        let initdead = Duration::from_millis(180_500);
        let slow = Pair { deadtime: Duration::from_secs(90), initdead, ..pair(&shared, &paths, &[]) };
        let text = ha_cf(&slow).unwrap();
        assert!(text.contains("warntime 30\ndeadtime 90\ninitdead 180500ms\n"), "{text}");
        assert!(!text.contains("ping"), "{text}");
    }

    #[test]
    fn every_file_says_who_wrote_it_and_the_secret_is_its_owners() {
        let (shared, paths) = (shared(), [("eth0", ip("10.77.0.12"))]);
        let Files { files, mark, group } = files(&pair(&shared, &paths, &[]), "0123456789abcdef").unwrap();
        for file in &files {
            assert!(file.text.lines().any(|line| line.starts_with(mark)), "{}", file.text);
            assert_eq!(file.text.contains("0123456789abcdef"), file.mode == 0o600, "{}", file.path);
        }
        assert_eq!(group, "IPaddr2::10.77.0.100/24/eth0");
        // what is missing when the writing is cut short is missing where Heartbeat looks first
        assert_eq!(files.last().map(|file| file.path), Some(HA_CF));
    }

    #[test]
    fn a_program_that_fails_does_not_keep_asterisk_running() {
        let script = resource_script();
        assert!(
            script.starts_with("#!/bin/sh\n# Written by sark-ha ")
                && script
                    .contains("stop) /usr/bin/sark-ha resource stop || systemctl stop asterisk.service;;\n"),
            "{script}"
        );
    }

    #[test]
    fn what_heartbeat_cannot_read_is_refused() {
        let (shared, paths) = (shared(), [("eth0", ip("10.77.0.12"))]);
        let good = pair(&shared, &paths, &[]);
        assert_eq!(ha_cf(&Pair { paths: &[], ..good }), Err(HeartbeatError::NoPath));
        let far = [("eth0", ip("2001:db8::12"))];
        assert_eq!(ha_cf(&Pair { paths: &far, ..good }), Err(HeartbeatError::NotIpv4(far[0].1)));
        assert_eq!(ha_cf(&Pair { references: &[far[0].1], ..good }), Err(HeartbeatError::NotIpv4(far[0].1)));
        let alone = Shared { cluster_ip: None, ..shared.clone() };
        assert_eq!(haresources(&Pair { shared: &alone, ..good }), Err(HeartbeatError::NoAddress));
        for prefix in [0, 33] {
            assert!(matches!(haresources(&Pair { prefix, ..good }), Err(HeartbeatError::Prefix { .. })));
        }
    }

    #[test]
    fn the_key_is_one_word_and_no_short_one() {
        let key = "0123456789abcdef";
        assert_eq!(authkeys(&format!("{key}\n")), Ok(marked(&format!("auth 1\n1 sha1 {key}\n"))));
        for bad in [
            "",
            "short",
            "0123456789abcde f",
            "0123456789abcdef\nauth 2",
            "0123456789abcdef#",
            "0123456789abcdeé",
        ] {
            let refusal = authkeys(bad).unwrap_err();
            assert_eq!(refusal, HeartbeatError::Key);
            assert!(bad.is_empty() || !refusal.to_string().contains(bad));
        }
    }
}
