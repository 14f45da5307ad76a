//! A Wazo's root for tests: real files in a directory of its own.

use std::fs;
use std::path::PathBuf;

use ha_adapters_wazo::Wazo;

use super::{Check, Level};
use crate::context::Context;
use crate::root::Root;

pub(super) struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    pub(super) fn new() -> Place {
        Place { directory: tempfile::tempdir().unwrap() }
    }

    pub(super) fn root(&self) -> Root {
        Root::new(self.directory.path()).unwrap()
    }

    pub(super) fn context(&self) -> Context {
        Context::load(&Wazo, self.root(), None).unwrap()
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root().path(path)
    }

    /// Makes the directories above as well.
    pub(super) fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub(super) fn remove(&self, path: &str) {
        fs::remove_file(self.path(path)).unwrap();
    }

    pub(super) fn settings(&self, text: &str) {
        self.write(crate::settings::DEFAULT_PATH, text);
    }
}

/// The level of a check that must have been made.
pub(super) fn level(checks: &[Check], id: &str) -> Level {
    checks.iter().find(|check| check.id == id).unwrap_or_else(|| panic!("no {id} in {checks:?}")).level
}
