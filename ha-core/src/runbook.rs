//! A runbook under way: which steps are next, which are done, which have failed and are tried again.
//!
//! Pure and total, as [`Node`](crate::Node): the runtime carries a step out and reports; what survives a restart is
//! [`Progress`]. A step is begun when every step that it comes after is done. What has been done is never done again,
//! whatever fails later; what is announced only counts as done.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::follow::{Side, Step};
use crate::time::Instant;

/// Between two questions whether a step holds.
const PACE: Duration = Duration::from_secs(1);
/// First pause after a failure; doubles.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Failures that are told apart: the pause grows to 64 s.
const FAILURES_COUNTED: u32 = 7;

/// How far a runbook is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// When telephony came: another arrival is another runbook.
    pub arrived: DateTime<Utc>,
    /// Where it came to.
    pub side: Side,
    /// By id; a step that is not here waits.
    pub steps: BTreeMap<String, State>,
}

/// How far a step is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing was done yet.
    #[default]
    Waiting,
    /// It was acted, and is not known to hold yet.
    Acted,
    /// It holds, since then.
    Done(DateTime<Utc>),
    /// A person was told to do it, then.
    Announced(DateTime<Utc>),
}

impl State {
    fn lets_others_begin(&self) -> bool {
        match self {
            State::Waiting | State::Acted => false,
            State::Done(_) | State::Announced(_) => true,
        }
    }
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Carry out the act of the step of this index.
    Act(usize),
    /// Ask whether the step of this index holds.
    Check(usize),
    /// Tell a person to do the step of this index.
    Announce(usize),
}

impl Order {
    /// Which step.
    pub fn step(self) -> usize {
        match self {
            Order::Act(index) | Order::Check(index) | Order::Announce(index) => index,
        }
    }
}

/// What happened to a step, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It has failed, or does not hold for longer than its patience: told once, until it is done.
    Failed(String),
    /// It is done, whether or not it had failed before: an earlier engine may have told that.
    Done,
}

/// One step with everything that a restart may forget.
#[derive(Debug, Clone)]
struct Under {
    step: Step,
    /// An order is out.
    busy: bool,
    /// Not before.
    not_before: Instant,
    /// When it could begin.
    since: Option<Instant>,
    tries: u32,
    failures: u32,
    error: Option<String>,
    told: bool,
}

/// The steps and how far they are.
#[derive(Debug, Clone)]
pub struct Runbook {
    steps: Vec<Under>,
    progress: Progress,
}

/// One step, for `status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepStatus<'a> {
    /// The step.
    pub step: &'a Step,
    /// How far it is.
    pub state: &'a State,
    /// Attempts of this engine.
    pub tries: u32,
    /// What the last attempt that failed said; gone once one succeeds.
    pub error: Option<&'a str>,
    /// A person was told that it failed.
    pub failed: bool,
}

impl Runbook {
    /// The steps as far as `progress` says; progress of steps that there are no more is forgotten.
    pub fn new(steps: Vec<Step>, mut progress: Progress) -> Runbook {
        progress.steps.retain(|id, _| steps.iter().any(|step| step.id == *id));
        let under = |step| Under {
            step,
            busy: false,
            not_before: Instant::default(),
            since: None,
            tries: 0,
            failures: 0,
            error: None,
            told: false,
        };
        Runbook { steps: steps.into_iter().map(under).collect(), progress }
    }

    /// What is to be kept over a restart, whenever [`Runbook::report`] or [`Runbook::announced`] returned.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// A step.
    ///
    /// # Panics
    ///
    /// There is none of this index: only those of orders are given out.
    pub fn step(&self, index: usize) -> &Step {
        &self.steps[index].step
    }

    /// Every step, in order.
    pub fn status(&self) -> impl Iterator<Item = StepStatus<'_>> {
        self.steps.iter().map(|under| StepStatus {
            step: &under.step,
            state: self.state(&under.step.id),
            tries: under.tries,
            error: under.error.as_deref(),
            failed: under.told,
        })
    }

    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.steps.iter().all(|under| self.state(&under.step.id).lets_others_begin())
    }

    /// What is to be done now; each is given out once, until it is reported.
    pub fn next(&mut self, now: Instant) -> Vec<Order> {
        let mut orders = Vec::new();
        for index in 0..self.steps.len() {
            if !self.may_begin(index) {
                continue;
            }
            let acted = matches!(self.state(&self.steps[index].step.id), State::Acted);
            let under = &mut self.steps[index];
            under.since.get_or_insert(now);
            if under.not_before > now {
                continue;
            }
            under.busy = true;
            orders.push(match (&under.step.act, acted) {
                _ if !under.step.automatic => Order::Announce(index),
                (Some(_), false) => Order::Act(index),
                (Some(_), true) | (None, _) => Order::Check(index),
            });
        }
        orders
    }

    /// When [`Runbook::next`] has something again, if nothing is reported before.
    pub fn deadline(&self) -> Option<Instant> {
        let waiting = (0..self.steps.len()).filter(|index| self.may_begin(*index));
        waiting.map(|index| self.steps[index].not_before).min()
    }

    /// A person was told to do that step.
    pub fn announced(&mut self, index: usize, wall: DateTime<Utc>) {
        self.steps[index].busy = false;
        self.set(index, State::Announced(wall));
    }

    /// An order ended. What a person should hear of it.
    pub fn report(
        &mut self,
        order: Order,
        result: Result<(), String>,
        now: Instant,
        wall: DateTime<Utc>,
    ) -> Option<News> {
        let index = order.step();
        let under = &mut self.steps[index];
        under.busy = false;
        under.tries = under.tries.saturating_add(1);
        let acts = matches!(order, Order::Act(_));
        match result {
            Ok(()) => {
                under.failures = 0;
                under.error = None;
                if acts && under.step.check.is_some() {
                    under.since = Some(now);
                    self.set(index, State::Acted);
                    return None;
                }
                under.told = false;
                self.set(index, State::Done(wall));
                Some(News::Done)
            }
            Err(error) => {
                let waited = under.since.map_or(Duration::ZERO, |since| now - since);
                let patient = !acts && waited < under.step.patience;
                under.not_before = now + if patient { PACE } else { under.pause() };
                under.error = Some(error.clone());
                if patient || under.told {
                    return None;
                }
                under.told = true;
                Some(News::Failed(error))
            }
        }
    }

    fn may_begin(&self, index: usize) -> bool {
        let under = &self.steps[index];
        let done = |id: &String| {
            let known = self.steps.iter().any(|other| other.step.id == *id);
            !known || self.state(id).lets_others_begin()
        };
        !under.busy && !self.state(&under.step.id).lets_others_begin() && under.step.after.iter().all(done)
    }

    fn state(&self, id: &str) -> &State {
        const WAITING: &State = &State::Waiting;
        self.progress.steps.get(id).unwrap_or(WAITING)
    }

    fn set(&mut self, index: usize, state: State) {
        self.progress.steps.insert(self.steps[index].step.id.clone(), state);
    }
}

impl Under {
    fn pause(&mut self) -> Duration {
        self.failures = (self.failures + 1).min(FAILURES_COUNTED);
        FIRST_RETRY * 2u32.pow(self.failures - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::follow::{Place, Task, Wanted};

    const SECOND: Duration = Duration::from_secs(1);

    fn step(id: &str, after: &[&str], acts: bool, checks: bool) -> Step {
        let run = || Task::Run { argv: vec!["true".to_owned()], directory: None, output: Wanted::Anything };
        Step {
            id: id.to_owned(),
            says: format!("do {id}"),
            after: after.iter().map(|id| (*id).to_owned()).collect(),
            place: Place::Here,
            act: acts.then(run),
            check: checks.then(run),
            timeout: SECOND,
            patience: SECOND * 10,
            undo: String::new(),
            automatic: true,
        }
    }

    /// As for a pair with a contact centre, an Edge and a media server.
    fn steps() -> Vec<Step> {
        vec![
            step("services", &[], false, true),
            step("cc-restart", &["services"], true, false),
            step("cc-answers", &["cc-restart"], false, true),
            step("mds", &["services"], false, true),
            step("edge-file", &["services"], true, true),
            step("edge-apply", &["edge-file"], true, false),
        ]
    }

    fn wall() -> DateTime<Utc> {
        "2026-11-21T03:00:00Z".parse().unwrap()
    }

    fn fresh() -> Progress {
        Progress { arrived: wall(), side: Side::Slave, steps: BTreeMap::new() }
    }

    fn at(seconds: u64) -> Instant {
        Instant::default() + Duration::from_secs(seconds)
    }

    fn ids(book: &Runbook, orders: &[Order]) -> Vec<String> {
        orders.iter().map(|order| book.step(order.step()).id.clone()).collect()
    }

    #[test]
    fn nothing_follows_before_the_services_are_ready_and_then_all_sides_follow_at_once() {
        let mut book = Runbook::new(steps(), fresh());
        let orders = book.next(at(0));
        assert_eq!(orders, [Order::Check(0)]);
        assert_eq!(book.next(at(5)), [], "one order of a step at a time");
        assert_eq!(book.report(orders[0], Err("starting".to_owned()), at(5), wall()), None, "it is patient");
        assert_eq!(book.next(at(5)), []);
        assert_eq!(book.next(at(6)), [Order::Check(0)]);
        book.report(Order::Check(0), Ok(()), at(6), wall());
        let orders = book.next(at(6));
        assert_eq!(orders, [Order::Act(1), Order::Check(3), Order::Act(4)]);
        assert_eq!(ids(&book, &orders), ["cc-restart", "mds", "edge-file"]);
    }

    #[test]
    fn a_step_that_failed_is_told_once_tried_again_and_keeps_back_only_what_comes_after_it() {
        let mut book = Runbook::new(steps(), fresh());
        book.next(at(0));
        book.report(Order::Check(0), Ok(()), at(0), wall());
        book.next(at(0));
        let failed = || Err("no route to host".to_owned());
        let news = book.report(Order::Act(4), failed(), at(1), wall());
        assert_eq!(news, Some(News::Failed("no route to host".to_owned())));
        book.report(Order::Act(1), Ok(()), at(1), wall());
        assert_eq!(book.next(at(1)), [Order::Check(2)], "the contact centre goes on");
        assert_eq!(book.next(at(2)), [Order::Act(4)]);
        assert_eq!(book.report(Order::Act(4), failed(), at(2), wall()), None, "told once");
        assert_eq!(book.next(at(3)), [], "the pause grows");
        assert_eq!(book.next(at(4)), [Order::Act(4)]);
        assert_eq!(book.report(Order::Act(4), Ok(()), at(4), wall()), None, "it must hold as well");
        assert_eq!(book.next(at(4)), [Order::Check(4)]);
        let news = book.report(Order::Check(4), Ok(()), at(4), wall());
        assert_eq!(news, Some(News::Done));
        assert_eq!(book.next(at(4)), [Order::Act(5)]);
    }

    #[test]
    fn a_step_that_is_only_announced_lets_the_next_begin() {
        let mut by_hand = steps();
        by_hand[1].automatic = false;
        let mut book = Runbook::new(by_hand, fresh());
        book.next(at(0));
        book.report(Order::Check(0), Ok(()), at(0), wall());
        assert!(book.next(at(0)).contains(&Order::Announce(1)));
        book.announced(1, wall());
        assert_eq!(book.next(at(0)), [Order::Check(2)]);
    }

    #[test]
    fn progress_of_a_step_that_was_taken_out_of_the_settings_is_forgotten() {
        let mut progress = fresh();
        progress.steps.insert("mds-gone".to_owned(), State::Done(wall()));
        assert!(Runbook::new(steps(), progress).progress().steps.is_empty());
    }

    proptest! {
        /// Whatever fails, and wherever the engine is killed: no act that succeeded is done again, nothing begins before what
        /// it comes after, and once everything works the runbook ends.
        #[test]
        fn what_is_done_is_never_done_again(script in prop::collection::vec((any::<bool>(), any::<bool>(), 0u64..90), 0..60)) {
            let mut book = Runbook::new(steps(), fresh());
            let mut kept = book.progress().clone();
            let mut done = BTreeSet::new();
            let mut now = 0;
            let calm = (0..40).map(|_| (true, false, 70));
            for (works, killed, wait) in script.into_iter().chain(calm) {
                for order in book.next(at(now)) {
                    let step = book.step(order.step()).clone();
                    for before in &step.after {
                        prop_assert!(done.contains(before), "{} before {before}", step.id);
                    }
                    if let Order::Act(_) = order {
                        prop_assert!(!done.contains(&format!("{} acted", step.id)), "{} again", step.id);
                    }
                    let result = if works { Ok(()) } else { Err("no".to_owned()) };
                    if works && matches!(order, Order::Act(_)) {
                        done.insert(format!("{} acted", step.id));
                    }
                    if works && (matches!(order, Order::Check(_)) || step.check.is_none()) {
                        done.insert(step.id.clone());
                    }
                    book.report(order, result, at(now), wall());
                    kept = book.progress().clone();
                }
                if killed {
                    book = Runbook::new(steps(), kept.clone());
                }
                now += wait;
            }
            prop_assert!(book.is_done(), "{:?}", book.progress());
            prop_assert_eq!(book.deadline(), None);
        }
    }
}
