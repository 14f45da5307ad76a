//! What a node that has served does before it fetches again: what it holds newer is carried to the node that serves, or
//! set aside (`safety.md` 7).
//!
//! That this is owed is not remembered but seen, because what is to be remembered before telephony starts may be lost with
//! the disk that should have taken it. The other way round it is safe: once nothing is owed, that is written down for this
//! time of standing by, which the record's generation tells from every other one. Telephony is started under another
//! generation. Its record may be lost with the disk, or torn; so a machine that was started anew owes once more, and so does
//! a node on which telephony was seen that does not belong there: both are counted, and the count is part of the time.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use ha_core::Role;
use ha_core::carry::Carried;
use ha_core::event::Record;
use ha_core::replication::admission::Receiver as Receiving;
use ha_core::replication::flow::Flow;
use ha_core::replication::listing::Side;
use ha_core::replication::wire::Frame;
use ha_core::voicemail::{Base, Spool};
use serde::{Deserialize, Serialize};

use super::afterwards::Done;
use super::files::{copying, holdings, still_one};
use super::job::SetAside;
use super::kept::SeenTrees;
use crate::carry::{Aside, CarryError, Given, Holding, Kept, LockWay, Receiver, give, scan};
use crate::context::Context;
use crate::durable::{STATE_DIRECTORY, read_if_exists};
use crate::far_node;
use crate::lock::Lock;
use crate::node_state;
use crate::report::Failure;
use crate::state::{StateError, read_sealed, write_sealed};
use crate::sync::{
    Digests, KnownTree, Link, SNAPSHOTS, SyncError, Tree, TreeError, absent, fingerprint, scan as list,
};

/// A time of standing by, for which nothing is owed any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StandingBy {
    generation: u64,
    /// Two records of one generation are of two engines, one of which began anew.
    since: Option<DateTime<Utc>>,
    /// How often telephony may have run here past the record, until then.
    #[serde(default)]
    surprises: u64,
}

impl StandingBy {
    fn of(context: &Context, record: Option<&Record>) -> Result<StandingBy, Failure> {
        Ok(StandingBy {
            generation: record.map_or(0, |record| record.generation),
            since: record.map(|record| record.since),
            surprises: surprises(context)?,
        })
    }

    /// As the record has it, whether this node stands by or not.
    pub(super) fn now(context: &Context) -> Result<StandingBy, Failure> {
        let role = context.role()?;
        let record = node_state::load(&node_state::store(context)?)?;
        StandingBy::of(context, record.filter(|record| node_state::belongs(record, &role)).as_ref())
    }

    /// Nothing of it is owed, from now on.
    pub(super) fn clear(&self, context: &Context) -> Result<(), Failure> {
        let path = path(context, CLEARED);
        if matches!(read_sealed::<StandingBy>(&path), Ok(Some(cleared)) if cleared == *self) {
            return Ok(());
        }
        write_sealed(&path, self).map_err(|source| Failure::environment(StateError::Io { path, source }))
    }

    /// What is set aside lies in a directory of that name.
    fn name(&self) -> String {
        let time = self.since.unwrap_or_default();
        time.format("%Y-%m-%dT%H-%M-%SZ").to_string()
    }
}

/// For which time of standing by nothing is owed any more; and how often telephony may have run past the record.
const CLEARED: &str = "cleared.json";
const SURPRISES: &str = "surprises.json";

fn path(context: &Context, file: &str) -> PathBuf {
    context.root.path(STATE_DIRECTORY).join("carry").join(file)
}

fn surprises(context: &Context) -> Result<u64, Failure> {
    match read_sealed(&path(context, SURPRISES)) {
        Ok(count) => Ok(count.unwrap_or_default()),
        // another count than any before
        Err(StateError::Torn { .. } | StateError::Foreign { .. }) => Ok(u64::MAX),
        Err(error @ (StateError::Io { .. } | StateError::Stalled { .. })) => Err(Failure::environment(error)),
    }
}

/// Whether a node of this role and record owes it. An engine that knows nothing of it owes it where there may be something.
pub(crate) fn owes(context: &Context, role: Role, record: Option<&Record>) -> Result<bool, Failure> {
    let flow = context.settings.replication.flow;
    if !flow.is_pull() || !flow.reaches(role) {
        return Ok(false);
    }
    match read_sealed::<StandingBy>(&path(context, CLEARED)) {
        Ok(Some(cleared)) => Ok(cleared != StandingBy::of(context, record)?),
        Ok(None) => Ok(role == Role::Master || has_messages(context)?),
        Err(error @ (StateError::Torn { .. } | StateError::Foreign { .. })) => {
            tracing::warn!("{error}: what this node holds newer is carried once more");
            Ok(true)
        }
        Err(error @ (StateError::Io { .. } | StateError::Stalled { .. })) => Err(Failure::environment(error)),
    }
}

/// What is known of this node, with what it owes. One that owes nothing has that written down for this time of standing by:
/// whatever comes after it is told from it, also when nothing was ever fetched.
pub(crate) fn look(context: &Context) -> Result<Receiving, Failure> {
    let time = StandingBy::now(context)?;
    let now = node_state::now(context)?;
    if !now.owes && !now.active && time.since.is_some() && now.flow.reaches(now.role) {
        time.clear(context)?;
    }
    Ok(now)
}

/// Telephony ran here although the record does not say so, or may have: somebody started it by hand; the machine was
/// started anew, and what was to be on disk before telephony began may not have come there. Whoever is at work on what was
/// owed until then clears an earlier time.
pub(crate) fn ran_past_the_record(context: &Context) -> Result<(), Failure> {
    let (path, count) = (path(context, SURPRISES), surprises(context)?.wrapping_add(1));
    write_sealed(&path, &count).map_err(|source| Failure::environment(StateError::Io { path, source }))
}

fn has_messages(context: &Context) -> Result<bool, Failure> {
    let trees = holdings(context)?.into_iter().filter(|holding| holding.carried == Carried::Messages);
    for Holding { tree, .. } in trees {
        let listed = list(&tree, Digests::No, Side::Replica).map_err(Failure::environment)?;
        if listed.listing.summary().files > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Carries all that this node holds newer to the source at the other end, or sets it aside.
///
/// Err: some of it may have been carried; done again, nothing is there twice.
pub(super) fn carry(
    context: &Context,
    source: UnixStream,
    time: &StandingBy,
    seen: &mut SeenTrees,
) -> Result<Given, CarryError> {
    let mut link = Link::new(source);
    greet(context, &mut link)?;
    let mut aside = Aside::new(&context.root, &time.name());
    let known = Done::load(context).map_err(other)?;
    let only_we_fetch = context.settings.replication.flow == Flow::FromMaster;
    let mut given = Given::default();
    for holding in holdings(context).map_err(other)? {
        let Some((tree, mine)) = newer(context, &holding, known.known(), seen)? else { continue };
        if mine != Spool::default() {
            let base = only_we_fetch.then(|| base(context, &holding.tree)).transpose()?;
            given += give(&mut link, &tree, &mine, base.as_ref(), &mut aside)?;
        }
    }
    Ok(given)
}

/// What both nodes had when this one last fetched the tree.
fn base(context: &Context, tree: &Tree) -> Result<Base, StateError> {
    Ok(Kept::load(&Kept::directory_of(&context.root, tree))?.base().clone())
}

fn greet(context: &Context, link: &mut Link<UnixStream>) -> Result<(), CarryError> {
    let own = far_node::hello(context);
    match link.ask("the greeting", &Frame::Hello(own.clone()))? {
        Frame::Hello(peer) if peer.version == own.version && peer.distribution == own.distribution => Ok(()),
        _ => Err(SyncError::Unexpected { asked: "the greeting" }.into()),
    }
}

fn other(failure: Failure) -> CarryError {
    SyncError::Cut(io::Error::other(failure)).into()
}

/// What of a tree may be newer here: of files those that are not as they were when this node last fetched; of messages all,
/// because they are compared by what they are. `None`: nothing.
fn newer(
    context: &Context,
    holding: &Holding,
    known: &[KnownTree],
    seen: &mut SeenTrees,
) -> Result<Option<(Tree, Spool)>, CarryError> {
    let Holding { tree, carried } = holding;
    let is_message = *carried == Carried::Messages;
    if !is_message && looks_as_it_did(tree, known)? {
        return Ok(None);
    }
    let still = match still_one(tree, &context.root.path(STATE_DIRECTORY).join(SNAPSHOTS)) {
        Ok(still) => still,
        // no database: nothing of it is newer
        Err(error) if gone(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut mine = scan(&still, holding.holds(), seen.entry(tree.name().to_owned()).or_default())?;
    if !is_message {
        let fetched = base(context, tree)?.files.0;
        mine.files.0.retain(|path, state| fetched.get(path) != Some(state));
    }
    Ok(Some((still, mine)))
}

fn gone(error: &TreeError) -> bool {
    absent(&error.source) || error.source.kind() == io::ErrorKind::NotFound
}

/// Whether the tree looks as it did after the command that followed the last fetch, which changes it.
fn looks_as_it_did(tree: &Tree, known: &[KnownTree]) -> Result<bool, SyncError> {
    match known.iter().find(|known| known.name == tree.name()) {
        Some(known) => Ok(fingerprint(tree)? == known.replica),
        None => Ok(false),
    }
}

/// After a replication that brought all: writes down what both nodes have now, before anything is changed here. `known`: the
/// trees that the replication left alone while they and their `sources` looked so.
pub(super) fn remember(
    context: &Context,
    time: &StandingBy,
    known: &[KnownTree],
    sources: &BTreeMap<String, String>,
    seen: &mut SeenTrees,
) -> Result<(), Failure> {
    for holding in holdings(context)? {
        let Holding { tree, .. } = &holding;
        let Some(source) = sources.get(tree.name()) else { continue };
        let left_alone = known.iter().any(|known| known.name == tree.name() && known.source == *source);
        if left_alone && looks_as_it_did(tree, known).map_err(Failure::environment)? {
            continue;
        }
        let spool = scan(tree, holding.holds(), seen.entry(tree.name().to_owned()).or_default());
        let spool = spool.map_err(Failure::environment)?;
        // whoever serves by now has written what the other node does not have
        if StandingBy::now(context)? != *time || node_state::now(context)?.active {
            return Ok(());
        }
        let mut kept = Kept::load(&Kept::directory_of(&context.root, tree)).map_err(Failure::environment)?;
        kept.record(&spool).map_err(Failure::environment)?;
    }
    Ok(())
}

/// What is set aside here, how many files of it in which directories.
pub(crate) fn set_aside(context: &Context) -> Result<Vec<(PathBuf, usize)>, Failure> {
    Aside::all(&context.root).map_err(|error| Failure::environment(format!("what was set aside: {error}")))
}

/// What came of an attempt before which so much was set aside.
pub(super) fn more_aside(context: &Context, before: &[(PathBuf, usize)]) -> SetAside {
    let Ok(now) = set_aside(context) else { return SetAside::AsBefore };
    let count = |all: &[(PathBuf, usize)], directory: &Path| {
        all.iter().find(|(other, _)| other == directory).map_or(0, |(_, count)| *count)
    };
    match now.iter().find(|(directory, count_now)| *count_now > count(before, directory)) {
        Some((directory, count_now)) => SetAside::More(format!(
            "{count_now} files that this node held newer than the serving one were not carried there and are set aside in {}; \
             `manifest` there says why: put what is wanted in its place by hand, then delete the directory",
            directory.display()
        )),
        None if now.is_empty() => SetAside::Nothing,
        None => SetAside::AsBefore,
    }
}

/// Ends what a process that was killed left in the middle of taking something in: a message that is half in its place, a
/// lock that keeps Asterisk from storing messages. Nothing, while somebody is at work.
pub(crate) fn end_leftovers(context: &Context) -> Result<(), Failure> {
    if !context.settings.replication.flow.is_pull() {
        return Ok(());
    }
    let way = way(context)?;
    for holding in holdings(context)?.iter().filter(|holding| holding.carried != Carried::Nothing) {
        let directory = Kept::directory_of(&context.root, &holding.tree);
        if !Receiver::left_something(&holding.tree, &directory).map_err(Failure::environment)? {
            continue;
        }
        let Ok(_lock) = Lock::Replicate.try_lock(&context.root) else { return Ok(()) };
        tracing::warn!(
            "{}: what was being carried here when that was cut off is finished",
            holding.tree.name()
        );
        Receiver::open(&holding.tree, holding.holds(), &directory, way).map_err(Failure::environment)?;
    }
    Ok(())
}

/// How Asterisk locks a mailbox here.
pub(super) fn way(context: &Context) -> Result<LockWay, Failure> {
    let Some(conf) = copying(context)?.locking else { return Ok(LockWay::default()) };
    let path = context.root.path(&conf);
    let read = read_if_exists(&path);
    let text = read.map_err(|error| Failure::environment(format!("{}: {error}", path.display())))?;
    Ok(text.map_or_else(LockWay::default, |text| LockWay::of_conf(&String::from_utf8_lossy(&text))))
}
