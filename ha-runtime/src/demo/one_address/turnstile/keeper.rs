//! The thread at the lock: looks who runs, who holds the address, and what the node wants.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use ha_core::Role;
use ha_core::cluster::{Standing, View};
use ha_core::health::Verdict as Heard;
use rustix::fs::{FlockOperation, flock};

use super::{HAND_OVER, LEAVE, NOTHING, STOP, Told, own};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// How long a standby that has just been started leaves a free address to the primary.
const BOOT: Duration = Duration::from_secs(20);

fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).read(true).write(true).open(path)
}

fn lock(file: &File, how: FlockOperation) -> io::Result<bool> {
    match flock(file, how) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The thread.
pub(super) struct Keeper {
    role: Role,
    wait: Duration,
    /// Locked by the node that holds the address.
    address: File,
    /// Which node the address is offered to.
    offer: PathBuf,
    peer_file: File,
    peer_path: PathBuf,
    own_path: PathBuf,
    /// Locked while this node runs.
    presence: Option<File>,
    begun: Instant,
    /// Nobody holds the address.
    free_since: Option<Instant>,
    silent_since: Instant,
    /// Since its start.
    heard: bool,
    /// Let go for the other node.
    offered: Option<Instant>,
    told: Arc<Told>,
}

impl Keeper {
    pub(super) fn new(directory: &Path, role: Role, wait: Duration, told: Arc<Told>) -> io::Result<Keeper> {
        let peer = if role == Role::Slave { Role::Master } else { Role::Slave };
        let now = Instant::now();
        Ok(Keeper {
            role,
            wait,
            address: open(&directory.join("address"))?,
            offer: directory.join("offer"),
            peer_file: open(&own(directory, peer))?,
            peer_path: own(directory, peer),
            own_path: own(directory, role),
            presence: Some(open(&own(directory, role))?),
            begun: now,
            free_since: None,
            silent_since: now,
            heard: false,
            offered: None,
            told,
        })
    }

    /// Until it has left.
    pub(super) fn run(&mut self) {
        let mut view = View::FIRST;
        let mut present = false;
        loop {
            let order = self.told.order.swap(NOTHING, Ordering::SeqCst);
            let looked = if order == STOP { Ok(true) } else { self.look(order, &mut view, &mut present) };
            match looked {
                Ok(false) => {}
                Ok(true) => break,
                Err(error) => {
                    tracing::error!("the cluster: {error}");
                    break;
                }
            }
            self.tell(view);
            std::thread::sleep(LOOK);
        }
        // the lock goes with the file
        self.tell(View { held: false, ..view });
        self.presence = None;
        self.told.ended.store(true, Ordering::SeqCst);
    }

    fn tell(&self, view: View) {
        let mut told = self.told.view.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *told, view) != view {
            self.told.changes.notify_one();
        }
    }

    /// True: it has left.
    fn look(&mut self, order: u8, view: &mut View, present: &mut bool) -> io::Result<bool> {
        let standing = *self.told.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if let (false, Some(presence)) = (*present, &self.presence) {
            *present = lock(presence, FlockOperation::NonBlockingLockExclusive)?;
        }
        let word = match standing {
            Standing { able: true, maintenance: false, carrying: false } => "ready",
            Standing { able: true, maintenance: false, carrying: true } => "able",
            _ => "unable",
        };
        if fs::read_to_string(&self.own_path)? != word {
            fs::write(&self.own_path, word)?;
        }
        let peer = self.hear()?;
        view.peer = match peer.as_deref() {
            Some("ready" | "able") => Heard::Up,
            Some(_) => Heard::Degraded,
            None if self.silent_since.elapsed() >= self.wait => Heard::Down,
            None => view.peer,
        };
        if view.held {
            if order == LEAVE {
                self.let_go()?;
                view.held = false;
                return Ok(true);
            }
            if order == HAND_OVER {
                if peer.as_deref() == Some("ready") && !standing.carrying {
                    self.let_go()?;
                    view.held = false;
                } else {
                    view.failed_handovers += 1;
                }
            }
            return Ok(false);
        }
        if order == LEAVE {
            return Ok(true);
        }
        if self.offered.is_some_and(|at| at.elapsed() < 2 * self.wait) {
            return Ok(false);
        }
        if lock(&self.address, FlockOperation::NonBlockingLockExclusive)? {
            let free_since = *self.free_since.get_or_insert_with(Instant::now);
            if word != "unable" && self.may_take(free_since) {
                // nobody took what was offered
                view.failed_handovers += u32::from(self.offered.take().is_some());
                let _ = fs::remove_file(&self.offer);
                view.held = true;
                return Ok(false);
            }
            lock(&self.address, FlockOperation::Unlock)?;
        } else {
            self.free_since = None;
            self.offered = None;
        }
        Ok(false)
    }

    /// What the other node says of itself; `None`: it does not run.
    fn hear(&mut self) -> io::Result<Option<String>> {
        if lock(&self.peer_file, FlockOperation::NonBlockingLockShared)? {
            lock(&self.peer_file, FlockOperation::Unlock)?;
            return Ok(None);
        }
        self.silent_since = Instant::now();
        self.heard = true;
        fs::read_to_string(&self.peer_path).map(Some)
    }

    fn let_go(&mut self) -> io::Result<()> {
        let to = if self.role == Role::Slave { Role::Master } else { Role::Slave };
        fs::write(&self.offer, to.word())?;
        self.offered = Some(Instant::now());
        self.free_since = None;
        lock(&self.address, FlockOperation::Unlock).map(drop)
    }

    fn may_take(&self, free_since: Instant) -> bool {
        if fs::read_to_string(&self.offer).is_ok_and(|to| to == self.role.word()) {
            return true;
        }
        let new = self.begun.elapsed() < BOOT;
        match self.role {
            // both have just been started: the primary serves
            Role::Master if new && self.heard => true,
            Role::Slave if new => self.heard && free_since.elapsed() >= self.wait && self.is_alone(),
            _ => free_since.elapsed() >= self.wait,
        }
    }

    /// The other node was heard, and is no more.
    fn is_alone(&self) -> bool {
        self.silent_since.elapsed() >= self.wait
    }
}
