use std::thread;

use crate::wait::seconds;
use crate::{Host, Lab, Pair, Product, Settings, lab};

/// What a pair is to have besides the layout, the commands and sshd of its nodes.
#[derive(Debug, Clone)]
#[must_use]
pub struct PairBuilder {
    product: Product,
    settings: Settings,
    database: Option<(u32, u32, &'static str)>,
    environment: Vec<(String, String)>,
    systemd: bool,
    configured: bool,
    daemons: bool,
    followers: bool,
}

impl PairBuilder {
    pub(crate) fn new(product: Product) -> PairBuilder {
        PairBuilder {
            product,
            settings: if product == Product::SARK { Settings::sark() } else { Settings::modern() },
            database: None,
            environment: Vec::new(),
            systemd: false,
            configured: true,
            daemons: true,
            followers: false,
        }
    }

    /// With these settings on both nodes.
    pub fn settings(mut self, settings: Settings) -> PairBuilder {
        self.settings = settings;
        self
    }

    /// With PostgreSQL and the distribution's database on both: so many users on the master, so many on the slave.
    pub fn database(mut self, master: u32, slave: u32) -> PairBuilder {
        self.database = Some((master, slave, "UTF8"));
        self
    }

    /// The same with another encoding of the slave's database.
    pub fn slave_encoding(mut self, encoding: &'static str) -> PairBuilder {
        self.database = self.database.map(|(master, slave, _)| (master, slave, encoding));
        self
    }

    /// With another directory under both nodes' root, as overlayfs spells it.
    pub fn lower(mut self, lower: &str) -> PairBuilder {
        for host in ["master", "slave"] {
            self.environment.push((format!("LAB_LOWER_{host}"), lower.to_owned()));
        }
        self
    }

    /// With systemd as the hosts' first process, which runs the daemon as the unit that it is on a real node.
    pub fn systemd(mut self) -> PairBuilder {
        self.environment.push(("LAB_INIT".to_owned(), "systemd".to_owned()));
        self.systemd = true;
        self
    }

    /// With [`Host::Cc`] and [`Host::Edge`] beside the pair: both nodes may log in there, and the settings name them and two
    /// media servers, `mds1` and `mds2`.
    pub fn followers(mut self) -> PairBuilder {
        self.followers = true;
        self
    }

    /// Roles are configured, but the daemon runs on neither.
    pub fn without_daemons(mut self) -> PairBuilder {
        self.daemons = false;
        self
    }

    /// No role is configured and no daemon runs.
    pub fn unconfigured(mut self) -> PairBuilder {
        self.configured = false;
        self.without_daemons()
    }

    /// Makes it; `None`, after saying why, on a machine where hosts cannot be made.
    pub fn up(mut self) -> Option<Pair> {
        if self.followers {
            self.settings = self.settings.followers();
        }
        let environment: Vec<(&str, &str)> =
            self.environment.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let pair = Pair { lab: Lab::with(&environment)?, product: self.product, systemd: self.systemd };
        thread::scope(|scope| {
            for host in [Host::Master, Host::Slave] {
                let (pair, this) = (&pair, &self);
                scope.spawn(move || this.prepare(pair, host));
            }
        });
        exchange_keys(&pair);
        if self.followers {
            add_followers(&pair);
        }
        if self.configured {
            pair.configure();
        }
        if self.daemons {
            pair.start_daemon(Host::Master);
            pair.start_daemon(Host::Slave);
            // Heartbeat needs 13 s for its first move, whatever its settings
            pair.await_peace(seconds(40.0));
        }
        Some(pair)
    }

    /// Makes the host a node with these settings.
    fn prepare(&self, pair: &Pair, host: Host) {
        let tool = |name: &str| lab::tools().join(name).display().to_string();
        let (product, program) = (self.product.name, lab::program(self.product).display().to_string());
        pair.lab.exec(host, &[&tool("node.sh"), product, &program]).ok();
        pair.write(host, "/etc/pbx-ha/pbx-ha.toml", &self.settings.clone().on(host).to_string());
        if self.systemd {
            let unit = format!("/etc/systemd/system/{}.service", self.product.program);
            pair.write(host, &unit, self.product.unit);
            pair.lab.exec(host, &["systemctl", "daemon-reload"]).ok();
        }
        if self.product == Product::SARK {
            pair.write(host, "/etc/pbx-ha/cluster.key", CLUSTER_KEY);
        }
        if let Some((master, slave, slave_encoding)) = self.database {
            let (users, encoding) =
                if host == Host::Master { (master, "UTF8") } else { (slave, slave_encoding) };
            pair.lab.exec(host, &[&tool("pg.sh"), product, &users.to_string(), encoding]).ok();
        }
    }
}

/// What the nodes of a pair with one address know each other by.
const CLUSTER_KEY: &str = "6c61622d6f6e6c792d6b65792d6f662d6e6f2d75736520616e79776865726521\n";

/// Where `followers gate` wants what it prints.
const GATE: &str = "/usr/local/sbin/pbx-ha-gate";

/// What `sync-key` leaves: each node's key at the other, restricted to the agent, and both host keys known.
fn exchange_keys(pair: &Pair) {
    let own = |host: Host| {
        let script = "ssh-keygen -q -t ed25519 -N '' -C 'pbx-ha' -f /root/.ssh/xivo_id_rsa
                cat /root/.ssh/xivo_id_rsa.pub; cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub";
        let text = pair.lab.sh(host, script).ok();
        let mut lines = text.lines().map(str::to_owned);
        (lines.next().expect("a key"), lines.next().expect("a host key"))
    };
    for host in [Host::Master, Host::Slave] {
        let (key, host_key) = own(host.peer());
        let from = host.peer().address();
        let agent = format!("/usr/bin/{} agent", pair.product.program);
        let line = format!("restrict,command=\"{agent}\",from=\"{from}\" {key}\n");
        pair.write(host, "/root/.ssh/authorized_keys", &line);
        pair.write(host, "/root/.ssh/known_hosts", &format!("{from} {host_key}\n"));
    }
}

/// Boots the hosts beside the pair; each lets both nodes in, to the runbook's commands only, and both nodes know its host
/// key.
fn add_followers(pair: &Pair) {
    for (host, name, addresses) in
        [(Host::Cc, "cc", "10.77.0.21 10.77.0.22"), (Host::Edge, "edge", "10.77.0.31")]
    {
        pair.lab.boot(host);
        pair.lab.exec(host, &[&lab::tools().join("follower.sh").display().to_string()]).ok();
        // as an administrator does it: what the one prints goes to the other
        let gate = pair.ha(Host::Master, &format!("followers gate {name}")).ok();
        pair.write(host, GATE, &gate);
        pair.lab.sh(host, &format!("chmod 755 {GATE}")).ok();
        let key = |node| pair.ha(node, &format!("followers key {name}")).ok();
        pair.write(host, "/root/.ssh/authorized_keys", &[key(Host::Master), key(Host::Slave)].concat());
        let host_key = pair.lab.sh(host, "cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub").ok();
        let host_key = host_key.trim();
        for node in [Host::Master, Host::Slave] {
            let learn =
                format!("for a in {addresses}; do echo \"$a {host_key}\"; done >> /root/.ssh/known_hosts");
            pair.lab.sh(node, &learn).ok();
        }
    }
}
