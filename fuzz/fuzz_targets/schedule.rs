//! The text of a schedule, as an administrator writes it: refused with a reason, or a run that always comes later.

#![no_main]

mod input;

use chrono::{DateTime, Utc};
use ha_core::Schedule;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut input = input::Input(data);
    let seconds = input.number::<4>() as i64;
    let Ok(text) = str::from_utf8(input.0) else { return };
    match Schedule::parse(text) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(schedule) => {
            assert_eq!(
                Schedule::parse(&schedule.to_string()).as_ref(),
                Ok(&schedule),
                "it is printed as it is read"
            );
            let mut wall = DateTime::from_timestamp(seconds, 0).expect("before the year 2107");
            for _ in 0..3 {
                let Some(next) = schedule.next_after(wall, &Utc) else { break };
                assert!(next > wall, "{next} after {wall}");
                wall = next;
            }
        }
    }
});
