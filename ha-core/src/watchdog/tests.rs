//! A watchdog beside a telephony that is arithmetic.

use super::*;

const GRACE: Duration = Duration::from_secs(30);
const POLICY: WatchdogPolicy = WatchdogPolicy::modern(GRACE);

/// Answers every check `takes` after it was asked, as `answers` says at that moment.
struct Bench {
    watchdog: Watchdog,
    now: Instant,
    ids: u64,
    asked: Vec<Check>,
    on_the_way: Vec<(Instant, CheckId, ProbeOutcome)>,
}

impl Bench {
    fn started() -> Bench {
        let mut watchdog = Watchdog::new(POLICY);
        watchdog.watch(Instant::default(), true);
        Bench { watchdog, now: Instant::default(), ids: 0, asked: Vec::new(), on_the_way: Vec::new() }
    }

    fn since_start(&self) -> Duration {
        self.now - Instant::default()
    }

    /// Runs for that long, or until it is dead; true then.
    fn run(&mut self, lasts: Duration, answers: impl Fn(Check) -> bool) -> bool {
        let end = self.now + lasts;
        loop {
            let mut asked = Vec::new();
            let mut ids = self.ids;
            let next = || {
                ids += 1;
                CheckId(ids)
            };
            self.watchdog.due(self.now, next, |id, check, timeout| asked.push((id, check, timeout)));
            self.ids = ids;
            for (id, check, timeout) in asked {
                self.asked.push(check);
                let (takes, outcome) = match answers(check) {
                    true => (Duration::from_millis(8), ProbeOutcome::Reply),
                    // a process is looked for, which takes no time whatever is found
                    false if check == Check::Process => (Duration::ZERO, ProbeOutcome::Lost),
                    false => (timeout, ProbeOutcome::Lost),
                };
                self.on_the_way.push((self.now + takes, id, outcome));
            }
            self.on_the_way.sort_by_key(|(at, id, _)| (*at, *id));
            let report = self.on_the_way.first().map(|(at, ..)| *at);
            let deadline = self.watchdog.deadline().map(|at| at.max(self.now));
            let Some(next) = [report, deadline].into_iter().flatten().min().filter(|at| *at <= end) else {
                self.now = end;
                return false;
            };
            self.now = next;
            let died = if report == Some(next) {
                let (_, id, outcome) = self.on_the_way.remove(0);
                self.watchdog.report(id, outcome)
            } else {
                self.watchdog.overdue(next)
            };
            if died {
                return true;
            }
        }
    }
}

#[test]
fn telephony_that_answers_everything_lives() {
    let mut bench = Bench::started();
    assert_eq!(bench.watchdog.health(), Some(Health::Starting));
    assert!(!bench.run(Duration::from_secs(600), |_| true));
    assert_eq!(bench.watchdog.health(), Some(Health::Alive));
}

#[test]
fn a_crash_is_found_at_the_next_look() {
    let mut bench = Bench::started();
    bench.run(Duration::from_secs(60), |_| true);
    assert!(bench.run(Duration::from_secs(60), |_| false));
    assert_eq!(bench.watchdog.health(), Some(Health::Dead(Death::Gone)));
    assert!(bench.since_start() <= Duration::from_secs(62), "{:?}", bench.since_start());
}

#[test]
fn a_hang_is_found_within_ten_seconds() {
    // whenever between two checks it begins
    for offset in 0..2000 {
        let mut bench = Bench::started();
        bench.run(Duration::from_secs(60) + Duration::from_millis(offset), |_| true);
        let began = bench.since_start();
        assert!(bench.run(Duration::from_secs(60), |check| check == Check::Process));
        assert_eq!(bench.watchdog.health(), Some(Health::Dead(Death::Hangs)));
        let found = bench.since_start() - began;
        assert!(found <= POLICY.detection_worst(), "{found:?} at {offset}");
    }
    assert!(POLICY.detection_worst() <= Duration::from_secs(10));
}

#[test]
fn telephony_that_is_deaf_on_sip_alone_is_dead() {
    let mut bench = Bench::started();
    bench.run(Duration::from_secs(60), |_| true);
    assert!(bench.run(Duration::from_secs(60), |check| check != Check::Sip));
    assert_eq!(bench.watchdog.health(), Some(Health::Dead(Death::Deaf)));
}

#[test]
fn two_losses_in_a_row_are_no_death() {
    let mut bench = Bench::started();
    for _ in 0..20 {
        assert!(!bench.run(Duration::from_millis(3900), |check| check == Check::Process));
        assert!(!bench.run(Duration::from_millis(4100), |_| true));
    }
}

#[test]
fn sip_is_not_asked_before_the_console_has_answered() {
    let mut bench = Bench::started();
    assert!(!bench.run(Duration::from_secs(20), |check| check == Check::Process));
    assert!(!bench.asked.contains(&Check::Sip));
    assert_eq!(bench.watchdog.health(), Some(Health::Starting), "nothing counts that never answered");
    assert!(!bench.run(Duration::from_secs(9), |_| true));
    assert_eq!(bench.watchdog.health(), Some(Health::Alive));
}

#[test]
fn a_start_that_leads_to_nothing_is_a_death_when_its_time_is_over() {
    for (never, answers) in [
        (Check::Process, &[][..]),
        (Check::Console, &[Check::Process]),
        (Check::Sip, &[Check::Process, Check::Console]),
    ] {
        let mut bench = Bench::started();
        assert!(bench.run(Duration::from_secs(60), |check| answers.contains(&check)));
        assert_eq!(bench.since_start(), GRACE);
        assert_eq!(bench.watchdog.health(), Some(Health::Dead(Death::Never(never))));
    }
}

#[test]
fn reports_that_never_come_are_losses() {
    let mut bench = Bench::started();
    bench.run(Duration::from_secs(10), |_| true);
    loop {
        let mut ids = bench.ids;
        let next = || {
            ids += 1;
            CheckId(ids)
        };
        bench.watchdog.due(bench.now, next, |_, _, _| {});
        bench.ids = ids;
        bench.now = bench.watchdog.deadline().expect("it lives");
        if bench.watchdog.overdue(bench.now) {
            break;
        }
    }
    assert_eq!(bench.watchdog.health(), Some(Health::Dead(Death::Gone)));
}

#[test]
fn what_was_under_way_while_the_machine_slept_proves_nothing() {
    let mut bench = Bench::started();
    bench.run(Duration::from_secs(10), |_| true);
    bench.run(Duration::from_secs(5), |check| check == Check::Process);
    bench.now = bench.now + Duration::from_secs(3600);
    bench.watchdog.start_over(bench.now);
    assert!(!bench.watchdog.overdue(bench.now));
    assert!(!bench.run(Duration::from_secs(60), |_| true));
    assert_eq!(bench.watchdog.health(), Some(Health::Alive));
}

#[test]
fn another_start_is_judged_anew() {
    let mut bench = Bench::started();
    bench.run(Duration::from_secs(10), |_| true);
    assert!(bench.run(Duration::from_secs(10), |_| false));
    let late = CheckId(bench.ids);
    bench.watchdog.watch(bench.now, false);
    assert_eq!((bench.watchdog.health(), bench.watchdog.deadline()), (None, None));
    bench.watchdog.watch(bench.now, true);
    assert_eq!(bench.watchdog.health(), Some(Health::Starting));
    assert!(!bench.watchdog.report(late, ProbeOutcome::Lost), "a report of the former start");
    assert!(!bench.run(Duration::from_secs(10), |_| true));
    assert_eq!(bench.watchdog.health(), Some(Health::Alive));
}
