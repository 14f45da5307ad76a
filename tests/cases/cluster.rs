//! What moves the address between the nodes: Debian's packages, each as it is usually set up.

use std::time::Duration;

use ha_tests::{Host, Lab, Product, Settings, VIP, program};

/// An engine of a pair with one address, as the comparison drives it. Telephony is Asterisk's stand-in, under the unit's
/// name: whatever gets the address starts it, whatever loses it stops it.
pub(crate) trait Engine: Sync {
    /// Its name and its settings, for the table.
    fn name(&self) -> String;

    /// What must be there: program and Debian package.
    fn program(&self) -> (&'static str, &'static str);

    /// The longest that it may need to see that the other node is dead, by its own settings.
    fn notices_within(&self) -> Duration;

    /// Whether it promises that two nodes never answer.
    fn is_exclusive(&self) -> bool {
        false
    }

    /// Writes its configuration; the host is a node of SARK's already.
    fn install(&self, lab: &Lab, host: Host);

    /// As at boot.
    fn start(&self, lab: &Lab, host: Host);

    /// As before an upgrade.
    fn stop(&self, lab: &Lab, host: Host);

    /// Its planned way from the active node to the other one.
    fn switchover(&self, lab: &Lab, from: Host);

    /// Prints the process ids of all that the engine itself is made of; a line of shell.
    fn processes(&self) -> &'static str;

    /// SIGKILL.
    fn kill(&self, lab: &Lab, host: Host) {
        self.signal(lab, host, "KILL");
    }

    /// SIGSTOP.
    fn freeze(&self, lab: &Lab, host: Host) {
        self.signal(lab, host, "STOP");
    }

    /// SIGCONT.
    fn thaw(&self, lab: &Lab, host: Host) {
        self.signal(lab, host, "CONT");
    }

    #[doc(hidden)]
    fn signal(&self, lab: &Lab, host: Host, signal: &str) {
        lab.sh(host, &format!("kill -{signal} $({})", self.processes())).ok();
    }
}

/// Linux-HA's Heartbeat 3 with `haresources`, as SARK's page sets it up: broadcast on the network of the phones.
pub(crate) struct Heartbeat {
    pub(crate) keepalive: Duration,
    pub(crate) deadtime: Duration,
}

impl Engine for Heartbeat {
    fn name(&self) -> String {
        format!("heartbeat {:?}/{:?}", self.keepalive, self.deadtime)
    }

    fn program(&self) -> (&'static str, &'static str) {
        ("/usr/libexec/heartbeat/heartbeat", "heartbeat")
    }

    fn notices_within(&self) -> Duration {
        self.deadtime + 2 * self.keepalive
    }

    fn install(&self, lab: &Lab, host: Host) {
        let (keepalive, deadtime) = (self.keepalive.as_millis(), self.deadtime.as_millis());
        let (warntime, initdead) = (deadtime / 2, (2 * deadtime).max(5000));
        // the order of the first lines matters to it
        let script = format!(
            r#"mkdir -p /etc/ha.d/resource.d /run/resource-agents
            install -d -o hacluster -g haclient -m 750 /run/heartbeat /run/heartbeat/ccm
            printf '%s\n' 'logfile /var/log/ha-log' 'udpport 694' 'keepalive {keepalive}ms' 'warntime {warntime}ms' \
                'deadtime {deadtime}ms' 'initdead {initdead}ms' 'bcast eth0' 'auto_failback off' \
                'node master' 'node slave' > /etc/ha.d/ha.cf
            umask 077; printf 'auth 1\n1 sha1 labsecret\n' > /etc/ha.d/authkeys; umask 022
            echo 'master IPaddr2::{VIP}/24/eth0 asterisk' > /etc/ha.d/haresources
            cat > /etc/ha.d/resource.d/asterisk <<'EOF'
#!/bin/sh
case $1 in
  start) systemctl start asterisk && asterisk -rx 'core waitfullybooted';;
  stop) systemctl stop asterisk;;
  status) if systemctl is-active asterisk >/dev/null; then echo running; else echo stopped; exit 3; fi;;
esac
EOF
            chmod 755 /etc/ha.d/resource.d/asterisk"#
        );
        lab.sh(host, &script).ok();
    }

    fn start(&self, lab: &Lab, host: Host) {
        lab.exec(host, &[self.program().0]).ok();
    }

    fn stop(&self, lab: &Lab, host: Host) {
        lab.exec(host, &[self.program().0, "-k"]).ok();
    }

    fn switchover(&self, lab: &Lab, from: Host) {
        lab.exec(from, &["/usr/share/heartbeat/hb_standby"]).ok();
    }

    fn processes(&self) -> &'static str {
        "pgrep -f '^heartbeat: '"
    }
}

/// VRRP by keepalived: the primary has the higher priority.
pub(crate) struct Keepalived {
    pub(crate) advert: Duration,
}

impl Engine for Keepalived {
    fn name(&self) -> String {
        format!("keepalived {:?}", self.advert)
    }

    fn program(&self) -> (&'static str, &'static str) {
        ("/usr/sbin/keepalived", "keepalived")
    }

    fn notices_within(&self) -> Duration {
        // three adverts and the skew of the lower priority
        4 * self.advert
    }

    fn install(&self, lab: &Lab, host: Host) {
        let (advert, priority) = (self.advert.as_secs_f64(), if host == Host::Master { 150 } else { 100 });
        let script = format!(
            r#"mkdir -p /etc/keepalived
            cat > /etc/keepalived/keepalived.conf <<'EOF'
global_defs {{
  router_id {host}
  script_user root
  enable_script_security
}}
vrrp_instance PBX {{
  state BACKUP
  version 3
  interface eth0
  virtual_router_id 51
  priority {priority}
  advert_int {advert}
  virtual_ipaddress {{
    {VIP}/24 dev eth0
  }}
  notify /usr/local/sbin/pbx-notify
}}
EOF
            cat > /usr/local/sbin/pbx-notify <<'EOF'
#!/bin/sh
# INSTANCE name STATE priority
case $3 in
  MASTER) systemctl start asterisk;;
  *) systemctl stop asterisk;;
esac
EOF
            chmod 755 /usr/local/sbin/pbx-notify; keepalived -t"#
        );
        lab.sh(host, &script).ok();
    }

    fn start(&self, lab: &Lab, host: Host) {
        lab.exec(host, &[self.program().0]).ok();
    }

    fn stop(&self, lab: &Lab, host: Host) {
        // its own notify script is not told of the end
        lab.sh(host, "kill $(cat /run/keepalived.pid); systemctl stop asterisk").ok();
    }

    /// It has no command for this: one stops it on the active node.
    fn switchover(&self, lab: &Lab, from: Host) {
        self.stop(lab, from);
    }

    fn processes(&self) -> &'static str {
        "p=$(cat /run/keepalived.pid); echo $p; pgrep -P $p"
    }
}

/// The program under test, with its own cluster.
pub(crate) struct Native {
    pub(crate) name: &'static str,
    pub(crate) settings: Settings,
    /// Lease, margin and a beat.
    pub(crate) notices_within: Duration,
}

impl Native {
    pub(crate) fn default_terms() -> Native {
        let notices_within = Duration::from_millis(1600);
        Native { name: "sark-ha 1s/500ms/100ms", settings: Settings::sark(), notices_within }
    }

    pub(crate) fn fast_terms() -> Native {
        let notices_within = Duration::from_millis(500);
        let settings = Settings::sark().fast_lease();
        Native { name: "sark-ha 300ms/150ms/50ms", settings, notices_within }
    }
}

impl Engine for Native {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn program(&self) -> (&'static str, &'static str) {
        ("/usr/sbin/nft", "nftables")
    }

    fn notices_within(&self) -> Duration {
        self.notices_within
    }

    fn is_exclusive(&self) -> bool {
        true
    }

    fn install(&self, lab: &Lab, host: Host) {
        let (settings, program) = (self.settings.clone().on(host), program(Product::SARK));
        let role = if host == Host::Master { "master" } else { "slave" };
        let (program, peer, options) = (program.display(), host.peer().address(), Product::SARK.configure);
        let script = format!(
            r#"ln -sf {program} /usr/bin/sark-ha; umask 077; mkdir -p /etc/pbx-ha
            cat > /etc/pbx-ha/pbx-ha.toml <<'EOF'
{settings}
EOF
            echo 6c61622d6f6e6c792d6b65792d6f662d6e6f2d75736520616e79776865726521 > /etc/pbx-ha/cluster.key
            umask 022; sark-ha configure {role} --remote {peer} {options}"#
        );
        lab.sh(host, &script).ok();
    }

    fn start(&self, lab: &Lab, host: Host) {
        let run = "setsid sark-ha run </dev/null >>/run/lab/daemon.log 2>&1 & echo $! >/run/lab/daemon.pid";
        lab.sh(host, &format!("cd /; {run}")).ok();
    }

    fn stop(&self, lab: &Lab, host: Host) {
        self.signal(lab, host, "TERM");
    }

    fn switchover(&self, lab: &Lab, from: Host) {
        lab.exec(from, &["sark-ha", "switchover"]).ok();
    }

    fn processes(&self) -> &'static str {
        "cat /run/lab/daemon.pid"
    }
}
