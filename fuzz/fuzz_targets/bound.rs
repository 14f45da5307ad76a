//! What a peer sends must not fill our memory.

use std::alloc::System;
use std::panic;
use std::sync::Once;

use cap::Cap;

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// Runs `f`, which may allocate so many bytes beside what is there; more, and the program is aborted, which libFuzzer
/// takes for what it is.
pub(crate) fn within<T>(bytes: usize, f: impl FnOnce() -> T) -> T {
    static REPORT: Once = Once::new();
    REPORT.call_once(|| {
        let report = panic::take_hook();
        // to print where it happened takes memory, too
        panic::set_hook(Box::new(move |info| {
            lift();
            report(info);
        }));
    });
    MEMORY.set_limit(MEMORY.allocated() + bytes).expect("nothing else runs here");
    let result = f();
    lift();
    result
}

fn lift() {
    MEMORY.set_limit(usize::MAX).expect("the highest limit");
}
