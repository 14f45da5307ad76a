//! What `/etc/asha.conf` says is copied, and what follows.

use std::time::Duration;

use ha_core::carry::Carried;
use ha_core::distribution::Synch;
use ha_core::effect::{Command, OnFailure};
use ha_core::replication::copying::{Copied, Copying, NotSaid};

use crate::asha_conf::{AshaConf, PATH};

/// `srkgenAst` writes all of Asterisk's configuration anew.
const POST_SYNC_TIMEOUT: Duration = Duration::from_secs(60);
/// Asterisk's locks of a mailbox's folder, in both of its ways: they are of the Asterisk that runs, and of no other.
const LOCKS: [&str; 5] = [".lock*", "*/.lock*", "*/*/.lock*", "*/*/*/.lock*", "*/*/*/lock"];
/// Asterisk counts the messages of each mailbox that voicemail.conf names when it reads that anew, and tells phones of it.
const RELOAD: [&str; 3] = ["asterisk", "-rx", "voicemail reload"];
const RELOAD_TIMEOUT: Duration = Duration::from_secs(10);
/// What `srkgenAst` makes of the database, beside it (`domain.md` 5.4).
const READ_ONLY_COPY: &str = "sark.rdonly.db";

/// SARK's page, "Synchronisation": the database, greetings, Asterisk's configuration, voicemail, and what is set beside
/// them.
pub(crate) fn of(conf: Option<&str>) -> Result<Copying, NotSaid> {
    let not_said = |why: String| NotSaid { file: PATH, why };
    let conf = AshaConf::parse(conf.unwrap_or_default()).map_err(|error| {
        let said = error.to_string();
        not_said(said.strip_prefix(&format!("{PATH}: ")).map(str::to_owned).unwrap_or(said))
    })?;
    let held = conf.directories();
    let inside = |outer: &str| conf.voicemail.strip_prefix(&format!("{}/", outer.trim_end_matches('/')));
    let trees = held.iter().filter(|(_, directory)| *directory != conf.voicemail).map(|(key, directory)| {
        let mut tree = Copied::whole(*directory);
        if let Copied::Tree { exclude, carried, .. } = &mut tree {
            // messages are told apart by what they are, which needs a tree of their own
            exclude.extend(inside(directory).map(str::to_owned));
            *carried = if *key == "GREETINGS" { Carried::NewFiles } else { Carried::Nothing };
        }
        tree
    });
    let voicemail = Copied::Tree {
        root: conf.voicemail.clone(),
        only: Vec::new(),
        exclude: LOCKS.map(str::to_owned).to_vec(),
        carried: Carried::Messages,
    };
    let database = Copied::Sqlite { path: conf.database.clone(), derived: vec![READ_ONLY_COPY.to_owned()] };
    Ok(Copying {
        by_hand_only: (conf.shared.synch == Synch::Loose).then(|| format!("HASYNCH is LOOSE in {PATH}")),
        datasets: [database].into_iter().chain(trees).chain([voicemail]).collect(),
        ssh_port: Some(conf.ssh_port),
        locking: Some(format!("{}/asterisk.conf", conf.asterisk.trim_end_matches('/'))),
        after_messages: Some(Command {
            argv: RELOAD.map(str::to_owned).to_vec(),
            timeout: RELOAD_TIMEOUT,
            on_failure: OnFailure::GoOn,
        }),
        afterwards: Some(Command {
            argv: vec![conf.post_sync.clone()],
            timeout: POST_SYNC_TIMEOUT,
            on_failure: OnFailure::GoOn,
        }),
    })
}

#[cfg(test)]
mod tests {
    use ha_core::replication::filter::{Filter, Verdict};
    use ha_core::replication::path::RelPath;

    use super::*;

    fn roots(copying: &Copying) -> Vec<&str> {
        copying.datasets.iter().map(root).collect()
    }

    fn root(copied: &Copied) -> &str {
        match copied {
            Copied::Tree { root, .. } => root,
            Copied::Sqlite { path, .. } => path,
        }
    }

    #[test]
    fn without_a_file_the_defaults_of_the_page_are_copied() {
        let copying = of(None).unwrap();
        assert_eq!(
            roots(&copying),
            [
                "/opt/sark/db/sark.db",
                "/var/lib/asterisk/sounds",
                "/etc/asterisk",
                "/var/spool/asterisk/voicemail"
            ]
        );
        assert_eq!((copying.by_hand_only, copying.ssh_port), (None, Some(22)));
        assert_eq!(copying.afterwards.unwrap().argv, ["/opt/sark/scripts/srkgenAst"]);
    }

    #[test]
    fn what_the_administrator_set_is_copied_as_well() {
        let copying = of(Some("OTHER2=/srv/recordings\nTELEPHONY=/etc/dahdi\nPOSTSYNC=/opt/gen\n")).unwrap();
        assert!(roots(&copying).contains(&"/srv/recordings"));
        assert!(roots(&copying).contains(&"/etc/dahdi"));
        assert_eq!(copying.afterwards.unwrap().argv, ["/opt/gen"]);
    }

    fn carried(copying: &Copying) -> Vec<(&str, Carried)> {
        let trees = copying.datasets.iter().filter_map(|copied| match copied {
            Copied::Tree { root, carried, .. } => Some((root.as_str(), *carried)),
            Copied::Sqlite { .. } => None,
        });
        trees.collect()
    }

    #[test]
    fn messages_and_new_greetings_are_carried_and_no_lock_is_copied() {
        let copying = of(None).unwrap();
        let expected = [
            ("/var/lib/asterisk/sounds", Carried::NewFiles),
            ("/etc/asterisk", Carried::Nothing),
            ("/var/spool/asterisk/voicemail", Carried::Messages),
        ];
        assert_eq!(carried(&copying), expected);
        let Some(Copied::Tree { only, exclude, .. }) = copying.datasets.last() else { panic!("{copying:?}") };
        let filter = Filter::new(only, exclude).unwrap();
        for lock in ["default/601/INBOX/.lock", "default/601/INBOX/.lock-5f3a", "default/601/INBOX/lock"] {
            assert_eq!(filter.verdict(&RelPath::new(lock).unwrap()), Verdict::Excluded, "{lock}");
        }
        for other in ["default/601/INBOX/msg0000.txt", "default/601/lock", "default/lock/INBOX/msg0000.txt"] {
            assert_eq!(filter.verdict(&RelPath::new(other).unwrap()), Verdict::Copied, "{other}");
        }
        assert_eq!(copying.locking.as_deref(), Some("/etc/asterisk/asterisk.conf"));
    }

    #[test]
    fn voicemail_inside_another_directory_is_a_tree_of_its_own() {
        let copying = of(Some("OTHER1=/var/spool/asterisk\n")).unwrap();
        let expected = [
            ("/var/lib/asterisk/sounds", Carried::NewFiles),
            ("/etc/asterisk", Carried::Nothing),
            ("/var/spool/asterisk", Carried::Nothing),
            ("/var/spool/asterisk/voicemail", Carried::Messages),
        ];
        assert_eq!(carried(&copying), expected);
        let outer = Copied::Tree {
            root: "/var/spool/asterisk".to_owned(),
            only: Vec::new(),
            exclude: vec!["voicemail".to_owned()],
            carried: Carried::Nothing,
        };
        assert!(copying.datasets.contains(&outer), "{copying:?}");
    }

    #[test]
    fn loose_copies_by_hand_only() {
        let why = of(Some("HASYNCH=LOOSE\n")).unwrap().by_hand_only;
        assert_eq!(why.unwrap(), "HASYNCH is LOOSE in /etc/asha.conf");
    }

    #[test]
    fn a_file_that_cannot_be_read_says_where_and_why() {
        let error = of(Some("HASYNCH=SOMETIMES\n")).unwrap_err();
        assert_eq!(error.file, "/etc/asha.conf");
        assert!(error.why.starts_with("line 1: HASYNCH=SOMETIMES"), "{error}");
    }
}
