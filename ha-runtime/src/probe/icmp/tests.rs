//! Real sockets: on loopback, and in a network namespace of its own what would disturb the machine.

use std::process::Command;

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use super::*;

const LONG: Duration = Duration::from_secs(5);
const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);

/// Raw sockets, or a line that says why the test is skipped.
fn raw() -> Option<Icmp> {
    match Icmp::start() {
        Ok(icmp) => Some(icmp),
        Err(error) => {
            eprintln!("SKIPPED: {error}");
            None
        }
    }
}

fn v6_is_up() -> bool {
    let up = std::net::UdpSocket::bind((V6, 0)).is_ok();
    if !up {
        eprintln!("SKIPPED for IPv6: ::1 is not up here");
    }
    up
}

/// Runs the named test again, alone, in a network namespace prepared by `setup`. `true`: this is that run.
fn in_a_namespace(test: &str, setup: &str) -> bool {
    const INSIDE: &str = "PBX_HA_TEST_NAMESPACE";
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let script = format!("ip link set lo up && {setup} && exec \"$@\"");
    let output = Command::new("unshare")
        .args(["-n", "sh", "-c", &script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("probe::icmp::tests::{test}"), "--nocapture"])
        .env(INSIDE, "1")
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            eprintln!("SKIPPED: unshare: {error}");
            return false;
        }
    };
    let said = String::from_utf8_lossy(&output.stderr);
    if ["Operation not permitted", "ip: not found"].iter().any(|why| said.contains(why)) {
        eprintln!("SKIPPED: no network namespace: {said}");
        return false;
    }
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "the test did not run inside");
    eprint!("{said}");
    false
}

#[tokio::test]
async fn loopback_replies_over_both_versions_of_ip() {
    let Some(icmp) = raw() else { return };
    assert_eq!(icmp.probe(V4, LONG).await, ProbeOutcome::Reply);
    if v6_is_up() {
        assert_eq!(icmp.probe(V6, LONG).await, ProbeOutcome::Reply);
    }
}

#[tokio::test]
async fn two_probers_and_many_probes_at_once_each_get_their_own_reply() {
    let (Some(one), Some(other)) = (raw(), raw()) else { return };
    let probes: Vec<_> = (0..100)
        .map(|turn| {
            let from = if turn % 2 == 0 { &one } else { &other };
            from.probe(std::net::Ipv4Addr::new(127, 0, 0, 1 + turn % 5).into(), LONG)
        })
        .collect();
    for probe in probes {
        assert_eq!(probe.await, ProbeOutcome::Reply);
    }
}

#[tokio::test]
async fn the_thread_ends_with_the_last_handle_and_not_before_the_last_probe() {
    let Some(icmp) = raw() else { return };
    let probe = icmp.clone().probe(V4, LONG);
    let thread = Arc::downgrade(&icmp.0);
    drop(icmp);
    assert_eq!(probe.await, ProbeOutcome::Reply);
    assert!(thread.upgrade().is_none(), "dropping the last handle joins the thread");
}

#[test]
fn without_the_capability_the_start_fails_and_says_how_to_get_it() {
    let own = match capabilities(None) {
        Ok(own) => own,
        Err(error) => return eprintln!("SKIPPED: capget: {error}"),
    };
    let mut less = own;
    less.effective.remove(CapabilitySet::NET_RAW);
    set_capabilities(None, less).unwrap();
    let refused = Icmp::start();
    set_capabilities(None, own).unwrap();
    let Err(error) = refused else { panic!("started without CAP_NET_RAW") };
    assert!(matches!(error, ProbeError::RawNotPermitted));
    for said in ["CAP_NET_RAW", "root", "AmbientCapabilities", "setcap"] {
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[tokio::test]
async fn who_does_not_answer_is_lost_at_the_timeout_and_who_cannot_be_reached_at_once() {
    let test = "who_does_not_answer_is_lost_at_the_timeout_and_who_cannot_be_reached_at_once";
    if !in_a_namespace(test, "echo 1 > /proc/sys/net/ipv4/icmp_echo_ignore_all") {
        return;
    }
    let icmp = Icmp::start().unwrap();
    let timeout = Duration::from_millis(120);
    let begun = Instant::now();
    assert_eq!(icmp.probe(V4, timeout).await, ProbeOutcome::Lost);
    assert!(begun.elapsed() >= timeout, "given up after {:?}", begun.elapsed());
    // no route leads out of the namespace: ENETUNREACH
    assert_eq!(icmp.probe("192.0.2.1".parse().unwrap(), Duration::MAX / 4).await, ProbeOutcome::Lost);
    assert_eq!(icmp.probe("2001:db8::1".parse().unwrap(), Duration::MAX / 4).await, ProbeOutcome::Lost);
}

#[tokio::test]
async fn datagram_sockets_reply_once_the_group_is_allowed() {
    let test = "datagram_sockets_reply_once_the_group_is_allowed";
    if !in_a_namespace(test, "echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range") {
        return;
    }
    let icmp = Icmp::start_unprivileged().unwrap();
    for _ in 0..3 {
        assert_eq!(icmp.probe(V4, LONG).await, ProbeOutcome::Reply);
    }
    if v6_is_up() {
        assert_eq!(icmp.probe(V6, LONG).await, ProbeOutcome::Reply);
    }
}

#[test]
fn datagram_sockets_of_a_group_that_is_not_allowed_are_refused_with_the_setting() {
    let test = "datagram_sockets_of_a_group_that_is_not_allowed_are_refused_with_the_setting";
    // a new namespace allows none
    if !in_a_namespace(test, "true") {
        return;
    }
    let Err(error) = Icmp::start_unprivileged() else { panic!("started without permission") };
    assert!(error.to_string().contains("net.ipv4.ping_group_range"), "{error}");
}

#[tokio::test]
async fn a_machine_without_ipv6_probes_ipv4_and_says_so_for_the_other() {
    let Ok(mut sockets) = Sockets::open(Access::Raw) else { return eprintln!("SKIPPED: no CAP_NET_RAW") };
    sockets.v6 = Err(rustix::io::Errno::AFNOSUPPORT);
    let icmp = Icmp::over(sockets).unwrap();
    assert_eq!(icmp.probe(V4, LONG).await, ProbeOutcome::Reply);
    let error = icmp.check(V6).unwrap_err().to_string();
    assert!(error.contains("::1 cannot be probed: this machine has no IPv6 ICMP"), "{error}");
    assert_eq!(icmp.probe(V6, LONG).await, ProbeOutcome::Lost);
}

#[tokio::test]
async fn stubs_of_packets_and_forged_replies_disturb_nobody() {
    use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sendto, socket_with};

    let test = "stubs_of_packets_and_forged_replies_disturb_nobody";
    if !in_a_namespace(test, "echo 1 > /proc/sys/net/ipv4/icmp_echo_ignore_all") {
        return;
    }
    let icmp = Icmp::start().unwrap();
    let timeout = Duration::from_millis(300);
    let probe = icmp.probe(V4, timeout);
    let forger =
        socket_with(AddressFamily::INET, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::ICMP)).unwrap();
    let send = |bytes: &[u8]| {
        sendto(&forger, bytes, SendFlags::empty(), &std::net::SocketAddr::new(V4, 0)).unwrap();
    };
    // an echo reply that ends with its header, and one with half a nonce: their sums are right
    send(&[0, 0, 0xff, 0xff, 0, 0, 0, 0]);
    send(&[0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
    // whole ones with every identifier and the sequence of a first request: only the nonce is not known
    for ident in 0..=u16::MAX {
        let mut forged = packet::request_v4(packet::Echo { ident, sequence: 1, nonce: 7 });
        // a reply's type is 0, a request's 8: the sum grows by the difference
        forged[0] = 0;
        let sum = u16::from_be_bytes([forged[2], forged[3]]);
        let (sum, carry) = sum.overflowing_add(0x0800);
        forged[2..4].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
        send(&forged);
    }
    assert_eq!(probe.await, ProbeOutcome::Lost);
    std::fs::write("/proc/sys/net/ipv4/icmp_echo_ignore_all", "0").unwrap();
    assert_eq!(icmp.probe(V4, LONG).await, ProbeOutcome::Reply);
}
