//! A thread that goes before all others, and whose memory stays where it is.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::thread::{CapabilitySet, capabilities};
use thread_priority::unix::{
    RealtimeThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};
use thread_priority::{ThreadPriority, ThreadPriorityValue};

/// Above everything that has no such right, below everything that has it for a reason of its own.
const PRIORITY: u8 = 1;

/// Has this thread go before all that is not real-time. Whether the kernel allows it.
pub(super) fn hurry() -> bool {
    let Ok(priority) = ThreadPriorityValue::try_from(PRIORITY) else { return false };
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Crossplatform(priority), policy)
        .is_ok()
}

/// Keeps what this process has in memory there, and what it will have from the first time that it is used: this thread never
/// waits for a disk. Whether the kernel allows it.
pub(super) fn lock() -> bool {
    // under a limit, what is taken from the heap later would be refused
    let unlimited = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    unlimited
        && mlockall(MlockAllFlags::CURRENT).is_ok()
        && mlockall(MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT).is_ok()
}
