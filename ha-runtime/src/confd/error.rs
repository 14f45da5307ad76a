//! What can go wrong with the PBX's API. No variant carries a key, a token or an answer's text.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// A call failed. Unless the variant says otherwise nothing is changed.
#[derive(Debug, Error)]
pub enum PbxError {
    /// The service's credentials cannot be had.
    #[error(
        "could not read the service key in {}: {why}; [pbx] key_file names a file with service_id and service_key; with manage = false there you set SIP expiry and registrars yourself",
        path.display()
    )]
    Key {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No answer.
    #[error("{what}: no answer ({why}); is the service running, and [pbx] right?")]
    Unreachable {
        /// Method and address.
        what: String,
        /// As the network said it.
        why: String,
    },
    /// An answer that refuses.
    #[error("{what}: refused with status {status}{}", hint(*status))]
    Refused {
        /// Method and address.
        what: String,
        /// HTTP status.
        status: u16,
    },
    /// An answer that cannot be read.
    #[error("{what}: unexpected answer: {why}")]
    Answer {
        /// Method and address.
        what: String,
        /// What was expected.
        why: String,
    },
    /// The PBX's database does not do it.
    #[error("table staticsip: {why}; is PostgreSQL running, and [postgres] local right?")]
    Table {
        /// As it was said, a clause.
        why: String,
    },
    /// Former values cannot be kept, so nothing may be changed.
    #[error("could not keep former values in {}: {source}", path.display())]
    Store {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not everything could be put back.
    #[error("{cause}; not put back: {left}. Former values are kept, try again when the service answers")]
    HalfDone {
        /// The resources that still have the new values.
        left: String,
        /// What failed first.
        #[source]
        cause: Box<PbxError>,
    },
}

impl PbxError {
    /// The same, with what made it necessary to go back.
    pub(super) fn because(self, first: PbxError) -> PbxError {
        match self {
            PbxError::HalfDone { left, .. } => PbxError::HalfDone { left, cause: Box::new(first) },
            other => other,
        }
    }

    /// Whether it may be different in a moment: the service is starting.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            PbxError::Unreachable { .. } => true,
            PbxError::Refused { status, .. } => *status >= 500,
            PbxError::Key { .. }
            | PbxError::Answer { .. }
            | PbxError::Table { .. }
            | PbxError::Store { .. }
            | PbxError::HalfDone { .. } => false,
        }
    }
}

fn hint(status: u16) -> &'static str {
    match status {
        401 => "; the service in [pbx] key_file is not known or may not do this",
        _ => "",
    }
}
