//! The way back through a transaction log.

use std::fmt;

use super::api::Undo;
use super::apply::{Restored, restore};
use super::transaction::{Record, Saved, Transaction, again};
use super::{Boundary, Performer};

/// What the way back achieved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WayBack {
    /// Effects that are undone, the last one first.
    pub undone: Vec<String>,
    /// What could not be undone.
    pub left: Vec<Left>,
    /// Commands that had run: nothing undoes a command.
    pub ran: Vec<String>,
}

/// Something that could not be undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// The effect.
    pub effect: String,
    /// Why, and what state that leaves.
    pub why: String,
    /// Whether trying again may help.
    pub again: Again,
}

/// Whether trying again may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// The log is kept, and the next recovery tries again.
    NextRecovery,
    /// A person has to look.
    Never,
}

impl fmt::Display for WayBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.left.is_empty() {
            f.write_str("everything was undone")?;
        } else {
            f.write_str("not everything was undone")?;
            for left in &self.left {
                write!(f, "; {}: {}", left.effect, left.why)?;
            }
        }
        if !self.ran.is_empty() {
            write!(f, "; these commands had run, and nothing undoes a command: {}", self.ran.join(", "))?;
        }
        Ok(())
    }
}

impl WayBack {
    pub(super) fn waits(&self) -> bool {
        self.left.iter().any(|left| left.again == Again::NextRecovery)
    }
}

/// Undoes, last effect first, what the log says was begun; removes the log unless something is to be tried again.
pub(super) fn go(performer: &Performer, mut log: Transaction) -> WayBack {
    let mut back = WayBack::default();
    let records = log.records().to_vec();
    let numbers: Vec<(usize, &str)> = records
        .iter()
        .filter_map(|record| match record {
            Record::Effect { number, text } => Some((*number, text.as_str())),
            _ => None,
        })
        .collect();
    for (number, text) in numbers.into_iter().rev() {
        if records.contains(&Record::Undone { number }) {
            continue;
        }
        let before = back.left.len();
        if one(performer, &records, number, text, &mut back) == Touched::Yes && back.left.len() == before {
            back.undone.push(text.to_owned());
        }
        if back.left[before..].iter().all(|left| left.again == Again::Never) {
            // when this cannot be written, the next recovery undoes once more, which does no harm
            let _ = log.note(Record::Undone { number });
        }
        performer.passed(Boundary::Undone);
    }
    back.ran = records
        .iter()
        .filter_map(|record| match record {
            Record::Ran { text, .. } => Some(text.clone()),
            _ => None,
        })
        .collect();
    if !back.waits()
        && let Err(error) = log.remove()
    {
        let why = format!("the log of it could not be removed: {error}");
        back.left.push(Left { effect: "end".to_owned(), why, again: Again::NextRecovery });
    }
    back
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Touched {
    Yes,
    No,
}

/// One effect: its files in reverse, then the command that belongs to them, and its call of the API.
fn one(performer: &Performer, records: &[Record], number: usize, text: &str, back: &mut WayBack) -> Touched {
    let mut touched = Touched::No;
    let mut left = |why: String, again| back.left.push(Left { effect: text.to_owned(), why, again });
    let mut then = None;
    let mut call: Option<Option<&Undo>> = None;
    let mut files: Vec<&Saved> = Vec::new();
    for record in records {
        match record {
            Record::Saved { number: of, saved } if *of == number => files.push(saved),
            Record::Then { number: of, argv, timeout } if *of == number => then = Some((argv, timeout)),
            Record::Calling { number: of, undo } if *of == number => call = Some(undo.as_ref()),
            Record::Called { number: of, undo } if *of == number => call = Some(Some(undo)),
            Record::Begin { .. }
            | Record::Effect { .. }
            | Record::Saved { .. }
            | Record::Then { .. }
            | Record::Ran { .. }
            | Record::Calling { .. }
            | Record::Called { .. }
            | Record::Undone { .. }
            | Record::Commit => {}
        }
    }
    for saved in files.into_iter().rev() {
        touched = Touched::Yes;
        match restore(saved, &|boundary| performer.passed(boundary)) {
            Ok(Restored::Yes) => {}
            Ok(Restored::ChangedSince) => {
                let why =
                    format!("{} was changed by somebody else since, and is kept", saved.target.display());
                left(why, Again::Never);
            }
            Err(error) => left(error.to_string(), Again::NextRecovery),
        }
    }
    if let Some((argv, timeout)) = then {
        touched = Touched::Yes;
        // the service has read the files that are gone now
        if let Err(error) = performer.command(&again(argv, *timeout)) {
            left(error.to_string(), Again::Never);
        }
    }
    match (call, &performer.api) {
        (None, _) => {}
        (Some(None), _) => {
            let why = "the engine ended during the call; whether it was made is not known: look at it";
            left(why.to_owned(), Again::Never);
        }
        (Some(Some(_)), None) => {
            left("no access to the PBX's API is set up".to_owned(), Again::NextRecovery);
        }
        (Some(Some(undo)), Some(api)) => {
            touched = Touched::Yes;
            if let Err(error) = api.undo(undo) {
                left(error.to_string(), Again::NextRecovery);
            }
        }
    }
    touched
}
