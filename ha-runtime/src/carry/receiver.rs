//! The serving node's side.

use std::io::{self, Read};
use std::path::Path;

use ha_core::carry::{Carried, FileState, Why};
use ha_core::replication::path::RelPath;
use ha_core::voicemail::{Base, Identity, Known, Message, Place, Plan, Spool, Step, plan};
use rustix::fs::{AtFlags, fsync, linkat, renameat};
use serde::{Deserialize, Serialize};

use super::folder_lock::{FolderLock, LockWay, Patience, look};
use super::hands::{Hands, WRITTEN};
use super::kept::{Kept, Learned};
use super::placing::{PLACING, Placing};
use super::scan::{Holds, Seen, open_file, scan};
use super::{CarryError, point};
use crate::state::StateError;
use crate::sync::{Tree, TreeError, absent};

/// Takes what the returning node holds newer into a tree of this, the serving node.
///
/// There is one per tree at a time: whoever opens it has the node's *replicate* lock.
#[derive(Debug)]
pub struct Receiver {
    pub(super) hands: Hands,
    pub(super) locking: (LockWay, Patience),
    pub(super) seen: Seen,
    kept: Kept,
    holds: Holds,
    offered: Option<(Spool, Plan)>,
}

/// Where the contents of the returning node's files come from, asked for in the order of [`Step::contents`].
pub trait Contents {
    /// The content of that file; the one before has been read to its end, or will not be.
    fn open(&mut self, path: &RelPath) -> io::Result<Box<dyn Read + '_>>;
}

/// A tree on this machine.
impl Contents for Tree {
    fn open(&mut self, path: &RelPath) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(open_file(self, path).map_err(|error| error.source)?))
    }
}

/// What came of a step. After the last two the returning node sets aside what the step would have carried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    /// The message lies there.
    Placed(Place),
    /// The message is there already: it was carried before, or came another way.
    There(Place),
    /// The message is not where it was to be moved from: its owner has it by now.
    Gone,
    /// The file is written, or was there already.
    Written,
    /// It cannot be done; this node is as it was.
    Refused(Why),
    /// It is the returning node's to do.
    NotHere,
}

impl Receiver {
    /// Opens the tree, and first finishes what an earlier one was killed in: a message that was half in its place, and a
    /// folder's lock that would keep Asterisk from storing messages. So it is to be called also when a daemon starts.
    ///
    /// `directory`: where this tree's base is kept, on a disk that survives.
    pub fn open(tree: &Tree, holds: Holds, directory: &Path, way: LockWay) -> Result<Receiver, CarryError> {
        let hands = Hands::open(tree)?;
        let (kept, seen) = (Kept::load(directory)?, Seen::default());
        let locking = (way, Patience::USUAL);
        let mut receiver = Receiver { hands, locking, seen, kept, holds, offered: None };
        let settled = receiver.settle();
        let Hands { tree, root, stage } = &receiver.hands;
        // in any case: a folder that stays locked takes no messages
        let fail = |error| tree.error("end locks in", &RelPath::root(), error);
        FolderLock::end_leftovers(tree, root, stage).map_err(fail)?;
        settled.map(|()| receiver)
    }

    /// What both nodes had when they were last equal.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Compares what the returning node has with what is here.
    pub fn offer(&mut self, mine: Spool) -> Result<&Plan, CarryError> {
        self.offer_of(mine, None, Carried::Messages)
    }

    /// The same where no more than that is carried. `base`: what both had when the returning node last fetched, if this one
    /// never does; what was carried here since is known all the same.
    pub fn offer_of(
        &mut self,
        mine: Spool,
        base: Option<Base>,
        carried: Carried,
    ) -> Result<&Plan, CarryError> {
        let theirs = scan(&self.hands.tree, self.holds, &mut self.seen)?;
        let base = match base {
            None => self.kept.base().clone(),
            Some(mut base) => {
                self.kept.base().messages.iter().cloned().for_each(|known| base.learn(known));
                base
            }
        };
        // a disk that is new, or another machine: nobody has deleted all of that
        let base = if theirs == Spool::default() { Base::default() } else { base };
        let plan = plan(&base, &mine, &theirs).limited_to(carried, &mine);
        Ok(&self.offered.insert((mine, plan)).1)
    }

    /// Whether an earlier one was killed in the middle of something in this tree: then [`Receiver::open`] finishes it.
    pub fn left_something(tree: &Tree, directory: &Path) -> Result<bool, TreeError> {
        Ok(directory.join(PLACING).exists() || Hands::left_something(tree)?)
    }

    /// Does one step of the plan. In any order; done twice, it is as done once.
    ///
    /// Err: this node has all of it or nothing of it, and it can be tried again.
    pub fn step(&mut self, index: usize, contents: &mut dyn Contents) -> Result<Done, CarryError> {
        self.settle()?;
        let done = self.do_step(index, contents);
        if done.is_err()
            && let Err(error) = self.settle()
        {
            tracing::warn!("what came of it waits for the next start: {error}");
        }
        done
    }

    fn do_step(&mut self, index: usize, contents: &mut dyn Contents) -> Result<Done, CarryError> {
        let (mine, plan) = self.offered.as_ref().ok_or(CarryError::NoStep(index))?;
        let step = plan.steps.get(index).ok_or(CarryError::NoStep(index))?.clone();
        let parts = step.contents(mine);
        match step {
            Step::Put { from, .. } => {
                let message = mine.message_at(&from).ok_or(CarryError::NoStep(index))?;
                let identity = message.identity.clone();
                self.receive(&from, identity, parts, contents)
            }
            Step::Move { from, to, identity } => self.relocate(&from, to, identity, None),
            Step::Write { path, over } => match parts.as_slice() {
                [(_, state)] => self.write(&path, state, over, contents),
                _ => Err(CarryError::NoStep(index)),
            },
            Step::SetAside { .. } => Ok(Done::NotHere),
        }
    }

    /// Closes the gaps that moved messages left in numbers, as Asterisk does when it opens a mailbox. Says how many messages
    /// have another number now.
    ///
    /// Only while nobody has a mailbox open (telephony does not run here, or no call is in `VoiceMailMain`): Asterisk deletes
    /// and moves by number when a caller hangs up.
    pub fn close_gaps(&mut self) -> Result<usize, CarryError> {
        self.settle()?;
        let spool = scan(&self.hands.tree, self.holds, &mut self.seen)?;
        let mut closed = 0;
        for (message, to) in spool.gaps() {
            let number = Some(to.number);
            let done = self.relocate(&message.place, to, message.identity.clone(), number)?;
            closed += usize::from(matches!(done, Done::Placed(_)));
        }
        Ok(closed)
    }

    fn receive(
        &mut self,
        place: &Place,
        identity: Identity,
        parts: Vec<(RelPath, FileState)>,
        contents: &mut dyn Contents,
    ) -> Result<Done, CarryError> {
        let mut extensions = Vec::new();
        for (path, state) in parts {
            let Some((_, extension)) = Place::of(&path) else { continue };
            let mut content =
                contents.open(&path).map_err(|error| self.hands.error("receive", &path, error))?;
            self.hands.take_in(&Hands::part(&extension), &path, &state, &mut content)?;
            extensions.push(extension);
        }
        let known = Known { mailbox: place.mailbox.clone(), folder: place.folder.clone(), identity };
        self.place(&Placing { known, from: None, number: None, parts: extensions })
    }

    fn relocate(
        &mut self,
        from: &Place,
        to: Place,
        identity: Identity,
        number: Option<u16>,
    ) -> Result<Done, CarryError> {
        let now = scan(&self.hands.tree, self.holds, &mut self.seen)?;
        // it may have another number by now, but must be in that folder still
        let is_it = |message: &&Message| {
            let place = &message.place;
            (&place.mailbox, &place.folder) == (&from.mailbox, &from.folder) && message.identity == identity
        };
        let here = now.message_at(from).filter(is_it);
        let Some(message) = here.or_else(|| now.messages.iter().find(is_it)) else { return Ok(Done::Gone) };
        let path = message.place.folder_path().ok_or(CarryError::NoStep(0))?;
        let Some(dir) = self.hands.existing(&path)? else { return Ok(Done::Gone) };
        for extension in message.parts.keys() {
            let (name, part) = (message.place.file_name(extension), Hands::part(extension));
            let fail = |error: io::Error| self.hands.error("move a message in", &path, error);
            self.hands.drop_waiting(&part).map_err(fail)?;
            match linkat(&dir, name, &self.hands.stage, part, AtFlags::empty()).map_err(io::Error::from) {
                Err(error) if absent(&error) => return Ok(Done::Gone),
                result => result.map_err(fail)?,
            }
            point();
        }
        let known = Known { mailbox: to.mailbox, folder: to.folder, identity };
        let parts = message.parts.keys().cloned().collect();
        self.place(&Placing { known, from: Some(message.place.clone()), number, parts })
    }

    fn write(
        &mut self,
        path: &RelPath,
        state: &FileState,
        over: Option<FileState>,
        contents: &mut dyn Contents,
    ) -> Result<Done, CarryError> {
        if self.state_of(path)? == Some(*state) {
            self.learn(Learned::File(path.clone(), *state))?;
            return Ok(Done::Written);
        }
        let mut content = contents.open(path).map_err(|error| self.hands.error("receive", path, error))?;
        self.hands.take_in(WRITTEN, path, state, &mut content)?;
        let parent = path.parent().unwrap_or(RelPath::root());
        let dir = self.hands.directory(&parent)?;
        let name = path.name().unwrap_or_default();
        let fail = |error: io::Error| self.hands.error("write", path, error);
        let present = self.state_of(path)?;
        if present != over {
            self.hands.drop_waiting(WRITTEN).map_err(fail)?;
            return Ok(Done::Refused(Why::ChangedOnBoth));
        }
        let old =
            std::str::from_utf8(name).ok().map(|name| look(&dir, name)).transpose().map_err(fail)?.flatten();
        let above = crate::sync::stat_fd(&dir).map_err(|error| fail(error.into()))?;
        self.hands.dress(WRITTEN, old.as_ref().unwrap_or(&above)).map_err(fail)?;
        if over.is_some() {
            renameat(&self.hands.stage, WRITTEN, &dir, name).map_err(|error| fail(error.into()))?;
        } else if !self.hands.put(WRITTEN, &dir, name).map_err(fail)? {
            return Ok(Done::Refused(Why::ChangedOnBoth));
        }
        point();
        fsync(&dir).map_err(|error| fail(error.into()))?;
        self.hands.drop_waiting(WRITTEN).map_err(fail)?;
        self.learn(Learned::File(path.clone(), *state))?;
        Ok(Done::Written)
    }

    /// What lies there now.
    fn state_of(&self, path: &RelPath) -> Result<Option<FileState>, CarryError> {
        match open_file(&self.hands.tree, path) {
            Ok(file) => {
                super::scan::state(&file).map(Some).map_err(|error| self.hands.error("read", path, error))
            }
            Err(error) if absent(&error.source) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn learn(&mut self, learned: Learned) -> Result<(), StateError> {
        self.kept.learn(learned)
    }
}
