//! What `/etc/asha.conf` says is copied, and what follows.

use std::time::Duration;

use ha_core::distribution::Synch;
use ha_core::effect::{Command, OnFailure};
use ha_core::replication::copying::{Copied, Copying, NotSaid};

use crate::asha_conf::{AshaConf, PATH};

/// `srkgenAst` writes all of Asterisk's configuration anew.
const POST_SYNC_TIMEOUT: Duration = Duration::from_secs(60);
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
    let database = Copied::Sqlite { path: conf.database.clone(), derived: vec![READ_ONLY_COPY.to_owned()] };
    let trees = conf.directories().into_iter().map(|(_, directory)| Copied::whole(directory));
    Ok(Copying {
        by_hand_only: (conf.shared.synch == Synch::Loose).then(|| format!("HASYNCH is LOOSE in {PATH}")),
        datasets: [database].into_iter().chain(trees).collect(),
        afterwards: Some(Command {
            argv: vec![conf.post_sync.clone()],
            timeout: POST_SYNC_TIMEOUT,
            on_failure: OnFailure::GoOn,
        }),
    })
}

#[cfg(test)]
mod tests {
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
        assert_eq!(copying.by_hand_only, None);
        assert_eq!(copying.afterwards.unwrap().argv, ["/opt/sark/scripts/srkgenAst"]);
    }

    #[test]
    fn what_the_administrator_set_is_copied_as_well() {
        let copying = of(Some("OTHER2=/srv/recordings\nTELEPHONY=/etc/dahdi\nPOSTSYNC=/opt/gen\n")).unwrap();
        assert!(roots(&copying).contains(&"/srv/recordings"));
        assert!(roots(&copying).contains(&"/etc/dahdi"));
        assert_eq!(copying.afterwards.unwrap().argv, ["/opt/gen"]);
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
