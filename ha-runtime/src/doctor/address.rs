//! What a pair that shares one address needs of this machine.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use ha_core::{Role, RoleConfig};
use pnet::datalink::{self, NetworkInterface};
use serde_json::Value;

use super::{Check, far, heartbeat, read_text};
use crate::addresses;
use crate::cluster::gate::Gate;
use crate::cluster::native::Key;
use crate::cluster::{self, Agreed, Charter, Said};
use crate::context::Context;
use crate::control::{self, FromPeer, Request};
use crate::far_node::Conversation;
use crate::settings::{Cluster, ClusterKind};

/// Where Asterisk's configuration is, and what says in it where it listens.
const ASTERISK: &str = "/etc/asterisk";
const BIND: [&str; 3] = ["bindaddr", "udpbindaddr", "bind"];
const FILE_MAX: u64 = 1 << 20;
/// How long the daemon may take to say how things are.
const ANSWER: Duration = Duration::from_secs(5);

/// Nothing for a node that is in no such pair.
pub(super) fn checks(context: &Context, role: &RoleConfig) -> Vec<Check> {
    let charter = match Charter::of(context, role) {
        Ok(None) => return Vec::new(),
        Ok(Some(charter)) => charter,
        Err(failure) => {
            let todo = "do what it says: until then the daemon does not begin, and nobody serves";
            return vec![Check::fail("cluster", failure.message, todo)];
        }
    };
    let mut checks = vec![
        Check::ok("cluster", format!("{}, for {}", charter.kind(), charter.address)),
        key(context, &charter.settings),
    ];
    checks.extend(of_the_network(context, &charter));
    if let ClusterKind::Heartbeat(terms) = charter.settings.kind {
        checks.push(heartbeat::package(context));
        checks.push(heartbeat::files(context, &charter, terms));
        checks.push(heartbeat::peer(context, &charter));
        checks.push(heartbeat::at_boot(context));
    }
    checks.push(binding(context, charter.address));
    checks.push(at_boot(context));
    checks
}

/// What both nodes must have in mind alike. Only a node that may log in over there can look.
pub(super) async fn agreed(context: &Context, role: &RoleConfig) -> Option<Check> {
    let charter = Charter::of(context, role).ok()??;
    let other = match role.role() {
        Role::Master => Role::Slave,
        Role::Slave => Role::Master,
        Role::Disabled => return None,
    };
    if !context.settings.replication.flow.is_logged_in_to(other) {
        let why = "this node may not log in over there; `doctor` on the other one looks";
        return Some(Check::not_checked("cluster-agreed", why));
    }
    let moves = match charter.settings.kind {
        // what cannot be is told of the files
        ClusterKind::Heartbeat(terms) => {
            Some(cluster::heartbeat::wanted(context, &charter, terms).ok()?.group)
        }
        ClusterKind::Native(_) => None,
    };
    let (owned, own) = (context.clone(), Agreed::new(&charter, moves.as_deref()));
    let asked = far::within(move || {
        let answer = Conversation::open(&owned, far::PATIENCE)?.ask(&FromPeer::Standing)?;
        Ok(own.differences(&Said::try_from(answer)?.agreed))
    });
    Some(match asked.await {
        Ok(differing) if differing.is_empty() => {
            Check::ok("cluster-agreed", "the other node has the same address, names and kind of cluster")
        }
        Ok(differing) => Check::fail(
            "cluster-agreed",
            format!("{}: both nodes may serve", differing.join("; ")),
            format!(
                "`{} configure` this node or the other one with the same values, and make [cluster] the same on both",
                context.profile().program
            ),
        ),
        Err(failure) => Check::warn(
            "cluster-agreed",
            format!("the other node could not be asked: {failure}"),
            "see that the engine runs there, and that this node may log in (`sync-key`)",
        ),
    })
}

/// The secret that both nodes have.
fn key(context: &Context, cluster: &Cluster) -> Check {
    let path = context.root.path(&cluster.key_file);
    match Key::read(&path) {
        Ok(_) => Check::ok("cluster-key", format!("{} is there, for its owner only", path.display())),
        Err(error) => Check::fail(
            "cluster-key",
            error.to_string(),
            "put the same secret there on both nodes; one that others may have read is none any more",
        ),
    }
}

/// The kernel's part. Below another root than the machine's own nothing of it can be seen.
fn of_the_network(context: &Context, charter: &Charter) -> Vec<Check> {
    if !context.root.is_machine() {
        let why = "the network of a PBX below another root cannot be seen from here";
        return vec![Check::not_checked("address", why)];
    }
    let mut checks = Vec::new();
    let is_native = matches!(charter.settings.kind, ClusterKind::Native(_));
    if is_native {
        checks.push(gate(charter));
    }
    let all = datalink::interfaces();
    checks.extend(interface(&all, charter));
    let daemon = control::daemon_runs(&context.root);
    checks.extend(is_native.then(|| by_hand(&all, charter.address, daemon)));
    if let Some(Ok(status)) = control::ask(&context.root, &Request::Status, ANSWER) {
        checks.extend(of_the_thread(&status.json["cluster"]));
    }
    checks
}

/// What the daemon says of the thread that renews, as `status` has it; nothing without a daemon.
fn of_the_thread(facts: &Value) -> Vec<Check> {
    let Some(real_time) = facts["real_time"].as_bool() else { return Vec::new() };
    let locked = facts["locked"].as_bool().unwrap_or_default();
    let hurry = match (real_time, locked) {
        (true, true) => Check::ok(
            "address-thread",
            "the thread that renews is locked in memory and goes before all others",
        ),
        (false, _) => Check::warn(
            "address-thread",
            "the kernel does not let the thread that renews go before all others: a busy machine may lose the address",
            "run the engine as root, outside a container that withholds CAP_SYS_NICE",
        ),
        (true, false) => Check::warn(
            "address-thread",
            "the engine is not locked in memory: a machine that swaps may lose the address",
            "run the engine as root; `LimitMEMLOCK=infinity` in its unit where a limit is in force",
        ),
    };
    let strangers = match facts["foreign_datagrams"].as_u64().unwrap_or_default() {
        0 => Check::ok("address-strangers", "nobody without the key has spoken to this node's beats"),
        count => Check::warn(
            "address-strangers",
            format!(
                "{count} datagrams that nobody with this node's key has sealed came since the engine's start"
            ),
            "put the same secret into key_file on both nodes; if it is the same, find out who else sends to that port",
        ),
    };
    vec![hurry, strangers]
}

/// Whether the kernel lets this process ask for the rules that keep the address closed.
fn gate(charter: &Charter) -> Check {
    let asked = Gate::new(charter.address, &charter.settings.interface).and_then(|mut gate| gate.left());
    match asked {
        Ok(_) => Check::ok("address-gate", "nftables answers: the kernel can keep the address closed"),
        Err(error) => Check::fail(
            "address-gate",
            format!("{error}: the address could not be kept closed where it is not held"),
            "run `doctor` and the engine as root, on Linux 5.12 or later with nf_tables (`modprobe nf_tables`)",
        ),
    }
}

/// Whether there is such an interface, and the address is of its network.
fn interface(all: &[NetworkInterface], charter: &Charter) -> Vec<Check> {
    let name = &charter.settings.interface;
    let Some(found) = all.iter().find(|one| one.name == *name) else {
        let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).filter(|one| *one != "lo").collect();
        return vec![Check::fail(
            "address-interface",
            format!("there is no interface {name}; there are: {}", names.join(", ")),
            "set [cluster] interface to the one in the phones' network",
        )];
    };
    let address = charter.address;
    // the address itself, alone on the interface, says nothing of the network
    let mut networks = found.ips.iter().filter(|network| network.ip() != address);
    let subnet = match networks.find(|network| network.contains(address)) {
        Some(network) => Check::ok("address-subnet", format!("{address} is in {name}'s network {network}")),
        None => Check::fail(
            "address-subnet",
            format!("{address} is in no network of {name}: phones of that network would not find it"),
            "set [cluster] interface to the one in the phones' network, or `configure --cluster-ip` with a free address of it",
        ),
    };
    vec![Check::ok("address-interface", format!("{name} is there")), subnet]
}

/// The engine puts the address on the interface alone (`/32`, `/128`), and only while it runs.
fn by_hand(all: &[NetworkInterface], address: IpAddr, daemon: bool) -> Check {
    let whole = addresses::whole(address);
    let mut places = all.iter().flat_map(|one| one.ips.iter().map(move |network| (one, network)));
    let foreign = places
        .find(|(_, network)| network.ip() == address && (network.prefix() != whole || !daemon))
        .map(|(one, network)| format!("{network} is on {} by something else than the engine", one.name));
    match foreign {
        None => Check::ok("address-by-hand", "nothing but the engine puts the address on an interface"),
        Some(finding) => Check::fail(
            "address-by-hand",
            format!("{finding}: both nodes may have it"),
            format!(
                "take {address} out of /etc/network/interfaces (or where else it is set), and off the interface with \
                 `ip address del`"
            ),
        ),
    }
}

/// Asterisk that listens everywhere answers from the node's own address (`domain.md` 6).
fn binding(context: &Context, address: IpAddr) -> Check {
    match bound(context, address) {
        Ok(Some(file)) => Check::ok("address-binding", format!("{file} binds Asterisk to {address}")),
        Ok(None) => Check::warn(
            "address-binding",
            format!(
                "no file below {ASTERISK} binds Asterisk to {address}: it answers from the node's own address, and \
                 firewalls drop that"
            ),
            format!(
                "set BINDADDR=ON in SARK's globals (bindaddr={address}); an Asterisk that is started before the address is \
                 there needs `net.ipv4.ip_nonlocal_bind = 1` in /etc/sysctl.d as well"
            ),
        ),
        Err(error) => Check::warn("address-binding", format!("{ASTERISK}: {error}"), "run `doctor` as root"),
    }
}

/// The file that says so.
fn bound(context: &Context, address: IpAddr) -> io::Result<Option<String>> {
    let entries = match fs::read_dir(context.root.path(ASTERISK)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if !path.is_file() {
            continue;
        }
        let text = read_text(&path, FILE_MAX)?.unwrap_or_default();
        if text.lines().any(|line| binds(line, address)) {
            return Ok(path.file_name().map(|name| format!("{ASTERISK}/{}", name.to_string_lossy())));
        }
    }
    Ok(None)
}

/// `bindaddr=IP`, `udpbindaddr = IP:PORT`, `bind => [IP]:PORT`; what follows a semicolon is a comment.
fn binds(line: &str, address: IpAddr) -> bool {
    let line = line.split(';').next().unwrap_or_default();
    let Some((key, value)) = line.split_once('=') else { return false };
    let value = value.trim_start_matches('>').trim();
    let with_port = value.parse::<std::net::SocketAddr>().map(|socket| socket.ip());
    let alone = value.trim_matches(['[', ']']).parse::<IpAddr>();
    BIND.contains(&key.trim()) && (with_port == Ok(address) || alone == Ok(address))
}

/// Asterisk at boot, before anybody holds the address, is one too many.
fn at_boot(context: &Context) -> Check {
    let unit = context.profile().observe.unit;
    let wants = format!("/etc/systemd/system/multi-user.target.wants/{unit}");
    match fs::symlink_metadata(context.root.path(&wants)) {
        Err(_) => Check::ok("telephony-at-boot", format!("systemd does not start {unit} by itself")),
        Ok(_) => Check::fail(
            "telephony-at-boot",
            format!("{wants} is there: it is started at boot, wherever the address is"),
            format!("run `systemctl disable {unit}`; the engine starts it with the address"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use ha_adapters_sark::Sark;
    use pnet::ipnetwork::IpNetwork;

    use super::super::Level;
    use super::super::testing::{Place, level};
    use super::*;

    const VIP: &str = "10.77.0.100";

    fn place() -> Place {
        let place = Place::new();
        let node = rustix::system::uname();
        let node = node.nodename().to_string_lossy().into_owned();
        place.write("/etc/asha.conf", &format!("HACLUSTERIP={VIP}\nHAPRINODE={node}\n"));
        place.write("/etc/pbx-ha/role.json", r#"{"node_type": "master", "remote_address": "10.77.0.12"}"#);
        place.settings("[cluster]\nreferences = \"none\"\n");
        place
    }

    fn examine(place: &Place) -> Vec<Check> {
        let context = Context::load(&Sark, place.root(), None).unwrap();
        checks(&context, &context.role().unwrap())
    }

    #[test]
    fn a_pair_without_a_cluster_fails_with_what_to_write_and_no_pair_needs_none() {
        let place = place();
        place.settings("");
        let found = examine(&place);
        assert_eq!(level(&found, "cluster"), Level::Fail);
        assert!(found[0].finding.contains("[cluster] is missing"), "{found:?}");
        place.remove("/etc/pbx-ha/role.json");
        assert_eq!(examine(&place), []);
    }

    #[test]
    fn a_key_that_is_missing_short_or_readable_fails() {
        use std::os::unix::fs::PermissionsExt;
        let place = place();
        assert_eq!(level(&examine(&place), "cluster-key"), Level::Fail, "none");
        for (text, mode, expected) in [
            ("0123456789abcdef0123456789abcde", 0o600, Level::Fail),
            ("0123456789abcdef0123456789abcdef", 0o640, Level::Fail),
            ("0123456789abcdef0123456789abcdef", 0o600, Level::Ok),
        ] {
            let path = place.write("/etc/pbx-ha/cluster.key", text);
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(level(&examine(&place), "cluster-key"), expected, "{text} {mode:o}");
        }
    }

    #[test]
    fn asterisk_at_boot_fails_and_one_that_listens_everywhere_is_told() {
        let place = place();
        let found = examine(&place);
        assert_eq!(level(&found, "telephony-at-boot"), Level::Ok);
        assert_eq!(level(&found, "address-binding"), Level::Warn);
        let link = place.path("/etc/systemd/system/multi-user.target.wants/asterisk.service");
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("/lib/systemd/system/asterisk.service", link).unwrap();
        place.write("/etc/asterisk/sip.conf", &format!("[general]\nbindaddr={VIP}\n"));
        let found = examine(&place);
        assert_eq!(level(&found, "telephony-at-boot"), Level::Fail);
        assert_eq!(level(&found, "address-binding"), Level::Ok);
    }

    #[test]
    fn a_thread_that_may_be_late_and_strangers_are_told() {
        let of = |real_time: bool, locked: bool, strangers: u64| {
            let facts = serde_json::json!({ "real_time": real_time, "locked": locked, "foreign_datagrams": strangers });
            let found = of_the_thread(&facts);
            ["address-thread", "address-strangers"].map(|id| level(&found, id))
        };
        assert_eq!(of(true, true, 0), [Level::Ok, Level::Ok]);
        assert_eq!(of(false, true, 0), [Level::Warn, Level::Ok]);
        assert_eq!(of(true, false, 3), [Level::Warn, Level::Warn]);
        assert_eq!(of_the_thread(&Value::Null), []);
    }

    #[test]
    fn a_line_binds_to_that_address_alone() {
        let vip: IpAddr = VIP.parse().unwrap();
        for line in ["bindaddr=10.77.0.100", " udpbindaddr = 10.77.0.100:5060 ; ours", "bind=>10.77.0.100"] {
            assert!(binds(line, vip), "{line}");
        }
        for line in [
            "bindaddr=0.0.0.0",
            ";bindaddr=10.77.0.100",
            "bindaddr=10.77.0.1000",
            "externaddr=10.77.0.100",
            "10.77.0.100",
        ] {
            assert!(!binds(line, vip), "{line}");
        }
        assert!(binds("bind=[2001:db8::100]:5060", "2001:db8::100".parse().unwrap()));
    }

    fn eth0(networks: &[&str]) -> Vec<NetworkInterface> {
        let ips: Vec<IpNetwork> = networks.iter().map(|network| network.parse().unwrap()).collect();
        let (name, description) = ("eth0".to_owned(), String::new());
        vec![NetworkInterface { name, description, index: 2, mac: None, ips, flags: 0 }]
    }

    #[test]
    fn the_address_belongs_to_its_interfaces_network_and_to_nobody_but_the_engine() {
        let place = place();
        let context = Context::load(&Sark, place.root(), None).unwrap();
        let charter = Charter::of(&context, &context.role().unwrap()).unwrap().unwrap();
        let seen = |networks: &[&str]| interface(&eth0(networks), &charter);
        assert_eq!(level(&seen(&["10.77.0.11/24"]), "address-subnet"), Level::Ok);
        assert_eq!(level(&seen(&["10.78.0.11/24", "10.77.0.100/32"]), "address-subnet"), Level::Fail);
        let missing = interface(&[], &charter);
        assert_eq!(level(&missing, "address-interface"), Level::Fail);

        let vip: IpAddr = VIP.parse().unwrap();
        for (networks, daemon, expected) in [
            (&["10.77.0.11/24"][..], false, Level::Ok),
            (&["10.77.0.11/24", "10.77.0.100/32"], true, Level::Ok),
            (&["10.77.0.11/24", "10.77.0.100/32"], false, Level::Fail),
            (&["10.77.0.11/24", "10.77.0.100/24"], true, Level::Fail),
        ] {
            assert_eq!(by_hand(&eth0(networks), vip, daemon).level, expected, "{networks:?} {daemon}");
        }
    }
}
