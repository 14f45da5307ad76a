//! What the two ends of a replication say to each other: frames, without the stream that carries them.
//!
//! A frame is its length in four bytes (big-endian, of what follows), one byte that names it, and its fields. Every
//! length is checked against what is really there before anything is allocated. A frame that changes the replica
//! carries the generation that the *receiver* stated when the replication was opened.

use thiserror::Error;

use super::listing::{Listed, Summary};
use super::manifest::Meta;
use super::path::RelPath;
use crate::role::Role;

#[path = "wire_codec.rs"]
mod codec;
pub use codec::{Decoder, decode, encode};

/// The version of this protocol. Both ends must speak the same: the same package is installed on both nodes.
pub const VERSION: u16 = 2;
/// Longest frame, in bytes after its length.
pub const MAX_FRAME: usize = 1 << 20;
/// Bytes of content that one frame carries; senders cut longer ones.
pub const CHUNK: usize = 256 << 10;
/// Bytes of extended attributes that one entry may have, names and values together.
pub const MAX_XATTRS: usize = 256 << 10;
/// Bytes of a message that a peer may make us print.
pub const MAX_MESSAGE: usize = 4096;

/// One thing said. The near end asks and sends; the far end answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Both, first of all: who speaks.
    Hello(Hello),
    /// Near: tell me your state.
    AskState,
    /// Far: its state now.
    State(State),
    /// Near: this transaction of your database is about to be committed; what was prepared is to be carried out if, and
    /// only if, it was. Are you still willing?
    Arm {
        /// As the far end stated it.
        generation: u64,
        /// The one; an earlier one of the same replication was rolled back.
        transaction: Transaction,
    },
    /// Far: yes, and that is on disk.
    Armed {
        /// The same.
        generation: u64,
    },
    /// Near: a request for the far end's daemon, JSON.
    Control(Vec<u8>),
    /// Far: the daemon's answer.
    ControlReply(Vec<u8>),
    /// Near: look at all of this dataset, please; what is its digest?
    AskTree {
        /// Position in the list of [`State::datasets`].
        dataset: u16,
        /// Whether contents are to be read and digested.
        digests: bool,
    },
    /// Far: the tree as it is now. Lists of its directories are of the same moment until the next such question.
    Tree(Summary),
    /// Near: what do these directories hold?
    AskDirectories {
        /// Position in the list.
        dataset: u16,
        /// Which.
        paths: Vec<RelPath>,
    },
    /// Far: a part of what one of them holds, in the order of the question and of the names.
    Directory {
        /// The part.
        entries: Vec<Listed>,
        /// Whether it was this directory's last.
        last: bool,
    },
    /// Near: a replication begins; take the lock.
    Begin {
        /// As the far end stated it.
        generation: u64,
    },
    /// Far: the lock is taken, and what an earlier replication left has been settled.
    Ready {
        /// The number of the last replication that is complete here; 0: none is known.
        number: u64,
        /// Contents of one that was cut, which wait here, whole or in part, and need not travel again.
        kept: u64,
    },
    /// Near: which contents wait?
    AskKept,
    /// Far: a part of them.
    Kept {
        /// The part.
        contents: Vec<Content>,
        /// Whether it was the last.
        last: bool,
    },
    /// Near: the content of a file follows.
    File {
        /// As stated.
        generation: u64,
        /// Position in the list.
        dataset: u16,
        /// Which.
        path: RelPath,
        /// Bytes of the content.
        size: u64,
        /// What it is to have beside its content.
        meta: Meta,
    },
    /// Near: the file that was begun last begins with what waits of it ([`Content::part`]); the next bytes follow that.
    Resume {
        /// As stated.
        generation: u64,
        /// How many bytes that are.
        length: u64,
    },
    /// Near: block digests of the present file, please: of the one that was begun last.
    AskSignature,
    /// Far: a part of the digests.
    Signature {
        /// Bytes of the present file; 0: there is none.
        size: u64,
        /// The part.
        bytes: Vec<u8>,
        /// Whether it was the last.
        last: bool,
    },
    /// Near: the next bytes of the file.
    Data {
        /// As stated.
        generation: u64,
        /// At most [`CHUNK`] by agreement.
        bytes: Vec<u8>,
    },
    /// Near: the next bytes of the file are these of the present one.
    Copy {
        /// As stated.
        generation: u64,
        /// Where they begin there.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// Near: the file is complete.
    FileEnd {
        /// As stated.
        generation: u64,
        /// BLAKE3 of the whole content.
        digest: [u8; 32],
    },
    /// Near: forget the file that was begun last; the source changed while it was read.
    Abandon {
        /// As stated.
        generation: u64,
    },
    /// Near: a step to be done at the commit.
    Step {
        /// As stated.
        generation: u64,
        /// Position in the list.
        dataset: u16,
        /// What.
        action: Action,
    },
    /// Near: is everything there, and on disk?
    Prepare {
        /// As stated.
        generation: u64,
    },
    /// Far: it is.
    Prepared {
        /// How many files wait.
        files: u64,
    },
    /// Near: do it. Without an [`Frame::Arm`] before it, nothing else decides.
    Commit {
        /// As stated.
        generation: u64,
    },
    /// Far: done.
    Committed(Outcome),
    /// Far: no. What came before it in the same replication is dropped.
    Error {
        /// What kind of no.
        kind: ErrorKind,
        /// For a person: what was refused, why, and in which state things were left.
        message: String,
    },
    /// Near: drop what is open and send this back. Far: the same, done. After a refusal at either end, what comes before
    /// it is no answer to what follows.
    Sync {
        /// Any number.
        token: u64,
    },
    /// To a source: what follows is to be a replication into the asker, JSON. The source is the near end of it.
    Fetch(Vec<u8>),
    /// A source: what became of that, JSON.
    Fetched(Vec<u8>),
    /// To a source: a part of what the asker holds of a dataset, JSON, before it fetches anything: what of it is newer?
    Offer {
        /// The dataset's name.
        dataset: String,
        /// The part.
        part: Vec<u8>,
        /// Whether it was the last.
        last: bool,
    },
    /// A source: a part of what is to be done about it, JSON.
    Plan {
        /// The part.
        part: Vec<u8>,
        /// Whether it was the last.
        last: bool,
    },
    /// To a source: do this step of the plan. The contents that it needs follow, each in its turn.
    CarryOut {
        /// Counted from 0.
        step: u32,
    },
    /// To a source: the next bytes of the content whose turn it is.
    Piece {
        /// At most [`CHUNK`] by agreement.
        bytes: Vec<u8>,
        /// Whether it was the content's last.
        last: bool,
    },
    /// A source: what came of the step, JSON.
    CarriedOut(Vec<u8>),
    /// Either: nothing more will come.
    Bye,
}

/// Who speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// [`VERSION`].
    pub version: u16,
    /// `wazo`, `xivo`, `sark`.
    pub distribution: String,
    /// The program's version, for messages.
    pub program: String,
}

/// What the far end is and does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Its role.
    pub role: Role,
    /// Grows at every role or activity change.
    pub generation: u64,
    /// Whether its telephony runs, or is being started.
    pub active: bool,
    /// The names of the datasets that it accepts.
    pub datasets: Vec<String>,
}

/// A step of a plan, as the far end does it at the commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make a directory; an existing one is kept.
    MakeDir {
        /// Where.
        path: RelPath,
    },
    /// Rename a received file into place.
    Place {
        /// Which.
        path: RelPath,
    },
    /// Set what a file or directory has beside its content.
    SetMeta {
        /// Which.
        path: RelPath,
        /// To what.
        meta: Meta,
    },
    /// Make a hard link.
    Link {
        /// The new name.
        path: RelPath,
        /// The file.
        to: RelPath,
    },
    /// Make a symbolic link.
    Symlink {
        /// Where.
        path: RelPath,
        /// Its text.
        target: Vec<u8>,
        /// Its owner and time.
        meta: Meta,
    },
    /// Move to the trash; remove a directory when it is empty. What is there and is of the other kind stays: it came
    /// later.
    Delete {
        /// Which.
        path: RelPath,
        /// Whether a directory is meant, or anything else.
        directory: bool,
    },
}

impl Action {
    /// The path that it changes.
    pub fn path(&self) -> &RelPath {
        match self {
            Action::MakeDir { path }
            | Action::Place { path }
            | Action::SetMeta { path, .. }
            | Action::Link { path, .. }
            | Action::Symlink { path, .. }
            | Action::Delete { path, .. } => path,
        }
    }
}

/// A transaction of a PostgreSQL server, so that the server can be asked later what became of it (`txid_status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Transaction {
    /// The server's `system_identifier`: made with the cluster, shared by its copies alone.
    pub server: u64,
    /// The transaction's id with its epoch (`txid_current`): it never comes again.
    pub id: u64,
}

/// A content that waits at the far end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Position in the list of [`State::datasets`].
    pub dataset: u16,
    /// Which.
    pub path: RelPath,
    /// Bytes.
    pub size: u64,
    /// What the source's file had beside its content when that was read.
    pub meta: Meta,
    /// `None`: all of it is there, and verified. Otherwise so many of its first bytes are, which nobody has verified.
    pub part: Option<u64>,
}

/// What a commit did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// The number of the replication that is complete now.
    pub number: u64,
    /// Files renamed into place.
    pub placed: u64,
    /// Entries removed, directories not counted.
    pub deleted: u64,
    /// What was done differently than asked, for a person.
    pub warnings: Vec<String>,
}

/// Why the far end refuses or fails. In every case but [`ErrorKind::Partial`] the replica is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Another protocol version or distribution.
    Mismatch,
    /// The far end is not a slave.
    NotSlave,
    /// Its telephony runs.
    Active,
    /// Its generation is not the one that it stated.
    Stale,
    /// Another replication holds the lock.
    Busy,
    /// A dataset or path that the far end does not accept.
    NotAccepted,
    /// What arrived is not what was sent.
    Corrupt,
    /// No space left, or the quota is used up.
    NoSpace,
    /// Another failure of the far end's file system or daemon.
    Failed,
    /// The far end is being stopped.
    Cancelled,
    /// The commit stopped in the middle: every file is old or new, and the next run continues.
    Partial,
    /// Frames in an order that makes no sense.
    Protocol,
    /// It does not serve, and nothing is carried to such a one.
    Passive,
}

impl ErrorKind {
    /// Every kind, in the order of its number on the wire.
    pub const ALL: [ErrorKind; 13] = [
        ErrorKind::Mismatch,
        ErrorKind::NotSlave,
        ErrorKind::Active,
        ErrorKind::Stale,
        ErrorKind::Busy,
        ErrorKind::NotAccepted,
        ErrorKind::Corrupt,
        ErrorKind::NoSpace,
        ErrorKind::Failed,
        ErrorKind::Cancelled,
        ErrorKind::Partial,
        ErrorKind::Protocol,
        ErrorKind::Passive,
    ];

    /// Whether a guard refused (exit code 3), rather than something failed.
    pub fn is_refusal(self) -> bool {
        match self {
            ErrorKind::NotSlave
            | ErrorKind::Active
            | ErrorKind::Stale
            | ErrorKind::NotAccepted
            | ErrorKind::Passive => true,
            ErrorKind::Mismatch
            | ErrorKind::Busy
            | ErrorKind::Corrupt
            | ErrorKind::NoSpace
            | ErrorKind::Failed
            | ErrorKind::Cancelled
            | ErrorKind::Partial
            | ErrorKind::Protocol => false,
        }
    }
}

/// Bytes that are no frame, or a frame that cannot be written. Nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WireError {
    /// Longer than [`MAX_FRAME`], read or written.
    #[error("a frame of {0} bytes is longer than the limit of {MAX_FRAME}")]
    TooLong(usize),
    /// A name that this version does not know.
    #[error("frame {0} is unknown: do both nodes run the same version?")]
    Unknown(u8),
    /// The fields end too early, go on too long or hold what cannot be.
    #[error("a frame is malformed: {0}")]
    Malformed(&'static str),
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
