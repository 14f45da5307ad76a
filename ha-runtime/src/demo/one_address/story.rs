//! What happens, in order, and what must be seen for it to go on.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::data::part_summary;
use super::super::interrupt::Interrupt;
use super::super::observers::Observers;
use super::super::timeline::{Timeline, Who};
use super::data::Data;
use super::figures::{Figures, Limits};
use super::machine::Machine;
use super::observers::{self, Seen};
use super::place::{Place, Props};
use crate::control::Request;
use crate::replicate::Scope;
use crate::report::Failure;
use crate::settings::{DEFAULT_PATH, Settings};

/// How long fetching a few small things may take, or a handover.
const REQUEST: Duration = Duration::from_secs(60);
/// Between two looks at what the observers see.
const GLANCE: Duration = Duration::from_millis(20);
/// So that a viewer can read, and that what would go wrong now is seen.
const PAUSE: Duration = Duration::from_millis(1500);

/// The rows by which a standby that gets the address begins to serve.
const TAKEOVER: [&str; 3] = ["X3", "X4", "X5"];
/// The callers whose messages are told.
const LAST_MOMENT: u32 = 1003;
const AT_THE_STANDBY: u32 = 1004;

/// The pair and those who look at it. The machines are switched off when this is dropped.
pub(super) struct Story<'a> {
    // dropped first: what is ended at the end is no event
    observers: Observers<Seen>,
    primary: Machine<'a>,
    standby: Machine<'a>,
    data: Data<'a>,
    timeline: Timeline,
    limits: Limits,
    interrupt: Interrupt,
    begun: Instant,
}

/// How it ended.
pub(super) struct Played {
    pub(super) figures: Figures,
    pub(super) limits: Limits,
    /// The reports of all replications.
    pub(super) replications: Vec<Value>,
}

impl<'a> Story<'a> {
    /// Both machines are furnished and switched off.
    pub(super) fn new(
        places: [&Place; 2],
        props: &'a Props,
        timeline: &Timeline,
        interrupt: &Interrupt,
    ) -> Result<Story<'a>, Failure> {
        let [primary, standby] = places;
        let settings = Settings::load(&standby.root.path(DEFAULT_PATH), props.profile());
        let settings = settings.map_err(Failure::environment)?;
        let journals = [(Who::Primary, primary.root.clone()), (Who::Standby, standby.root.clone())];
        Ok(Story {
            observers: observers::start(&props.ground, journals, timeline)?,
            primary: Machine::new(primary, standby, props),
            standby: Machine::new(standby, primary, props),
            data: Data { props, primary: primary.clone(), standby: standby.clone() },
            timeline: timeline.clone(),
            limits: Limits::new(&settings, props.profile()),
            interrupt: interrupt.clone(),
            begun: Instant::now(),
        })
    }

    /// All of it. Err: what should have been seen and was not.
    pub(super) fn play(&mut self) -> Result<Played, Failure> {
        self.boot()?;
        let mut replications = vec![self.fetch(Who::Standby)?];
        self.pause()?;
        let changed = self.data.change()?;
        self.say(Who::Primary, &format!("changed by hand: {changed}"));
        replications.push(self.fetch(Who::Standby)?);
        let fetched = self.data.records_at_rest(Who::Standby)?;
        let last = self.data.leave(Who::Primary, LAST_MOMENT)?;
        self.say(Who::Primary, "a caller leaves a message, in the last moment: nobody has fetched it yet");
        self.only(Who::Primary)?;

        let killed = self.kill()?;
        self.takeover(killed)?;
        self.data.serves_what_was_fetched(fetched)?;
        let rows = fetched.all();
        self.say(
            Who::Standby,
            &format!("serves with what it had fetched: {rows} records, both messages, the greeting"),
        );
        let left = self.data.leave(Who::Standby, AT_THE_STANDBY)?;
        self.say(Who::Standby, "a caller leaves a message here");
        self.only(Who::Standby)?;
        self.pause()?;

        self.bring_back()?;
        replications.push(self.fetch(Who::Primary)?);
        self.data.nothing_is_lost(&[&last, &left])?;
        self.say(
            Who::Primary,
            "both messages are on both nodes: that of the last moment, and that of the standby",
        );
        self.only(Who::Standby)?;
        self.pause()?;
        let back = self.failback()?;
        self.pause()?;
        replications.push(self.fetch(Who::Standby)?);
        self.only(Who::Primary)?;
        let figures = self.measure(killed, back)?;
        self.data.nothing_is_lost(&[&last, &left])?;
        Ok(Played { figures, limits: self.limits.clone(), replications })
    }

    /// The last lines of both daemons' logs, for a person who looks for the cause of a failure.
    pub(super) fn logs(&self) -> String {
        format!("{}\n{}", self.primary.said(), self.standby.said())
    }

    fn boot(&mut self) -> Result<(), Failure> {
        self.say(Who::Demo, "switches both machines and three phones on");
        self.primary.boot()?;
        self.standby.boot()?;
        let since = self.begun;
        self.until("an answer of the primary", |seen| seen.answers(Who::Primary))?;
        self.until("the standby at rest", |seen| seen.decided(Who::Standby, &["X1"], since).is_some())?;
        self.until("all phones registered", |seen| seen.last_registered(since).is_some())?;
        self.ready(Who::Standby)
    }

    /// Fetches now; an administrator's daemon does it every minute.
    fn fetch(&mut self, who: Who) -> Result<Value, Failure> {
        let request = Request::Replicate {
            files: Scope::Compared,
            database: Scope::LeftOut,
            full: false,
            dry_run: false,
        };
        let report = self.machine(who).ask(&request, REQUEST)?;
        if let Some(carried) = report.json["carried"]["carried"].as_u64() {
            let text = format!("has carried what it held newer to the node that serves: {carried}");
            self.say(who, &text);
        }
        let summary = part_summary(&report.json);
        self.say(who, &summary.replace("replicates files", "fetches, while the other node goes on"));
        for line in self.data.equal(who)? {
            self.say(who, &line);
        }
        self.interrupt.check()?;
        Ok(report.json)
    }

    fn kill(&mut self) -> Result<Instant, Failure> {
        self.say(Who::Demo, "KILLS THE PRIMARY: the whole machine, at once");
        let killed = Instant::now();
        self.primary.kill().map_err(Failure::environment)?;
        Ok(killed)
    }

    fn takeover(&mut self, killed: Instant) -> Result<(), Failure> {
        self.until("the standby's takeover", |seen| seen.decided(Who::Standby, &TAKEOVER, killed).is_some())?;
        self.until("an answer of the standby", |seen| seen.answers(Who::Standby))?;
        self.until("all phones registered again", |seen| seen.last_registered(killed).is_some())?;
        self.say(Who::Phone, "all three are registered again, at the address that they know");
        Ok(())
    }

    /// It comes back, and stays passive.
    fn bring_back(&mut self) -> Result<(), Failure> {
        let since = Instant::now();
        self.say(Who::Demo, "switches the primary on again");
        self.primary.boot()?;
        self.until("the primary at rest", |seen| seen.decided(Who::Primary, &["X1", "X2"], since).is_some())?;
        self.ready(Who::Primary)?;
        self.only(Who::Standby)
    }

    /// The address goes back because somebody wants it. When that was asked for.
    fn failback(&mut self) -> Result<Instant, Failure> {
        // the other node must have said that it is ready
        self.ready(Who::Standby)?;
        let asked = Instant::now();
        self.say(Who::Demo, "asks the standby to hand the address back");
        self.standby.ask(&Request::Failback, REQUEST)?;
        self.until("an answer of the primary", |seen| seen.answers.first(Who::Primary, asked).is_some())?;
        Ok(asked)
    }

    /// Until a daemon hears the other node, and that could serve.
    fn ready(&mut self, who: Who) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            match self.machine(who).ask(&Request::Status, REQUEST) {
                Ok(status) if status.json["peer"] == "up" => return Ok(()),
                // its daemon may still be starting
                Err(failure) if begun.elapsed() > REQUEST => return Err(failure),
                Ok(status) if begun.elapsed() > REQUEST => {
                    let text = format!("the {} does not hear the other node: {}", who.word(), status.json);
                    return Err(Failure::environment(text));
                }
                _ => {}
            }
            self.until("the other node", |_| true)?;
            std::thread::sleep(GLANCE);
        }
    }

    fn machine(&self, who: Who) -> &Machine<'a> {
        if who == Who::Standby { &self.standby } else { &self.primary }
    }

    fn measure(&self, killed: Instant, back: Instant) -> Result<Figures, Failure> {
        let seen = self.observers.seen();
        let missed = |what: &str| Failure::environment(format!("not seen: {what}"));
        let taken = seen.decided(Who::Standby, &TAKEOVER, killed).ok_or_else(|| missed("the takeover"))?;
        let answered =
            seen.answers.first(Who::Standby, killed).ok_or_else(|| missed("the standby's answer"))?;
        let phones = seen.last_registered(killed).ok_or_else(|| missed("the phones' return"))?;
        let before = seen.answers.last(Who::Primary, answered).unwrap_or(killed);
        Ok(Figures {
            taken: taken.saturating_duration_since(killed),
            start: answered.saturating_duration_since(taken),
            nobody: seen.answers.gap(before, back),
            phones: phones.saturating_duration_since(killed),
            handover: seen.answers.gap(back, Instant::now()),
            both: seen.answers.overlap(),
            late: seen.woken_late(killed),
        })
    }

    /// One node answers, and it is this one. An observer that is woken late needs a moment to see it.
    fn only(&mut self, who: Who) -> Result<(), Failure> {
        let other = if who == Who::Primary { Who::Standby } else { Who::Primary };
        let what = format!("the {} answers at the address, and nobody else", who.word());
        self.until(&what, |seen| seen.answers(who) && !seen.answers(other))
    }

    /// Waits until it is seen. Err: it was not in time, a daemon has ended, or somebody wants to end.
    fn until(&mut self, what: &str, like: impl Fn(&Seen) -> bool) -> Result<(), Failure> {
        let Story { observers, primary, standby, interrupt, begun, .. } = self;
        let check = || {
            interrupt.check()?;
            primary.check()?;
            standby.check()
        };
        observers.until(what, *begun, check, like)
    }

    fn pause(&mut self) -> Result<(), Failure> {
        let end = Instant::now() + PAUSE;
        self.until("the end of a pause", |_| Instant::now() >= end)
    }

    fn say(&self, who: Who, text: &str) {
        self.timeline.say(who, text);
    }
}

/// For a program.
pub(super) fn document(played: &Played, events: Value, seconds: f64) -> Value {
    json!({
        "seconds": (seconds * 10.0).round() / 10.0,
        "measured": played.figures.json(&played.limits),
        "complaints": played.figures.complaints(&played.limits),
        "replications": played.replications,
        "events": events,
    })
}
