//! The part of a replication that are files.

use std::sync::PoisonError;

use ha_core::replication::filter::Filter;
use ha_core::replication::guard::DeleteGuard;
use serde_json::json;

use super::job::Job;
use super::switch::Switch;
use crate::context::Context;
use crate::far_node;
use crate::line::Agent;
use crate::report::{Failure, Report, Verdict};
use crate::sync::{Compare, FilesReport, Progress, PushOptions, StagedFiles, Tree};

/// The trees that are copied: the profile's, and the operator's own; the operator's exclusions apply to all.
pub fn trees(context: &Context) -> Result<Vec<Tree>, Failure> {
    let settings = &context.settings.replication;
    let bad = |error: &dyn std::fmt::Display| Failure::usage(format!("replication: {error}"));
    let mut trees = Vec::new();
    for dataset in context.profile().datasets {
        let filter = Filter::of(dataset).map_err(|error| bad(&error))?;
        trees.push((dataset.root.to_owned(), filter));
    }
    for path in &settings.extra_files {
        let filter = Filter::new::<&str>(&[], &[]).map_err(|error| bad(&error))?;
        trees.push((path.clone(), filter));
    }
    let below = |root: &str| -> Vec<String> {
        let prefix = format!("{}/", root.trim_end_matches('/'));
        settings.exclude.iter().filter_map(|path| path.strip_prefix(&prefix)).map(str::to_owned).collect()
    };
    trees
        .into_iter()
        .map(|(root, filter)| {
            let filter = filter.excluding(&below(&root)).map_err(|error| bad(&error))?;
            Tree::new(&context.root, &root, filter).map_err(|error| bad(&error))
        })
        .collect()
}

fn push_options(context: &Context, job: &Job) -> PushOptions {
    let settings = &context.settings.replication;
    PushOptions {
        compare: if job.full { Compare::Full } else { Compare::Quick },
        guard: DeleteGuard { max_percent: settings.max_delete_percent, max_files: settings.max_delete_files },
        bandwidth: settings.bandwidth.0,
        ..PushOptions::default()
    }
}

/// What would be done.
pub(super) fn plan(context: &Context, job: &Job, agent: &Agent) -> Verdict {
    let (trees, options) = (trees(context)?, push_options(context, job));
    let mut agent = agent.lock().unwrap_or_else(PoisonError::into_inner);
    let plans = agent.plan_files(&trees, &options).map_err(|error| far_node::failure(&error))?;
    let text: Vec<String> = plans.iter().map(|plan| plan.to_string().trim_end().to_owned()).collect();
    let text = text.join("\n");
    let steps: Vec<&str> = text.lines().collect();
    Ok(Report::new(text.clone(), json!({ "part": "files", "dry_run": true, "plan": steps })))
}

/// Opens the replication on the slave, and brings it what its files need; `None`: files are not asked for.
pub(super) fn stage(
    context: &Context,
    job: Option<&Job>,
    switch: &Switch,
    mut progress: impl FnMut(Progress),
) -> Result<Option<StagedFiles>, Failure> {
    let mut agent = switch.agent.lock().unwrap_or_else(PoisonError::into_inner);
    let staged = match job {
        None => agent.stage_nothing(switch.generation).map(|()| None),
        Some(job) => {
            let (trees, options) = (trees(context)?, push_options(context, job));
            agent.stage_files(switch.generation, &trees, &options, &mut progress).map(Some)
        }
    };
    staged.map_err(|error| far_node::failure(&error))
}

/// What was done, for people and programs.
pub(super) fn report(report: &FilesReport) -> Verdict {
    let mut text = format!(
        "files: {} of {} sent, {} patched, {} deleted, in {:.2} s",
        report.sent, report.files, report.patched, report.deleted, report.seconds
    );
    if report.resumed > 0 {
        let count = report.resumed;
        text.push_str(&format!(
            "\n  {count} waited there, whole or in part, since a replication that was cut"
        ));
    }
    for line in report.skipped.iter().map(|path| format!("\n  left as it was, it changed meanwhile: {path}"))
    {
        text.push_str(&line);
    }
    for warning in &report.warnings {
        text.push_str(&format!("\n  warning: {warning}"));
    }
    let json = serde_json::to_value(report).map_err(Failure::environment)?;
    Ok(Report::new(text, json))
}
