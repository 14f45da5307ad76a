//! What a daemon keeps from one replication to the next.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::afar::Afar;
use super::known::Known;
use super::lookout::{Lookout, Sight};
use crate::carry::Seen;
use crate::context::Context;
use crate::line::Line;

/// The line to the slave, and what the slave is known to have. It lasts while nothing changes that would make the next
/// replication another one: whoever sees such a change drops it, and begins with a new and empty one.
#[derive(Clone, Default)]
pub struct Kept {
    line: Arc<Mutex<Option<Line>>>,
    known: Arc<Mutex<Known>>,
    lookout: Option<Arc<Lookout>>,
    afar: Option<Arc<Afar>>,
    seen: Arc<Mutex<SeenTrees>>,
}

/// What is known of changes that are not on the slave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnChange {
    /// Why changes are not seen; `None`: they are.
    pub why_not: Option<String>,
    /// The slave has the trees as they are.
    pub has_files: bool,
    /// The slave has the tables as they are.
    pub has_tables: bool,
}

impl OnChange {
    /// Nobody looks out for changes.
    pub fn unseen(why_not: impl Into<String>) -> OnChange {
        OnChange { why_not: Some(why_not.into()), has_files: false, has_tables: false }
    }
}

/// What is known of the contents of this node's trees, by their names.
pub(super) type SeenTrees = BTreeMap<String, Seen>;

impl Kept {
    /// What a node that fetches has read already.
    pub(super) fn seen(&self) -> MutexGuard<'_, SeenTrees> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looking out for changes, too.
    pub fn looking_out(lookout: Arc<Lookout>) -> Kept {
        Kept { lookout: Some(lookout), ..Kept::default() }
    }

    /// Listening to what changes at the node that is fetched from.
    pub fn listening(afar: Arc<Afar>) -> Kept {
        Kept { afar: Some(afar), ..Kept::default() }
    }

    /// What is left when the slave may be another one: nothing is known of it, and no line leads there.
    pub fn without_the_slave(&self) -> Kept {
        Kept { lookout: self.lookout.clone(), ..Kept::default() }
    }

    /// Who looks out for changes.
    pub fn lookout(&self) -> Option<&Arc<Lookout>> {
        self.lookout.as_ref()
    }

    /// Who listens to changes at the other node.
    pub fn afar(&self) -> Option<&Arc<Afar>> {
        self.afar.as_ref()
    }

    /// How many changes were told by the other node.
    pub(super) fn told_of_changes(&self) -> Option<u64> {
        self.afar.as_ref().map(|afar| afar.told())
    }

    /// A replication has brought everything that had been told when it began.
    pub(super) fn brought(&self, told: Option<u64>) {
        if let (Some(afar), Some(told)) = (&self.afar, told) {
            afar.brought(told);
        }
    }

    /// For `status`; `None`: nobody looks out.
    pub fn on_change(&self) -> Option<OnChange> {
        if let Some(afar) = &self.afar {
            return Some(afar.on_change());
        }
        let lookout = self.lookout.as_ref()?;
        let (sight, why_not) = (lookout.last_sight(), lookout.why_not());
        let (known, now) = (self.known(), Instant::now());
        let has_files = known.has_files(sight.files, now);
        let has_tables = known.has_tables(sight.tables.as_ref(), now).is_some();
        Some(OnChange { why_not, has_files, has_tables })
    }

    /// Whether this is something that no replication has brought yet and that was not `told`.
    pub(crate) fn is_news(&self, sight: &Sight, told: &Sight) -> bool {
        self.known().is_news(sight, told, Instant::now())
    }

    /// How things are seen now, if anybody looks out.
    pub(super) async fn look(&self, context: &Context) -> Sight {
        match &self.lookout {
            Some(lookout) => lookout.look(context).await,
            None => Sight::default(),
        }
    }

    /// Takes the line out; a replication that fails does not put it back.
    pub(super) fn take_line(&self) -> Option<Line> {
        self.line().take()
    }

    /// Keeps a line whose conversation is not in doubt.
    pub(super) fn put_line(&self, line: Line) {
        *self.line() = Some(line);
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the line and waits until the other end knows.
    pub async fn close(&self) {
        let line = self.take_line();
        if let Some(line) = line {
            line.close().await;
        }
    }

    fn line(&self) -> MutexGuard<'_, Option<Line>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
