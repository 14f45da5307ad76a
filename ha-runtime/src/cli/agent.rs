//! The far end: what the master's program is answered over SSH.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ha_core::replication::wire::Transaction;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::signal::unix::{SignalKind, signal};

use crate::agent::{self, AgentHost, Guard, NodeState};
use crate::context::Context;
use crate::control::{self, Answer, FromPeer, Request};
use crate::db::{self, Fate};
use crate::driver::Notes;
use crate::durable::STATE_DIRECTORY;
use crate::far::{Word, requested_word};
use crate::leftover;
use crate::lock::{Held, Lock};
use crate::node_state;
use crate::oust::{Taken, Taker, oust};
use crate::relay;
use crate::replicate;
use crate::report::{Failure, Report, Verdict};
use crate::sync::Tree;
use crate::way;

/// How long anybody but an agent who holds the lock is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(600);
/// How long an agent that was left over may take to end.
const GRACE: Duration = Duration::from_secs(5);
/// An agent that has no replication open and is asked nothing for so long ends: whoever started it may be cut off, of which
/// sshd learns two hours later. Not shorter: a master that plans in full reads all of its files between two questions.
const LONGEST_SILENCE: Duration = Duration::from_secs(1800);
/// How long this node's database may take to answer.
const DATABASE_PATIENCE: Duration = Duration::from_secs(15);
/// How long the daemon may take: telephony starts in it.
const DAEMON_PATIENCE: Duration = Duration::from_secs(250);

/// Which of the words the near end asked for, when this program was started by the given one; anything else is refused.
pub(super) fn word(argument: Word) -> Result<Word, Failure> {
    let original = std::env::var("SSH_ORIGINAL_COMMAND").ok();
    requested_word(argument, original.as_deref()).map_err(Failure::usage)
}

/// The relay to this machine's PostgreSQL.
pub(super) fn relay() -> Verdict {
    match relay::run() {
        Ok(()) => Ok(Report::default()),
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(i32::from(error.exit_status()))
        }
    }
}

/// The agent.
pub(crate) fn run(context: &Context) -> Verdict {
    let (host, ended) = Host::new(context)?;
    let replicates = Arc::clone(&host.replicates);
    let input =
        Interruptible { input: io::stdin().lock(), ended, replicates, longest_silence: LONGEST_SILENCE };
    let outcome = agent::serve(input, io::stdout().lock(), &host);
    outcome.map(|()| Report::default()).map_err(Failure::environment)
}

struct Host {
    context: Context,
    trees: Vec<Tree>,
    cancelled: Arc<AtomicBool>,
    /// Whether a replication is open.
    replicates: Arc<AtomicBool>,
    started_with: Installed,
}

impl Host {
    fn new(context: &Context) -> Result<(Host, UnixStream), Failure> {
        // before the settings are read: these are not older than what they are compared with from now on
        let started_with = Installed::now(&context.settings_path)?;
        let context = context.reread()?;
        let trees = replicate::trees(&context)?;
        let (cancelled, replicates) = <(Arc<AtomicBool>, Arc<AtomicBool>)>::default();
        let ended = watch_for_end(Arc::clone(&cancelled))?;
        Ok((Host { context, trees, cancelled, replicates, started_with }, ended))
    }

    /// Asks this node's database, in a runtime and a thread of its own: the agent itself is not asynchronous.
    fn ask_database<T: Send>(
        &self,
        ask: impl AsyncFnOnce(&tokio_postgres::Client) -> Result<T, String> + Send,
    ) -> Result<T, String> {
        let asking = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let asked = way::ask_local_database(&self.context, DATABASE_PATIENCE, ask);
            runtime.map_err(|error| error.to_string())?.block_on(asked)
        };
        let ended = |_| Err("the thread that asks it ended".to_owned());
        std::thread::scope(|scope| scope.spawn(asking).join().unwrap_or_else(ended))
    }
}

/// Standard input, until the agent is asked to stop: one that waits for frames stops at once. It ends, too, when nothing has
/// come for too long while no replication is open.
struct Interruptible<R> {
    input: R,
    ended: UnixStream,
    replicates: Arc<AtomicBool>,
    longest_silence: Duration,
}

impl<R: Read + AsFd> Read for Interruptible<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut ready = [PollFd::new(&self.input, PollFlags::IN), PollFd::new(&self.ended, PollFlags::IN)];
        let silence = Timespec::try_from(self.longest_silence).map_err(io::Error::other)?;
        while poll(&mut ready, Some(&silence))? == 0 {
            if !self.replicates.load(Ordering::SeqCst) {
                return Ok(0);
            }
        }
        if ready[1].revents().is_empty() {
            self.input.read(bytes)
        } else {
            Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the agent is being stopped"))
        }
    }
}

/// SIGTERM, which a takeover sends, ends the agent between two steps. The stream ends then, too.
fn watch_for_end(cancelled: Arc<AtomicBool>) -> Result<UnixStream, Failure> {
    let signals = |error: io::Error| Failure::environment(format!("signals: {error}"));
    let (ended, end) = UnixStream::pair().map_err(signals)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(signals)?;
    let watching = move || {
        runtime.block_on(async {
            if let Ok(mut terminate) = signal(SignalKind::terminate()) {
                terminate.recv().await;
                cancelled.store(true, Ordering::SeqCst);
            }
        });
        drop(end);
    };
    let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(watching);
    thread.map(|_| ended).map_err(signals)
}

/// The files that an agent is made of. A master keeps its line, and the agent at the other end of it must not outlive an
/// upgrade.
struct Installed {
    program: (PathBuf, Option<Stamp>),
    settings: (PathBuf, Option<Stamp>),
}

/// Which file it is, and of when.
type Stamp = (u64, u64, i64, i64);

impl Installed {
    fn now(settings: &Path) -> Result<Installed, Failure> {
        // the path that the next agent is started by, which may be a link that an upgrade turns elsewhere
        let called = std::env::args_os().next().map(PathBuf::from).filter(|path| path.is_absolute());
        let program = called.map_or_else(std::env::current_exe, Ok);
        let program = program.map_err(|error| Failure::environment(format!("own program: {error}")))?;
        Ok(Installed::of(program, settings.to_owned()))
    }

    fn of(program: PathBuf, settings: PathBuf) -> Installed {
        let stamped = |path: PathBuf| {
            let stamp = stamp(&path);
            (path, stamp)
        };
        Installed { program: stamped(program), settings: stamped(settings) }
    }

    fn is_replaced(&self) -> Option<String> {
        let Installed { program, settings } = self;
        let (path, _) = [program, settings].into_iter().find(|(path, then)| stamp(path) != *then)?;
        Some(format!("{} is not the one any more that this agent was started with", path.display()))
    }
}

/// `None`: there is no such file.
fn stamp(path: &Path) -> Option<Stamp> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec()))
}

/// The lock of a replication that is open.
struct Replicates {
    replicates: Arc<AtomicBool>,
    _held: Held,
}

impl Guard for Replicates {}

impl Drop for Replicates {
    fn drop(&mut self) {
        self.replicates.store(false, Ordering::SeqCst);
    }
}

impl AgentHost for Host {
    fn distribution(&self) -> String {
        self.context.profile().name.to_owned()
    }

    fn program(&self) -> String {
        env!("CARGO_PKG_VERSION").to_owned()
    }

    fn datasets(&self) -> Vec<Tree> {
        self.trees.clone()
    }

    fn node_state(&self) -> Result<NodeState, String> {
        node_state::now(&self.context).map_err(|failure| failure.message)
    }

    fn replicate_lock(&self) -> Result<Box<dyn Guard>, String> {
        let taken = oust(Lock::Replicate, &self.context.root, Taker::Agent, GRACE, LOCK_PATIENCE);
        let Taken { held, ousted } = taken.map_err(|error| error.to_string())?;
        if ousted {
            self.note("a replication of a master that was cut off still ran, it is ended");
            // its transaction holds locks, and its server does not know yet that nobody is there
            let ended = async |client: &tokio_postgres::Client| {
                db::end_replications(client).await.map_err(|error| error.to_string())
            };
            if self.context.profile().database.is_some()
                && let Err(why) = self.ask_database(ended)
            {
                tracing::warn!("its transaction could not be ended: {why}");
            }
        }
        self.replicates.store(true, Ordering::SeqCst);
        Ok(Box::new(Replicates { replicates: Arc::clone(&self.replicates), _held: held }))
    }

    fn make_ids_durable(&self) -> Result<(), String> {
        self.ask_database(async |client| db::make_durable(client).await.map_err(|error| error.to_string()))
    }

    fn fate(&self, transaction: Transaction) -> Result<Fate, String> {
        self.ask_database(async move |client| {
            db::fate(client, transaction).await.map_err(|error| error.to_string())
        })
    }

    fn state_directory(&self) -> PathBuf {
        self.context.root.path(STATE_DIRECTORY)
    }

    fn note(&self, text: &str) {
        tracing::warn!("{text}");
        match Notes::open(&self.context) {
            Ok(notes) => notes.note("replication", &text),
            Err(failure) => tracing::warn!("{failure}"),
        }
    }

    fn trash_directory(&self) -> PathBuf {
        leftover::trash_directory(&self.context)
    }

    /// Only what the other node may ask: nothing else of the control socket is reached from there.
    fn control(&self, request: &[u8]) -> Result<Vec<u8>, String> {
        let request: FromPeer = serde_json::from_slice(request).map_err(|error| error.to_string())?;
        let verdict = control::ask(&self.context.root, &Request::FromPeer(request), DAEMON_PATIENCE)
            .unwrap_or_else(|| {
                Err(Failure::environment("no daemon runs on the node that was asked: start it there first"))
            });
        serde_json::to_vec(&Answer::from(verdict)).map_err(|error| error.to_string())
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    fn is_outdated(&self) -> Option<String> {
        self.started_with.is_replaced()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_agent_that_nobody_asks_anything_ends_unless_a_replication_is_open() {
        let ((asks, input), (ended, _end)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let replicates = Arc::new(AtomicBool::new(false));
        let longest_silence = Duration::from_millis(20);
        let mut input = Interruptible { input, ended, replicates: Arc::clone(&replicates), longest_silence };
        assert_eq!(input.read(&mut [0]).unwrap(), 0, "the end");

        replicates.store(true, Ordering::SeqCst);
        let reading = std::thread::spawn(move || input.read(&mut [0]).unwrap());
        std::thread::sleep(longest_silence * 5);
        std::io::Write::write_all(&mut &asks, b"x").unwrap();
        assert_eq!(reading.join().unwrap(), 1, "what came after a longer silence");
    }

    #[test]
    fn an_agent_notices_another_program_and_other_settings() {
        let directory = tempfile::tempdir().unwrap();
        let (program, settings) = (directory.path().join("program"), directory.path().join("settings"));
        fs::write(&program, "old").unwrap();
        let without_settings = Installed::of(program.clone(), settings.clone());
        assert_eq!(without_settings.is_replaced(), None);

        fs::write(&settings, "").unwrap();
        let why = without_settings.is_replaced().unwrap();
        assert!(why.contains("settings"), "{why}");

        let installed = Installed::of(program.clone(), settings);
        assert_eq!(installed.is_replaced(), None);
        fs::write(directory.path().join("new"), "new").unwrap();
        fs::rename(directory.path().join("new"), &program).unwrap();
        let why = installed.is_replaced().unwrap();
        assert!(why.contains("program"), "{why}");
        fs::remove_file(&program).unwrap();
        assert!(installed.is_replaced().is_some());
    }
}
