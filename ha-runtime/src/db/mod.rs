//! The database's replication: two servers are compared by digests, and only rows that differ are written.
//!
//! One attempt, in order:
//!
//! 1. the source opens one read-only snapshot; the replica opens its transaction and takes the advisory lock
//!    [`ADVISORY_LOCK`], which a takeover holds while telephony runs there ([`Fence`]);
//! 2. both catalogs are read and compared ([`plan_tables`](ha_core::replication::tables::plan_tables)): another shape is
//!    refused before anything is touched;
//! 3. both servers compute the digests of all tables at once, but for large ones of which the replica has no row: these
//!    differ, and the source computes theirs while the replica writes the last of them;
//! 4. the tables that differ are locked against writers (readers go on), compared by digests of groups of rows, finer and
//!    finer, then of rows, all at the same time; the rows that differ are deleted and then copied anew, with triggers off;
//! 5. foreign keys between copied tables and those that stay are validated ([`Border`](ha_core::replication::tables::Border));
//! 6. the digests of the tables that were written must equal the source's, as wholes: a trigger or a rule that cannot be
//!    switched off could have changed any row of them; the [`CommitGate`] is asked; COMMIT.
//!
//! Whatever fails before COMMIT leaves the replica as it was. So does dropping the future. No dump, no temporary file of
//! ours, and no whole table in memory: rows stream from one server to the other.
//!
//! One connection to each server: PostgreSQL's own parallel workers, as many as the server is set to, share the digests
//! of large tables, so a second connection on an exported snapshot would gain nothing.
//!
//! # What the digests protect against
//!
//! A row's digest is one hash of 64 bits in which each column's hash is the seed of the next one's; a table's is the number
//! of its rows and the exact sum of theirs. They find every accident: a lost, doubled, cut or altered row, values that
//! moved from one column or row to another, a null for an empty text, in any order of rows; one in 2^64 passes unnoticed.
//! Values count as they are written, bytes and all: 1.0 is not 1.00, whatever the type or the collation calls equal
//! ([`Hashed`](ha_core::replication::tables::Hashed)). The physical order of columns does not count.
//!
//! They are not cryptographic, and need not be: who can choose the rows of the source can write the replica anyway. Not
//! covered: large objects, other schemas than `public`, the fields of composite types where they differ, and what the text of a value does not show. The hash functions are
//! those of one major version and one byte order; other versions are refused, and on a machine of the other byte order
//! every table would differ and the first replication be rolled back.

mod apply;
mod border;
mod catalog;
mod compare;
mod connect;
mod digest;
mod error;
mod fate;
mod fence;
mod gate;
mod idle;
mod narrow;
mod remembered;
mod replicate;
mod report;
mod session;
mod sql;

pub use catalog::catalog;
pub use connect::{ConnectError, Traffic, connect};
pub use error::{DbError, Fault};
pub use fate::{Fate, FateError, end_replications, fate, make_durable};
pub use fence::{Fence, FenceError};
pub use gate::{Changes, Counted, Gate, TableCounts};
pub use idle::{LEFT_OVER, end_idle};
pub use remembered::Remembered;
pub use replicate::{CommitGate, Options, Progress, Purpose, replicate};
pub use report::{BorderChange, DatabaseReport, Mode, TableChange};

/// `application_name` of a replication's connections: by it a takeover finds those that it must end.
pub const APPLICATION_NAME: &str = "pbx-ha replication";

/// `application_name` of the connection that holds a [`Fence`].
pub const FENCE_NAME: &str = "pbx-ha fence";

/// The advisory lock that replication and takeover contend for: the bytes of `pbx-ha.1`, 8098167216385633841.
///
/// A replication takes it for its transaction, a [`Fence`] for its session.
/// Part of the protocol between two releases of the program: it never changes.
pub const ADVISORY_LOCK: i64 = i64::from_be_bytes(*b"pbx-ha.1");

#[cfg(test)]
mod server;
#[cfg(test)]
pub(crate) use server::Server;
#[cfg(test)]
mod tests;
