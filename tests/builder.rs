use std::thread;

use crate::wait::seconds;
use crate::{Host, Lab, Pair, Settings, lab};

/// What a pair is to have besides the layout, the commands and sshd of a Wazo host.
#[derive(Debug, Clone)]
#[must_use]
pub struct PairBuilder {
    settings: Settings,
    database: Option<(u32, u32, &'static str)>,
    lower: Vec<(String, String)>,
    configured: bool,
    daemons: bool,
}

impl PairBuilder {
    pub(crate) fn new() -> PairBuilder {
        let settings = Settings::modern();
        PairBuilder { settings, database: None, lower: Vec::new(), configured: true, daemons: true }
    }

    /// With these settings on both nodes.
    pub fn settings(mut self, settings: Settings) -> PairBuilder {
        self.settings = settings;
        self
    }

    /// With PostgreSQL and a Wazo database on both: so many users on the master, so many on the slave.
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
            self.lower.push((format!("LAB_LOWER_{host}"), lower.to_owned()));
        }
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
    pub fn up(self) -> Option<Pair> {
        let lower: Vec<(&str, &str)> =
            self.lower.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let pair = Pair { lab: Lab::with(&lower)? };
        thread::scope(|scope| {
            for host in [Host::Master, Host::Slave] {
                let (pair, this) = (&pair, &self);
                scope.spawn(move || this.prepare(pair, host));
            }
        });
        exchange_keys(&pair);
        if self.configured {
            pair.configure();
        }
        if self.daemons {
            pair.start_daemon(Host::Master);
            pair.start_daemon(Host::Slave);
            pair.await_peace(seconds(20.0));
        }
        Some(pair)
    }

    /// Makes the host a Wazo node with these settings.
    fn prepare(&self, pair: &Pair, host: Host) {
        let tool = |name: &str| lab::tools().join(name).display().to_string();
        pair.lab.exec(host, &[&tool("node.sh"), &lab::program().display().to_string()]).ok();
        pair.write(host, "/etc/pbx-ha/pbx-ha.toml", &self.settings.to_string());
        if let Some((master, slave, slave_encoding)) = self.database {
            let (users, encoding) =
                if host == Host::Master { (master, "UTF8") } else { (slave, slave_encoding) };
            pair.lab.exec(host, &[&tool("pg.sh"), &users.to_string(), encoding]).ok();
        }
    }
}

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
        let line = format!("restrict,command=\"/usr/bin/wazo-ha agent\",from=\"{from}\" {key}\n");
        pair.write(host, "/root/.ssh/authorized_keys", &line);
        pair.write(host, "/root/.ssh/known_hosts", &format!("{from} {host_key}\n"));
    }
}
