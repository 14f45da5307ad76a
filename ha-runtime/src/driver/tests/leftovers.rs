//! What a replication left that was cut, and the daemon and the takeover that find it.

use ha_core::replication::path::RelPath;
use ha_core::replication::wire::{Action, Transaction};

use super::*;
use crate::db::Fate;
use crate::driver::leftovers::settle;
use crate::durable::STATE_DIRECTORY;
use crate::fence::{self, Moment};
use crate::journal;
use crate::leftover;
use crate::lock::Lock;
use crate::sync::{Decision, Draft, IntentDirectory};

const GENERATION: u64 = 7;
const DIRECTORIES: usize = 5;
const TRANSACTION: Decision = Decision::IfCommitted(Transaction { server: 1, id: 2 });

/// A slave that has promised a switch which makes some directories.
fn promising(decision: Decision) -> Place {
    let role = RoleConfig::new(Role::Slave, "192.0.2.1").unwrap();
    let mut place = Place::new(role);
    place.context.settings.replication.extra_files = vec!["/srv/data".to_owned()];
    fs::create_dir_all(place.context.root.path("/srv/data")).unwrap();
    let record = Record { active: false, ..Record::fresh(&role, GENERATION, chrono::Utc::now()) };
    assert!(node_state::store(&place.context).unwrap().save_within(LONG, &record).is_durable());
    let trees = replicate::trees(&place.context).unwrap();
    let state = place.context.root.path(STATE_DIRECTORY);
    let mut draft = Draft::open(&state, &trees).unwrap();
    for index in 0..DIRECTORIES {
        draft.step(0, Action::MakeDir { path: RelPath::new(index.to_string()).unwrap() }).unwrap();
    }
    let intent = draft.seal().unwrap().intent(GENERATION, 1, decision);
    IntentDirectory::of(&state).promise(&intent).unwrap();
    place
}

fn made(place: &Place) -> usize {
    let names = fs::read_dir(place.context.root.path("/srv/data")).unwrap();
    names.filter(|name| !name.as_ref().unwrap().file_name().to_string_lossy().starts_with('.')).count()
}

fn is_promised(place: &Place) -> bool {
    leftover::promised(&place.context).unwrap().is_some()
}

/// Says yes so many times.
fn times(count: usize) -> impl Fn() -> bool + Send + 'static {
    let left = AtomicU64::new(count as u64);
    move || left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

#[tokio::test]
async fn a_node_that_stands_by_no_more_stops_settling_within_a_step_and_lets_go_of_the_lock() {
    let place = promising(Decision::Always);
    let notes = Notes::open(&place.context).unwrap();
    let nobody = async |_| panic!("no transaction decides");
    settle(&place.context, &notes, times(3), nobody).await;
    assert_eq!((made(&place), is_promised(&place)), (2, true));
    drop(Lock::Replicate.try_lock(&place.context.root).unwrap());
    settle(&place.context, &notes, times(usize::MAX), nobody).await;
    assert_eq!((made(&place), is_promised(&place)), (DIRECTORIES, false));
}

#[tokio::test]
async fn the_lock_is_free_while_the_database_is_asked_and_what_an_agent_works_on_is_not_asked_about() {
    let place = promising(TRANSACTION);
    let notes = Notes::open(&place.context).unwrap();
    let root = place.context.root.clone();
    let lock = Lock::Replicate.try_lock(&root).unwrap();
    let nobody = async |_| panic!("an agent is at work");
    settle(&place.context, &notes, times(usize::MAX), nobody).await;
    drop(lock);
    let ask = async |_| {
        drop(Lock::Replicate.try_lock(&root).unwrap());
        Ok(Fate::Committed)
    };
    settle(&place.context, &notes, times(usize::MAX), ask).await;
    assert_eq!((made(&place), is_promised(&place)), (DIRECTORIES, false));
}

/// Raises the fence of the takeover that ends the time of standing by.
async fn take_over(place: &Place, moment: Moment) {
    let notes = Notes::open(&place.context).unwrap();
    let takeover =
        fence::Takeover { role: Role::Slave, generation: GENERATION + 1, moment, notes, alerts: None };
    fence::raise(&place.context, &takeover).await;
}

#[tokio::test]
async fn a_takeover_finishes_a_switch_when_it_begins_and_never_later() {
    let place = promising(Decision::Always);
    take_over(&place, Moment::Beginning).await;
    assert_eq!((made(&place), is_promised(&place)), (DIRECTORIES, false));
    let place = promising(Decision::Always);
    take_over(&place, Moment::Later).await;
    assert_eq!((made(&place), is_promised(&place)), (0, false));
}

#[tokio::test]
async fn a_takeover_leaves_alone_what_it_cannot_get_the_lock_for() {
    let place = promising(Decision::Always);
    let lock = Lock::Replicate.try_lock(&place.context.root).unwrap();
    take_over(&place, Moment::Beginning).await;
    assert_eq!((made(&place), is_promised(&place)), (0, true));
    drop(lock);
    // nor is it made later
    take_over(&place, Moment::Later).await;
    assert_eq!((made(&place), is_promised(&place)), (0, false));
}

/// What the journal says about the fence of a takeover, once it says something.
fn told(place: &Place) -> String {
    let patience = Instant::now() + LONG;
    loop {
        let entries = journal::since(&place.context.root, None).unwrap();
        let said: Vec<_> =
            entries.filter(|entry| entry.kind == "fence").map(|entry| format!("{entry:?}")).collect();
        if said.iter().any(|text| text.contains("serves with what it has")) {
            return said.concat();
        }
        assert!(Instant::now() < patience, "only {said:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn a_takeover_does_not_wait_for_a_disk_that_does_not_tell_what_was_promised() {
    let place = promising(Decision::Always);
    let intent = place.context.root.path(STATE_DIRECTORY).join("intent/intent.json");
    let aside = intent.with_extension("aside");
    fs::rename(&intent, &aside).unwrap();
    // a pipe without a writer stands for the disk: opening it does not return
    assert!(std::process::Command::new("mkfifo").arg(&intent).status().unwrap().success());
    let begun = Instant::now();
    take_over(&place, Moment::Beginning).await;
    let took = begun.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(3)).contains(&took), "{took:?}");
    assert!(told(&place).contains("the disk does not answer"));
    // whoever still reads it is let go
    drop(fs::File::options().write(true).open(&intent).unwrap());
    fs::rename(&aside, &intent).unwrap();
    assert_eq!((made(&place), is_promised(&place)), (0, true));
    // nor is it made once the disk answers again
    take_over(&place, Moment::Later).await;
    assert_eq!((made(&place), is_promised(&place)), (0, false));
}

#[tokio::test]
async fn a_takeover_goes_on_without_a_promise_that_cannot_be_read() {
    let place = promising(Decision::Always);
    let intent = place.context.root.path(STATE_DIRECTORY).join("intent/intent.json");
    fs::remove_file(&intent).unwrap();
    fs::create_dir(&intent).unwrap();
    take_over(&place, Moment::Beginning).await;
    assert!(told(&place).contains("what a replication had promised cannot be read"));
    assert_eq!(made(&place), 0);
}
