//! The next switch while it is being received.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ha_core::replication::wire::{Action, Content, Frame, encode};

use super::seal::{Seal, Sealing};
use super::{Contents, Decision, Intent, IntentDirectory, Staging, StagingNote, Steps, remove};
use crate::durable::{private_directory, sync_directory};
use crate::process::boot_id;
use crate::state::read_sealed;
use crate::sync::error::TreeError;
use crate::sync::incoming::Incoming;
use crate::sync::rehearsal::Rehearsal;
use crate::sync::stage::{Stage, Waiting};
use crate::sync::tree::Tree;

/// Bytes of contents that came and must come again when an agent is killed, or of a single one when it is cut: the list of
/// contents is written by blocks, and a part is listed once it is worth that.
const UNLISTED: u64 = 1 << 20;
/// What the documents at the end of a switch need.
const ROOM: u64 = 64 << 10;

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

/// Takes up the list that an earlier draft left: what it names and is still there waits on.
fn take_up(path: &Path, stages: &mut [Option<Stage>]) -> io::Result<Sealing> {
    let file = File::options().read(true).append(true).create(true).mode(0o600).open(path)?;
    let mut listed = Contents { input: BufReader::new(&file), end: 0 };
    for (content, waiting) in listed.by_ref() {
        if let Some(Some(stage)) = stages.get_mut(usize::from(content.dataset)) {
            stage.take_up(content, waiting);
        }
    }
    // behind a torn end nothing could be read
    file.set_len(listed.end)?;
    Sealing::again(file)
}

/// The number that the other node calls a dataset by: the agent's list is shorter than that.
fn dataset_number(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX)
}

fn create(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}
