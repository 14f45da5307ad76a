//! The whole surface of an adapter.

use crate::effect::Effect;
use crate::follow::{Edge, EnvFile, Followers, Side, Step};
use crate::profile::Profile;
use crate::role::{Role, RoleConfig, RoleError};

/// Whether telephony runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceState {
    /// Phones are answered here.
    Running,
    /// They are not.
    Stopped,
}

/// A PBX distribution: constants, a parser and two lowerings. Synchronous, without IO.
pub trait Distribution: Send + Sync {
    /// Its constants.
    fn profile(&self) -> &'static Profile;

    /// Reads the role file's text; `None`: there is no such file.
    ///
    /// Errors name the file and what would be right.
    fn parse_role(&self, text: Option<&str>) -> Result<RoleConfig, RoleError>;

    /// Everything that a role change does, in the order in which it protects.
    fn apply_role(&self, change: &RoleChange<'_>) -> Vec<Effect>;

    /// What brings telephony to `to` on a node of that role.
    fn set_services(&self, to: ServiceState, _role: Role) -> Vec<Effect> {
        self.profile().set_services(to)
    }

    /// Other releases of it that differ, by the word that `release` in the settings takes.
    fn releases(&self) -> &'static [(&'static str, &'static dyn Distribution)] {
        &[]
    }

    /// What must be done, and in which order, so that everything beside the pair follows telephony to `side`.
    fn runbook(&self, _followers: &Followers, _side: Side) -> Vec<Step> {
        Vec::new()
    }

    /// How the Edge's file names the side that serves; `None`: there is no Edge with this distribution.
    ///
    /// Its addresses are checked where the settings are read.
    fn edge(&self, _edge: &Edge) -> Option<EnvFile> {
        None
    }
}

/// A role change and the settings that it depends on.
#[derive(Debug, Clone, Copy)]
pub struct RoleChange<'a> {
    /// What the node is.
    pub from: &'a RoleConfig,
    /// What it is to be.
    pub to: &'a RoleConfig,
    /// Whether the scripts' cron lines are wanted (the `seed` preset; a running daemon needs none).
    pub cron: bool,
    /// Whether the master reaches the slave's PostgreSQL over TCP, so that the slave must let it in.
    pub database_over_tcp: bool,
    /// Whether SIP expiry and registrars are ours to set.
    pub manage_pbx: bool,
    /// Whether the restarts that the documents order are wanted now.
    pub restart_services: bool,
    /// Whether all devices are to fetch their configuration again now.
    pub resync: bool,
}
