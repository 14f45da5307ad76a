use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use ha_adapters_wazo::PROFILE;
use ha_tests::wait::{self, seconds};
use ha_tests::{Host, Lab, Pair, Settings};

use crate::data;
use crate::engine::Part;
use crate::scale::Scale;
use crate::sql::Sql;

/// Both nodes of a pair in the lab, with the data whose replication is measured.
pub(crate) struct Stage {
    /// The hosts.
    pub(crate) pair: Pair,
    /// The master's database.
    pub(crate) master: Sql,
    /// The slave's database.
    pub(crate) slave: Sql,
    /// How much data there is.
    pub(crate) scale: Scale,
    daemons: Daemons,
    turns: AtomicU32,
}

/// What the daemons do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Daemons {
    /// None runs: what a verb needs, it opens itself.
    Stopped,
    /// They replicate when a verb asks for it, and have done so once.
    OnRequest,
    /// They replicate by themselves when something changed.
    OnChange,
}

/// Where the small files are: voicemail is not in Wazo's own list, an operator adds it.
pub(crate) const VOICEMAIL: &str = "/var/spool/asterisk/voicemail";

impl Stage {
    /// Makes the pair and its data, the slave's files and rows still to come; `None`, after saying why, on a machine
    /// where hosts cannot be made.
    pub(crate) fn up(scale: Scale) -> Option<Stage> {
        // the slave's schema is of a release before anything is copied
        let pair = Pair::wazo().settings(settings()).database(0, 1).without_daemons().up()?;
        for host in [Host::Master, Host::Slave] {
            pair.lab.sh(host, OPEN_DATABASE).ok();
            pair.lab.sh(host, &format!("mkdir -p {VOICEMAIL}")).ok();
        }
        allow_rsync(&pair);
        let (master, slave) = (Sql::open(&pair.lab, Host::Master), Sql::open(&pair.lab, Host::Slave));
        let stage = Stage { pair, master, slave, scale, daemons: Daemons::Stopped, turns: AtomicU32::new(0) };
        // what stays where it was made, and rsync is not told so here
        stage.pair.lab.sh(Host::Master, "rm -rf /var/lib/wazo/sounds/tenants/*/{recording,monitor}*").ok();
        data::write_files(&stage);
        data::load_rows(&stage);
        Some(stage)
    }

    /// The hosts.
    pub(crate) fn lab(&self) -> &Lab {
        &self.pair.lab
    }

    /// Another number each time, so that no change is like one before.
    pub(crate) fn turn(&self) -> u32 {
        self.turns.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A path of a host, as seen from here.
    pub(crate) fn path(&self, host: Host, path: &str) -> PathBuf {
        self.lab().root(host).join(path.trim_start_matches('/'))
    }

    /// Has the daemons do that, however they were before.
    pub(crate) fn daemons(&mut self, wanted: Daemons) {
        if self.daemons == wanted {
            return;
        }
        if self.daemons != Daemons::Stopped {
            for host in [Host::Master, Host::Slave] {
                self.pair.signal_daemon(host, "TERM");
                let gone = || (!self.pair.daemon_runs(host)).then_some(());
                wait::until("the daemon has ended", seconds(20.0), gone);
            }
        }
        let on_change = wanted == Daemons::OnChange;
        let settings = settings().with("replication", "on_change", &on_change.to_string());
        for host in [Host::Master, Host::Slave] {
            self.pair.write(host, "/etc/pbx-ha/pbx-ha.toml", &settings.to_string());
        }
        if wanted != Daemons::Stopped {
            self.pair.start_daemon(Host::Master);
            self.pair.start_daemon(Host::Slave);
            self.pair.await_peace(seconds(20.0));
            // what the daemon keeps for the next time, it has from the first
            self.pair.ha(Host::Master, "replicate").ok();
        }
        self.daemons = wanted;
    }

    /// Without daemons and with them, beginning with how it is.
    pub(crate) fn both_ways(&self) -> [Daemons; 2] {
        match self.daemons {
            Daemons::Stopped | Daemons::OnChange => [Daemons::Stopped, Daemons::OnRequest],
            Daemons::OnRequest => [Daemons::OnRequest, Daemons::Stopped],
        }
    }

    /// Leaves the slave as it would be long after a replication: a table that was just loaded is slow for its first
    /// readers, whoever they are.
    pub(crate) fn settle(&self, part: Part) {
        match part {
            Part::Database => drop(self.slave.run("VACUUM (ANALYZE)")),
            Part::Files => {}
        }
    }

    /// The trees that are replicated and that the master has.
    pub(crate) fn trees(&self) -> Vec<&'static str> {
        let all = PROFILE.datasets.iter().map(|dataset| dataset.root).chain([VOICEMAIL]);
        all.filter(|tree| self.path(Host::Master, tree).is_dir()).collect()
    }
}

/// Without a schedule; on change is another line.
fn settings() -> Settings {
    Settings::modern().with("replication", "extra_files", &format!("[\"{VOICEMAIL}\"]"))
}

/// The slave's superuser without a password for the master, as Wazo's script wants it, and a socket to look at both
/// databases from outside. Nothing is vacuumed while one side happens to be measured: see [`Stage::settle`].
const OPEN_DATABASE: &str = r#"set -eu
    version=$(ls /etc/postgresql); conf=/etc/postgresql/$version/main
    install -d -o postgres -g postgres -m 700 /run/lab/pg
    printf "listen_addresses = '*'\nunix_socket_directories = '/run/postgresql,/run/lab/pg'\nautovacuum = off\n" > $conf/conf.d/figures.conf
    rules=$(cat $conf/pg_hba.conf)
    printf 'local all postgres trust\nhost asterisk postgres 10.77.0.11/32 trust\n%s\n' "$rules" > $conf/pg_hba.conf
    pg_ctlcluster --skip-systemctl-redirect $version main restart"#;

/// The key of the pair opens the agent only; rsync has one that opens a shell, as `wazo-sync` wants it.
fn allow_rsync(pair: &Pair) {
    let make = "ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/rsync; cat /root/.ssh/rsync.pub";
    let key = pair.lab.sh(Host::Master, make).ok();
    pair.lab.sh(Host::Slave, &format!("echo '{}' >> /root/.ssh/authorized_keys", key.trim())).ok();
}
