//! The three files of a Heartbeat 3 cluster with `haresources`, as text (`domain.md` 5.6).
//!
//! They are equal on both nodes, byte for byte, but for the `ucast` lines, which name the other node.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ha_core::distribution::Shared;

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

/// SARK's page: "If the standby node does not come on-line within 120 seconds".
const INITDEAD: Duration = Duration::from_secs(120);

/// What the files are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair<'a> {
    /// The address and the nodes' names.
    pub shared: &'a Shared,
    /// The length of the network's prefix in which the address is.
    pub prefix: u8,
    /// The interface that gets the address.
    pub interface: &'a str,
    /// Each way to the other node: this node's interface, and the other's address on it. At least one.
    pub paths: &'a [(&'a str, IpAddr)],
    /// Hosts that tell a dead node from a cut line.
    pub references: &'a [IpAddr],
    /// UDP.
    pub port: u16,
    /// Between two heartbeats.
    pub keepalive: Duration,
    /// The silence after which a node counts as dead.
    pub deadtime: Duration,
    /// Whether the primary node takes the address back by itself.
    pub auto_failback: bool,
}

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
    let mut text = String::from("# Written by sark-ha from /etc/asha.conf and its settings: change those.\n");
    let mut line = |words: std::fmt::Arguments<'_>| {
        // writing to a String does not fail
        let _ = writeln!(text, "{words}");
    };
    line(format_args!("logfacility daemon"));
    line(format_args!("keepalive {}", time(pair.keepalive)));
    line(format_args!("warntime {}", time(pair.deadtime / 3)));
    line(format_args!("deadtime {}", time(pair.deadtime)));
    line(format_args!("initdead {}", time(INITDEAD.max(pair.deadtime * 2))));
    // before the lines that use it: Heartbeat reads in order
    line(format_args!("udpport {}", pair.port));
    for (interface, address) in pair.paths {
        line(format_args!("ucast {interface} {}", ipv4(*address)?));
    }
    line(format_args!("auto_failback {}", if pair.auto_failback { "on" } else { "off" }));
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
    let Some(address) = pair.shared.cluster_ip else { return Err(HeartbeatError::NoAddress) };
    let prefix = pair.prefix;
    let most = if address.is_ipv4() { 32 } else { 128 };
    if !(1..=most).contains(&prefix) {
        return Err(HeartbeatError::Prefix { address, prefix, most });
    }
    let (node, interface) = (&pair.shared.primary_node, pair.interface);
    Ok(format!("{node} IPaddr2::{address}/{prefix}/{interface} {RESOURCE}\n"))
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
    Ok(format!("auth 1\n1 sha1 {key}\n"))
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
    use ha_core::distribution::Synch;

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
            auto_failback: false,
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
        assert_eq!(resources(&to_standby), "sark1 IPaddr2::10.77.0.100/24/eth0 sark-ha\n");
        assert_eq!(resources(&to_primary), resources(&to_standby));
    }

    #[test]
    fn a_start_waits_longer_than_for_a_death() {
        let (shared, paths) = (shared(), [("eth0", ip("10.77.0.12"))]);
        let slow =
            Pair { deadtime: Duration::from_secs(90), auto_failback: true, ..pair(&shared, &paths, &[]) };
        let text = ha_cf(&slow).unwrap();
        assert!(text.contains("warntime 30\ndeadtime 90\ninitdead 180\n"), "{text}");
        assert!(text.contains("auto_failback on\n") && !text.contains("ping"), "{text}");
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
        assert_eq!(authkeys(&format!("{key}\n")), Ok(format!("auth 1\n1 sha1 {key}\n")));
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
