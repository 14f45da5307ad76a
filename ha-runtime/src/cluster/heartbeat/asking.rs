//! Whether the other node could be given the address back: its engine is asked, since Heartbeat has no words for that.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::known::Known;
use crate::cluster::Said;
use crate::context::Context;
use crate::control::FromPeer;
use crate::far_node::Conversation;
use crate::report::Failure;

/// Asks once. Blocks.
pub(super) type Ask = Box<dyn FnMut() -> Result<Said, Failure> + Send>;

/// Between two questions.
const PACE: Duration = Duration::from_secs(2);
/// Between two attempts to log in over there.
const AGAIN: Duration = Duration::from_secs(10);
/// How long a daemon may take to say what it knows.
const PATIENCE: Duration = Duration::from_secs(10);
/// What was said longer ago is not so any more.
pub(super) const FRESH: Duration = Duration::from_secs(30);

/// Over the pair's SSH. The session is kept as long as it answers.
pub(super) fn over_ssh(context: &Context) -> Ask {
    let context = context.clone();
    let mut kept: Option<Conversation> = None;
    let mut failed: Option<(Instant, Failure)> = None;
    Box::new(move || {
        if let Some((at, failure)) = &failed
            && at.elapsed() < AGAIN
        {
            return Err(failure.clone());
        }
        let line = kept.take().map_or_else(|| Conversation::open(&context, PATIENCE), Ok);
        let said = line.and_then(|mut line| {
            let said = Said::try_from(line.ask(&FromPeer::Standing)?)?;
            kept = Some(line);
            Ok(said)
        });
        failed = said.as_ref().err().map(|failure| (Instant::now(), failure.clone()));
        said
    })
}

/// As long as somebody could want to know; only the node that has the address does.
pub(super) fn run(known: &Known, mut ask: Ask, end: &Receiver<()>) {
    while end.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
        if known.claimed() {
            known.hear(ask().map_err(|failure| failure.message));
        }
    }
}
