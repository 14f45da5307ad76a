//! The PBX's own API, as far as high availability needs it: SIP expiry, backup registrars, devices.
//!
//! Both generations of confd are spoken: the older has `asterisk/sip/general`, today's has a SIP template labelled
//! `global` per tenant. Releases without either keep the SIP options in the table `staticsip`, and those without confd's
//! registrars have provd's configs. What was there before is written
//! to the state directory *before* the first change, and put back exactly.
//!
//! They live as long as the pair, and the first ones win, so setting twice does not forget. The way back from one call is
//! a document of its own, [`Undo`], which the caller keeps.
//!
//! Calls block: run them off the driver's thread. Nothing here logs, and no error carries a key or a token.

mod api;
mod error;
mod expiry;
mod http;
mod look;
mod registrars;
mod store;
mod table;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ha_core::profile::{Api, SipPlan, SipTimers};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use error::PbxError;
use http::{Session, Target};
pub use look::Seen;
use store::{Slot, Store};
pub use table::{Row, SipTable, StaticSip};

use crate::context::Context;
use crate::durable::STATE_DIRECTORY;

/// Where the API is and where former values are kept.
#[derive(Debug, Clone)]
pub struct ConfdConfig {
    /// Whether confd is there at all.
    pub api: Api,
    /// confd's base address: `http://127.0.0.1:9486/1.1`.
    pub confd: String,
    /// wazo-auth's: `http://127.0.0.1:9497/0.1`.
    pub auth: String,
    /// provd's, without a version: `http://127.0.0.1:8666`. Asked only when confd has no registrars.
    pub provd: String,
    /// `service_id` and `service_key`; a path of this machine.
    pub key_file: PathBuf,
    /// Where former values are kept; exists, and is a path of this machine.
    pub state: PathBuf,
    /// How long a service that does not answer *reads* yet is waited for: they are restarted by the effects before.
    pub patience: Duration,
    /// Where the SIP options are when confd does not have them.
    pub table: Arc<dyn SipTable>,
}

impl ConfdConfig {
    /// As this node's settings and its profile have it.
    pub fn of(context: &Context, patience: Duration) -> ConfdConfig {
        let pbx = &context.settings.pbx;
        ConfdConfig {
            api: context.profile().api,
            confd: pbx.confd.clone(),
            auth: pbx.auth.clone(),
            provd: "http://127.0.0.1:8666".to_owned(),
            key_file: context.root.path(&pbx.key_file),
            state: context.root.path(STATE_DIRECTORY),
            patience,
            table: Arc::new(StaticSip::new(context)),
        }
    }
}

/// A client of the PBX's API. Cheap to make; each call logs in anew.
#[derive(Debug, Clone)]
pub struct Confd {
    config: ConfdConfig,
    sip: SipPlan,
    store: Store,
}

/// The way back from one call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Undo {
    slot: Slot,
    /// In the order in which they were made.
    changes: Vec<Change>,
    /// The former values that were stored before the call; `None`: there were none.
    stored: Option<Value>,
}

impl Undo {
    /// Whether the call found everything as wanted.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// One resource and its two bodies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Change {
    target: Target,
    before: Value,
    after: Value,
}

/// What came of asking every device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Synchronized {
    /// Devices that were told.
    pub told: usize,
    /// Ids of devices that could not be: switched off, or without a line.
    pub refused: Vec<String>,
}

impl Confd {
    /// `sip` are the profile's values: what a pair gets, and what a node without stored values gets back.
    pub fn new(config: ConfdConfig, sip: SipPlan) -> Confd {
        let store = Store::new(config.state.clone());
        Confd { config, sip, store }
    }

    /// Sets the SIP registration expiry everywhere, or restores what was there before.
    ///
    /// Restoring without stored values changes only what is exactly a pair's (an older tool set it) to what the
    /// product ships; other values are the administrator's and stay.
    ///
    /// # Errors
    ///
    /// Nothing is changed: what had been changed before the failure is put back, except as
    /// [`PbxError::HalfDone`] says.
    pub fn set_expiry(&self, timers: Option<SipTimers>) -> Result<Undo, PbxError> {
        let session = Session::open(&self.config)?;
        let stored = self.store.read(Slot::Expiry)?;
        let plan = expiry::plan(&session, &self.sip, timers, stored.as_ref())?;
        self.carry_out(&session, Slot::Expiry, stored, plan)
    }

    /// Points the two backup fields of every registrar at `address`, or restores what was there before; ports and
    /// all else stay. Restoring without stored values blanks them, as the product does when a pair is given up.
    ///
    /// # Errors
    ///
    /// As for [`Confd::set_expiry`].
    pub fn set_backup_registrars(&self, address: Option<IpAddr>) -> Result<Undo, PbxError> {
        let session = Session::open(&self.config)?;
        let stored = self.store.read(Slot::Registrars)?;
        let plan = registrars::plan(&session, address, stored.as_ref())?;
        self.carry_out(&session, Slot::Registrars, stored, plan)
    }

    /// Puts everything back that one call changed, the last change first, and the stored values with it.
    ///
    /// # Errors
    ///
    /// [`PbxError::HalfDone`] names what could not be put back; the rest was, and stored values are kept as they are so
    /// that a later attempt still has them. Undoing twice, or what was never done, is no error.
    pub fn undo(&self, undo: &Undo) -> Result<(), PbxError> {
        if !undo.changes.is_empty() {
            let session = Session::open(&self.config)?;
            put_back(&session, undo.changes.iter().rev())?;
        }
        self.store.write(undo.slot, undo.stored.as_ref())
    }

    /// Makes every device fetch its configuration again. One that cannot be told does not stop the others.
    ///
    /// # Errors
    ///
    /// The list of devices cannot be read; none was told.
    pub fn synchronize_devices(&self) -> Result<Synchronized, PbxError> {
        let session = Session::open(&self.config)?;
        let path = "/devices?recurse=true";
        let devices = session.items(path)?.ok_or_else(|| PbxError::Answer {
            what: format!("GET {path}"),
            why: "this release's API has no devices: synchronize them in the web interface".to_owned(),
        })?;
        let ids: Vec<String> =
            devices.iter().map(|device| http::id_of(device, "id")).collect::<Result<_, _>>()?;
        let mut outcome = Synchronized::default();
        for id in ids {
            match session.tell(&format!("/devices/{id}/synchronize")) {
                Ok(()) => outcome.told += 1,
                Err(_) => outcome.refused.push(id),
            }
        }
        Ok(outcome)
    }

    /// Stores first, changes then; a failure takes both back.
    fn carry_out(
        &self,
        session: &Session<'_>,
        slot: Slot,
        stored: Option<Value>,
        plan: Plan,
    ) -> Result<Undo, PbxError> {
        let undo = Undo { slot, changes: plan.changes, stored };
        let mut tried = 0;
        let Err(cause) = self.change(session, &undo, plan.store.as_ref(), &mut tried) else {
            return Ok(undo);
        };
        // the one that failed is put back too: after a time-out nobody knows whether it was done
        if let Err(err) = put_back(session, undo.changes[..tried].iter().rev()) {
            return Err(err.because(cause));
        }
        self.store.write(slot, undo.stored.as_ref())?;
        Err(cause)
    }

    /// `tried` counts the changes that were sent.
    fn change(
        &self,
        session: &Session<'_>,
        undo: &Undo,
        store: Option<&Value>,
        tried: &mut usize,
    ) -> Result<(), PbxError> {
        if store.is_some() {
            self.store.write(undo.slot, store)?;
        }
        for Change { target, after, .. } in &undo.changes {
            *tried += 1;
            session.put(target, after)?;
        }
        if store.is_none() {
            // values to come back to must not be lost before they are back: they go after the last change
            self.store.write(undo.slot, None)?;
        }
        Ok(())
    }
}

/// What a call is going to do.
struct Plan {
    changes: Vec<Change>,
    /// The former values to be kept from now on; `None`: none.
    store: Option<Value>,
}

/// Tries every one, whatever becomes of the others.
fn put_back<'a>(session: &Session<'_>, changes: impl Iterator<Item = &'a Change>) -> Result<(), PbxError> {
    let mut left = Vec::new();
    let mut cause = None;
    for Change { target, before, .. } in changes {
        if let Err(err) = session.put(target, before) {
            left.push(target.to_string());
            cause.get_or_insert(err);
        }
    }
    match cause {
        Some(cause) => Err(PbxError::HalfDone { left: left.join(", "), cause: Box::new(cause) }),
        None => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
