use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ha_tests::Host;

use crate::measure::median;
use crate::sql::Sql;
use crate::stage::Stage;

/// What a client of the slave's database felt that asked for one row again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waits {
    /// The longest answer.
    pub(crate) longest: Duration,
    /// The usual answer.
    pub(crate) usual: Duration,
}

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(1);

/// Reads a row of a table that changes, on the slave, while `work` is done there.
pub(crate) fn during(stage: &Stage, work: impl FnOnce()) -> Waits {
    let done = AtomicBool::new(false);
    let reads = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let slave = Sql::open(stage.lab(), Host::Slave);
            let mut reads = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let begin = Instant::now();
                slave.column("SELECT lastname FROM userfeatures WHERE id = 7");
                reads.push(begin.elapsed());
                thread::sleep(PAUSE);
            }
            reads
        });
        work();
        done.store(true, Ordering::Relaxed);
        reader.join().expect("the slave answers")
    });
    let longest = reads.iter().max().copied().unwrap_or_default();
    Waits { longest, usual: median(reads).unwrap_or_default() }
}
