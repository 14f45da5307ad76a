//! The far end: what the master's program is answered over SSH.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::agent::{self, AgentHost, Guard, NodeState};
use crate::context::Context;
use crate::control::{self, Answer, FromMaster, Request};
use crate::durable::STATE_DIRECTORY;
use crate::far::{Word, requested_word};
use crate::lock::{Held, Lock};
use crate::node_state;
use crate::relay;
use crate::replicate;
use crate::report::{Failure, Report, Verdict};
use crate::sync::Tree;

/// How long a running replication is waited for by the next.
const LOCK_PATIENCE: Duration = Duration::from_secs(600);
/// How long the daemon may take: telephony starts in it.
const DAEMON_PATIENCE: Duration = Duration::from_secs(250);

/// Which of the two words the near end asked for; anything else is refused.
pub(super) fn word() -> Result<Word, Failure> {
    let original = std::env::var("SSH_ORIGINAL_COMMAND").ok();
    requested_word(Word::Agent, original.as_deref()).map_err(Failure::usage)
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
    let host = Host::new(context)?;
    let outcome = agent::serve(io::stdin().lock(), io::stdout().lock(), &host);
    outcome.map(|()| Report::default()).map_err(Failure::environment)
}

struct Host {
    context: Context,
    trees: Vec<Tree>,
    cancelled: Arc<AtomicBool>,
    started_with: Installed,
}

impl Host {
    fn new(context: &Context) -> Result<Host, Failure> {
        let started_with = Installed::now(&context.settings_path)?;
        let trees = replicate::trees(context)?;
        let cancelled = Arc::new(AtomicBool::new(false));
        watch_for_end(Arc::clone(&cancelled))?;
        Ok(Host { context: context.clone(), trees, cancelled, started_with })
    }
}

/// SIGTERM, which a takeover sends, ends the agent between two steps.
fn watch_for_end(cancelled: Arc<AtomicBool>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(|error| Failure::environment(format!("signals: {error}")))?;
    let watching = move || {
        runtime.block_on(async {
            if let Ok(mut terminate) = signal(SignalKind::terminate()) {
                terminate.recv().await;
                cancelled.store(true, Ordering::SeqCst);
            }
        });
    };
    let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(watching);
    thread.map(drop).map_err(|error| Failure::environment(format!("signals: {error}")))
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

impl Guard for Held {}

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
        let held = Lock::Replicate.lock_within(&self.context.root, LOCK_PATIENCE);
        held.map(|held| Box::new(held) as Box<dyn Guard>).map_err(|error| error.to_string())
    }

    fn trash_directory(&self) -> PathBuf {
        self.context.root.path(STATE_DIRECTORY).join("trash")
    }

    /// Only what a master may ask: nothing else of the control socket is reached from the other node.
    fn control(&self, request: &[u8]) -> Result<Vec<u8>, String> {
        let request: FromMaster = serde_json::from_slice(request).map_err(|error| error.to_string())?;
        let verdict = control::ask(&self.context.root, &Request::FromMaster(request), DAEMON_PATIENCE)
            .unwrap_or_else(|| {
                Err(Failure::environment("no daemon runs on the slave: start it there first"))
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
