use std::thread;
use std::time::{Duration, Instant};

use ha_tests::Host;

use crate::data;
use crate::engine::Part;
use crate::stage::Stage;

/// How often the slave is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// A change that is not there by then is lost.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two changes; not in step with anything that looks every second.
const PAUSE: Duration = Duration::from_millis(4_370);

/// From a COMMIT, or the close of a file, on the master until the slave shows it, nobody asking: so many times.
pub(crate) fn take(stage: &Stage, part: Part, rounds: u32) -> Vec<Duration> {
    let each = |_| {
        thread::sleep(PAUSE);
        match part {
            Part::Database => row(stage),
            Part::Files => file(stage),
        }
    };
    (0..rounds).map(each).collect()
}

fn row(stage: &Stage) -> Duration {
    let name = format!("Latency {}", stage.turn());
    stage.master.run(&data::one_row("id = 9", &name));
    let there = || stage.slave.column("SELECT lastname FROM userfeatures WHERE id = 9") == [name.as_str()];
    until(there)
}

fn file(stage: &Stage) -> Duration {
    let copy = stage.path(Host::Slave, &data::add_file(stage, stage.turn()));
    until(|| copy.exists())
}

fn until(there: impl Fn() -> bool) -> Duration {
    let begin = Instant::now();
    while !there() {
        assert!(begin.elapsed() < LIMIT, "a change did not reach the slave within {LIMIT:?}");
        thread::sleep(LOOK);
    }
    begin.elapsed()
}
