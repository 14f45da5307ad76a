//! What can go wrong with a replication, sorted by whose fault it is; each says in which state things are.

use std::fmt;

use ha_core::replication::tables::SchemaDrift;
use thiserror::Error;
use tokio_postgres::error::SqlState;

/// Why a replication did not happen. But for [`DbError::CommitUnknown`] the replica is as it was.
#[derive(Debug, Error)]
pub enum DbError {
    /// Refused: the nodes run different releases.
    #[error("replication refused: {0}")]
    Drift(#[from] SchemaDrift),
    /// Refused: the replica's node has taken over.
    #[error(
        "replication refused: telephony is active on the other node, which holds its database's fence; \
         nothing was touched; it will be possible again after the failback"
    )]
    Fenced,
    /// Refused by the [`CommitGate`](super::CommitGate).
    #[error("replication refused before COMMIT: {0}; rolled back, the slave's database is unchanged")]
    Refused(String),
    /// Someone held a lock for longer than all attempts waited.
    #[error(
        "{what} on the slave was held by another session for the whole of {attempts} attempts; \
         rolled back, the slave's database is unchanged; end the transaction that writes there"
    )]
    Locked {
        /// The table, row or lock.
        what: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// Someone held a lock on the master, or rewrote a table there, during each attempt.
    #[error(
        "the master's database did not come to rest in {attempts} attempts ({what}); rolled back, the slave's database is \
         unchanged; wait until the migration or maintenance there has ended"
    )]
    Restless {
        /// What was in the way of the last attempt.
        what: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// A table of the source was rewritten, emptied or made anew after the snapshot was opened, which sees none of its rows.
    #[error(
        "table \"{table}\" was rewritten on the master meanwhile; rolled back, the slave's database is unchanged"
    )]
    Remade {
        /// Which.
        table: String,
    },
    /// Copied rows would reference rows that the replica does not have, or rows that stay would lose their reference and
    /// their foreign key forbids it.
    #[error(
        "table \"{table}\": {rows} rows would reference missing rows of \"{references}\" ({key}); \
         rolled back, the slave's database is unchanged; delete these rows, or exclude both tables or none"
    )]
    Dangling {
        /// The referencing table.
        table: String,
        /// The referenced table.
        references: String,
        /// The foreign key's name.
        key: String,
        /// How many rows.
        rows: u64,
    },
    /// After the rows were written the table was still not equal to the source's.
    #[error(
        "table \"{table}\": its digest differs from the master's after the copy; \
         rolled back, the slave's database is unchanged; look for triggers or rules that write this table"
    )]
    NotEqual {
        /// Which.
        table: String,
    },
    /// The master's server or the way to it.
    #[error("the master's database: {0}; the slave's database is unchanged")]
    Source(Fault),
    /// The master's server keeps no statistics, so nothing is known of what changed.
    #[error(
        "the master's database counts nothing, so a change cannot be seen without computing all digests; \
         nothing was done; set track_counts = on in postgresql.conf, as it is by default, and reload"
    )]
    NotCounted,
    /// The slave's server or the way to it.
    #[error("the slave's database: {0}; rolled back, it is unchanged")]
    Replica(Fault),
    /// The replica's connection ended before COMMIT was sent, as a takeover ends it.
    #[error(
        "the slave's server ended this replication, as a takeover does; the slave's database is unchanged"
    )]
    Ended,
    /// The connection was lost after COMMIT was sent and before its answer.
    #[error(
        "the connection to the slave was lost while it committed ({0}): it has either all of the changes or none; \
         the next replication finds out"
    )]
    CommitUnknown(Fault),
}

impl DbError {
    /// Whether a guard refused, rather than the environment having failed (exit code 3 rather than 1).
    pub fn is_refusal(&self) -> bool {
        match self {
            DbError::Drift(_) | DbError::Fenced | DbError::Refused(_) => true,
            DbError::Locked { .. }
            | DbError::Restless { .. }
            | DbError::Remade { .. }
            | DbError::Dangling { .. }
            | DbError::NotEqual { .. }
            | DbError::Source(_)
            | DbError::NotCounted
            | DbError::Replica(_)
            | DbError::Ended
            | DbError::CommitUnknown(_) => false,
        }
    }

    /// A closure that makes an error of the source's server.
    pub(super) fn source(doing: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> DbError {
        let doing = doing.into();
        move |error| DbError::Source(Fault::new(doing, error))
    }

    /// A closure that makes an error of the replica's server.
    pub(super) fn replica(doing: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> DbError {
        let doing = doing.into();
        move |error| match error.code() {
            Some(&SqlState::ADMIN_SHUTDOWN) => DbError::Ended,
            None if error.is_closed() => DbError::Ended,
            _ => DbError::Replica(Fault::new(doing, error)),
        }
    }

    /// What another session holds or changed, and where, when that is all that is wrong and another attempt may succeed.
    pub(super) fn held(&self) -> Option<(Side, String)> {
        match self {
            DbError::Replica(fault) if fault.is_contention() => Some((Side::Replica, fault.doing.clone())),
            DbError::Source(fault) if fault.is_contention() => Some((Side::Source, fault.to_string())),
            DbError::Remade { table } => Some((Side::Source, format!("table \"{table}\" was rewritten"))),
            _ => None,
        }
    }
}

/// What a server or the way to it answered while something was done.
///
/// Its text never holds the content of rows: PostgreSQL's `DETAIL` does, and is left out.
#[derive(Debug)]
pub struct Fault {
    doing: String,
    error: tokio_postgres::Error,
}

impl Fault {
    pub(super) fn new(doing: impl Into<String>, error: tokio_postgres::Error) -> Fault {
        Fault { doing: doing.into(), error }
    }

    /// The server's code for it, when it was the server that answered.
    pub fn code(&self) -> Option<&SqlState> {
        self.error.code()
    }

    fn is_contention(&self) -> bool {
        let transient = [
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::T_R_SERIALIZATION_FAILURE,
        ];
        self.code().is_some_and(|code| transient.contains(code))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(answer) = self.error.as_db_error() else {
            let cause = std::error::Error::source(&self.error);
            return match cause {
                Some(cause) => write!(f, "{}: {} ({cause})", self.doing, self.error),
                None => write!(f, "{}: {}", self.doing, self.error),
            };
        };
        write!(f, "{}: {} (SQLSTATE {})", self.doing, answer.message(), answer.code().code())
    }
}

impl std::error::Error for Fault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The one that is read.
    Source,
    /// The one that is written.
    Replica,
}

impl Side {
    /// That server's error.
    pub(super) fn error(self, doing: &str, error: tokio_postgres::Error) -> DbError {
        match self {
            Side::Source => DbError::source(doing)(error),
            Side::Replica => DbError::replica(doing)(error),
        }
    }
}
