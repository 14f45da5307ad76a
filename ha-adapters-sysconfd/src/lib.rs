//! What Wazo and XiVO do alike, because both descend from the XiVO of 2016 and its daemon sysconfd: the form of the role
//! file, the scripts' cron lines, access to the slave's database, and the order of a role change.
//!
//! An adapter of such a distribution is a profile and a [`Sysconfd`] that says where it differs. No IO and nothing that
//! decides.
//!
//! | name | source |
//! | --- | --- |
//! | sysconfd | `wazo-sysconfd`, plugin `ha_config` |
//! | confd | `wazo-confd`, plugins `ha`, `registrar`, `device` |

#![forbid(unsafe_code)]
// test code may say what it expects
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod role_change;

use ha_core::{Effect, Profile, Role, RoleChange, RoleConfig, RoleError};

/// One descendant: what it has of the common ancestor's, and under which names.
#[derive(Debug, Clone, Copy)]
pub struct Sysconfd {
    /// Its constants: role file, service plan, SIP expiry and restart are taken from here.
    pub profile: &'static Profile,
    /// Files that tell the products' own scripts the role; `None`: its scripts know none.
    pub sentinels: Option<Sentinels>,
    /// The script that copies files, as the master's cron line calls it; `None`: no files are copied.
    pub file_sync: Option<&'static str>,
    /// Restarts PostgreSQL: a reload is not enough for `listen_addresses`.
    pub restart_database: &'static [&'static str],
    /// What a slave has in the product's own files, and no other role has.
    pub slave_lines: &'static [SlaveLine],
}

/// One line in a section of an ini file.
#[derive(Debug, Clone, Copy)]
pub struct SlaveLine {
    /// The file.
    pub path: &'static str,
    /// The section, without brackets.
    pub section: &'static str,
    /// The line. It is in force over the administrator's own, which stays.
    pub line: &'static str,
}

/// [`Sysconfd::restart_database`] where systemd runs it.
pub const SYSTEMD_RESTART_DATABASE: &[&str] = &["systemctl", "restart", "postgresql.service"];

/// Two empty files, of which a node has the one of its role.
#[derive(Debug, Clone, Copy)]
pub struct Sentinels {
    /// "This node is a master."
    pub primary: &'static str,
    /// "This node is a slave": without it the check script acts on nothing.
    pub secondary: &'static str,
}

impl Sentinels {
    fn of(&self, role: Role) -> Option<&'static str> {
        match role {
            Role::Disabled => None,
            Role::Master => Some(self.primary),
            Role::Slave => Some(self.secondary),
        }
    }
}

impl Sysconfd {
    /// The role that the role file names; `None` (no file, as on every new machine) is `disabled`.
    ///
    /// # Errors
    ///
    /// Name the file, what is wrong in it and what would be right.
    pub fn parse_role(&self, text: Option<&str>) -> Result<RoleConfig, RoleError> {
        ha_core::role_file::parse(self.profile.role_file, text)
    }

    /// Everything that a role change does, in the order in which it protects.
    pub fn apply_role(&self, change: &RoleChange<'_>) -> Vec<Effect> {
        role_change::apply(self, change)
    }
}
