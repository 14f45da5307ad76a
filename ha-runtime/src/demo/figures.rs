//! What was measured, beside what the settings in force allow for.

use std::time::Duration;

use ha_core::Profile;
use ha_core::budget::{self, Budget, Phones};
use serde_json::{Value, json};

use super::observers::{GIVE_UP, PERIOD};
use super::stage::HOLD;
use super::table::{self, Limit, Row};
use crate::settings::Settings;

/// What was seen, from outside wherever that is possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Figures {
    /// From the crash to the slave's decision.
    pub(super) detection: Duration,
    /// From the decision to the first SIP answer of the slave.
    pub(super) start: Duration,
    /// From the crash to the registration of the last phone at the slave.
    pub(super) phones: Duration,
    /// How long nobody answered.
    pub(super) nobody: Duration,
    /// How long the returned master had answered when the slave handed back.
    pub(super) held: Duration,
    /// How long both answered, which `held` and the stopping of telephony make up.
    pub(super) both: Duration,
}

/// The limits that the figures must keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limits {
    detection: Duration,
    start: Duration,
    budget: Budget,
}

impl Limits {
    /// Those of the `budget` verb, with the demonstration's phones.
    pub(super) fn new(settings: &Settings, profile: &Profile) -> Limits {
        let detection = settings.probe.service.detection_worst();
        let start = budget::start_worst(&profile.services);
        let phones = Phones::Register { sip_max_expiry: PERIOD, give_up: GIVE_UP };
        Limits { detection, start, budget: Budget::new(detection, start, phones, profile.promise) }
    }

    /// How long nobody may answer at most.
    pub(super) fn silence(&self) -> Duration {
        self.detection + self.start
    }

    /// What the documents promise.
    pub(super) fn promise(&self) -> Duration {
        self.budget.promise
    }
}

impl Figures {
    fn rows(&self, limits: &Limits) -> [Row; 5] {
        let row = Row::new;
        [
            row(
                "death noticed after",
                self.detection,
                Limit::AtMost(limits.detection),
                "[probe], as shipped",
            ),
            row("telephony started in", self.start, Limit::AtMost(limits.start), "its commands' time-outs"),
            row("nobody answered for", self.nobody, Limit::AtMost(limits.silence()), "both together"),
            row(
                "last phone back after",
                self.phones,
                Limit::AtMost(limits.budget.total),
                "and a phone's giving up",
            ),
            row("handed back after", self.held, Limit::AtLeast(HOLD), "[failback] hold"),
        ]
    }

    /// The rows that are not as they should be, in words. Empty: all is well.
    pub(super) fn complaints(&self, limits: &Limits) -> Vec<String> {
        table::complaints(&self.rows(limits), table::SCHEDULING)
    }

    /// The table.
    pub(super) fn table(&self, limits: &Limits) -> String {
        table::text(&self.rows(limits))
    }

    /// For a program; seconds.
    pub(super) fn json(&self, limits: &Limits) -> Value {
        let seconds = table::seconds;
        json!({
            "detection_seconds": seconds(self.detection),
            "detection_at_most_seconds": seconds(limits.detection),
            "start_seconds": seconds(self.start),
            "start_at_most_seconds": seconds(limits.start),
            "phones_seconds": seconds(self.phones),
            "phones_at_most_seconds": seconds(limits.budget.total),
            "nobody_answered_seconds": seconds(self.nobody),
            "both_answered_seconds": seconds(self.both),
            "held_seconds": seconds(self.held),
            "held_at_least_seconds": seconds(HOLD),
            "promise_seconds": seconds(limits.promise()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn limits() -> Limits {
        let profile = &ha_core::testkit::EXAMPLE;
        Limits::new(&Settings::defaults(profile), profile)
    }

    fn figures() -> Figures {
        Figures {
            detection: MS(2900),
            start: MS(400),
            phones: MS(4100),
            nobody: MS(3300),
            held: MS(5010),
            both: MS(5400),
        }
    }

    #[test]
    fn good_figures_are_not_complained_about() {
        assert_eq!(figures().complaints(&limits()), Vec::<String>::new());
        let table = figures().table(&limits());
        assert!(table.contains("death noticed after      2.90 s   at most    3.4 s"), "{table}");
        assert!(table.contains("handed back after        5.01 s   at least   5.0 s"), "{table}");
    }

    #[test]
    fn a_late_takeover_and_an_early_failback_are_named() {
        let bad = Figures { detection: MS(7500), held: MS(3000), ..figures() };
        let complaints = bad.complaints(&limits());
        assert_eq!(complaints.len(), 2);
        assert!(complaints[0].starts_with("death noticed after"), "{complaints:?}");
        assert!(complaints[1].starts_with("handed back after"), "{complaints:?}");
    }
}
