//! What every verb needs: the distribution, the root and the settings.

use std::path::PathBuf;

use ha_core::{Distribution, Profile, RoleConfig, RoleError};

use crate::report::Failure;
use crate::root::Root;
use crate::settings::{self, Settings};
use crate::way::Way;

/// One node, as a verb sees it.
#[derive(Clone)]
pub struct Context {
    /// Which PBX.
    pub distribution: &'static dyn Distribution,
    /// Where its files are.
    pub root: Root,
    /// Where the settings came from.
    pub settings_path: PathBuf,
    /// The settings in force.
    pub settings: Settings,
    /// How the other node is reached.
    pub way: Way,
}

impl Context {
    /// Reads the settings: the given file, or the usual one below the root. They say which release of the distribution
    /// this node is.
    pub fn load(
        distribution: &'static dyn Distribution,
        root: Root,
        config: Option<PathBuf>,
    ) -> Result<Context, Failure> {
        if let Some(path) = config.as_ref().filter(|path| !path.exists()) {
            tracing::warn!("{}: no such file, the defaults hold", path.display());
        }
        let settings_path = config.unwrap_or_else(|| root.path(settings::DEFAULT_PATH));
        let distribution = settings::release(&settings_path, distribution).map_err(Failure::usage)?;
        let settings = Settings::load(&settings_path, distribution.profile()).map_err(Failure::usage)?;
        Ok(Context { distribution, root, settings_path, settings, way: Way::default() })
    }

    /// With the defaults for settings, whatever the file says but for the release, if that can be read: for looking at a
    /// node whose settings cannot be read.
    pub fn with_defaults(
        distribution: &'static dyn Distribution,
        root: Root,
        config: Option<PathBuf>,
    ) -> Context {
        let settings_path = config.unwrap_or_else(|| root.path(settings::DEFAULT_PATH));
        let distribution = settings::release(&settings_path, distribution).unwrap_or(distribution);
        let settings = Settings::defaults(distribution.profile());
        Context { distribution, root, settings_path, settings, way: Way::default() }
    }

    /// The same node with its settings as they are now. How the other node is reached is no setting, and another release
    /// would be another PBX.
    pub fn reread(&self) -> Result<Context, Failure> {
        let settings =
            Settings::load(&self.settings_path, self.distribution.profile()).map_err(Failure::usage)?;
        if settings.release != self.settings.release {
            let path = self.settings_path.display();
            return Err(Failure::usage(format!(
                "{path}: release: a process that runs keeps the release that it was started with: end it, and start it again"
            )));
        }
        Ok(Context { settings, ..self.clone() })
    }

    /// The distribution's constants.
    pub fn profile(&self) -> &'static Profile {
        self.distribution.profile()
    }

    /// What the role file says.
    pub fn role(&self) -> Result<RoleConfig, Failure> {
        let path = self.root.path(self.profile().role_file);
        let text = match std::fs::read(&path) {
            Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(Failure::environment(format!("{}: {error}", path.display()))),
        };
        self.distribution.parse_role(text.as_deref()).map_err(|error| match error {
            RoleError::BadFile { .. } => Failure::usage(error),
            // what is wrong is inside the file, so the file is named
            other => Failure::usage(format!(
                "{}: {other}; correct it, or remove it and run `configure`",
                path.display()
            )),
        })
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("distribution", &self.profile().name)
            .field("root", &self.root)
            .field("settings_path", &self.settings_path)
            .finish_non_exhaustive()
    }
}
