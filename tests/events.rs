use std::fs;
use std::ops::{Add, Sub};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point on the clock that all hosts of the lab share (they have one kernel).
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Moment(f64);

impl Moment {
    /// Now.
    pub fn now() -> Moment {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
        Moment::since_epoch(since)
    }

    /// So long after 1970, as the kernel stamps what it receives.
    pub(crate) fn since_epoch(since: Duration) -> Moment {
        Moment(since.as_secs_f64())
    }

    /// Seconds since 1970.
    pub(crate) fn seconds(self) -> f64 {
        self.0
    }

    /// The later one of two.
    pub fn max(self, other: Moment) -> Moment {
        Moment(self.0.max(other.0))
    }

    /// The earlier one of two.
    pub fn min(self, other: Moment) -> Moment {
        Moment(self.0.min(other.0))
    }

    /// How long after `earlier` this was; zero when it was before.
    pub fn after(self, earlier: Moment) -> Duration {
        Duration::from_secs_f64((self.0 - earlier.0).max(0.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, time: Duration) -> Moment {
        Moment(self.0 + time.as_secs_f64())
    }
}

impl Sub<Duration> for Moment {
    type Output = Moment;

    fn sub(self, time: Duration) -> Moment {
        Moment(self.0 - time.as_secs_f64())
    }
}

/// One line that something in a host wrote in its mailbox: `SECONDS NAME ARGUMENTS`.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// When.
    pub at: Moment,
    /// What: the command's name, for a call.
    pub name: String,
    /// The rest of the line.
    pub rest: String,
}

impl Event {
    /// Every whole line of a log; none when there is no log yet.
    pub(crate) fn read(path: &Path) -> Vec<Event> {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().filter_map(Event::parse).collect()
    }

    /// One line.
    pub fn parse(line: &str) -> Option<Event> {
        let mut words = line.splitn(3, ' ');
        let at = Moment(words.next()?.parse().ok()?);
        let name = words.next()?.to_owned();
        Some(Event { at, name, rest: words.next().unwrap_or_default().to_owned() })
    }

    /// Whether this is the call of that command with arguments that begin so.
    pub fn is(&self, name: &str, rest: &str) -> bool {
        self.name == name && self.rest.starts_with(rest)
    }

    /// Whether this call starts, stops, enables or disables telephony.
    pub fn acts_on_telephony(&self) -> bool {
        let unit = ["start asterisk", "stop asterisk", "restart asterisk"];
        let unit = unit.contains(&self.rest.trim_end_matches(".service"));
        self.name.ends_with("-service") && !self.rest.starts_with("status")
            || self.name == "systemctl" && unit
    }
}
