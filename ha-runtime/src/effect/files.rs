//! What a file effect would change: found out without changing anything.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use ha_core::effect::Block;
use ha_core::shell_vars::{NotData, ShellVars};
use serde::{Deserialize, Serialize};

use super::blocks::{self, BlockError};
use crate::durable::Attributes;
use crate::root::Root;

/// Why a file effect cannot be done. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A `..` in the path, or a symbolic link: what it leads to is not ours to write.
    #[error("{path}: leads to {}, outside the root", to.display())]
    OutsideRoot {
        /// As the effect has it.
        path: String,
        /// Where it ends.
        to: PathBuf,
    },
    /// A symbolic link to nothing: where the file would be created is somebody else's choice.
    #[error("{path}: a symbolic link to nothing")]
    Dangling {
        /// As the effect has it.
        path: String,
    },
    /// A directory, device, socket or pipe.
    #[error("{}: not a file", path.display())]
    NotAFile {
        /// On this machine.
        path: PathBuf,
    },
    /// Lines are only brought into a file that exists.
    #[error("{path}: no such file, so our lines cannot be set in it")]
    NoSuchFile {
        /// As the effect has it, `*` included.
        path: String,
    },
    /// A file has one block of ours: the second would replace the first.
    #[error("{}: two blocks of lines are meant for this file", path.display())]
    TwoBlocks {
        /// On this machine.
        path: PathBuf,
    },
    /// The text does not allow it.
    #[error("{}: {source}", path.display())]
    Block {
        /// On this machine.
        path: PathBuf,
        /// Why.
        source: BlockError,
    },
    /// A shell would take the file, or a value, otherwise than as written.
    #[error("{}: {source}", path.display())]
    Variables {
        /// On this machine.
        path: PathBuf,
        /// Where, and why.
        source: NotData,
    },
    /// The text is in no encoding that we write.
    #[error("{}: is not UTF-8 from byte {at} on: nothing can be set in it", path.display())]
    NotText {
        /// On this machine.
        path: PathBuf,
        /// Counted from 0.
        at: usize,
    },
    /// The system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// On this machine.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What was at a path before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Former {
    Absent,
    File {
        #[serde(with = "hex")]
        content: Vec<u8>,
        attributes: Attributes,
    },
    /// Only where the link itself is the matter (removal).
    Link {
        target: PathBuf,
    },
}

impl Former {
    /// Looks without following a symbolic link.
    pub(super) fn of(path: &Path) -> Result<Former, FileError> {
        let failed = |source| FileError::Io { path: path.to_owned(), source };
        let meta = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Former::Absent),
            other => other.map_err(failed)?,
        };
        if meta.is_symlink() {
            return Ok(Former::Link { target: fs::read_link(path).map_err(failed)? });
        }
        if !meta.is_file() {
            return Err(FileError::NotAFile { path: path.to_owned() });
        }
        let content = fs::read(path).map_err(failed)?;
        Ok(Former::File { content, attributes: Attributes::of(&meta) })
    }
}

/// One file that is not as it should be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// On this machine, symbolic links resolved.
    pub(super) target: PathBuf,
    /// What is there now.
    pub(super) former: Former,
    /// What should be; `None`: nothing.
    pub(super) wanted: Option<(Vec<u8>, Attributes)>,
}

/// A whole file; `None`: it already has this content. An existing file keeps mode and owner.
pub(super) fn write(root: &Root, path: &str, content: &str, mode: u32) -> Result<Option<Change>, FileError> {
    let target = locate(root, path, Final::Followed)?;
    let former = Former::of(&target)?;
    Ok(rewritten(target, former, content.as_bytes().to_vec(), mode))
}

/// No file; `None`: there is none. A symbolic link is removed itself, not what it points to.
pub(super) fn remove(root: &Root, path: &str) -> Result<Option<Change>, FileError> {
    let target = locate(root, path, Final::Itself)?;
    Ok(match Former::of(&target)? {
        Former::Absent => None,
        former => Some(Change { target, former, wanted: None }),
    })
}

/// Lines in files that exist; a `*` stands for each existing directory. In the order of the blocks, then by path.
pub(super) fn blocks(root: &Root, program: &str, blocks: &[Block]) -> Result<Vec<Change>, FileError> {
    let mut changes = Vec::new();
    let mut seen = BTreeSet::new();
    for block in blocks {
        let mut found = false;
        for path in expand(root, &block.path)? {
            let target = locate(root, &path, Final::Followed)?;
            let Former::File { content, attributes } = Former::of(&target)? else { continue };
            found = true;
            if !seen.insert(target.clone()) {
                return Err(FileError::TwoBlocks { path: target });
            }
            let text = blocks::set(&content, program, block)
                .map_err(|source| FileError::Block { path: target.clone(), source })?;
            changes.extend(rewritten(target, Former::File { content, attributes }, text, attributes.mode));
        }
        if !found && !block.lines.is_empty() {
            return Err(FileError::NoSuchFile { path: block.path.clone() });
        }
    }
    Ok(changes)
}

/// Variables in a file that a shell reads; `None`: it has them so.
pub(super) fn variables(
    root: &Root,
    path: &str,
    wanted: &[(String, String)],
) -> Result<Option<Change>, FileError> {
    let target = locate(root, path, Final::Followed)?;
    let former = Former::of(&target)?;
    let text = match &former {
        Former::File { content, .. } => str::from_utf8(content)
            .map_err(|error| FileError::NotText { path: target.clone(), at: error.valid_up_to() })?,
        Former::Absent | Former::Link { .. } => "",
    };
    let wanted: Vec<(&str, &str)> =
        wanted.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let set = ShellVars::parse(text)
        .and_then(|vars| vars.set(&wanted))
        .map_err(|source| FileError::Variables { path: target.clone(), source })?;
    Ok(rewritten(target, former, set.into_bytes(), 0o644))
}

/// The path on this machine of a path of the layout, symbolic links resolved, below the root.
pub(crate) fn followed(root: &Root, path: &str) -> Result<PathBuf, FileError> {
    locate(root, path, Final::Followed)
}

fn rewritten(target: PathBuf, former: Former, content: Vec<u8>, mode: u32) -> Option<Change> {
    let attributes = match &former {
        Former::File { content: old, .. } if *old == content => return None,
        Former::File { attributes, .. } => *attributes,
        Former::Absent | Former::Link { .. } => Attributes { mode, owner: None },
    };
    Some(Change { target, former, wanted: Some((content, attributes)) })
}

/// The paths of the PBX's layout that a pattern stands for below this root; a directory that cannot be read has none.
pub(crate) fn installed(root: &Root, pattern: &str) -> Vec<String> {
    expand(root, pattern).unwrap_or_default()
}

/// Each `*` component replaced by every directory there is, in order of their names.
fn expand(root: &Root, path: &str) -> Result<Vec<String>, FileError> {
    let mut paths = vec![String::new()];
    for component in path.split('/').filter(|component| !component.is_empty()) {
        if component != "*" {
            paths.iter_mut().for_each(|path| *path += &format!("/{component}"));
            continue;
        }
        let mut deeper = Vec::new();
        for path in &paths {
            let directory = root.path(path);
            let failed = |source| FileError::Io { path: directory.clone(), source };
            let entries = match fs::read_dir(&directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(failed)?,
            };
            for entry in entries {
                let entry = entry.map_err(failed)?;
                if entry.path().is_dir()
                    && let Ok(name) = entry.file_name().into_string()
                {
                    deeper.push(format!("{path}/{name}"));
                }
            }
        }
        deeper.sort_unstable();
        paths = deeper;
    }
    Ok(paths)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Final {
    /// A symbolic link stands for the file that it points to.
    Followed,
    /// A symbolic link is meant itself.
    Itself,
}

/// The path on this machine with symbolic links resolved, which must stay below the root.
///
/// An absolute link below another root than `/` leads to the machine's own files, so it is refused like any that leaves.
fn locate(root: &Root, path: &str, last: Final) -> Result<PathBuf, FileError> {
    let plain = root.path(path);
    let outside = |to: &Path| FileError::OutsideRoot { path: path.to_owned(), to: to.to_owned() };
    if Path::new(path).components().any(|component| component == Component::ParentDir) {
        return Err(outside(&plain));
    }
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| FileError::Io { path, source }
    };
    let base = fs::canonicalize(root.directory()).map_err(failed(root.directory()))?;
    let inside = |to: PathBuf| if to.starts_with(&base) { Ok(to) } else { Err(outside(&to)) };

    if last == Final::Followed && plain.is_symlink() {
        return match fs::canonicalize(&plain) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(FileError::Dangling { path: path.to_owned() })
            }
            other => inside(other.map_err(failed(&plain))?),
        };
    }
    // the deepest directory that exists; what is below it will be created
    let mut missing: Vec<&std::ffi::OsStr> = Vec::new();
    let mut existing = plain.as_path();
    loop {
        let (Some(parent), Some(name)) = (existing.parent(), existing.file_name()) else {
            return Err(FileError::NotAFile { path: plain.clone() });
        };
        missing.push(name);
        existing = parent;
        if existing.exists() {
            break;
        }
        if existing.is_symlink() {
            return Err(FileError::Dangling { path: path.to_owned() });
        }
    }
    let mut target = inside(fs::canonicalize(existing).map_err(failed(existing))?)?;
    target.extend(missing.into_iter().rev().filter(|name| !name.as_bytes().is_empty()));
    Ok(target)
}

/// Bytes as text in the log.
mod hex {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use std::fmt::Write;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(2 * bytes.len());
        bytes.iter().for_each(|byte| {
            // writing to a String does not fail
            let _ = write!(text, "{byte:02x}");
        });
        to.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        let bad = || D::Error::custom("not hexadecimal");
        let digit = |byte: u8| char::from(byte).to_digit(16).ok_or_else(bad);
        if text.len() % 2 != 0 {
            return Err(bad());
        }
        text.as_bytes()
            .chunks_exact(2)
            .map(|pair| u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).map_err(|_| bad()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn place() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("etc/cron.d")).unwrap();
        let root = Root::new(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn an_existing_file_keeps_its_mode_and_a_new_one_gets_the_wanted_mode() {
        let (_dir, root) = place();
        let change = write(&root, "/etc/xivo/ha.conf", "x", 0o640).unwrap().unwrap();
        assert_eq!(change.former, Former::Absent);
        assert_eq!(change.wanted.unwrap().1, Attributes { mode: 0o640, owner: None });
        fs::write(root.path("/etc/ha.conf"), "old").unwrap();
        let meta = fs::metadata(root.path("/etc/ha.conf")).unwrap();
        let change = write(&root, "/etc/ha.conf", "x", 0o777).unwrap().unwrap();
        assert_eq!(change.wanted.unwrap().1, Attributes::of(&meta));
        assert_eq!(write(&root, "/etc/ha.conf", "old", 0o777).unwrap(), None);
    }

    #[test]
    fn a_link_inside_the_root_is_followed_and_one_that_leaves_it_is_refused() {
        let (_dir, root) = place();
        let (_other, elsewhere) = place();
        fs::write(root.path("/etc/real.conf"), "old").unwrap();
        symlink("real.conf", root.path("/etc/link.conf")).unwrap();
        let change = write(&root, "/etc/link.conf", "new", 0o644).unwrap().unwrap();
        assert!(change.target.ends_with("etc/real.conf"));

        fs::write(elsewhere.path("/etc/victim"), "precious").unwrap();
        symlink(elsewhere.path("/etc/victim"), root.path("/etc/evil.conf")).unwrap();
        symlink(elsewhere.path("/etc"), root.path("/srv")).unwrap();
        symlink("nowhere", root.path("/etc/dangling")).unwrap();
        let refused = |path| write(&root, path, "x", 0o644).unwrap_err();
        assert!(matches!(refused("/etc/evil.conf"), FileError::OutsideRoot { .. }));
        assert!(matches!(refused("/srv/new"), FileError::OutsideRoot { .. }));
        assert!(matches!(refused("/etc/../../x"), FileError::OutsideRoot { .. }));
        assert!(matches!(refused("/etc/dangling"), FileError::Dangling { .. }));
        assert!(matches!(refused("/etc/dangling/x"), FileError::Dangling { .. }));
        assert!(matches!(refused("/etc/cron.d"), FileError::NotAFile { .. }));
        // removing removes the link, which is inside
        let change = remove(&root, "/etc/evil.conf").unwrap().unwrap();
        assert_eq!(change.former, Former::Link { target: elsewhere.path("/etc/victim") });
    }

    #[test]
    fn a_star_stands_for_every_directory_that_has_the_file() {
        let (_dir, root) = place();
        let wanted = |lines: &[&str]| Block {
            section: None,
            path: "/etc/postgresql/*/main/pg_hba.conf".into(),
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
            replaces: None,
        };
        let set = |lines: &[&str]| blocks(&root, "wazo-ha", &[wanted(lines)]);
        assert!(matches!(set(&["x"]), Err(FileError::NoSuchFile { .. })));
        assert_eq!(set(&[]).unwrap(), []);
        for version in ["9.6", "15", "13"] {
            let directory = root.path(format!("/etc/postgresql/{version}/main"));
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("pg_hba.conf"), "local\n").unwrap();
        }
        fs::create_dir_all(root.path("/etc/postgresql/16")).unwrap();
        fs::write(root.path("/etc/postgresql/a file"), "").unwrap();
        let changes = set(&["x"]).unwrap();
        let versions: Vec<_> =
            changes.iter().map(|change| change.target.iter().rev().nth(2).unwrap()).collect();
        assert_eq!(versions, ["13", "15", "9.6"]);
        let two =
            [wanted(&["x"]), Block { path: "/etc/postgresql/15/main/pg_hba.conf".into(), ..wanted(&["y"]) }];
        assert!(matches!(blocks(&root, "wazo-ha", &two), Err(FileError::TwoBlocks { .. })));
    }

    #[test]
    fn what_was_there_survives_the_log_byte_for_byte() {
        let (_dir, root) = place();
        let all: Vec<u8> = (0..=255).collect();
        fs::write(root.path("/etc/bytes"), &all).unwrap();
        let former = Former::of(&root.path("/etc/bytes")).unwrap();
        let text = serde_json::to_string(&former).unwrap();
        assert_eq!(serde_json::from_str::<Former>(&text).unwrap(), former);
        assert!(serde_json::from_str::<Former>(&text.replace("ff", "fg")).is_err());
    }
}
