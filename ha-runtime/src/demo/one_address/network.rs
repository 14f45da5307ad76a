//! A network of its own: two machines at one switch, with a cross-over cable beside it, and nothing that leads out of it.
//!
//! The world is where the phones are, the router that both nodes ask whether they are cut off, and two observers. Each
//! observer reaches the address at one node's hardware address, whoever the others think has it: so two that answer at once
//! would both be heard.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ha_core::Role;

use crate::cluster::gate::Gate;
use crate::report::{Failure, Report, Verdict};

/// What phones know.
pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);
/// The nodes: the primary, the standby.
pub(super) const HOSTS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 77, 0, 11), Ipv4Addr::new(10, 77, 0, 12)];
/// The same over the cross-over cable.
const ACROSS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 78, 0, 11), Ipv4Addr::new(10, 78, 0, 12)];
/// The phones, and the router that the nodes know.
pub(super) const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// An observer for each node.
pub(super) const OBSERVERS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 77, 0, 21), Ipv4Addr::new(10, 77, 0, 22)];
/// The nodes' hardware addresses (locally administered).
const HARDWARE: [&str; 2] = ["02:00:0a:4d:00:0b", "02:00:0a:4d:00:0c"];
/// The router's: a bridge without one of its own takes another when a machine is plugged out, and is not found for a while.
const SWITCH: &str = "02:00:0a:4d:00:01";
/// How long a cable may take to be there.
const PATIENCE: Duration = Duration::from_secs(10);

fn number(role: Role) -> usize {
    usize::from(role == Role::Slave)
}

/// The paths by which a node hears the other one.
pub(super) fn paths(to: Role) -> [IpAddr; 2] {
    [HOSTS[number(to)].into(), ACROSS[number(to)].into()]
}

/// In the world: the switch and the cable, phones, router and observers.
pub(super) fn lay() -> io::Result<()> {
    for file in ["all", "default"] {
        // an answer comes back by another interface than the one that the question took
        std::fs::write(format!("/proc/sys/net/ipv4/conf/{file}/rp_filter"), "0")?;
    }
    let mut lines = format!(
        "link set lo up\n\
         link add switch address {SWITCH} type bridge\nlink set switch up\naddress add {ROUTER}/24 dev switch\n\
         link add cable type bridge\nlink set cable up\n"
    );
    for (index, (observer, hardware)) in OBSERVERS.iter().zip(HARDWARE).enumerate() {
        let (end, table) = (format!("observer{index}"), 100 + index);
        lines += &format!(
            "link add {end} type veth peer name o{index}\nlink set o{index} master switch up\nlink set {end} up\n\
             address add {observer}/32 dev {end}\n\
             neighbour add {ADDRESS} lladdr {hardware} dev {end} nud permanent\n\
             route add {ADDRESS}/32 dev {end} src {observer} table {table}\n\
             rule add from {observer} lookup {table}\n"
        );
    }
    ip(&lines)
}

/// In the world: both cables of a machine, whose network is that process's; `time` makes each time another pair of names.
pub(super) fn plug_in(role: Role, time: u32, process: u32) -> io::Result<()> {
    let hardware = HARDWARE[number(role)];
    ip(&format!(
        "link add m{time} type veth peer name eth0 address {hardware} netns {process}\n\
         link set m{time} master switch up\n\
         link add x{time} type veth peer name eth1 netns {process}\n\
         link set x{time} master cable up\n"
    ))
}

/// In a machine: its name, and what its administrator would have set at its interfaces. Waits until they are plugged in.
pub(super) fn settle(role: Role, name: &str) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::environment(format!("{name}: network: {error}"));
    rustix::system::sethostname(name.as_bytes()).map_err(|error| failed(error.into()))?;
    let begun = Instant::now();
    // the last that is plugged in
    while !std::fs::read_to_string("/proc/net/dev").map_err(failed)?.contains("eth1:") {
        if begun.elapsed() > PATIENCE {
            return Err(failed(io::ErrorKind::TimedOut.into()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let (own, across) = (HOSTS[number(role)], ACROSS[number(role)]);
    let lines = format!(
        "link set lo up\naddress add {own}/24 dev eth0\nlink set eth0 up\naddress add {across}/24 dev eth1\nlink set eth1 up\n"
    );
    ip(&lines).map_err(failed)
}

/// In a world of its own: whether there can be such a network with such an address. It goes with the process.
pub(in crate::demo) fn attempt() -> Verdict {
    lay().map_err(Failure::environment)?;
    rustix::system::sethostname(b"demo").map_err(Failure::environment)?;
    ip("link add eth0 type veth peer name m0\nlink set m0 master switch up\n")
        .map_err(Failure::environment)?;
    let gate = Gate::new(ADDRESS.into(), "eth0").and_then(|mut gate| gate.build());
    gate.map_err(Failure::environment)?;
    Ok(Report::default())
}

/// Has `ip` do all of it.
fn ip(lines: &str) -> io::Result<()> {
    let mut ip = Command::new("ip");
    ip.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut ip =
        ip.spawn().map_err(|error| io::Error::new(error.kind(), format!("the program ip: {error}")))?;
    if let Some(mut input) = ip.stdin.take() {
        input.write_all(lines.as_bytes())?;
    }
    let output = ip.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("ip: {}", String::from_utf8_lossy(&output.stderr).trim())))
}
