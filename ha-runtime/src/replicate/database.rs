//! The part of a replication that is the database.

use ha_core::replication::tables::Exclusions;
use serde_json::json;

use super::job::Job;
use super::past::WITHOUT_TABLE;
use crate::db::{self, CommitGate, DbError, Mode, Purpose};
use crate::line::Databases;
use crate::report::{Failure, Report};

/// Why the slave is not known to have the tables.
pub(super) enum Missing {
    /// It has them as they were.
    Unchanged(Failure),
    /// It has all of what was written, or nothing.
    InDoubt(Failure),
}

impl Missing {
    pub(super) fn into_failure(self) -> Failure {
        match self {
            Missing::Unchanged(failure) | Missing::InDoubt(failure) => failure,
        }
    }
}

impl From<DbError> for Missing {
    fn from(error: DbError) -> Missing {
        match error {
            DbError::CommitUnknown(_) => Missing::InDoubt(Failure::environment(error)),
            error if error.is_refusal() => Missing::Unchanged(Failure::guard(error)),
            error => Missing::Unchanged(Failure::environment(error)),
        }
    }
}

/// Compares and writes the tables, or tells what that would do.
pub(super) async fn replicate(
    job: &Job,
    exclusions: Exclusions,
    databases: &mut Databases,
    gate: &dyn CommitGate,
) -> Result<Report, Missing> {
    let Databases { source, replica, remembered, .. } = databases;
    let (sent, received) = (replica.traffic.sent(), replica.traffic.received());
    let options = db::Options {
        mode: if job.full { Mode::Full } else { Mode::Incremental },
        purpose: if job.dry_run { Purpose::DryRun } else { Purpose::Apply },
        ..db::Options::new(exclusions)
    };
    let report = db::replicate(&mut source.client, &mut replica.client, remembered, &options, gate).await?;
    let mut json =
        serde_json::to_value(&report).map_err(|error| Missing::InDoubt(Failure::environment(error)))?;
    json["part"] = json!("database");
    json[WITHOUT_TABLE] = json!(report.plan.unmatched);
    json["bytes_sent"] = json!(replica.traffic.sent() - sent);
    json["bytes_received"] = json!(replica.traffic.received() - received);
    if job.dry_run {
        json["dry_run"] = json!(true);
        return Ok(Report::new(report.to_string().trim_end(), json));
    }
    let text = format!(
        "database: {} of {} tables changed, rows inserted {}, updated {}, deleted {}, in {:.2} s",
        report.tables_changed,
        report.tables,
        report.rows_inserted,
        report.rows_updated,
        report.rows_deleted,
        report.took.as_secs_f64()
    );
    Ok(Report::new(text, json))
}
