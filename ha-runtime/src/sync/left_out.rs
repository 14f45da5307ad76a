//! What of a plan does not happen, because the source changed while contents were sent.

use std::collections::BTreeSet;
use std::iter::successors;

use ha_core::replication::filter::Verdict;
use ha_core::replication::manifest::{Kind, Mtime};
use ha_core::replication::path::RelPath;
use ha_core::replication::step::{Removal, Step};
use rustix::fs::FileType;

use super::error::{SyncError, TreeError};
use super::meta;
use super::tree::{Cursor, Tree, absent};

/// Steps of one tree that are not told to the far end; the next replication plans anew.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    /// Contents that did not arrive, and other names of them.
    missing: BTreeSet<RelPath>,
    /// What is of another kind by now than what was to be put in the place of something: nothing happens there or below.
    unlike: BTreeSet<RelPath>,
    /// What was to be deleted because the source did not have it, and has it again; with all directories above.
    back: BTreeSet<RelPath>,
    /// Whether nothing is deleted because the source does not have it.
    deletions_held: bool,
}

impl LeftOut {
    /// The content of `path`, or what it is another name of, did not arrive.
    pub(super) fn miss(&mut self, path: &RelPath) {
        self.missing.insert(path.clone());
    }

    /// Whether the content of `path` did not arrive.
    pub(super) fn misses(&self, path: &RelPath) -> bool {
        self.missing.contains(path)
    }

    /// Looks at the source again, right before its steps are told: `directories` are those that were listed, with the time
    /// of the last change before. Returns what a person should know.
    pub(super) fn look_again(
        &mut self,
        tree: &Tree,
        steps: &[Step],
        directories: &[(RelPath, Mtime)],
    ) -> Result<Vec<String>, SyncError> {
        let Some(root) = tree.open()? else {
            self.deletions_held = true;
            return Ok(vec![format!(
                "{} vanished: nothing is deleted on the replica this time",
                tree.display(&RelPath::root())
            )]);
        };
        let mut cursor = Cursor::new(root);
        let mut warnings = self.find_unlike(tree, &mut cursor, steps)?;
        let gone = || steps.iter().filter(|step| is_gone(step));
        for step in gone() {
            let path = step.path();
            if came_back(tree, &mut cursor, path)? {
                let shown = tree.display(path);
                warnings
                    .push(format!("{shown} came back while it was to be deleted on the replica: it stays"));
                self.back.extend(successors(Some(path.clone()), RelPath::parent));
            }
        }
        // what was moved from a directory not yet listed into one that was is in no list, and is not sent
        let moved = gone().next().is_some()
            && (!self.missing.is_empty() || have_moved(tree, &mut cursor, directories)?);
        if moved {
            self.deletions_held = true;
            warnings.push(format!(
                "files came or went in {} while it was read: what it does not have any more is deleted on the replica next time",
                tree.display(&RelPath::root())
            ));
        }
        Ok(warnings)
    }

    /// Whether a step still makes sense.
    pub(super) fn leaves(&self, step: &Step) -> bool {
        if is_within(step.path(), &self.unlike) {
            return false;
        }
        match step {
            Step::Send { path, .. } | Step::Patch { path, .. } => !self.missing.contains(path),
            Step::Link { path, to } => !self.missing.contains(path) && !is_within(to, &self.unlike),
            // what the file would have replaced stays
            Step::Delete { path, because: Removal::InTheWay, .. } => !is_within(path, &self.missing),
            Step::Delete { path, because: Removal::Gone, .. } => {
                !self.deletions_held && !self.back.contains(path)
            }
            Step::MakeDir { .. } | Step::SetMeta { .. } | Step::Symlink { .. } => true,
        }
    }

    /// What would replace something and is not what it was any more.
    fn find_unlike(
        &mut self,
        tree: &Tree,
        cursor: &mut Cursor,
        steps: &[Step],
    ) -> Result<Vec<String>, TreeError> {
        let in_the_way = steps.iter().filter_map(|step| match step {
            Step::Delete { path, because: Removal::InTheWay, .. } => Some(path.clone()),
            _ => None,
        });
        let in_the_way: BTreeSet<RelPath> = in_the_way.collect();
        let mut warnings = Vec::new();
        for step in steps {
            let path = step.path();
            let wanted = match step {
                Step::MakeDir { .. } => FileType::Directory,
                Step::Symlink { .. } => FileType::Symlink,
                Step::Send { .. } | Step::Patch { .. } | Step::Link { .. } => FileType::RegularFile,
                Step::SetMeta { .. } | Step::Delete { .. } => continue,
            };
            // a directory is followed by all that lies below it
            let first = in_the_way.range(path.clone()..).next();
            if !first.is_some_and(|first| first == path || first.is_below(path)) {
                continue;
            }
            let found = cursor.look(path).map_err(|error| tree.error("look again for", path, error))?;
            if found != Some(wanted) {
                let shown = tree.display(path);
                warnings.push(format!(
                    "{shown} changed its kind again: what it would replace on the replica stays"
                ));
                self.unlike.insert(path.clone());
            }
        }
        Ok(warnings)
    }
}

fn is_gone(step: &Step) -> bool {
    matches!(step, Step::Delete { because: Removal::Gone, .. })
}

/// Whether a path or a directory above it is in the set.
fn is_within(path: &RelPath, set: &BTreeSet<RelPath>) -> bool {
    !set.is_empty() && successors(Some(path.clone()), RelPath::parent).any(|path| set.contains(&path))
}

/// Whether what the source did not have takes part now: it was moved away for a moment, or written anew.
fn came_back(tree: &Tree, cursor: &mut Cursor, path: &RelPath) -> Result<bool, TreeError> {
    let found = cursor.look(path).map_err(|error| tree.error("look again for", path, error))?;
    Ok(found.is_some_and(|kind| match kind {
        FileType::Directory => tree.filter().takes_part(path, &Kind::Dir),
        // what lies merely above what is copied is a directory or nothing
        FileType::RegularFile | FileType::Symlink => tree.filter().verdict(path) == Verdict::Copied,
        FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => false,
    }))
}

/// Whether an entry came or went in any of the directories since they were listed.
fn have_moved(tree: &Tree, cursor: &mut Cursor, directories: &[(RelPath, Mtime)]) -> Result<bool, TreeError> {
    for (path, listed) in directories {
        let now = cursor.directory(path).and_then(|fd| Ok(meta::of_statx(&meta::stat_fd(fd)?).mtime));
        match now {
            Ok(now) if now == *listed => {}
            Ok(_) => return Ok(true),
            Err(error) if absent(&error) => return Ok(true),
            Err(error) => return Err(tree.error("look again for", path, error)),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_takes_with_it_what_depends_on_it() {
        let path = |text: &str| RelPath::new(text).unwrap();
        let delete = |text: &str, because| Step::Delete { path: path(text), because, directory: false };
        let mut left_out = LeftOut::default();
        left_out.miss(&path("a/f"));
        left_out.unlike.insert(path("u"));
        left_out.back.extend([path("b/c"), path("b")]);
        assert!(!left_out.leaves(&Step::Send { path: path("a/f"), size: 1 }));
        assert!(left_out.leaves(&Step::Send { path: path("a/g"), size: 1 }));
        assert!(!left_out.leaves(&delete("a/f/x", Removal::InTheWay)));
        assert!(left_out.leaves(&delete("a/x", Removal::InTheWay)));
        assert!(!left_out.leaves(&Step::MakeDir { path: path("u") }));
        assert!(!left_out.leaves(&Step::Send { path: path("u/v/w"), size: 1 }));
        assert!(!left_out.leaves(&Step::Link { path: path("z"), to: path("u/v") }));
        assert!(left_out.leaves(&Step::MakeDir { path: path("u-v") }));
        assert!(!left_out.leaves(&delete("b", Removal::Gone)));
        assert!(left_out.leaves(&delete("b/d", Removal::Gone)));
        left_out.deletions_held = true;
        assert!(!left_out.leaves(&delete("b/d", Removal::Gone)));
    }
}
