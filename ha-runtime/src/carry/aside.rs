//! What is not carried is kept beside, before the returning node becomes equal to the serving one.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ha_core::carry::{FileState, Why};
use ha_core::replication::path::RelPath;
use serde::{Deserialize, Serialize};

use super::scan::{open_file, state};
use super::{CarryError, point};
use crate::durable::{STATE_DIRECTORY, private_directory, sync_directory};
use crate::root::Root;
use crate::sync::{Tree, TreeError};

/// Below the state directory.
const DIRECTORY: &str = "aside";

/// A directory `/var/lib/pbx-ha/aside/NAME`, mode 0700. Nothing in it is ever replaced.
///
/// Files lie in it under their trees' paths; `manifest` has a line of JSON for each, with the reason.
#[derive(Debug)]
pub struct Aside {
    directory: PathBuf,
    /// The manifest's lines, from the first file on that is kept.
    noted: Option<BTreeSet<Vec<u8>>>,
}

/// A line of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The tree's name.
    pub tree: String,
    /// Relative to it.
    pub path: RelPath,
    /// Relative to the directory.
    pub kept: RelPath,
    /// What was kept.
    #[serde(flatten)]
    pub state: FileState,
    /// Why it was not carried.
    pub why: Why,
}

impl Aside {
    /// `name`: one per return, and the same when that is resumed; a time, as `2026-11-22T01-15-00Z`.
    pub fn new(root: &Root, name: &str) -> Aside {
        Aside { directory: root.path(STATE_DIRECTORY).join(DIRECTORY).join(name), noted: None }
    }

    /// All that was set aside on this node and is still there: each directory, and how many files its manifest names.
    pub fn all(root: &Root) -> io::Result<Vec<(PathBuf, usize)>> {
        let entries = match fs::read_dir(root.path(STATE_DIRECTORY).join(DIRECTORY)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let aside = Aside { directory: entry?.path(), noted: None };
            let count = aside.lines()?.len();
            all.push((aside.directory, count));
        }
        all.retain(|(_, count)| *count > 0);
        all.sort();
        Ok(all)
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Copies a file there, down to the disk, with the reason. Done twice, it is as done once; another content of the same
    /// name gets a name of its own. `None`: there is no such file any more.
    pub fn keep(&mut self, tree: &Tree, path: &RelPath, why: Why) -> Result<Option<Line>, CarryError> {
        let file = match open_file(tree, path) {
            Ok(file) => file,
            Err(error) if crate::sync::absent(&error.source) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let fail = |source: io::Error| TreeError { doing: "set aside", path: tree.display(path), source };
        Ok(Some(self.copy(tree, file, path, why).map_err(fail)?))
    }

    fn copy(&mut self, tree: &Tree, mut file: File, path: &RelPath, why: Why) -> io::Result<Line> {
        private_directory(&self.directory)?;
        sync_directory(&self.directory)?;
        let wanted = tree.inside().join(path.as_bytes()).map_err(io::Error::other)?;
        let target = |kept: &RelPath| self.directory.join(crate::sync::to_path(kept));
        if let Some(directory) = target(&wanted).parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        // one that a crash left is no more than a part, or has its name
        let temporary = self.directory.join(".incoming");
        if temporary.exists() {
            fs::remove_file(&temporary)?;
        }
        let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        io::copy(&mut file, &mut copy)?;
        copy.sync_all()?;
        point();
        // what was copied, not what was there before or is by now
        let state = state(&File::open(&temporary)?)?;
        let mut kept = wanted.clone();
        for count in 2.. {
            match fs::hard_link(&temporary, target(&kept)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => {
                    result?;
                    sync_directory(&target(&kept))?;
                    break;
                }
            }
            if same(&target(&kept), &state)? {
                break;
            }
            kept = RelPath::new([wanted.as_bytes(), format!(".{count}").as_bytes()].concat())
                .map_err(io::Error::other)?;
        }
        point();
        fs::remove_file(&temporary)?;
        let line = Line { tree: tree.name().to_owned(), path: path.clone(), kept, state, why };
        self.note(&line)?;
        Ok(line)
    }

    fn note(&mut self, line: &Line) -> io::Result<()> {
        let path = self.directory.join("manifest");
        let text = serde_json::to_vec(line)?;
        let noted = match self.noted.take() {
            Some(noted) => noted,
            None => self.lines()?.iter().map(serde_json::to_vec).collect::<Result<_, _>>()?,
        };
        if !self.noted.insert(noted).contains(&text) {
            let mut manifest = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
            // it begins with a line end: a line before it may have been cut off
            manifest.write_all(&[b"\n", text.as_slice()].concat())?;
            manifest.sync_all()?;
            sync_directory(&path)?;
            point();
            self.noted.get_or_insert_default().insert(text);
        }
        Ok(())
    }

    /// What was kept so far.
    pub fn lines(&self) -> io::Result<Vec<Line>> {
        let text = crate::durable::read_if_exists(&self.directory.join("manifest"))?.unwrap_or_default();
        Ok(text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }
}

fn same(path: &Path, state_of: &FileState) -> io::Result<bool> {
    Ok(fs::symlink_metadata(path)?.is_file() && state(&File::open(path)?)? == *state_of)
}
