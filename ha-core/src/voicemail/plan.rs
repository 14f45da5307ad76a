//! What is put, moved, written and set aside.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Base, Identity, Mailbox, Message, NUMBERS, Name, Spool};
use crate::carry::{Carried, Fate, FileState, MAX_SIZE, Why, newer};
use crate::replication::manifest::Digest;
use crate::replication::path::RelPath;

/// Where a message lies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// Whose it is.
    pub mailbox: Mailbox,
    /// What its owner has done with it: `INBOX` and `Urgent` are new, `Old` and all others heard.
    pub folder: Name,
    /// Its place in the folder.
    pub number: u16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/msg{:04}", self.mailbox, self.folder, self.number)
    }
}

/// One thing to be done. All but the last kind on the serving node.
///
/// Numbers are those to be expected: Asterisk serves meanwhile, so whoever carries a step out looks for the message and for
/// the next free number again, under Asterisk's own lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The returning node's message is written, behind the last of its folder.
    Put {
        /// Where the returning node has it.
        from: Place,
        /// Where it goes.
        to: Place,
    },
    /// The serving node's message goes behind the last of another folder.
    Move {
        /// Where the serving node has it.
        from: Place,
        /// Where it goes.
        to: Place,
        /// Which it is.
        identity: Identity,
    },
    /// A file that is no message is written.
    Write {
        /// Where, on both.
        path: RelPath,
        /// What it replaces; nothing else may lie there.
        over: Option<FileState>,
    },
    /// Files of the returning node that are not carried are kept beside, before it becomes equal to the serving node.
    SetAside {
        /// Where it has them.
        paths: Vec<RelPath>,
        /// Why they are not carried.
        why: Why,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Put { from, to } => write!(f, "carry {from} to {to}"),
            Step::Move { from, to, .. } => write!(f, "move {from} to {to}, as on the returning node"),
            Step::Write { path, over: None } => write!(f, "carry {path}"),
            Step::Write { path, over: Some(_) } => {
                write!(f, "replace {path} by the returning node's newer one")
            }
            Step::SetAside { paths, why } => {
                f.write_str("set aside")?;
                paths.iter().try_for_each(|path| write!(f, " {path}"))?;
                write!(f, ": {why}")
            }
        }
    }
}

impl Step {
    /// What the returning node (`mine`) sends for it, in this order.
    pub fn contents(&self, mine: &Spool) -> Vec<(RelPath, FileState)> {
        match self {
            Step::Put { from, .. } => {
                let parts = mine.message_at(from).into_iter().flat_map(|message| &message.parts);
                parts.filter_map(|(extension, state)| Some((from.path(extension)?, *state))).collect()
            }
            Step::Write { path, .. } => {
                mine.files.0.get(path).map(|state| (path.clone(), *state)).into_iter().collect()
            }
            Step::Move { .. } | Step::SetAside { .. } => Vec::new(),
        }
    }
}

/// What is to be done, in its order. Empty: the returning node holds nothing newer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Plan {
    /// First messages, by mailbox, folder and time, then files, then what is set aside.
    pub steps: Vec<Step>,
}

/// One line per step.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

impl Plan {
    /// The same, where no more than that is carried of `mine`: what is not is set aside.
    pub fn limited_to(self, carried: Carried, mine: &Spool) -> Plan {
        let limited = |step: Step| {
            let contents = step.contents(mine);
            let why = match (&step, carried) {
                (Step::Put { .. } | Step::Move { .. }, Carried::Nothing | Carried::NewFiles)
                | (Step::Write { .. }, Carried::Nothing)
                | (Step::Write { over: Some(_), .. }, Carried::NewFiles) => Some(Why::NotCarried),
                _ if contents.iter().any(|(_, state)| state.size > MAX_SIZE) => Some(Why::TooLarge),
                _ => None,
            };
            match why {
                Some(why) => {
                    Step::SetAside { paths: contents.into_iter().map(|(path, _)| path).collect(), why }
                }
                None => step,
            }
        };
        let (aside, steps): (Vec<Step>, Vec<Step>) =
            self.steps.into_iter().map(limited).partition(|step| matches!(step, Step::SetAside { .. }));
        Plan { steps: [steps, aside].concat() }
    }
}

/// What the serving node (`theirs`) lacks of the returning node (`mine`), by the rules of [the module](super).
pub fn plan(base: &Base, mine: &Spool, theirs: &Spool) -> Plan {
    let names = Names::of(base, mine, theirs);
    let known: BTreeMap<Key, &Name> = base
        .messages
        .iter()
        .map(|known| (names.key(&known.mailbox, &known.identity), &known.folder))
        .collect();
    let there = names.by_key(theirs);
    let mut arriving = Vec::new();
    for (key, mine) in names.by_key(mine) {
        let mine = mine[0];
        let theirs = there.get(&key).map_or(&[][..], Vec::as_slice);
        let folders = theirs.iter().map(|message| &message.place.folder);
        match fate(known.get(&key).copied(), &mine.place.folder, &folders.collect::<Vec<_>>()) {
            MessageFate::Put => arriving.push((mine, None)),
            MessageFate::Move => arriving.push((mine, theirs.first().map(|message| &message.place))),
            MessageFate::Stay => {}
        }
    }
    let order = |message: &Message| (message.place.clone(), message.time, message.identity.clone());
    arriving.sort_by_cached_key(|(message, _)| {
        let (Place { mailbox, folder, number }, time, identity) = order(message);
        (mailbox, folder, time, identity, number)
    });
    let (mut steps, mut aside) = (Vec::new(), Vec::new());
    let mut next: BTreeMap<(&Mailbox, &Name), u16> = BTreeMap::new();
    for (message, from) in arriving {
        let Place { mailbox, folder, .. } = &message.place;
        let next = next.entry((mailbox, folder)).or_insert_with(|| theirs.next_number(mailbox, folder));
        let to = Place { number: *next, ..message.place.clone() };
        match from {
            _ if *next >= NUMBERS && from.is_some() => continue,
            _ if *next >= NUMBERS => {
                aside.push(Step::SetAside { paths: message.paths(), why: Why::FolderFull });
                continue;
            }
            Some(from) => {
                steps.push(Step::Move { from: from.clone(), to, identity: message.identity.clone() })
            }
            None => steps.push(Step::Put { from: message.place.clone(), to }),
        }
        *next += 1;
    }
    for (path, fate) in newer(&base.files, &mine.files, &theirs.files) {
        match fate {
            Fate::Carry { over } => steps.push(Step::Write { path, over }),
            Fate::Aside(why) => aside.push(Step::SetAside { paths: vec![path], why }),
        }
    }
    let torn = mine.torn.0.iter().filter(|(path, state)| theirs.torn.0.get(path) != Some(state));
    aside.extend(torn.map(|(path, _)| Step::SetAside { paths: vec![path.clone()], why: Why::Incomplete }));
    steps.extend(aside);
    Plan { steps }
}

/// What becomes of one message of the returning node on the serving one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessageFate {
    Put,
    Move,
    Stay,
}

/// The table of [the module](super). `theirs` is empty: the serving node does not have it.
pub(super) fn fate(base: Option<&Name>, mine: &Name, theirs: &[&Name]) -> MessageFate {
    match (base, theirs.first()) {
        (None, None) => MessageFate::Put,
        (Some(_), None) => MessageFate::Stay,
        // also when a crash left it in two folders there, one of which is ours
        (_, Some(_)) if theirs.contains(&mine) => MessageFate::Stay,
        (None, Some(_)) => MessageFate::Stay,
        (Some(base), Some(_)) if mine == base => MessageFate::Stay,
        (Some(base), Some(theirs)) if *theirs == base => MessageFate::Move,
        // moved on both: heard wins over new
        (Some(_), Some(theirs)) if theirs.is_unheard() && !mine.is_unheard() => MessageFate::Move,
        (Some(_), Some(_)) => MessageFate::Stay,
    }
}

/// What a message is known by in one mailbox.
type Key = (Mailbox, Identity);

/// The ids that are known of each content: a message that has none yet is the one that has.
struct Names(BTreeMap<(Mailbox, Digest), BTreeSet<String>>);

impl Names {
    fn of(base: &Base, mine: &Spool, theirs: &Spool) -> Names {
        let mut names = Names(BTreeMap::new());
        let spools = mine.messages.iter().chain(&theirs.messages);
        let all = spools
            .map(|message| (&message.place.mailbox, &message.identity))
            .chain(base.messages.iter().map(|known| (&known.mailbox, &known.identity)));
        for (mailbox, identity) in all {
            let calls = names.0.entry((mailbox.clone(), identity.content)).or_default();
            calls.extend(identity.call.clone());
        }
        names
    }

    fn key(&self, mailbox: &Mailbox, identity: &Identity) -> Key {
        let calls = self.0.get(&(mailbox.clone(), identity.content));
        let only = calls.filter(|calls| calls.len() == 1).and_then(BTreeSet::first);
        let call = identity.call.as_ref().or(only).cloned();
        (mailbox.clone(), Identity { content: identity.content, call })
    }

    /// The messages of a spool. One that lies in several places, as Asterisk leaves it when it dies while moving it, has that first
    /// where it was heard.
    fn by_key<'a>(&self, spool: &'a Spool) -> BTreeMap<Key, Vec<&'a Message>> {
        let mut all: BTreeMap<Key, Vec<&Message>> = BTreeMap::new();
        for message in &spool.messages {
            all.entry(self.key(&message.place.mailbox, &message.identity)).or_default().push(message);
        }
        all.values_mut().for_each(|places| places.sort_by_key(|message| message.place.folder.is_unheard()));
        all
    }
}
