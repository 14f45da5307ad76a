//! The near end of a conversation with an agent.

use std::io::{Read, Write};
use std::os::fd::AsFd;

use ha_core::replication::wire::{Frame, Hello, State};

use crate::sync::{FilesReport, Link, Progress, PushOptions, SyncError, Tree, TreePlan, plan_only, push};

/// A conversation with the far end's agent over any stream, blocking.
///
/// A timeout belongs to the stream: with `set_read_timeout` a silent far end ends as [`SyncError::Cut`].
#[derive(Debug)]
pub struct Client<S: Read + Write + AsFd> {
    link: Link<S>,
    peer: Hello,
}

impl<S: Read + Write + AsFd> Client<S> {
    /// Says who we are and hears who answers. Another version or distribution is refused at either end.
    pub fn open(stream: S, own: &Hello) -> Result<Client<S>, SyncError> {
        let mut link = Link::new(stream);
        match link.ask("the greeting", &Frame::Hello(own.clone()))? {
            Frame::Hello(peer) if peer.version == own.version && peer.distribution == own.distribution => {
                Ok(Client { link, peer })
            }
            _ => Err(SyncError::Unexpected { asked: "the greeting" }),
        }
    }

    /// Who answered.
    pub fn peer(&self) -> &Hello {
        &self.peer
    }

    /// What the far end is and does now. Its generation is what every later change must carry.
    pub fn state(&mut self) -> Result<State, SyncError> {
        match self.link.ask("a request for its state", &Frame::AskState)? {
            Frame::State(state) => Ok(state),
            _ => Err(SyncError::Unexpected { asked: "a request for its state" }),
        }
    }

    /// Asks whether the far end is still a passive slave with this generation: the gate before a COMMIT elsewhere.
    pub fn confirm(&mut self, generation: u64) -> Result<(), SyncError> {
        match self.link.ask("a request for confirmation", &Frame::Confirm { generation })? {
            Frame::Confirmed { generation: same } if same == generation => Ok(()),
            _ => Err(SyncError::Unexpected { asked: "a request for confirmation" }),
        }
    }

    /// Passes a request to the far end's daemon; both are JSON.
    pub fn control(&mut self, request: &[u8]) -> Result<Vec<u8>, SyncError> {
        match self.link.ask("a request to its daemon", &Frame::Control(request.to_vec()))? {
            Frame::ControlReply(answer) => Ok(answer),
            _ => Err(SyncError::Unexpected { asked: "a request to its daemon" }),
        }
    }

    /// What a replication of `trees` would do, for `--dry-run`. Nothing is changed or locked.
    pub fn plan_files(&mut self, trees: &[Tree], options: &PushOptions) -> Result<Vec<TreePlan>, SyncError> {
        let accepted = self.state()?.datasets;
        plan_only(&mut self.link, &accepted, trees, options)
    }

    /// Makes the far end's trees equal to `trees`. `generation` is what [`Client::state`] answered when this
    /// replication was decided on.
    pub fn push_files(
        &mut self,
        generation: u64,
        trees: &[Tree],
        options: &PushOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<FilesReport, SyncError> {
        let accepted = self.state()?.datasets;
        push(&mut self.link, &accepted, generation, trees, options, progress)
    }

    /// Ends the conversation.
    pub fn close(mut self) -> Result<(), SyncError> {
        self.link.end()
    }
}
