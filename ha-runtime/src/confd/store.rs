//! Former values, in the state directory.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::PbxError;

/// What is kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Slot {
    /// SIP expiry.
    Expiry,
    /// Backup registrars.
    Registrars,
}

impl Slot {
    fn name(self) -> &'static str {
        match self {
            Slot::Expiry => "pbx-expiry.json",
            Slot::Registrars => "pbx-registrars.json",
        }
    }
}

/// The directory that holds them.
#[derive(Debug, Clone)]
pub(super) struct Store(PathBuf);

impl Store {
    pub(super) fn new(directory: PathBuf) -> Store {
        Store(directory)
    }

    /// The former values; `None`: none are stored.
    pub(super) fn read(&self, slot: Slot) -> Result<Option<Value>, PbxError> {
        let path = self.0.join(slot.name());
        match fs::read(&path) {
            // a document that cannot be read is not taken for none: values to come back to would be lost
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|err| PbxError::Store { path, source: err.into() }),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(PbxError::Store { path, source }),
        }
    }

    /// Stores former values, or forgets them.
    pub(super) fn write(&self, slot: Slot, values: Option<&Value>) -> Result<(), PbxError> {
        let path = self.0.join(slot.name());
        let outcome = match values {
            Some(values) => replace(&self.0, &path, values),
            None => remove(&path),
        };
        outcome
            .and_then(|()| File::open(&self.0)?.sync_all())
            .map_err(|source| PbxError::Store { path, source })
    }
}

/// Readable by its owner alone, as every temporary file is made; whole or not at all.
fn replace(directory: &Path, path: &Path, values: &Value) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(&serde_json::to_vec(values)?)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        Ok(()) | Err(_) => Ok(()),
    }
}
