//! Carrying voicemail from a node that returns to the node that serves, message by message.
//!
//! Asterisk keeps a message as files `CONTEXT/BOX/FOLDER/msgNNNN.EXT`: the recording once per format, and a text that says
//! who called and when. The number is a place in the folder, not a name, and the folder is the message's state: both nodes
//! have a `msg0003` in `INBOX`, and they are two messages. So [`plan`] compares messages by what they are ([`Identity`]), three
//! ways as [`crate::carry`] does, with these rules for one that the returning node holds:
//!
//! | base | returning | serving | then |
//! |---|---|---|---|
//! | - | there | - | it is put there, in the same folder, at its end |
//! | there | there | - | it was deleted there: not carried |
//! | there | moved | as in base | it is moved there too |
//! | there | as in base | moved | nothing |
//! | there | moved | moved elsewhere | heard wins over new; else the serving node's |
//! | - | there | in another folder | the serving node's |
//!
//! One that only the serving node has is never touched, also when base has it: a message that somebody deleted here in the last
//! moments comes back, which is a nuisance; one that is lost is lost. Of an unknown (empty) base all is thus united.
//!
//! Numbers on the serving node are not changed while somebody may have the mailbox open: Asterisk remembers which *numbers* are
//! to be deleted when the caller hangs up. Messages are put behind the last, in the order of their calls; where one was moved
//! away a number stays free until Asterisk next opens the mailbox, which closes gaps itself, or until [`Spool::gaps`] are closed
//! because nobody has one open. A mailbox that is full by
//! its own `maxmsg` gets the message all the same: the caller was told that it was taken.
//!
//! Phones' lamps: Asterisk looks at mailboxes that others change when it is told so, by the manager action `VoicemailRefresh`
//! (Asterisk 12 and later), or every `pollfreq` seconds (30) with `pollmailboxes = yes` in voicemail.conf; otherwise with the
//! next message, or when the mailbox is next opened.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::carry::{FileState, Files};
use crate::replication::manifest::Digest;
use crate::replication::path::{RelPath, printable};

mod plan;
mod spool;
mod text;

pub use plan::{Place, Plan, Step, plan};
pub use spool::{Found, Spool};
pub use text::Text;

/// Numbers that Asterisk counts in a folder (its `MAXMSGLIMIT`): `msg0000` to `msg9998`.
pub const NUMBERS: u16 = 9999;

/// One segment of a path, as text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// `None`: it is no one name, or no text.
    pub fn new(bytes: &[u8]) -> Option<Name> {
        let text = std::str::from_utf8(bytes).ok().filter(|_| RelPath::is_name(bytes));
        text.map(|text| Name(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether messages in a folder of that name are new to their owner.
    fn is_unheard(&self) -> bool {
        matches!(self.as_str(), "INBOX" | "Urgent")
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(self.0.as_bytes()))
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

impl TryFrom<String> for Name {
    type Error = String;
    fn try_from(text: String) -> Result<Name, String> {
        let name = Name::new(text.as_bytes());
        name.ok_or_else(|| {
            format!("\"{}\" is not the name of one file or directory", printable(text.as_bytes()))
        })
    }
}

/// Whose message: `CONTEXT/BOX`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mailbox {
    /// As in voicemail.conf, mostly `default`.
    pub context: Name,
    /// Mostly the extension.
    pub name: Name,
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.context, self.name)
    }
}

/// Which message it is, wherever it lies and whatever its number: what was said, and in which call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Of the recording in all its formats, with `origtime` and `callerid` of the text. Nothing of that changes in a message's life:
    /// `flag`, `duration` and the folder may.
    pub content: Digest,
    /// The text's `msg_id`, which Asterisk 11 and later give to each message: it tells a message from its copy, forwarded to
    /// the same mailbox. Older messages get theirs when they are first listed, so one with and one without are the same, as
    /// long as only one such id is known.
    pub call: Option<String>,
}

/// A message with all its parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Where it lies.
    pub place: Place,
    /// Which it is.
    pub identity: Identity,
    /// When the call came: the text's `origtime`, seconds since the epoch; zero when it says none.
    pub time: i64,
    /// Its files by what follows `msgNNNN.`: the recording in each format, and `txt`.
    pub parts: BTreeMap<Name, FileState>,
}

impl Message {
    /// The part that makes a message of the recording beside it: Asterisk counts these.
    pub const TEXT: &str = "txt";

    /// Its files.
    pub fn paths(&self) -> Vec<RelPath> {
        self.parts.keys().filter_map(|extension| self.place.path(extension)).collect()
    }
}

/// What both nodes had when they were last equal. Empty: unknown.
///
/// The node that pulls keeps it: after each pull, and a message more when one was carried to it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Base {
    /// The messages.
    pub messages: Vec<Known>,
    /// All other files.
    pub files: Files,
}

/// A message that both nodes had, and the folder that it was in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Known {
    /// Whose it is.
    pub mailbox: Mailbox,
    /// Its state.
    pub folder: Name,
    /// Which it is.
    pub identity: Identity,
}

impl Base {
    /// Two nodes that are equal now have this.
    pub fn of(spool: &Spool) -> Base {
        let known = spool.messages.iter().map(|message| Known {
            mailbox: message.place.mailbox.clone(),
            folder: message.place.folder.clone(),
            identity: message.identity.clone(),
        });
        Base { messages: known.collect(), files: spool.files.clone() }
    }

    /// A message is now known to be on both: it was carried. What was known of it before gives way.
    pub fn learn(&mut self, known: Known) {
        self.messages.retain(|old| (&old.mailbox, &old.identity) != (&known.mailbox, &known.identity));
        self.messages.push(known);
    }
}

#[cfg(test)]
mod tests;
