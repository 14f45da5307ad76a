//! What goes wrong with the gate, and what others do to it.

use std::io;

/// Why the gate did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// This process came too late; nothing changed.
    #[error("the kernel opens nothing: the {0} had run out")]
    Refused(Spent),
    /// A part of the gate was taken away; nothing changed. [`Gate::build`](super::Gate::build) repairs it.
    #[error("a table of the gate is missing: somebody has taken it away")]
    Missing,
    /// Another process, which runs, has the owned copy; nothing changed.
    #[error("table pbx_ha_owned belongs to another process that runs")]
    Taken,
    /// The kernel or its nftables do not do this.
    #[error("cannot {action}: {source}")]
    System {
        /// What was to be done.
        action: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
}

/// What had run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    /// The permit: too much time between [`Gate::permit`](super::Gate::permit) and the grant.
    Permit,
    /// The lease: too much time since the last grant.
    Lease,
}

impl std::fmt::Display for Spent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Spent::Permit => "permit",
            Spent::Lease => "lease",
        })
    }
}

/// Something was done to the gate that this process did not do; the worse the later.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Disturbance {
    /// A table of the plain copy was changed or taken away; the owned copy is as it was made.
    Changed {
        /// By which process; 0: the kernel itself, as when the interface goes.
        process: u32,
        /// That process's name, as `ps` has it.
        name: String,
    },
    /// The owned copy was changed, which only the kernel itself can do.
    Undone,
    /// More was told than there was room for: what was done is not known.
    Unheard,
}
