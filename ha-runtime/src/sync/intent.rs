//! What is to be switched to, on this slave's disk: steps, contents that wait, and what decides about them.
//!
//! In a directory of its own: `contents` lists what has been received, `steps` what the near end said is to be
//! done, both as frames; `staging.json` says in which directories the contents wait. `intent.json` alone makes it binding:
//! it is written, down to the disk, when all else is there, and says on what the switch depends. Whoever finds it carries
//! the steps out or drops them; see [`settle`](super::settle).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ha_core::replication::path::RelPath;
use ha_core::replication::wire::{Action, Content, Frame, Transaction, encode};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::error::{SyncError, TreeError};
use super::incoming::Incoming;
use super::link::read_frame;
use super::rehearsal::Rehearsal;
use super::stage::{Stage, Waiting};
use super::tree::Tree;
use crate::durable::{private_directory, sync_directory};
use crate::process::boot_id;
use crate::state::{StateError, read_sealed, seal, write_sealed};

/// Its directory, in the state directory.
const DIRECTORY: &str = "intent";

/// A file without content that keeps room free until the switch begins, as a stage's does.
const BALLAST: &str = "ballast";
/// Bytes of contents that came and must come again when an agent is killed, or of a single one when it is cut: the list of
/// contents is written by blocks, and a part is listed once it is worth that.
const UNLISTED: u64 = 1 << 20;
/// What the documents at the end of a switch need.
const ROOM: u64 = 64 << 10;

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

/// Length and digest of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seal {
    bytes: u64,
    digest: String,
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

/// The next switch while it is being received. Dropped, it leaves on the disk what it has.
#[derive(Debug)]
pub(crate) struct Draft {
    directory: IntentDirectory,
    trees: Vec<Tree>,
    stages: Vec<Option<Stage>>,
    contents: BufWriter<Sealing>,
    /// Bytes of the contents that are not in the list on the disk yet.
    unlisted: u64,
    steps: BufWriter<Sealing>,
    /// How many these are.
    step_count: u64,
}

impl Draft {
    /// Goes on with the contents that an earlier one left, unless a promise still needs them, if the machine has not been restarted since: what was not
    /// brought to disk is believed only as long as the kernel remembers it.
    pub(crate) fn open(state_directory: &Path, trees: &[Tree]) -> Result<Draft, TreeError> {
        let directory = IntentDirectory::of(state_directory);
        let failed = |error| directory.error("use", error);
        private_directory(&directory.0).map_err(failed)?;
        // what is promised is not ours to remove
        if directory.file("intent.json").try_exists().map_err(failed)? {
            return Err(failed(io::Error::other("a switch is promised there, and not settled yet")));
        }
        // a note that is torn is of another start of the machine
        let note = read_sealed::<StagingNote>(&directory.file("staging.json")).unwrap_or_default();
        let note = note.filter(|note| note.boot == boot_id());
        let mut stages: Vec<Option<Stage>> = trees.iter().map(|_| None).collect();
        for staging in note.iter().flat_map(|note| &note.trees) {
            if let Some(index) = trees.iter().position(|tree| tree.name() == staging.tree) {
                stages[index] = staging.reopen(trees)?;
            }
        }
        let same_order = note.is_some_and(|note| {
            note.trees.iter().map(|staging| &*staging.tree).eq(trees.iter().map(Tree::name))
        });
        for (tree, stage) in trees.iter().zip(&stages) {
            Stage::sweep(tree, stage.as_ref().map(Stage::name))?;
        }
        remove(&directory.file("steps")).map_err(failed)?;
        if !same_order {
            remove(&directory.file("contents")).map_err(failed)?;
        }
        let contents = take_up(&directory.file("contents"), &mut stages).map_err(failed)?;
        let steps = BufWriter::new(Sealing::new(create(&directory.file("steps")).map_err(failed)?));
        Ok(Draft {
            directory,
            trees: trees.to_vec(),
            stages,
            contents: BufWriter::new(contents),
            unlisted: 0,
            steps,
            step_count: 0,
        })
    }

    /// How many contents wait, whole or in part.
    pub(crate) fn contents(&self) -> u64 {
        self.stages.iter().flatten().map(Stage::count).sum()
    }

    /// What a person should know about where its trees lie.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.stages.iter().flatten().filter_map(Stage::warning).collect()
    }

    /// How many steps there are.
    pub(crate) fn steps(&self) -> u64 {
        self.step_count
    }

    /// What waits, as it was when it was received.
    pub(crate) fn waiting(&mut self) -> Result<impl Iterator<Item = Content> + '_, TreeError> {
        let flushed = self.contents.flush();
        let failed = |error| self.directory.error("read the list of contents in", error);
        flushed.map_err(failed)?;
        let file = File::open(self.directory.file("contents")).map_err(failed)?;
        let listed = Contents { input: BufReader::new(file), end: 0 };
        Ok(listed.filter_map(|(content, waiting)| {
            let stage = self.stages.get(usize::from(content.dataset)).and_then(Option::as_ref);
            stage.and_then(|stage| stage.as_it_waits(content, waiting))
        }))
    }

    /// The temporary directory of a tree; made, and noted, when it is used first.
    pub(crate) fn stage(&mut self, index: usize) -> Result<&mut Stage, TreeError> {
        if self.stages[index].is_none() {
            self.stages[index] = Some(Stage::new(&self.trees[index])?);
            let note = StagingNote { boot: boot_id(), trees: self.stagings() };
            self.directory.note(&note).map_err(|error| self.directory.error("write to", error))?;
        }
        Ok(self.stages[index].as_mut().expect("it has just been made"))
    }

    /// Adds a content that came whole, and was verified, to what waits.
    pub(crate) fn add(&mut self, index: usize, incoming: &Incoming) -> Result<(), TreeError> {
        let waiting = self.stage(index)?.keep(incoming)?;
        self.list(incoming.content(dataset_number(index), None), waiting)
    }

    /// Sees to it that a large content that is cut now need not come again from its beginning.
    pub(crate) fn add_part(&mut self, index: usize, incoming: &Incoming) -> Result<(), TreeError> {
        let here = incoming.written();
        if here <= UNLISTED {
            return Ok(());
        }
        let listed = self.stage(index)?.keep_part(incoming)?;
        listed
            .map_or(Ok(()), |waiting| self.list(incoming.content(dataset_number(index), Some(here)), waiting))
    }

    fn list(&mut self, content: Content, waiting: Waiting) -> Result<(), TreeError> {
        self.unlisted += content.part.unwrap_or(content.size);
        let frame = Frame::Kept { contents: vec![content], last: false };
        let mut bytes = Vec::new();
        let written = encode(&frame, &mut bytes).map_err(io::Error::other).and_then(|()| {
            bytes.extend(waiting.to_bytes());
            self.contents.write_all(&bytes)?;
            if self.unlisted > UNLISTED {
                self.unlisted = 0;
                self.contents.flush()?;
            }
            Ok(())
        });
        written.map_err(|error| self.directory.error("write to", error))
    }

    /// Adds a step.
    pub(crate) fn step(&mut self, dataset: u16, action: Action) -> Result<(), TreeError> {
        let frame = Frame::Step { generation: 0, dataset, action };
        let mut bytes = Vec::new();
        let written =
            encode(&frame, &mut bytes).map_err(io::Error::other).and_then(|()| self.steps.write_all(&bytes));
        self.step_count += 1;
        written.map_err(|error| self.directory.error("write to", error))
    }

    /// Goes through all steps, keeps the room that they need, and brings all of it to disk; from now on it can be promised.
    pub(crate) fn seal(&mut self) -> Result<Sealed, TreeError> {
        let flushed = self.contents.flush().and_then(|()| self.steps.flush());
        flushed.map_err(|error| self.directory.error("write to", error))?;
        self.rehearse()?;
        for stage in self.stages.iter().flatten() {
            stage.sync()?;
        }
        let failed = |error| self.directory.error("bring to disk", error);
        let steps = self.steps.get_ref().seal().map_err(failed)?;
        let contents = self.contents.get_ref().seal().map_err(failed)?;
        if contents.bytes > 0 || steps.bytes > 0 {
            sync_directory(&self.directory.file("steps")).map_err(failed)?;
        }
        Ok(Sealed { trees: self.stagings(), steps, contents })
    }

    /// Removes all of it.
    pub(crate) fn discard(self) -> Result<(), TreeError> {
        for stage in self.stages.into_iter().flatten() {
            stage.remove()?;
        }
        self.directory.forget_contents()
    }

    /// Keeps the contents for the next; removes the steps, and everything if there are no contents.
    pub(crate) fn rest(self) -> Result<(), TreeError> {
        if self.contents() == 0 {
            return self.discard();
        }
        self.stages.iter().flatten().for_each(Stage::release);
        remove(&self.directory.file("steps"))
            .map_err(|error| self.directory.error("remove steps from", error))
    }

    fn rehearse(&mut self) -> Result<(), TreeError> {
        let failed = |error| self.directory.error("read the steps in", error);
        let file = File::open(self.directory.file("steps")).map_err(failed)?;
        let steps = Steps { input: BufReader::new(file), directory: self.directory.clone() };
        let both = self.trees.iter().zip(&self.stages);
        let mut rehearsals =
            both.map(|(tree, stage)| Rehearsal::new(tree, stage.as_ref())).collect::<Result<Vec<_>, _>>()?;
        for step in steps {
            let (dataset, action) = step?;
            // the agent lets no other number in
            if let Some(rehearsal) = rehearsals.get_mut(usize::from(dataset)) {
                rehearsal.step(action)?;
            }
        }
        let needs: Vec<(u64, Vec<_>)> =
            rehearsals.into_iter().map(|one| (one.room(), one.given().collect())).collect();
        for (index, (room, given)) in needs.into_iter().enumerate() {
            for (kind, path, meta) in given {
                let tried = self.stage(index)?.try_on(kind, &meta);
                tried.map_err(|error| {
                    self.trees[index].error("give its owner, mode, times and attributes to", &path, error)
                })?;
            }
            if room > 0 {
                self.stage(index)?.reserve(room)?;
            }
        }
        self.directory.reserve(ROOM).map_err(|error| self.directory.error("keep room in", error))
    }

    fn stagings(&self) -> Vec<Staging> {
        let one = |(tree, stage): (&Tree, &Option<Stage>)| Staging {
            tree: tree.name().to_owned(),
            stage: stage.as_ref().map(|stage| stage.name().to_owned()),
            made: stage.as_ref().map_or(0, Stage::made),
        };
        self.trees.iter().zip(&self.stages).map(one).collect()
    }
}

/// A draft that is on disk as a whole.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    trees: Vec<Staging>,
    steps: Seal,
    contents: Seal,
}

impl Sealed {
    /// The promise to switch to it.
    pub(crate) fn intent(&self, generation: u64, number: u64, decision: Decision) -> Intent {
        let Sealed { trees, steps, contents } = self.clone();
        Intent { generation, number, decision, trees, steps, contents }
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

impl Seal {
    /// Opens the file if it is what was sealed.
    fn check(&self, path: &Path) -> io::Result<File> {
        if self.bytes == 0 {
            return File::open("/dev/null");
        }
        let mut file = File::open(path)?;
        let mut hasher = blake3::Hasher::new();
        io::copy(&mut (&file).take(self.bytes), &mut hasher)?;
        if hasher.finalize().to_hex().as_str() != self.digest {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "torn or altered; its digest does not fit",
            ));
        }
        file.rewind()?;
        Ok(file)
    }
}

/// A file that is appended to and digested meanwhile.
#[derive(Debug)]
struct Sealing {
    file: File,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Sealing {
    fn new(file: File) -> Sealing {
        Sealing { file, hasher: blake3::Hasher::new(), bytes: 0 }
    }

    fn seal(&self) -> io::Result<Seal> {
        // of nothing, nothing can be lost
        if self.bytes > 0 {
            self.file.sync_all()?;
        }
        Ok(Seal { bytes: self.bytes, digest: self.hasher.finalize().to_hex().to_string() })
    }
}

impl Write for Sealing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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

/// Takes up the list that an earlier draft left: what it names and is still there waits on.
fn take_up(path: &Path, stages: &mut [Option<Stage>]) -> io::Result<Sealing> {
    let file = File::options().read(true).append(true).create(true).mode(0o600).open(path)?;
    let mut listed = Contents { input: BufReader::new(&file), end: 0 };
    for (content, waiting) in listed.by_ref() {
        if let Some(Some(stage)) = stages.get_mut(usize::from(content.dataset)) {
            stage.take_up(content, waiting);
        }
    }
    let end = listed.end;
    // behind a torn end nothing could be read
    file.set_len(end)?;
    let mut sealing = Sealing::new(file);
    (&sealing.file).seek(SeekFrom::Start(0))?;
    io::copy(&mut (&sealing.file), &mut sealing.hasher)?;
    sealing.bytes = end;
    Ok(sealing)
}

/// The number that the other node calls a dataset by: the agent's list is shorter than that.
fn dataset_number(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX)
}

fn create(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
