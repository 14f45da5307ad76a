//! In place of the PBX: answers OPTIONS, keeps registrations, and writes a database where there is one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ha_core::profile::SipTimers;
use tokio::signal::unix::{SignalKind, signal};

use super::one_address::records;
use crate::durable::{Attributes, replace};
use crate::report::{Failure, Report, Verdict};
use crate::sip::Responder;

/// Phones of the demonstration register for short times only; the products' minimum is three minutes.
const TIMERS: SipTimers =
    SipTimers { min: Duration::from_secs(1), default: Duration::from_secs(30), max: Duration::from_secs(60) };

/// How it is started.
pub(super) struct Telephony {
    pub(super) listen: SocketAddr,
    pub(super) pid_file: PathBuf,
    /// What its answers say of who answers.
    pub(super) name: Option<String>,
    /// Written as long as it runs.
    pub(super) database: Option<PathBuf>,
}

impl Telephony {
    /// Answers SIP until SIGTERM. The pid file says that it does.
    pub(super) async fn run(self) -> Verdict {
        // a service leaves the group of the command that starts it; it cannot be a group's leader already
        let _ = rustix::process::setsid();
        let Telephony { listen, pid_file, name, database } = self;
        let named = |error: std::io::Error| Failure::environment(format!("{listen}: {error}"));
        let mut terminate = signal(SignalKind::terminate()).map_err(named)?;
        let responder = Responder::bind(listen, TIMERS).await.map_err(named)?;
        let responder = match &name {
            Some(name) => responder.named(name.clone()),
            None => responder,
        };
        let over = Arc::new(AtomicBool::new(false));
        let writer = database.map(|database| {
            let (over, node) = (Arc::clone(&over), name.unwrap_or_default());
            std::thread::Builder::new().name("writer".into()).spawn(move || {
                if let Err(error) = records::write(&database, &node, &over) {
                    tracing::error!("{}: {error}", database.display());
                }
            })
        });
        let writer = writer.transpose().map_err(named)?;
        let text = format!("{}\n", std::process::id());
        replace(&pid_file, text.as_bytes(), Attributes::PRIVATE)
            .map_err(|error| Failure::environment(format!("{}: {error}", pid_file.display())))?;
        let ended = async move {
            terminate.recv().await;
        };
        responder.serve(ended).await.map_err(named)?;
        over.store(true, Ordering::SeqCst);
        if let Some(writer) = writer {
            // a panic in it has been printed
            let _ = writer.join();
        }
        Ok(Report::default())
    }
}
