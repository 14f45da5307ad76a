//! A real Asterisk on both nodes, and phones that register at the master and know the slave.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use ha_tests::wait::{self, seconds};
use ha_tests::{Event, Host, Lab, Moment, Pair};

/// Phones that re-register, each every two seconds.
const PHONES: usize = 10;

/// An unpacked Asterisk 16 on a file system of its own, to lie under the hosts' root.
pub(crate) struct AsteriskRoot(PathBuf);

impl AsteriskRoot {
    /// Unpacks it; `None`, after saying why, where there are no hosts, no phones, or the archive no longer has it.
    pub(crate) fn unpack() -> Option<AsteriskRoot> {
        if !ha_tests::ready() {
            return None;
        }
        for (program, package) in [("/usr/bin/mmdebstrap", "mmdebstrap"), ("/usr/bin/sipp", "sip-tester")] {
            if !Path::new(program).exists() {
                ha_tests::skip(&format!("{program} is missing (package {package})"));
                return None;
            }
        }
        let root = AsteriskRoot(env::temp_dir().join(format!("ha-asterisk-{}", std::process::id())));
        let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/pbxroot.sh");
        let output = Command::new(tool).arg(&root.0).output().expect("bash is installed");
        if output.status.success() {
            return Some(root);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        ha_tests::skip_allowed(&format!("Asterisk 16 of Debian 11 is not to be had: {}", said.trim()));
        None
    }

    pub(crate) fn lower(&self) -> String {
        format!("/:{}", self.0.join("root").display())
    }
}

impl Drop for AsteriskRoot {
    fn drop(&mut self) {
        // a lab that is still on its way down may hold it for a moment; a lazy unmount waits for that by itself
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
        let _ = fs::remove_dir(&self.0);
    }
}

/// Phones, which end with this.
pub(crate) struct Phones(Child);

impl Drop for Phones {
    fn drop(&mut self) {
        // sipp is a child of `timeout`, which hands on what can be heard
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// Phones that do what the scenario says, one after the other and so many a second, for a quarter of an hour at
/// most; what they say of it is in the client's mailbox, in `log`.
pub(crate) fn phones(
    lab: &Lab,
    to: Ipv4Addr,
    scenario: &str,
    rate: usize,
    log: &str,
    more: &[&str],
) -> Phones {
    let csv = lab.mailbox(Host::Client, "phones.csv");
    let phones =
        (1000..1000 + PHONES).map(|phone| format!("{phone};[authentication username={phone} password=pw]\n"));
    fs::write(&csv, format!("SEQUENTIAL\n{}", phones.collect::<String>()))
        .expect("the mailbox can be written");
    let scenario = format!("{}/lab/{scenario}", env!("CARGO_MANIFEST_DIR"));
    let (csv, log) = (csv.display().to_string(), lab.mailbox(Host::Client, log).display().to_string());
    let (to, own, rate) = (to.to_string(), Host::Client.address().to_string(), rate.to_string());
    let begin = ["timeout", "-k", "1", "900", "sipp", &to, "-sf", &scenario, "-inf", &csv, "-i", &own];
    let rest = ["-l", "2000", "-r", &rate, "-m", "100000", "-trace_logs", "-log_file", &log, "-nd"];
    Phones(lab.spawn_in_network(Host::Client, &[&begin, more, &rest].concat()))
}

/// What the phones have said: when, which phone, and a word.
pub(crate) fn said(lab: &Lab, log: &str) -> Vec<Event> {
    let text = fs::read_to_string(lab.mailbox(Host::Client, log)).unwrap_or_default();
    let events = text.lines().filter_map(|line| {
        // sipp writes date, time and seconds apart by tabs, then our words
        let words: Vec<&str> = line.split_whitespace().collect();
        let [.., seconds, phone, word] = words.as_slice() else { return None };
        Event::parse(&format!("{seconds} {phone} {word}"))
    });
    events.collect()
}

/// Where each phone was last registered: `primary`, `backup` or `none`.
fn registrations(lab: &Lab, since: Moment) -> BTreeMap<String, String> {
    let events = said(lab, "phone.log").into_iter();
    events.filter(|event| event.at > since).map(|event| (event.name, event.rest)).collect()
}

fn all_at(pair: &Pair, since: Moment, place: &str) -> Option<()> {
    let phones = registrations(&pair.lab, since);
    (phones.len() == PHONES && phones.values().all(|at| at == place)).then_some(())
}

#[test]
fn phones_of_a_real_asterisk_move_to_the_slave_and_back() {
    let Some(root) = AsteriskRoot::unpack() else { return };
    let Some(pair) = Pair::wazo().lower(&root.lower()).without_daemons().up() else { return };
    let setup = concat!(env!("CARGO_MANIFEST_DIR"), "/lab/ast-setup.sh");
    for host in [Host::Master, Host::Slave] {
        pair.lab
            .sh(
                host,
                &format!(
                    "wazo-service stop; {setup} {PHONES}; touch /run/lab/real-asterisk; wazo-service start"
                ),
            )
            .ok();
        pair.start_daemon(host);
    }
    pair.await_peace(seconds(30.0));
    let uptime = pair.lab.sh(Host::Master, "timeout -s KILL 5 asterisk -rx 'core show version'").ok();
    assert!(uptime.contains("Asterisk 16"), "{uptime}");

    let begin = Moment::now();
    let places = ["-key", "primary", "10.77.0.11", "-key", "backup", "10.77.0.12", "-key", "expires", "60"];
    let sipp = phones(&pair.lab, Host::Master.address(), "phone.xml", PHONES / 2, "phone.log", &places);
    wait::until("all phones are at the master", seconds(20.0), || all_at(&pair, begin, "primary"));

    let crash = pair.lab.crash(Host::Master);
    pair.await_start(Host::Slave, crash, seconds(12.0));
    wait::until("all phones are at the slave", seconds(30.0), || all_at(&pair, crash, "backup"));
    println!("from the crash to the last phone at the slave: {:?}", Moment::now().after(crash));

    let boot = pair.boot(Host::Master);
    pair.await_stop(Host::Slave, boot, seconds(60.0));
    let handed_back = Moment::now();
    wait::until("all phones are at the master again", seconds(30.0), || {
        all_at(&pair, handed_back, "primary")
    });
    pair.await_peace(seconds(20.0));
    drop(sipp);
}
