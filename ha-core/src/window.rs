//! A part of the day, written in local time: when a failback may happen by itself.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Timelike, Utc};
use thiserror::Error;

use crate::time::Zone;

/// `02:00-05:00`: from the first minute on, up to and without the last one. `22:00-04:00` goes over midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DailyWindow {
    /// Minutes since midnight, 0 to 1439.
    open: u32,
    /// Minutes since midnight, 1 to 1440.
    close: u32,
}

/// A window that cannot be read. The user's fault; nothing has been changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WindowError {
    /// No `-` between two times.
    #[error("window \"{text}\" is not two times of the day: write it as \"02:00-05:00\"")]
    Shape {
        /// What was given.
        text: String,
    },
    /// Not a time of the day.
    #[error("\"{time}\" is not a time of the day: 00:00 to 23:59 are, and 24:00 as an end")]
    Time {
        /// What was given.
        time: String,
    },
    /// Ends where it begins.
    #[error("window \"{text}\" ends where it begins: \"00:00-24:00\" is the whole day")]
    Empty {
        /// What was given.
        text: String,
    },
}

impl DailyWindow {
    /// Reads `HH:MM-HH:MM`.
    pub fn parse(text: &str) -> Result<DailyWindow, WindowError> {
        let (open, close) =
            text.trim().split_once('-').ok_or_else(|| WindowError::Shape { text: text.to_owned() })?;
        let (open, close) = (minutes(open, 23 * 60 + 59)?, minutes(close, 24 * 60)?);
        // 00:00 as an end is midnight, the end of the day before
        let close = if close == 0 { 24 * 60 } else { close };
        if open == close || (open == 0 && text.trim() == "00:00-00:00") {
            return Err(WindowError::Empty { text: text.to_owned() });
        }
        Ok(DailyWindow { open, close })
    }

    /// Whether the wall shows a time inside.
    pub fn contains(&self, wall: DateTime<Utc>, zone: &dyn Zone) -> bool {
        let local = zone.local(wall);
        let now = local.hour() * 60 + local.minute();
        if self.open < self.close {
            (self.open..self.close).contains(&now)
        } else {
            now >= self.open || now < self.close
        }
    }

    /// `wall` itself inside the window, otherwise the first full minute that lies in it.
    ///
    /// A window that daylight saving leaves out as a whole opens on the day after. `None`: the calendar has ended.
    pub fn next_open(&self, wall: DateTime<Utc>, zone: &dyn Zone) -> Option<DateTime<Utc>> {
        if self.contains(wall, zone) {
            return Some(wall);
        }
        let minute = DateTime::from_timestamp(wall.timestamp().div_euclid(60) * 60, 0)?;
        // minute by minute and not by computing the start: the clock may also be put back into the middle of a window
        (1..=3 * 24 * 60)
            .map_while(|step| minute.checked_add_signed(TimeDelta::minutes(step)))
            .find(|at| self.contains(*at, zone))
    }
}

impl fmt::Display for DailyWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DailyWindow { open, close } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", open / 60, open % 60, close / 60, close % 60)
    }
}

impl FromStr for DailyWindow {
    type Err = WindowError;
    fn from_str(text: &str) -> Result<DailyWindow, WindowError> {
        DailyWindow::parse(text)
    }
}

fn minutes(text: &str, latest: u32) -> Result<u32, WindowError> {
    let text = text.trim();
    let two_digits = |part: &str| {
        (part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| part.parse::<u32>().ok())
            .flatten()
    };
    text.split_once(':')
        .and_then(|(hour, minute)| Some((two_digits(hour)?, two_digits(minute)?)))
        .filter(|(_, minute)| *minute < 60)
        .map(|(hour, minute)| hour * 60 + minute)
        .filter(|minutes| *minutes <= latest)
        .ok_or_else(|| WindowError::Time { time: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use chrono_tz::Europe::Paris;
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    #[test]
    fn a_window_is_local_time_with_its_start_and_without_its_end() {
        let window = DailyWindow::parse("02:00-05:00").unwrap();
        assert!(!window.contains(at("2026-11-20T00:59:59Z"), &Paris));
        assert!(window.contains(at("2026-11-20T01:00:00Z"), &Paris));
        assert!(window.contains(at("2026-11-20T03:59:59Z"), &Paris));
        assert!(!window.contains(at("2026-11-20T04:00:00Z"), &Paris));
        assert_eq!(window.next_open(at("2026-11-20T12:34:56Z"), &Paris), Some(at("2026-11-21T01:00:00Z")));
    }

    #[test]
    fn a_window_may_go_over_midnight() {
        let window = DailyWindow::parse("22:00-04:00").unwrap();
        assert!(window.contains(at("2026-11-20T23:00:00Z"), &Utc));
        assert!(window.contains(at("2026-11-20T03:59:00Z"), &Utc));
        assert!(!window.contains(at("2026-11-20T04:00:00Z"), &Utc));
        assert_eq!(window.to_string(), "22:00-04:00");
        assert!(DailyWindow::parse("22:00-00:00").unwrap().contains(at("2026-11-20T23:59:00Z"), &Utc));
        assert!(DailyWindow::parse("00:00-24:00").unwrap().contains(at("2026-11-20T23:59:00Z"), &Utc));
    }

    #[test]
    fn a_window_that_spring_leaves_out_opens_on_the_day_after() {
        let window = DailyWindow::parse("02:00-03:00").unwrap();
        assert_eq!(window.next_open(at("2026-03-29T00:30:00Z"), &Paris), Some(at("2026-03-30T00:00:00Z")));
    }

    #[test]
    fn a_clock_that_is_put_back_into_a_window_opens_it_again() {
        let window = DailyWindow::parse("01:30-02:10").unwrap();
        assert_eq!(window.next_open(at("2026-10-25T00:30:00Z"), &Paris), Some(at("2026-10-25T01:00:00Z")));
    }

    #[test]
    fn what_cannot_be_read_is_named_with_what_would_be_right() {
        for (text, said) in [
            ("02:00", "write it as \"02:00-05:00\""),
            ("2:00-05:00", "\"2:00\" is not a time of the day"),
            ("02:00-25:00", "\"25:00\" is not a time of the day"),
            ("24:00-05:00", "\"24:00\" is not a time of the day"),
            ("02:60-05:00", "\"02:60\""),
            ("05:00-05:00", "ends where it begins"),
            ("00:00-00:00", "\"00:00-24:00\" is the whole day"),
        ] {
            let error = DailyWindow::parse(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn the_next_opening_is_inside_and_nothing_before_it_is(
            open in 0u32..1440, length in 1u32..1440, seconds in 1_767_225_600i64..1_798_761_600,
        ) {
            let close = (open + length) % 1440;
            let text = format!("{:02}:{:02}-{:02}:{:02}", open / 60, open % 60, close / 60, close % 60);
            let window = DailyWindow::parse(&text).unwrap();
            let wall = DateTime::from_timestamp(seconds, 0).unwrap();
            let next = window.next_open(wall, &Paris).unwrap();
            prop_assert!(next >= wall && window.contains(next, &Paris));
            if next > wall {
                prop_assert!(!window.contains(next - TimeDelta::seconds(1), &Paris));
                prop_assert!(!window.contains(wall, &Paris));
            }
        }
    }
}
