//! What a replication is to do, and how it ended.

use std::net::IpAddr;
use std::time::Duration;

use ha_core::event::Replicated;
use serde::{Deserialize, Serialize};

use crate::report::{Failure, Verdict};

/// What is to be sent, and to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    /// The slave.
    pub peer: IpAddr,
    /// Trees.
    pub files: Scope,
    /// Tables.
    pub database: Scope,
    /// Everything, whatever times and digests say.
    pub full: bool,
    /// Only plan.
    pub dry_run: bool,
    /// A person, or cron, asked for it.
    pub by_hand: bool,
}

/// What a job does about one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Nothing, and nothing is said about it.
    LeftOut,
    /// It is compared unless both sides are known not to have changed since that was done last.
    IfChanged,
    /// It is compared with the slave's, and what differs is sent.
    Compared,
}

/// How a replication ended.
#[derive(Debug)]
pub struct Ended {
    /// What is said of it.
    pub verdict: Verdict,
    /// For the node.
    pub how: Replicated,
    /// Without the wait for another one.
    pub took: Duration,
    /// What this node held newer and was not carried.
    pub set_aside: SetAside,
    /// Nothing failed: what this node holds newer waits until the other one serves.
    pub waits: bool,
}

/// What a node that returned keeps beside, of things that the serving one does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetAside {
    /// Nothing.
    Nothing,
    /// No more than before.
    AsBefore,
    /// More: a sentence with its place and how much it is.
    More(String),
}

impl Ended {
    /// Before anything was attempted, or not as it should.
    pub(crate) fn not_begun(failure: Failure) -> Ended {
        let (how, set_aside) = (Replicated::Failed, SetAside::AsBefore);
        Ended { verdict: Err(failure), how, took: Duration::ZERO, set_aside, waits: false }
    }
}

impl Job {
    /// Both parts, only what differs.
    pub fn all(peer: IpAddr) -> Job {
        Job {
            peer,
            files: Scope::Compared,
            database: Scope::Compared,
            full: false,
            dry_run: false,
            by_hand: false,
        }
    }

    /// Both parts, as far as they changed.
    pub fn changes(peer: IpAddr) -> Job {
        Job { files: Scope::IfChanged, database: Scope::IfChanged, ..Job::all(peer) }
    }

    /// Whether it has not failed but waits: after each recovery the slave serves until the failback, and what changes
    /// meanwhile comes then.
    pub(super) fn waits(&self, how: Replicated) -> bool {
        let after_a_change = self.files != Scope::Compared && self.database != Scope::Compared;
        after_a_change && how == Replicated::SlaveServes
    }
}

impl Scope {
    /// Whether the part is to be compared, when the slave is known to have it, or not.
    pub(super) fn is_due(self, is_known: bool) -> bool {
        match self {
            Scope::LeftOut => false,
            Scope::IfChanged => !is_known,
            Scope::Compared => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_change_waits_and_only_for_a_slave_that_serves() {
        let scopes = [Scope::LeftOut, Scope::IfChanged, Scope::Compared];
        for (files, database) in scopes.iter().flat_map(|files| scopes.map(|database| (*files, database))) {
            let job = Job { files, database, ..Job::all([10, 0, 0, 1].into()) };
            let compares = [files, database].contains(&Scope::Compared);
            for how in [Replicated::Done { generation: 7 }, Replicated::SlaveServes, Replicated::Failed] {
                assert_eq!(job.waits(how), !compares && how == Replicated::SlaveServes, "{job:?}, {how:?}");
            }
        }
    }
}
