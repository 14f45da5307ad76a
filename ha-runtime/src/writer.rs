//! Disk writes that are never waited for longer than a bound: nothing that keeps telephony up waits for a disk.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

/// How long a takeover waits for a disk at most (`safety.md` 3.4).
pub const PATIENCE: Duration = Duration::from_millis(500);

/// Writes that wait behind a stalled one; more are refused.
const QUEUE: usize = 1024;

/// What became of a write.
#[derive(Debug)]
pub enum Written {
    /// It is on the disk.
    Yes,
    /// It is not, and will not be.
    Failed(io::Error),
    /// It is not known: the disk stalls. It is tried as soon as the disk goes on.
    Pending,
}

impl Written {
    /// Whether it is on the disk.
    pub fn is_durable(&self) -> bool {
        matches!(self, Written::Yes)
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// One thread that writes, in order, for callers that do not wait.
///
/// Dropped, it finishes what is queued, without anybody waiting for it.
#[derive(Debug)]
pub struct Writer {
    jobs: SyncSender<Job>,
    stalled: Arc<AtomicBool>,
}

impl Writer {
    /// Starts the thread. Err: the kernel has no room for one.
    pub fn start(name: &str) -> io::Result<Writer> {
        let (jobs, queue) = sync_channel::<Job>(QUEUE);
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            for job in queue {
                job();
            }
        })?;
        Ok(Writer { jobs, stalled: Arc::new(AtomicBool::new(false)) })
    }

    /// Has `job` done on the thread and waits for it, at most for `patience`.
    ///
    /// While an earlier write is still stalled it is not waited for at all: several writes in a row cost one patience.
    pub fn within(
        &self,
        patience: Duration,
        job: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> Written {
        let (done, result) = sync_channel(1);
        let stalled = Arc::clone(&self.stalled);
        let was_stalled = self.stalled.load(Ordering::Acquire);
        let job: Job = Box::new(move || {
            let outcome = job();
            stalled.store(false, Ordering::Release);
            // the caller may have stopped waiting
            let _ = done.send(outcome);
        });
        match self.jobs.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                return Written::Failed(io::Error::other("disk stalled, too many writes waiting"));
            }
            Err(TrySendError::Disconnected(_)) => {
                return Written::Failed(io::Error::other("the writing thread has ended"));
            }
        }
        let patience = if was_stalled { Duration::ZERO } else { patience };
        match result.recv_timeout(patience) {
            Ok(Ok(())) => Written::Yes,
            Ok(Err(error)) => Written::Failed(error),
            Err(RecvTimeoutError::Timeout) => {
                self.stalled.store(true, Ordering::Release);
                // it may have ended between the timeout and the mark
                match result.try_recv() {
                    Ok(outcome) => {
                        self.stalled.store(false, Ordering::Release);
                        outcome.map_or_else(Written::Failed, |()| Written::Yes)
                    }
                    Err(_) => Written::Pending,
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                Written::Failed(io::Error::other("the writing thread has ended"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Instant;

    #[test]
    fn a_stalled_write_is_waited_for_once_and_everything_is_written_later() {
        let writer = Writer::start("test").unwrap();
        let (release, released) = channel::<()>();
        let (tell, told) = channel();
        let first = tell.clone();
        let outcome = writer.within(Duration::from_millis(20), move || {
            let _ = released.recv();
            first.send(1).map_err(io::Error::other)
        });
        assert!(matches!(outcome, Written::Pending));
        let start = Instant::now();
        for number in 2..5 {
            let tell = tell.clone();
            let hour = Duration::from_secs(3600);
            let outcome = writer.within(hour, move || tell.send(number).map_err(io::Error::other));
            assert!(matches!(outcome, Written::Pending));
        }
        assert!(start.elapsed() < Duration::from_secs(60));
        release.send(()).unwrap();
        assert_eq!([(); 4].map(|()| told.recv().unwrap()), [1, 2, 3, 4]);
        // the mark of the last stalled write is cleared an instant after its message
        while !writer.within(Duration::from_secs(60), || Ok(())).is_durable() {}
    }

    #[test]
    fn a_refused_write_says_why() {
        let writer = Writer::start("test").unwrap();
        let outcome = writer.within(Duration::from_secs(60), || Err(io::Error::other("no space")));
        let Written::Failed(error) = outcome else { panic!("{outcome:?}") };
        assert_eq!(error.to_string(), "no space");
    }
}
