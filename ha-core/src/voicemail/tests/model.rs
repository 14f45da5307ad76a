//! Two nodes' mailboxes as their owners use them: an executable model that plans are carried out on.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Base, Found, Identity, Mailbox, Name, Place, Plan, Spool, Step, message, name, plan};

/// What a node has, by place.
pub(super) type Node = BTreeMap<Place, Recorded>;

/// A message: what was said, and whether its text has got its id by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Recorded {
    sound: u8,
    second: u8,
    named: bool,
}

impl Recorded {
    /// Which it is.
    pub(super) fn key(&self) -> (u8, u8) {
        (self.sound, self.second)
    }

    pub(super) fn time(&self) -> i64 {
        self.second.into()
    }

    fn files(&self, place: &Place) -> [Found; 2] {
        let id = if self.named { format!("msg_id={}-{}", self.second, self.sound) } else { String::new() };
        let text = format!("origtime={}\ncallerid=<602>\n{id}", self.second);
        let path = format!("{}/{}/msg{:04}", place.mailbox.name, place.folder, place.number);
        message(&path, &self.sound.to_string(), &text)
    }
}

pub(super) fn spool(node: &Node) -> Spool {
    Spool::new(node.iter().flat_map(|(place, message)| message.files(place)))
}

/// What people do with their mailboxes.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Leave {
        mailbox: u8,
        sound: u8,
        second: u8,
    },
    Move {
        which: usize,
        folder: u8,
    },
    Delete {
        which: usize,
    },
    /// Asterisk lists the messages, and gives ids to those that have none.
    List,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let leave =
        (0..2u8, 0..3u8, 0..4u8).prop_map(|(mailbox, sound, second)| Deed::Leave { mailbox, sound, second });
    let moved = (0..9usize, 0..4u8).prop_map(|(which, folder)| Deed::Move { which, folder });
    let deleted = (0..9usize).prop_map(|which| Deed::Delete { which });
    proptest::collection::vec(prop_oneof![4 => leave, 3 => moved, 2 => deleted, 1 => Just(Deed::List)], 0..7)
}

fn folder(number: u8) -> Name {
    name(["INBOX", "Old", "Work", "Urgent"][usize::from(number)])
}

fn append(node: &mut Node, mailbox: &Mailbox, folder: &Name, message: Recorded) {
    let number = spool(node).next_number(mailbox, folder);
    node.insert(Place { mailbox: mailbox.clone(), folder: folder.clone(), number }, message);
}

/// `from`: sounds of this node's own callers begin there, so that no two calls are one.
fn live(mut node: Node, deeds: &[Deed], from: u8) -> Node {
    for deed in deeds {
        let at = |which: usize| node.keys().nth(which).cloned();
        match *deed {
            Deed::Leave { mailbox, sound, second } => {
                let mailbox = Mailbox { context: name("default"), name: name(&format!("60{mailbox}")) };
                let message = Recorded { sound: from + sound, second, named: false };
                if !node.values().any(|other| other.key() == message.key()) {
                    append(&mut node, &mailbox, &folder(0), message);
                }
            }
            Deed::Move { which, folder: to } => {
                if let Some(place) = at(which).filter(|place| place.folder != folder(to)) {
                    let message = node.remove(&place).unwrap();
                    append(&mut node, &place.mailbox, &folder(to), message);
                }
            }
            Deed::Delete { which } => drop(at(which).and_then(|place| node.remove(&place))),
            Deed::List => node.values_mut().for_each(|message| message.named = true),
        }
        node = without_gaps(node);
    }
    node
}

/// As Asterisk does when a caller hangs up.
fn without_gaps(node: Node) -> Node {
    let mut closed = Node::new();
    for (Place { mailbox, folder, .. }, message) in node {
        append(&mut closed, &mailbox, &folder, message);
    }
    closed
}

/// A pair that was equal once and lived apart since.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    equal: Node,
    knows: bool,
    pub(super) mine: Node,
    pub(super) theirs: Node,
}

pub(super) fn pairs() -> impl Strategy<Value = Pair> {
    (deeds(), deeds(), deeds(), proptest::bool::weighted(0.8)).prop_map(|(before, mine, theirs, knows)| {
        let equal = live(Node::new(), &before, 0);
        let (mine, theirs) = (live(equal.clone(), &mine, 10), live(equal.clone(), &theirs, 20));
        Pair { equal, knows, mine, theirs }
    })
}

impl Pair {
    /// What is known of the time when both were equal.
    pub(super) fn known(&self) -> Node {
        if self.knows { self.equal.clone() } else { Node::new() }
    }

    pub(super) fn base(&self) -> Base {
        Base::of(&spool(&self.known()))
    }

    pub(super) fn mine(&self) -> Spool {
        spool(&self.mine)
    }

    pub(super) fn their_spool(&self) -> Spool {
        spool(&self.theirs)
    }

    pub(super) fn plan(&self) -> Plan {
        plan(&self.base(), &self.mine(), &self.their_spool())
    }

    /// The serving node after all of it, having crashed after so many steps each time.
    pub(super) fn carried(&self, crashes: &[usize]) -> Node {
        let mut theirs = self.theirs.clone();
        for count in crashes.iter().copied().chain([usize::MAX]) {
            let plan = plan(&self.base(), &self.mine(), &spool(&theirs));
            plan.steps.iter().take(count).for_each(|step| self.act(&mut theirs, step));
        }
        theirs
    }

    fn act(&self, theirs: &mut Node, step: &Step) {
        let (message, to) = match step {
            Step::Put { from, to } => (self.mine[from], to),
            Step::Move { from, to, identity } => (moved(theirs, from, identity), to),
            Step::Write { .. } | Step::SetAside { .. } => unreachable!("there are messages only"),
        };
        assert_eq!(theirs.insert(to.clone(), message), None, "{to} was taken");
    }
}

fn moved(theirs: &mut Node, from: &Place, identity: &Identity) -> Recorded {
    let there = spool(theirs).messages.into_iter().find(|message| message.place == *from).unwrap();
    assert_eq!(there.identity.content, identity.content);
    theirs.remove(from).unwrap()
}
