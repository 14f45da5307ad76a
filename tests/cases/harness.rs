//! The lab itself: hosts, faults, commands that stand for a distribution's, sshd, PostgreSQL, the hosts beside a pair.

use std::fs;
use std::process::Command;

use ha_tests::wait::{self, pass, seconds};
use ha_tests::{Event, Host, Lab, Moment, Pair, Product, SipWatch};

use crate::{commit, database, journal};

fn pings(lab: &Lab, from: Host, to: Host) -> bool {
    lab.exec(from, &["ping", "-q", "-c", "1", "-W", "1", &to.address().to_string()]).succeeded()
}

#[test]
fn every_fault_does_what_it_says_and_its_end_undoes_it() {
    use Host::{Client, Master, Slave};
    let Some(lab) = Lab::up() else { return };
    assert_eq!(lab.exec(Slave, &["uname", "-n"]).ok().trim(), "slave");
    assert!(pings(&lab, Slave, Master));

    lab.cut(Master);
    assert!(!pings(&lab, Slave, Master), "cut");
    lab.heal(Master);
    wait::until("healed", seconds(3.0), || pings(&lab, Slave, Master).then_some(()));

    lab.part(Master, Slave);
    assert!(!pings(&lab, Slave, Master) && pings(&lab, Client, Master) && pings(&lab, Client, Slave), "part");
    lab.mend();
    lab.drop_frames(Master, Slave);
    assert!(!pings(&lab, Slave, Master), "no answer comes back");
    lab.mend();
    lab.lose(90, Slave, Master);
    let some = lab.exec(Slave, &["ping", "-q", "-c", "40", "-i", "0.02", "-W", "1", "10.77.0.11"]).stdout;
    assert!(
        some.contains("packet loss") && !some.contains(" 0% packet loss"),
        "nine of ten are lost: {some}"
    );
    lab.mend();
    lab.filter(Slave, Master, "udp dport 5060");
    assert!(pings(&lab, Slave, Master), "only SIP is filtered");
    lab.mend();

    lab.freeze(Master);
    assert!(pings(&lab, Slave, Master), "a frozen host's kernel still answers");
    lab.thaw(Master);
    lab.sh(Master, "echo kept > /etc/lab-only").ok();
    assert!(!fs::exists("/etc/lab-only").unwrap(), "a host's disk is not the machine's");
    assert_eq!(fs::read_to_string(lab.disk(Master, "/etc/lab-only")).unwrap(), "kept\n");
    lab.crash(Master);
    assert!(!pings(&lab, Slave, Master), "crashed");
    lab.boot(Master);
    assert!(pings(&lab, Slave, Master), "booted");
    assert_eq!(lab.sh(Master, "cat /etc/lab-only").ok(), "kept\n", "the disk survives");
}

#[test]
fn a_lab_is_gone_when_its_test_is() {
    let Some(lab) = Lab::up() else { return };
    let name = lab.name().to_owned();
    let namespaces =
        || String::from_utf8(Command::new("ip").args(["netns", "list"]).output().unwrap().stdout).unwrap();
    assert!(namespaces().contains(&name));
    drop(lab);
    assert!(!namespaces().contains(&name));
    assert!(!fs::exists(std::env::temp_dir().join(format!("{name}.d"))).unwrap());
}

fn the_commands_of_a_node_do_their_part(product: Product) {
    use Host::{Master, Slave};
    let Some(pair) = Pair::of(product).unconfigured().up() else { return };
    let watch = SipWatch::start(&pair.lab);
    pair.await_serving(&[Master], seconds(5.0));
    pair.service(Slave, "start").ok();
    assert_eq!(pair.service(Slave, "status all").code, 1, "disabled: does not start");
    let begin = Moment::now();
    for arguments in ["enable", "start", "status all"] {
        pair.service(Slave, arguments).ok();
    }
    assert_eq!(pair.acts(Slave, begin).len(), 2);
    assert_eq!(pair.starts(Slave, begin).len(), 1);
    assert_eq!(pair.stops(Slave, begin).len(), 0);
    pair.await_serving(&[Master, Slave], seconds(5.0));

    pair.lab.sh(Master, "kill -STOP $(cat /run/asterisk/asterisk.pid)").ok();
    pair.await_serving(&[Slave], seconds(5.0));
    pair.lab.sh(Master, "kill -CONT $(cat /run/asterisk/asterisk.pid)").ok();
    pair.await_serving(&[Master, Slave], seconds(5.0));
    pair.service(Master, &format!("stop {}", product.name)).ok();
    pair.await_serving(&[Slave], seconds(5.0));
    wait::until("the watch has seen it too", seconds(5.0), || {
        (watch.answers(Slave) && !watch.answers(Master)).then_some(())
    });
    assert!(watch.changes().iter().any(|event| event.is("master", "down") && event.at > begin));

    pair.lab.sh(Slave, "echo 'exit 7' > /run/lab/on/dhcpd-update; dhcpd-update -dr").exits(7);
    pair.lab.sh(Slave, "echo text | mail -s subject root").ok();
    assert!(pair.mails(Slave).contains("text"));
}

#[test]
fn sshd_lets_the_other_node_in_for_the_agent_only() {
    let Some(pair) = Pair::wazo().unconfigured().up() else { return };
    let ssh = "ssh -o BatchMode=yes -i /root/.ssh/xivo_id_rsa root@10.77.0.12";
    let ran = pair.lab.sh(Host::Master, &format!("{ssh} 'touch /etc/intruder; uname -n' </dev/null"));
    assert!(!ran.stderr.contains("denied") && !ran.stderr.contains("verification"), "{}", ran.stderr);
    assert!(!ran.stdout.contains("slave"), "only the agent may be run: {}", ran.stdout);
    assert!(!pair.lab.disk(Host::Slave, "/etc/intruder").exists());
    let password = "sshpass -p secret ssh -o PubkeyAuthentication=no root@10.77.0.12 uname -n";
    assert_eq!(pair.lab.sh(Host::Master, password).ok().trim(), "slave");
}

fn both_databases_have_the_tables_of_their_product(product: Product) {
    let Some(pair) = Pair::of(product).unconfigured().database(30, 3).up() else { return };
    let tables = "select count(*) from pg_tables where schemaname = 'public'";
    for (host, users) in [(Host::Master, "30"), (Host::Slave, "3")] {
        assert_eq!(pair.sql(host, tables).trim(), if product == Product::WAZO { "189" } else { "192" });
        assert_eq!(pair.sql(host, "select count(*) from userfeatures").trim(), users);
    }
    assert_ne!(database::digest(&pair, Host::Master), database::digest(&pair, Host::Slave));
    let own = database::own(&pair, Host::Slave);
    database::mark_own(&pair);
    assert_ne!(database::own(&pair, Host::Slave), own);
    pair.lab.crash(Host::Slave);
    pair.power_on(Host::Slave);
    assert_eq!(
        pair.sql(Host::Slave, "select count(*) from userfeatures").trim(),
        "3",
        "a crash loses nothing"
    );
}

#[test]
fn the_wire_to_postgresql_can_hold_a_commit() {
    let Some(pair) = Pair::wazo().unconfigured().database(2, 2).up() else { return };
    commit::start_proxy(&pair, "");
    let proxied = |sql: &str| {
        let psql = "cd /; setpriv --reuid postgres --regid postgres --init-groups psql -X -At -h /run/lab/pg asterisk";
        format!("{psql} -c 'begin' -c '{sql}' -c 'commit'")
    };
    let name = || pair.sql(Host::Slave, "select lastname from userfeatures where id = 1").trim().to_owned();
    pair.lab.sh(Host::Slave, &proxied("update userfeatures set lastname = $$first$$ where id = 1")).ok();
    assert_eq!(name(), "first", "without `hold` everything goes through");

    fs::write(pair.lab.mailbox(Host::Slave, "hold"), "").unwrap();
    let in_background = format!(
        "({}) >/run/lab/psql.log 2>&1 &",
        proxied("update userfeatures set lastname = $$second$$ where id = 1")
    );
    pair.lab.sh(Host::Slave, &in_background).ok();
    wait::until("held", seconds(15.0), || commit::noted(&pair, "held"));
    assert_eq!(name(), "first", "not committed while it is held");
    let end =
        "select count(pg_terminate_backend(pid)) from pg_stat_activity where state = 'idle in transaction'";
    assert_eq!(pair.sql(Host::Slave, end).trim(), "1");
    // ending a backend only asks it to end
    let left = "select count(*) from pg_stat_activity where state = 'idle in transaction'";
    wait::until("ended", seconds(15.0), || (pair.sql(Host::Slave, left).trim() == "0").then_some(()));
    fs::write(pair.lab.mailbox(Host::Slave, "release"), "").unwrap();
    wait::until("refused", seconds(15.0), || commit::noted(&pair, "refused"));
    assert_eq!(name(), "first", "a COMMIT for a transaction that was ended commits nothing");
}

#[test]
fn a_disk_can_be_made_to_stall() {
    let Some(lab) = Lab::up() else { return };
    let syncs = "import os, time\nwith open('/root/file', 'w') as file:\n while True:\n  os.fsync(file); print(time.time(), 'synced -', flush=True); time.sleep(0.02)";
    fs::write(lab.mailbox(Host::Slave, "sync.py"), syncs).unwrap();
    lab.sh(
        Host::Slave,
        "python3 /run/lab/sync.py </dev/null >/run/lab/sync.log 2>&1 & echo $! >/run/lab/daemon.pid",
    )
    .ok();
    wait::until("it syncs", seconds(5.0), || lab.events(Host::Slave, "sync.log").pop());
    lab.sh(Host::Slave, journal::STALL).ok();
    pass(seconds(1.0));
    let stalled = lab.events(Host::Slave, "sync.log").len();
    pass(seconds(2.0));
    assert_eq!(lab.events(Host::Slave, "sync.log").len(), stalled);
    lab.sh(Host::Slave, journal::UNSTALL).ok();
    wait::until("it syncs again", seconds(20.0), || {
        (lab.events(Host::Slave, "sync.log").len() > stalled).then_some(())
    });
}

#[test]
fn the_hosts_beside_a_pair_let_both_nodes_in_to_the_runbooks_commands_and_nothing_else() {
    use Host::{Cc, Edge, Master, Slave};
    let Some(pair) = Pair::xivo().unconfigured().followers().up() else { return };
    let on = |node: Host, address: &str, command: &str| {
        let ssh = format!(
            "ssh -o BatchMode=yes -o ConnectTimeout=3 -i /root/.ssh/xivo_id_rsa root@{address} '{command}' </dev/null"
        );
        pair.lab.sh(node, &ssh)
    };
    let answers = |address: &str| {
        let get = format!(
            "exec 3<>/dev/tcp/{address}/8090 && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && head -1 <&3"
        );
        pair.lab.sh(Master, &get).stdout.starts_with("HTTP/1.")
    };
    wait::until("both xuc answer after the boot", seconds(5.0), || {
        (answers("10.77.0.21") && answers("10.77.0.22")).then_some(())
    });

    let begin = Moment::now();
    on(Slave, "10.77.0.22", "exec xivocc-dcomp restart xuc").ok();
    let restarted = Moment::now();
    let anew = wait::until("the one that was restarted answers again", seconds(5.0), || {
        pair.lab.events(Cc, "cc.log").into_iter().find(|event| event.at > begin && event.name == "answers")
    });
    assert!(answers("10.77.0.22") && anew.at.after(restarted) > seconds(0.5), "it takes its time");
    let seen: Vec<Event> =
        pair.lab.events(Cc, "cc.log").into_iter().filter(|event| event.at > begin).collect();
    let words: Vec<(&str, &str)> =
        seen.iter().map(|event| (event.name.as_str(), event.rest.as_str())).collect();
    assert_eq!(words, [("restart", "10.77.0.22 restart xuc"), ("answers", "10.77.0.22")]);

    pair.lab.sh(Edge, "echo changed > /etc/docker/edge/.env").ok();
    on(Master, "10.77.0.31", "cd /etc/docker/edge && exec edge-dcomp up -d").ok();
    let applied = pair.lab.events(Edge, "edge.log");
    assert_eq!(applied.len(), 1);
    assert!(applied[0].is("apply", "/etc/docker/edge up -d"), "{applied:?}");
    assert_eq!(fs::read_to_string(pair.lab.mailbox(Edge, "env.0")).unwrap(), "changed\n");
    assert_ne!(on(Edge, "10.77.0.11", "uname -n").code, 0, "an Edge gets in nowhere");

    for (address, command) in
        [("10.77.0.22", "exec xivocc-dcomp stop"), ("10.77.0.31", "uname -n"), ("10.77.0.31", "")]
    {
        let refused = on(Slave, address, command).exits(126);
        assert!(refused.stdout.is_empty() && refused.stderr.contains("pbx-ha-gate"), "{}", refused.stderr);
    }

    let look = "exec cat -- /etc/docker/edge/.env";
    pair.lab.crash(Edge);
    assert_ne!(on(Master, "10.77.0.31", look).code, 0);
    pair.power_on(Edge);
    assert_eq!(on(Master, "10.77.0.31", look).ok(), "changed\n");
}

#[test]
fn a_xivo_node_shows_its_registrations_with_media_servers() {
    let Some(pair) = Pair::xivo().unconfigured().up() else { return };
    let show = || pair.lab.sh(Host::Master, "asterisk -rx 'sip show registry'").ok();
    let registered =
        |name: &str| show().lines().any(|line| line.contains(name) && line.contains("Registered"));
    assert!(registered("mds1") && registered("mds2"), "{}", show());
    pair.lab.sh(Host::Master, "echo mds2 > /run/lab/unregistered").ok();
    assert!(registered("mds1") && !registered("mds2") && show().contains("mds2"), "{}", show());
    pair.service(Host::Master, "stop xivo").ok();
    pair.lab.sh(Host::Master, "asterisk -rx 'sip show registry'").exits(1);
}

#[test]
fn telephony_of_a_sark_node_is_a_unit_that_answers_a_known_time_after_its_start() {
    let Some(lab) = Lab::up() else { return };
    let on = |script: &str| lab.sh(Host::Slave, script);
    on(&format!("{}/lab/sark.sh", env!("CARGO_MANIFEST_DIR"))).ok();
    on("systemctl is-active asterisk").exits(3);
    on("asterisk -rx 'core waitfullybooted'").exits(1);

    fs::write(lab.mailbox(Host::Slave, "start-delay"), "1.5").unwrap();
    let begin = Moment::now();
    on("systemctl start asterisk.service").ok();
    let started = Moment::now();
    on("systemctl is-active asterisk").ok();
    on("asterisk -rx 'core waitfullybooted'").ok();
    let booted = lab.events(Host::Slave, "sip.log").pop().expect("the stand-in notes when it answers");
    assert_eq!(booted.name, "booted");
    assert!(booted.at.after(begin) >= seconds(1.5) && booted.at > started, "the start waits for nothing");
    assert!(booted.at < Moment::now(), "who waits for the boot waits for it");

    let pid = || on("cat /run/asterisk/asterisk.pid").stdout;
    let first = pid();
    on("kill -STOP $(cat /run/asterisk/asterisk.pid); systemctl stop asterisk").ok();
    on("systemctl is-active asterisk").exits(3);
    on("systemctl start asterisk; kill -KILL $(cat /run/asterisk/asterisk.pid)").ok();
    wait::until("a killed one is dead", seconds(2.0), || {
        (on("systemctl is-active asterisk").code == 3).then_some(())
    });
    on("asterisk -rx 'core show uptime'").exits(1);
    on("systemctl restart asterisk && asterisk -rx 'core show uptime'").ok();
    assert_ne!(pid(), first);
    let acts = lab.events(Host::Slave, "calls.log").into_iter().filter(Event::acts_on_telephony);
    let acts: Vec<String> = acts.map(|call| call.rest).collect();
    assert_eq!(acts, ["start asterisk.service", "stop asterisk", "start asterisk", "restart asterisk"]);
}

#[test]
fn what_starts_the_programs_at_boot_differs_in_names_only() {
    let named_xivo = Product::WAZO.unit.replace("wazo", "xivo").replace("Wazo", "XiVO");
    assert_eq!(named_xivo, Product::XIVO.unit);
}

for_every_product! {
    the_commands_of_a_node_do_their_part,
    both_databases_have_the_tables_of_their_product,
}
