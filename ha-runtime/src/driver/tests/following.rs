//! What follows telephony, with steps on this machine.

use ha_core::follow::{Place as Where, Step as Following, Task, Wanted};
use ha_core::runbook::{Progress, Runbook};

use super::super::following::{Clerk, resume};
use super::*;
use crate::alert::Alerts;

fn step(id: &str, after: &[&str]) -> Following {
    let argv = vec![id.to_owned()];
    Following {
        id: id.to_owned(),
        says: format!("do {id}"),
        after: after.iter().map(|id| (*id).to_owned()).collect(),
        place: Where::Here,
        act: Some(Task::Run { argv, directory: None, output: Wanted::Anything }),
        check: None,
        timeout: LONG,
        patience: Duration::ZERO,
        undo: format!("undo {id}"),
        automatic: true,
    }
}

/// The second fails until a file `works` is there; the last is a person's.
pub(super) fn steps() -> Vec<Following> {
    let by_hand = Following { automatic: false, ..step("by-hand", &["second"]) };
    vec![step("first", &[]), step("second", &["first"]), by_hand]
}

fn fresh() -> Progress {
    Progress {
        arrived: "2026-11-21T03:00:00Z".parse().unwrap(),
        side: Side::Slave,
        steps: Default::default(),
    }
}

struct Node {
    place: Place,
    keeper: Keeper,
}

impl Node {
    fn new() -> Node {
        let mut place = Place::new(RoleConfig::Disabled);
        place.program("first", "echo first >>$R/log");
        place.program("second", "echo second >>$R/log; test -e $R/works");
        place.program("tell", "cat >>$R/told; echo >>$R/told");
        place.context.settings.alert.command = vec!["tell".to_owned()];
        let keeper = Keeper::start(&place.context).unwrap();
        Node { place, keeper }
    }

    /// An engine, from its start.
    async fn engine(&self) {
        let (store, progress) = resume(&self.place.context, fresh()).unwrap();
        let clerk = Clerk {
            context: self.place.context.clone(),
            notes: self.keeper.journal(),
            alerts: self.keeper.alerts(),
            book: Arc::default(),
        };
        clerk.keep(Runbook::new(steps(), progress), store).await;
    }

    fn lines(&self, file: &str, of: &str) -> usize {
        let text = fs::read_to_string(self.place.dir.path().join(file)).unwrap_or_default();
        text.lines().filter(|line| line.contains(of)).count()
    }

    async fn until(&self, file: &str, of: &str, times: usize) {
        while self.lines(file, of) < times {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn a_step_that_fails_is_told_once_and_the_next_engine_repeats_it_and_nothing_else() {
    let node = Node::new();
    tokio::select! {
        () = node.engine() => panic!("it ended although a step failed"),
        () = async { tokio::join!(node.until("log", "second", 3), node.until("told", "do second", 1)); } => {}
    }
    assert_eq!(node.lines("log", "first"), 1);
    assert_eq!(node.lines("told", "do second"), 1);
    assert_eq!(node.lines("told", "undo second"), 1);
    assert_eq!(node.lines("told", "by hand: do by-hand"), 0, "not before what it comes after");
    fs::write(node.place.dir.path().join("works"), "").unwrap();
    let again = node.lines("log", "second");
    node.engine().await;
    assert_eq!((node.lines("log", "first"), node.lines("log", "second")), (1, again + 1));
    node.until("told", "by hand: do by-hand", 1).await;
    assert_eq!(node.lines("told", "done: do second"), 1, "what an earlier engine told of is over");
    node.engine().await;
    assert_eq!((node.lines("log", "first"), node.lines("log", "second")), (1, again + 1), "it is over");
    assert_eq!(node.lines("told", "by hand: do by-hand"), 1);
}

#[test]
fn what_an_engine_that_is_gone_told_of_is_over_when_telephony_has_left_meanwhile() {
    let Some(own) = own_address() else { return };
    let place = Place::new(master(&own.to_string()));
    let alerts = Alerts::open(&place.context.root, Vec::new()).unwrap();
    alerts.raise("follow-second", "not done yet", "no route to host");
    alerts.raise("other", "other", "");
    place.run();
    let patience = Instant::now() + LONG;
    while alerts.current().contains_key("follow-second") {
        assert!(Instant::now() < patience, "at the next arrival nobody would be told that it fails");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(alerts.current().contains_key("other"));
}
