//! File replication: trees are scanned into listings, whose digests lead to what differs, and the plan of
//! [`ha_core::replication::plan`] for that is carried out.
//!
//! The near end sends what the plan says; the far end first receives every content beside its place, then, in one go and
//! only if nothing changed its mind meanwhile, renames all of it.

mod apply;
mod delta;
mod error;
mod incoming;
mod intent;
mod known;
mod left_out;
mod link;
mod meta;
mod push;
mod rehearsal;
mod replica;
mod scan;
mod settle;
mod source;
mod sqlite;
mod stage;
mod trash;
mod tree;

pub(crate) use apply::Stopped;
pub use error::{SyncError, TreeError};
pub(crate) use incoming::{Incoming, ReceiveError};
pub(crate) use intent::{Decision, Draft, Intent, IntentDirectory, Sealed};
pub use known::KnownTree;
pub(crate) use known::fingerprint;
pub(crate) use link::{Link, read_frame, write_frame};
pub(crate) use meta::{MASK as META, stat_fd};
pub use push::{Compare, FilesReport, Mode, Progress, PushOptions, StagedFiles, TreePlan};
pub(crate) use push::{plan_only, stage, stage_nothing};
pub use replica::Replica;
pub use scan::{Digests, Scan, scan};
pub(crate) use scan::{names, stamp};
pub(crate) use settle::{Ground, Occasion, Settled, Unsettled};
pub(crate) use sqlite::{COMPANIONS, SNAPSHOTS, snapshot};
pub(crate) use stage::Stage;
#[cfg(test)]
pub(crate) use trash::Trash;
pub use trash::TrashLimit;
pub(crate) use trash::size_below;
pub use tree::Tree;
pub(crate) use tree::{Cursor as TreeCursor, STAGE_PREFIX, absent, to_path};

#[cfg(test)]
mod tests;
