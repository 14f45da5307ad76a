//! Ctrl-C, a closed terminal or a `kill`: the demonstration ends in order, so that nothing is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

use crate::report::Failure;

/// Whether somebody wants it to end.
#[derive(Debug, Clone)]
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Begins to listen; from now on no such signal ends the process by itself.
    pub(super) fn listen() -> Result<Interrupt, Failure> {
        let asked = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&asked);
        let failed = |error: std::io::Error| Failure::environment(format!("signals: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
        let (interrupt, terminate, hangup) = {
            let _context = runtime.enter();
            let listen = |kind| signal(kind).map_err(failed);
            (
                listen(SignalKind::interrupt())?,
                listen(SignalKind::terminate())?,
                listen(SignalKind::hangup())?,
            )
        };
        let (mut interrupt, mut terminate, mut hangup) = (interrupt, terminate, hangup);
        let heed = move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
            });
            flag.store(true, Ordering::SeqCst);
        };
        std::thread::Builder::new().name("signals".into()).spawn(heed).map_err(failed)?;
        Ok(Interrupt(asked))
    }

    /// As a signal would.
    pub(super) fn ask(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Err: somebody does.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.0.load(Ordering::SeqCst) { Err(Failure::environment(MESSAGE)) } else { Ok(()) }
    }
}

/// What is said then.
const MESSAGE: &str = "interrupted: all processes are ended and all files removed";

/// Whether it was a person who ended it: then no log is of interest.
pub(super) fn is_interruption(failure: &Failure) -> bool {
    failure.message == MESSAGE
}
