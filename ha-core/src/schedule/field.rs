//! One field of a crontab line: the set of numbers that it names.

use super::ScheduleError;

/// Which of the five.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    /// As crontab(5) calls it.
    pub(super) name: &'static str,
    /// Smallest number.
    min: u32,
    /// Largest number that may be written.
    max: u32,
    /// Three-letter names, the first one standing for `min`.
    names: &'static [&'static str],
}

/// In the order in which they are written.
pub(super) const KINDS: [Kind; 5] = [
    Kind { name: "minute", min: 0, max: 59, names: &[] },
    Kind { name: "hour", min: 0, max: 23, names: &[] },
    Kind { name: "day of month", min: 1, max: 31, names: &[] },
    Kind {
        name: "month",
        min: 1,
        max: 12,
        names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    },
    Kind { name: "day of week", min: 0, max: 7, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] },
];

/// What a field names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    /// Bit n: the number n. For days of the week bit 0 is Sunday and bit 7 is never set.
    bits: u64,
    /// Whether it begins with `*`: crontab(5) then calls the field unrestricted, whatever step follows.
    pub(super) star: bool,
}

impl Field {
    /// Reads a list of numbers, names, ranges and steps.
    pub(super) fn parse(kind: Kind, text: &str) -> Result<Field, ScheduleError> {
        let mut bits = 0;
        for part in text.split(',') {
            bits |= kind.part(part)?;
        }
        if kind.max == 7 && bits & (1 << 7) != 0 {
            bits = (bits & !(1 << 7)) | 1;
        }
        Ok(Field { bits, star: text.starts_with('*') })
    }

    /// The numbers, ascending.
    pub(super) fn numbers(self) -> impl Iterator<Item = u32> {
        (0..64).filter(move |number| self.bits & (1 << number) != 0)
    }
}

impl Kind {
    fn part(self, text: &str) -> Result<u64, ScheduleError> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, Some(self.step(text, step)?)),
            None => (text, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (self.min, self.max),
            Some((first, last)) => (self.number(first)?, self.number(last)?),
            None if step.is_some() => return Err(ScheduleError::StepWithoutRange { step: text.to_owned() }),
            None => (self.number(range)?, self.number(range)?),
        };
        if first > last {
            return Err(ScheduleError::Backwards { field: self.name, range: range.to_owned() });
        }
        let step = usize::try_from(step.unwrap_or(1)).unwrap_or(usize::MAX);
        Ok((first..=last).step_by(step).fold(0, |bits, number| bits | 1 << number))
    }

    fn step(self, part: &str, text: &str) -> Result<u32, ScheduleError> {
        digits(text).filter(|step| (1..=self.max).contains(step)).ok_or_else(|| ScheduleError::Step {
            field: self.name,
            step: part.to_owned(),
            max: self.max,
        })
    }

    fn number(self, text: &str) -> Result<u32, ScheduleError> {
        let named = || {
            let place = self.names.iter().position(|name| name.eq_ignore_ascii_case(text))?;
            Some(self.min + u32::try_from(place).ok()?)
        };
        digits(text).or_else(named).filter(|number| (self.min..=self.max).contains(number)).ok_or_else(|| {
            ScheduleError::Value { field: self.name, value: text.to_owned(), min: self.min, max: self.max }
        })
    }
}

/// A number of one to three digits: no sign, no space.
fn digits(text: &str) -> Option<u32> {
    let plain = (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}
