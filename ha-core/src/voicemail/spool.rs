//! The files of a voicemail directory become messages.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Identity, Mailbox, Message, NUMBERS, Name, Place, Text};
use crate::carry::{FileState, Files};
use crate::replication::manifest::Digest;
use crate::replication::path::RelPath;

/// A regular file of the voicemail directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Relative to the voicemail directory.
    pub path: RelPath,
    /// What is in it.
    pub state: FileState,
    /// The content itself, of a file whose name ends in `.txt`.
    pub text: Option<Vec<u8>>,
}

/// All that one node's voicemail directory holds. Every file belongs to exactly one of these.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Spool {
    /// Messages with all their parts, in the order of their places.
    pub messages: Vec<Message>,
    /// Greetings, recorded names, changed passwords (`secret.conf`): what is a file and nothing more.
    pub files: Files,
    /// Parts that make no message, and recordings that were not finished.
    pub torn: Files,
}

/// Where Asterisk records before a message gets its number.
const RECORDING: &[u8] = b"tmp";

impl Spool {
    /// Sorts files. Asterisk's locks are none of them.
    pub fn new(found: impl IntoIterator<Item = Found>) -> Spool {
        let mut spool = Spool::default();
        let mut parts: BTreeMap<Place, Vec<(Name, Found)>> = BTreeMap::new();
        for file in found.into_iter().filter(|file| !is_lock(&file.path)) {
            let segments: Vec<&[u8]> = file.path.segments().collect();
            if segments.get(2) == Some(&RECORDING) {
                spool.torn.0.insert(file.path, file.state);
            } else if let Some((place, extension)) = Place::of(&file.path) {
                parts.entry(place).or_default().push((extension, file));
            } else {
                spool.files.0.insert(file.path, file.state);
            }
        }
        for (place, parts) in parts {
            match message(place, &parts) {
                Some(message) => spool.messages.push(message),
                None => spool.torn.0.extend(parts.into_iter().map(|(_, file)| (file.path, file.state))),
            }
        }
        spool
    }

    /// The message that lies there.
    pub fn message_at(&self, place: &Place) -> Option<&Message> {
        self.messages.iter().find(|message| message.place == *place)
    }

    /// The message, wherever it lies in its mailbox; one that has got its id meanwhile too.
    pub fn find(&self, mailbox: &Mailbox, identity: &Identity) -> Option<&Message> {
        let is_it = |message: &&Message| {
            let Identity { content, call } = &message.identity;
            let same_call = call.is_none() || identity.call.is_none() || *call == identity.call;
            message.place.mailbox == *mailbox && *content == identity.content && same_call
        };
        self.messages.iter().find(is_it)
    }

    /// Which messages would have which place if their folders had no gaps, in an order in which each place is free by then.
    ///
    /// Parts that make no message keep their numbers.
    pub fn gaps(&self) -> Vec<(&Message, Place)> {
        let torn: BTreeSet<Place> = self.torn.0.keys().filter_map(|path| Some(Place::of(path)?.0)).collect();
        let (mut gaps, mut next) = (Vec::new(), BTreeMap::new());
        for message in &self.messages {
            let Place { mailbox, folder, .. } = &message.place;
            let next: &mut u16 = next.entry((mailbox, folder)).or_default();
            let mut to = Place { number: *next, ..message.place.clone() };
            while torn.contains(&to) {
                to.number += 1;
            }
            *next = to.number + 1;
            if to != message.place {
                gaps.push((message, to));
            }
        }
        gaps
    }

    /// The number behind all that are in use in a folder, by a message or by a part of one.
    pub fn next_number(&self, mailbox: &Mailbox, folder: &Name) -> u16 {
        let used = |place: &Place| &place.mailbox == mailbox && &place.folder == folder;
        let whole = self.messages.iter().map(|message| message.place.clone());
        let torn = self.torn.0.keys().filter_map(|path| Place::of(path).map(|(place, _)| place));
        whole.chain(torn).filter(used).map(|place| place.number + 1).max().unwrap_or(0)
    }
}

impl Place {
    /// The place that a file of this path belongs to, and which part it is.
    pub fn of(path: &RelPath) -> Option<(Place, Name)> {
        match path.segments().collect::<Vec<_>>().as_slice() {
            [context, name, folder, file] => {
                let (number, extension) = numbered(file)?;
                let mailbox = Mailbox { context: Name::new(context)?, name: Name::new(name)? };
                Some((Place { mailbox, folder: Name::new(folder)?, number }, extension))
            }
            _ => None,
        }
    }

    /// The place that a file of this name in the same folder belongs to, and which part it is.
    pub fn beside(&self, file: &[u8]) -> Option<(Place, Name)> {
        let (number, extension) = numbered(file)?;
        Some((Place { number, ..self.clone() }, extension))
    }

    /// The path of a part of the message here.
    pub fn path(&self, extension: &Name) -> Option<RelPath> {
        self.folder_path()?.entry(self.file_name(extension).as_bytes()).ok()
    }

    /// The path of the folder.
    pub fn folder_path(&self) -> Option<RelPath> {
        let Mailbox { context, name } = &self.mailbox;
        RelPath::new(format!("{}/{}/{}", context.as_str(), name.as_str(), self.folder.as_str())).ok()
    }

    /// `msgNNNN.EXT`.
    pub fn file_name(&self, extension: &Name) -> String {
        format!("msg{:04}.{}", self.number, extension.as_str())
    }
}

/// `msgNNNN.EXT`, as far as Asterisk counts.
fn numbered(file: &[u8]) -> Option<(u16, Name)> {
    let (digits, extension) = file.strip_prefix(b"msg")?.split_at_checked(4)?;
    let number = digits
        .iter()
        .try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u16::from(digit - b'0')))?;
    let extension = Name::new(extension.strip_prefix(b".")?)?;
    (number < NUMBERS).then_some((number, extension))
}

/// Asterisk's locks of a folder, in both of its ways.
fn is_lock(path: &RelPath) -> bool {
    path.name().is_some_and(|name| name.starts_with(b".lock") || (name == b"lock" && path.depth() == 4))
}

/// `None`: the text, or every recording, is missing or damaged.
fn message(place: Place, parts: &[(Name, Found)]) -> Option<Message> {
    let (mut audio, mut text) = (blake3::Hasher::new(), None);
    for (extension, file) in parts {
        if extension.as_str() == Message::TEXT {
            text = Text::parse(file.text.as_deref()?);
        }
    }
    let text = text?;
    let by_name: BTreeMap<Name, FileState> =
        parts.iter().map(|(extension, file)| (extension.clone(), file.state)).collect();
    let formats = by_name.iter().filter(|(extension, _)| extension.as_str() != Message::TEXT);
    let mut any = false;
    for (extension, state) in formats {
        field(&mut audio, extension.as_str().as_bytes());
        field(&mut audio, &state.digest.0);
        any = true;
    }
    for key in ["origtime", "callerid"] {
        field(&mut audio, text.get(key).unwrap_or_default().as_bytes());
    }
    let content = Digest(*audio.finalize().as_bytes());
    let identity = Identity { content, call: text.get("msg_id").map(str::to_owned) };
    let time = text.get("origtime").and_then(|time| time.parse().ok()).unwrap_or(0);
    any.then_some(Message { place, identity, time, parts: by_name })
}

/// With its length, so that two fields are told from one.
fn field(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_be_bytes());
    hasher.update(bytes);
}
