//! What the slave is known to have: it was compared, and neither side has changed since as far as that is counted.

use std::time::{Duration, Instant};

use super::lookout::Sight;
use crate::db::Counted;
use crate::watch::Seen;

/// What is counted is no proof: after so long everything is compared again.
const TRUSTED: Duration = Duration::from_secs(3600);
/// First pause before tables are compared again that were sent but are not known to be there; doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(4);
const LONGEST_PAUSE: Duration = Duration::from_secs(256);

/// Facts about both sides, as of the last comparison that succeeded. It knows nothing at first.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The slave's generation: another one may have served meanwhile.
    slave: Option<u64>,
    files: Option<Fact<Seen>>,
    tables: Option<Fact<Tables>>,
    /// What a replication that runs now began with.
    under_way: Option<Sight>,
    doubt: Option<Doubt>,
}

/// The slave's tables were equal, and then its server did not tell what it had counted.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    pause: Duration,
    /// `None`: told since.
    until: Option<Instant>,
}

#[derive(Debug)]
struct Fact<T> {
    is: T,
    since: Instant,
}

/// What both servers had counted: this node's before its tables were read, the slave's after they were equal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tables {
    pub(crate) source: Counted,
    pub(crate) replica: Counted,
}

impl<T> Fact<T> {
    fn trusted(&self, now: Instant) -> Option<&T> {
        (now.saturating_duration_since(self.since) < TRUSTED).then_some(&self.is)
    }
}

impl Known {
    /// A replication to a slave of this generation begins, when things are seen like this. Over a line that was opened anew,
    /// nothing is known: the slave may have been installed again, or set back to an older copy of itself.
    pub(crate) fn begin(&mut self, generation: u64, over_kept_line: bool, sight: Sight) {
        if self.slave != Some(generation) || !over_kept_line {
            *self = Known { slave: Some(generation), ..Known::default() };
        }
        self.under_way = Some(sight);
    }

    /// An attempt to bring these parts came to nothing.
    pub(crate) fn forget(&mut self, files: bool, tables: bool) {
        if files {
            self.files = None;
        }
        if tables {
            self.tables = None;
        }
    }

    /// It ended.
    pub(crate) fn end(&mut self) {
        self.under_way = None;
    }

    /// Whether the slave has the trees as they are seen now.
    pub(crate) fn has_files(&self, files: Option<Seen>, now: Instant) -> bool {
        let known = self.files.as_ref().and_then(|fact| fact.trusted(now));
        known.is_some() && known == files.as_ref()
    }

    /// What the slave's server must still have counted, if the slave had the tables as they are seen now.
    pub(crate) fn has_tables(&self, source: Option<&Counted>, now: Instant) -> Option<&Counted> {
        let known = self.tables.as_ref()?.trusted(now)?;
        (Some(&known.source) == source).then_some(&known.replica)
    }

    /// The trees were compared, and are equal as they were seen before that; `None`: that is not known.
    pub(crate) fn files_are(&mut self, files: Option<Seen>, now: Instant) {
        self.files = files.map(|is| Fact { is, since: now });
    }

    /// The tables were.
    pub(crate) fn tables_are(&mut self, tables: Option<Tables>, now: Instant) {
        self.tables = tables.map(|is| Fact { is, since: now });
        self.doubt = None;
    }

    /// The tables were sent, and cannot be known to be there: they are due again after a pause.
    pub(crate) fn tables_are_in_doubt(&mut self, now: Instant) {
        self.tables = None;
        let pause = self.doubt.map_or(FIRST_PAUSE, |doubt| (doubt.pause * 2).min(LONGEST_PAUSE));
        self.doubt = Some(Doubt { pause, until: Some(now + pause) });
    }

    /// Whether there is something that no replication has brought yet, nor is bringing, nor was told of as `told`; or
    /// something is due to be compared although nothing seems to have changed, which is told once.
    pub(crate) fn is_news(&mut self, sight: &Sight, told: &Sight, now: Instant) -> bool {
        let under_way = self.under_way.as_ref();
        let files = sight.files.is_some()
            && sight.files != told.files
            && Some(sight.files) != under_way.map(|sight| sight.files)
            && !self.has_files(sight.files, now);
        let tables = sight.tables.is_some()
            && sight.tables != told.tables
            && Some(&sight.tables) != under_way.map(|sight| &sight.tables)
            && self.has_tables(sight.tables.as_ref(), now).is_none();
        let rests = self.under_way.is_none();
        let forgets = rests && self.is_out_of_date(now);
        if forgets {
            self.forget(true, true);
        }
        let doubts = rests && self.is_doubt_due(now);
        if doubts && let Some(doubt) = &mut self.doubt {
            doubt.until = None;
        }
        files || tables || forgets || doubts
    }

    fn is_doubt_due(&self, now: Instant) -> bool {
        self.doubt.and_then(|doubt| doubt.until).is_some_and(|until| until <= now)
    }

    fn is_out_of_date(&self, now: Instant) -> bool {
        let files = self.files.as_ref().is_some_and(|fact| fact.trusted(now).is_none());
        files || self.tables.as_ref().is_some_and(|fact| fact.trusted(now).is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(files: u64, rows: u64) -> Sight {
        Sight { files: Some(Seen::at(files)), tables: Some(Counted::of(rows)) }
    }

    /// A slave of generation 7 has what is seen as `sight(1, 1)`, and its server has counted 9.
    fn known(now: Instant) -> Known {
        let mut known = Known::default();
        known.begin(7, true, sight(1, 1));
        known.files_are(Some(Seen::at(1)), now);
        known.tables_are(Some(Tables { source: Counted::of(1), replica: Counted::of(9) }), now);
        known.end();
        known
    }

    fn has(known: &Known, sight: &Sight, now: Instant) -> (bool, Option<Counted>) {
        (known.has_files(sight.files, now), known.has_tables(sight.tables.as_ref(), now).cloned())
    }

    #[test]
    fn only_what_was_compared_and_looks_as_it_did_then_is_known() {
        let now = Instant::now();
        let nothing = Known::default();
        assert_eq!(has(&nothing, &sight(1, 1), now), (false, None));
        assert_eq!(has(&nothing, &Sight::default(), now), (false, None));
        let known = known(now);
        assert_eq!(has(&known, &sight(1, 1), now), (true, Some(Counted::of(9))));
        assert_eq!(has(&known, &sight(2, 1), now), (false, Some(Counted::of(9))));
        assert_eq!(has(&known, &sight(1, 2), now), (true, None));
        assert_eq!(has(&known, &Sight::default(), now), (false, None), "unseen is unknown");
    }

    #[test]
    fn nothing_is_known_after_an_hour_an_error_another_generation_of_the_slave_or_over_another_line() {
        let now = Instant::now();
        let hour = now + TRUSTED;
        assert_eq!(has(&known(now), &sight(1, 1), hour), (false, None));
        let mut due = known(now);
        assert!(due.is_news(&sight(1, 1), &sight(1, 1), hour), "it is due to be compared");
        assert!(!due.is_news(&sight(1, 1), &sight(1, 1), hour), "told once");

        let mut failed = known(now);
        failed.files_are(None, now);
        failed.tables_are(None, now);
        assert_eq!(has(&failed, &sight(1, 1), now), (false, None));

        let mut same = known(now);
        same.begin(7, true, sight(1, 1));
        assert_eq!(has(&same, &sight(1, 1), now), (true, Some(Counted::of(9))));
        same.begin(8, true, sight(1, 1));
        assert_eq!(has(&same, &sight(1, 1), now), (false, None));

        let mut reached_anew = known(now);
        reached_anew.begin(7, false, sight(1, 1));
        assert_eq!(has(&reached_anew, &sight(1, 1), now), (false, None));

        for (files, tables) in [(true, false), (false, true), (true, true)] {
            let mut failed = known(now);
            failed.forget(files, tables);
            assert_eq!(has(&failed, &sight(1, 1), now), (!files, (!tables).then(|| Counted::of(9))));
        }
    }

    #[test]
    fn a_change_is_news_once_and_not_while_it_is_being_brought() {
        let now = Instant::now();
        let mut at_first = Known::default();
        assert!(at_first.is_news(&sight(1, 1), &Sight::default(), now));
        assert!(!at_first.is_news(&sight(1, 1), &sight(1, 1), now), "told");
        assert!(!at_first.is_news(&Sight::default(), &Sight::default(), now), "unseen");

        let mut known = known(now);
        assert!(!known.is_news(&sight(1, 1), &Sight::default(), now), "the slave has it");
        for changed in [sight(2, 1), sight(1, 2), sight(2, 2)] {
            assert!(known.is_news(&changed, &sight(1, 1), now), "{changed:?}");
            known.begin(7, true, changed.clone());
            assert!(!known.is_news(&changed, &sight(1, 1), now), "{changed:?}");
            assert!(known.is_news(&sight(3, 3), &sight(1, 1), now));
            known.end();
            assert!(known.is_news(&changed, &sight(1, 1), now), "it was not brought");
        }
    }

    #[test]
    fn tables_whose_arrival_is_in_doubt_are_told_again_after_a_growing_pause() {
        let mut now = Instant::now();
        let mut known = known(now);
        let same = sight(1, 1);
        let pauses = [(); 8].map(|()| {
            known.begin(7, true, same.clone());
            known.tables_are_in_doubt(now);
            let began = now;
            now += LONGEST_PAUSE;
            assert!(!known.is_news(&same, &same, now), "it is being brought");
            known.end();
            now = began;
            assert_eq!(has(&known, &same, now), (true, None));
            while !known.is_news(&same, &same, now) {
                now += Duration::from_secs(1);
            }
            assert!(!known.is_news(&same, &same, now + LONGEST_PAUSE), "told once");
            now.duration_since(began).as_secs()
        });
        assert_eq!(pauses, [4, 8, 16, 32, 64, 128, 256, 256]);

        known.begin(7, true, same.clone());
        known.tables_are(Some(Tables { source: Counted::of(1), replica: Counted::of(9) }), now);
        known.end();
        assert!(!known.is_news(&same, &same, now + LONGEST_PAUSE), "there is no doubt any more");
    }
}
