//! crontab(5) and cron(8) once more, word by word and minute by minute, to compare with.

use chrono::{DateTime, Datelike, NaiveDateTime, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

/// The first run after `wall` and within `days`. It shares no code with what it checks; a minute of real time is a step.
pub(super) fn next_within(text: &str, wall: DateTime<Utc>, zone: &Tz, days: i64) -> Option<DateTime<Utc>> {
    let fields: Vec<&str> = text.split(' ').collect();
    let local = |at: DateTime<Utc>| zone.from_utc_datetime(&at.naive_utc()).naive_local();
    // one minute back, so that the step into a gap is seen
    let mut at = wall - TimeDelta::seconds(i64::from(wall.second()));
    let minute = TimeDelta::minutes(1);
    for _ in 0..days * 24 * 60 + 1 {
        let (before, here) = (local(at), local(at + minute));
        at += minute;
        // minutes that the clock leaves out on its way here count as being here
        let mut shown = before + minute;
        let mut due = here < shown && matches_here(&fields, here) && every_hour(fields[1]);
        while shown <= here {
            due |= matches_here(&fields, shown) && (every_hour(fields[1]) || !seen_before(shown, at, zone));
            shown += minute;
        }
        if due && at > wall {
            return Some(at);
        }
    }
    None
}

/// Whether the wall showed this minute at an earlier instant already.
fn seen_before(local: NaiveDateTime, at: DateTime<Utc>, zone: &Tz) -> bool {
    (1..=150).any(|minutes| {
        let earlier = at - TimeDelta::minutes(minutes);
        zone.from_utc_datetime(&earlier.naive_utc()).naive_local() == local
    })
}

fn every_hour(hours: &str) -> bool {
    (0..24).all(|hour| matches(hours, hour, 0, 23))
}

fn matches_here(fields: &[&str], local: NaiveDateTime) -> bool {
    let date = matches(fields[2], local.day(), 1, 31);
    let weekday = local.weekday().num_days_from_sunday();
    let weekday = matches(fields[4], weekday, 0, 7) || (weekday == 0 && matches(fields[4], 7, 0, 7));
    let day = if fields[2].starts_with('*') || fields[4].starts_with('*') {
        date && weekday
    } else {
        date || weekday
    };
    matches(fields[0], local.minute(), 0, 59) && matches(fields[1], local.hour(), 0, 23) && day
}

fn matches(field: &str, value: u32, min: u32, max: u32) -> bool {
    field.split(',').any(|part| {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        let (first, last) = match (range, range.split_once('-')) {
            ("*", _) => (min, max),
            (_, Some((first, last))) => (first.parse().unwrap(), last.parse().unwrap()),
            (one, None) => (one.parse().unwrap(), one.parse().unwrap()),
        };
        let step: u32 = step.parse().unwrap();
        (first..=last).contains(&value) && (value - first).is_multiple_of(step)
    })
}
