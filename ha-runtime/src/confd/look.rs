//! What is set in the PBX, by looking only.

use std::net::IpAddr;
use std::time::Duration;

use super::http::Session;
use super::store::Slot;
use super::{Confd, PbxError, expiry, registrars};

/// What `doctor` asks about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The longest registration, by the resource that says so; `None`: it does not say.
    pub expiry_max: Vec<(String, Option<Duration>)>,
    /// Registrars whose two backup fields are not the slave.
    pub without_backup: Vec<String>,
}

impl Confd {
    /// Reads the SIP expiry, and with `backup` the registrars. Nothing is changed but that a token is given out.
    ///
    /// # Errors
    ///
    /// Nothing can be said: the services do not answer, or not as expected.
    pub fn look(&self, backup: Option<IpAddr>) -> Result<Seen, PbxError> {
        let session = Session::open(&self.config)?;
        let expiry_max = expiry::maxima(&session)?;
        let without_backup = match backup {
            Some(address) => {
                let stored = self.store.read(Slot::Registrars)?;
                let plan = registrars::plan(&session, Some(address), stored.as_ref())?;
                plan.changes.iter().map(|change| change.target.to_string()).collect()
            }
            None => Vec::new(),
        };
        Ok(Seen { expiry_max, without_backup })
    }
}
