//! How old what the slave has is, and whether the schedule makes sense.

use chrono::{DateTime, TimeDelta, Utc};
use ha_core::{Schedule, Zone};

use super::Check;
use crate::context::Context;
use crate::replicate::{self, Part};

/// A replication that is under way when its second successor is due is not late yet.
const SLACK: TimeDelta = TimeDelta::minutes(5);
/// Between two runs: below, replications follow each other without a pause; above, a takeover is with old data.
const SHORTEST: TimeDelta = TimeDelta::minutes(5);
const LONGEST: TimeDelta = TimeDelta::hours(24);

/// What became of both parts the last times.
pub(super) fn ages(context: &Context, now: DateTime<Utc>, zone: &dyn Zone) -> Vec<Check> {
    let past = match replicate::past(context) {
        Ok(past) => past,
        Err(failure) => {
            let todo = "delete the file: the next replication writes it anew";
            return vec![Check::warn("replication-files", failure.message, todo)];
        }
    };
    let schedule = &context.settings.replication.schedule;
    let age = |id, part: &Part| age(id, part, schedule, now, zone);
    let mut checks = vec![age("replication-files", &past.files)];
    if context.profile().database.is_some() {
        checks.push(age("replication-database", &past.database));
    }
    checks
}

fn age(id: &'static str, part: &Part, schedule: &Schedule, now: DateTime<Utc>, zone: &dyn Zone) -> Check {
    if let Some(error) = &part.last_error {
        let since = part.last_success.map(|time| format!(" since {time:.0}")).unwrap_or_default();
        return Check::fail(
            id,
            format!("failed{since}: {error}"),
            "correct what the finding names, then run `replicate`",
        );
    }
    let Some(success) = part.last_success else {
        return Check::warn(
            id,
            "it never took place: the slave has nothing of this master",
            "run `replicate`",
        );
    };
    let seconds = (now - success).num_seconds().max(0);
    let again = |at| schedule.next_after(at, zone);
    match again(success).and_then(again) {
        Some(second) if second + SLACK < now => Check::fail(
            id,
            format!("the last one succeeded {seconds} s ago, and two more were due since"),
            "look whether the daemon runs and what `status` says, then run `replicate`",
        ),
        _ => Check::ok(id, format!("succeeded {seconds} s ago")),
    }
}

/// Whether the runs are neither too close nor too far apart.
pub(super) fn schedule(context: &Context, now: DateTime<Utc>, zone: &dyn Zone) -> Check {
    let schedule = &context.settings.replication.schedule;
    let mut runs = Vec::new();
    let mut at = now;
    // a day of runs, or two of them when they are rarer
    while let Some(next) = schedule.next_after(at, zone) {
        runs.push(next);
        at = next;
        if runs.len() >= 2 && next - now > LONGEST {
            break;
        }
    }
    let gaps = || runs.windows(2).map(|pair| pair[1] - pair[0]);
    // what is fetched is small, and each minute is what the documents have
    let pulls = context.settings.replication.flow.is_pull();
    match (gaps().min(), gaps().max()) {
        (Some(shortest), _) if shortest < SHORTEST && !pulls => Check::warn(
            "schedule",
            format!("\"{schedule}\" leaves {} s between two runs", shortest.num_seconds()),
            "every quarter of an hour is often enough: the daemon never runs two at once",
        ),
        (_, Some(longest)) if longest > LONGEST => Check::warn(
            "schedule",
            format!(
                "\"{schedule}\" leaves {} h between two runs: so much would be lost by a takeover",
                longest.num_hours()
            ),
            "replicate every hour, as the documents do",
        ),
        _ => Check::ok("schedule", format!("\"{schedule}\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::super::testing::{Place, level};
    use super::*;
    use crate::replicate::Past;
    use crate::state::Store;

    fn at(text: &str) -> DateTime<Utc> {
        format!("2026-11-20T{text}Z").parse().unwrap()
    }

    #[test]
    fn a_replication_that_failed_is_late_or_never_was_is_told() {
        let place = Place::new();
        let now = at("12:30:00");
        let levels = || {
            let checks = ages(&place.context(), now, &Utc);
            (level(&checks, "replication-files"), level(&checks, "replication-database"))
        };
        assert_eq!(levels(), (Level::Warn, Level::Warn), "never");
        let store: Store<Past> = Store::open(&place.context().root, "replication").unwrap();
        let save = |files: Part, database: Part| {
            assert!(store.save(&Past { files, database, ..Past::default() }).is_durable());
        };
        let success = |text| Part { last_success: Some(at(text)), last_error: None };
        save(success("12:00:01"), success("11:00:01"));
        assert_eq!(levels(), (Level::Ok, Level::Ok), "one was missed");
        save(success("10:59:59"), success("10:00:01"));
        assert_eq!(levels(), (Level::Fail, Level::Fail), "two were missed");
        save(Part { last_error: Some("no route".to_owned()), ..success("12:00:01") }, success("10:31:00"));
        assert_eq!(levels(), (Level::Fail, Level::Fail));
        let finding = ages(&place.context(), now, &Utc)[0].finding.clone();
        assert_eq!(finding, "failed since 2026-11-20 12:00:01 UTC: no route");
    }

    #[test]
    fn a_schedule_of_every_minute_or_every_week_is_told() {
        let place = Place::new();
        for (text, expected) in [
            ("0 * * * *", Level::Ok),
            ("*/15 * * * *", Level::Ok),
            ("0 3 * * *", Level::Ok),
            ("* * * * *", Level::Warn),
            ("0,1 3 * * *", Level::Warn),
            ("0 3 * * sun", Level::Warn),
        ] {
            let mut context = place.context();
            context.settings.replication.schedule = text.parse().unwrap();
            assert_eq!(schedule(&context, at("12:30:00"), &Utc).level, expected, "{text}");
        }
    }
}
