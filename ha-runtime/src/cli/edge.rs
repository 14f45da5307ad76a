//! `edge status|switch`: which side the Edge's file names, and the switch by hand.
//!
//! No act on telephony: it neither needs nor disturbs the daemon.

use std::fmt::Write;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use ha_core::follow::{Edge, EnvFile, EnvFileError, Place, PointsAt, Side, Task, Wanted};
use ha_core::profile::Follower;
use serde_json::{Value, json};

use super::args::{EdgeAction, EdgeArguments, To};
use crate::context::Context;
use crate::follow::file::TextFile;
use crate::follow::place::{self, TaskError};
use crate::report::{Failure, Report, Verdict};

/// Of reading and writing the file.
const FILE: Duration = Duration::from_secs(60);
/// Of applying it: containers stop and start.
const APPLY: Duration = Duration::from_secs(300);

/// Characters to which names and values are aligned at most.
const WIDEST: usize = 60;

/// Looks at the file, or switches it.
pub(super) fn run(context: &Context, arguments: &EdgeArguments, dry_run: bool) -> Verdict {
    let found = Found::new(context, arguments.file.as_deref())?;
    match arguments.action {
        EdgeAction::Status => found.status(),
        EdgeAction::Switch { to: To::Master } => found.switch(context, Side::Master, dry_run),
        EdgeAction::Switch { to: To::Slave } => found.switch(context, Side::Slave, dry_run),
    }
}

/// The file, and how to read it.
struct Found<'a> {
    edge: &'a Edge,
    names: EnvFile,
    file: TextFile,
    /// Where it is applied; `None`: it is a file here and nothing else.
    host: Option<IpAddr>,
}

impl<'a> Found<'a> {
    fn new(context: &'a Context, here: Option<&Path>) -> Result<Found<'a>, Failure> {
        let (profile, settings) = (context.profile(), context.settings_path.display());
        let no_edge = || Failure::usage(format!("{} has no Edge", context.settings.product(profile)));
        if !profile.followers.contains(&Follower::Edge) {
            return Err(no_edge());
        }
        let edge = context.settings.followers.edge.as_ref().ok_or_else(|| {
            Failure::usage(format!(
                "{settings}: [edge] is missing: give xivo_master, xivo_slave, cc_master and cc_slave there"
            ))
        })?;
        let names = context.distribution.edge(edge).ok_or_else(no_edge)?;
        let (file, host) = match (here, edge.host) {
            (Some(path), _) => {
                let resolved = fs::canonicalize(path)
                    .map_err(|error| Failure::usage(format!("--file {}: {error}", path.display())))?;
                if !resolved.is_file() {
                    let why = "is not a file: give the Edge's, as .env";
                    return Err(Failure::usage(format!("--file {}: {why}", path.display())));
                }
                (TextFile::Here(resolved), None)
            }
            (None, Some(host)) => {
                let file = place::text_file(context, Place::There(host), &edge.file).map_err(told)?;
                (file, Some(host))
            }
            (None, None) => {
                return Err(Failure::usage(format!(
                    "{settings}: edge.host is missing: give the Edge's address there, or a file here by --file"
                )));
            }
        };
        Ok(Found { edge, names, file, host })
    }

    fn status(&self) -> Verdict {
        let text = self.file.read(Instant::now() + FILE).map_err(told)?;
        let points = self.points_at(&text)?;
        let word = |side: &Option<Side>| side.map_or("not one side", Side::word);
        let width = |of: fn(&(String, String, Option<Side>)) -> &str| {
            // another machine's file may hold many values, and one as long as itself
            let longest = points.variables.iter().map(|variable| of(variable).chars().count()).max();
            longest.unwrap_or_default().min(WIDEST)
        };
        let (names, values) = (width(|(name, ..)| name), width(|(_, value, _)| value));
        let mut text = String::new();
        for (name, value, side) in &points.variables {
            // writing to a String does not fail
            let _ = writeln!(text, "{name:names$}  {value:values$}  {}", word(side));
        }
        let _ = match points.side {
            Some(side) => write!(text, "{} points at the {side}", self.file),
            None => write!(
                text,
                "{} does not point at one side: `edge switch` mends it, or says what is wrong",
                self.file
            ),
        };
        let variables: Vec<Value> = points
            .variables
            .iter()
            .map(|(name, value, side)| json!({ "name": name, "value": value, "side": side }))
            .collect();
        let json = json!({ "file": self.file.to_string(), "side": points.side, "variables": variables });
        Ok(Report { text, json, exit: u8::from(points.side.is_none()) })
    }

    fn switch(&self, context: &Context, to: Side, dry_run: bool) -> Verdict {
        let deadline = Instant::now() + FILE;
        let before = self.file.read(deadline).map_err(told)?;
        let after = self.names.pointed_at(&before, to).map_err(|source| self.unreadable(source))?;
        let changed = changes(&self.points_at(&before)?, &self.points_at(&after)?);
        if !changed.is_empty() && !dry_run {
            self.file.replace(&self.names, &before, &after, deadline, &|| true).map_err(told)?;
        }
        let mut text = match (changed.is_empty(), dry_run) {
            (true, _) => format!("nothing to do: {} points at the {to} already", self.file),
            (false, true) => format!("would point {} at the {to}", self.file),
            (false, false) => format!("{} points at the {to} now", self.file),
        };
        for (name, old, new) in &changed {
            let _ = write!(text, "\n- {name}={old}\n+ {name}={new}");
        }
        let applied = self.host.map(|host| self.apply(context, host, dry_run)).transpose();
        let applied = applied.map_err(|failure| Failure {
            message: format!("{text}\nbut it is not in force yet: {failure}; do it again"),
            ..failure
        })?;
        if let Some(applied) = &applied {
            let _ = write!(text, "\n{applied}");
        }
        let changed: Vec<Value> =
            changed.iter().map(|(name, from, to)| json!({ "name": name, "from": from, "to": to })).collect();
        let json = json!({
            "file": self.file.to_string(),
            "side": to,
            "changed": changed,
            "applied": applied.is_some() && !dry_run,
            "dry_run": dry_run,
        });
        Ok(Report::new(text, json))
    }

    /// Also when nothing was changed: it does no harm twice, and an earlier switch may have failed just before it.
    fn apply(&self, context: &Context, host: IpAddr, dry_run: bool) -> Result<String, Failure> {
        let directory = self.edge.directory().to_owned();
        let what = format!("`{}` in {directory} on {host}", self.edge.apply.join(" "));
        if dry_run {
            return Ok(format!("would run {what}"));
        }
        let task =
            Task::Run { argv: self.edge.apply.clone(), directory: Some(directory), output: Wanted::Anything };
        place::carry_out(context, Place::There(host), &task, APPLY).map_err(told)?;
        Ok(format!("ran {what}"))
    }

    fn points_at(&self, text: &str) -> Result<PointsAt, Failure> {
        let mut points = self.names.points_at(text).map_err(|source| self.unreadable(source))?;
        for (_, value, _) in &mut points.variables {
            // another machine must not be able to drive this one's terminal
            *value = value.replace(char::is_control, "\u{fffd}");
        }
        Ok(points)
    }

    fn unreadable(&self, source: EnvFileError) -> Failure {
        told(self.file.unreadable(source))
    }
}

/// Each variable whose value differs, old and new. Other lines may hold secrets.
fn changes(before: &PointsAt, after: &PointsAt) -> Vec<(String, String, String)> {
    let pairs = before.variables.iter().zip(&after.variables);
    pairs
        .filter(|((_, old, _), (_, new, _))| old != new)
        .map(|((name, old, _), (_, new, _))| (name.clone(), old.clone(), new.clone()))
        .collect()
}

/// A file that means nothing is bad input; everything else is another machine's fault.
fn told(error: TaskError) -> Failure {
    match error {
        TaskError::Names { .. } | TaskError::Path(_) => Failure::usage(error),
        TaskError::Stale
        | TaskError::Command(_)
        | TaskError::Far { .. }
        | TaskError::Failed { .. }
        | TaskError::Output { .. }
        | TaskError::File { .. }
        | TaskError::Silent { .. } => Failure::environment(error),
    }
}

#[cfg(test)]
mod tests;
