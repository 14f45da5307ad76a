//! Time of the processor instead of the wall's: what else runs on the machine does not count.

use std::time::Duration;

use criterion::Criterion;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use rustix::time::{ClockId, clock_gettime};

/// What this thread has used. Everything that is measured here runs on one thread and waits for nobody.
pub(crate) struct CpuTime;

static WALL: WallTime = WallTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        let used = clock_gettime(ClockId::ThreadCPUTime);
        Duration::try_from(used).expect("a clock that starts at zero is never negative")
    }

    fn end(&self, start: Duration) -> Duration {
        self.start() - start
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WALL.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WALL.formatter()
    }
}

/// Long enough for steady figures, short enough that all benchmarks take about a minute.
pub(crate) fn config() -> Criterion<CpuTime> {
    let criterion = Criterion::default().with_measurement(CpuTime);
    criterion.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4)).sample_size(50)
}
