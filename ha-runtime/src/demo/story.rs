//! What happens, in order, and what must be seen for it to go on.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::data::Data;
use super::figures::{Figures, Limits};
use super::interrupt::Interrupt;
use super::node::Node;
use super::observers::{self, Observers};
use super::seen::Seen;
use super::stage::{HOLD, Props, Stage};
use super::timeline::{Timeline, Who};
use crate::control::Request;
use crate::replicate::Scope;
use crate::report::{Blame, Failure};
use crate::settings::{DEFAULT_PATH, Settings};
use crate::sip::Server;

/// How long a replication of a few small things may take.
const REPLICATION: Duration = Duration::from_secs(20);
/// How long the slave's disk may take until what it has decided is on it.
const UNSETTLED: Duration = Duration::from_secs(10);
/// Between two looks at what the observers see.
const GLANCE: Duration = Duration::from_millis(20);
/// So that a viewer can read.
const PAUSE: Duration = Duration::from_millis(1800);

/// The rows by which a slave takes over.
const TAKEOVER: [&str; 3] = ["S3", "S4", "S8"];
/// The row by which it hands back.
const HAND_BACK: [&str; 1] = ["S10"];

/// The pair and those who look at it. The nodes' processes end when this is dropped.
pub(super) struct Story<'a> {
    // dropped first: what is ended at the end is no event
    observers: Observers<Seen>,
    master: Node,
    slave: Node,
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
        stage: &'a Stage,
        props: &Props<'a>,
        timeline: &Timeline,
        interrupt: &Interrupt,
    ) -> Result<Story<'a>, Failure> {
        let profile = props.distribution.profile();
        let path = stage.slave.root.path(DEFAULT_PATH);
        let settings = Settings::load(&path, profile).map_err(Failure::environment)?;
        Ok(Story {
            observers: observers::start(&stage.master, &stage.slave, timeline)?,
            master: Node::new(&stage.master, &stage.slave, props),
            slave: Node::new(&stage.slave, &stage.master, props),
            data: Data { stage, profile, servers: props.servers },
            timeline: timeline.clone(),
            limits: Limits::new(&settings, profile),
            interrupt: interrupt.clone(),
            begun: Instant::now(),
        })
    }

    /// All of it. Err: what should have been seen and was not.
    pub(super) fn play(&mut self) -> Result<Played, Failure> {
        self.boot()?;
        let mut replications = vec![self.replicate()?];
        self.pause()?;
        replications.push(self.change_and_replicate(1)?);
        self.only(Who::Master)?;
        self.pause()?;

        let killed = self.kill()?;
        let taken_over = self.takeover(killed)?;
        self.data.slave_has(1)?;
        self.say(Who::Slave, "serves with the administrator's last changes");
        self.only(Who::Slave)?;
        self.pause()?;

        self.bring_back(killed)?;
        let handed_back = self.failback(killed)?;
        self.only(Who::Master)?;
        self.pause()?;

        replications.push(self.change_and_replicate(2)?);
        self.only(Who::Master)?;
        let figures = self.measure(killed, taken_over, handed_back)?;
        Ok(Played { figures, limits: self.limits.clone(), replications })
    }

    /// The last lines of both daemons' logs, for a person who looks for the cause of a failure.
    pub(super) fn logs(&self) -> String {
        format!(
            "the master's daemon said:\n{}\nthe slave's daemon said:\n{}",
            self.master.said(),
            self.slave.said()
        )
    }

    fn boot(&mut self) -> Result<(), Failure> {
        self.say(Who::Demo, "switches both machines and three phones on");
        self.master.boot()?;
        self.slave.boot()?;
        let since = self.begun;
        self.until("the slave's first verdict on the master", |seen| {
            seen.decided(Who::Slave, &["S1"], since).is_some()
        })?;
        self.until("all phones at the master", |seen| seen.all_at(Server::Primary))
    }

    /// Both parts, or the files alone where there is no PostgreSQL.
    fn replication(&self) -> Request {
        let database = if self.data.servers.is_some() { Scope::Compared } else { Scope::LeftOut };
        Request::Replicate { files: Scope::Compared, database, full: false, dry_run: false }
    }

    fn replicate(&mut self) -> Result<Value, Failure> {
        let request = self.replication();
        let begun = Instant::now();
        let report = loop {
            match self.master.ask(&request, REPLICATION) {
                // the slave's decisions reach its disk a moment after they are made, and a replication in between is refused
                Err(failure) if failure.blame == Blame::Guard && begun.elapsed() < UNSETTLED => {
                    self.say(
                        Who::Master,
                        &format!("replication is refused, and tried again: {}", short(&failure)),
                    );
                    self.pause()?;
                }
                verdict => break verdict?,
            }
        };
        for line in self.data.summary(&report.json) {
            self.say(Who::Master, &line);
        }
        for line in self.data.equal()? {
            self.say(Who::Slave, &line);
        }
        self.interrupt.check()?;
        Ok(report.json)
    }

    fn change_and_replicate(&mut self, number: u32) -> Result<Value, Failure> {
        let changed = self.data.change(number)?;
        self.say(Who::Master, &format!("changed by hand: {changed}"));
        let report = self.replicate()?;
        self.data.slave_has(number)?;
        Ok(report)
    }

    fn kill(&mut self) -> Result<Instant, Failure> {
        self.say(Who::Demo, "KILLS THE MASTER: its daemon and its telephony, at once");
        let killed = Instant::now();
        self.master.kill()?;
        Ok(killed)
    }

    fn takeover(&mut self, killed: Instant) -> Result<Instant, Failure> {
        self.until("the slave's takeover", |seen| seen.decided(Who::Slave, &TAKEOVER, killed).is_some())?;
        self.until("an answer of the slave's telephony", |seen| seen.answers(Who::Slave))?;
        self.until("all phones at the slave", |seen| seen.all_at(Server::Backup))?;
        let seen = self.observers.seen();
        seen.decided(Who::Slave, &TAKEOVER, killed).ok_or_else(|| missed("the slave's takeover"))
    }

    fn bring_back(&mut self, killed: Instant) -> Result<(), Failure> {
        self.say(Who::Demo, "switches the master on again");
        self.master.boot()?;
        self.until("an answer of the master's telephony", |seen| {
            seen.changed(Who::Master, true, killed).is_some()
        })?;
        self.refused_replication()
    }

    /// What the slave has now may be newer.
    fn refused_replication(&self) -> Result<(), Failure> {
        let request = self.replication();
        let deadline = Instant::now() + HOLD / 2;
        loop {
            match self.master.ask(&request, REPLICATION) {
                Err(failure) if failure.blame == Blame::Guard => {
                    self.say(Who::Master, &format!("may not replicate: {}", short(&failure)));
                    return Ok(());
                }
                Ok(_) => {
                    let text = "the master replicated to a slave that serves, which must be refused";
                    return Err(Failure::environment(text));
                }
                // its daemon may still be starting
                Err(failure) if Instant::now() > deadline => return Err(failure),
                Err(_) => std::thread::sleep(GLANCE),
            }
        }
    }

    fn failback(&mut self, killed: Instant) -> Result<Instant, Failure> {
        self.until("the slave's failback", |seen| seen.decided(Who::Slave, &HAND_BACK, killed).is_some())?;
        let decided = self.observers.seen().decided(Who::Slave, &HAND_BACK, killed);
        let decided = decided.ok_or_else(|| missed("the slave's failback"))?;
        self.until("the end of the slave's telephony", |seen| !seen.answers(Who::Slave))?;
        self.until("all phones at the master again", |seen| seen.all_at(Server::Primary))?;
        Ok(decided)
    }

    fn measure(&self, killed: Instant, noticed: Instant, handed_back: Instant) -> Result<Figures, Failure> {
        let seen = self.observers.seen();
        let answered =
            seen.changed(Who::Slave, true, killed).ok_or_else(|| missed("the slave's telephony"))?;
        let moved = seen.last_came(Server::Backup, killed).ok_or_else(|| missed("the phones' move"))?;
        let returned =
            seen.changed(Who::Master, true, killed).ok_or_else(|| missed("the master's return"))?;
        let now = Instant::now();
        Ok(Figures {
            detection: noticed.saturating_duration_since(killed),
            start: answered.saturating_duration_since(noticed),
            phones: moved.saturating_duration_since(killed),
            nobody: seen.longest_with(0, killed, now),
            held: handed_back.saturating_duration_since(returned),
            both: seen.longest_with(2, killed, now),
        })
    }

    /// In peace exactly one node answers.
    fn only(&self, who: Who) -> Result<(), Failure> {
        let seen = self.observers.seen();
        let other = if who == Who::Master { Who::Slave } else { Who::Master };
        if seen.answers(who) && !seen.answers(other) {
            return Ok(());
        }
        Err(Failure::environment(format!("the {} should answer phones now, and nobody else", who.word())))
    }

    /// Waits until it is seen. Err: it was not in time, a daemon has ended, or somebody wants to end.
    fn until(&mut self, what: &str, like: impl Fn(&Seen) -> bool) -> Result<(), Failure> {
        let Story { observers, master, slave, interrupt, begun, .. } = self;
        let check = || {
            interrupt.check()?;
            master.check()?;
            slave.check()
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

/// A refusal's reason, without what would lift it: here time does.
fn short(refusal: &Failure) -> &str {
    let message = refusal.message.lines().next().unwrap_or_default();
    let message = message.strip_prefix("files: ").unwrap_or(message);
    let reason = message.split_once("\": ").map_or(message, |(_, reason)| reason);
    reason.split([';', ',']).next().unwrap_or(reason)
}

fn missed(what: &str) -> Failure {
    Failure::environment(format!("not seen: {what}"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_refusal_the_reason_is_shown() {
        let refusal = Failure::guard(
            "files: guard \"active\": the slave serves, and more; it is lifted by the failback\nmore",
        );
        assert_eq!(short(&refusal), "the slave serves");
        assert_eq!(short(&Failure::guard("not now")), "not now");
    }
}
