//! Changes at the source, told to the node that fetches from it: so a change is there a moment later, and not a minute.
//!
//! A lookout at the other node, a process of its own there, watches what is fetched and writes a line for each change: an
//! empty one, or why it sees nothing. Nothing is asked of it. What it says decides only when the next replication begins.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Shutdown};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{OnChange, copying, trees};
use crate::context::Context;
use crate::far::Word;
use crate::report::{Failure, Report, Verdict};
use crate::sync::Tree;
use crate::watch::Watch;
use crate::way;

/// A file seldom changes alone: how long is waited for the others.
const GATHERING: Duration = Duration::from_millis(200);
/// Between two looks at a database.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a lookout lasts: the next one reads the settings, and the PBX's own file, anew.
const SHIFT: Duration = Duration::from_secs(3600);
/// First pause after a lookout could not be had; doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The longest reason that is listened to.
const REASON: u64 = 2000;

/// At the source: a line for each change, until whoever listens is gone.
pub(crate) fn tell_of_changes(context: &Context) -> Verdict {
    let context = context.reread()?;
    let (databases, trees): (Vec<Tree>, Vec<Tree>) =
        trees(&context)?.into_iter().partition(|tree| tree.database_file().is_some());
    let watch = Watch::start(&trees).map_err(Failure::environment)?;
    let (gone, is_gone) = tokio::sync::oneshot::channel::<()>();
    let hang_up = move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        drop(gone);
    };
    thread::Builder::new().name("hang-up".to_owned()).spawn(hang_up).map_err(Failure::environment)?;
    crate::cli::block_on(async {
        tokio::select! {
            // nobody is there to be told of an error
            _ = tell(&watch, &databases) => {}
            _ = is_gone => {}
            () = tokio::time::sleep(SHIFT) => {}
        }
        Ok(Report::default())
    })
}

/// What was there at the beginning counts as changed.
async fn tell(watch: &Watch, databases: &[Tree]) -> io::Result<()> {
    let mut look = interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // before it is told: what comes later is told again
        let (seen, looked) = (watch.seen(), looks(databases));
        let mut out = io::stdout().lock();
        writeln!(out, "{}", watch.why_not().unwrap_or_default().replace('\n', " "))?;
        out.flush()?;
        drop(out);
        let written = async {
            while looks(databases) == looked {
                look.tick().await;
            }
        };
        tokio::select! {
            () = watch.changed(seen) => {}
            () = written => {}
        }
        sleep(GATHERING).await;
    }
}

/// Of a database and of its log: which file it is, its size, and when it was written last.
type Looks = Option<(u64, u64, SystemTime)>;

/// Whoever reads a database opens it as whoever writes it does, so that the kernel tells of both alike; and who keeps it open
/// writes without a word. Its times tell them apart.
fn looks(databases: &[Tree]) -> Vec<Looks> {
    let look = |path: &Path| {
        let there = fs::symlink_metadata(path).ok().filter(|there| there.len() > 0)?;
        Some((there.ino(), there.len(), there.modified().ok()?))
    };
    let paths = databases.iter().filter_map(|tree| tree.path(tree.database_file()?).ok());
    let with_log = |path: PathBuf| {
        let mut log = path.clone().into_os_string();
        log.push("-wal");
        [look(&path), look(Path::new(&log))]
    };
    paths.flat_map(with_log).collect()
}

/// At the node that fetches: what is heard of the source's changes, until it is dropped.
pub struct Afar {
    heard: Arc<Heard>,
}

struct Heard {
    /// How many changes were told.
    changes: tokio::sync::watch::Sender<u64>,
    state: Mutex<State>,
    ended: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Nothing is heard; why.
    why_not: Option<String>,
    /// What is heard from, to be hung up.
    line: Option<UnixStream>,
    /// Up to which change the last replication has brought everything.
    brought: Option<u64>,
}

impl Afar {
    /// Begins to listen, in a thread of its own.
    pub fn start(context: &Context, peer: IpAddr) -> Afar {
        let why_not = Some("the other node was not reached yet".to_owned());
        let heard = Arc::new(Heard {
            changes: tokio::sync::watch::Sender::new(0),
            state: Mutex::new(State { why_not, ..State::default() }),
            ended: AtomicBool::new(false),
        });
        let (context, hearing) = (context.clone(), Arc::clone(&heard));
        let begun =
            thread::Builder::new().name("afar".to_owned()).spawn(move || hearing.listen(&context, peer));
        if let Err(error) = begun {
            heard.state().why_not = Some(error.to_string());
        }
        Afar { heard }
    }

    /// How many changes were told. To be asked before a replication begins: it brings these.
    pub(super) fn told(&self) -> u64 {
        *self.heard.changes.borrow()
    }

    /// A replication that began then has brought everything.
    pub(super) fn brought(&self, told: u64) {
        self.heard.state().brought = Some(told);
    }

    /// Until a change was told.
    pub(crate) async fn changed(&self, since: u64) -> u64 {
        let mut changes = self.heard.changes.subscribe();
        // the sender lives in `self`
        changes.wait_for(|now| *now != since).await.map_or(since, |now| *now)
    }

    /// For `status`.
    pub(super) fn on_change(&self) -> OnChange {
        let told = self.told();
        let state = self.heard.state();
        let has_all = state.why_not.is_none() && state.brought == Some(told);
        OnChange { why_not: state.why_not.clone(), has_files: has_all, has_tables: has_all }
    }
}

impl Drop for Afar {
    fn drop(&mut self) {
        // in this order: whoever has just opened a line sees it, or its line is hung up
        self.heard.ended.store(true, Ordering::SeqCst);
        if let Some(line) = &self.heard.state().line {
            let _ = line.shutdown(Shutdown::Both);
        }
    }
}

impl Heard {
    fn listen(&self, context: &Context, peer: IpAddr) {
        let mut pause = FIRST_PAUSE;
        while !self.ended.load(Ordering::SeqCst) {
            let before = *self.changes.borrow();
            let why = match self.hear_out(context, peer) {
                Ok(()) => "the other node's lookout ended".to_owned(),
                Err(failure) => failure.message,
            };
            pause =
                if *self.changes.borrow() == before { (pause * 2).min(LONGEST_PAUSE) } else { FIRST_PAUSE };
            let mut state = self.state();
            state.line = None;
            state.why_not = Some(why);
            drop(state);
            self.sleep(pause);
        }
    }

    /// One lookout, from its first line to its last.
    fn hear_out(&self, context: &Context, peer: IpAddr) -> Result<(), Failure> {
        let context = context.reread()?;
        if let Some(why) = copying(&context)?.by_hand_only {
            return Err(Failure::guard(why));
        }
        let way = way::to_peer(&context, peer)?;
        let (line, _end) = way.open(Word::Lookout).map_err(Failure::environment)?.into_parts();
        self.state().line = Some(line.try_clone().map_err(Failure::environment)?);
        if self.ended.load(Ordering::SeqCst) {
            return Ok(());
        }
        let mut lines = BufReader::new(line);
        loop {
            let mut bytes = Vec::new();
            let read =
                (&mut lines).take(REASON).read_until(b'\n', &mut bytes).map_err(Failure::environment)?;
            if read == 0 {
                return Ok(());
            }
            let reason = String::from_utf8_lossy(&bytes).trim().to_owned();
            self.state().why_not = Some(reason).filter(|reason| !reason.is_empty());
            self.changes.send_modify(|changes| *changes += 1);
            // whatever is at the other end, it keeps nobody busy
            thread::sleep(GATHERING);
        }
    }

    fn sleep(&self, pause: Duration) {
        let slice = Duration::from_millis(200);
        let mut left = pause;
        while !left.is_zero() && !self.ended.load(Ordering::SeqCst) {
            thread::sleep(slice.min(left));
            left = left.saturating_sub(slice);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // every field is whole at any moment
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
