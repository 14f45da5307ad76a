//! In the native cluster's place where there is no network: a locked file lets one process through.
//!
//! The kernel gives the lock to one process and takes it back when that has ended, however it ended; so no two nodes ever
//! hold the address. What a lease does in a network (the other node cannot see why this one is silent) has no meaning here,
//! but it is waited for all the same, so that the demonstration takes as long.

mod keeper;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ha_core::Role;
use ha_core::cluster::{Standing, View};
use serde_json::json;
use tokio::sync::Notify;

use crate::cluster::Cluster;
use keeper::Keeper;

/// What the node has asked for.
const NOTHING: u8 = 0;
const HAND_OVER: u8 = 1;
const LEAVE: u8 = 2;
const STOP: u8 = 3;

/// A node at the lock.
pub(super) struct Turnstile {
    told: Arc<Told>,
    thread: Option<JoinHandle<()>>,
}

/// What the node and its thread tell each other.
struct Told {
    view: Mutex<View>,
    standing: Mutex<Standing>,
    order: AtomicU8,
    ended: AtomicBool,
    changes: Arc<Notify>,
}

/// A node's file: it is locked while the node runs, and says how the node stands.
fn own(directory: &Path, role: Role) -> PathBuf {
    directory.join(role.word())
}

impl Turnstile {
    /// Both nodes have the same directory. `wait`: how long an address is free before it is taken from a node that is gone.
    pub(super) fn open(directory: &Path, role: Role, wait: Duration) -> io::Result<Turnstile> {
        let able = Standing { able: false, carrying: false, maintenance: false };
        let told = Arc::new(Told {
            view: Mutex::new(View::FIRST),
            standing: Mutex::new(able),
            order: AtomicU8::new(NOTHING),
            ended: AtomicBool::new(false),
            changes: Arc::default(),
        });
        let mut keeper = Keeper::new(directory, role, wait, Arc::clone(&told))?;
        let thread = std::thread::Builder::new().name("cluster".into()).spawn(move || keeper.run())?;
        Ok(Turnstile { told, thread: Some(thread) })
    }

    fn end(&mut self, order: u8) {
        let Some(thread) = self.thread.take() else { return };
        self.told.order.store(order, Ordering::SeqCst);
        if thread.join().is_err() {
            tracing::error!("the cluster's thread had panicked");
        }
    }
}

impl Cluster for Turnstile {
    fn view(&self) -> View {
        *self.told.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn changes(&self) -> Arc<Notify> {
        Arc::clone(&self.told.changes)
    }
    fn standing(&self, standing: Standing) {
        *self.told.standing.lock().unwrap_or_else(PoisonError::into_inner) = standing;
    }
    fn hand_over(&self) {
        self.told.order.store(HAND_OVER, Ordering::SeqCst);
    }
    fn turned(&self) {}
    fn runs(&self) -> bool {
        !self.told.ended.load(Ordering::SeqCst)
    }
    fn facts(&self) -> serde_json::Value {
        json!({ "kind": "a locked file", "runs": self.runs() })
    }
    fn leave(mut self: Box<Self>) {
        self.end(LEAVE);
    }
    fn dissolve(self: Box<Self>) {
        self.leave();
    }
}

impl Drop for Turnstile {
    fn drop(&mut self) {
        self.end(STOP);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

    use ha_core::health::Verdict as Heard;

    use super::*;

    const WAIT: Duration = Duration::from_millis(200);
    const ABLE: Standing = Standing { able: true, carrying: false, maintenance: false };

    fn node(directory: &Path, role: Role) -> Box<Turnstile> {
        let node = Turnstile::open(directory, role, WAIT).unwrap();
        node.standing(ABLE);
        Box::new(node)
    }

    fn until(what: &str, is_so: impl Fn() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn one_node_holds_the_address_and_the_other_takes_it_when_that_has_gone_or_hands_it_over() {
        let directory = tempfile::tempdir().unwrap();
        let slave = node(directory.path(), Role::Slave);
        let master = node(directory.path(), Role::Master);
        until("the primary begins", || master.view().held && slave.view().peer == Heard::Up);
        master.hand_over();
        until("it is handed over", || slave.view().held && !master.view().held);
        // as one that is not ready
        master.standing(Standing { carrying: true, ..ABLE });
        until("the standing is heard", || {
            fs::read_to_string(own(directory.path(), Role::Master)).unwrap() == "able"
        });
        slave.hand_over();
        until("the handover is refused", || slave.view().failed_handovers == 1);
        assert!(slave.view().held && !master.view().held);
        master.standing(ABLE);
        let let_go = Instant::now();
        drop(slave);
        until("it is taken from one that has gone", || master.view().held);
        assert!(let_go.elapsed() >= WAIT);
        assert_eq!(master.view().peer, Heard::Down);
        let slave = node(directory.path(), Role::Slave);
        until("the standby is back", || master.view().peer == Heard::Up);
        assert!(!slave.view().held);
        master.leave();
        until("who leaves gives it away", || slave.view().held);
    }
}
