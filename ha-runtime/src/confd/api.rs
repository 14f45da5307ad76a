//! The client as the performer of effects sees it.

use std::net::IpAddr;

use ha_core::profile::SipTimers;

use super::http::Session;
use super::store::Slot;
use super::{Confd, PbxError, Undo, expiry, registrars};
use crate::effect::{self, ApiChange, PbxApi};

impl PbxApi for Confd {
    fn set_expiry(&self, timers: Option<SipTimers>) -> Result<effect::Undo, effect::PbxError> {
        document(&Confd::set_expiry(self, timers)?)
    }

    fn set_backup_registrars(&self, address: Option<IpAddr>) -> Result<effect::Undo, effect::PbxError> {
        document(&Confd::set_backup_registrars(self, address)?)
    }

    fn undo(&self, undo: &effect::Undo) -> Result<(), effect::PbxError> {
        let undo: Undo = serde_json::from_value(undo.0.clone())
            .map_err(|error| effect::PbxError(format!("the way back cannot be read: {error}")))?;
        Ok(Confd::undo(self, &undo)?)
    }

    fn undo_of(&self, change: ApiChange) -> Result<Option<effect::Undo>, effect::PbxError> {
        let session = Session::open(&self.config)?;
        let (slot, stored, plan) = match change {
            ApiChange::Expiry(timers) => {
                let stored = self.store.read(Slot::Expiry)?;
                let plan = expiry::plan(&session, &self.sip, timers, stored.as_ref())?;
                (Slot::Expiry, stored, plan)
            }
            ApiChange::BackupRegistrars(address) => {
                let stored = self.store.read(Slot::Registrars)?;
                let plan = registrars::plan(&session, address, stored.as_ref())?;
                (Slot::Registrars, stored, plan)
            }
        };
        document(&Undo { slot, changes: plan.changes, stored }).map(Some)
    }

    fn synchronize_devices(&self) -> Result<String, effect::PbxError> {
        let outcome = Confd::synchronize_devices(self)?;
        Ok(match outcome.refused.as_slice() {
            [] => format!("{} devices were told", outcome.told),
            refused => {
                format!("{} devices were told, these could not be: {}", outcome.told, refused.join(", "))
            }
        })
    }
}

fn document(undo: &Undo) -> Result<effect::Undo, effect::PbxError> {
    let value = serde_json::to_value(undo)
        .map_err(|error| effect::PbxError(format!("the way back cannot be written down: {error}")))?;
    Ok(effect::Undo(value))
}

impl From<PbxError> for effect::PbxError {
    fn from(error: PbxError) -> effect::PbxError {
        effect::PbxError(error.to_string())
    }
}
