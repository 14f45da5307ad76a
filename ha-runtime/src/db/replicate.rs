//! One replication, from the first lock to COMMIT.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use ha_core::replication::tables::{Exclusions, PlannedTable, TablePlan, plan_tables};
use ha_core::replication::wire;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, Transaction};

use super::catalog::Shape;
use super::compare::{Comparison, Counts, Finding, Rewrite};
use super::digest::{Digests, digests, usual_digests};
use super::error::{DbError, Fault, Side};
use super::remembered::Remembered;
use super::report::{DatabaseReport, Mode, TableChange};
use super::{apply, border, catalog, compare, fate, session};

/// How a replication is done.
#[derive(Debug, Clone)]
pub struct Options {
    /// Tables that stay.
    pub exclusions: Exclusions,
    /// How rows are chosen.
    pub mode: Mode,
    /// Whether anything is written.
    pub purpose: Purpose,
    /// How long one lock is waited for. Readers and writers of the replica wait behind us no longer than that.
    pub lock_timeout: Duration,
    /// How often the whole is tried when another session holds a lock; >= 1.
    pub attempts: u32,
    /// The wait before the second attempt; it doubles from one to the next.
    pub back_off: Duration,
    /// Another replication into the same database, whose client has been silent for so long, is ended: its master was cut
    /// off in the middle, and its locks would otherwise be held until TCP gives up, two hours later.
    pub stalled_after: Duration,
    /// Told after every table, for whoever draws a bar.
    pub progress: Option<watch::Sender<Progress>>,
}

/// How far a replication is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Tables that differ, or all of them in [`Mode::Full`]; 0 until they are known.
    pub tables: usize,
    /// Those of them that are done.
    pub done: usize,
}

/// Whether anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The replica is brought to the source's state.
    Apply,
    /// Differences are counted in a read-only transaction.
    DryRun,
}

impl Options {
    /// An incremental replication that waits 2 s for a lock, three times.
    pub fn new(exclusions: Exclusions) -> Options {
        Options {
            exclusions,
            mode: Mode::Incremental,
            purpose: Purpose::Apply,
            lock_timeout: Duration::from_secs(2),
            attempts: 3,
            back_off: Duration::from_millis(500),
            stalled_after: Duration::from_secs(120),
            progress: None,
        }
    }
}

impl Options {
    fn tell(&self, progress: Progress) {
        if let Some(bar) = &self.progress {
            bar.send_replace(progress);
        }
    }
}

/// Asked immediately before COMMIT, while all locks are held: the receiver's generation may have changed meanwhile.
#[async_trait]
pub trait CommitGate: Send + Sync {
    /// Ok: commit. Err: the refusal, a clause that an operator reads; everything is rolled back.
    ///
    /// `transaction` is the one that is about to be committed: the replica's server can be asked later what became of it
    /// ([`fate`](super::fate())), if its id has been made durable there ([`make_durable`](super::make_durable)). Not asked when nothing differs, nor in a dry run.
    async fn confirm(&self, transaction: wire::Transaction) -> Result<(), String>;
}

/// Brings the replica's tables to the source's state, in one transaction, or changes nothing.
///
/// Both clients must be logged in by [`connect`](super::connect) as superusers to databases of the same name and release;
/// `remembered` is what the replications before this one over the same two left. Dropping the future rolls back. On an
/// error the replica is unchanged; the one exception says so ([`DbError::CommitUnknown`]).
pub async fn replicate(
    source: &mut Client,
    replica: &mut Client,
    remembered: &mut Remembered,
    options: &Options,
    gate: &dyn CommitGate,
) -> Result<DatabaseReport, DbError> {
    let started = Instant::now();
    let mut back_off = options.back_off;
    let mut attempt = 1;
    loop {
        let error = match attempt_once(source, replica, remembered, options, gate).await {
            Ok(report) => return Ok(DatabaseReport { took: started.elapsed(), ..report }),
            Err(error) => error,
        };
        let Some((side, what)) = error.held() else { return Err(error) };
        if attempt >= options.attempts {
            return Err(match side {
                Side::Source => DbError::Restless { what, attempts: attempt },
                Side::Replica => DbError::Locked { what, attempts: attempt },
            });
        }
        tracing::debug!("attempt {attempt}: {what} ({side:?}) is held, trying again in {back_off:?}");
        tokio::time::sleep(back_off).await;
        back_off *= 2;
        attempt += 1;
    }
}

async fn attempt_once(
    source: &mut Client,
    replica: &mut Client,
    remembered: &mut Remembered,
    options: &Options,
    gate: &dyn CommitGate,
) -> Result<DatabaseReport, DbError> {
    // the replica first: its lock may have to be waited for, and a snapshot should be as young as can be
    let replica = session::transaction(replica, options).await?;
    let source = session::snapshot(source, options.lock_timeout).await?;
    let written = match write(&source, &replica, remembered, options).await {
        Ok(report) if options.purpose == Purpose::Apply && report.writes() => {
            match confirmed(&replica, gate).await {
                Ok(()) => return commit(replica).await.map(|()| report),
                Err(error) => Err(error),
            }
        }
        other => other,
    };
    // a rollback that fails has a lost connection for its reason, which rolls back as well
    let _ = replica.rollback().await;
    written
}

async fn confirmed(replica: &Transaction<'_>, gate: &dyn CommitGate) -> Result<(), DbError> {
    let asking = || DbError::replica("asking for the transaction's id");
    // of 64 bits, so that it does not come again by counting round; nor after a crash, once the gate has had it made
    // durable
    let id = replica.query_typed_one("SELECT pg_catalog.txid_current()", &[]).await;
    let id: i64 = id.and_then(|row| row.try_get(0)).map_err(asking())?;
    let server = fate::server_identity(replica).await.map_err(asking())?;
    let transaction = wire::Transaction { server, id: id.cast_unsigned() };
    gate.confirm(transaction).await.map_err(DbError::Refused)
}

async fn commit(replica: Transaction<'_>) -> Result<(), DbError> {
    if replica.client().is_closed() {
        return Err(DbError::Ended);
    }
    let Err(error) = replica.commit().await else { return Ok(()) };
    match error.code() {
        Some(&SqlState::ADMIN_SHUTDOWN) => Err(DbError::Ended),
        Some(_) => Err(DbError::Replica(Fault::new("committing", error))),
        None => Err(DbError::CommitUnknown(Fault::new("committing", error))),
    }
}

/// Everything but the end of the transaction.
async fn write(
    source: &Transaction<'_>,
    replica: &Transaction<'_>,
    remembered: &mut Remembered,
    options: &Options,
) -> Result<DatabaseReport, DbError> {
    let (plan, names) = plan(source, replica, &mut remembered.shape, options).await?;
    let is_bare = |table: &&PlannedTable| names.contains(&table.name);
    let (bare, tables): (Vec<&PlannedTable>, Vec<_>) = plan.tables.iter().partition(is_bare);
    let (mut here, there) = both_digests(source, replica, remembered, &tables).await?;

    let full = options.mode == Mode::Full;
    let differs = |table: &&PlannedTable| is_bare(table) || here.get(&table.name) != there.get(&table.name);
    let differing: Vec<&PlannedTable> = plan.tables.iter().filter(|table| full || differs(table)).collect();
    let apply = options.purpose == Purpose::Apply;
    options.tell(Progress { tables: differing.len(), done: 0 });
    let copier = Copier { source, replica, options, here: &here, there: &there, bare: &bare };
    let (changes, digests) = copier.tables(&differing).await?;
    here.extend(digests);
    options.tell(Progress { tables: differing.len(), done: differing.len() });
    let sequences = apply::sequences(source, replica, &plan.sequences, apply).await?;
    let mut borders = Vec::new();
    if apply {
        let names: BTreeSet<&str> = differing.iter().map(|table| table.name.as_str()).collect();
        borders = border::settle(replica, &plan.borders, &names).await?;
        let acted = borders.iter().any(|change| change.rows > 0);
        verify(replica, &plan.tables, &differing, &here, acted).await?;
    }
    let verified = apply || differing.is_empty();
    let sequences_set = sequences.len();
    let report = DatabaseReport::new(options.mode, plan, changes);
    Ok(DatabaseReport { sequences_set, borders, verified, ..report })
}

/// What is to be copied, and which of these tables are so certain to differ that no digest need say so before they are
/// copied.
async fn plan(
    source: &Transaction<'_>,
    replica: &Transaction<'_>,
    known: &mut Option<Shape>,
    options: &Options,
) -> Result<(TablePlan, BTreeSet<String>), DbError> {
    let before = known.take();
    let (here, seen) = tokio::try_join!(
        async { catalog::shape(source, before).await.map_err(DbError::source("reading the catalog")) },
        async { catalog::fingerprint(replica).await.map_err(DbError::replica("reading the catalog")) }
    )?;
    let there = async {
        if seen == here.fingerprint {
            catalog::alike(replica, &here.catalog).await
        } else {
            catalog::read(replica).await.map(|shape| shape.catalog)
        }
    };
    let bare = async {
        match options.purpose {
            Purpose::Apply => catalog::bare(replica, &here.catalog).await,
            // how many rows there would be to copy, only digests say
            Purpose::DryRun => Ok(BTreeSet::new()),
        }
    };
    let (there, bare) = tokio::try_join!(there, bare).map_err(DbError::replica("reading the catalog"))?;
    let plan = plan_tables(&here.catalog, &there, &options.exclusions)?;
    *known = Some(here);
    Ok((plan, bare))
}

async fn both_digests(
    source: &Transaction<'_>,
    replica: &Transaction<'_>,
    remembered: &mut Remembered,
    tables: &[&PlannedTable],
) -> Result<(Digests, Digests), DbError> {
    let Remembered { source: of_source, replica: of_replica, .. } = remembered;
    tokio::try_join!(
        async {
            let digests = usual_digests(source, of_source, tables).await;
            final_digests(source, tables, digests).await
        },
        async {
            let digests = usual_digests(replica, of_replica, tables).await;
            digests.map_err(DbError::replica("computing digests"))
        }
    )
}

/// The source's digests of these tables, if its snapshot sees what they hold.
async fn final_digests(
    source: &Transaction<'_>,
    tables: &[&PlannedTable],
    digests: Result<Digests, Error>,
) -> Result<Digests, DbError> {
    let digests = digests.map_err(DbError::source("computing digests"))?;
    // only now: what was read is locked against it
    let remade = catalog::remade(source, tables).await;
    match remade.map_err(DbError::source("looking for tables that were rewritten"))? {
        Some(table) => Err(DbError::Remade { table }),
        None => Ok(digests),
    }
}

/// What was written must be what the source has; its tables are still locked against other writers.
///
/// So must all others, if a trigger or a rule may have written them: one that is never off, or any of a table that stays
/// once a border `acted` there.
async fn verify(
    replica: &Transaction<'_>,
    planned: &[PlannedTable],
    written: &[&PlannedTable],
    source: &Digests,
    acted: bool,
) -> Result<(), DbError> {
    if written.is_empty() {
        return Ok(());
    }
    let verifying = || DbError::replica("verifying digests");
    let (mut now, fires) =
        tokio::try_join!(digests(replica, written), catalog::fires_always(replica)).map_err(verifying())?;
    if acted || fires {
        let others = planned.iter().filter(|table| !now.contains_key(&table.name)).collect::<Vec<_>>();
        now.extend(digests(replica, &others).await.map_err(verifying())?);
    }
    match now.iter().find(|(table, now)| source.get(*table) != Some(*now)) {
        Some((table, _)) => Err(DbError::NotEqual { table: table.clone() }),
        // a table without an answer is not verified
        None => match written.iter().find(|table| !now.contains_key(&table.name)) {
            Some(table) => Err(DbError::NotEqual { table: table.name.clone() }),
            None => Ok(()),
        },
    }
}

struct Copier<'a> {
    source: &'a Transaction<'a>,
    replica: &'a Transaction<'a>,
    options: &'a Options,
    here: &'a Digests,
    there: &'a Digests,
    /// Of which the replica has no rows, and nobody a digest.
    bare: &'a [&'a PlannedTable],
}

impl Copier<'_> {
    /// Brings the tables to the source's state, or counts what that would take. One that became equal meanwhile is left out.
    ///
    /// Returns the source's digests of the bare ones as well.
    async fn tables(&self, tables: &[&PlannedTable]) -> Result<(Vec<TableChange>, Digests), DbError> {
        let apply = self.options.purpose == Purpose::Apply;
        if apply {
            apply::lock(self.replica, tables).await?;
        }
        let mut found: Vec<(&PlannedTable, Comparison)> = Vec::new();
        // both servers are asked about all of them together: neither waits for the other or for the way between them
        let findings = try_join_all(tables.iter().map(|table| self.look(table))).await?;
        for (table, finding) in tables.iter().zip(findings) {
            let comparison = match finding {
                Finding::Compared(comparison) => comparison,
                Finding::Located(part) => compare::compare(self.source, self.replica, table, &part).await?,
            };
            if comparison.counts != Counts::default() || self.is_counted_later(table) {
                found.push((table, comparison));
            }
        }
        let mut changes: Vec<TableChange> =
            found.iter().map(|(table, found)| change(table, found.counts)).collect();
        let mut digests = Digests::new();
        if apply {
            let deleted =
                found.iter().map(|(table, found)| apply::delete(self.replica, table, &found.rewrite));
            let deleted = try_join_all(deleted).await?;
            let rewrites: Vec<_> = found.iter().map(|(table, found)| (*table, &found.rewrite)).collect();
            let done = |done| self.options.tell(Progress { tables: tables.len(), done });
            let then = self.bare_digests();
            let (copied, bare) = apply::copy(self.source, self.replica, &rewrites, done, then).await?;
            digests = bare;
            for (((change, (table, _)), deleted), copied) in
                changes.iter_mut().zip(&found).zip(deleted).zip(copied)
            {
                if self.is_counted_later(table) {
                    (change.inserted, change.deleted) = (copied, deleted);
                }
            }
            let is_none =
                |change: &TableChange| (change.inserted, change.updated, change.deleted) == (0, 0, 0);
            changes.retain(|change| self.options.mode == Mode::Full || !is_none(change));
        }
        Ok((changes, digests))
    }

    /// The source's digests of the bare tables: asked for once it has read their rows, and computed while the replica writes
    /// the last of them.
    async fn bare_digests(&self) -> Result<Digests, DbError> {
        if self.bare.is_empty() {
            return Ok(Digests::new());
        }
        final_digests(self.source, self.bare, digests(self.source, self.bare).await).await
    }

    /// Whether the rows of a table are counted as they are written, and not before.
    fn is_counted_later(&self, table: &PlannedTable) -> bool {
        self.options.mode == Mode::Full || self.bare.iter().any(|bare| bare.name == table.name)
    }

    async fn look(&self, table: &PlannedTable) -> Result<Finding, DbError> {
        let digest = |of: &Digests| of.get(&table.name).cloned().unwrap_or_default();
        let (here, there) = (digest(self.here), digest(self.there));
        let nothing_to_compare = here.rows == 0 || there.rows == 0;
        match self.options.mode {
            Mode::Incremental if !nothing_to_compare => {
                compare::look(self.source, self.replica, table, (&here, &there)).await
            }
            Mode::Incremental | Mode::Full => {
                let counts = Counts { inserted: here.rows, updated: 0, deleted: there.rows };
                Ok(Finding::Compared(Comparison { counts, rewrite: Rewrite::Whole }))
            }
        }
    }
}

fn change(table: &PlannedTable, counts: Counts) -> TableChange {
    let Counts { inserted, updated, deleted } = counts;
    TableChange { table: table.name.clone(), inserted, updated, deleted }
}

impl DatabaseReport {
    /// Whether the transaction holds anything to commit.
    fn writes(&self) -> bool {
        !self.changes.is_empty() || self.sequences_set > 0
    }
}
