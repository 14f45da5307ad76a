//! What every verb needs: the distribution, the root and the settings.

use std::path::PathBuf;
use std::sync::Arc;

use ha_core::node::Exclusive;
use ha_core::watchdog::WatchdogPolicy;
use ha_core::{Distribution, Policy, Profile, RoleConfig, RoleError, Zone, budget};

use crate::report::Failure;
use crate::root::Root;
use crate::settings::{self, Preset, Settings};
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

    /// The text of the product's own file with what the pair shares; `None`: there is none.
    pub fn product_file(&self) -> Result<Option<String>, Failure> {
        let Some(file) = self.profile().conf_file else { return Ok(None) };
        let path = self.root.path(file);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::environment(format!("{}: {error}", path.display()))),
        }
    }

    /// What this node decides by, in this time zone. Reads the product's file where a pair shares an address.
    pub fn policy(&self, zone: Arc<dyn Zone>) -> Policy {
        let policy = self.settings.policy(zone);
        if !self.profile().exclusive_address {
            return policy;
        }
        // such a pair has no cron lines of scripts, so that the daemon replicates with any preset
        let schedule = Some(self.settings.replication.schedule.clone());
        Policy { exclusive: Some(self.exclusive()), schedule, ..policy }
    }

    fn exclusive(&self) -> Exclusive {
        let profile = self.profile();
        let restart_alone = match self.settings.preset {
            // whoever cannot hand over serves nobody by lying still
            Preset::Modern => true,
            Preset::Seed => {
                let conf = self.product_file().unwrap_or_else(|failure| {
                    tracing::warn!("{failure}: telephony that dies is not started again where it was");
                    None
                });
                conf.is_some_and(|conf| self.distribution.restarts_alone(&conf))
            }
        };
        let grace = budget::start_worst(&profile.services);
        let watchdog = profile.watchdog.then(|| WatchdogPolicy::modern(grace));
        Exclusive { restart_alone, watchdog }
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
