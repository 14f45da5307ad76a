//! How much one replication may remove.

use thiserror::Error;

/// Amounts of a plan. Whole entries, directories not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// What the source has, of what takes part.
    pub source: u64,
    /// What the replica has, of what takes part.
    pub replica: u64,
    /// What the replica loses.
    pub deleted: u64,
}

/// Limits on what one replication may remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeleteGuard {
    /// Of the replica's files, 0 to 100; 0: none may go. Looked at above [`DeleteGuard::SPARED`] deletions.
    pub max_percent: u8,
    /// Files.
    pub max_files: u64,
}

/// A guard refuses; the replica is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refused {
    /// Nothing to copy, but something to lose.
    #[error(
        "the source is missing or empty and the replica has {0} files: is something not mounted there? \
         If it really is to be emptied, empty it on the replica by hand"
    )]
    SourceEmpty(u64),
    /// More deletions than the settings allow.
    #[error(
        "{deleted} of {replica} files would be deleted ({percent} %), {allowed} are allowed: if that is meant, raise \
         max_delete_percent or max_delete_files for this run"
    )]
    TooManyDeletions {
        /// Files that would go.
        deleted: u64,
        /// Files that are there.
        replica: u64,
        /// The share, rounded up.
        percent: u64,
        /// Files that may go.
        allowed: u64,
    },
}

impl DeleteGuard {
    /// Deletions that no percentage refuses: in a tree of four files, one is a quarter.
    pub const SPARED: u64 = 2;

    /// Whether a plan with these amounts may be executed.
    pub fn check(&self, counts: Counts) -> Result<(), Refused> {
        let Counts { source, replica, deleted } = counts;
        if source == 0 && deleted > 0 {
            return Err(Refused::SourceEmpty(replica));
        }
        let share = replica.saturating_mul(self.max_percent.min(100).into()) / 100;
        let spared = if self.max_percent == 0 { 0 } else { DeleteGuard::SPARED };
        let allowed = self.max_files.min(share.max(spared));
        if deleted > allowed {
            let percent = deleted.saturating_mul(100).div_ceil(replica.max(1));
            return Err(Refused::TooManyDeletions { deleted, replica, percent, allowed });
        }
        Ok(())
    }
}

impl Default for DeleteGuard {
    fn default() -> DeleteGuard {
        DeleteGuard { max_percent: 20, max_files: 1000 }
    }
}

impl Counts {
    /// Both amounts together.
    pub fn and(self, other: Counts) -> Counts {
        Counts {
            // the replica's numbers are a peer's word
            source: self.source.saturating_add(other.source),
            replica: self.replica.saturating_add(other.replica),
            deleted: self.deleted.saturating_add(other.deleted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_names_what_it_counted_and_what_lifts_it() {
        let guard = DeleteGuard { max_percent: 20, max_files: 1000 };
        let counts = |source, replica, deleted| Counts { source, replica, deleted };
        assert_eq!(guard.check(counts(80, 100, 20)), Ok(()));
        let error = guard.check(counts(79, 100, 21)).unwrap_err();
        assert_eq!(error, Refused::TooManyDeletions { deleted: 21, replica: 100, percent: 21, allowed: 20 });
        assert!(error.to_string().contains("max_delete_percent"), "{error}");
        assert!(guard.check(counts(9000, 10_000, 1001)).is_err());
        // one of four is 25 %, and still an ordinary day
        assert_eq!(guard.check(counts(3, 4, 1)), Ok(()));
        assert!(DeleteGuard { max_percent: 0, max_files: 1000 }.check(counts(3, 4, 1)).is_err());
        assert_eq!(guard.check(counts(0, 1, 1)), Err(Refused::SourceEmpty(1)));
        assert_eq!(guard.check(counts(0, 0, 0)), Ok(()));
    }
}
