use std::time::Duration;

use crate::engine::{self, Replication};
use crate::equal;
use crate::measure::{Sample, median};
use crate::quantity::{bytes, time};
use crate::stage::{Daemons, Stage};
use crate::table::{Detail, Line, Met};
use crate::work::{Beside, Target, Work};

/// All runs of a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Timing {
    /// Of what.
    pub(crate) work: Work,
    /// The tool that is replaced; half of them alternate with the cold runs, half with the warm ones.
    pub(crate) baseline: Vec<Sample>,
    /// What else this row needs to be judged.
    pub(crate) beside: Vec<Beside>,
    /// Without a daemon.
    pub(crate) cold: Vec<Replication>,
    /// By the running daemon.
    pub(crate) warm: Vec<Replication>,
}

impl Timing {
    /// Measures a row: the tool and the engine take turns, without daemons and with them.
    pub(crate) fn take(stage: &mut Stage, work: Work, rounds: u32) -> Timing {
        let mut timing =
            Timing { work, baseline: Vec::new(), beside: Vec::new(), cold: Vec::new(), warm: Vec::new() };
        for daemons in stage.both_ways() {
            stage.daemons(daemons);
            for round in 0..rounds {
                work.prepare(stage);
                timing.baseline.push(work.baseline(stage));
                if round == 0 {
                    equal::check(stage, work.part());
                }
                stage.settle(work.part());
                work.prepare(stage);
                let replication = engine::replicate(stage, work.part());
                equal::check(stage, work.part());
                match daemons {
                    Daemons::Stopped => {
                        timing.cold.push(replication);
                        timing.beside.extend(work.beside(stage));
                    }
                    Daemons::OnRequest | Daemons::OnChange => timing.warm.push(replication),
                }
                stage.settle(work.part());
            }
        }
        timing
    }

    /// The time that the engine is measured against: the better one, where there are two.
    pub(crate) fn to_beat(&self) -> Duration {
        let tool = middle(&self.baseline, |sample| sample.took);
        median(self.piped().iter().map(|sample| sample.took)).map_or(tool, |piped| piped.min(tool))
    }

    /// As a row of the table.
    pub(crate) fn line(&self) -> Line {
        let Target { cold, warm, sent } = self.work.target();
        let mut missed = Vec::new();
        let mut wanted = match sent {
            Some(most) => {
                format!("cold {} and under {} sent, warm {}", faster(cold), bytes(most), faster(warm))
            }
            None => format!("cold {}, warm {}", faster(cold), faster(warm)),
        };
        let mut side = |name: &str, runs: &[Replication], factor: f64| {
            let took = middle(runs, |run| run.sample.took);
            let times = self.to_beat().as_secs_f64() / took.as_secs_f64();
            if times < factor {
                missed.push(format!("{name} {times:.2} times"));
            }
            let sent = middle(runs, |run| run.sample.sent);
            format!("{}, {times:.1} times faster, {} sent", time(took), bytes(sent))
        };
        let (mut cold, warm) = (side("cold", &self.cold, cold), side("warm", &self.warm, warm));
        let own = middle(&self.cold, |run| run.bytes_sent.unwrap_or(run.sample.sent));
        if sent.is_some_and(|most| own >= most) {
            missed.push(format!("cold {} sent", bytes(own)));
        }
        let mut baseline = in_short(&self.baseline);
        let piped = self.piped();
        if !piped.is_empty() {
            baseline = format!("dump way {baseline}; binary COPY {}", in_short(&piped));
        }
        if let Some([tool, engine]) = self.bytes_of_the_change() {
            baseline.push_str(&format!("; both ways {} for the change alone", bytes(tool)));
            cold.push_str(&format!("; {} for the change", bytes(engine)));
            wanted.push_str("; no more bytes for the change");
            if engine > tool {
                missed.push(format!("{} for the change", bytes(engine)));
            }
        }
        Line { work: self.work.words().to_owned(), baseline, cold, warm, wanted, met: Met::unless(missed) }
    }

    /// For whoever wants to know more: a row for each kind of run.
    pub(crate) fn details(&self) -> Vec<Detail> {
        let tool = |run: &str, samples: &[Sample]| self.detail(run, samples, [const { String::new() }; 3]);
        let engine = |run: &str, runs: &[Replication]| {
            let samples: Vec<Sample> = runs.iter().map(|run| run.sample).collect();
            let seconds = median(runs.iter().filter_map(|run| run.seconds).map(Duration::from_secs_f64));
            let counted = |count: fn(&Replication) -> Option<u64>| {
                median(runs.iter().filter_map(count)).map(bytes).unwrap_or_default()
            };
            let own = [
                seconds.map(time).unwrap_or_default(),
                counted(|run| run.bytes_sent),
                counted(|run| run.bytes_received),
            ];
            self.detail(run, &samples, own)
        };
        let mut details = vec![tool("baseline", &self.baseline)];
        if !self.piped().is_empty() {
            details.push(tool("binary COPY", &self.piped()));
        }
        details.extend([engine("cold", &self.cold), engine("warm", &self.warm)]);
        details
    }

    fn detail(&self, run: &str, samples: &[Sample], own: [String; 3]) -> Detail {
        let took = |sample: &Sample| sample.took;
        let best = samples.iter().map(took).min().unwrap_or_default();
        let worst = samples.iter().map(took).max().unwrap_or_default();
        let network = [middle(samples, |sample| sample.sent), middle(samples, |sample| sample.received)];
        Detail {
            work: self.work.words().to_owned(),
            run: run.to_owned(),
            times: [middle(samples, took), best, worst].map(time),
            network: network.map(bytes),
            own,
        }
    }

    /// The runs of binary COPY.
    fn piped(&self) -> Vec<Sample> {
        let piped = self.beside.iter().filter_map(|beside| match beside {
            Beside::Piped(sample) => Some(*sample),
            Beside::Unchanged(..) => None,
        });
        piped.collect()
    }

    /// Bytes in both directions that the change itself cost: the tool, the engine.
    fn bytes_of_the_change(&self) -> Option<[u64; 2]> {
        let unchanged = self.beside.iter().filter_map(|beside| match beside {
            Beside::Piped(_) => None,
            Beside::Unchanged(tool, engine) => Some([tool.both_ways(), engine.both_ways()]),
        });
        let unchanged: Vec<[u64; 2]> = unchanged.collect();
        let rest = |with: u64, side: usize| {
            Some(with.saturating_sub(median(unchanged.iter().map(|without| without[side]))?))
        };
        Some([
            rest(middle(&self.baseline, |sample| sample.both_ways()), 0)?,
            rest(middle(&self.cold, |run| run.sample.both_ways()), 1)?,
        ])
    }
}

/// The median of one figure of several runs.
pub(crate) fn middle<R, T: Ord + Copy>(runs: &[R], figure: impl Fn(&R) -> T) -> T {
    median(runs.iter().map(figure)).expect("a row is measured at least once")
}

fn in_short(runs: &[Sample]) -> String {
    format!("{}, {} sent", time(middle(runs, |run| run.took)), bytes(middle(runs, |run| run.sent)))
}

fn faster(factor: f64) -> String {
    if factor <= 1.0 { "not slower".to_owned() } else { format!("{factor} times faster") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(milliseconds: u64, sent: u64) -> Sample {
        Sample { took: Duration::from_millis(milliseconds), sent, received: 1_000 }
    }

    fn replication(milliseconds: u64, sent: u64) -> Replication {
        let sample = sample(milliseconds, sent + 3_000);
        Replication { sample, seconds: None, bytes_sent: Some(sent), bytes_received: None }
    }

    fn timing(work: Work, cold: u64, warm: u64) -> Timing {
        Timing {
            work,
            baseline: vec![sample(4_000, 54_000_000); 2],
            beside: Vec::new(),
            cold: vec![replication(cold, 40_000)],
            warm: vec![replication(warm, 40_000)],
        }
    }

    #[test]
    fn a_target_is_met_at_the_factor_and_missed_below_it() {
        assert_eq!(timing(Work::OneRow, 1_000, 400).line().met, Met::Yes);
        let missed = vec!["cold 3.96 times".to_owned(), "warm 8.00 times".to_owned()];
        assert_eq!(timing(Work::OneRow, 1_010, 500).line().met, Met::No(missed));
    }

    #[test]
    fn the_limit_on_bytes_is_for_the_engines_own() {
        let mut timing = timing(Work::OneRow, 500, 100);
        timing.cold = vec![replication(500, 63_999)];
        assert_eq!(timing.line().met, Met::Yes);
        timing.cold = vec![replication(500, 64_000)];
        assert_eq!(timing.line().met, Met::No(vec!["cold 64.0 KB sent".to_owned()]));
    }

    #[test]
    fn a_first_copy_is_measured_against_the_quicker_way() {
        let mut timing = timing(Work::AllRows, 3_800, 3_800);
        assert_eq!(timing.line().met, Met::Yes);
        timing.beside = vec![Beside::Piped(sample(3_500, 40_000_000))];
        assert!(matches!(timing.line().met, Met::No(_)));
    }

    #[test]
    fn the_bytes_of_a_change_are_those_that_a_run_without_it_does_not_have() {
        let mut timing = timing(Work::FewBytes, 400, 100);
        timing.beside = vec![Beside::Unchanged(sample(900, 53_990_000), sample(200, 30_000))];
        assert_eq!(timing.bytes_of_the_change(), Some([10_000, 13_000]));
        assert_eq!(timing.line().met, Met::No(vec!["13.0 KB for the change".to_owned()]));
    }
}
