//! The settings that are changed over the PBX's own API, as the performer of effects sees them.

use std::net::IpAddr;

use ha_core::profile::SipTimers;
use serde::{Deserialize, Serialize};

/// What a call changed, enough to bring it back. It goes through the transaction log, so it must hold no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undo(pub serde_json::Value);

/// A setting of the PBX's API with its wanted value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiChange {
    /// SIP registration expiry; `None`: what it was before the pair.
    Expiry(Option<SipTimers>),
    /// Backup address of every registrar; `None`: what it was before the pair.
    BackupRegistrars(Option<IpAddr>),
}

/// Why the API did not do it: a sentence that names the call, holds no secret and says what was left changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PbxError(pub String);

/// The PBX's API. Implementations block, with bounds of their own. One that does not tell beforehand what would undo a
/// change ([`PbxApi::undo_of`]) undoes what it did in part before it fails.
pub trait PbxApi: Send + Sync {
    /// Sets the SIP registration expiry; `None` restores the former values.
    fn set_expiry(&self, timers: Option<SipTimers>) -> Result<Undo, PbxError>;

    /// Points every registrar's backup fields at an address; `None` restores the former values.
    fn set_backup_registrars(&self, address: Option<IpAddr>) -> Result<Undo, PbxError>;

    /// Brings back what a call changed. Undoing twice, or what was never done, is no error.
    fn undo(&self, undo: &Undo) -> Result<(), PbxError>;

    /// What would undo the change, read before it is made and without making it.
    ///
    /// It is written down first, so that even an engine that is killed during the call can undo it. `None`: that cannot
    /// be told; then an interrupted call is reported for a person to look at.
    fn undo_of(&self, _change: ApiChange) -> Result<Option<Undo>, PbxError> {
        Ok(None)
    }

    /// Makes every device fetch its configuration again. A sentence says how many were told.
    fn synchronize_devices(&self) -> Result<String, PbxError>;
}

impl dyn PbxApi + '_ {
    pub(super) fn make(&self, change: ApiChange) -> Result<Undo, PbxError> {
        match change {
            ApiChange::Expiry(timers) => self.set_expiry(timers),
            ApiChange::BackupRegistrars(address) => self.set_backup_registrars(address),
        }
    }
}
