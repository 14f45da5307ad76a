//! What becomes of a promised switch that nobody asks for any more.
//!
//! A promise is found by whoever comes next: the agent whose near end was cut, the next replication's opening, the daemon
//! of a node that stands by, a takeover. Each settles it the same way, under the lock *replicate*:
//!
//! - its decision says that it happens (nothing else decides, or the transaction was committed): it is carried out;
//! - the transaction was rolled back, or nobody knows: it is dropped; the next replication compares everything anyway;
//! - the server does not answer, or the promise cannot be read: it stays, and nothing is replicated until that changes.
//!
//! It is carried out only in the time of standing by in which it was promised, which the generation says, or by the
//! takeover that ends this time, before telephony starts: what a serving node wrote is never overwritten. A takeover that
//! cannot wait drops it.

use std::io;
use std::path::{Path, PathBuf};

use ha_core::replication::admission::Receiver;
use ha_core::replication::wire::{Outcome, Transaction};

use super::apply::{Stopped, carry_out};
use super::error::TreeError;
use super::intent::{Decision, Intent, IntentDirectory};
use super::replica::Replica;
use super::stage::Stage;
use super::trash::{Trash, TrashLimit};
use super::tree::Tree;
use crate::db::Fate;
use crate::state::StateError;

/// Bytes that tell a disk with room from a full one.
const ROOM: u64 = 1 << 20;

/// When somebody comes upon a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// The node stands by, or is believed to.
    StandingBy,
    /// The node takes over, and has not started telephony yet.
    TakingOver,
    /// Telephony runs.
    Serving,
}

/// What was done about a promise.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// There was none.
    Nothing,
    /// The switch was made.
    CarriedOut(Outcome),
    /// The switch will not be made: the reason, a clause. What was received for it waits for the next.
    Dropped(String),
    /// It is not for now: the reason, a clause.
    Left(&'static str),
}

impl Settled {
    /// For the journal: what was done; `None`: nothing.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Settled::Nothing | Settled::Left(_) => None,
            Settled::CarriedOut(outcome) => {
                Some(format!("the switch to replication {} was interrupted and is finished", outcome.number))
            }
            Settled::Dropped(why) => {
                Some(format!("the switch to a replication that was cut short is not made: {why}"))
            }
        }
    }
}

/// A promise stands and could not be settled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsettled {
    /// The database's server cannot be asked.
    #[error("whether its transaction was committed is not known: {0}")]
    Unknown(String),
    /// The promise may be whole, and this program cannot read it.
    #[error("what was promised cannot be read: {0}")]
    Unreadable(StateError),
    /// A step of the switch failed.
    #[error(transparent)]
    Failed(#[from] TreeError),
    /// We were asked to stop in the middle of it.
    #[error("it was interrupted")]
    Cancelled,
}

impl From<Stopped> for Unsettled {
    fn from(stopped: Stopped) -> Unsettled {
        match stopped {
            Stopped::Failed(error) => Unsettled::Failed(error),
            Stopped::Cancelled => Unsettled::Cancelled,
        }
    }
}

/// Where switches are made.
pub(crate) struct Ground<'a> {
    pub(crate) trees: &'a [Tree],
    pub(crate) state_directory: &'a Path,
    pub(crate) trash_directory: PathBuf,
    pub(crate) trash_limit: TrashLimit,
    /// Looked at before each step.
    pub(crate) cancelled: &'a dyn Fn() -> bool,
}

impl Ground<'_> {
    pub(crate) fn intents(&self) -> IntentDirectory {
        IntentDirectory::of(self.state_directory)
    }

    /// Makes the switch that is promised, and takes its number. The lock *replicate* is held.
    pub(crate) fn complete(&self, intent: &Intent, occasion: Occasion) -> Result<Outcome, Stopped> {
        let directory = self.intents();
        let mut trash = Trash::new(self.trash_directory.clone(), self.trash_limit);
        let mut outcome = carry_out(&directory, intent, self.trees, &mut trash, self.cancelled)?;
        // without it there is no less room
        let _ = directory.release();
        Replica::complete(self.state_directory, intent.number).map_err(|error| self.error("write", error))?;
        directory.withdraw().map_err(|error| self.error("write", error))?;
        if !IntentDirectory::leaves_contents(intent) {
            directory.forget_contents()?;
        }
        match occasion {
            Occasion::StandingBy => {
                if let Err(error) = trash.prune() {
                    outcome.warnings.push(format!("the trash could not be tidied: {error}"));
                }
            }
            // telephony does not wait for it; the next replication does it
            Occasion::TakingOver | Occasion::Serving => {}
        }
        // one frame must hold them
        outcome.warnings.truncate(100);
        Ok(outcome)
    }

    /// Whether a switch that failed for want of room finds some now, where it is made and where it is written down.
    pub(crate) fn has_room(&self) -> bool {
        let in_tree = |tree: &Tree| {
            let stage = Stage::new(tree)?;
            let reserved = stage.reserve(ROOM);
            stage.remove()?;
            reserved
        };
        self.trees.iter().all(|tree| in_tree(tree).is_ok()) && self.intents().has_room(ROOM)
    }

    /// Settles the promise that stands, if one does. `fate` asks this node's server. The lock *replicate* is held.
    pub(crate) fn settle(
        &self,
        occasion: Occasion,
        now: Receiver,
        fate: &mut dyn FnMut(Transaction) -> Result<Fate, String>,
    ) -> Result<Settled, Unsettled> {
        let directory = self.intents();
        let intent = match directory.intent() {
            Ok(Some(intent)) => intent,
            Ok(None) => return Ok(Settled::Nothing),
            Err(error @ StateError::Torn { .. }) => return self.drop_it(error.to_string()),
            Err(
                error @ (StateError::Io { .. } | StateError::Stalled { .. } | StateError::Foreign { .. }),
            ) => return Err(Unsettled::Unreadable(error)),
        };
        match judge(intent.generation, occasion, now) {
            Judgement::Drop(why) => self.drop_it(why.to_owned()),
            Judgement::Leave(why) => Ok(Settled::Left(why)),
            Judgement::AsDecided => match intent.decision {
                Decision::Always => Ok(Settled::CarriedOut(self.complete(&intent, occasion)?)),
                Decision::IfCommitted(transaction) => match fate(transaction).map_err(Unsettled::Unknown)? {
                    Fate::Committed => Ok(Settled::CarriedOut(self.complete(&intent, occasion)?)),
                    Fate::RolledBack => self.drop_it("its transaction was not committed".to_owned()),
                    Fate::Unknown(why) => {
                        self.drop_it(format!("what became of its transaction is lost: {why}"))
                    }
                },
            },
        }
    }

    /// Gives the promise up.
    pub(crate) fn drop_it(&self, why: String) -> Result<Settled, Unsettled> {
        self.intents().withdraw().map_err(|error| self.error("write", error))?;
        Ok(Settled::Dropped(why))
    }

    fn error(&self, doing: &'static str, source: io::Error) -> TreeError {
        TreeError { doing, path: self.state_directory.display().to_string(), source }
    }
}

/// What may be done about a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judgement {
    AsDecided,
    Drop(&'static str),
    Leave(&'static str),
}

/// `promised`: this node's generation when the promise was given.
fn judge(promised: u64, occasion: Occasion, now: Receiver) -> Judgement {
    const OTHER_TIME: Judgement = Judgement::Drop("this node's role or activity changed since");
    match (occasion, now.flow.reaches(now.role)) {
        (_, false) => OTHER_TIME,
        (Occasion::Serving, true) => Judgement::Drop("telephony runs on this node"),
        // the one takeover that ends the time in which it was promised
        (Occasion::TakingOver, true) => {
            if promised.checked_add(1) == Some(now.generation) {
                Judgement::AsDecided
            } else {
                OTHER_TIME
            }
        }
        (Occasion::StandingBy, true) => match now.active {
            true => Judgement::Leave("this node takes over, and settles it before telephony starts"),
            false if now.generation == promised => Judgement::AsDecided,
            false => OTHER_TIME,
        },
    }
}

#[cfg(test)]
mod tests {
    use ha_core::Role;
    use ha_core::replication::flow::Flow;

    use super::*;

    #[test]
    fn a_switch_is_made_only_in_the_time_of_standing_by_in_which_it_was_promised_or_by_the_takeover_that_ends_it()
     {
        for role in Role::ALL {
            for active in [false, true] {
                for occasion in [Occasion::StandingBy, Occasion::TakingOver, Occasion::Serving] {
                    for (promised, generation) in
                        [(7, 6), (7, 7), (7, 8), (7, 9), (u64::MAX, 0), (u64::MAX, u64::MAX)]
                    {
                        let judgement = judge(
                            promised,
                            occasion,
                            Receiver { flow: Flow::Push, role, generation, active, owes: false },
                        );
                        let stands_by = occasion == Occasion::StandingBy && !active && generation == promised;
                        let takes_over = occasion == Occasion::TakingOver && promised == 7 && generation == 8;
                        let wanted = role == Role::Slave && (stands_by || takes_over);
                        let text =
                            format!("{role} {active} {occasion:?} {promised} {generation}: {judgement:?}");
                        assert_eq!(judgement == Judgement::AsDecided, wanted, "{text}");
                        // a node that takes over is left alone by everybody but its takeover
                        let left = role == Role::Slave && active && occasion == Occasion::StandingBy;
                        assert_eq!(matches!(judgement, Judgement::Leave(_)), left, "{text}");
                    }
                }
            }
        }
    }
}
