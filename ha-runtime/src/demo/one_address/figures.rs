//! What was measured, beside what the settings in force allow for.

use std::time::Duration;

use ha_core::Profile;
use ha_core::budget;
use serde_json::{Value, json};

use super::super::observers::{GIVE_UP, PERIOD};
use super::super::table::{self, Limit, Row, seconds};
use crate::settings::{ClusterKind, Settings};

/// What comes after lease and margin: a beat, the question for a present owner, the address itself.
const AND_THEN: Duration = Duration::from_secs(1);
/// What a planned handover may take beside telephony's start.
const HANDOVER: Duration = Duration::from_millis(300);

/// What was seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Figures {
    /// From the crash to the standby's decision, which has the address then.
    pub(super) taken: Duration,
    /// From the decision to its first answer.
    pub(super) start: Duration,
    /// From the last answer before the crash to the next one.
    pub(super) nobody: Duration,
    /// From the crash to the registration of the last phone.
    pub(super) phones: Duration,
    /// How long nobody answered when the address was handed back.
    pub(super) handover: Duration,
    /// How long two nodes answered.
    pub(super) both: Duration,
    /// How late this machine let an observer wake, at most, from the crash on: it was busy, and so were the nodes.
    pub(super) late: Duration,
}

/// The limits that the figures must keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limits {
    taken: Duration,
    start: Duration,
    /// A node that wakes later than that waits anew (`safety.md` 5.7).
    awake: Duration,
    promise: Duration,
}

impl Limits {
    /// Those of the settings in force.
    pub(super) fn new(settings: &Settings, profile: &Profile) -> Limits {
        let (wait, beat) = match settings.cluster.as_ref().map(|cluster| &cluster.kind) {
            Some(ClusterKind::Native(terms)) => (terms.lease + terms.margin, terms.beat),
            Some(ClusterKind::Heartbeat(_)) | None => (Duration::ZERO, Duration::ZERO),
        };
        let start = budget::start_worst(&profile.services);
        Limits { taken: wait + AND_THEN, start, awake: beat, promise: profile.promise }
    }

    fn silence(&self) -> Duration {
        self.taken + self.start
    }

    fn phones(&self) -> Duration {
        self.silence() + PERIOD + GIVE_UP
    }
}

impl Figures {
    fn rows(&self, limits: &Limits) -> [Row; 6] {
        let at_most = Limit::AtMost;
        [
            Row::new(
                "address taken after",
                self.taken,
                at_most(limits.taken),
                "[cluster] lease and margin, and a second",
            ),
            Row::new("telephony started in", self.start, at_most(limits.start), "its commands' time-outs"),
            Row::new("nobody answered for", self.nobody, at_most(limits.silence()), "both together"),
            Row::new(
                "last phone back after",
                self.phones,
                at_most(limits.phones()),
                "and its next registration",
            ),
            Row::new(
                "handed back within",
                self.handover,
                at_most(HANDOVER + limits.start),
                "0.3 s and telephony's start",
            ),
            Row::new("both answered for", self.both, Limit::Never, "one address, one node"),
        ]
    }

    /// The rows that are not as they should be, in words. Empty: all is well.
    pub(super) fn complaints(&self, limits: &Limits) -> Vec<String> {
        // a machine on which the nodes' own clocks come late shows nothing of theirs: the documents' promise is left
        let patience = if self.is_busy(limits) { limits.promise } else { table::SCHEDULING };
        table::complaints(&self.rows(limits), patience)
    }

    fn is_busy(&self, limits: &Limits) -> bool {
        self.late >= limits.awake
    }

    /// The table.
    pub(super) fn table(&self, limits: &Limits) -> String {
        let mut text = table::text(&self.rows(limits));
        if self.is_busy(limits) {
            text += &format!(
                "\nThis machine is busy: what was due came up to {:.2} s late, and a node that wakes late waits anew.",
                self.late.as_secs_f64()
            );
        }
        text
    }

    /// For a program; seconds.
    pub(super) fn json(&self, limits: &Limits) -> Value {
        json!({
            "taken_seconds": seconds(self.taken),
            "taken_at_most_seconds": seconds(limits.taken),
            "start_seconds": seconds(self.start),
            "start_at_most_seconds": seconds(limits.start),
            "nobody_answered_seconds": seconds(self.nobody),
            "nobody_answered_at_most_seconds": seconds(limits.silence()),
            "phones_seconds": seconds(self.phones),
            "phones_at_most_seconds": seconds(limits.phones()),
            "handover_seconds": seconds(self.handover),
            "handover_at_most_seconds": seconds(HANDOVER + limits.start),
            "both_answered_seconds": seconds(self.both),
            "woken_late_seconds": seconds(self.late),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;
    const LIMITS: Limits = Limits {
        taken: Duration::from_millis(2500),
        start: Duration::from_secs(15),
        awake: Duration::from_millis(100),
        promise: Duration::from_secs(30),
    };
    const GOOD: Figures = Figures {
        taken: Duration::from_millis(1600),
        start: Duration::from_millis(200),
        nobody: Duration::from_millis(1810),
        phones: Duration::from_millis(3000),
        handover: Duration::from_millis(250),
        both: Duration::ZERO,
        late: Duration::from_millis(3),
    };

    #[test]
    fn good_figures_are_not_complained_about_and_two_that_answer_always_are() {
        assert_eq!(GOOD.complaints(&LIMITS), Vec::<String>::new());
        let table = GOOD.table(&LIMITS);
        assert!(table.contains("address taken after      1.60 s   at most    2.5 s"), "{table}");
        let complaints = Figures { both: MS(1), taken: MS(5600), ..GOOD }.complaints(&LIMITS);
        assert_eq!(complaints.len(), 2);
        assert!(complaints[0].starts_with("address taken after"), "{complaints:?}");
        assert!(complaints[1].starts_with("both answered for"), "{complaints:?}");
    }

    #[test]
    fn a_busy_machine_excuses_seconds_and_no_two_that_answer() {
        let busy = Figures { taken: MS(9000), late: MS(700), ..GOOD };
        assert_eq!(busy.complaints(&LIMITS), Vec::<String>::new());
        assert!(busy.table(&LIMITS).contains("came up to 0.70 s late"));
        assert!(!GOOD.table(&LIMITS).contains("busy"));
        assert_eq!(Figures { both: MS(1), ..busy }.complaints(&LIMITS).len(), 1);
        assert_eq!(Figures { taken: MS(33_000), ..busy }.complaints(&LIMITS).len(), 1);
    }
}
