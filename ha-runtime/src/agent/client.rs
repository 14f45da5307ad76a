//! The near end of a conversation with an agent.

use std::io::{Read, Write};
use std::os::fd::AsFd;

use ha_core::replication::wire::{Frame, Hello, Outcome, State, Transaction};

use crate::sync::{
    FilesReport, Link, Progress, PushOptions, StagedFiles, SyncError, Tree, TreePlan, plan_only, stage,
    stage_nothing,
};

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
        Client::greet(Link::new(stream), own)
    }

    /// Greets the agent at the other end of a link that was called from there.
    pub(crate) fn greet(mut link: Link<S>, own: &Hello) -> Result<Client<S>, SyncError> {
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

    /// Brings everything that `trees` need to the far end, where it waits for [`Client::commit`]. `generation` is what
    /// [`Client::state`] answered when this replication was decided on.
    pub fn stage_files(
        &mut self,
        generation: u64,
        trees: &[Tree],
        options: &PushOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<StagedFiles, SyncError> {
        let accepted = self.state()?.datasets;
        stage(&mut self.link, &accepted, generation, trees, options, progress)
    }

    /// The same for a replication without files.
    pub fn stage_nothing(&mut self, generation: u64) -> Result<(), SyncError> {
        stage_nothing(&mut self.link, generation)
    }

    /// The gate before a COMMIT elsewhere: is the far end still a passive slave with this generation? From then on what is
    /// staged there happens if that transaction is committed, and only then.
    pub fn arm(&mut self, generation: u64, transaction: Transaction) -> Result<(), SyncError> {
        match self.link.ask("the last question before COMMIT", &Frame::Arm { generation, transaction })? {
            Frame::Armed { generation: same } if same == generation => Ok(()),
            _ => Err(SyncError::Unexpected { asked: "the last question before COMMIT" }),
        }
    }

    /// Has the far end switch to what is staged there.
    pub fn commit(&mut self, generation: u64) -> Result<Outcome, SyncError> {
        match self.link.ask("the commit", &Frame::Commit { generation })? {
            Frame::Committed(outcome) => Ok(outcome),
            _ => Err(SyncError::Unexpected { asked: "the commit" }),
        }
    }

    /// Has the far end drop what is staged there; contents may wait for the next time.
    pub fn abandon(&mut self) -> Result<(), SyncError> {
        self.link.resync()
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

    /// Makes the far end's trees equal to `trees`, by themselves: [`Client::stage_files`], then [`Client::commit`].
    pub fn push_files(
        &mut self,
        generation: u64,
        trees: &[Tree],
        options: &PushOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<FilesReport, SyncError> {
        let staged = self.stage_files(generation, trees, options, progress)?;
        let outcome = self.commit(generation);
        if outcome.as_ref().is_err_and(SyncError::leaves_the_link) {
            // the first error is the one to report, whatever becomes of the connection now
            let _ = self.abandon();
        }
        Ok(staged.report(outcome?))
    }

    /// Tells an agent's end what became of what it asked for, and waits for what it asks for next. `None`: it hung up.
    pub fn tell(&mut self, told: Vec<u8>) -> Result<Option<Vec<u8>>, SyncError> {
        self.link.send(&Frame::Fetched(told))?;
        self.link.flush()?;
        next_errand(&mut self.link)
    }

    /// Ends the conversation.
    pub fn close(mut self) -> Result<(), SyncError> {
        self.link.end()
    }
}

fn next_errand<S: Read + Write + AsFd>(link: &mut Link<S>) -> Result<Option<Vec<u8>>, SyncError> {
    match link.asked()? {
        Some(Frame::Fetch(errand)) => Ok(Some(errand)),
        Some(Frame::Bye) | None => Ok(None),
        Some(_) => Err(SyncError::Unexpected { asked: "nothing" }),
    }
}
