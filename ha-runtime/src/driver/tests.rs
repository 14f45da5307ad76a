//! A whole daemon in this process, asked over its control socket.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use ha_core::event::Record;
use ha_core::follow::Followers;
use ha_core::profile::{Observation, ServicePlan, Step};
use ha_core::testkit::EXAMPLE;
use ha_core::{Distribution, Effect, Profile, Role, RoleChange, RoleError, Side};

use super::*;
use crate::addresses;
use crate::cli::services::before_start;
use crate::control::{self, Request};
use crate::effect::Boundary;
use crate::report::Blame;
use crate::root::Root;
use crate::way::Way;

mod cluster;
mod following;
mod leftovers;

const LONG: Duration = Duration::from_secs(60);

/// A PBX of three scripts and a role file of two words.
struct Pbx;

const fn step(argv: &'static [&'static str]) -> Step {
    Step { argv, ..EXAMPLE.services.status }
}

static PROFILE: Profile = Profile {
    services: ServicePlan {
        start: &[step(&["pbx-start"])],
        stop: &[step(&["pbx-stop"])],
        status: step(&["pbx-status"]),
    },
    observe: Observation { disabled_file: Some("/run/disabled"), ..EXAMPLE.observe },
    ..EXAMPLE
};

impl Distribution for Pbx {
    fn profile(&self) -> &'static Profile {
        &PROFILE
    }
    fn parse_role(&self, text: Option<&str>) -> Result<RoleConfig, RoleError> {
        match text.unwrap_or_default().split_once(' ') {
            Some((role, peer)) => RoleConfig::new(role.parse()?, peer),
            None => Ok(RoleConfig::Disabled),
        }
    }
    fn apply_role(&self, change: &RoleChange<'_>) -> Vec<Effect> {
        vec![role_file(change.to)]
    }
    fn runbook(&self, _: &Followers, _: Side) -> Vec<ha_core::follow::Step> {
        following::steps()
    }
}

fn role_file(role: &RoleConfig) -> Effect {
    let content = format!("{} {}", role.role(), role.remote_address());
    Effect::WriteFile { path: PROFILE.role_file.to_owned(), content, mode: 0o644 }
}

struct Place {
    dir: tempfile::TempDir,
    context: Context,
}

impl Place {
    fn new(role: RoleConfig) -> Place {
        Place::of(&Pbx, role)
    }

    fn of(distribution: &'static dyn Distribution, role: RoleConfig) -> Place {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path()).unwrap();
        let context = Context::load(distribution, root, None).unwrap();
        let place = Place { dir, context };
        for (program, script) in [("pbx-start", "exit 0"), ("pbx-stop", "exit 0"), ("pbx-status", "exit 1")] {
            place.program(program, script);
        }
        place.file(PROFILE.role_file, &format!("{} {}", role.role(), role.remote_address()));
        place
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.context.root.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn program(&self, name: &str, script: &str) -> String {
        let path = format!("/usr/bin/{name}");
        let here = self.dir.path().display();
        self.file(&path, &format!("#!/bin/sh\nR={here}\n{script}\n"));
        let path = self.context.root.path(&path);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    }

    /// Runs the daemon until the test's process ends.
    fn run(&self) {
        self.run_with(Arc::new(crate::cluster::open));
    }

    fn run_with(&self, opener: Opener) {
        let context = self.context.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            if let Err(failure) = runtime.block_on(run_with(context, opener)) {
                panic!("{failure}");
            }
        });
        let patience = Instant::now() + LONG;
        while !control::daemon_runs(&self.context.root) {
            assert!(Instant::now() < patience, "the daemon did not start");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn ask(&self, request: &Request) -> Verdict {
        control::ask(&self.context.root, request, LONG).expect("the daemon runs")
    }
}

fn master(text: &str) -> RoleConfig {
    RoleConfig::new(Role::Master, text).unwrap()
}

/// A peer whose pings never leave this machine.
fn own_address() -> Option<IpAddr> {
    let own = addresses::own().into_iter().map(|network| network.ip());
    let found = own.into_iter().find(|ip| ip.is_ipv4() && !ip.is_loopback());
    if found.is_none() {
        eprintln!("SKIPPED: this machine has no IPv4 address but loopback");
    }
    found.filter(|_| match Icmp::start().or_else(|_| Icmp::start_unprivileged()) {
        Ok(_) => true,
        Err(error) => {
            eprintln!("SKIPPED: {error}");
            false
        }
    })
}

#[test]
fn a_role_change_that_was_cut_short_is_undone_before_the_daemon_reads_its_role() {
    let place = Place::new(RoleConfig::Disabled);
    let killed = |boundary| assert_ne!(boundary, Boundary::EffectDone, "killed here");
    let cut = Performer::new(place.context.root.clone(), "example-ha").on_boundary(killed);
    let slave = RoleConfig::new(Role::Slave, "192.0.2.1").unwrap();
    let performing = std::panic::AssertUnwindSafe(|| cut.perform("configure slave", &[role_file(&slave)]));
    assert!(std::panic::catch_unwind(performing).is_err());
    assert_eq!(place.context.role().unwrap(), slave);
    place.run();
    assert_eq!(place.ask(&Request::Status).unwrap().json["node_type"], "disabled");
    assert_eq!(place.context.role().unwrap(), RoleConfig::Disabled);
}

#[test]
fn a_disk_that_stalls_under_a_status_does_not_stop_the_loop() {
    let place = Place::new(RoleConfig::Disabled);
    // a pipe without a writer stands for the disk: opening it does not return
    let file = place.context.root.path("/var/lib/pbx-ha/replication.json");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    place.run();
    let short = Duration::from_millis(200);
    assert!(control::ask(&place.context.root, &Request::Status, short).unwrap().is_err());
    assert!(place.ask(&Request::CheckMaster).is_ok());
}

#[test]
fn an_active_master_is_not_stopped_by_hand_outside_maintenance() {
    let Some(own) = own_address() else { return };
    let place = Place::new(master(&own.to_string()));
    place.program("pbx-stop", "touch $R/stopped");
    place.run();
    let refused = place.ask(&Request::Services { start: false }).unwrap_err();
    assert_eq!(refused.blame, Blame::Guard);
    assert!(refused.message.contains("maintenance on"), "{refused}");
    assert!(!place.dir.path().join("stopped").exists());
}

#[test]
fn maintenance_ends_here_even_when_the_slave_is_gone_and_says_so() {
    let Some(own) = own_address() else { return };
    let role = master(&own.to_string());
    let mut place = Place::new(role);
    place.context.way = Way::Program(vec!["/bin/false".to_owned()]);
    let now = chrono::Utc::now();
    let until = Some(now + chrono::Duration::hours(1));
    let record = Record { maintenance_until: until, ..Record::fresh(&role, 7, now) };
    assert!(node_state::store(&place.context).unwrap().save_within(LONG, &record).is_durable());
    place.run();
    let maintained = || place.ask(&Request::Status).unwrap().json["maintenance_until"].is_string();
    assert!(maintained());

    let failed = place.ask(&Request::Maintenance { seconds: Some(60) }).unwrap_err();
    assert_eq!(failed.blame, Blame::Environment);
    assert!(failed.message.contains("nothing was changed here"), "{failed}");
    let failed = place.ask(&Request::Maintenance { seconds: None }).unwrap_err();
    assert_eq!(failed.blame, Blame::Environment);
    assert!(
        failed.message.contains("did not acknowledge") && failed.message.contains("over here"),
        "{failed}"
    );
    assert!(!maintained());
}

#[tokio::test]
async fn a_slave_that_did_not_take_over_is_told_to_stand_by() {
    let mut place = Place::new(master("192.0.2.1"));
    // the test's own shell: what stands for the way to the other node is not below the root
    let agent = place.program("agent", "echo asked >> $R/asked; exit 1");
    place.context.way = Way::Program(vec![agent]);
    let (to_self, _inbox) = mpsc::channel(1);
    let failure = handover::hand_over(place.context.clone(), to_self).await.unwrap_err();
    assert_eq!(failure.blame, Blame::Environment);
    assert!(failure.message.contains("this node goes on serving"), "{failure}");
    assert!(failure.message.contains("run `failback`"), "{failure}");
    assert_eq!(fs::read_to_string(place.dir.path().join("asked")).unwrap(), "asked\nasked\n");
}

#[test]
fn a_node_pings_its_peer_on_the_rung_for_it_and_its_references_always() {
    let mut probe = crate::settings::Settings::defaults(&PROFILE).probe;
    let (role, peer) = (master("192.0.2.1"), IpAddr::from([192, 0, 2, 1]));
    assert_eq!(pinged(&probe, &role), [peer]);
    probe.rungs = vec![settings::Rung::Service];
    assert!(pinged(&probe, &role).is_empty(), "no socket is needed");
    probe.reference = vec![IpAddr::from([192, 0, 2, 9])];
    assert_eq!(pinged(&probe, &role), probe.reference);
    assert!(pinged(&probe, &RoleConfig::Disabled).is_empty());
}

#[test]
fn settings_read_anew_keep_the_way_to_the_other_node() {
    let mut place = Place::new(RoleConfig::Disabled);
    place.context.way = Way::Program(vec!["agent".to_owned()]);
    let notes = Notes::open(&place.context).unwrap();
    let read = reloading::reread(&place.context, &RoleConfig::Disabled, notes).unwrap();
    assert!(matches!(read.context.way, Way::Program(words) if words == ["agent"]));
}

#[tokio::test]
async fn work_that_panics_reports_a_failure() {
    let outcome = in_a_thread("test", || -> u8 { panic!("a bug") }).await;
    assert!(outcome.unwrap_err().to_string().contains("without a result"));
    assert_eq!(in_a_thread("test", || 7).await.unwrap(), 7);
}

#[test]
fn a_start_without_a_daemon_is_another_generation_before_it_begins() {
    let place = Place::new(RoleConfig::new(Role::Slave, "192.0.2.1").unwrap());
    let notes = Notes::open(&place.context).unwrap();
    let before = node_state::now(&place.context).unwrap();
    before_start(&place.context, &notes);
    // a slow disk is not waited for, it writes later
    let patience = Instant::now() + LONG;
    let mut after = before;
    while !after.active && Instant::now() < patience {
        after = node_state::now(&place.context).unwrap();
    }
    assert!(after.active && !before.active);
    assert!(after.generation > before.generation);
}

#[tokio::test]
async fn a_replication_that_waited_for_another_is_not_sent_by_a_node_that_is_master_no_more() {
    let mut place = Place::new(RoleConfig::Disabled);
    place.context.way = Way::Program(vec!["/bin/false".to_owned()]);
    let job = Job::all("192.0.2.1".parse().unwrap());
    let ended = replicate::run(&place.context, &Kept::default(), &job, |_| {}).await;
    let refused = ended.verdict.unwrap_err();
    assert_eq!(refused.blame, Blame::Guard, "{refused}");

    let role = master("192.0.2.1");
    place.file(PROFILE.role_file, "master 192.0.2.1");
    let yielded = Record { active: false, ..Record::fresh(&role, 7, chrono::Utc::now()) };
    assert!(node_state::store(&place.context).unwrap().save_within(LONG, &yielded).is_durable());
    let ended = replicate::run(&place.context, &Kept::default(), &job, |_| {}).await;
    let refused = ended.verdict.unwrap_err();
    assert_eq!(refused.blame, Blame::Guard, "{refused}");
}

/// Waits until somebody tells the driver of a change.
async fn change(inbox: &mut mpsc::Receiver<Message>) {
    let told = tokio::time::timeout(LONG, inbox.recv()).await.expect("nobody looks out");
    assert!(matches!(told, Some(Message::Input(Input::Changed))));
}

#[tokio::test]
async fn whatever_ends_the_look_out_for_changes_it_begins_anew() {
    let mut place = Place::new(RoleConfig::Disabled);
    place.context.settings.replication.extra_files = vec!["/srv/data".to_owned()];
    place.file("/srv/data/f", "changes");
    let context = place.context.clone();
    let (role, now) = (master("192.0.2.1"), clock::now());
    let record = Record { active: true, ..Record::fresh(&role, 7, chrono::Utc::now()) };
    let node =
        Node::new(context.settings.policy(Arc::new(Local)), role, Some(record), Observed::Running, now);
    let keeper = Keeper::start(&context).unwrap();
    let performer = Arc::new(performer::build(&context, keeper.journal()).unwrap());
    let (to_self, mut inbox) = mpsc::channel(16);
    let mut driver = Driver::new(context, node, performer, keeper, Arc::new(crate::cluster::open), to_self);
    driver.keep_anew();
    change(&mut inbox).await;

    driver.changes.spawn(async { panic!("a defect") });
    let ended = tokio::time::timeout(LONG, driver.changes.join_next()).await.unwrap().unwrap();
    assert!(ended.is_err());
    driver.looks_out_no_more(&ended);
    let why_not = driver.on_change().why_not.expect("it is said");
    assert!(why_not.contains("a defect of this program"), "{why_not}");
    assert!(driver.changes.is_empty(), "nobody looks out");

    driver.look_out_again();
    change(&mut inbox).await;
    let why_not = driver.on_change().why_not.unwrap_or_default();
    assert!(!why_not.contains("a defect of this program"), "{why_not}");
}
