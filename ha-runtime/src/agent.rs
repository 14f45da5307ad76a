//! The far end of a replication, on stdio, and the near end's way to talk to it.
//!
//! The far end trusts nobody more than it must: it knows its own datasets and goes nowhere else, it states its
//! generation when asked and refuses to change anything once that has grown, and it asks its own node before each
//! commit whether it still is a passive slave.

use std::io::{BufReader, Read, Write};
use std::path::PathBuf;

pub use ha_core::replication::admission::Receiver as NodeState;
use ha_core::replication::wire::{ErrorKind, Frame, Transaction, WireError};
use thiserror::Error;

use crate::db::Fate;
use crate::sync::{TrashLimit, Tree, read_frame};

mod client;
mod listings;
mod refusal;
mod replies;
mod session;

pub use client::Client;
use session::Session;

/// What the node that the agent runs on knows and lends.
pub trait AgentHost {
    /// `wazo`, `xivo`, `sark`; both ends must agree.
    fn distribution(&self) -> String;

    /// The program's version, for messages.
    fn program(&self) -> String;

    /// The trees that a replication may change; nothing else is touched.
    fn datasets(&self) -> Vec<Tree>;

    /// Role, generation and activity as they are now: read anew each time. `Err`: why they cannot be known; then
    /// nothing is changed.
    fn node_state(&self) -> Result<NodeState, String>;

    /// The *replicate* lock; it is held from the opening of a replication to its end. An agent that holds it is a
    /// left-over of a master that was cut off, and is ended.
    fn replicate_lock(&self) -> Result<Box<dyn Guard>, String>;

    /// Makes sure that the ids of this node's transactions that run now are given to no others, whatever crashes. `Err`: the
    /// database cannot be asked.
    fn make_ids_durable(&self) -> Result<(), String>;

    /// What became of a transaction of this node's database; one that still runs is ended first. `Err`: it cannot be
    /// asked.
    fn fate(&self, transaction: Transaction) -> Result<Fate, String>;

    /// Where it is written down what is to be switched to: a directory outside all datasets, for its owner only.
    fn state_directory(&self) -> PathBuf;

    /// Where deleted files go: the same holds.
    fn trash_directory(&self) -> PathBuf;

    /// How much is kept there.
    fn trash_limit(&self) -> TrashLimit {
        TrashLimit::default()
    }

    /// Passes a request to the local daemon and returns its answer, both JSON.
    fn control(&self, request: &[u8]) -> Result<Vec<u8>, String>;

    /// Tells the node's own people what became of a replication that was cut.
    fn note(&self, text: &str);

    /// Whether the agent was asked to stop. Looked at before each step.
    fn cancelled(&self) -> bool {
        false
    }

    /// Why this agent should make way for a new one: what it was started with, program or settings, is not what is
    /// installed now. Looked at before anything is opened, never in the middle.
    fn is_outdated(&self) -> Option<String> {
        None
    }
}

/// A lock that is held as long as this lives.
pub trait Guard {}

/// The conversation ended otherwise than by the near end's goodbye. What was not committed waits for the next.
#[derive(Debug, Error)]
pub enum AgentError {
    /// Its bytes are no frames.
    #[error("the other node does not speak this program's language: {0}")]
    Wire(#[from] WireError),
    /// It speaks another version, or is another distribution.
    #[error("{0}")]
    Mismatch(String),
    /// The stream broke.
    #[error("the connection to the other node was cut: {0}")]
    Cut(#[source] std::io::Error),
}

/// Answers one near end until it says goodbye or hangs up, or the agent is asked to stop. Whatever was not promised then
/// is dropped, but for contents that came whole; what was promised is settled.
pub fn serve(input: impl Read, output: impl Write, host: &dyn AgentHost) -> Result<(), AgentError> {
    let mut session = Session::new(host, output);
    let ended = converse(&mut session, input);
    session.put_down();
    ended
}

fn converse<W: Write>(session: &mut Session<'_, W>, input: impl Read) -> Result<(), AgentError> {
    let mut input = BufReader::with_capacity(64 << 10, input);
    loop {
        let frame = match read_frame(&mut input, &mut 0) {
            Ok(Some(Frame::Bye)) | Ok(None) => return Ok(()),
            Ok(Some(frame)) => frame,
            Err(error) => return Err(session.farewell(error)),
        };
        if let Err(refusal) = session.handle(frame) {
            let fatal = (refusal.kind == ErrorKind::Mismatch).then(|| refusal.message.clone());
            let stopping = refusal.kind == ErrorKind::Cancelled;
            session.refuse(refusal)?;
            // whoever waits for an answer to anything else would wait for ever
            if stopping {
                return Ok(());
            }
            if let Some(why) = fatal {
                return Err(AgentError::Mismatch(why));
            }
        }
    }
}
