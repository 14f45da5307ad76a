//! What is fetched, and what becomes of it: files, the database, messages.

use std::io;

use super::super::node::same_files;
use super::super::timeline::Who;
use super::mailbox;
use super::place::{Place, Props};
use super::records::{self, Records};
use crate::report::Failure;

/// Both machines' files, as somebody sees them who looks at both.
pub(super) struct Data<'a> {
    pub(super) props: &'a Props,
    pub(super) primary: Place,
    pub(super) standby: Place,
}

impl Data<'_> {
    fn place(&self, who: Who) -> &Place {
        if who == Who::Standby { &self.standby } else { &self.primary }
    }

    /// An administrator's work on the primary. What was done, in words.
    pub(super) fn change(&self) -> Result<String, Failure> {
        let changed = self.primary.change(self.props);
        changed.map_err(|error| Failure::environment(format!("a change on the primary: {error}")))
    }

    /// A message is left on that node. What tells it from all others.
    pub(super) fn leave(&self, who: Who, caller: u32) -> Result<String, Failure> {
        let spool = self.props.spool().ok_or_else(|| Failure::environment("no voicemail is fetched"))?;
        mailbox::leave(&self.place(who).root.path(spool), caller)
            .map_err(|error| Failure::environment(format!("a message on the {}: {error}", who.word())))
    }

    /// Err: the nodes differ, and where, or a database is torn. Otherwise what that node has fetched, a line each.
    pub(super) fn equal(&self, who: Who) -> Result<Vec<String>, Failure> {
        let mut files = 0;
        for tree in self.props.trees() {
            files += same_files(&self.primary.root.path(tree), &self.standby.root.path(tree))?;
        }
        let records = self.records_at_rest(who)?.all();
        Ok(vec![
            format!("has the same {files} files, byte for byte"),
            format!(
                "has the database as of one moment, whole, with {records} records; the other node writes on"
            ),
        ])
    }

    /// The database of a node that serves nobody.
    pub(super) fn records_at_rest(&self, who: Who) -> Result<Records, Failure> {
        self.records(who, false)
    }

    fn records(&self, who: Who, in_use: bool) -> Result<Records, Failure> {
        let database = self.props.database().ok_or_else(|| Failure::environment("no database is fetched"))?;
        records::read(&self.place(who).root.path(database), in_use).map_err(Failure::environment)
    }

    /// Err: the standby does not serve with what it fetched last.
    pub(super) fn serves_what_was_fetched(&self, fetched: Records) -> Result<(), Failure> {
        let now = self.records(Who::Standby, true)?;
        if now.primary == fetched.primary {
            return Ok(());
        }
        Err(Failure::environment(format!("the standby has {now:?}, but fetched {fetched:?}")))
    }

    /// Err: a message is not on both nodes, which have the same otherwise: it is lost, or was set aside.
    pub(super) fn nothing_is_lost(&self, messages: &[&str]) -> Result<(), Failure> {
        let spool = self.props.spool().unwrap_or_default();
        for (place, id) in [&self.primary, &self.standby]
            .into_iter()
            .flat_map(|place| messages.iter().map(move |id| (place, id)))
        {
            if mailbox::find(&place.root.path(spool), id).is_none() {
                let kept = mailbox::find(self.primary.root.directory(), id);
                let where_to = kept.map_or("nowhere".to_owned(), |path| path.display().to_string());
                let who = place.who().word();
                return Err(Failure::environment(format!(
                    "message {id} is not on the {who}, but {where_to}"
                )));
            }
        }
        Ok(())
    }
}

/// Both machines' files are made before anything happens.
pub(super) fn furnish(props: &Props, places: [&Place; 2], until: u32) -> Result<(), Failure> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(Failure::environment)?;
    let secret: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    for place in places {
        place.furnish(props, &secret, until)?;
    }
    let failed = |error: io::Error| Failure::environment(format!("the primary's data: {error}"));
    places[0].fill(props).map_err(failed)
}
