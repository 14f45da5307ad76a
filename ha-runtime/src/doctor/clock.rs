//! The machine's clock and its time zone.

use std::fs;
use std::time::SystemTime;

use super::Check;
use crate::context::Context;

/// Whether the time zone can be read, and whether the clock is before the record that the engine wrote.
pub(super) fn clock(context: &Context, recorded: Option<SystemTime>) -> Check {
    const SLACK: std::time::Duration = std::time::Duration::from_secs(60);
    let now = SystemTime::now();
    if recorded.is_some_and(|recorded| recorded > now + SLACK) {
        return Check::warn(
            "clock",
            "the node's record is of a time that is yet to come: the clock was set back",
            "set the clock by NTP; schedules, windows and the ages of replications depend on it",
        );
    }
    let path = "/etc/localtime";
    match fs::read(context.root.path(path)) {
        Ok(zone) if zone.starts_with(b"TZif") => Check::ok("clock", "the time zone can be read"),
        Ok(_) => Check::warn(
            "clock",
            format!("{path} is no time zone: UTC is used"),
            "run `timedatectl set-timezone`",
        ),
        Err(error) => Check::warn(
            "clock",
            format!("{path}: {error}: schedules and windows are taken in UTC"),
            "run `timedatectl set-timezone` with this machine's zone",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Level;
    use super::super::testing::Place;
    use super::*;

    #[test]
    fn a_missing_time_zone_and_a_record_from_the_future_are_told() {
        let place = Place::new();
        assert_eq!(clock(&place.context(), None).level, Level::Warn);
        place.write("/etc/localtime", "Europe/Paris");
        assert_eq!(clock(&place.context(), None).level, Level::Warn);
        place.write("/etc/localtime", "TZif2");
        assert_eq!(clock(&place.context(), Some(SystemTime::now())).level, Level::Ok);
        let future = SystemTime::now() + Duration::from_secs(3600);
        assert_eq!(clock(&place.context(), Some(future)).level, Level::Warn);
    }
}
