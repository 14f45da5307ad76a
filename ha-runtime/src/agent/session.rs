//! What the agent answers, frame by frame.

use std::io::Write;

use ha_core::replication::path::RelPath;
use ha_core::replication::wire::{
    Action, CHUNK, ErrorKind, Frame, Hello, MAX_MESSAGE, Outcome, State, VERSION,
};

use super::listings::Listings;
use super::refusal::{Refusal, accepted, refuse, willing};
use super::replies::Replies;
use super::{AgentError, AgentHost, Guard, NodeState};
use crate::sync::{
    Digests, Incoming, ReceiveError, Stage, Stopped, SyncError, Trash, Tree, TreeCursor, commit, write_frame,
};

/// Steps that one replication may have; beyond it, it is refused.
const MAX_STEPS: usize = 4_000_000;

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
    incoming: Option<(usize, Incoming)>,
    sets: Vec<Received>,
    steps: usize,
    prepared: bool,
    _lock: Box<dyn Guard>,
}

/// What came for one tree.
#[derive(Default)]
struct Received {
    stage: Option<Stage>,
    present: Option<TreeCursor>,
    actions: Vec<Action>,
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
        self.open = None;
        self.reply(&Frame::Error { kind: refusal.kind, message: refusal.message })
    }

    pub(super) fn handle(&mut self, frame: Frame) -> Result<(), Refusal> {
        if !self.greeted && !matches!(frame, Frame::Hello(_)) {
            return refuse(ErrorKind::Protocol, "the first frame must say who speaks");
        }
        if self.host.cancelled() {
            return refuse(ErrorKind::Cancelled, "the agent is being stopped; nothing was changed");
        }
        let opens = matches!(frame, Frame::AskState | Frame::Begin { .. } | Frame::Control(_));
        if let Some(why) = self.host.is_outdated().filter(|_| opens && self.open.is_none()) {
            let message = format!("{why}: the agent ends, so that a new one starts; nothing was changed");
            return refuse(ErrorKind::Cancelled, message);
        }
        match frame {
            Frame::Hello(hello) => self.hello(&hello)?,
            Frame::AskState => {
                let state = self.state()?;
                let datasets = self.trees.iter().map(|tree| tree.name().to_owned()).collect();
                let NodeState { role, generation, active } = state;
                self.reply(&Frame::State(State { role, generation, active, datasets }))?;
            }
            Frame::Confirm { generation } => {
                willing(self.state()?, generation)?;
                self.reply(&Frame::Confirmed { generation })?;
            }
            Frame::Control(request) => match self.host.control(&request) {
                Ok(answer) => self.reply(&Frame::ControlReply(answer))?,
                Err(why) => return refuse(ErrorKind::Failed, why),
            },
            Frame::Sync { token } => {
                self.open = None;
                self.listings.clear();
                self.reply(&Frame::Sync { token })?;
            }
            Frame::AskTree { dataset, digests } => self.tree(dataset, digests)?,
            Frame::AskDirectories { dataset, paths } => self.directories(dataset, &paths)?,
            Frame::Begin { generation } => self.begin(generation)?,
            Frame::Prepare { generation } => {
                self.listings.clear();
                self.prepare(generation)?;
            }
            Frame::Commit { generation } => self.commit(generation)?,
            Frame::File { generation, dataset, path, size, meta } => {
                let Some(open) = opened(&mut self.open, generation)? else { return Ok(()) };
                let (index, tree) = accepted(&self.trees, dataset, &path, true)?;
                let stage = match &mut open.sets[index].stage {
                    Some(stage) => stage,
                    empty => empty.insert(Stage::new(tree)?),
                };
                let incoming = stage.receive(path, size, meta)?;
                open.incoming = Some((index, incoming));
            }
            Frame::AskSignature => self.signature()?,
            Frame::Data { generation, bytes } => {
                let Some(open) = opened(&mut self.open, generation)? else { return Ok(()) };
                receive(&self.trees, open, |incoming| incoming.data(&bytes))?;
            }
            Frame::Copy { generation, offset, length } => {
                let Some(open) = opened(&mut self.open, generation)? else { return Ok(()) };
                receive(&self.trees, open, |incoming| incoming.copy(offset, length))?;
            }
            Frame::FileEnd { generation, digest } => {
                let Some(open) = opened(&mut self.open, generation)? else { return Ok(()) };
                receive(&self.trees, open, |incoming| incoming.verify(digest))?;
                if let Some((index, incoming)) = open.incoming.take()
                    && let Some(stage) = &mut open.sets[index].stage
                {
                    stage.keep(incoming)?;
                }
            }
            Frame::Abandon { generation } => {
                let Some(open) = opened(&mut self.open, generation)? else { return Ok(()) };
                if let Some((index, incoming)) = open.incoming.take()
                    && let Some(stage) = &mut open.sets[index].stage
                {
                    stage.forget(&incoming);
                }
            }
            Frame::Step { generation, dataset, action } => {
                let Some(open) = opened(&mut self.open, generation)? else { return Ok(()) };
                let content =
                    matches!(action, Action::Place { .. } | Action::Link { .. } | Action::Symlink { .. });
                let (index, _) = accepted(&self.trees, dataset, action.path(), content)?;
                if let Action::Link { to, .. } = &action {
                    accepted(&self.trees, dataset, to, true)?;
                }
                open.steps += 1;
                if open.steps > MAX_STEPS {
                    return refuse(
                        ErrorKind::NotAccepted,
                        format!("more than {MAX_STEPS} steps; nothing was changed"),
                    );
                }
                open.sets[index].actions.push(action);
            }
            Frame::State(_)
            | Frame::Confirmed { .. }
            | Frame::ControlReply(_)
            | Frame::Tree(_)
            | Frame::Directory { .. }
            | Frame::Ready
            | Frame::Signature { .. }
            | Frame::Prepared { .. }
            | Frame::Committed(_)
            | Frame::Error { .. }
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
        self.host.node_state().or_else(|why| {
            refuse(
                ErrorKind::Failed,
                format!("this node's own state is not known: {why}; nothing was changed"),
            )
        })
    }

    fn begin(&mut self, generation: u64) -> Result<(), Refusal> {
        // an earlier one on this connection is dropped first: it holds the lock
        self.open = None;
        willing(self.state()?, generation)?;
        let lock = self.host.replicate_lock().or_else(|why| refuse(ErrorKind::Busy, why))?;
        // a takeover may have come while we waited for the lock
        willing(self.state()?, generation)?;
        for tree in &self.trees {
            Stage::sweep(tree)?;
        }
        let sets = self.trees.iter().map(|_| Received::default()).collect();
        self.open = Some(Open { generation, incoming: None, sets, steps: 0, prepared: false, _lock: lock });
        Ok(self.reply(&Frame::Ready)?)
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
        let Some(Open { incoming: Some((index, incoming)), sets, .. }) = &mut self.open else {
            return refuse(ErrorKind::Protocol, "no file was begun");
        };
        let tree = &self.trees[*index];
        let set = &mut sets[*index];
        if set.present.is_none() {
            set.present = tree.open()?.map(TreeCursor::new);
        }
        let (size, digests) = match &mut set.present {
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
        let Some(open) = opened(&mut self.open, generation)? else {
            return refuse(ErrorKind::Protocol, "no replication is open");
        };
        let mut files = 0;
        for (set, tree) in open.sets.iter().zip(&self.trees) {
            let Some(stage) = &set.stage else { continue };
            stage.sync()?;
            files += stage.len() as u64;
            for action in &set.actions {
                if let Action::Place { path } = action
                    && stage.name_of(path).is_none()
                {
                    let shown = tree.display(path);
                    return refuse(
                        ErrorKind::Protocol,
                        format!("{shown} was never received; nothing was changed"),
                    );
                }
            }
        }
        open.prepared = true;
        Ok(self.reply(&Frame::Prepared { files })?)
    }

    fn commit(&mut self, generation: u64) -> Result<(), Refusal> {
        match opened(&mut self.open, generation)? {
            Some(open) if open.prepared => {}
            _ => return refuse(ErrorKind::Protocol, "no replication is prepared"),
        }
        // under the lock, immediately before the first rename
        willing(self.state()?, generation)?;
        let Some(mut open) = self.open.take() else {
            return refuse(ErrorKind::Protocol, "no replication is open");
        };
        let mut outcome = Outcome::default();
        let mut trash = Trash::new(self.host.trash_directory(), self.host.trash_limit());
        for (tree, set) in self.trees.iter().zip(std::mem::take(&mut open.sets)) {
            let cancelled = || self.host.cancelled();
            commit(tree, set.stage, set.actions, &mut trash, &cancelled, &mut outcome).or_else(
                |stopped| {
                    let why = match stopped {
                        Stopped::Failed(error) => error.to_string(),
                        Stopped::Cancelled => "the agent is being stopped".to_owned(),
                    };
                    let message =
                        format!("{why}; every file is old or new, and the next run continues from there");
                    refuse(ErrorKind::Partial, message)
                },
            )?;
        }
        if let Err(error) = trash.prune() {
            outcome.warnings.push(format!("the trash could not be tidied: {error}"));
        }
        // one frame must hold them
        outcome.warnings.truncate(100);
        drop(open);
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
        self.open = None;
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
                "a frame says generation {generation}, the replication was opened with {}; nothing was changed",
                open.generation
            ),
        ),
        Some(open) => Ok(Some(open)),
        None => Ok(None),
    }
}

/// Passes something to the file that is being received.
fn receive(
    trees: &[Tree],
    open: &mut Open,
    give: impl FnOnce(&mut Incoming) -> Result<(), ReceiveError>,
) -> Result<(), Refusal> {
    let Some((index, incoming)) = &mut open.incoming else {
        return refuse(ErrorKind::Protocol, "content arrived, and no file was begun; nothing was changed");
    };
    let tree = &trees[*index];
    give(incoming).or_else(|error| match error {
        ReceiveError::Io(error) => {
            Err(tree.error("write what was received for", &incoming.path, error).into())
        }
        ReceiveError::Corrupt(why) => {
            let shown = tree.display(&incoming.path);
            refuse(
                ErrorKind::Corrupt,
                format!("what arrived for {shown} is not what was sent: {why}; nothing was changed"),
            )
        }
    })
}
