//! Whether the other node could be given the address back: its engine is asked, since Heartbeat has no words for that.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::known::Known;
use crate::cluster::Said;
use crate::context::Context;
use crate::control::FromPeer;
use crate::far_node::Conversation;
use crate::line::LONGEST;
use crate::report::Failure;

/// Asks once. Blocks.
pub(super) type Ask = Box<dyn FnMut() -> Result<Said, Failure>>;
/// Makes one, for as long as somebody wants to know.
pub(super) type Asks = Box<dyn Fn() -> Ask + Send>;

/// Between two questions.
const PACE: Duration = Duration::from_secs(2);
/// Between two attempts to log in over there.
const AGAIN: Duration = Duration::from_secs(10);
/// How long a daemon may take to say what it knows.
const PATIENCE: Duration = Duration::from_secs(10);

/// Over the pair's SSH. The session is kept as long as it answers.
pub(super) fn over_ssh(context: &Context) -> Asks {
    let context = context.clone();
    Box::new(move || {
        let context = context.clone();
        let mut kept = None;
        let mut failed: Option<(Instant, Failure)> = None;
        Box::new(move || match &failed {
            Some((at, failure)) if at.elapsed() < AGAIN => Err(failure.clone()),
            _ => {
                let said = ask(&context, &mut kept);
                failed = said.as_ref().err().map(|failure| (Instant::now(), failure.clone()));
                said
            }
        })
    })
}

fn ask(context: &Context, kept: &mut Option<(Instant, Conversation)>) -> Result<Said, Failure> {
    let question = |line: &mut Conversation| Said::try_from(line.ask(&FromPeer::Standing)?);
    if let Some((since, mut line)) = kept.take()
        && since.elapsed() < LONGEST
        // one that fails may have been ended over there: an upgrade ends it, and other settings do
        && let Ok(said) = question(&mut line)
    {
        *kept = Some((since, line));
        return Ok(said);
    }
    // the settings may have been read anew since
    let mut line = Conversation::open(&context.reread()?, PATIENCE)?;
    let said = question(&mut line)?;
    *kept = Some((Instant::now(), line));
    Ok(said)
}

/// Asks as long as the answer matters.
pub(super) fn run(known: &Known, asks: &Asks, end: &Receiver<()>) {
    let mut ask: Option<Ask> = None;
    while end.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
        match known.coming_to_ask_about() {
            None => ask = None,
            Some(coming) => {
                let said = ask.get_or_insert_with(asks)();
                known.hear(coming, said.map_err(|failure| failure.message));
            }
        }
    }
}
