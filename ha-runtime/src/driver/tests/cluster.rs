//! A daemon whose pair shares one address, with a cluster that the test plays.

use std::process::Command as Program;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use ha_core::cluster::{Standing, View};
use ha_core::distribution::{ShareError, Shared, Synch, Wish};
use ha_core::health::Verdict as Heard;
use ha_core::profile::Direction;
use tokio::sync::Notify;

use super::*;
use crate::cluster::{Charter, Cluster, Said};
use crate::control::FromPeer;
use crate::root::Root;
use crate::settings::Settings;
use crate::sip::Responder;

/// A PBX whose telephony is a process that sleeps.
struct OneAddress;

static ONE_ADDRESS: Profile = Profile {
    exclusive_address: true,
    automatic_failback: false,
    watchdog: true,
    direction: Direction::Pull,
    observe: Observation { disabled_file: None, ..EXAMPLE.observe },
    conf_file: Some("/etc/one.conf"),
    ..PROFILE
};

impl Distribution for OneAddress {
    fn profile(&self) -> &'static Profile {
        &ONE_ADDRESS
    }
    fn parse_role(&self, text: Option<&str>) -> Result<RoleConfig, RoleError> {
        Pbx.parse_role(text)
    }
    fn apply_role(&self, change: &RoleChange<'_>) -> Vec<Effect> {
        Pbx.apply_role(change)
    }
    fn restarts_alone(&self, conf: &str) -> bool {
        conf == "RESTART"
    }
    fn share(
        &self,
        _: Option<&str>,
        _: &Wish,
        to: &RoleConfig,
        _: &str,
    ) -> Result<Option<Shared>, ShareError> {
        let cluster_ip = to.peer().map(|_| VIP);
        let (primary_node, standby_node) = ("one".to_owned(), "other".to_owned());
        Ok(Some(Shared { cluster_ip, primary_node, standby_node, synch: Synch::Lazy }))
    }
}

/// Where the test's own SIP server can be.
const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 100));
const PEER: &str = "192.0.2.1";

/// The cluster, as far as the daemon sees it.
#[derive(Clone)]
struct Hand(Arc<Inner>);

struct Inner {
    view: Mutex<View>,
    changes: Arc<Notify>,
    stood: Mutex<Option<Standing>>,
    asked: AtomicU32,
    turned: AtomicU32,
    opened: AtomicU32,
    left: AtomicU32,
    refuses: AtomicBool,
    fetches: AtomicBool,
    ended: AtomicBool,
    /// Its script asks over the control socket there, when it leaves.
    script: Mutex<Option<Root>>,
}

impl Cluster for Hand {
    fn view(&self) -> View {
        *self.0.view.lock().unwrap()
    }
    fn changes(&self) -> Arc<Notify> {
        Arc::clone(&self.0.changes)
    }
    fn standing(&self, standing: Standing) {
        *self.0.stood.lock().unwrap() = Some(standing);
    }
    fn hand_over(&self) {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
    }
    fn turned(&self) {
        self.0.turned.fetch_add(1, Ordering::SeqCst);
    }
    fn runs(&self) -> bool {
        !self.0.ended.load(Ordering::SeqCst)
    }
    fn facts(&self) -> serde_json::Value {
        serde_json::json!({ "epoch": 7, "runs": self.runs() })
    }
    fn fetch(&self) -> bool {
        let fetches = self.0.fetches.load(Ordering::SeqCst);
        if fetches {
            self.says(true, Heard::Up);
        }
        fetches
    }
    fn told(&self, here: bool) -> Result<(), Failure> {
        self.shows(|view| View { held: here, ..view });
        Ok(())
    }
    fn leave(self: Box<Self>) {
        if let Some(root) = &*self.0.script.lock().unwrap() {
            let answer = control::ask(root, &Request::Address { here: false }, LONG);
            assert_eq!(answer.unwrap().unwrap().exit, 0, "the daemon hears its cluster's script to the end");
        }
        *self.0.view.lock().unwrap() = View::FIRST;
        self.0.left.fetch_add(1, Ordering::SeqCst);
    }
    fn dissolve(self: Box<Self>) {
        self.leave();
    }
}

impl Hand {
    fn new() -> Hand {
        Hand(Arc::new(Inner {
            view: Mutex::new(View::FIRST),
            changes: Arc::default(),
            stood: Mutex::default(),
            asked: AtomicU32::default(),
            turned: AtomicU32::default(),
            opened: AtomicU32::default(),
            left: AtomicU32::default(),
            refuses: AtomicBool::default(),
            fetches: AtomicBool::default(),
            ended: AtomicBool::default(),
            script: Mutex::default(),
        }))
    }

    fn opener(&self) -> Opener {
        let hand = self.clone();
        Arc::new(move |_: &Context, charter: &Charter| {
            assert_eq!((charter.address, charter.peer.to_string().as_str()), (VIP, PEER));
            if hand.0.refuses.load(Ordering::SeqCst) {
                return Err(Failure::environment("no key"));
            }
            hand.0.opened.fetch_add(1, Ordering::SeqCst);
            hand.0.ended.store(false, Ordering::SeqCst);
            Ok(Box::new(hand.clone()) as Box<dyn Cluster>)
        })
    }

    fn says(&self, held: bool, peer: Heard) {
        self.shows(|view| View { held, peer, ..view });
    }

    fn shows(&self, change: impl FnOnce(View) -> View) {
        let mut view = self.0.view.lock().unwrap();
        *view = change(*view);
        self.0.changes.notify_one();
    }

    fn asked(&self) -> u32 {
        self.0.asked.load(Ordering::SeqCst)
    }
}

fn place(role: Role) -> Place {
    let mut place = Place::of(&OneAddress, RoleConfig::new(role, PEER).unwrap());
    place.file(crate::settings::DEFAULT_PATH, "[cluster]\nreferences = \"none\"\n");
    place.context.settings = Settings::load(&place.context.settings_path, &ONE_ADDRESS).unwrap();
    place.context.way = Way::Program(vec!["/bin/false".to_owned()]);
    place.file("/run/nothing", "");
    let start = "sleep 600 >/dev/null 2>&1 & echo $! >$R/run/example.pid; echo start >>$R/log";
    place.program("pbx-start", start);
    // as systemd does, it waits for the end
    let stop = "read -r p <$R/run/example.pid; kill $p; echo stop >>$R/log
        while [ -n \"$p\" ] && [ -e /proc/$p ] && ! grep -q '^State:.Z' /proc/$p/status; do sleep 0.01; done";
    place.program("pbx-stop", stop);
    place.program("pbx-status", "kill -0 $(cat $R/run/example.pid)");
    place
}

impl Place {
    fn pid(&self) -> String {
        fs::read_to_string(self.context.root.path("/run/example.pid")).unwrap_or_default().trim().to_owned()
    }

    fn runs(&self) -> bool {
        crate::observe::observe(&self.context.root, &ONE_ADDRESS.observe) == Observed::Running
    }

    fn status(&self) -> serde_json::Value {
        self.ask(&Request::Status).unwrap().json
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = Program::new("kill").arg(self.pid()).status();
    }
}

fn wait(what: &str, is_so: impl Fn() -> bool) {
    let patience = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < patience, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Answers OPTIONS at the address, on a port of its own, until the test's process ends.
fn sip_server(place: &mut Place) {
    let (tell, port) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let timers = ha_core::profile::SipTimers::seconds(60, 60, 60);
            let server = Responder::bind((VIP, 0).into(), timers).await.unwrap();
            tell.send(server.local_addr().unwrap().port()).unwrap();
            server.serve(std::future::pending()).await
        })
    });
    place.context.settings.probe.sip_port = port.recv_timeout(LONG).unwrap();
}

#[test]
fn telephony_follows_the_address_and_status_says_where_it_is() {
    let (place, hand) = (place(Role::Slave), Hand::new());
    place.run_with(hand.opener());
    assert!(!place.runs());
    let status = place.status();
    assert_eq!(status["address"], serde_json::json!({ "vip": VIP, "held": false }));
    assert_eq!(status["peer_rungs"], serde_json::json!({}), "the cluster hears the other node");

    hand.says(true, Heard::Down);
    wait("it is started with the address", || place.runs());
    wait("and says so", || place.status()["services"] == "running");
    let report = place.ask(&Request::Status).unwrap();
    assert_eq!(report.json["address"]["held"], true);
    assert_eq!(
        (&report.json["cluster"]["kind"], &report.json["cluster"]["epoch"]),
        (&"native".into(), &7.into())
    );
    let assumption = report.json["cluster"]["assumption"].as_str().unwrap();
    assert!(assumption.contains("there is no reference"), "{assumption}");
    assert!(report.text.contains("address     127.0.0.100 is held here"), "{}", report.text);
    assert!(report.text.contains(assumption), "{}", report.text);

    hand.says(false, Heard::Up);
    wait("it is stopped without the address", || !place.runs());
    wait("and it was said", || place.status()["active"] == false);
    let refused = place.ask(&Request::Services { start: true }).unwrap_err();
    assert_eq!(refused.blame, Blame::Guard);
    assert!(refused.message.contains("\"address\""), "{refused}");
    assert!(!place.runs());
}

#[test]
fn the_loop_turns_eight_times_a_lease_without_anything_to_do() {
    let (place, hand) = (place(Role::Slave), Hand::new());
    place.run_with(hand.opener());
    let begun = Instant::now();
    let before = hand.0.turned.load(Ordering::SeqCst);
    wait("it turns", || hand.0.turned.load(Ordering::SeqCst) >= before + 16);
    // twice the time that they should take, for a busy machine
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert!(hand.0.stood.lock().unwrap().is_some_and(|standing| standing.able && !standing.maintenance));
}

#[test]
fn a_death_of_telephony_hands_the_address_over() {
    let (mut place, hand) = (place(Role::Master), Hand::new());
    sip_server(&mut place);
    place.run_with(hand.opener());
    hand.says(true, Heard::Up);
    wait("every check answers", || place.status()["health"]["state"] == "alive");
    assert_eq!(hand.asked(), 0);
    assert!(Program::new("kill").args(["-9", &place.pid()]).status().unwrap().success());
    wait("the address is offered to the other node", || hand.asked() == 1);
    hand.says(false, Heard::Up);
    wait("it has gone", || place.status()["address"]["held"] == false);
}

#[test]
fn telephony_that_hangs_at_its_console_hands_the_address_over() {
    let (mut place, hand) = (place(Role::Master), Hand::new());
    sip_server(&mut place);
    place.run_with(hand.opener());
    hand.says(true, Heard::Up);
    wait("every check answers", || place.status()["health"]["state"] == "alive");
    place.program("pbx-status", "trap '' TERM; while :; do sleep 0.05; done");
    let begun = Instant::now();
    wait("the address is offered to the other node", || hand.asked() == 1);
    // 8 s (`WatchdogPolicy::detection_worst`), and as much for a busy machine
    assert!(begun.elapsed() < Duration::from_secs(16), "{:?}", begun.elapsed());
}

#[test]
fn a_switchover_is_answered_when_the_address_has_gone_or_stays() {
    let (place, hand) = (place(Role::Master), Hand::new());
    place.run_with(hand.opener());
    let refused = place.ask(&Request::Switchover).unwrap_err();
    assert_eq!(refused.blame, Blame::Guard, "it is not here: {refused}");
    hand.says(true, Heard::Degraded);
    wait("it serves", || place.status()["services"] == "running");
    let refused = place.ask(&Request::Switchover).unwrap_err();
    assert!(refused.blame == Blame::Guard && refused.message.contains("not ready"), "{refused}");
    let refused = place.ask(&Request::Failback).unwrap_err();
    assert!(refused.blame == Blame::Guard && refused.message.contains("\"home\""), "{refused}");
    assert_eq!(hand.asked(), 0);

    hand.says(true, Heard::Up);
    let asking = |hand: &Hand, change: fn(View) -> View| {
        let (hand, before) = (hand.clone(), hand.asked());
        std::thread::spawn(move || {
            wait("the cluster is asked", || hand.asked() == before + 1);
            hand.shows(change);
        })
    };
    wait("the other node is ready", || place.status()["peer"] == "up");
    let cluster = asking(&hand, |view| View { failed_handovers: 1, ..view });
    let failed = place.ask(&Request::Switchover).unwrap_err();
    assert_eq!(failed.blame, Blame::Environment, "{failed}");
    assert!(failed.message.contains("did not take the address"), "{failed}");
    cluster.join().unwrap();
    assert!(place.runs());

    let cluster = asking(&hand, |view| View { held: false, ..view });
    place.ask(&Request::Switchover).unwrap();
    cluster.join().unwrap();
    assert!(!place.runs(), "it is answered when telephony is stopped");
}

#[test]
fn a_pair_without_a_cluster_does_not_begin_and_is_told_what_to_write() {
    let mut place = place(Role::Master);
    place.context.settings.cluster = None;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let refused = runtime.block_on(run(place.context.clone())).unwrap_err();
    assert_eq!(refused.blame, Blame::Usage, "{refused}");
    for words in ["pbx-ha.toml: [cluster] is missing", "interface = \"eth0\"", "[probe] reference"] {
        assert!(refused.message.contains(words), "{refused}");
    }
}

#[test]
fn another_role_is_another_cluster_and_one_that_cannot_be_had_is_tried_again() {
    let (place, hand) = (place(Role::Slave), Hand::new());
    place.run_with(hand.opener());
    let count = |of: &AtomicU32| of.load(Ordering::SeqCst);
    let configure = |role: &str, remote: &str| {
        let (role, remote) = (role.to_owned(), remote.to_owned());
        let (restart_services, resync, shared) = (false, false, Wish::default());
        let request =
            Request::Configure { role, remote, restart_services, resync, shared, auto_failback: None };
        place.ask(&request).unwrap();
    };
    wait("there is one", || count(&hand.0.opened) == 1);
    hand.says(true, Heard::Down);
    wait("it serves", || place.status()["services"] == "running");
    hand.0.refuses.store(true, Ordering::SeqCst);
    configure("master", PEER);
    wait("the old one has left", || count(&hand.0.left) == 1);
    wait("and telephony with it", || !place.runs());
    assert_eq!(count(&hand.0.opened), 1);
    wait("nothing is under way", || place.status()["services"] == "stopped");
    hand.0.refuses.store(false, Ordering::SeqCst);
    wait("there is another", || count(&hand.0.opened) == 2);
    configure("disabled", "");
    wait("none is needed", || count(&hand.0.left) == 2);
    assert_eq!(place.status()["cluster"], serde_json::Value::Null);
}

#[test]
fn a_cluster_that_ended_by_itself_begins_anew() {
    let (place, hand) = (place(Role::Slave), Hand::new());
    place.run_with(hand.opener());
    hand.says(true, Heard::Down);
    wait("it serves", || place.runs());
    *hand.0.view.lock().unwrap() = View::FIRST;
    hand.0.ended.store(true, Ordering::SeqCst);
    wait("there is another", || hand.0.opened.load(Ordering::SeqCst) == 2);
    wait("what the first one held is held no more", || !place.runs());
}

#[test]
fn in_the_seed_preset_the_file_says_whether_telephony_is_started_again_alone() {
    let mut place = place(Role::Master);
    let restarts = |place: &Place| place.context.policy(Arc::new(Local)).exclusive.unwrap().restart_alone;
    assert!(restarts(&place));
    place.context.settings.preset = crate::settings::Preset::Seed;
    assert!(!restarts(&place), "there is no file");
    place.file("/etc/one.conf", "RESTART");
    assert!(restarts(&place));
    let policy = place.context.policy(Arc::new(Local));
    assert!(policy.schedule.is_some(), "no cron line of scripts replicates for such a pair");
    assert_eq!(
        policy.exclusive.unwrap().watchdog.unwrap().grace,
        Duration::from_secs(1),
        "the start's time-out"
    );
}

#[test]
fn a_script_of_the_cluster_brings_the_address_and_waits_until_telephony_has_stopped() {
    let (place, hand) = (place(Role::Slave), Hand::new());
    place.run_with(hand.opener());
    let told = |here| place.ask(&Request::Address { here });
    hand.says(false, Heard::Up);
    assert!(told(true).is_ok());
    wait("it is started with the address", || place.status()["services"] == "running");
    assert!(told(false).is_ok());
    assert!(!place.runs(), "the address goes after this");
    assert!(told(false).is_ok(), "a script is called more than once");
    assert!(told(true).is_ok());
    wait("it is started again", || place.status()["services"] == "running");
}

#[test]
fn the_other_node_is_told_how_this_one_stands_and_what_it_has_in_mind() {
    let (place, hand) = (place(Role::Slave), Hand::new());
    place.run_with(hand.opener());
    let ask = |what| place.ask(&Request::FromPeer(what));
    let said = || Said::try_from(ask(FromPeer::Standing).unwrap()).unwrap();
    hand.says(false, Heard::Up);
    wait("there is a cluster", || hand.0.opened.load(Ordering::SeqCst) == 1);
    let Said { able, maintenance, agreed, .. } = said();
    assert_eq!((able, maintenance, agreed.address), (true, false, VIP));
    assert_eq!((agreed.primary_node.as_str(), agreed.standby_node.as_str()), ("one", "other"));
    ask(FromPeer::Maintenance { seconds: Some(60) }).unwrap();
    assert_eq!((said().able, said().maintenance), (false, true));
}

#[test]
fn a_master_that_stands_by_fetches_the_address_where_the_cluster_can() {
    let (mut place, hand) = (place(Role::Master), Hand::new());
    // one that fetches data would have to carry what it holds newer first
    place.context.settings.replication.flow = ha_core::replication::flow::Flow::FromMaster;
    place.run_with(hand.opener());
    hand.says(false, Heard::Up);
    wait("the other node has it", || place.status()["address"]["held"] == false);
    let refused = place.ask(&Request::Failback).unwrap_err();
    assert_eq!(refused.blame, Blame::Guard, "{refused}");
    hand.0.fetches.store(true, Ordering::SeqCst);
    assert!(place.ask(&Request::Failback).is_ok());
    assert!(place.runs(), "the answer comes when it serves");
    assert_eq!(place.ask(&Request::Failback).unwrap_err().blame, Blame::Guard, "it has the address");
}

#[tokio::test]
async fn an_engine_that_ends_gives_the_address_away_and_stops_telephony() {
    for (maintenance, script) in [(false, false), (true, false), (false, true), (true, true)] {
        let (place, hand) = (place(Role::Master), Hand::new());
        let context = place.context.clone();
        let listener = requests::listen(&context.root).unwrap();
        *hand.0.script.lock().unwrap() = script.then(|| context.root.clone());
        let role = context.role().unwrap();
        let node = Node::new(context.policy(Arc::new(Local)), role, None, Observed::Stopped, clock::now());
        let keeper = Keeper::start(&context).unwrap();
        let performer = Arc::new(performer::build(&context, keeper.journal()).unwrap());
        let (to_self, mut inbox) = mpsc::channel(16);
        let mut driver = Driver::new(context, node, performer, keeper, hand.opener(), to_self);
        driver.clustering.start(&driver.context, &role).unwrap();
        hand.says(true, Heard::Up);
        driver.hear_the_cluster();
        while !place.runs() || driver.node.status().in_flight.is_some() {
            let due = driver.node.deadline();
            tokio::select! {
                Some(message) = inbox.recv() => driver.take(message),
                () = until(due) => driver.feed(Input::Tick),
            }
        }
        if maintenance {
            let lasts = Some(LONG);
            driver.feed(Input::Command(Command::Maintenance { lasts }));
        }
        assert!(driver.leave(&listener, &mut inbox).await);
        assert_eq!(hand.0.left.load(Ordering::SeqCst), 1);
        let stood = hand.0.stood.lock().unwrap().unwrap();
        assert!(!stood.able, "the other node takes it as from one that is gone");
        // told to end, which a busy machine does later
        wait(if maintenance { "it ends in maintenance" } else { "it ends" }, || !place.runs());
    }
}

#[test]
fn a_node_that_has_served_says_that_it_carries_until_that_is_done() {
    let (place, hand) = (place(Role::Slave), Hand::new());
    place.run_with(hand.opener());
    let says =
        |carrying: bool| hand.0.stood.lock().unwrap().is_some_and(|standing| standing.carrying == carrying);
    wait("nothing is here that could be newer", || says(false));
    hand.says(true, Heard::Down);
    wait("it serves", || place.status()["services"] == "running");
    assert!(says(false), "what a node that serves has is in force");
    hand.says(false, Heard::Up);
    wait("it stands by", || place.status()["services"] == "stopped");
    assert!(says(true));
    let status = place.ask(&Request::Status).unwrap();
    assert!(
        status.json["replication"]["owes"] == true && status.text.contains("to carry"),
        "{}",
        status.text
    );
    wait("it tried, and was not heard", || {
        let error = place.status()["replication"]["files"]["last_error"].clone();
        error.as_str().is_some_and(|error| error.contains("guard \"carry\""))
    });

    // as it is when that is done
    let record = node_state::load(&node_state::store(&place.context).unwrap()).unwrap().unwrap();
    let cleared = serde_json::json!({ "generation": record.generation, "since": record.since });
    let path = place.context.root.path("/var/lib/pbx-ha/carry/cleared.json");
    crate::state::write_sealed(&path, &cleared).unwrap();
    wait("nothing is owed any more", || says(false));
    // somebody starts it by hand, and it takes a message
    let started = Program::new(place.context.root.path("/usr/bin/pbx-start")).status().unwrap();
    assert!(started.success());
    wait("it is stopped again", || !place.runs());
    wait("and what it took is owed", || says(true));
}
