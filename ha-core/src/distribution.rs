//! The whole surface of an adapter.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::cluster::heartbeat;
use crate::effect::Effect;
use crate::follow::{Edge, EnvFile, Followers, Side, Step};
use crate::profile::Profile;
use crate::replication::copying::{Copying, NotSaid};
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

    /// What the pair shares once this node is `to`: what its file [`Profile::conf_file`] says (`None`: there is none),
    /// with what is wished. `node` is this machine's name (`uname -n`). `None`: the pair shares nothing.
    ///
    /// # Errors
    ///
    /// The file or the wish says what cannot be; what would be right. Nothing is changed.
    fn share(
        &self,
        _conf: Option<&str>,
        _wish: &Wish,
        _to: &RoleConfig,
        _node: &str,
    ) -> Result<Option<Shared>, ShareError> {
        Ok(None)
    }

    /// Whether a failover card has to switch the lines to the node that serves, by what its file says.
    fn has_failover_card(&self, _conf: &str) -> bool {
        false
    }

    /// Whether telephony that died may be started again where it was, when the other node cannot take over, by what its
    /// file says.
    fn restarts_alone(&self, _conf: &str) -> bool {
        false
    }

    /// Heartbeat's files on a node of that pair; `key` is the text of the pair's key file.
    ///
    /// # Errors
    ///
    /// What Heartbeat's files cannot hold, and what would be right; or that this distribution knows no Heartbeat.
    fn heartbeat(&self, _pair: &heartbeat::Pair<'_>, _key: &str) -> Result<heartbeat::Files, ShareError> {
        let name = self.profile().name;
        Err(ShareError(format!("{name} knows no Heartbeat: set [cluster] kind = \"native\"")))
    }

    /// What brings telephony to `to` on a node of that role.
    fn set_services(&self, to: ServiceState, _role: Role) -> Vec<Effect> {
        self.profile().set_services(to)
    }

    /// What is copied. `conf`: the text of [`Profile::conf_file`]; `None`: there is no such file.
    ///
    /// Both nodes ask it, each of its own file: what only one of them names is not copied, and refused by its name.
    fn copying(&self, _conf: Option<&str>) -> Result<Copying, NotSaid> {
        Ok(Copying::from(self.profile()))
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

/// What the nodes of a pair with one address must agree on; the product's own file has it too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// The address that phones know; `None`: there is no cluster.
    pub cluster_ip: Option<IpAddr>,
    /// What `uname -n` says on the node that serves in peace.
    pub primary_node: String,
    /// What it says on the other one.
    pub standby_node: String,
    /// Whether anything is copied.
    pub synch: Synch,
}

/// `HASYNCH` (`domain.md` 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Synch {
    /// The node that does not serve fetches what the other one has.
    Lazy,
    /// Nothing is copied.
    Loose,
}

/// What is to become of [`Shared`]; `None`: it stays as the product's file has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// See [`Shared::cluster_ip`].
    pub cluster_ip: Option<IpAddr>,
    /// See [`Shared::primary_node`].
    pub primary_node: Option<String>,
    /// See [`Shared::standby_node`].
    pub standby_node: Option<String>,
    /// See [`Shared::synch`].
    pub sync: Option<Synch>,
}

/// What the pair would share cannot be: which value, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ShareError(pub String);

/// A role change and the settings that it depends on.
#[derive(Debug, Clone, Copy)]
pub struct RoleChange<'a> {
    /// What the node is.
    pub from: &'a RoleConfig,
    /// What it is to be.
    pub to: &'a RoleConfig,
    /// What [`Distribution::share`] gave for it.
    pub shared: Option<&'a Shared>,
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
