//! What is to be switched to, on this slave's disk: steps, contents that wait, and what decides about them.
//!
//! In a directory of its own: `contents` lists what has been received, `steps` what the near end said is to be
//! done, both as frames; `staging.json` says in which directories the contents wait. `intent.json` alone makes it binding:
//! it is written, down to the disk, when all else is there, and says on what the switch depends. Whoever finds it carries
//! the steps out or drops them; see [`settle`](super::settle).

mod draft;
mod seal;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ha_core::replication::path::RelPath;
use ha_core::replication::wire::{Action, Content, Frame, Transaction};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::error::{SyncError, TreeError};
use super::link::read_frame;
use super::stage::{Stage, Waiting};
use super::tree::Tree;
use crate::durable::sync_directory;
use crate::state::{StateError, read_sealed, seal, write_sealed};
pub(crate) use draft::{Draft, Sealed};
use seal::Seal;

/// Its directory, in the state directory.
const DIRECTORY: &str = "intent";

/// A file without content that keeps room free until the switch begins, as a stage's does.
const BALLAST: &str = "ballast";
/// A switch that was promised: it happens if its decision says so, whatever is killed meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Intent {
    /// This node's when the promise was given.
    pub(crate) generation: u64,
    /// Of the replication that is complete once it is carried out.
    pub(crate) number: u64,
    /// On what it depends.
    pub(crate) decision: Decision,
    /// The trees by the number that steps call them, and where their contents wait.
    trees: Vec<Staging>,
    steps: Seal,
    contents: Seal,
}

/// What decides whether a promised switch happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Decision {
    /// It happens.
    Always,
    /// It happens if this transaction of this node's database was committed, and only then.
    IfCommitted(Transaction),
}

/// Where the contents of one tree wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Staging {
    tree: String,
    /// The temporary directory's name; `None`: no content waits.
    stage: Option<String>,
    /// Directories that were made for it.
    made: usize,
}

/// Which directories were in use when the engine was here last.
#[derive(Debug, Serialize, Deserialize)]
struct StagingNote {
    boot: String,
    trees: Vec<Staging>,
}

/// The directory of the one intent that a slave can have.
#[derive(Debug, Clone)]
pub(crate) struct IntentDirectory(PathBuf);

impl IntentDirectory {
    pub(crate) fn of(state_directory: &Path) -> IntentDirectory {
        IntentDirectory(state_directory.join(DIRECTORY))
    }

    /// The promise that stands, if one does.
    pub(crate) fn intent(&self) -> Result<Option<Intent>, StateError> {
        read_sealed(&self.file("intent.json"))
    }

    /// Gives the promise, down to the disk. What it is about must be there.
    pub(crate) fn promise(&self, intent: &Intent) -> io::Result<()> {
        write_sealed(&self.file("intent.json"), intent)
    }

    /// Takes the promise back, or remembers that it was kept.
    pub(crate) fn withdraw(&self) -> io::Result<()> {
        remove(&self.file("intent.json"))?;
        remove(&self.file("steps"))?;
        sync_directory(&self.file("intent.json"))
    }

    /// Whether contents wait that no step of the promise asks for: its files were not compared, and the next may need them.
    pub(crate) fn leaves_contents(intent: &Intent) -> bool {
        intent.steps.bytes == 0 && intent.contents.bytes > 0
    }

    /// Forgets the contents whose directories are gone.
    pub(crate) fn forget_contents(&self) -> Result<(), TreeError> {
        let files = ["intent.json", "steps", "contents", "staging.json", BALLAST];
        let failed = |error| self.error("remove", error);
        files.into_iter().try_for_each(|name| remove(&self.file(name))).map_err(failed)
    }

    /// The steps of a promise, in their order.
    pub(crate) fn steps(&self, intent: &Intent) -> Result<Steps, TreeError> {
        let failed = |error| self.error("read the steps in", error);
        let file = intent.steps.check(&self.file("steps")).map_err(failed)?;
        Ok(Steps { input: BufReader::new(file), directory: self.clone() })
    }

    /// The trees of a promise with what waits for each, in the order that its steps count them in.
    pub(crate) fn waiting(&self, intent: &Intent, trees: &[Tree]) -> Result<Vec<WaitingTree>, TreeError> {
        let failed = |error| self.error("read the list of contents in", error);
        let file = intent.contents.check(&self.file("contents")).map_err(failed)?;
        let mut all = Vec::new();
        for staging in &intent.trees {
            let tree = staging.tree(trees).ok_or_else(|| {
                failed(io::Error::other(format!("{} is no dataset of this node any more", staging.tree)))
            })?;
            all.push(WaitingTree {
                tree: tree.clone(),
                stage: staging.reopen(trees)?,
                contents: BTreeMap::new(),
            });
        }
        let listed = Contents { input: BufReader::new(file), end: 0 };
        for (content, waiting) in listed.filter(|(content, _)| content.part.is_none()) {
            if let Some(tree) = all.get_mut(usize::from(content.dataset)) {
                tree.contents.insert(content.path, waiting);
            }
        }
        Ok(all)
    }

    /// Keeps room for what is written at the end of the switch.
    fn reserve(&self, bytes: u64) -> io::Result<()> {
        let file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(self.file(BALLAST))?;
        match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            // a file system that cannot promise room
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            result => Ok(result?),
        }
    }

    /// Whether so many bytes are free there.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        self.reserve(bytes).and_then(|()| self.release()).is_ok()
    }

    /// Gives the room back.
    pub(crate) fn release(&self) -> io::Result<()> {
        remove(&self.file(BALLAST))
    }

    /// Not brought to disk: after the machine's next start it is not believed.
    fn note(&self, note: &StagingNote) -> io::Result<()> {
        let temporary = self.file("staging.new");
        fs::write(&temporary, seal(note)?)?;
        fs::rename(temporary, self.file("staging.json"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn error(&self, doing: &'static str, source: io::Error) -> TreeError {
        TreeError { doing, path: self.0.display().to_string(), source }
    }
}

/// One tree of a promise.
#[derive(Debug)]
pub(crate) struct WaitingTree {
    pub(crate) tree: Tree,
    /// `None`: nothing waits any more, or nothing ever did.
    pub(crate) stage: Option<Stage>,
    pub(crate) contents: BTreeMap<RelPath, Waiting>,
}

/// The steps of a promise.
#[derive(Debug)]
pub(crate) struct Steps {
    input: BufReader<File>,
    directory: IntentDirectory,
}

impl Iterator for Steps {
    type Item = Result<(u16, Action), TreeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let bad = |error: SyncError| self.directory.error("read the steps in", io::Error::other(error));
        match read_frame(&mut self.input, &mut 0) {
            Ok(Some(Frame::Step { dataset, action, .. })) => Some(Ok((dataset, action))),
            Ok(None) => None,
            Ok(Some(_)) => Some(Err(bad(SyncError::Unexpected { asked: "the next step" }))),
            Err(error) => Some(Err(bad(error))),
        }
    }
}

impl Staging {
    fn tree<'t>(&self, trees: &'t [Tree]) -> Option<&'t Tree> {
        trees.iter().find(|tree| tree.name() == self.tree)
    }

    fn reopen(&self, trees: &[Tree]) -> Result<Option<Stage>, TreeError> {
        match (self.tree(trees), &self.stage) {
            (Some(tree), Some(name)) => Stage::reopen(tree, name, self.made),
            _ => Ok(None),
        }
    }
}

/// The list of contents, to its end or to where a process that was killed stopped writing.
struct Contents<R> {
    input: R,
    /// Where the last whole one ended.
    end: u64,
}

impl<R: Read> Iterator for Contents<R> {
    type Item = (Content, Waiting);

    fn next(&mut self) -> Option<(Content, Waiting)> {
        let mut bytes = 0;
        let Ok(Some(Frame::Kept { mut contents, .. })) = read_frame(&mut self.input, &mut bytes) else {
            return None;
        };
        let content = contents.pop()?;
        let mut waiting = [0; Waiting::BYTES];
        self.input.read_exact(&mut waiting).ok()?;
        self.end += bytes + Waiting::BYTES as u64;
        Some((content, Waiting::from_bytes(waiting)))
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
