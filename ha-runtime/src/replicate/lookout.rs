//! Looks out for changes of what a master replicates: of its trees by inotify, of its tables by what PostgreSQL counts.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ha_core::replication::tables::Exclusions;

use super::trees;
use crate::context::Context;
use crate::db::{Counted, Gate};
use crate::report::Failure;
use crate::watch::{Seen, Watch};
use crate::way::{self, Database};

/// Longest wait for the database to be opened, and for its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// First pause after the database could not be looked at; doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How what is replicated is seen at one moment. What is `None` could not be seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Sight {
    /// Trees.
    pub(crate) files: Option<Seen>,
    /// Tables.
    pub(crate) tables: Option<Counted>,
}

/// What a daemon sees of its own trees and tables, without reading any of them.
pub struct Lookout {
    watch: Result<Watch, String>,
    /// `None`: no database takes part.
    exclusions: Option<Exclusions>,
    /// Of its own: a replication's connection is in a transaction for as long as it runs.
    gate: tokio::sync::Mutex<Opened>,
    /// Of the last look at the tables, or why there is none.
    looked: Mutex<Result<Counted, String>>,
}

/// The way to this node's counts.
#[derive(Default)]
struct Opened {
    gate: Option<(Database, Gate)>,
    failed: Option<Failed>,
}

/// Nothing is tried before `until`.
#[derive(Debug, Clone, Copy)]
struct Failed {
    pause: Duration,
    until: Instant,
}

impl Failed {
    fn after(earlier: Option<Failed>, now: Instant) -> Failed {
        let pause = earlier.map_or(FIRST_PAUSE, |earlier| (earlier.pause * 2).min(LONGEST_PAUSE));
        Failed { pause, until: now + pause }
    }
}

impl Lookout {
    /// Begins to watch the trees. What cannot be watched is told by [`Lookout::why_not`].
    pub fn start(context: &Context) -> Lookout {
        let watch = trees(context).map_err(|failure| failure.message);
        Lookout {
            watch: watch.and_then(|trees| Watch::start(&trees).map_err(|error| error.to_string())),
            exclusions: context.profile().database.map(|database| Exclusions::new(database.exclude)),
            gate: tokio::sync::Mutex::default(),
            looked: Mutex::new(Err("the database was not looked at yet".to_owned())),
        }
    }

    /// Why changes are not seen; then the schedule alone replicates them.
    pub fn why_not(&self) -> Option<String> {
        let files = match &self.watch {
            Ok(watch) => watch.why_not(),
            Err(why) => Some(why.clone()),
        };
        let tables = self.exclusions.as_ref().and_then(|_| self.looked().as_ref().err().cloned());
        let both = [files, tables].into_iter().flatten().collect::<Vec<_>>().join("; ");
        Some(both).filter(|both| !both.is_empty())
    }

    /// How things were seen last; costs nothing.
    pub(crate) fn last_sight(&self) -> Sight {
        Sight { files: self.files(), tables: self.looked().as_ref().ok().cloned() }
    }

    /// Looks at the tables, too.
    pub(crate) async fn look(&self, context: &Context) -> Sight {
        let tables = match &self.exclusions {
            Some(exclusions) => self.count(context, exclusions).await,
            None => None,
        };
        Sight { files: self.files(), tables }
    }

    /// Waits until the trees are not as they were seen then; for ever, if they cannot be watched.
    pub(crate) async fn files_changed(&self, since: Option<Seen>) {
        match (&self.watch, since) {
            (Ok(watch), Some(since)) => watch.changed(since).await,
            _ => std::future::pending().await,
        }
    }

    fn files(&self) -> Option<Seen> {
        let watch = self.watch.as_ref().ok()?;
        let seen = watch.seen();
        watch.why_not().is_none().then_some(seen)
    }

    async fn count(&self, context: &Context, exclusions: &Exclusions) -> Option<Counted> {
        let mut place = self.gate.lock().await;
        if place.failed.is_some_and(|failed| Instant::now() < failed.until) {
            return None;
        }
        let gate = &mut place.gate;
        let counting = async {
            // whoever is cut off in the middle of it leaves nothing that may be in doubt
            let (database, mut opened) =
                match gate.take().filter(|(database, _)| !database.client.is_closed()) {
                    Some(kept) => kept,
                    None => {
                        let database = way::to_local_database(context).await?;
                        let gate = Gate::open(&database.client, exclusions).await;
                        (database, gate.map_err(Failure::environment)?)
                    }
                };
            let counted = opened.look(&database.client).await.map_err(Failure::environment)?;
            *gate = Some((database, opened));
            Ok(counted)
        };
        let counted = match tokio::time::timeout(PATIENCE, counting).await {
            Ok(Ok(counted)) => Ok(counted),
            Ok(Err::<_, Failure>(failure)) => Err(failure.message),
            Err(_) => Err(format!("this node's database did not answer within {} s", PATIENCE.as_secs())),
        };
        let seen = counted.as_ref().ok().cloned();
        place.failed = match (&counted, place.failed) {
            (Ok(_), _) => None,
            (Err(why), earlier) => {
                if earlier.is_none() {
                    tracing::warn!("tables are not looked at, the schedule alone finds changes there: {why}");
                }
                Some(Failed::after(earlier, Instant::now()))
            }
        };
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = counted;
        seen
    }

    fn looked(&self) -> std::sync::MutexGuard<'_, Result<Counted, String>> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_cannot_be_opened_is_asked_less_and_less_often() {
        let now = Instant::now();
        let mut failed = None;
        let pauses = [(); 7].map(|()| {
            let next = Failed::after(failed, now);
            failed = Some(next);
            next.pause.as_secs()
        });
        assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60]);
    }
}
