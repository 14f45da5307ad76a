//! What the viewer sees: events with their times, and on a terminal one line below them that shows how things are.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use crate::sip::Server;

/// Who did something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    /// The demonstration itself, in the part of the world around the pair.
    Demo,
    /// The node that normally serves.
    Master,
    /// The other one.
    Slave,
    /// The master, in the words of a pair that shares one address.
    Primary,
    /// The slave there.
    Standby,
    /// A phone.
    Phone,
}

impl Who {
    /// As it is printed.
    pub(super) fn word(self) -> &'static str {
        match self {
            Who::Demo => "demo",
            Who::Master => "master",
            Who::Slave => "slave",
            Who::Primary => "primary",
            Who::Standby => "standby",
            Who::Phone => "phone",
        }
    }

    /// SGR parameters (ECMA-48).
    fn colour(self) -> &'static str {
        match self {
            Who::Demo => "1",
            Who::Master | Who::Primary => "36",
            Who::Slave | Who::Standby => "33",
            Who::Phone => "32",
        }
    }
}

/// How it is shown.
#[derive(Debug)]
enum Form {
    /// On a terminal.
    Live { bar: ProgressBar, coloured: bool },
    /// Into a file or a pipe.
    Lines,
    /// Not at all: one JSON document follows at the end.
    Silent,
}

/// What a node decides is read from its journal a little later.
pub(super) const SETTLING: Duration = Duration::from_millis(150);

/// Cheap to clone; all clones are one timeline.
#[derive(Debug, Clone)]
pub(super) struct Timeline(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    begun: Instant,
    form: Form,
    /// How long an event waits for earlier ones.
    settling: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Not printed yet.
    waiting: Vec<Event>,
    /// Printed, as a program gets them.
    events: Vec<Value>,
    board: Board,
}

#[derive(Debug)]
struct Event {
    at: Instant,
    who: Who,
    text: String,
}

/// How things are now.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Board {
    serves: BTreeMap<Who, bool>,
    phones: BTreeMap<String, Option<Server>>,
}

impl Timeline {
    /// Begins now. `settling`: how much later than others an event may be told of.
    pub(super) fn begin(json: bool, settling: Duration) -> Timeline {
        let on = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let form = if json {
            Form::Silent
        } else if io::stdout().is_terminal() && !dumb {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
            // no other template than this one, which is well-formed
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            Form::Live { bar, coloured: !on("NO_COLOR") }
        } else {
            Form::Lines
        };
        Timeline(Arc::new(Shared { begun: Instant::now(), form, settling, state: Mutex::default() }))
    }

    /// A line without a time, before or after the events.
    pub(super) fn print(&self, line: &str) {
        match &self.0.form {
            Form::Live { bar, .. } => bar.println(line),
            // a reader that has gone away is no error of ours
            Form::Lines => drop(writeln!(io::stdout(), "{line}")),
            Form::Silent => {}
        }
    }

    /// Something happened now.
    pub(super) fn say(&self, who: Who, text: &str) {
        self.say_at(Instant::now(), who, text);
    }

    /// Something happened then.
    pub(super) fn say_at(&self, at: Instant, who: Who, text: &str) {
        self.state().waiting.push(Event { at, who, text: text.to_owned() });
        self.settle(at);
    }

    /// Prints, in their order, the events that nothing earlier can come before any more. To be called often.
    pub(super) fn settle(&self, now: Instant) {
        self.print_until(now.checked_sub(self.0.settling).unwrap_or(now));
    }

    /// Prints all of them: nothing that is under way can come before.
    pub(super) fn settle_all(&self) {
        self.print_until(Instant::now());
    }

    fn print_until(&self, until: Instant) {
        let coloured = matches!(self.0.form, Form::Live { coloured: true, .. });
        // held while printing: two threads must not print in another order than they were sorted in
        let mut state = self.state();
        state.waiting.sort_by_key(|event| event.at);
        let later = state.waiting.iter().position(|event| event.at > until).unwrap_or(state.waiting.len());
        let settled: Vec<Event> = state.waiting.drain(..later).collect();
        for Event { at, who, text } in settled {
            let seconds = self.seconds(at);
            state.events.push(json!({ "at_seconds": rounded(seconds), "who": who.word(), "what": text }));
            self.print(&line(seconds, who, &text, coloured));
        }
    }

    /// Whether somebody's telephony answers.
    pub(super) fn serves(&self, who: Who, answers: bool) {
        self.state().board.serves.insert(who, answers);
        self.show();
    }

    /// Where a phone is registered.
    pub(super) fn phone(&self, user: &str, server: Option<Server>) {
        self.state().board.phones.insert(user.to_owned(), server);
        self.show();
    }

    /// All events so far, for a program.
    pub(super) fn events(&self) -> Value {
        Value::Array(self.state().events.clone())
    }

    /// Prints what still waits, and takes the moving line away.
    pub(super) fn end(&self) {
        self.settle_all();
        if let Form::Live { bar, .. } = &self.0.form {
            bar.finish_and_clear();
        }
    }

    /// Since the beginning.
    pub(super) fn seconds(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.0.begun).as_secs_f64()
    }

    fn show(&self) {
        if let Form::Live { bar, coloured } = &self.0.form {
            bar.set_message(self.state().board.text(*coloured));
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Milliseconds: what the observers can tell apart.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

fn line(seconds: f64, who: Who, text: &str, coloured: bool) -> String {
    let word = format!("{:<7}", who.word());
    let word = if coloured { format!("\x1b[{}m{word}\x1b[0m", who.colour()) } else { word };
    format!("{:>+6.1} s  {word}  {text}", seconds)
}

impl Board {
    fn text(&self, coloured: bool) -> String {
        let mut text = String::new();
        for (who, answers) in &self.serves {
            let state = if *answers { "● answers" } else { "○ silent " };
            let paint =
                |code: &str| if coloured { format!("\x1b[{code}m{state}\x1b[0m") } else { state.to_owned() };
            // writing to a string does not fail
            let _ = write!(text, "{} {}   ", who.word(), paint(if *answers { "1;32" } else { "2" }));
        }
        if !self.phones.is_empty() {
            text.push_str("phones");
        }
        for (user, server) in &self.phones {
            let at = match server {
                Some(Server::Primary) => Who::Master.word(),
                Some(Server::Backup) => Who::Slave.word(),
                None => "?",
            };
            let _ = write!(text, "  {user} → {at}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_when_who_and_what() {
        assert_eq!(
            line(12.34, Who::Slave, "master stopped answering: take over", false),
            " +12.3 s  slave    master stopped answering: take over"
        );
        assert_eq!(line(0.0, Who::Demo, "begins", true), "  +0.0 s  \x1b[1mdemo   \x1b[0m  begins");
    }

    #[test]
    fn an_event_that_is_heard_of_late_is_told_in_its_place() {
        let timeline = Timeline::begin(true, SETTLING);
        let begun = timeline.0.begun;
        let at = |ms| begun + Duration::from_millis(ms);
        timeline.say_at(at(100), Who::Slave, "telephony is silent");
        timeline.say_at(at(90), Who::Slave, "hand back");
        timeline.say_at(at(300), Who::Demo, "later");
        let told = |timeline: &Timeline| {
            let Value::Array(events) = timeline.events() else { panic!("an array") };
            events.iter().map(|event| event["what"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(told(&timeline), ["hand back", "telephony is silent"]);
        timeline.settle(at(1000));
        assert_eq!(told(&timeline), ["hand back", "telephony is silent", "later"]);
    }

    #[test]
    fn the_board_shows_who_answers_and_where_each_phone_is() {
        let mut board = Board::default();
        board.serves.insert(Who::Master, true);
        board.serves.insert(Who::Slave, false);
        board.phones.insert("1001".to_owned(), Some(Server::Primary));
        board.phones.insert("1002".to_owned(), None);
        assert_eq!(board.text(false), "master ● answers   slave ○ silent    phones  1001 → master  1002 → ?");
    }
}
