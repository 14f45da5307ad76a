//! Whether the kernel lets the daemon watch what it replicates.

use ha_core::replication::listing::{DirectoryId, Listing, Side};
use ha_core::replication::path::RelPath;

use super::Check;
use crate::context::Context;
use crate::replicate;
use crate::sync::{Digests, scan};

/// The kernel's limit for all programs of one user, on this machine whatever the root is.
const LIMIT: &str = "/proc/sys/fs/inotify/max_user_watches";

/// One watch is needed for each directory. `None`: nobody wants to watch.
pub(super) fn watches(context: &Context) -> Option<Check> {
    if !context.settings.replication.on_change {
        return None;
    }
    Some(match (directories(context), limit()) {
        (Ok(needed), Ok(limit)) => judge(needed, limit),
        (Err(why), _) | (_, Err(why)) => Check::not_checked("watches", &why),
    })
}

fn judge(needed: u64, limit: u64) -> Check {
    let finding = format!("{needed} directories are to be watched, and {LIMIT} is {limit}");
    // other programs of the same user watch something, too
    let wanted = needed.saturating_mul(2);
    if limit >= wanted {
        return Check::ok("watches", finding);
    }
    let wanted = wanted.max(65536);
    let todo = format!(
        "write fs.inotify.max_user_watches={wanted} to /etc/sysctl.d/50-pbx-ha.conf and run `sysctl --system`; until then \
         changes of files may wait for the schedule"
    );
    Check::warn("watches", finding, todo)
}

fn limit() -> Result<u64, String> {
    let text = std::fs::read_to_string(LIMIT).map_err(|error| format!("{LIMIT}: {error}"))?;
    text.trim().parse().map_err(|_| format!("{LIMIT}: \"{}\" is no number", text.trim()))
}

fn directories(context: &Context) -> Result<u64, String> {
    let trees = replicate::trees(context).map_err(|failure| failure.message)?;
    let counts = trees.iter().map(|tree| {
        let listing = scan(tree, Digests::No, Side::Source).map_err(|error| error.to_string())?.listing;
        Ok(listing.find(&RelPath::root()).map_or(0, |root| below(&listing, root)))
    });
    counts.sum()
}

/// This directory and those below it. As deep as a scan goes, which has a limit.
fn below(listing: &Listing, directory: DirectoryId) -> u64 {
    let inside = listing.children(directory).filter_map(|child| child.directory);
    1 + inside.map(|one| below(listing, one)).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_limit_that_leaves_nothing_to_other_programs_is_told() {
        assert_eq!(judge(2500, 5000).level, Level::Ok);
        let check = judge(2500, 4999);
        assert_eq!(check.level, Level::Warn);
        assert!(check.finding.contains("2500 directories") && check.finding.contains("4999"), "{check:?}");
        let check = judge(100_000, 8192);
        assert!(format!("{check:?}").contains("max_user_watches=200000"), "{check:?}");
    }

    #[test]
    fn the_kernel_tells_its_limit() {
        assert!(limit().unwrap() > 0);
    }
}
