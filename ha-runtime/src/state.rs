//! State that survives a crash at any byte: one document, replaced as a whole, its predecessor kept.

use std::fs;
use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::durable::{
    Attributes, STATE_DIRECTORY, private_directory, read_if_exists, rename, replace, sync_directory,
    temporary_beside,
};
use crate::root::Root;
use crate::writer::{PATIENCE, Writer, Written};

/// What was found on the disk.
#[derive(Debug)]
pub enum Loaded<T> {
    /// The last that was saved.
    Current(T),
    /// The last cannot be used; this is the one before it.
    Previous {
        /// The one before the last.
        value: T,
        /// Why not the last.
        because: StateError,
    },
}

impl<T> Loaded<T> {
    /// The value, whichever it is.
    pub fn into_value(self) -> T {
        match self {
            Loaded::Current(value) | Loaded::Previous { value, .. } => value,
        }
    }
}

/// Why a state file cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The disk refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The disk does not answer in time.
    #[error("{}: the disk stalls", path.display())]
    Stalled {
        /// The file.
        path: PathBuf,
    },
    /// It is not what was written.
    #[error("{}: torn or altered; its digest does not fit", path.display())]
    Torn {
        /// The file.
        path: PathBuf,
    },
    /// It was written whole, but by a program that means something else by it.
    #[error("{}: not understood: {source}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Which part.
        source: serde_json::Error,
    },
}

/// A document of type `T` in `/var/lib/pbx-ha` below the root.
#[derive(Debug)]
pub struct Store<T> {
    files: Arc<Files>,
    writer: Writer,
    of: PhantomData<fn(&T) -> T>,
}

#[derive(Debug)]
struct Files {
    current: PathBuf,
    previous: PathBuf,
}

impl<T: Serialize + DeserializeOwned> Store<T> {
    /// The document of that name (`state` becomes `state.json`). Starts its thread; the disk is not touched.
    pub fn open(root: &Root, name: &str) -> io::Result<Store<T>> {
        let directory = root.path(STATE_DIRECTORY);
        let files = Files {
            current: directory.join(format!("{name}.json")),
            previous: directory.join(format!("{name}.previous.json")),
        };
        Ok(Store { files: Arc::new(files), writer: Writer::start(name)?, of: PhantomData })
    }

    /// What is on the disk; `None`: nothing was ever saved.
    ///
    /// Err: neither the last nor the one before can be used; the error is about the last.
    pub fn load(&self) -> Result<Option<Loaded<T>>, StateError> {
        self.files.load()
    }

    /// As [`Store::load`], waiting at most `patience`, for a caller that something else depends on.
    pub fn load_within(&self, patience: Duration) -> Result<Option<Loaded<T>>, StateError>
    where
        T: Send + 'static,
    {
        let files = Arc::clone(&self.files);
        let (found, result) = sync_channel(1);
        self.writer.within(patience, move || {
            // the caller may have stopped waiting
            let _ = found.send(files.load());
            Ok(())
        });
        result.try_recv().unwrap_or_else(|_| Err(StateError::Stalled { path: self.files.current.clone() }))
    }

    /// Replaces the document, down to the disk, waiting at most [`PATIENCE`].
    pub fn save(&self, value: &T) -> Written {
        self.save_within(PATIENCE, value)
    }

    /// As [`Store::save`], waiting at most `patience`.
    pub fn save_within(&self, patience: Duration, value: &T) -> Written {
        let text = match seal(value) {
            Ok(text) => text,
            Err(error) => return Written::Failed(error.into()),
        };
        let files = Arc::clone(&self.files);
        self.writer.within(patience, move || files.save(&text))
    }
}

impl Files {
    fn load<T: DeserializeOwned>(&self) -> Result<Option<Loaded<T>>, StateError> {
        let because = match read_sealed(&self.current) {
            Ok(Some(value)) => return Ok(Some(Loaded::Current(value))),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        match (read_sealed(&self.previous), because) {
            (Ok(Some(value)), because) => {
                let missing =
                    || StateError::Io { path: self.current.clone(), source: io::ErrorKind::NotFound.into() };
                Ok(Some(Loaded::Previous { value, because: because.unwrap_or_else(missing) }))
            }
            (_, Some(because)) => Err(because),
            (Ok(None), None) => Ok(None),
            (Err(error), None) => Err(error),
        }
    }

    fn save(&self, text: &[u8]) -> io::Result<()> {
        if let Some(directory) = self.current.parent() {
            private_directory(directory)?;
        }
        // a damaged file must not push out a good predecessor
        if read_if_exists(&self.current)?.is_some_and(|old| unseal(&old).is_some()) {
            // linked, not renamed: at no moment is there no current file
            let link = temporary_beside(&self.previous)?;
            fs::hard_link(&self.current, &link)?;
            // a rename of two names of one file does nothing and leaves both
            let moved = rename(&link, &self.previous);
            match fs::remove_file(&link) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => moved?,
            }
        }
        replace(&self.current, text, Attributes::PRIVATE)?;
        sync_directory(&self.current)
    }
}

/// Replaces one sealed document, down to the disk, without keeping its predecessor.
pub(crate) fn write_sealed(path: &Path, value: &impl Serialize) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        private_directory(directory)?;
    }
    replace(path, &seal(value)?, Attributes::PRIVATE)
}

/// Reads what [`write_sealed`] wrote; `None`: there is none.
pub(crate) fn read_sealed<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateError> {
    let text = read_if_exists(path).map_err(|source| StateError::Io { path: path.to_owned(), source })?;
    let Some(text) = text else { return Ok(None) };
    let document = unseal(&text).ok_or_else(|| StateError::Torn { path: path.to_owned() })?;
    let value = serde_json::from_slice(document);
    value.map(Some).map_err(|source| StateError::Foreign { path: path.to_owned(), source })
}

/// The document, a line end, and the digest of both on a second line: any part of it is told from the whole.
pub(crate) fn seal(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(value)?;
    text.push(b'\n');
    let digest = blake3::hash(&text).to_hex();
    text.extend_from_slice(digest.as_bytes());
    text.push(b'\n');
    Ok(text)
}

fn unseal(text: &[u8]) -> Option<&[u8]> {
    let split = text.iter().position(|byte| *byte == b'\n')? + 1;
    let (document, digest) = text.split_at(split);
    let expected = blake3::hash(document).to_hex();
    (digest.strip_suffix(b"\n")? == expected.as_bytes()).then_some(document)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Value = (u64, String);

    fn place() -> (tempfile::TempDir, Store<Value>) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&Root::new(dir.path()).unwrap(), "state").unwrap();
        (dir, store)
    }

    fn save(store: &Store<Value>, number: u64) {
        let value = (number, format!("it is {number}"));
        assert!(store.save_within(Duration::from_secs(60), &value).is_durable());
    }

    #[test]
    fn nothing_saved_is_nothing_found() {
        let (_dir, store) = place();
        assert!(store.load().unwrap().is_none());
    }

    #[test]
    fn the_last_is_found_and_the_one_before_is_kept() {
        let (_dir, store) = place();
        for number in 1..=3 {
            save(&store, number);
            assert!(matches!(store.load().unwrap(), Some(Loaded::Current((n, _))) if n == number));
            let bounded = store.load_within(Duration::from_secs(60)).unwrap();
            assert!(matches!(bounded, Some(Loaded::Current((n, _))) if n == number));
        }
        // saving the same again leaves no stray names either
        save(&store, 3);
        let directory = store.files.current.parent().unwrap();
        assert_eq!(fs::read_dir(directory).unwrap().count(), 2);
        fs::remove_file(&store.files.current).unwrap();
        assert!(matches!(store.load().unwrap(), Some(Loaded::Previous { value: (3, _), .. })));
    }

    #[test]
    fn a_file_cut_at_any_byte_is_noticed_and_the_one_before_is_used() {
        let (_dir, store) = place();
        save(&store, 1);
        save(&store, 2);
        let whole = fs::read(&store.files.current).unwrap();
        for cut in 0..whole.len() {
            fs::write(&store.files.current, &whole[..cut]).unwrap();
            let Some(Loaded::Previous { value, because }) = store.load().unwrap() else {
                panic!("cut at {cut}");
            };
            assert_eq!(value.0, 1);
            assert!(matches!(because, StateError::Torn { .. }));
        }
        // the damaged file does not push the good one out
        save(&store, 3);
        assert!(matches!(store.load().unwrap(), Some(Loaded::Current((3, _)))));
        fs::write(&store.files.current, "").unwrap();
        assert!(matches!(store.load().unwrap(), Some(Loaded::Previous { value: (1, _), .. })));
        fs::write(&store.files.previous, "").unwrap();
        assert!(matches!(store.load(), Err(StateError::Torn { .. })));
    }

    #[test]
    fn a_document_of_another_program_is_not_called_torn() {
        let (_dir, store) = place();
        save(&store, 1);
        fs::write(&store.files.current, seal(&"something else").unwrap()).unwrap();
        assert!(matches!(store.load(), Err(StateError::Foreign { .. })));
    }

    #[test]
    fn a_stalled_disk_delays_nobody() {
        let (_dir, store) = place();
        fs::create_dir_all(store.files.current.parent().unwrap()).unwrap();
        // a pipe without a writer stands for the disk: opening it does not return
        assert!(std::process::Command::new("mkfifo").arg(&store.files.current).status().unwrap().success());
        let patience = Duration::from_millis(30);
        assert!(matches!(store.load_within(patience), Err(StateError::Stalled { .. })));
        assert!(matches!(store.save_within(patience, &(1, String::new())), Written::Pending));
        // the disk comes back: whoever waits for the other end of the pipe goes on
        let found = || store.load_within(Duration::from_secs(60));
        let end = || {
            use std::os::unix::fs::OpenOptionsExt;
            let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
            drop(fs::File::options().write(true).custom_flags(flags).open(&store.files.current));
        };
        std::thread::scope(|scope| {
            let finding = scope.spawn(|| while !matches!(found(), Ok(Some(Loaded::Current((1, _))))) {});
            while !finding.is_finished() {
                end();
            }
        });
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_noticed(text: String, at: prop::sample::Index, to: u8) {
            let sealed = seal(&text).unwrap();
            prop_assert!(unseal(&sealed).is_some());
            let mut changed = sealed.clone();
            let at = at.index(changed.len());
            changed[at] = to;
            prop_assert_eq!(unseal(&changed).is_some(), changed == sealed);
        }
    }
}
