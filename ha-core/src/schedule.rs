//! When something is due: crontab's five fields, with crontab's own meaning.

mod field;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, LocalResult, NaiveDateTime, TimeDelta, Utc};
use thiserror::Error;

use crate::time::Zone;
use field::{Field, KINDS};

/// Runs at the minutes that a crontab line names, in local time.
///
/// crontab(5) is the reference: 0 and 7 are Sunday, a step needs a range or `*`, and when neither day of month nor day of week
/// begins with `*`, a day that matches either of them is meant. The `cron` crate steps through the calendar; what it
/// understands differently (weekdays from 1, both days at once, daylight saving) never reaches it.
///
/// Daylight saving neither skips nor doubles a run:
/// - what falls into the hour that spring leaves out runs at the first instant after it, once;
/// - what falls into the hour that autumn repeats runs the first time round. Only a schedule of *every* hour also runs in
///   the repetition: its next hour has come, and leaving it out would skip a run (cron(8) does the same).
///
/// The calendar ends with the year 2100.
#[derive(Debug, Clone)]
pub struct Schedule {
    text: String,
    /// Evaluated on naive local time; what is due is the earliest of them.
    local: Vec<cron::Schedule>,
    every_hour: bool,
}

/// A schedule that cannot be read. The user's fault; nothing has been changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ScheduleError {
    /// Not five fields.
    #[error(
        "schedule \"{text}\" has {found} fields: five are needed, minute hour day-of-month month day-of-week, as in \"0 * * * *\""
    )]
    Fields {
        /// What was given.
        text: String,
        /// How many there are.
        found: usize,
    },
    /// Not a number or name of the field.
    #[error("\"{value}\" is not a {field} of a schedule: {min} to {max} are{names}", names = names_hint(field))]
    Value {
        /// The field's name.
        field: &'static str,
        /// What was given.
        value: String,
        /// Smallest number.
        min: u32,
        /// Largest number.
        max: u32,
    },
    /// A range that ends before it begins.
    #[error("range \"{range}\" of the schedule's {field} ends before it begins: write the smaller one first")]
    Backwards {
        /// The field's name.
        field: &'static str,
        /// What was given.
        range: String,
    },
    /// A step of zero, or no number.
    #[error("step \"{step}\" of the schedule's {field} is wrong: 1 to {max} may follow the \"/\"")]
    Step {
        /// The field's name.
        field: &'static str,
        /// What was given.
        step: String,
        /// Largest step.
        max: u32,
    },
    /// A step behind a single number.
    #[error(
        "step \"{step}\" of a schedule follows a single number: a range or \"*\" is needed, as in \"*/15\" or \"0-30/10\""
    )]
    StepWithoutRange {
        /// What was given.
        step: String,
    },
    /// A word with `@` that crontab does not have, or that has no time.
    #[error(
        "\"{word}\" is not a schedule: @hourly, @daily, @midnight, @weekly, @monthly, @yearly and @annually are"
    )]
    Word {
        /// What was given.
        word: String,
    },
    /// Five good fields that never meet.
    #[error("schedule \"{text}\" never comes: no such day is in the calendar")]
    Never {
        /// What was given.
        text: String,
    },
}

fn names_hint(field: &str) -> &'static str {
    match field {
        "month" => ", or jan to dec",
        "day of week" => " (0 and 7 are Sunday), or sun to sat",
        _ => "",
    }
}

impl Schedule {
    /// Reads five fields, or one of crontab's words such as `@hourly`.
    pub fn parse(text: &str) -> Result<Schedule, ScheduleError> {
        let text = text.trim();
        let meant = if text.starts_with('@') { word(text)? } else { text };
        let fields: Vec<&str> = meant.split_ascii_whitespace().collect();
        let fields: [&str; 5] = fields
            .try_into()
            .map_err(|fields: Vec<_>| ScheduleError::Fields { text: text.to_owned(), found: fields.len() })?;
        let mut parsed = [Field::parse(KINDS[0], fields[0])?; 5];
        for ((slot, kind), text) in parsed.iter_mut().zip(KINDS).zip(fields).skip(1) {
            *slot = Field::parse(kind, text)?;
        }
        let [minutes, hours, dates, months, weekdays] = parsed;
        let either_day = !dates.star && !weekdays.star;
        let (dates, weekdays) = (list(dates), weekday_names(weekdays));
        let days = if either_day {
            vec![(dates.as_str(), "*"), ("*", weekdays.as_str())]
        } else {
            vec![(dates.as_str(), weekdays.as_str())]
        };
        let local: Vec<cron::Schedule> = days
            .into_iter()
            .map(|(dates, weekdays)| {
                let text = format!("0 {} {} {dates} {} {weekdays}", list(minutes), list(hours), list(months));
                cron::Schedule::from_str(&text)
                    .expect("lists of numbers in range and names of weekdays are the crate's own language")
            })
            .collect();
        let schedule = Schedule { text: text.to_owned(), local, every_hour: hours.numbers().count() == 24 };
        match schedule.next_local(DateTime::UNIX_EPOCH.naive_utc()) {
            Some(_) => Ok(schedule),
            None => Err(ScheduleError::Never { text: text.to_owned() }),
        }
    }

    /// The first run after `wall`, always later than it. `None`: the calendar has ended.
    pub fn next_after(&self, wall: DateTime<Utc>, zone: &dyn Zone) -> Option<DateTime<Utc>> {
        let next = self.first_pass(wall, zone);
        let again = self.every_hour.then(|| self.second_pass(wall, zone)).flatten();
        let next = next.into_iter().chain(again).min();
        debug_assert!(next.is_none_or(|next| next > wall), "a run at {next:?} is not after {wall}");
        next
    }

    /// The first run after `wall` when each local minute counts the first time round only.
    ///
    /// Seen so, a later minute on the wall is never an earlier instant, and the search may begin at the wall's own minute.
    fn first_pass(&self, wall: DateTime<Utc>, zone: &dyn Zone) -> Option<DateTime<Utc>> {
        let mut local = zone.local(wall);
        loop {
            local = self.next_local(local)?;
            let run = match earliest(zone.instants(local)) {
                Some(run) => Some(run),
                None => after_gap(local, zone),
            };
            if let Some(run) = run.filter(|run| *run > wall) {
                return Some(run);
            }
        }
    }

    /// The first run after `wall` among those local minutes that come a second time and were passed once already.
    fn second_pass(&self, wall: DateTime<Utc>, zone: &dyn Zone) -> Option<DateTime<Utc>> {
        let near = TimeDelta::hours(25);
        let offset = |at: DateTime<Utc>| zone.local(at) - at.naive_utc();
        let repeated = offset(wall.checked_sub_signed(near)?) - offset(wall.checked_add_signed(near)?);
        if repeated <= TimeDelta::zero() {
            return None;
        }
        let here = zone.local(wall);
        let mut local = here - repeated - TimeDelta::seconds(1);
        loop {
            local = self.next_local(local).filter(|local| *local <= here + repeated)?;
            if let LocalResult::Ambiguous(one, other) = zone.instants(local)
                && one.min(other) <= wall
                && one.max(other) > wall
            {
                return Some(one.max(other));
            }
        }
    }

    /// The first minute after `local` that the fields name, on a calendar without daylight saving.
    fn next_local(&self, local: NaiveDateTime) -> Option<NaiveDateTime> {
        self.local
            .iter()
            .filter_map(|days| days.after(&local.and_utc()).next())
            .min()
            .map(|at| at.naive_utc())
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Schedule {
    type Err = ScheduleError;
    fn from_str(text: &str) -> Result<Schedule, ScheduleError> {
        Schedule::parse(text)
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Schedule) -> bool {
        self.text == other.text
    }
}

impl Eq for Schedule {}

fn word(text: &str) -> Result<&'static str, ScheduleError> {
    match text {
        "@hourly" => Ok("0 * * * *"),
        "@daily" | "@midnight" => Ok("0 0 * * *"),
        "@weekly" => Ok("0 0 * * 0"),
        "@monthly" => Ok("0 0 1 * *"),
        "@yearly" | "@annually" => Ok("0 0 1 1 *"),
        _ => Err(ScheduleError::Word { word: text.to_owned() }),
    }
}

fn list(field: Field) -> String {
    field.numbers().map(|number| number.to_string()).collect::<Vec<_>>().join(",")
}

/// By name, because the crate's numbers begin with 1 for Sunday. All seven are `*`, so that it need not look at weekdays.
fn weekday_names(field: Field) -> String {
    const NAMES: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
    let names: Vec<&str> =
        field.numbers().filter_map(|number| NAMES.get(usize::try_from(number).ok()?).copied()).collect();
    if names.len() == NAMES.len() { "*".to_owned() } else { names.join(",") }
}

fn earliest(instants: LocalResult<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    match instants {
        LocalResult::None => None,
        LocalResult::Single(at) => Some(at),
        LocalResult::Ambiguous(one, other) => Some(one.min(other)),
    }
}

/// The first instant after the gap that `missing` lies in. `None`: no end of the gap within two days.
fn after_gap(missing: NaiveDateTime, zone: &dyn Zone) -> Option<DateTime<Utc>> {
    let exists = |seconds: i64| earliest(zone.instants(missing + TimeDelta::seconds(seconds)));
    let (mut inside, mut outside) = (0, 60);
    while exists(outside).is_none() {
        inside = outside;
        outside *= 2;
        if outside > 2 * 24 * 3600 {
            return None;
        }
    }
    while outside - inside > 1 {
        let middle = inside.midpoint(outside);
        if exists(middle).is_some() { outside = middle } else { inside = middle }
    }
    exists(outside)
}
