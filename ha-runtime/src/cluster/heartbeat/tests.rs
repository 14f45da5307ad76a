//! With programs in Heartbeat's place that say what the test wrote down; the real ones are the lab's.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ha_core::health::Verdict;

use super::*;
use crate::cluster::{Agreed, Said};

struct Place {
    root: Root,
    _dir: tempfile::TempDir,
}

impl Place {
    /// Heartbeat runs, nothing moves, and the other node is well.
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let place = Place { root: Root::new(dir.path()).unwrap(), _dir: dir };
        let said = "cat $R/says/$1; read -r word < $R/says/$1; [ $word != dead ] && [ $word != stopped ]";
        place.program("/usr/bin/cl_status", said);
        let note = r#"echo "${0##*/} $*" >> $R/log"#;
        for program in ["/usr/bin/systemctl", "/etc/ha.d/resource.d/IPaddr2"] {
            place.program(program, note);
        }
        for program in ["hb_standby", "hb_takeover", "ResourceManager"] {
            place
                .program(&format!("/usr/share/heartbeat/{program}"), &format!("{note}; exit $(cat $R/exit)"));
        }
        place.write("/exit", "0");
        place.says("active", "none");
        place
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn program(&self, path: &str, script: &str) {
        let script = script.replace("$R", self.root.directory().to_str().unwrap());
        self.write(path, &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(self.root.path(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn says(&self, peer: &str, resources: &str) {
        self.write("/says/hbstatus", "Heartbeat is running on this machine.\n");
        self.write("/says/nodestatus", &format!("{peer}\n"));
        self.write("/says/rscstatus", &format!("{resources}\n"));
    }

    /// Heartbeat's processes have gone.
    fn ends(&self) {
        for question in ["hbstatus", "nodestatus", "rscstatus"] {
            self.write(&format!("/says/{question}"), "stopped\n");
        }
    }

    fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.root.path("/log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn open(&self) -> HeartbeatCluster {
        self.open_with(None)
    }

    fn open_with(&self, asks: Option<Asks>) -> HeartbeatCluster {
        let tools = Tools {
            root: self.root.clone(),
            role: Role::Slave,
            other: "sark1".to_owned(),
            references: Vec::new(),
            group: "IPaddr2::192.0.2.1/24/eth0".to_owned(),
        };
        let files = Files { files: Vec::new(), mark: "#", group: tools.group.clone() };
        let secs = Duration::from_secs;
        let times = Heartbeat { keepalive: secs(1), deadtime: secs(1), initdead: secs(2) };
        HeartbeatCluster::start(tools, files, times, asks).unwrap()
    }
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < patience, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_address_is_held_from_the_scripts_start_to_its_stop() {
    let place = Place::new();
    let cluster = place.open();
    let view = |held, peer| View { held, peer, ..View::FIRST };
    assert_eq!(cluster.view(), view(false, Verdict::Up));
    // the word for the other node is asked for anew: whether it died or gave is not the same
    place.says("dead", "transition");
    cluster.told(true).unwrap();
    wait("it came", || cluster.view() == view(true, Verdict::Down));
    cluster.told(false).unwrap();
    assert_eq!(cluster.view(), view(false, Verdict::Down));
    assert_eq!(place.log(), [""; 0], "Heartbeat was asked for nothing");
}

#[test]
fn an_engine_that_begins_anew_knows_at_once_that_the_address_is_here() {
    let place = Place::new();
    let cluster = place.open();
    cluster.told(true).unwrap();
    place.says("active", "all");
    drop(cluster);
    assert!(place.open().view().held);
    // it was taken while no engine ran, and its script could not say so
    place.says("active", "none");
    assert!(!place.open().view().held);
    assert!(!Claim::of(&place.root).is_made());
}

#[test]
fn a_handover_that_heartbeat_does_not_hear_of_has_failed() {
    let place = Place::new();
    let cluster = place.open();
    cluster.told(true).unwrap();
    place.says("active", "all");
    wait("it came", || cluster.view().held);
    place.write("/exit", "1");
    cluster.hand_over();
    wait("it is counted", || cluster.view().failed_handovers == 1);
    assert!(cluster.view().held);
    // nobody is there to take it
    place.says("dead", "all");
    wait("it is seen", || cluster.view().peer == Verdict::Down);
    cluster.hand_over();
    wait("it is counted", || cluster.view().failed_handovers == 2);
    assert_eq!(place.log(), ["hb_standby "], "one that is dead is asked for nothing");
}

#[test]
fn what_heartbeat_passes_over_while_it_moves_something_is_asked_for_afterwards() {
    let place = Place::new();
    let cluster = place.open();
    place.says("active", "transition");
    // a look in which something still moves
    wait("it is seen", || cluster.known.facts()["resources"] == "moving");
    assert!(cluster.fetch());
    place.says("dead", "transition");
    wait("it is seen", || cluster.view().peer == Verdict::Down);
    assert_eq!(place.log(), [""; 0]);
    // one that was dead may not be asked for anything: the wish ended with it
    place.says("active", "transition");
    wait("it is seen", || cluster.view().peer == Verdict::Up);
    assert!(cluster.fetch());
    place.says("active", "none");
    wait("it is asked for", || place.log().last().is_some_and(|line| line == "hb_takeover "));
}

#[test]
fn a_heartbeat_that_ended_loses_the_address_unless_nobody_else_could_take_it() {
    for (peer, loses) in [("active", true), ("dead", false)] {
        let place = Place::new();
        let cluster = place.open();
        cluster.told(true).unwrap();
        place.says(peer, "all");
        wait("it came", || cluster.view().held && cluster.known.facts()["other_node"] == peer);
        place.ends();
        let expected =
            if loses { "IPaddr2 192.0.2.1/24/eth0 stop" } else { "systemctl start heartbeat.service" };
        wait("something is done", || place.log() == [expected]);
        assert_eq!(cluster.view().held, !loses);
        assert_eq!(Claim::of(&place.root).is_made(), !loses);
        drop(cluster);
    }
}

#[test]
fn the_engines_end_is_heartbeats_too() {
    let place = Place::new();
    let cluster = Box::new(place.open());
    cluster.told(true).unwrap();
    cluster.leave();
    // whose script would have taken the claim away
    assert_eq!(place.log(), ["systemctl stop heartbeat.service", "IPaddr2 192.0.2.1/24/eth0 stop"]);
    assert!(!Claim::of(&place.root).is_made());
}

fn said(able: bool, carrying: bool) -> Said {
    let agreed = Agreed {
        kind: "heartbeat".to_owned(),
        address: IpAddr::from([192, 0, 2, 1]),
        primary_node: "sark1".to_owned(),
        standby_node: "sark2".to_owned(),
        moves: None,
    };
    Said { able, carrying, maintenance: false, up: 3600, agreed }
}

fn asking(answers: &Arc<Mutex<Result<Said, String>>>) -> Asks {
    let answers = Arc::clone(answers);
    Box::new(move || {
        let answers = Arc::clone(&answers);
        Box::new(move || answers.lock().unwrap().clone().map_err(Failure::environment))
    })
}

#[test]
fn a_node_that_was_away_gets_the_address_back_only_after_it_says_that_it_could_serve() {
    let place = Place::new();
    let answers = Arc::new(Mutex::new(Err("no daemon runs there".to_owned())));
    let cluster = place.open_with(Some(asking(&answers)));
    let peer_is = |verdict| wait("the verdict", || cluster.view().peer == verdict);
    let says = |said| *answers.lock().unwrap() = Ok(said);

    peer_is(Verdict::Up);
    assert_eq!(cluster.known.facts()["other_node_says"], serde_json::Value::Null, "it is asked for nothing");
    place.says("dead", "all");
    peer_is(Verdict::Down);
    cluster.told(true).unwrap();
    wait("it came", || cluster.view().held);
    place.says("active", "all");
    peer_is(Verdict::Degraded);
    says(said(true, true));
    wait("it is asked", || {
        cluster.known.facts()["other_node_says"] == "what it holds newer has not been carried yet"
    });
    assert_eq!(cluster.view().peer, Verdict::Degraded);
    says(said(true, false));
    peer_is(Verdict::Up);
    says(said(false, false));
    peer_is(Verdict::Degraded);
    // whoever stands by takes what comes
    place.says("active", "none");
    cluster.told(false).unwrap();
    peer_is(Verdict::Up);
}

#[test]
fn a_node_that_gave_the_address_could_serve_until_it_says_otherwise() {
    let place = Place::new();
    let cluster = place.open_with(Some(asking(&Arc::new(Mutex::new(Ok(said(true, false)))))));
    wait("it is heard", || cluster.view().peer == Verdict::Up);
    cluster.told(true).unwrap();
    place.says("active", "all");
    let mut verdicts = Vec::new();
    wait("it came, and was asked", || {
        verdicts.push(cluster.view().peer);
        cluster.view().held && cluster.known.facts()["other_node_says"] == "it could serve"
    });
    assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Up), "{verdicts:?}");
    assert!(!cluster.view().ended);
}

#[test]
fn an_engine_that_had_just_begun_when_it_gave_the_address_had_ended() {
    let place = Place::new();
    let answers = Arc::new(Mutex::new(Err("no daemon runs there".to_owned())));
    let cluster = place.open_with(Some(asking(&answers)));
    wait("it is heard", || cluster.view().peer == Verdict::Up);
    cluster.told(true).unwrap();
    place.says("active", "all");
    let facts = || cluster.known.facts()["other_node_says"].clone();
    wait("it is asked", || facts() == "nothing: no daemon runs there");
    assert_eq!(cluster.view(), View { held: true, peer: Verdict::Up, ..View::FIRST }, "nothing is known yet");
    *answers.lock().unwrap() = Ok(Said { up: 1, ..said(true, false) });
    wait("it is known", || cluster.view().ended);
    place.says("active", "none");
    cluster.told(false).unwrap();
    assert!(!cluster.view().ended);
}
