//! What `configure` makes of `/etc/asha.conf` and of what it was told: the address and the names of a pair.

use ha_core::distribution::{ShareError, Shared, Wish};
use ha_core::{PeerAddress, RoleConfig, RoleError};

use crate::asha_conf::{self, AshaConf, CLUSTER_IP, NODE_NAME, PRIMARY_NODE, STANDBY_NODE, is_node_name};

fn refuse<T>(why: impl Into<String>) -> Result<T, ShareError> {
    Err(ShareError(why.into()))
}

pub(crate) fn share(
    conf: Option<&str>,
    wish: &Wish,
    to: &RoleConfig,
    node: &str,
) -> Result<Shared, ShareError> {
    let file = AshaConf::parse(conf.unwrap_or_default()).map_err(|error| ShareError(error.to_string()))?;
    let Some(peer) = to.peer() else { return leave(file.shared, wish) };
    let shared = Shared {
        cluster_ip: wish.cluster_ip.or(file.shared.cluster_ip),
        primary_node: wish.primary_node.clone().unwrap_or(file.shared.primary_node),
        standby_node: wish.standby_node.clone().unwrap_or(file.shared.standby_node),
        synch: wish.sync.unwrap_or(file.shared.synch),
    };
    let Some(ip) = shared.cluster_ip else {
        return refuse(format!(
            "--cluster-ip is missing, and {CLUSTER_IP} in {} is empty: give the free address that phones are to know",
            asha_conf::PATH
        ));
    };
    if let Err(error) = PeerAddress::new(ip) {
        let why = match error {
            RoleError::UnusableAddress { why, .. } => why.to_owned(),
            other => other.to_string(),
        };
        return refuse(format!("--cluster-ip {ip}: {why}: give a free address of the phones' network"));
    }
    if ip.is_ipv4() != peer.is_ipv4() {
        return refuse(format!(
            "--cluster-ip {ip} is of another version of IP than the nodes' addresses: give a free one beside {peer}"
        ));
    }
    if ip == peer {
        return refuse(format!(
            "--cluster-ip {ip} is the other node's own address: the pair needs a third, free one beside the nodes'"
        ));
    }
    let names = [
        (PRIMARY_NODE, "--primary-node", &shared.primary_node),
        (STANDBY_NODE, "--standby-node", &shared.standby_node),
    ];
    for (_, option, name) in names {
        if !is_node_name(name) {
            return refuse(format!("{option} \"{name}\": {NODE_NAME}"));
        }
    }
    if shared.primary_node == shared.standby_node {
        let name = &shared.primary_node;
        return refuse(format!(
            "--primary-node and --standby-node are both {name}: each node has a name of its own"
        ));
    }
    let (key, option, own) = match to {
        RoleConfig::Slave { .. } => names[1],
        RoleConfig::Master { .. } | RoleConfig::Disabled => names[0],
    };
    if own != node {
        let role = to.role();
        return refuse(format!(
            "this node's name (uname -n) is {node}, but the {role}'s is to be {own} ({option}, or {key} in {}): give \
             {option} {node}, or run this on {own}",
            asha_conf::PATH
        ));
    }
    Ok(shared)
}

/// Without an address there is no cluster. Names and mode stay: they say nothing without it, and serve the next pair.
fn leave(shared: Shared, wish: &Wish) -> Result<Shared, ShareError> {
    if *wish != Wish::default() {
        return refuse(
            "--cluster-ip, --primary-node, --standby-node and --sync belong to a pair: give them with master or slave",
        );
    }
    Ok(Shared { cluster_ip: None, ..shared })
}

#[cfg(test)]
mod tests {
    use ha_core::Role;
    use ha_core::distribution::Synch;

    use super::*;

    const FILE: &str = "HACLUSTERIP=10.77.0.100\nHAPRINODE=sark1\nHASECNODE=sark2\nHASYNCH=LOOSE\n";

    fn role(role: Role) -> RoleConfig {
        RoleConfig::new(role, "10.77.0.12").unwrap()
    }

    fn shared() -> Shared {
        Shared {
            cluster_ip: Some("10.77.0.100".parse().unwrap()),
            primary_node: "sark1".to_owned(),
            standby_node: "sark2".to_owned(),
            synch: Synch::Loose,
        }
    }

    #[test]
    fn what_is_not_told_is_as_the_file_has_it() {
        let wish = Wish::default();
        assert_eq!(share(Some(FILE), &wish, &role(Role::Master), "sark1"), Ok(shared()));
        assert_eq!(share(Some(FILE), &wish, &role(Role::Slave), "sark2"), Ok(shared()));
        let told = Wish {
            cluster_ip: Some("10.77.0.101".parse().unwrap()),
            primary_node: Some("a".to_owned()),
            standby_node: Some("b".to_owned()),
            sync: Some(Synch::Lazy),
        };
        let wanted = Shared {
            cluster_ip: told.cluster_ip,
            primary_node: "a".to_owned(),
            standby_node: "b".to_owned(),
            synch: Synch::Lazy,
        };
        for file in [Some(FILE), None] {
            assert_eq!(share(file, &told, &role(Role::Master), "a"), Ok(wanted.clone()));
        }
    }

    #[test]
    fn whoever_leaves_the_pair_gives_up_the_address() {
        let left = share(Some(FILE), &Wish::default(), &RoleConfig::Disabled, "whatever");
        assert_eq!(left, Ok(Shared { cluster_ip: None, ..shared() }));
        let told = Wish { sync: Some(Synch::Lazy), ..Wish::default() };
        let refusal = share(Some(FILE), &told, &RoleConfig::Disabled, "sark1").unwrap_err().to_string();
        assert!(refusal.contains("belong to a pair"), "{refusal}");
    }

    #[test]
    fn what_cannot_be_is_refused_with_both_names() {
        let told = |cluster_ip: &str, primary: &str, standby: &str| Wish {
            cluster_ip: (!cluster_ip.is_empty()).then(|| cluster_ip.parse().unwrap()),
            primary_node: Some(primary.to_owned()),
            standby_node: Some(standby.to_owned()),
            sync: None,
        };
        let good = "10.77.0.100";
        for (file, wish, to, says) in [
            (
                "",
                told("", "sark1", "sark2"),
                Role::Master,
                "--cluster-ip is missing, and HACLUSTERIP in /etc/asha.conf",
            ),
            ("", told("127.0.0.1", "sark1", "sark2"), Role::Master, "--cluster-ip 127.0.0.1: "),
            (
                "",
                told("10.77.0.12", "sark1", "sark2"),
                Role::Master,
                "--cluster-ip 10.77.0.12 is the other node's own",
            ),
            (
                "",
                told(good, "sark 1", "sark2"),
                Role::Master,
                "--primary-node \"sark 1\": write what `uname -n` says",
            ),
            ("", told(good, "x", "x"), Role::Master, "--primary-node and --standby-node are both x"),
            (
                "",
                told(good, "sark2", "sark3"),
                Role::Master,
                "this node's name (uname -n) is sark1, but the master's is to be sark2 (--primary-node, or HAPRINODE in",
            ),
            (
                "",
                told(good, "sark1", "sark2"),
                Role::Slave,
                "this node's name (uname -n) is sark1, but the slave's is to be sark2 (--standby-node, or HASECNODE in",
            ),
            (
                "HASYNCH=lazy",
                told(good, "sark1", "sark2"),
                Role::Master,
                "/etc/asha.conf: line 1: HASYNCH=lazy: write",
            ),
        ] {
            let refusal = share(Some(file), &wish, &role(to), "sark1").unwrap_err().to_string();
            assert!(refusal.starts_with(says), "{refusal}");
        }
    }
}
