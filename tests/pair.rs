use std::fs;
use std::time::Duration;

use crate::wait::{self, seconds};
use crate::{Event, Host, Lab, Moment, PairBuilder, Product, Ran, Status, lab, sip};

/// A master and slave in a lab, with the program under test on both.
#[derive(Debug)]
pub struct Pair {
    /// The hosts, to break them.
    pub lab: Lab,
    /// What the nodes are of.
    pub product: Product,
    /// The daemon is a unit of theirs.
    pub(crate) systemd: bool,
}

impl Pair {
    /// A pair in peace: master serving, slave standing by, a daemon on both that has heard the other.
    pub fn of(product: Product) -> PairBuilder {
        PairBuilder::new(product)
    }

    /// The same of Wazo, for what is no matter of the distribution.
    pub fn wazo() -> PairBuilder {
        Pair::of(Product::WAZO)
    }

    /// The same of XiVO.
    pub fn xivo() -> PairBuilder {
        Pair::of(Product::XIVO)
    }

    /// The same of SARK, whose nodes share an address.
    pub fn sark() -> PairBuilder {
        Pair::of(Product::SARK)
    }

    /// Configures both roles, the slave first.
    pub fn configure(&self) {
        for (host, role) in [(Host::Slave, "slave"), (Host::Master, "master")] {
            let (remote, more) = (host.peer().address(), self.product.configure);
            self.ha(host, &format!("configure {role} --remote {remote} {more}")).ok();
        }
    }

    /// Writes a file in the host, from the outside; its folder is made.
    pub fn write(&self, host: Host, path: &str, text: &str) {
        let staged = self.lab.mailbox(host, "staged");
        fs::write(&staged, text).expect("the mailbox can be written");
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        self.lab.sh(host, &format!("umask 077; mkdir -p {folder}/; cat /run/lab/staged > {path}")).ok();
    }

    /// Runs the program under test in the host; `arguments` are split by the shell.
    pub fn ha(&self, host: Host, arguments: &str) -> Ran {
        self.lab.sh(host, &format!("exec /usr/bin/{} {arguments} </dev/null", self.product.program))
    }

    /// Runs the distribution's own service command in the host, as a person would.
    pub fn service(&self, host: Host, arguments: &str) -> Ran {
        self.lab.sh(host, &format!("{} {arguments}", self.product.service))
    }

    /// From now on every call of that command in the host runs this script first, which may end it.
    pub fn on_call(&self, host: Host, command: &str, script: &str) {
        self.write(host, &format!("/run/lab/on/{command}"), script);
    }

    /// The end of it.
    pub fn no_longer_on_call(&self, host: Host, command: &str) {
        self.lab.sh(host, &format!("rm /run/lab/on/{command}")).ok();
    }

    /// What the program says about the node; `None` when it does not answer with a document.
    pub fn try_status(&self, host: Host) -> Option<Status> {
        Status::parse(&self.ha(host, "status --json").stdout)
    }

    /// What the program says about the node.
    #[track_caller]
    pub fn status(&self, host: Host) -> Status {
        let ran = self.ha(host, "status --json").exits(0);
        Status::parse(&ran.stdout).unwrap_or_else(|| panic!("not a JSON document: {}", ran.stdout))
    }

    /// Waits for a status that is as wanted.
    #[track_caller]
    pub fn await_status(
        &self,
        host: Host,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Status) -> bool,
    ) -> Status {
        match wait::within(limit, || self.try_status(host).filter(&wanted)) {
            Some(status) => status,
            None => panic!(
                "{host} is not {what} within {limit:?}: {:?}\n{}",
                self.try_status(host),
                self.daemon_log(host)
            ),
        }
    }

    /// Waits until the master serves, the slave stands by, and the slave has heard the master on both rungs.
    #[track_caller]
    pub fn await_peace(&self, limit: Duration) {
        self.await_status(Host::Slave, "standing by for a master that is up", limit, |status| {
            status.peer() == "up" && status.services() == "stopped" && !status.active()
        });
        self.await_status(Host::Master, "serving", limit, |status| {
            status.services() == "running" && status.active()
        });
    }

    /// Starts the daemon in the host, by its unit or with its environment; then its log goes to the mailbox.
    pub fn start_daemon(&self, host: Host) {
        if self.systemd {
            self.lab.exec(host, &["systemctl", "start", self.product.program]).ok();
            return;
        }
        let environment = self.product.unit.lines().find_map(|line| line.strip_prefix("Environment="));
        let environment = environment.expect("the unit sets one");
        let program = self.product.program;
        let run =
            format!("{environment} setsid /usr/bin/{program} run </dev/null >>/run/lab/daemon.log 2>&1");
        self.lab.sh(host, &format!("cd /; {run} & echo $! >/run/lab/daemon.pid")).ok();
        self.await_status(host, "known to its daemon", seconds(10.0), |_| self.daemon_runs(host));
    }

    /// Sends the daemon a signal, by name.
    pub fn signal_daemon(&self, host: Host, signal: &str) {
        if self.systemd {
            let argv = ["systemctl", "kill", "--kill-who=main", "-s", signal, self.product.program];
            self.lab.exec(host, &argv).ok();
            return;
        }
        self.lab.sh(host, &format!("kill -{signal} $(cat /run/lab/daemon.pid)")).ok();
    }

    /// Kills the daemon and waits until it is gone.
    pub fn kill_daemon(&self, host: Host) {
        self.signal_daemon(host, "KILL");
        wait::until("the killed daemon is gone", seconds(5.0), || (!self.daemon_runs(host)).then_some(()));
    }

    /// What the unit has systemd run after the daemon has ended, however it did.
    pub fn clear_up_after_daemon(&self, host: Host) -> Vec<Ran> {
        let lines = self.product.unit.lines().filter_map(|line| line.strip_prefix("ExecStopPost="));
        lines.map(|line| self.lab.sh(host, line.strip_prefix('-').unwrap_or(line))).collect()
    }

    /// Whether the daemon's process exists.
    pub fn daemon_runs(&self, host: Host) -> bool {
        if self.systemd {
            return self.lab.exec(host, &["systemctl", "is-active", self.product.program]).succeeded();
        }
        self.lab.sh(host, "kill -0 $(cat /run/lab/daemon.pid)").succeeded()
    }

    /// The end of the daemon's log, for messages.
    pub fn daemon_log(&self, host: Host) -> String {
        if self.systemd {
            let journal = format!("journalctl --no-pager -o short-precise -n 40 -u {}", self.product.program);
            return self.lab.sh(host, &journal).stdout;
        }
        let text = fs::read_to_string(self.lab.mailbox(host, "daemon.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Powers the host on; sshd, PostgreSQL and telephony (unless disabled) start as at boot, the daemon does not.
    pub fn power_on(&self, host: Host) -> Moment {
        let begin = self.lab.boot(host);
        self.lab.exec(host, &[&lab::tools().join("up.sh").display().to_string(), self.product.name]).ok();
        begin
    }

    /// Powers the host on with everything that starts at boot.
    pub fn boot(&self, host: Host) -> Moment {
        let begin = self.power_on(host);
        self.start_daemon(host);
        begin
    }

    /// Every call of a command that the lab stands for, oldest first.
    pub fn calls(&self, host: Host) -> Vec<Event> {
        self.lab.events(host, "calls.log")
    }

    /// The calls after `since` that start, stop, enable or disable telephony.
    pub fn acts(&self, host: Host, since: Moment) -> Vec<Event> {
        self.calls(host).into_iter().filter(|call| call.at > since && call.acts_on_telephony()).collect()
    }

    /// The calls after `since` that start telephony: the stop sequence too ends with a `start`, of what may run beside
    /// the `disabled` file, so only a start that follows an `enable` counts.
    pub fn starts(&self, host: Host, since: Moment) -> Vec<Event> {
        let mut enabled = false;
        let mut starts = Vec::new();
        for call in self.calls(host).into_iter().filter(Event::acts_on_telephony) {
            match call.rest.split(' ').next() {
                Some("enable") => enabled = true,
                Some("disable") => enabled = false,
                // a unit of SARK's has no file that keeps it from starting
                Some("start") if (enabled || call.name == "systemctl") && call.at > since => {
                    starts.push(call)
                }
                _ => {}
            }
        }
        starts
    }

    /// The calls that stop telephony after `since`.
    pub fn stops(&self, host: Host, since: Moment) -> Vec<Event> {
        self.acts(host, since).into_iter().filter(|call| call.rest.starts_with("stop")).collect()
    }

    /// Waits for the first call of the start command after `since`.
    #[track_caller]
    pub fn await_start(&self, host: Host, since: Moment, limit: Duration) -> Event {
        match wait::within(limit, || self.starts(host, since).into_iter().next()) {
            Some(event) => event,
            None => panic!("{host} called no start within {limit:?}\n{}", self.daemon_log(host)),
        }
    }

    /// Waits for the first call that stops telephony after `since`.
    #[track_caller]
    pub fn await_stop(&self, host: Host, since: Moment, limit: Duration) -> Event {
        match wait::within(limit, || self.stops(host, since).into_iter().next()) {
            Some(event) => event,
            None => panic!("{host} called no stop within {limit:?}\n{}", self.daemon_log(host)),
        }
    }

    /// Panics when anything acted on telephony in the host after `since`.
    #[track_caller]
    pub fn assert_untouched(&self, host: Host, since: Moment) {
        let acts = self.acts(host, since);
        assert!(acts.is_empty(), "{host} acted on telephony: {acts:?}\n{}", self.daemon_log(host));
    }

    /// Whether the node answers SIP OPTIONS, asked from the client.
    pub fn answers(&self, host: Host) -> bool {
        sip::answers(&self.lab, host)
    }

    /// Waits until exactly these nodes answer SIP OPTIONS.
    #[track_caller]
    pub fn await_serving(&self, hosts: &[Host], limit: Duration) {
        let what = format!("served by {hosts:?}");
        wait::until(&what, limit, || {
            [Host::Master, Host::Slave]
                .iter()
                .all(|host| self.answers(*host) == hosts.contains(host))
                .then_some(())
        });
    }

    /// Runs SQL in the node's database and returns what `psql -At` prints.
    #[track_caller]
    pub fn sql(&self, host: Host, sql: &str) -> String {
        self.write(host, "/run/lab/query.sql", sql);
        let psql = "cd /; setpriv --reuid postgres --regid postgres --init-groups psql -X -At -v ON_ERROR_STOP=1 asterisk";
        self.lab.sh(host, &format!("{psql} < /run/lab/query.sql")).ok()
    }

    /// The mails that were sent in the host.
    pub fn mails(&self, host: Host) -> String {
        fs::read_to_string(self.lab.mailbox(host, "mail")).unwrap_or_default()
    }
}
