//! What earlier replications left on the disk.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;

use super::Check;
use crate::context::Context;
use crate::durable::STATE_DIRECTORY;
use crate::node_state;
use crate::replicate;
use crate::sync::{TrashLimit, size_below};

/// The scripts' dumps, in the system's temporary directory. The first was never deleted (`domain.md` 2.6).
const DUMPS: [&str; 2] = ["out_master_backup.sql", "replication.sql"];
const TEMPORARY: [&str; 3] = ["/tmp", "/var/tmp", "/usr/tmp"];

/// Dumps with every secret of the PBX that anybody on this machine may read.
pub(super) fn dumps(context: &Context) -> Check {
    let mut open = Vec::new();
    let mut private = Vec::new();
    for directory in TEMPORARY {
        for name in DUMPS {
            let path = format!("{directory}/{name}");
            // not followed: what a link leads to has permissions of its own, and the link is no dump
            let Ok(meta) = fs::symlink_metadata(context.root.path(&path)) else { continue };
            let of = if meta.permissions().mode() & 0o044 != 0 { &mut open } else { &mut private };
            of.push(path);
        }
    }
    let todo =
        "delete them; they hold SIP secrets, password hashes and voicemail PINs, and nothing needs them";
    match (open.as_slice(), private.as_slice()) {
        ([], []) => Check::ok("left-over-dumps", "no dump of the scripts is left"),
        ([], private) => Check::warn("left-over-dumps", private.join(", "), todo),
        (open, _) => Check::fail("left-over-dumps", format!("world-readable: {}", open.join(", ")), todo),
    }
}

/// What replications deleted and kept for a while.
pub(super) fn trash(context: &Context) -> Option<Check> {
    let directory = format!("{STATE_DIRECTORY}/trash");
    let limit = TrashLimit::default().bytes;
    match size_below(&context.root.path(&directory)) {
        Ok(bytes) if bytes > limit => Some(Check::warn(
            "trash",
            format!("{directory} holds {} MiB, more than its limit of {} MiB", bytes >> 20, limit >> 20),
            "the next replication prunes it; when it does not, look at its warnings, or delete the oldest runs",
        )),
        Ok(bytes) => Some(Check::ok("trash", format!("{directory} holds {} MiB", bytes >> 20))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(Check::warn("trash", format!("{directory}: {error}"), "run `doctor` as root")),
    }
}

/// Whether a node that stands by may fetch.
pub(super) fn to_carry(context: &Context) -> Check {
    match node_state::now(context) {
        Ok(now) if now.active => {
            Check::ok("to-carry", "telephony is here, and what this node has is in force")
        }
        Ok(now) if now.owes => Check::warn(
            "to-carry",
            "what this node holds newer has not been carried to the other one: nothing is fetched before",
            "it is done as soon as the other node serves and can be reached; `replicate` does it now, and says why not",
        ),
        Ok(_) => Check::ok("to-carry", "nothing is here alone"),
        Err(failure) => Check::warn(
            "to-carry",
            failure.message,
            "correct what the finding names, then run `doctor` again",
        ),
    }
}

/// What was newer here and was not carried.
pub(super) fn set_aside(context: &Context) -> Check {
    let all = match replicate::set_aside(context) {
        Ok(all) => all,
        Err(failure) => return Check::warn("set-aside", failure.message, "run `doctor` as root"),
    };
    let found = all.iter().map(|(directory, count)| format!("{} with {count} files", directory.display()));
    match found.collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => Check::ok("set-aside", "nothing was set aside"),
        some => Check::warn(
            "set-aside",
            format!("{some}: this node held them newer, and the serving one's are in force"),
            "`manifest` there says why: put what is wanted in its place by hand, then delete the directory",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::super::testing::Place;
    use super::*;

    #[test]
    fn a_dump_that_the_scripts_left_fails_when_anybody_may_read_it() {
        let place = Place::new();
        assert_eq!(dumps(&place.context()).level, Level::Ok);
        let path = place.write("/var/tmp/replication.sql", "COPY");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(dumps(&place.context()).level, Level::Warn);
        let path = place.write("/tmp/out_master_backup.sql", "COPY");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let check = dumps(&place.context());
        assert_eq!(
            (check.level, check.finding.as_str()),
            (Level::Fail, "world-readable: /tmp/out_master_backup.sql")
        );
    }

    #[test]
    fn a_trash_above_its_limit_is_told() {
        let place = Place::new();
        assert_eq!(trash(&place.context()), None);
        let path = place.write("/var/lib/pbx-ha/trash/20261120T100000Z/greeting.wav", "RIFF");
        assert_eq!(trash(&place.context()).unwrap().level, Level::Ok);
        // sparse: its size counts, and costs nothing
        fs::File::options().write(true).open(path).unwrap().set_len(513 << 20).unwrap();
        assert_eq!(trash(&place.context()).unwrap().level, Level::Warn);
    }
}
