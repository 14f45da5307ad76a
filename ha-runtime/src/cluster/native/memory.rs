//! What a node remembers of the address over a restart, and who writes that down and wakes the engine: neither may be the
//! thread that renews.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ha_core::cluster::View;
use ha_core::cluster::native::Remembered;
use ha_core::health::Verdict;
use tokio::sync::Notify;

use super::shared::Shared;
use crate::durable::{STATE_DIRECTORY, private_directory};
use crate::lock::LOCK_DIRECTORY;
use crate::root::Root;
use crate::state::{read_sealed, write_sealed};
use crate::writer::{PATIENCE, Writer};

/// Where it is kept.
pub(super) fn file(root: &Root) -> PathBuf {
    root.path(STATE_DIRECTORY).join("cluster.json")
}

/// It is there when this node has found its place since the machine was started: it lies in memory. An engine that is
/// started anew does not wait then for a machine that may still be starting.
pub(super) fn mark(root: &Root) -> PathBuf {
    root.path(LOCK_DIRECTORY).join("cluster-settled")
}

/// What the mark says of the other node's terms: how long its lease was waited for at the most. `None`: there is no mark.
pub(super) fn longest_wait(mark: &Path) -> Option<Duration> {
    let text = std::fs::read_to_string(mark).ok()?;
    Some(Duration::from_millis(text.trim().parse().unwrap_or_default()))
}

/// What was written down last. A file that cannot be used is as good as none: the node that was stopped last, or the primary,
/// goes first then, as both of them know.
pub(super) fn recall(file: &Path) -> Remembered {
    match read_sealed(file) {
        Ok(remembered) => remembered.unwrap_or_default(),
        Err(error) => {
            tracing::warn!(%error, "it is not known whether this node held the address last: taken for never");
            Remembered::default()
        }
    }
}

/// Starts the thread that speaks for the other one, until that has ended. `known` is on the disk.
pub(super) fn speak(
    shared: Arc<Shared>,
    changes: Arc<Notify>,
    file: PathBuf,
    mark: PathBuf,
    mut known: Remembered,
) -> io::Result<JoinHandle<()>> {
    let writer = Writer::start("cluster-memory")?;
    thread::Builder::new().name("cluster-voice".to_owned()).spawn(move || {
        let mut marked = None;
        loop {
            let ended = shared.ended.load(Ordering::Acquire);
            changes.notify_one();
            let View { held, peer, .. } = shared.view();
            let wait = shared.wait.get();
            if wait > marked && (held || matches!(peer, Verdict::Up | Verdict::Degraded)) {
                marked = wait;
                let (mark, wait) = (mark.clone(), wait.unwrap_or_default());
                writer.within(Duration::ZERO, move || {
                    mark.parent().map_or(Ok(()), private_directory)?;
                    std::fs::write(mark, wait.as_millis().to_string())
                });
            }
            let remembered = shared.remembered();
            if remembered != known {
                known = remembered;
                let file = file.clone();
                // a disk that stalls delays no news
                writer.within(Duration::ZERO, move || {
                    write_sealed(&file, &remembered).inspect_err(|error| {
                        tracing::warn!(%error, file = %file.display(), "cannot write down who holds the address");
                    })
                });
            }
            if ended {
                // the last word too: what follows it in the queue says when it is written
                let (done, written) = sync_channel(1);
                writer.within(Duration::ZERO, move || done.send(()).map_err(io::Error::other));
                let _ = written.recv_timeout(PATIENCE);
                return;
            }
            shared.voice.listen();
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_is_recalled_and_what_is_torn_counts_as_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path()).unwrap();
        let (file, mark) = (file(&root), mark(&root));
        assert_eq!(recall(&file), Remembered::default());
        let held = Remembered { epoch: 7, active: true };
        let shared = Arc::new(Shared::new(&[], held).unwrap());
        shared.end();
        let voice =
            speak(shared, Arc::new(Notify::new()), file.clone(), mark, Remembered::default()).unwrap();
        voice.join().unwrap();
        assert_eq!(recall(&file), held, "written before the thread that speaks has ended");
        let text = std::fs::read(&file).unwrap();
        std::fs::write(&file, &text[..text.len() / 2]).unwrap();
        assert_eq!(recall(&file), Remembered::default());
    }
}
