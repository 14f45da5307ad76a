//! Effects performed on this host: a list is done as a whole, or it is undone.
//!
//! Before a file is changed, what was there is on the disk in a log; when a later effect fails, or the engine is killed
//! at any point, the log leads back. A command cannot be undone: it is told that it ran.
//!
//! A file keeps content, mode and owner on both ways; access control lists, extended attributes, further hard links and
//! the time of its last change are not kept.

mod api;
mod apply;
pub mod blocks;
mod files;
mod outcome;
mod preview;
mod transaction;
mod undo;

use std::fmt;
use std::sync::Arc;

use ha_core::effect::{Command, Effect, OnFailure};

use crate::command::{self, CommandError};
use crate::process::ProcessRecord;
use crate::root::Root;
pub use api::{ApiChange, PbxApi, PbxError, Undo};
use files::Change;
pub use files::FileError;
pub(crate) use files::{followed, installed};
pub use outcome::{EffectError, Outcome, PerformError, Performed, RecoverError, Recovered, Step};
pub use preview::{Line, Would};
use transaction::{Record, Transaction};
pub use undo::{Again, Left, WayBack};

/// Performs lists of effects below one root. The caller holds the lock *act* (`safety.md` 3.1).
pub struct Performer {
    root: Root,
    program: String,
    api: Option<Arc<dyn PbxApi>>,
    started: Box<dyn Fn(&ProcessRecord) + Send + Sync>,
    boundary: Box<dyn Fn(Boundary) + Send + Sync>,
}

/// A point between two changes, at which the engine may be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    /// The log tells what was there; nothing is changed.
    Logged,
    /// A directory for a new file exists.
    DirectoryMade,
    /// The new content is in a temporary file.
    TemporaryWritten,
    /// The file is changed.
    FileChanged,
    /// A command has run.
    CommandRan,
    /// The API was called; the log does not know it yet.
    CallMade,
    /// An effect is done.
    EffectDone,
    /// The list is done; the log is still there.
    Committed,
    /// An effect is undone.
    Undone,
}

impl fmt::Debug for Performer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Performer")
            .field("root", &self.root)
            .field("program", &self.program)
            .finish_non_exhaustive()
    }
}

impl Performer {
    /// `program` is named in the markers of its blocks (`wazo-ha`).
    pub fn new(root: Root, program: &str) -> Performer {
        let program = program.to_owned();
        Performer { root, program, api: None, started: Box::new(|_| {}), boundary: Box::new(|_| {}) }
    }

    /// With access to the PBX's API; without it, effects on it are skipped, and the steps say so.
    #[must_use]
    pub fn with_api(self, api: Arc<dyn PbxApi>) -> Performer {
        Performer { api: Some(api), ..self }
    }

    /// Tells each command's process group before its first instruction (`safety.md` 3.3).
    #[must_use]
    pub fn on_start(self, started: impl Fn(&ProcessRecord) + Send + Sync + 'static) -> Performer {
        Performer { started: Box::new(started), ..self }
    }

    /// Calls at each point between two changes; tests end the process there.
    #[must_use]
    pub fn on_boundary(self, boundary: impl Fn(Boundary) + Send + Sync + 'static) -> Performer {
        Performer { boundary: Box::new(boundary), ..self }
    }

    /// What each effect would do if it were the first; nothing is changed. A command or call is only told.
    pub fn preview(&self, effects: &[Effect]) -> Vec<Line> {
        preview::lines(&self.root, &self.program, self.api.is_some(), effects)
    }

    /// Performs the list in order. An interrupted earlier list is undone first.
    pub fn perform(&self, title: &str, effects: &[Effect]) -> Result<Performed, PerformError> {
        let mut log = Transaction::new(&self.root, title);
        let mut steps = Vec::with_capacity(effects.len());
        if effects.iter().any(leaves_a_log) {
            // a list of commands alone, as a takeover is, waits for no earlier list
            self.recover_first()?;
        }
        for (number, effect) in effects.iter().enumerate() {
            let text = one_line(effect);
            let outcome = log
                .note(Record::Effect { number, text: text.clone() })
                .map_err(EffectError::Log)
                .and_then(|()| self.effect(&mut log, number, effect));
            match outcome {
                Ok(outcome) => steps.push(Step { effect: text, outcome }),
                Err(source) => {
                    return Err(PerformError::Failed {
                        effect: text,
                        source,
                        back: Box::new(undo::go(self, log)),
                    });
                }
            }
            self.passed(Boundary::EffectDone);
        }
        if let Err(error) = log.note(Record::Commit) {
            let effect = "end".to_owned();
            let source = EffectError::Log(error);
            return Err(PerformError::Failed { effect, source, back: Box::new(undo::go(self, log)) });
        }
        self.passed(Boundary::Committed);
        // a log with its mark does no harm: the next recovery removes it
        let _ = log.remove();
        Ok(Performed { steps })
    }

    /// Undoes a list that was interrupted, or finishes one that was complete; `None`: there is none. To be called at
    /// start, under the lock *act*.
    pub fn recover(&self) -> Result<Option<Recovered>, RecoverError> {
        let path = transaction::log_path(&self.root);
        let unusable = |source| RecoverError { path: path.clone(), source };
        let Some(log) = Transaction::left(&self.root).map_err(unusable)? else { return Ok(None) };
        let title = log.title().to_owned();
        if log.committed() {
            log.remove().map_err(unusable)?;
            return Ok(Some(Recovered::Completed { title }));
        }
        Ok(Some(Recovered::RolledBack { title, back: undo::go(self, log) }))
    }

    fn recover_first(&self) -> Result<(), PerformError> {
        match self.recover()? {
            Some(Recovered::RolledBack { title, back }) if back.waits() => Err(PerformError::Unfinished {
                title,
                back: Box::new(back),
                log: transaction::log_path(&self.root),
            }),
            _ => Ok(()),
        }
    }

    fn effect(&self, log: &mut Transaction, number: usize, effect: &Effect) -> Result<Outcome, EffectError> {
        match effect {
            Effect::Run(command) => {
                let outcome = self.bounded(command)?;
                log.ran(number, command.to_string());
                Ok(outcome)
            }
            Effect::WriteFile { path, content, mode } => {
                let change = files::write(&self.root, path, content, *mode)?;
                self.changes(log, number, change.as_slice())
            }
            Effect::RemoveFile { path } => {
                let change = files::remove(&self.root, path)?;
                self.changes(log, number, change.as_slice())
            }
            Effect::SetVariables { path, variables } => {
                let change = files::variables(&self.root, path, variables)?;
                self.changes(log, number, change.as_slice())
            }
            Effect::SetBlocks { blocks, then } => {
                let changes = files::blocks(&self.root, &self.program, blocks)?;
                if self.changes(log, number, &changes)? == Outcome::Unchanged {
                    return Ok(Outcome::Unchanged);
                }
                let Some(then) = then else { return Ok(Outcome::Changed) };
                let (argv, timeout) = (then.argv.clone(), then.timeout);
                log.save(Record::Then { number, argv, timeout }).map_err(EffectError::Log)?;
                self.passed(Boundary::Logged);
                self.bounded(then)
            }
            Effect::RunUnless { check, commands } => {
                if self.command(check).is_ok() {
                    return Ok(Outcome::Unchanged);
                }
                let mut outcome = Outcome::Changed;
                for command in commands {
                    match self.bounded(command)? {
                        // the last word is what a person must know
                        Outcome::WentOn { why } => outcome = Outcome::WentOn { why },
                        Outcome::Changed | Outcome::Unchanged | Outcome::Skipped { .. } => {}
                    }
                    log.ran(number, command.to_string());
                }
                Ok(outcome)
            }
            Effect::SynchronizeDevices => {
                let Some(api) = &self.api else { return Ok(no_api()) };
                Ok(match api.synchronize_devices() {
                    Ok(_) => Outcome::Changed,
                    Err(error) => Outcome::WentOn { why: error.to_string() },
                })
            }
            Effect::SipExpiry(timers) => self.call(log, number, ApiChange::Expiry(*timers)),
            Effect::BackupRegistrars(address) => {
                self.call(log, number, ApiChange::BackupRegistrars(*address))
            }
        }
    }

    fn changes(
        &self,
        log: &mut Transaction,
        number: usize,
        changes: &[Change],
    ) -> Result<Outcome, EffectError> {
        for change in changes {
            let saved = apply::prepare(change).map_err(EffectError::Log)?;
            log.save(Record::Saved { number, saved: saved.clone() }).map_err(EffectError::Log)?;
            self.passed(Boundary::Logged);
            apply::apply(change, &saved, &|boundary| self.passed(boundary))
                .map_err(|source| FileError::Io { path: change.target.clone(), source })?;
        }
        Ok(if changes.is_empty() { Outcome::Unchanged } else { Outcome::Changed })
    }

    fn call(&self, log: &mut Transaction, number: usize, change: ApiChange) -> Result<Outcome, EffectError> {
        let Some(api) = &self.api else { return Ok(no_api()) };
        let undo = api.undo_of(change)?;
        let known = undo.is_some();
        log.save(Record::Calling { number, undo }).map_err(EffectError::Log)?;
        self.passed(Boundary::Logged);
        match api.make(change) {
            Ok(undo) => {
                self.passed(Boundary::CallMade);
                log.called(number, undo).map_err(EffectError::Log)?;
                Ok(Outcome::Changed)
            }
            Err(error) => {
                // with a known way back it is taken, in case a part of the call was done
                if !known {
                    log.note(Record::Undone { number }).map_err(EffectError::Log)?;
                }
                Err(error.into())
            }
        }
    }

    fn bounded(&self, command: &Command) -> Result<Outcome, EffectError> {
        let result = self.command(command);
        self.passed(Boundary::CommandRan);
        match (result, command.on_failure) {
            (Ok(_), _) => Ok(Outcome::Changed),
            (Err(error), OnFailure::GoOn) => Ok(Outcome::WentOn { why: error.to_string() }),
            (Err(error), OnFailure::Fail) => Err(error.into()),
        }
    }

    fn command(&self, command: &Command) -> Result<command::Output, CommandError> {
        command::run(&self.root, command, &mut |record| (self.started)(record))
    }

    fn passed(&self, boundary: Boundary) {
        (self.boundary)(boundary);
    }
}

fn no_api() -> Outcome {
    Outcome::Skipped { why: preview::NO_API.to_owned() }
}

/// Whether the effect may have to be undone.
fn leaves_a_log(effect: &Effect) -> bool {
    match effect {
        Effect::Run(_) | Effect::RunUnless { .. } | Effect::SynchronizeDevices => false,
        Effect::WriteFile { .. }
        | Effect::RemoveFile { .. }
        | Effect::SetBlocks { .. }
        | Effect::SetVariables { .. }
        | Effect::SipExpiry(_)
        | Effect::BackupRegistrars(_) => true,
    }
}

/// An effect without the content that it writes.
fn one_line(effect: &Effect) -> String {
    let text = effect.to_string();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("    | ")).collect();
    lines.join("; ")
}

#[cfg(test)]
mod tests;
