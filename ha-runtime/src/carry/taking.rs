//! The serving node's side of the conversation. Whoever leads it has the node's lock *replicate*.
//!
//! The returning node is trusted no more than it must be: it names datasets of this node and paths in them, as this node's
//! own rules let them be copied, and what it sends is what it offered, or nothing of it is kept.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;

use ha_core::carry::Carried;
use ha_core::replication::filter::Verdict;
use ha_core::replication::path::RelPath;
use ha_core::replication::wire::{ErrorKind, Frame};
use ha_core::voicemail::{Place, Spool, plan};

use super::CarryError;
use super::folder_lock::LockWay;
use super::kept::Kept;
use super::parts::{self, List, Offered};
use super::receiver::{Contents, Done, Receiver};
use super::scan::{Holds, Seen, scan};
use crate::sync::{Link, STAGE_PREFIX, SyncError, Tree, TreeError};

/// A tree, and what of it is carried.
#[derive(Debug, Clone)]
pub struct Holding {
    /// Where.
    pub tree: Tree,
    /// What.
    pub carried: Carried,
}

impl Holding {
    /// How it is understood.
    pub fn holds(&self) -> Holds {
        match self.carried {
            Carried::Messages => Holds::Voicemail,
            Carried::Nothing | Carried::NewFiles => Holds::Files,
        }
    }
}

/// What the serving node lends.
pub(crate) trait TakingHost {
    /// The datasets.
    fn holdings(&self) -> &[Holding];

    /// Where a tree's base is kept.
    fn directory(&self, tree: &Tree) -> PathBuf;

    /// How Asterisk locks.
    fn way(&self) -> LockWay;

    /// The tree as it is to be read: of a database a copy that nobody writes.
    fn still(&self, tree: &Tree) -> Result<Tree, TreeError>;

    /// Whether it still serves; asked before each step. Err: the guard's words.
    fn serves(&self) -> Result<(), String>;
}

/// Answers until something else than carrying is asked for: that; `None`: nothing is any more. `placed` counts the messages
/// that came, also when it ends with an error.
///
/// A refusal is said and ends the conversation: the other node begins it anew.
pub(crate) fn take<S: Read + Write + AsFd>(
    link: &mut Link<S>,
    first: Frame,
    host: &dyn TakingHost,
    placed: &mut usize,
) -> Result<Option<Frame>, SyncError> {
    let mut taking = Taking { link, host, tree: None, placed };
    let mut next = Some(first);
    while let Some(frame) = next {
        let answered = match frame {
            Frame::Offer { dataset, part, last } => taking.offer(dataset, &part, last),
            Frame::CarryOut { step } => taking.step(step as usize),
            other => return Ok(Some(other)),
        };
        match answered {
            Ok(()) => {}
            Err(Answer::Cut(error)) => return Err(error),
            Err(Answer::No(kind, message)) => {
                taking.link.send(&Frame::Error { kind, message })?;
                taking.link.flush()?;
                return Ok(None);
            }
        }
        next = taking.link.asked()?;
    }
    Ok(None)
}

struct Taking<'a, S> {
    link: &'a mut Link<S>,
    host: &'a dyn TakingHost,
    tree: Option<Open>,
    placed: &'a mut usize,
}

/// The tree that was offered last.
enum Open {
    /// Its list arrives.
    Listening(String, List),
    /// Its plan was told: whoever does its steps, if this node does any, and how many contents each of them has.
    Planned(Option<Box<Receiver>>, Vec<usize>),
}

/// Why there is no good answer.
enum Answer {
    No(ErrorKind, String),
    Cut(SyncError),
}

impl From<SyncError> for Answer {
    fn from(error: SyncError) -> Answer {
        Answer::Cut(error)
    }
}

impl From<CarryError> for Answer {
    fn from(error: CarryError) -> Answer {
        let kind = match &error {
            CarryError::Tree(error) if error.is_full() => ErrorKind::NoSpace,
            CarryError::Tree(_) | CarryError::State(_) | CarryError::Link(_) => ErrorKind::Failed,
            CarryError::Locked { .. } => ErrorKind::Busy,
            CarryError::Differs { .. } => ErrorKind::Corrupt,
            CarryError::NoStep(_) => ErrorKind::Protocol,
            CarryError::TooMany { .. } => ErrorKind::NotAccepted,
        };
        Answer::No(kind, error.to_string())
    }
}

fn no<T>(kind: ErrorKind, message: impl Into<String>) -> Result<T, Answer> {
    Err(Answer::No(kind, message.into()))
}

impl<S: Read + Write + AsFd> Taking<'_, S> {
    fn offer(&mut self, dataset: String, part: &[u8], last: bool) -> Result<(), Answer> {
        let mut list = match self.tree.take() {
            Some(Open::Listening(name, list)) if name == dataset => list,
            Some(Open::Listening(..) | Open::Planned(..)) | None => List::default(),
        };
        list.push(part).or_else(|why| no(ErrorKind::NotAccepted, why))?;
        if !last {
            self.tree = Some(Open::Listening(dataset, list));
            return Ok(());
        }
        let holding = self.host.holdings().iter().find(|holding| holding.tree.name() == dataset);
        let Some(holding) = holding else {
            return no(
                ErrorKind::NotAccepted,
                format!("the serving node does not have the dataset {dataset}"),
            );
        };
        let Offered { spool: mine, base } = list.read().or_else(|why| no(ErrorKind::Protocol, why))?;
        accept(&holding.tree, &mine)?;
        self.host.serves().or_else(|why| no(ErrorKind::Passive, why))?;
        let directory = self.host.directory(&holding.tree);
        let (receiver, plan) = match holding.carried {
            Carried::Nothing => {
                let still = self.host.still(&holding.tree).map_err(CarryError::from)?;
                let theirs = scan(&still, Holds::Files, &mut Seen::default())?;
                let kept = Kept::load(&directory).map_err(CarryError::from)?;
                (None, plan(kept.base(), &mine, &theirs).limited_to(Carried::Nothing, &mine))
            }
            carried @ (Carried::NewFiles | Carried::Messages) => {
                let mut receiver =
                    Receiver::open(&holding.tree, holding.holds(), &directory, self.host.way())?;
                let plan = receiver.offer_of(mine.clone(), base, carried)?.clone();
                (Some(Box::new(receiver)), plan)
            }
        };
        let contents = plan.steps.iter().map(|step| step.contents(&mine).len()).collect();
        parts::send(self.link, &plan, |part, last| Frame::Plan { part, last })?;
        self.tree = Some(Open::Planned(receiver, contents));
        Ok(())
    }

    fn step(&mut self, index: usize) -> Result<(), Answer> {
        let Some(Open::Planned(receiver, contents)) = &mut self.tree else {
            return no(ErrorKind::Protocol, CarryError::NoStep(index).to_string());
        };
        let left = *contents.get(index).ok_or(CarryError::NoStep(index))?;
        self.host.serves().or_else(|why| no(ErrorKind::Passive, why))?;
        let mut arriving = Arriving { link: &mut *self.link, left, open: false };
        let done = match receiver {
            Some(receiver) => receiver.step(index, &mut arriving)?,
            None => Done::NotHere,
        };
        arriving.pass_over().map_err(SyncError::Cut)?;
        *self.placed += usize::from(matches!(done, Done::Placed(_)));
        let done = serde_json::to_vec(&done).map_err(|error| SyncError::Cut(io::Error::other(error)))?;
        self.link.send(&Frame::CarriedOut(done))?;
        Ok(self.link.flush()?)
    }
}

/// Whether our own rules let all of it be here. A message is where its place says, and nowhere else.
fn accept(tree: &Tree, mine: &Spool) -> Result<(), Answer> {
    let copied = |path: &RelPath| {
        let ours = path.segments().any(|segment| segment.starts_with(STAGE_PREFIX));
        !ours && !path.is_root() && tree.filter().verdict(path) == Verdict::Copied
    };
    let refuse = |what: String| {
        no(
            ErrorKind::NotAccepted,
            format!("{what} is excluded on this node: set the same exclusions on both"),
        )
    };
    for path in mine.files.0.keys().chain(mine.torn.0.keys()) {
        if !copied(path) {
            return refuse(tree.display(path));
        }
    }
    for message in &mine.messages {
        for extension in message.parts.keys() {
            let path = message.place.path(extension);
            let is_there = |path: &RelPath| {
                Place::of(path).is_some_and(|(place, part)| place == message.place && part == *extension)
            };
            if !path.is_some_and(|path| copied(&path) && is_there(&path)) {
                return refuse(format!("{}.{extension}", message.place));
            }
        }
    }
    Ok(())
}

/// Contents that arrive in pieces, in their order.
struct Arriving<'a, S> {
    link: &'a mut Link<S>,
    /// Contents that were not begun.
    left: usize,
    /// Whether the one that was begun last has not come to its end.
    open: bool,
}

impl<S: Read + Write + AsFd> Arriving<'_, S> {
    fn piece(&mut self) -> io::Result<Vec<u8>> {
        match self.link.asked().map_err(io::Error::other)? {
            Some(Frame::Piece { bytes, last }) => {
                self.open = !last;
                Ok(bytes)
            }
            Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "something else than a content came")),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Passes over what nobody wanted, so that what comes next is the next question.
    fn pass_over(&mut self) -> io::Result<()> {
        loop {
            while self.open {
                self.piece()?;
            }
            if self.left == 0 {
                return Ok(());
            }
            self.begin();
        }
    }

    fn begin(&mut self) {
        (self.left, self.open) = (self.left.saturating_sub(1), true);
    }
}

impl<S: Read + Write + AsFd> Contents for Arriving<'_, S> {
    fn open(&mut self, _: &RelPath) -> io::Result<Box<dyn Read + '_>> {
        while self.open {
            self.piece()?;
        }
        self.begin();
        Ok(Box::new(Reading { arriving: self, piece: io::Cursor::default() }))
    }
}

struct Reading<'a, 'b, S> {
    arriving: &'a mut Arriving<'b, S>,
    piece: io::Cursor<Vec<u8>>,
}

impl<S: Read + Write + AsFd> Read for Reading<'_, '_, S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.piece.read(bytes)? {
                0 if self.arriving.open && !bytes.is_empty() => {
                    self.piece = io::Cursor::new(self.arriving.piece()?);
                }
                read => return Ok(read),
            }
        }
    }
}
