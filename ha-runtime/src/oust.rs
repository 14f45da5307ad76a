//! Takes the lock *replicate* from an agent that nobody needs any more.
//!
//! A master replicates once at a time, so an agent that holds the lock when the next one comes serves a master that was
//! cut off: it waits for frames until TCP gives up, two hours later. A takeover ends an agent that is at work as well.
//! What it leaves is settled by whoever ends it.

use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::lock::{Held, Lock, LockError};
use crate::root::Root;

/// Who takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taker {
    /// The next agent.
    Agent,
    /// The daemon, for a takeover.
    Daemon,
}

/// The lock, and how it was come by.
#[derive(Debug)]
pub struct Taken {
    /// The lock.
    pub held: Held,
    /// Whether an agent was ended for it.
    pub ousted: bool,
}

/// Takes the lock within `patience`. An agent that holds it is asked to end (SIGTERM), and after `grace` killed; anybody
/// else is waited for.
pub fn oust(
    lock: Lock,
    root: &Root,
    taker: Taker,
    grace: Duration,
    patience: Duration,
) -> Result<Taken, LockError> {
    let take = |wait| match taker {
        Taker::Agent => lock.lock_for_agent(root, wait),
        Taker::Daemon => lock.lock_within(root, wait),
    };
    let begin = Instant::now();
    let mut ousted = false;
    for (signal, wait) in [(Signal::TERM, grace), (Signal::KILL, patience)] {
        match take(Duration::ZERO) {
            Err(LockError::Held { .. }) => {}
            result => return result.map(|held| Taken { held, ousted }),
        }
        ousted |= end_agent(lock, root, signal);
        if let Ok(held) = take(wait.min(patience.saturating_sub(begin.elapsed()))) {
            return Ok(Taken { held, ousted });
        }
    }
    take(patience.saturating_sub(begin.elapsed())).map(|held| Taken { held, ousted })
}

/// Sends the agent that holds the lock a signal; whether there is one.
fn end_agent(lock: Lock, root: &Root, signal: Signal) -> bool {
    let Some(pid) = lock.agent(root).and_then(Pid::from_raw) else { return false };
    // a number may be given away again: a descriptor means this process, if it still holds the lock once we have it
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    if lock.agent(root) != Some(pid.as_raw_nonzero().get()) || pid == rustix::process::getpid() {
        return false;
    }
    pidfd_send_signal(&process, signal).is_ok()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    #[ignore = "the other process of only_an_agent_is_ended_for_the_lock"]
    fn hold_until_ended() {
        let root = Root::new(std::env::var_os("LOCK_ROOT").expect("started by the other test")).unwrap();
        let _held = match std::env::var("LOCK_AS").as_deref() {
            Ok("agent") => Lock::Replicate.lock_for_agent(&root, Duration::ZERO).unwrap(),
            _ => Lock::Replicate.try_lock(&root).unwrap(),
        };
        println!("held");
        std::thread::sleep(LONG);
    }

    fn holder(root: &Root, who: &str) -> Child {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--nocapture", "oust::tests::hold_until_ended"])
            .env("LOCK_ROOT", root.directory())
            .env("LOCK_AS", who)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line.contains("held")));
        child
    }

    #[test]
    fn only_an_agent_is_ended_for_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path()).unwrap();
        assert!(!oust(Lock::Replicate, &root, Taker::Agent, LONG, LONG).unwrap().ousted);

        let mut agent = holder(&root, "agent");
        let taken = oust(Lock::Replicate, &root, Taker::Daemon, LONG, LONG).unwrap();
        assert!(taken.ousted);
        assert!(!agent.wait().unwrap().success());
        drop(taken);

        // one that does not obey is killed
        let mut agent = holder(&root, "agent");
        let pid = Pid::from_raw(agent.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, Signal::STOP).unwrap();
        assert!(oust(Lock::Replicate, &root, Taker::Agent, Duration::from_millis(50), LONG).unwrap().ousted);
        agent.wait().unwrap();

        let mut other = holder(&root, "daemon");
        let short = Duration::from_millis(50);
        assert!(matches!(
            oust(Lock::Replicate, &root, Taker::Agent, short, short),
            Err(LockError::Held { .. })
        ));
        assert!(other.try_wait().unwrap().is_none(), "it still runs");
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
