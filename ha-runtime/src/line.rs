//! The line to the other node: everything that a replication needs and that is costly to open.
//!
//! A session with the slave takes 0.3 s to start, each login to a database as long as a small replication. So the parts
//! are opened at the same time, and a daemon keeps its line ([`Kept`](crate::replicate::Kept)) from one replication to the next. Kept or new, each
//! replication first asks at the other end whether everything still answers, and the slave for its state as it is now.

use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ha_core::replication::admission::{Receiver, Unwilling};
use ha_core::replication::flow::Flow;
use ha_core::replication::tables::Exclusions;
use ha_core::replication::wire::State;

use crate::agent::Client;
use crate::context::Context;
use crate::db::{self, Counted, DbError, Gate, Remembered};
use crate::far::{Far, Word};
use crate::far_node;
use crate::report::Failure;
use crate::way::{self, Database};

/// A line that is older is opened anew at its next use: a key that was taken away should not be of use for ever.
pub(crate) const LONGEST: Duration = Duration::from_secs(3600);
/// Longest wait for a kept database to answer; after it, it is opened anew.
const ANSWER: Duration = Duration::from_secs(5);

/// The agent at the other end of a line, for whoever asks it from more than one place.
pub type Agent = Arc<Mutex<Client<UnixStream>>>;

/// What a replication wants of a line, beside the session and its agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing.
    Agent,
    /// Both databases.
    Databases,
}

/// Both databases, logged in, no transaction open.
pub struct Databases {
    /// This node's.
    pub source: Database,
    /// The slave's.
    pub replica: Database,
    /// What the replications over these two have left for the next.
    pub remembered: Remembered,
    counting: Option<Gate>,
}

impl Databases {
    /// What the slave's server has counted; `None`: that cannot be known.
    pub async fn count_replica(&mut self, exclusions: &Exclusions) -> Option<Counted> {
        let client = &self.replica.client;
        let counted = async {
            let mut gate = match self.counting.take() {
                Some(gate) => gate,
                None => Gate::open(client, exclusions).await?,
            };
            gate.report_own(client).await;
            let counted = gate.look(client).await?;
            self.counting = Some(gate);
            Ok::<_, DbError>(counted)
        };
        match tokio::time::timeout(ANSWER, counted).await {
            Ok(Ok(counted)) => Some(counted),
            // whose database it is, the error does not know
            Ok(Err(error)) => {
                tracing::info!("the slave's database does not tell what it counted: {error}");
                None
            }
            Err(_) => {
                tracing::info!("the slave's database did not tell what it counted within {ANSWER:?}");
                None
            }
        }
    }
}

/// An open line. Dropping it blocks nobody.
pub struct Line {
    peer: IpAddr,
    opened: Instant,
    agent: Agent,
    databases: Option<Result<Databases, Failure>>,
    /// Last, so that nothing is open over it when it is let go.
    session: Session,
}

/// A line whose parts all answered just now.
pub struct Ready {
    /// The line.
    pub line: Line,
    /// The slave's, as it is now.
    pub state: State,
    /// Whether it is the one that was kept.
    pub is_kept: bool,
}

/// Whether a node that states this of itself may be sent to.
pub fn willing(state: &State) -> Result<(), Unwilling> {
    let State { role, generation, active, .. } = *state;
    Receiver { flow: Flow::Push, role, generation, active, owes: false }.admits(generation)
}

impl Line {
    /// A line whose parts all answer, with the slave's state as it is now: `kept` if it leads there and still holds, else a
    /// new one.
    ///
    /// A database that cannot be opened is no error here but of [`Line::databases`]: files need none. Over a kept line, a slave
    /// that is not [willing] is not asked for its database.
    pub async fn ready(
        context: &Context,
        kept: Option<Line>,
        peer: IpAddr,
        wanted: Wanted,
    ) -> Result<Ready, Failure> {
        let is_usable = |line: &Line| line.peer == peer && line.opened.elapsed() < LONGEST;
        if let Some(mut line) = kept.filter(is_usable) {
            match line.still_holds(context, wanted).await {
                Ok(state) => return Ok(Ready { line, state, is_kept: true }),
                Err(failure) => tracing::debug!("the line to {peer} is opened anew: {failure}"),
            }
        }
        let line = Line::open(context, peer, wanted).await?;
        let state = ask_state(&line.agent).await?;
        Ok(Ready { line, state, is_kept: false })
    }

    async fn open(context: &Context, peer: IpAddr, wanted: Wanted) -> Result<Line, Failure> {
        let owned = context.clone();
        let session = async {
            let session = blocking(move || way::to_peer(&owned, peer)).await?;
            let session = Session(Some(Arc::from(session)));
            let (agent, replica) = tokio::join!(greet(context, session.far()), async {
                match wanted {
                    Wanted::Agent => None,
                    Wanted::Databases => Some(to_replica(context, peer, session.far()).await),
                }
            });
            Ok((session, agent?, replica))
        };
        let source = async {
            match wanted {
                Wanted::Agent => None,
                Wanted::Databases => Some(way::to_local_database(context).await),
            }
        };
        let (opened, source): (Result<_, Failure>, _) = tokio::join!(session, source);
        let (session, agent, replica) = opened?;
        let databases = source.zip(replica).map(|(source, replica)| both(source, replica));
        Ok(Line { peer, opened: Instant::now(), agent, databases, session })
    }

    /// The agent at its other end.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Both databases. Errors: why they could not be opened; also when they were not [wanted](Wanted).
    pub fn databases(&mut self) -> Result<&mut Databases, Failure> {
        match &mut self.databases {
            Some(Ok(databases)) => Ok(databases),
            Some(Err(failure)) => Err(failure.clone()),
            None => Err(Failure::environment("the databases were not opened")),
        }
    }

    /// Logs out of both databases; session and agent stay.
    pub fn let_databases_go(&mut self) {
        self.databases = None;
    }

    /// Closes it and waits until the other end knows.
    pub async fn close(self) {
        let Line { agent, databases, mut session, .. } = self;
        drop((agent, databases));
        let far = session.0.take();
        // a panic in there has nothing to say to whoever is done with the line
        let _ = tokio::task::spawn_blocking(move || drop(far)).await;
    }

    /// Asks everything that is wanted for a sign of life, and opens what is missing.
    async fn still_holds(&mut self, context: &Context, wanted: Wanted) -> Result<State, Failure> {
        let state = ask_state(&self.agent).await?;
        let wants = wanted == Wanted::Databases && willing(&state).is_ok();
        if wants && !self.databases_answer().await {
            // the old ones first: what they hold at the other end should be gone
            self.databases = None;
            let (source, replica) = tokio::join!(
                way::to_local_database(context),
                to_replica(context, self.peer, self.session.far())
            );
            self.databases = Some(both(source, replica));
        }
        Ok(state)
    }

    async fn databases_answer(&self) -> bool {
        let Some(Ok(Databases { source, replica, .. })) = &self.databases else { return false };
        let checks =
            async { tokio::try_join!(source.client.check_connection(), replica.client.check_connection()) };
        matches!(tokio::time::timeout(ANSWER, checks).await, Ok(Ok(_)))
    }
}

/// The way to the other node. Its goodbye goes over the network, so it is said by a thread.
struct Session(Option<Arc<dyn Far>>);

impl Session {
    fn far(&self) -> Arc<dyn Far> {
        Arc::clone(self.0.as_ref().expect("it is taken out only when the session is dropped"))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(far) = self.0.take() {
            // without a thread it is said here
            let _ = std::thread::Builder::new().name("goodbye".to_owned()).spawn(move || drop(far));
        }
    }
}

fn both(source: Result<Database, Failure>, replica: Result<Database, Failure>) -> Result<Databases, Failure> {
    Ok(Databases { source: source?, replica: replica?, remembered: Remembered::default(), counting: None })
}

/// Logs in to the slave's database, and ends what an earlier line of this master left there.
async fn to_replica(context: &Context, peer: IpAddr, far: Arc<dyn Far>) -> Result<Database, Failure> {
    let replica = way::to_far_database(context, peer, far).await?;
    if let Err(error) = db::end_idle(&replica.client, db::LEFT_OVER).await {
        tracing::debug!("the slave's database: {error}");
    }
    Ok(replica)
}

async fn greet(context: &Context, far: Arc<dyn Far>) -> Result<Agent, Failure> {
    let context = context.clone();
    blocking(move || {
        let stream = far.open(Word::Agent).map_err(Failure::environment)?;
        Ok(Arc::new(Mutex::new(far_node::greet(&context, stream)?)))
    })
    .await
}

async fn ask_state(agent: &Agent) -> Result<State, Failure> {
    let agent = Arc::clone(agent);
    blocking(move || {
        let mut agent = agent.lock().unwrap_or_else(PoisonError::into_inner);
        agent.state().map_err(|error| far_node::failure(&error))
    })
    .await
}

/// Work that blocks, in a thread that is lent for it.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(Failure::environment(error)))
}
