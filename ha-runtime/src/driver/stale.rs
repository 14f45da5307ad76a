//! A node that begins to serve with what it fetched long ago: nobody stops it, and somebody is told how old that is
//! (`safety.md` 7).

use std::time::Duration;

use chrono::{DateTime, Utc};
use ha_core::Role;

use super::{AlertLine, Driver, in_a_thread};
use crate::replicate::{self, Part};

/// The alert's key.
pub(crate) const ALERT: &str = "old-data";
/// Older than this is no matter of a minute's turn that was missed.
const OLD: Duration = Duration::from_secs(300);

impl Driver {
    /// Since when this node stands by with what it fetches; `None`: it serves, or nothing is fetched to it.
    pub(super) fn stands_by_since(&self) -> Option<DateTime<Utc>> {
        let (fetches, record) = (self.pulls() && self.may_be_replicated_to(), self.node.record());
        (fetches && !record.active).then_some(record.since)
    }

    /// Telephony has just come to this node, which stood by since then.
    pub(super) fn tell_of_old_data(&self, stood_by_since: DateTime<Utc>) {
        let (context, alerts) = (self.context.clone(), self.keeper.alerts());
        let role = self.node.role().role();
        tokio::spawn(in_a_thread("old-data", move || {
            let by_hand = replicate::copying(&context).is_ok_and(|copying| copying.by_hand_only.is_some());
            let past = replicate::past(&context).unwrap_or_default();
            if let Some(text) = old(role, stood_by_since, &past.files, Utc::now()).filter(|_| !by_hand) {
                tracing::warn!("{text}");
                alerts.raise(ALERT, &text);
            }
        }));
    }
}

/// The data are there again.
pub(crate) fn fetched(alerts: &AlertLine) {
    alerts.clear(ALERT, "this node has fetched what the serving one has");
}

/// How old what this node has is, if that is old. It has all that it had itself when it last served.
fn old(role: Role, stood_by_since: DateTime<Utc>, files: &Part, now: DateTime<Utc>) -> Option<String> {
    let (at, what) = match files.last_success {
        Some(fetched) if fetched >= stood_by_since => (fetched, "it last fetched"),
        None if role == Role::Slave => {
            return Some(
                "This node serves now, and has never fetched anything from the other one".to_owned(),
            );
        }
        Some(_) | None => (stood_by_since, "it last served, and fetched nothing since"),
    };
    let age = (now - at).to_std().unwrap_or_default();
    let why = files.last_error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    (age > OLD).then(|| {
        format!(
            "This node serves now with data that are {} old: {what} at {}{why}",
            words(age),
            at.format("%Y-%m-%d %H:%M:%S UTC")
        )
    })
}

/// As a person says it.
fn words(age: Duration) -> String {
    let minutes = age.as_secs() / 60;
    match (minutes / (24 * 60), minutes / 60) {
        (0, 0) => format!("{minutes} min"),
        (0, hours) => format!("{hours} h {} min", minutes % 60),
        (days, hours) => format!("{days} days {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn whoever_takes_over_with_old_data_says_how_old_they_are() {
        let now = at("2026-11-20T12:00:00Z");
        let part = |fetched: Option<&str>, error: Option<&str>| Part {
            last_success: fetched.map(at),
            last_error: error.map(str::to_owned),
        };
        let since = at("2026-11-01T00:00:00Z");
        let recent = part(Some("2026-11-20T11:59:00Z"), None);
        assert_eq!(old(Role::Slave, since, &recent, now), None);
        let failed = part(Some("2026-11-17T09:00:00Z"), Some("no route"));
        let told = old(Role::Slave, since, &failed, now).unwrap();
        assert!(
            told.contains("3 days 3 h old") && told.ends_with("2026-11-17 09:00:00 UTC: no route"),
            "{told}"
        );
        let never = part(None, None);
        assert!(old(Role::Slave, since, &never, now).unwrap().contains("never"));

        // what it had when it served it still has
        assert_eq!(old(Role::Master, at("2026-11-20T11:58:00Z"), &failed, now), None);
        let told = old(Role::Master, at("2026-11-20T10:30:00Z"), &never, now).unwrap();
        assert!(told.contains("1 h 30 min old: it last served"), "{told}");
    }
}
