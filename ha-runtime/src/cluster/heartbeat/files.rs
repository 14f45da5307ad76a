//! Heartbeat's files on the disk: all as they are to be, or all as they were.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ha_core::cluster::heartbeat::{ConfFile, Files};

use crate::durable::{self, Attributes};
use crate::root::Root;

/// Why they are as they were.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilesError {
    /// One cannot be read or written.
    #[error("{}: {source}", path.display())]
    System {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is not ours, and neither is what was set aside before.
    #[error(
        "{} was written by hand, and so was {}: move one of them away",
        path.display(),
        aside.display()
    )]
    ByHand {
        /// What is in the way.
        path: PathBuf,
        /// Where it would have been set aside.
        aside: PathBuf,
    },
}

/// A file and what is to become of it.
struct Change<'a> {
    wanted: &'a ConfFile,
    path: PathBuf,
    old: Option<Vec<u8>>,
    old_attributes: Attributes,
    temporary: PathBuf,
}

/// Those that are not as they are to be, below the root.
pub(crate) fn differing<'a>(root: &Root, files: &'a Files) -> Result<Vec<&'a ConfFile>, FilesError> {
    let mut differing = Vec::new();
    for file in &files.files {
        let path = root.path(file.path);
        let failed = |source| FilesError::System { path: path.clone(), source };
        let text = durable::read_if_exists(&path).map_err(failed)?;
        let is_same = text.is_some_and(|text| text == file.text.as_bytes())
            && fs::metadata(&path).map_err(failed)?.mode() & 0o7777 == file.mode;
        if !is_same {
            differing.push(file);
        }
    }
    Ok(differing)
}

/// Writes those that differ. What somebody wrote by hand is set aside, once, beside its place; told in the log.
pub(super) fn write(root: &Root, files: &Files) -> Result<(), FilesError> {
    let mut changes = Vec::new();
    for wanted in differing(root, files)? {
        let path = root.path(wanted.path);
        let failed = |source| FilesError::System { path: path.clone(), source };
        let old = durable::read_if_exists(&path).map_err(failed)?;
        let old_attributes = match &old {
            Some(_) => Attributes::of(&fs::metadata(&path).map_err(failed)?),
            None => Attributes::PRIVATE,
        };
        if let Some(old) = &old
            && !is_ours(old, files.mark)
            && aside(&path).exists()
            && !is_one_file(&path, &aside(&path)).map_err(failed)?
        {
            return Err(FilesError::ByHand { aside: aside(&path), path });
        }
        let temporary = durable::temporary_beside(&path).map_err(failed)?;
        changes.push(Change { wanted, path, old, old_attributes, temporary });
    }
    let written = changes.iter().try_for_each(|change| {
        let attributes = Attributes { mode: change.wanted.mode, owner: None };
        durable::write_new(&change.temporary, change.wanted.text.as_bytes(), attributes)
            .map_err(|source| (change, source))
    });
    let done = written.and_then(|()| put_in_place(&changes, files.mark));
    done.map_err(|(change, source)| {
        for change in &changes {
            // those that are in their places have none any more
            let _ = fs::remove_file(&change.temporary);
        }
        FilesError::System { path: change.path.clone(), source }
    })
}

fn put_in_place<'a>(changes: &'a [Change<'a>], mark: &str) -> Result<(), (&'a Change<'a>, io::Error)> {
    for (done, change) in changes.iter().enumerate() {
        if let Err(source) = put(change, mark) {
            for change in &changes[..done] {
                if let Err(error) = put_back(change, mark) {
                    tracing::error!("{}: is not as it was: {error}", change.path.display());
                }
            }
            return Err((change, source));
        }
    }
    Ok(())
}

fn put(change: &Change<'_>, mark: &str) -> io::Result<()> {
    if !change.is_by_hand(mark) {
        return durable::rename(&change.temporary, &change.path);
    }
    let aside = aside(&change.path);
    if !aside.exists() {
        fs::hard_link(&change.path, &aside)?;
    }
    durable::rename(&change.temporary, &change.path).inspect_err(|_| {
        // as it was, also when only the disk did not take it; a second name is in the way of the next attempt, and the same
        // file is not renamed
        let _ = fs::rename(&aside, &change.path);
        let _ = fs::remove_file(&aside);
    })?;
    tracing::warn!("{} was written by hand: it is {} now", change.path.display(), aside.display());
    Ok(())
}

fn put_back(change: &Change<'_>, mark: &str) -> io::Result<()> {
    match &change.old {
        Some(_) if change.is_by_hand(mark) => durable::rename(&aside(&change.path), &change.path),
        Some(old) => durable::replace(&change.path, old, change.old_attributes),
        None => fs::remove_file(&change.path),
    }
}

impl Change<'_> {
    fn is_by_hand(&self, mark: &str) -> bool {
        self.old.as_ref().is_some_and(|old| !is_ours(old, mark))
    }
}

/// Removes what the engine wrote, and nothing else.
pub(super) fn remove(root: &Root, files: &Files) -> Result<(), FilesError> {
    // what is written last goes first: without it Heartbeat does not start
    for file in files.files.iter().rev() {
        let path = root.path(file.path);
        let failed = |source| FilesError::System { path: path.clone(), source };
        let text = durable::read_if_exists(&path).map_err(failed)?;
        if text.is_some_and(|text| is_ours(&text, files.mark)) {
            fs::remove_file(&path).map_err(failed)?;
        }
    }
    Ok(())
}

/// Two names of one file: setting it aside was cut short.
fn is_one_file(path: &Path, aside: &Path) -> io::Result<bool> {
    let (path, aside) = (fs::metadata(path)?, fs::metadata(aside)?);
    Ok((path.dev(), path.ino()) == (aside.dev(), aside.ino()))
}

fn is_ours(text: &[u8], mark: &str) -> bool {
    text.split(|byte| *byte == b'\n').any(|line| line.starts_with(mark.as_bytes()))
}

fn aside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{name}.by-hand"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("etc/ha.d/resource.d")).unwrap();
        let root = Root::new(dir.path()).unwrap();
        (dir, root)
    }

    fn files(text: &str) -> Files {
        let file = |path, mode| ConfFile { path, text: format!("# Ours: {text}\n{path}\n"), mode };
        let files = vec![file("/etc/ha.d/authkeys", 0o600), file("/etc/ha.d/ha.cf", 0o644)];
        Files { files, mark: "# Ours", group: String::new() }
    }

    fn seen(root: &Root) -> Vec<(String, u32, String)> {
        let mut seen: Vec<_> = fs::read_dir(root.path("/etc/ha.d"))
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_type().unwrap().is_file())
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                let mode = entry.metadata().unwrap().mode() & 0o777;
                (name, mode, fs::read_to_string(entry.path()).unwrap())
            })
            .collect();
        seen.sort();
        seen
    }

    fn file(name: &str, mode: u32, text: &str) -> (String, u32, String) {
        (name.to_owned(), mode, text.to_owned())
    }

    #[test]
    fn they_are_written_kept_in_step_and_removed() {
        let (_dir, root) = place();
        let (first, second) = (files("1"), files("2"));
        assert_eq!(differing(&root, &first).unwrap().len(), 2);
        write(&root, &first).unwrap();
        assert_eq!(differing(&root, &first).unwrap(), Vec::<&ConfFile>::new());
        write(&root, &second).unwrap();
        let written = [
            file("authkeys", 0o600, "# Ours: 2\n/etc/ha.d/authkeys\n"),
            file("ha.cf", 0o644, "# Ours: 2\n/etc/ha.d/ha.cf\n"),
        ];
        assert_eq!(seen(&root), written);
        // Heartbeat does not start with keys that others may read
        let key = root.path("/etc/ha.d/authkeys");
        fs::set_permissions(key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        assert_eq!(differing(&root, &second).unwrap(), [&second.files[0]]);
        write(&root, &second).unwrap();
        assert_eq!(seen(&root), written);
        remove(&root, &first).unwrap();
        assert_eq!(seen(&root), []);
    }

    #[test]
    fn what_was_written_by_hand_is_set_aside_once_and_never_removed() {
        let (_dir, root) = place();
        let path = root.path("/etc/ha.d/ha.cf");
        fs::write(&path, "node one\n").unwrap();
        write(&root, &files("1")).unwrap();
        let aside = file("ha.cf.by-hand", 0o644, "node one\n");
        assert_eq!(seen(&root)[2], aside);
        fs::write(&path, "node two\n").unwrap();
        let before = seen(&root);
        let refusal = write(&root, &files("2")).unwrap_err().to_string();
        assert!(refusal.contains("ha.cf was written by hand, and so was"), "{refusal}");
        assert_eq!(seen(&root), before, "nothing was changed");
        remove(&root, &files("1")).unwrap();
        assert_eq!(seen(&root), [file("ha.cf", 0o644, "node two\n"), aside]);

        // the power failed when it had two names
        let (_dir, root) = place();
        let path = root.path("/etc/ha.d/ha.cf");
        fs::write(&path, "node one\n").unwrap();
        fs::hard_link(&path, root.path("/etc/ha.d/ha.cf.by-hand")).unwrap();
        write(&root, &files("1")).unwrap();
        assert_eq!(seen(&root)[2], file("ha.cf.by-hand", 0o644, "node one\n"));
        assert_eq!(seen(&root)[1].2, "# Ours: 1\n/etc/ha.d/ha.cf\n");
    }

    #[test]
    fn one_that_cannot_be_written_leaves_all_as_they_were() {
        let (_dir, root) = place();
        write(&root, &files("1")).unwrap();
        let before = seen(&root);
        let mut next = files("2");
        let lacking = ConfFile { path: "/etc/ha.d/nowhere/x", text: "# Ours\n".to_owned(), mode: 0o644 };
        next.files.push(lacking);
        assert!(matches!(write(&root, &next), Err(FilesError::System { .. })));
        assert_eq!(seen(&root), before, "what comes before it");
        // one that was written by hand, and whose name beside would be too long: the others are in their places by then
        let long: &str = format!("/etc/ha.d/{}", "x".repeat(250)).leak();
        next.files[2].path = long;
        fs::write(root.path(long), "by hand\n").unwrap();
        fs::write(root.path("/etc/ha.d/ha.cf"), "node one\n").unwrap();
        let before = seen(&root);
        assert!(write(&root, &next).is_err());
        assert_eq!(seen(&root), before);
    }
}
