//! What stands beside a pair of XiVO machines and must follow telephony: each side's contact centre (CC), media servers
//! (MDS), and the Edge.

use std::fs;
use std::time::Duration;

use ha_tests::wait::{self, pass, seconds};
use ha_tests::{Event, Host, Moment, Pair, Settings, Status};

use crate::changes::await_everything;

/// Longest from the services being ready to a machine that has followed.
const FOLLOWS: Duration = Duration::from_secs(5);

/// Where the Edge is told whom to relay to.
const ENV: &str = "/etc/docker/edge/.env";

/// One side of the pair, and what follows it.
#[derive(Clone, Copy)]
pub(crate) struct Side {
    node: Host,
    cc: &'static str,
    /// The Edge's file when it points there, to the byte.
    env: &'static str,
}

pub(crate) const MASTER: Side =
    Side { node: Host::Master, cc: "10.77.0.21", env: include_str!("../data/edge-master.env") };
pub(crate) const SLAVE: Side =
    Side { node: Host::Slave, cc: "10.77.0.22", env: include_str!("../data/edge-slave.env") };

pub(crate) fn pair(settings: Settings) -> Option<Pair> {
    Pair::xivo().settings(settings).followers().up()
}

fn events(pair: &Pair, host: Host, log: &str, name: &str, since: Moment) -> Vec<Event> {
    let all = pair.lab.events(host, log).into_iter();
    all.filter(|event| event.name == name && event.at > since).collect()
}

/// The commands that were run on a CC after `since`, as `ADDRESS ARGUMENTS`.
fn cc_commands(pair: &Pair, since: Moment) -> Vec<String> {
    events(pair, Host::Cc, "cc.log", "restart", since).into_iter().map(|event| event.rest).collect()
}

/// What [`cc_commands`] is when xuc was restarted once on each of these sides, in this order.
fn restarts_of(sides: &[Side]) -> Vec<String> {
    sides.iter().map(|side| format!("{} restart xuc", side.cc)).collect()
}

/// When the Edge began to run with another file after `since`, each with the file.
fn applied(pair: &Pair, since: Moment) -> Vec<(Event, String)> {
    let all = pair.lab.events(Host::Edge, "edge.log").into_iter().enumerate();
    let with_file = all.map(|(number, event)| {
        let file = fs::read_to_string(pair.lab.mailbox(Host::Edge, &format!("env.{number}")));
        (event, file.expect("it was kept"))
    });
    with_file.filter(|(event, _)| event.at > since).collect()
}

/// The Edge's file as it lies on its disk.
fn edge_file(pair: &Pair) -> String {
    fs::read_to_string(pair.lab.disk(Host::Edge, ENV)).expect("it is there")
}

/// The first time after `since` that the services of that side were seen to be ready.
fn ready(pair: &Pair, side: Side, since: Moment) -> Event {
    wait::until("the services are ready", seconds(20.0), || {
        events(pair, side.node, "status.log", "good", since).into_iter().next()
    })
}

/// The restart of that side's xuc after `since`, and when it answered again.
fn cc_followed(pair: &Pair, side: Side, since: Moment) -> (Event, Event) {
    wait::until("the CC follows", seconds(20.0), || {
        let of_side = |name| {
            let all = events(pair, Host::Cc, "cc.log", name, since);
            all.into_iter().find(|event| event.rest.starts_with(side.cc))
        };
        Some((of_side("restart")?, of_side("answers")?))
    })
}

/// When the Edge began after `since` to run with that side's file.
fn edge_followed(pair: &Pair, side: Side, since: Moment) -> Event {
    let followed = wait::within(seconds(30.0), || {
        applied(pair, since).into_iter().find(|(_, file)| file == side.env).map(|(event, _)| event)
    });
    followed.unwrap_or_else(|| {
        let log = pair.daemon_log(side.node);
        panic!("the Edge does not follow: {:?}\n{}\n{log}", applied(pair, since), edge_file(pair))
    })
}

/// How long after the services of its side were ready each machine had followed.
pub(crate) struct Followed {
    pub(crate) cc: Duration,
    pub(crate) edge: Duration,
}

/// Waits until the CC and the Edge have followed that side after `since`, each in its order.
#[track_caller]
pub(crate) fn followed(pair: &Pair, side: Side, since: Moment) -> Followed {
    let ready = ready(pair, side, since).at;
    let (restart, answers) = cc_followed(pair, side, since);
    let edge = edge_followed(pair, side, since);
    assert!(restart.at > ready, "xuc was restarted before the services were ready");
    assert!(edge.is("apply", "/etc/docker/edge up -d"), "{edge:?}");
    assert_eq!(edge_file(pair), side.env);
    Followed { cc: answers.at.after(ready), edge: edge.at.after(ready) }
}

/// The same, within seconds.
#[track_caller]
fn follow_in_time(pair: &Pair, side: Side, since: Moment) {
    let Followed { cc, edge } = followed(pair, side, since);
    println!("after the services of the {} were ready: the CC {cc:.3?}, the Edge {edge:.3?}", side.node);
    assert!(cc < FOLLOWS, "the CC follows after {cc:?}");
    assert!(edge < FOLLOWS, "the Edge follows after {edge:?}");
}

/// Telephony moves to the slave because the master has no power.
fn take_over(pair: &Pair) -> Moment {
    let crash = pair.lab.crash(Host::Master);
    pair.await_start(Host::Slave, crash, seconds(12.0));
    crash
}

/// What `status` says about a step, by its id: `null` when it does not say anything.
fn step<'a>(status: &'a Status, id: &str) -> &'a serde_json::Value {
    let steps = status.document()["followers"].as_array();
    let found = steps.and_then(|steps| steps.iter().find(|step| step["step"] == id));
    found.unwrap_or(&serde_json::Value::Null)
}

/// Waits until the slave says this of a step.
#[track_caller]
fn await_step(pair: &Pair, id: &str, state: &str) -> Status {
    let what = format!("saying that {id} is {state}");
    pair.await_status(Host::Slave, &what, seconds(60.0), |status| step(status, id)["state"] == state)
}

/// The alerts of the slave that hold all of these words, without those that say that something is over.
fn alerts(pair: &Pair, words: &[&str]) -> Vec<String> {
    let mails = format!("\n{}", pair.mails(Host::Slave));
    let begun = mails.split("\nto: ").filter(|mail| mail.starts_with("-s xivo-ha: "));
    begun.filter(|mail| words.iter().all(|word| mail.contains(word))).map(str::to_owned).collect()
}

#[track_caller]
fn await_alert(pair: &Pair, words: &[&str]) -> String {
    let what = format!("an alert says {words:?}");
    let found = wait::within(seconds(60.0), || alerts(pair, words).into_iter().next());
    found.unwrap_or_else(|| panic!("never {what}: {}", pair.mails(Host::Slave)))
}

#[test]
fn the_cc_and_the_edge_follow_a_takeover_and_the_failback_within_seconds_of_the_services_being_ready() {
    let begin = Moment::now();
    let Some(pair) = pair(Settings::modern()) else { return };
    let kept = "stat -c '%a %U:%G' /etc/docker/edge/.env; ls -A /etc/docker/edge";
    let before = pair.lab.sh(Host::Edge, kept).ok();
    assert_eq!((cc_commands(&pair, begin), applied(&pair, begin).len()), (vec![], 0), "in peace");

    let crash = take_over(&pair);
    let start = pair.await_start(Host::Slave, crash, seconds(12.0));
    follow_in_time(&pair, SLAVE, start.at);
    assert_eq!(pair.lab.sh(Host::Edge, kept).ok(), before, "mode, owner, and nothing beside it");

    let boot = pair.boot(Host::Master);
    let stop = pair.await_stop(Host::Slave, boot, seconds(40.0));
    follow_in_time(&pair, MASTER, stop.at);
    pair.await_peace(seconds(20.0));
    pass(seconds(5.0));
    assert_eq!(cc_commands(&pair, begin), restarts_of(&[SLAVE, MASTER]));
    let files: Vec<String> = applied(&pair, begin).into_iter().map(|(_, file)| file).collect();
    assert_eq!(files, [SLAVE.env, MASTER.env]);
    assert_eq!(pair.lab.sh(Host::Edge, kept).ok(), before);
}

#[test]
fn doctor_looks_at_the_machines_beside_the_pair_and_changes_nothing_there() {
    let Some(pair) = pair(Settings::modern()) else { return };
    let begin = Moment::now();
    let level = |node, id: &str| {
        // it exits with 1 when a check fails
        let said = pair.ha(node, "--json doctor").stdout;
        let report: serde_json::Value = serde_json::from_str(&said).expect("a document");
        let checks = report["checks"].as_array().expect("checks").iter();
        let check = checks.into_iter().find(|check| check["id"] == id);
        check.map_or_else(
            || panic!("no {id}: {report}"),
            |check| (check["level"].clone(), check["finding"].clone()),
        )
    };
    for node in [Host::Master, Host::Slave] {
        for id in ["followers", "cc", "edge", "media-servers"] {
            let (level, finding) = level(node, id);
            assert_eq!(level, "ok", "{id} on the {node}: {finding}");
        }
    }
    // a person has switched the Edge, or the slave served and nobody switched it back
    pair.ha(Host::Slave, "edge switch slave").ok();
    assert_eq!(level(Host::Master, "edge").0, "fail");
    assert_eq!(level(Host::Slave, "edge").0, "ok", "it does not serve");
    // who lets the key open a shell
    pair.lab.sh(Host::Cc, "sed -i 's/command=[^,]*,//' /root/.ssh/authorized_keys").ok();
    assert_eq!(level(Host::Master, "cc").0, "warn");
    assert_eq!(cc_commands(&pair, begin), Vec::<String>::new());
}

#[test]
fn an_edge_that_is_down_delays_nobody_is_told_once_and_follows_by_itself_when_it_is_back() {
    let Some(pair) = pair(Settings::modern()) else { return };
    pair.lab.crash(Host::Edge);
    let crash = take_over(&pair);
    let start = pair.await_start(Host::Slave, crash, seconds(12.0));
    pair.await_serving(&[Host::Slave], seconds(5.0));
    let ready = ready(&pair, SLAVE, start.at);
    let (_, answers) = cc_followed(&pair, SLAVE, start.at);
    assert!(answers.at.after(ready.at) < FOLLOWS, "the CC waited for the Edge");

    let alert = await_alert(&pair, &["Edge", "10.77.0.31"]);
    assert!(alert.contains("edge-dcomp") || alert.contains(ENV), "it says what to do: {alert}");
    let status = pair.status(Host::Slave);
    let edge = step(&status, "edge-file");
    assert!(edge["error"].as_str().is_some_and(|error| !error.is_empty()), "{edge}");
    assert_ne!(edge["state"], "done");
    assert_eq!(step(&status, "cc-answers")["state"], "done");
    pass(seconds(15.0));
    assert_eq!(alerts(&pair, &["10.77.0.31"]).len(), 1, "told once: {}", pair.mails(Host::Slave));

    pair.power_on(Host::Edge);
    edge_followed(&pair, SLAVE, crash);
    await_step(&pair, "edge-apply", "done");
    pass(seconds(5.0));
    assert_eq!(applied(&pair, crash).len(), 1);
    assert_eq!(cc_commands(&pair, crash), restarts_of(&[SLAVE]), "what was done is not done again");
    assert_eq!(alerts(&pair, &["10.77.0.31"]).len(), 1);
    assert_eq!((pair.starts(Host::Slave, crash).len(), pair.stops(Host::Slave, crash).len()), (1, 0));
}

#[test]
fn a_daemon_that_is_killed_between_two_steps_goes_on_with_the_next() {
    let Some(pair) = pair(Settings::modern()) else { return };
    pair.lab.crash(Host::Edge);
    let crash = take_over(&pair);
    await_step(&pair, "cc-answers", "done");
    pair.kill_daemon(Host::Slave);
    pair.start_daemon(Host::Slave);
    let status = pair.await_status(Host::Slave, "serving", seconds(10.0), |status| status.active());
    assert_eq!(step(&status, "cc-restart")["state"], "done", "it is remembered: {:?}", status.document());
    assert_ne!(step(&status, "edge-apply")["state"], "done");

    pair.power_on(Host::Edge);
    edge_followed(&pair, SLAVE, crash);
    await_step(&pair, "edge-apply", "done");
    // and when everything is done
    pair.kill_daemon(Host::Slave);
    pair.start_daemon(Host::Slave);
    pass(seconds(8.0));
    assert_eq!(cc_commands(&pair, crash), restarts_of(&[SLAVE]));
    assert_eq!(applied(&pair, crash).len(), 1);
    assert_eq!(pair.starts(Host::Slave, crash).len(), 1);
}

#[test]
fn a_cc_that_is_not_to_follow_by_itself_is_left_alone_and_a_mail_says_what_to_do() {
    let Some(pair) = pair(Settings::modern().with("cc", "automatic", "false")) else { return };
    let crash = take_over(&pair);
    await_alert(&pair, &["xivocc-dcomp restart xuc", "10.77.0.22"]);
    await_step(&pair, "cc-restart", "announced");
    edge_followed(&pair, SLAVE, crash);
    pass(seconds(5.0));
    assert_eq!(cc_commands(&pair, crash), Vec::<String>::new());
    assert_eq!(alerts(&pair, &["xivocc-dcomp restart xuc"]).len(), 1, "told once");
}

#[test]
fn a_media_server_that_is_not_registered_is_named_and_the_other_one_is_good() {
    let Some(pair) = pair(Settings::modern()) else { return };
    pair.lab.sh(Host::Slave, "echo mds2 > /run/lab/unregistered").ok();
    let crash = take_over(&pair);
    await_step(&pair, "mds-mds1", "done");
    await_alert(&pair, &["mds2"]);
    assert!(alerts(&pair, &["mds1"]).iter().all(|mail| mail.contains("mds2")), "{}", pair.mails(Host::Slave));
    let status = pair.status(Host::Slave);
    assert_ne!(step(&status, "mds-mds2")["state"], "done");
    assert!(step(&status, "mds-mds2")["error"].is_string(), "{:?}", status.document());
    // nobody waits for a media server
    cc_followed(&pair, SLAVE, crash);
    edge_followed(&pair, SLAVE, crash);

    pair.lab.sh(Host::Slave, "rm /run/lab/unregistered").ok();
    await_step(&pair, "mds-mds2", "done");
}

#[test]
fn a_planned_switchover_and_the_failback_are_followed_once_each() {
    let Some(pair) = pair(Settings::modern()) else { return };
    let begin = Moment::now();
    pair.ha(Host::Master, "switchover").ok();
    let start = pair.await_start(Host::Slave, begin, seconds(10.0));
    follow_in_time(&pair, SLAVE, start.at);
    let back = Moment::now();
    pair.ha(Host::Master, "failback").ok();
    let stop = pair.await_stop(Host::Slave, back, seconds(20.0));
    follow_in_time(&pair, MASTER, stop.at);
    pair.await_peace(seconds(20.0));
    pass(seconds(5.0));
    assert_eq!(cc_commands(&pair, begin), restarts_of(&[SLAVE, MASTER]));
    assert_eq!(applied(&pair, begin).len(), 2);

    // a person asks for it once more, on the node that serves
    let again = Moment::now();
    pair.ha(Host::Slave, "followers again").exits(3);
    pair.ha(Host::Master, "followers again").ok();
    let (restart, _) = cc_followed(&pair, MASTER, again);
    assert!(restart.rest.starts_with(MASTER.cc));
    wait::until("the Edge is told again", seconds(10.0), || (applied(&pair, again).len() == 1).then_some(()));
}

#[test]
fn an_edge_that_comes_back_after_the_failback_never_points_at_the_slave() {
    let Some(pair) = pair(Settings::modern()) else { return };
    pair.lab.crash(Host::Edge);
    let crash = take_over(&pair);
    await_alert(&pair, &["10.77.0.31"]);
    let boot = pair.boot(Host::Master);
    let stop = pair.await_stop(Host::Slave, boot, seconds(40.0));
    cc_followed(&pair, MASTER, stop.at);

    pair.power_on(Host::Edge);
    edge_followed(&pair, MASTER, crash);
    pass(seconds(10.0));
    assert!(applied(&pair, crash).iter().all(|(_, file)| file == MASTER.env), "{:?}", applied(&pair, crash));
    assert_eq!(edge_file(&pair), MASTER.env);
    assert_eq!(cc_commands(&pair, crash), restarts_of(&[SLAVE, MASTER]));
    let over = format!("\n{}", pair.mails(Host::Slave));
    assert!(over.contains("\nto: -s over: xivo-ha: "), "the slave's alert is over: {over}");
}

#[test]
fn an_edge_whose_file_names_neither_side_is_left_as_it_is_until_a_person_corrects_it() {
    let Some(pair) = pair(Settings::modern()) else { return };
    let strange = MASTER.env.replace("\nXIVO_HOST=10.77.0.11\n", "\nXIVO_HOST=192.0.2.1\n");
    let write = |text: &str| {
        fs::write(pair.lab.mailbox(Host::Edge, "file"), text).expect("the mailbox can be written");
        pair.lab.sh(Host::Edge, &format!("cat /run/lab/file > {ENV}")).ok();
    };
    write(&strange);
    let crash = take_over(&pair);
    await_alert(&pair, &["XIVO_HOST", "192.0.2.1", "10.77.0.12"]);
    cc_followed(&pair, SLAVE, crash);
    assert_eq!((edge_file(&pair), applied(&pair, crash).len()), (strange, 0));

    write(MASTER.env);
    edge_followed(&pair, SLAVE, crash);
    assert_eq!(edge_file(&pair), SLAVE.env);
}

#[test]
fn a_cc_that_hangs_delays_neither_the_edge_nor_the_media_servers() {
    let Some(pair) = pair(Settings::modern()) else { return };
    pair.on_call(Host::Cc, "xivocc-dcomp", "rm /run/lab/on/xivocc-dcomp; sleep 20");
    let crash = take_over(&pair);
    let start = pair.await_start(Host::Slave, crash, seconds(12.0));
    let ready = ready(&pair, SLAVE, start.at).at;
    let edge = edge_followed(&pair, SLAVE, start.at).at.after(ready);
    assert!(edge < FOLLOWS, "the Edge follows after {edge:?}");
    let status = await_step(&pair, "mds-mds2", "done");
    assert_ne!(step(&status, "cc-restart")["state"], "done");
    cc_followed(&pair, SLAVE, crash);
    await_step(&pair, "cc-answers", "done");
}

#[test]
fn after_a_partition_in_which_both_nodes_served_the_cc_and_the_edge_come_back_to_the_master() {
    let Some(pair) = pair(Settings::modern()) else { return };
    let parted = pair.lab.part(Host::Master, Host::Slave);
    let start = pair.await_start(Host::Slave, parted, seconds(12.0));
    followed(&pair, SLAVE, start.at);
    pair.lab.mend();
    let stop = pair.await_stop(Host::Slave, start.at, seconds(40.0));
    followed(&pair, MASTER, stop.at);
    pair.await_peace(seconds(20.0));
    assert_eq!(cc_commands(&pair, parted), restarts_of(&[SLAVE, MASTER]));
    assert_eq!(applied(&pair, parted).len(), 2);
    pair.assert_untouched(Host::Master, parted);
}

#[test]
fn a_master_whose_daemon_starts_only_after_the_failback_still_brings_the_cc_and_the_edge_back() {
    // what it did not see it learns from the first replication that the slave takes
    let settings = Settings::modern().with("replication", "on_change", "true");
    let Some(pair) = Pair::xivo().settings(settings).database(3, 1).followers().up() else { return };
    await_everything(&pair);
    let crash = take_over(&pair);
    followed(&pair, SLAVE, crash);
    pair.power_on(Host::Master);
    let stop = pair.await_stop(Host::Slave, crash, seconds(40.0));
    pair.await_serving(&[Host::Master], seconds(10.0));
    pass(seconds(3.0));
    pair.start_daemon(Host::Master);
    followed(&pair, MASTER, stop.at);
    assert_eq!(cc_commands(&pair, crash), restarts_of(&[SLAVE, MASTER]));
}

#[test]
fn a_person_switches_the_edge_by_hand_from_either_node_and_sees_no_secret() {
    let Some(pair) = pair(Settings::modern()) else { return };
    let begin = Moment::now();
    let edge = |node: Host, arguments: &str| {
        let ran = pair.ha(node, &format!("edge {arguments}"));
        assert!(!ran.said().contains("s3cr3t"), "{ran:?}");
        ran
    };
    edge(Host::Slave, "status").exits(0).says(&["XIVOCC_HOST", "10.77.0.21", "master"]);
    edge(Host::Master, "switch slave --dry-run").exits(0).says(&["10.77.0.11", "10.77.0.12"]);
    assert_eq!((edge_file(&pair).as_str(), applied(&pair, begin).len()), (MASTER.env, 0));

    edge(Host::Master, "switch slave").exits(0);
    assert_eq!(edge_file(&pair), SLAVE.env);
    edge(Host::Slave, "switch slave").exits(0).says(&["nothing to do"]);
    let files: Vec<String> = applied(&pair, begin).into_iter().map(|(_, file)| file).collect();
    assert!(!files.is_empty() && files.iter().all(|file| file == SLAVE.env), "{files:?}");

    pair.lab.sh(Host::Edge, &format!("sed -i 's/^XIVO_HOST=.*/XIVO_HOST=10.77.0.11/' {ENV}")).ok();
    edge(Host::Master, "status").exits(1).says(&["XIVO_HOST", "not"]);
    edge(Host::Slave, "switch master").exits(0);
    assert_eq!(edge_file(&pair), MASTER.env, "half a switch is computed from the side that is wanted");
    edge(Host::Master, "switch both").exits(2).says(&["both", "master", "slave"]);
    assert_eq!(cc_commands(&pair, begin), Vec::<String>::new());
}
