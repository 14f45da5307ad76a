//! Requests of a node's daemon to the other one's, through the agent.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use ha_core::replication::wire::{Hello, VERSION};

use crate::agent::Client;
use crate::context::Context;
use crate::control::{Answer, FromPeer};
use crate::far::{Far, FarStream, Word};
use crate::report::{Failure, Verdict};
use crate::sync::SyncError;
use crate::way;

/// How long the other node may take: telephony starts in it.
const PATIENCE: Duration = Duration::from_secs(260);

/// How this node greets an agent.
pub fn hello(context: &Context) -> Hello {
    Hello {
        version: VERSION,
        distribution: context.profile().name.to_owned(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Whose fault an error of a conversation is.
pub fn failure(error: &SyncError) -> Failure {
    if error.is_refusal() { Failure::guard(error) } else { Failure::environment(error) }
}

/// Asks the other node's daemon and waits for its answer.
pub async fn ask(context: Context, what: FromPeer) -> Verdict {
    tokio::task::spawn_blocking(move || ask_blocking(&context, &what))
        .await
        .unwrap_or_else(|error| Err(Failure::environment(error)))
}

fn ask_blocking(context: &Context, what: &FromPeer) -> Verdict {
    Conversation::open(context, PATIENCE)?.ask(what)
}

/// A line to the other node's daemon. Blocks.
pub(crate) struct Conversation {
    client: Client<UnixStream>,
    /// Ends with it.
    _far: Box<dyn Far>,
}

impl Conversation {
    /// `patience`: how long each answer may take.
    pub(crate) fn open(context: &Context, patience: Duration) -> Result<Conversation, Failure> {
        let peer =
            context.role()?.peer().ok_or_else(|| Failure::guard("guard \"role\": this node has no peer"))?;
        let far = way::to_peer(context, peer)?;
        let stream = far.open(Word::Agent).map_err(Failure::environment)?;
        Ok(Conversation { client: greet_within(context, stream, patience)?, _far: far })
    }

    pub(crate) fn ask(&mut self, what: &FromPeer) -> Verdict {
        let request = serde_json::to_vec(what).map_err(Failure::environment)?;
        let answer = self.client.control(&request).map_err(|error| failure(&error))?;
        let answer: Answer = serde_json::from_slice(&answer).map_err(|error| {
            Failure::environment(format!("the other node's answer cannot be read: {error}"))
        })?;
        answer.into()
    }
}

/// Begins a conversation. When that fails, what the far end said on stderr is the better explanation.
pub fn greet(context: &Context, stream: FarStream) -> Result<Client<UnixStream>, Failure> {
    greet_within(context, stream, PATIENCE)
}

fn greet_within(
    context: &Context,
    stream: FarStream,
    patience: Duration,
) -> Result<Client<UnixStream>, Failure> {
    let (socket, end) = stream.into_parts();
    socket.set_read_timeout(Some(patience)).map_err(Failure::environment)?;
    Client::open(socket, &hello(context)).map_err(|error| {
        let said = end.wait(Duration::from_secs(2)).ok().filter(|ending| !ending.is_success());
        match said {
            Some(ending) => {
                Failure::environment(format!("the agent on the other node did not start: {ending}"))
            }
            None => failure(&error),
        }
    })
}
