//! What the agent answers, frame by frame.

use std::io::Write;
use std::path::Path;

use ha_core::replication::path::RelPath;
use ha_core::replication::wire::{
    Action, CHUNK, ErrorKind, Frame, Hello, MAX_MESSAGE, Outcome, State, Transaction, VERSION,
};

use super::listings::Listings;
use super::refusal::{Leaves, Refusal, accepted, refuse, refuse_plainly, willing};
use super::replies::Replies;
use super::{AgentError, AgentHost, Guard, NodeState};
use crate::sync::{
    Decision, Digests, Draft, Ground, Incoming, Intent, IntentDirectory, Occasion, ReceiveError, Replica,
    Sealed, Settled, Stage, Stopped, SyncError, Tree, TreeCursor, TreeError, Unsettled, write_frame,
};

/// Steps that one replication may have; beyond it, it is refused.
const MAX_STEPS: u64 = 4_000_000;

/// Said by an agent that is ended. What it had promised is settled by whoever ends it.
const STOPPED: &str = "the agent is being stopped";

pub(super) struct Session<'a, W> {
    host: &'a dyn AgentHost,
    trees: Vec<Tree>,
    output: W,
    greeted: bool,
    /// Kept until a replication is prepared.
    listings: Listings,
    open: Option<Open>,
}

/// A replication between its opening and its end. Fields are dropped in this order: the lock goes last.
struct Open {
    generation: u64,
    /// Of the last replication that is complete here.
    number: u64,
    draft: Draft,
    incoming: Option<(usize, Incoming)>,
    /// The trees as they are, by their number.
    present: Vec<Option<TreeCursor>>,
    phase: Phase,
    _lock: Box<dyn Guard>,
}

/// What becomes of contents that came whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contents {
    /// The next replication need not send them again.
    Kept,
    Dropped,
}

/// How far an open replication is.
#[derive(Debug, Clone)]
enum Phase {
    /// Contents and steps arrive.
    Receiving,
    /// All of it is on disk.
    Prepared(Sealed),
    /// It is promised to happen if a transaction is committed.
    Promised(Sealed, Intent),
}

impl Phase {
    /// In which state the replica is left, whatever happens now: a clause.
    fn leaves(&self) -> &'static str {
        match self {
            Phase::Receiving | Phase::Prepared(_) => "nothing was changed",
            Phase::Promised(..) => {
                "the slave has all of this replication or nothing of it, and the next one finds out"
            }
        }
    }
}

impl<'a, W: Write> Session<'a, W> {
    pub(super) fn new(host: &'a dyn AgentHost, output: W) -> Session<'a, W> {
        Session {
            host,
            trees: host.datasets(),
            output,
            greeted: false,
            listings: Listings::default(),
            open: None,
        }
    }

    /// Says no, and drops what came before it.
    pub(super) fn refuse(&mut self, refusal: Refusal) -> Result<(), AgentError> {
        let message = self.explain(refusal.message, refusal.leaves);
        self.close(Contents::Dropped);
        self.reply(&Frame::Error { kind: refusal.kind, message })
    }

    /// A refusal's message with the state in which it leaves the replica.
    fn explain(&self, message: String, leaves: Leaves) -> String {
        match leaves {
            Leaves::AsPromised => {
                let state = self.open.as_ref().map_or(Phase::Receiving.leaves(), |open| open.phase.leaves());
                format!("{message}; {state}")
            }
            Leaves::Said => message,
        }
    }

    pub(super) fn handle(&mut self, frame: Frame) -> Result<(), Refusal> {
        if !self.greeted && !matches!(frame, Frame::Hello(_)) {
            return refuse(ErrorKind::Protocol, "the first frame must say who speaks");
        }
        if self.host.cancelled() {
            return refuse(ErrorKind::Cancelled, STOPPED);
        }
        let opens = matches!(frame, Frame::AskState | Frame::Begin { .. } | Frame::Control(_));
        // looked at for these only: it asks the file system, and there are frames by the hundred thousand
        if opens
            && self.open.is_none()
            && let Some(why) = self.host.is_outdated()
        {
            let message = format!("{why}: the agent ends, so that a new one starts");
            return refuse_plainly(ErrorKind::Cancelled, message);
        }
        match frame {
            Frame::Hello(hello) => self.hello(&hello)?,
            Frame::AskState => {
                let state = self.state()?;
                let datasets = self.trees.iter().map(|tree| tree.name().to_owned()).collect();
                let NodeState { role, generation, active, .. } = state;
                self.reply(&Frame::State(State { role, generation, active, datasets }))?;
            }
            Frame::Control(request) => match self.host.control(&request) {
                Ok(answer) => self.reply(&Frame::ControlReply(answer))?,
                Err(why) => return refuse_plainly(ErrorKind::Failed, why),
            },
            Frame::Sync { token } => {
                self.put_down();
                self.listings.clear();
                self.reply(&Frame::Sync { token })?;
            }
            Frame::AskTree { dataset, digests } => self.tree(dataset, digests)?,
            Frame::AskDirectories { dataset, paths } => self.directories(dataset, &paths)?,
            Frame::Begin { generation } => self.begin(generation)?,
            Frame::AskKept => self.kept()?,
            Frame::Prepare { generation } => {
                self.listings.clear();
                self.prepare(generation)?;
            }
            Frame::Arm { generation, transaction } => self.arm(generation, transaction)?,
            Frame::Commit { generation } => self.commit(generation)?,
            Frame::File { generation, dataset, path, size, meta } => {
                let Some(open) = receiving(&mut self.open, generation)? else { return Ok(()) };
                let (index, _) = accepted(&self.trees, dataset, &path, true)?;
                let incoming = open.draft.stage(index)?.receive(path, size, meta)?;
                open.incoming = Some((index, incoming));
            }
            Frame::AskSignature => self.signature()?,
            Frame::Data { generation, bytes } => {
                let Some(open) = receiving(&mut self.open, generation)? else { return Ok(()) };
                receive(&self.trees, open, |_, incoming| incoming.data(&bytes))?;
            }
            Frame::Copy { generation, offset, length } => {
                let Some(open) = receiving(&mut self.open, generation)? else { return Ok(()) };
                receive(&self.trees, open, |_, incoming| incoming.copy(offset, length))?;
            }
            Frame::Resume { generation, length } => {
                let Some(open) = receiving(&mut self.open, generation)? else { return Ok(()) };
                receive(&self.trees, open, |stage, incoming| stage.resume(incoming, length))?;
            }
            Frame::FileEnd { generation, digest } => {
                let Some(open) = receiving(&mut self.open, generation)? else { return Ok(()) };
                receive(&self.trees, open, |_, incoming| incoming.verify(digest))?;
                if let Some((index, incoming)) = open.incoming.take() {
                    open.draft.add(index, &incoming)?;
                }
            }
            Frame::Abandon { generation } => {
                let Some(open) = receiving(&mut self.open, generation)? else { return Ok(()) };
                if let Some((index, incoming)) = open.incoming.take() {
                    open.draft.stage(index)?.forget(&incoming);
                }
            }
            Frame::Step { generation, dataset, action } => {
                let Some(open) = receiving(&mut self.open, generation)? else { return Ok(()) };
                let content =
                    matches!(action, Action::Place { .. } | Action::Link { .. } | Action::Symlink { .. });
                accepted(&self.trees, dataset, action.path(), content)?;
                if let Action::Link { to, .. } = &action {
                    accepted(&self.trees, dataset, to, true)?;
                }
                if open.draft.steps() >= MAX_STEPS {
                    return refuse(ErrorKind::NotAccepted, format!("more than {MAX_STEPS} steps"));
                }
                open.draft.step(dataset, action)?;
            }
            Frame::State(_)
            | Frame::Armed { .. }
            | Frame::ControlReply(_)
            | Frame::Tree(_)
            | Frame::Directory { .. }
            | Frame::Ready { .. }
            | Frame::Kept { .. }
            | Frame::Signature { .. }
            | Frame::Prepared { .. }
            | Frame::Committed(_)
            | Frame::Error { .. }
            | Frame::Fetch(_)
            | Frame::Fetched(_)
            | Frame::Offer { .. }
            | Frame::Plan { .. }
            | Frame::CarryOut { .. }
            | Frame::Piece { .. }
            | Frame::CarriedOut(_)
            | Frame::Bye => return refuse(ErrorKind::Protocol, "that is an answer, and nothing was asked"),
        }
        Ok(())
    }

    fn hello(&mut self, hello: &Hello) -> Result<(), Refusal> {
        let own =
            Hello { version: VERSION, distribution: self.host.distribution(), program: self.host.program() };
        if hello.version != VERSION || hello.distribution != own.distribution {
            return refuse(
                ErrorKind::Mismatch,
                format!(
                    "here is {} {} (protocol {VERSION}), there is {} {} (protocol {}): install the same package on \
                     both nodes",
                    own.distribution, own.program, hello.distribution, hello.program, hello.version
                ),
            );
        }
        self.greeted = true;
        Ok(self.reply(&Frame::Hello(own))?)
    }

    fn state(&self) -> Result<NodeState, Refusal> {
        self.host
            .node_state()
            .or_else(|why| refuse(ErrorKind::Failed, format!("this node's own state is not known: {why}")))
    }

    fn begin(&mut self, generation: u64) -> Result<(), Refusal> {
        // an earlier one on this connection is put down first: it holds the lock
        self.put_down();
        willing(self.state()?, generation)?;
        let lock = self.host.replicate_lock().or_else(|why| refuse(ErrorKind::Busy, why))?;
        // a takeover may have come while we waited for the lock
        willing(self.state()?, generation)?;
        self.settle_the_past()?;
        let state_directory = self.host.state_directory();
        let number = Replica::load(&state_directory).map_or(0, |replica| replica.number);
        let draft = Draft::open(&state_directory, &self.trees)?;
        let kept = draft.contents();
        let present = self.trees.iter().map(|_| None).collect();
        let phase = Phase::Receiving;
        self.open = Some(Open { generation, number, draft, incoming: None, present, phase, _lock: lock });
        Ok(self.reply(&Frame::Ready { number, kept })?)
    }

    /// What an earlier replication promised must be settled before anything is compared.
    fn settle_the_past(&self) -> Result<(), Refusal> {
        let why = match self.settle() {
            Ok(Settled::Left(why)) => return refuse(ErrorKind::Active, why),
            Ok(Settled::Nothing | Settled::CarriedOut(_) | Settled::Dropped(_)) => return Ok(()),
            // some things are refused for want of room that no room helps
            Err(Unsettled::Failed(error)) if !error.is_full() || self.has_room() => {
                // what it would have brought is brought by this replication, which compares everything
                self.host.note(&format!("the switch to the last replication is given up: {error}"));
                let ground = self.host.state_directory();
                return match self.ground(&ground, &|| false).drop_it(error.to_string()) {
                    Ok(_) => Ok(()),
                    Err(error) => refuse(ErrorKind::Failed, error.to_string()),
                };
            }
            Err(why) => why,
        };
        let kind = match &why {
            Unsettled::Unknown(_) | Unsettled::Unreadable(_) => ErrorKind::Failed,
            Unsettled::Failed(_) => ErrorKind::NoSpace,
            Unsettled::Cancelled => ErrorKind::Cancelled,
        };
        refuse_plainly(
            kind,
            format!("the slave has not switched to the last replication yet: {why}; it goes on from there"),
        )
    }

    /// Settles the promise that stands, if one does, and tells of it. The lock is held.
    fn settle(&self) -> Result<Settled, Unsettled> {
        let state_directory = self.host.state_directory();
        if matches!(IntentDirectory::of(&state_directory).intent(), Ok(None)) {
            return Ok(Settled::Nothing);
        }
        let now = self.host.node_state().map_err(Unsettled::Unknown)?;
        let cancelled = || self.host.cancelled();
        let ground = self.ground(&state_directory, &cancelled);
        let mut fate = |transaction| self.host.fate(transaction);
        let settled = ground.settle(Occasion::StandingBy, now, &mut fate)?;
        if let Some(text) = settled.text() {
            self.host.note(&text);
        }
        Ok(settled)
    }

    fn has_room(&self) -> bool {
        let state_directory = self.host.state_directory();
        self.ground(&state_directory, &|| false).has_room()
    }

    fn ground<'g>(&'g self, state_directory: &'g Path, cancelled: &'g dyn Fn() -> bool) -> Ground<'g> {
        Ground {
            trees: &self.trees,
            state_directory,
            trash_directory: self.host.trash_directory(),
            trash_limit: self.host.trash_limit(),
            cancelled,
        }
    }

    /// Ends what is open, if anything is: contents wait for the next replication, a promise is settled.
    pub(super) fn put_down(&mut self) {
        self.close(Contents::Kept);
    }

    fn close(&mut self, contents: Contents) {
        let Some(Open { draft, phase, _lock, .. }) = self.open.take() else { return };
        // whoever ends us settles what we leave
        if self.host.cancelled() {
            return;
        }
        let closed = match (phase, contents) {
            (Phase::Promised(..), _) => self.settle().map(drop).map_err(|why| why.to_string()),
            (Phase::Receiving | Phase::Prepared(_), Contents::Kept) => {
                draft.rest().map_err(|error| error.to_string())
            }
            (Phase::Receiving | Phase::Prepared(_), Contents::Dropped) => {
                draft.discard().map_err(|error| error.to_string())
            }
        };
        if let Err(why) = closed {
            self.host.note(&format!("a replication that was cut is left to the next: {why}"));
        }
    }

    /// What waits from an earlier replication.
    fn kept(&mut self) -> Result<(), Refusal> {
        let Some(open) = &mut self.open else {
            return refuse(ErrorKind::Protocol, "no replication is open");
        };
        let mut frames = Vec::new();
        let (mut contents, mut size) = (Vec::new(), 0);
        for content in open.draft.waiting()? {
            let xattrs = content.meta.xattrs.iter().map(|(name, value)| name.len() + value.len() + 8);
            size += 50 + content.path.as_bytes().len() + xattrs.sum::<usize>();
            contents.push(content);
            if size > CHUNK {
                size = 0;
                frames.push(Frame::Kept { contents: std::mem::take(&mut contents), last: false });
            }
        }
        frames.push(Frame::Kept { contents, last: true });
        Ok(frames.iter().try_for_each(|frame| self.reply(frame))?)
    }

    fn tree(&mut self, dataset: u16, digests: bool) -> Result<(), Refusal> {
        let (index, tree) = accepted(&self.trees, dataset, &RelPath::root(), false)?;
        let summary = self.listings.read(index, tree, if digests { Digests::Yes } else { Digests::No })?;
        Ok(self.reply(&Frame::Tree(summary))?)
    }

    fn directories(&mut self, dataset: u16, paths: &[RelPath]) -> Result<(), Refusal> {
        let (index, tree) = accepted(&self.trees, dataset, &RelPath::root(), false)?;
        let mut replies = Replies::new(&mut self.output);
        self.listings.tell(index, tree, paths, &mut replies)?;
        Ok(replies.flush()?)
    }

    fn signature(&mut self) -> Result<(), Refusal> {
        let Some(Open { incoming: Some((index, incoming)), present, .. }) = &mut self.open else {
            return refuse(ErrorKind::Protocol, "no file was begun");
        };
        let tree = &self.trees[*index];
        let present = &mut present[*index];
        if present.is_none() {
            *present = tree.open()?.map(TreeCursor::new);
        }
        let (size, digests) = match present {
            Some(present) => {
                incoming.signature(present).map_err(|error| tree.error("read", &incoming.path, error))?
            }
            None => (0, Vec::new()),
        };
        let mut replies = Replies::new(&mut self.output);
        let count = digests.chunks(CHUNK).len().max(1);
        let mut parts = digests.chunks(CHUNK);
        for index in 1..=count {
            let bytes = parts.next().unwrap_or_default().to_vec();
            replies.add(&Frame::Signature { size, bytes, last: index == count })?;
        }
        Ok(replies.flush()?)
    }

    fn prepare(&mut self, generation: u64) -> Result<(), Refusal> {
        let Some(open) = receiving(&mut self.open, generation)? else {
            return refuse(ErrorKind::Protocol, "no replication is open");
        };
        if open.incoming.is_some() {
            return refuse(ErrorKind::Protocol, "a file was begun, and neither ended nor abandoned");
        }
        open.phase = Phase::Prepared(open.draft.seal()?);
        let files = open.draft.contents();
        Ok(self.reply(&Frame::Prepared { files })?)
    }

    /// Makes what was prepared depend on a transaction that is about to be committed.
    fn arm(&mut self, generation: u64, transaction: Transaction) -> Result<(), Refusal> {
        let sealed = match opened(&mut self.open, generation)? {
            // an earlier attempt of the database was rolled back
            Some(Open { phase: Phase::Prepared(sealed) | Phase::Promised(sealed, _), .. }) => sealed.clone(),
            Some(Open { phase: Phase::Receiving, .. }) | None => {
                return refuse(ErrorKind::Protocol, "no replication is prepared");
            }
        };
        // what is promised depends on an id, which must not become another transaction's
        self.host.make_ids_durable().or_else(|why| refuse(ErrorKind::Failed, why))?;
        // under the lock, immediately before the COMMIT
        willing(self.state()?, generation)?;
        let intent = self.promise(&sealed, Decision::IfCommitted(transaction))?;
        if let Some(open) = &mut self.open {
            open.phase = Phase::Promised(sealed, intent);
        }
        Ok(self.reply(&Frame::Armed { generation })?)
    }

    fn promise(&self, sealed: &Sealed, decision: Decision) -> Result<Intent, Refusal> {
        let Some(open) = &self.open else {
            return refuse(ErrorKind::Protocol, "no replication is open");
        };
        let intent = sealed.intent(open.generation, open.number + 1, decision);
        let state_directory = self.host.state_directory();
        match IntentDirectory::of(&state_directory).promise(&intent) {
            Ok(()) => Ok(intent),
            Err(source) => {
                let path = state_directory.display().to_string();
                Err(TreeError { doing: "write to", path, source }.into())
            }
        }
    }

    fn commit(&mut self, generation: u64) -> Result<(), Refusal> {
        let now = self.state()?;
        let Some(open) = opened(&mut self.open, generation)? else {
            return refuse(ErrorKind::Protocol, "no replication is prepared");
        };
        let (number, nothing_to_do) = (open.number, open.number > 0 && open.draft.steps() == 0);
        let phase = open.phase.clone();
        // under the lock, immediately before the first rename
        willing(now, generation)?;
        let intent = match phase {
            Phase::Receiving => return refuse(ErrorKind::Protocol, "no replication is prepared"),
            Phase::Promised(_, intent) => intent,
            // the slave has everything already, so the same replication as before
            Phase::Prepared(_) if nothing_to_do => {
                self.put_down();
                return Ok(self.reply(&Frame::Committed(Outcome { number, ..Outcome::default() }))?);
            }
            Phase::Prepared(sealed) => self.promise(&sealed, Decision::Always)?,
        };
        let Some(open) = self.open.take() else {
            return refuse(ErrorKind::Protocol, "no replication is open");
        };
        let warnings = open.draft.warnings();
        // its files are opened anew, as after a crash
        drop(open.draft);
        let state_directory = self.host.state_directory();
        let cancelled = || self.host.cancelled();
        let done = self.ground(&state_directory, &cancelled).complete(&intent, Occasion::StandingBy);
        drop(open._lock);
        let mut outcome = done.or_else(|stopped| {
            let why = match stopped {
                Stopped::Failed(error) => error.to_string(),
                Stopped::Cancelled => "the agent is being stopped".to_owned(),
            };
            let message = format!(
                "{why}; until the slave's switch to this replication is finished every file is old or new, and the next \
                 run, or a takeover, goes on from there"
            );
            refuse_plainly(ErrorKind::Partial, message)
        })?;
        outcome.warnings.extend(warnings);
        Ok(self.reply(&Frame::Committed(outcome))?)
    }

    fn reply(&mut self, frame: &Frame) -> Result<(), AgentError> {
        match write_frame(&mut self.output, frame) {
            Ok(_) => Ok(()),
            Err(SyncError::Wire(error)) => Err(AgentError::Wire(error)),
            Err(SyncError::Cut(error)) => Err(AgentError::Cut(error)),
            Err(other) => Err(AgentError::Cut(std::io::Error::other(other))),
        }
    }

    /// Says why, if anybody still listens, and turns the failure into our own.
    pub(super) fn farewell(&mut self, error: SyncError) -> AgentError {
        let stopped = self.explain(STOPPED.to_owned(), Leaves::AsPromised);
        self.put_down();
        if self.host.cancelled() {
            let message = stopped;
            let _ = self.reply(&Frame::Error { kind: ErrorKind::Cancelled, message });
        }
        let mut message = error.to_string();
        message.truncate(MAX_MESSAGE);
        match error {
            SyncError::Wire(wire) => {
                let _ = self.reply(&Frame::Error { kind: ErrorKind::Protocol, message });
                AgentError::Wire(wire)
            }
            SyncError::Cut(cut) => AgentError::Cut(cut),
            other => AgentError::Cut(std::io::Error::other(other)),
        }
    }
}

/// The open replication, if the frame belongs to it. `None`: a refusal was said and what follows of it is passed over.
fn opened(open: &mut Option<Open>, generation: u64) -> Result<Option<&mut Open>, Refusal> {
    match open {
        Some(open) if open.generation != generation => refuse(
            ErrorKind::Stale,
            format!(
                "a frame says generation {generation}, the replication was opened with {}",
                open.generation
            ),
        ),
        Some(open) => Ok(Some(open)),
        None => Ok(None),
    }
}

/// The same, if nothing of it is prepared yet.
fn receiving(open: &mut Option<Open>, generation: u64) -> Result<Option<&mut Open>, Refusal> {
    match opened(open, generation)? {
        Some(Open { phase: Phase::Prepared(_) | Phase::Promised(..), .. }) => {
            refuse(ErrorKind::Protocol, "the replication is prepared, and nothing can be added to it")
        }
        other => Ok(other),
    }
}

/// Passes something to the file that is being received, and where that waits.
fn receive(
    trees: &[Tree],
    open: &mut Open,
    give: impl FnOnce(&Stage, &mut Incoming) -> Result<(), ReceiveError>,
) -> Result<(), Refusal> {
    let Some((index, incoming)) = &mut open.incoming else {
        return refuse(ErrorKind::Protocol, "content arrived, and no file was begun");
    };
    let tree = &trees[*index];
    let given = give(open.draft.stage(*index)?, incoming);
    given.or_else(|error| match error {
        ReceiveError::Io(error) => {
            Err(tree.error("write what was received for", &incoming.path, error).into())
        }
        ReceiveError::Corrupt(why) => {
            let shown = tree.display(&incoming.path);
            refuse(ErrorKind::Corrupt, format!("what arrived for {shown} is not what was sent: {why}"))
        }
    })?;
    Ok(open.draft.add_part(*index, incoming)?)
}
