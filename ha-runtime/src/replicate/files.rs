//! The part of a replication that are files.

use std::path::Path;
use std::sync::PoisonError;

use ha_core::carry::Carried;
use ha_core::replication::copying::{Copied, Copying};
use ha_core::replication::filter::Filter;
use ha_core::replication::guard::DeleteGuard;
use serde_json::json;

use super::job::Job;
use super::switch::Switch;
use crate::carry::Holding;
use crate::context::Context;
use crate::durable::{STATE_DIRECTORY, read_if_exists};
use crate::far_node;
use crate::line::Agent;
use crate::report::{Failure, Report, Verdict};
use crate::sync::{
    COMPANIONS, Compare, FilesReport, Progress, PushOptions, SNAPSHOTS, StagedFiles, Tree, TreeError,
    TreePlan, snapshot,
};

/// What is copied, as the distribution and the PBX's own configuration say.
pub fn copying(context: &Context) -> Result<Copying, Failure> {
    let text = match context.profile().conf_file {
        None => None,
        Some(file) => {
            let path = context.root.path(file);
            let read = read_if_exists(&path);
            let read = read.map_err(|error| Failure::environment(format!("{}: {error}", path.display())))?;
            read.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        }
    };
    context.distribution.copying(text.as_deref()).map_err(Failure::usage)
}

/// The trees that are copied: the distribution's, and the operator's own; the operator's exclusions apply to all.
pub fn trees(context: &Context) -> Result<Vec<Tree>, Failure> {
    Ok(holdings(context)?.into_iter().map(|holding| holding.tree).collect())
}

/// The same with what of each is carried from a node that returns.
pub(super) fn holdings(context: &Context) -> Result<Vec<Holding>, Failure> {
    let settings = &context.settings.replication;
    let bad = |error: &dyn std::fmt::Display| Failure::usage(format!("replication: {error}"));
    let copied = copying(context)?.datasets;
    let apart: Vec<String> = copied.iter().flat_map(apart).collect();
    let mut trees = Vec::new();
    let mut databases = Vec::new();
    for dataset in copied {
        match dataset {
            Copied::Tree { root, only, exclude, carried } => {
                trees.push((root, Filter::new(&only, &exclude).map_err(|error| bad(&error))?, carried));
            }
            Copied::Sqlite { path, .. } => {
                let name = path.rsplit('/').next().unwrap_or_default();
                let filter = Filter::new(&[name], &[]).map_err(|error| bad(&error))?;
                let tree = Tree::database(&context.root, &path, filter).map_err(|error| bad(&error))?;
                databases.push(Holding { tree, carried: Carried::Nothing });
            }
        }
    }
    let own = settings.extra_files.iter();
    trees.extend(own.map(|path| (path.clone(), Filter::default(), Carried::Nothing)));
    let below = |root: &str| -> Vec<String> {
        let prefix = format!("{}/", root.trim_end_matches('/'));
        let excluded = settings.exclude.iter().chain(&apart);
        excluded.filter_map(|path| path.strip_prefix(&prefix)).map(str::to_owned).collect()
    };
    let trees = trees
        .into_iter()
        .map(|(root, filter, carried)| {
            let filter = filter.excluding(&below(&root)).map_err(|error| bad(&error))?;
            let tree = Tree::new(&context.root, &root, filter).map_err(|error| bad(&error))?;
            Ok(Holding { tree, carried })
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(trees.into_iter().chain(databases).collect())
}

/// What no tree takes along, because it is a dataset of its own, or belongs to one.
fn apart(dataset: &Copied) -> Vec<String> {
    match dataset {
        Copied::Tree { .. } => Vec::new(),
        Copied::Sqlite { path, derived } => {
            let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
            let companions = COMPANIONS.iter().map(|ending| format!("{path}{ending}"));
            let derived = derived.iter().map(|name| format!("{directory}/{name}"));
            [path.clone()].into_iter().chain(companions).chain(derived).collect()
        }
    }
}

/// The trees as they are to be read: of a database a copy, made now, that nobody writes. The lock *replicate* is held.
pub(super) fn still(context: &Context, trees: Vec<Tree>) -> Result<Vec<Tree>, Failure> {
    let copies = context.root.path(STATE_DIRECTORY).join(SNAPSHOTS);
    let still = |tree: Tree| still_one(&tree, &copies);
    trees.into_iter().map(still).collect::<Result<_, TreeError>>().map_err(Failure::environment)
}

/// The same of one tree, which keeps its copies in that directory.
pub(super) fn still_one(tree: &Tree, copies: &Path) -> Result<Tree, TreeError> {
    Ok(snapshot(tree, copies)?.unwrap_or_else(|| tree.clone()))
}

pub(super) fn push_options(context: &Context, full: bool) -> PushOptions {
    let settings = &context.settings.replication;
    PushOptions {
        compare: if full { Compare::Full } else { Compare::Quick },
        guard: DeleteGuard { max_percent: settings.max_delete_percent, max_files: settings.max_delete_files },
        bandwidth: settings.bandwidth.0,
        ..PushOptions::default()
    }
}

/// What would be done.
pub(super) fn plan(context: &Context, job: &Job, agent: &Agent) -> Verdict {
    let (trees, options) = (trees(context)?, push_options(context, job.full));
    let mut agent = agent.lock().unwrap_or_else(PoisonError::into_inner);
    let plans = agent.plan_files(&trees, &options).map_err(|error| far_node::failure(&error))?;
    Ok(plan_report(&plans))
}

/// What would be done, for people and programs.
pub(super) fn plan_report(plans: &[TreePlan]) -> Report {
    let text: Vec<String> = plans.iter().map(|plan| plan.to_string().trim_end().to_owned()).collect();
    let text = text.join("\n");
    let steps: Vec<&str> = text.lines().collect();
    Report::new(text.clone(), json!({ "part": "files", "dry_run": true, "plan": steps }))
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
            let (trees, options) = (trees(context)?, push_options(context, job.full));
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
