//! Quantities as people write them: `800ms`, `30m`, `10M`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// A length of time in settings: a whole number and a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// Not a quantity; says what would be one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QuantityError {
    /// Not a length of time.
    #[error(
        "\"{0}\" is not a duration: write a whole number and a unit (ms, s, m, h or d), as in \"800ms\" or \"30m\""
    )]
    Duration(String),
    /// Longer than anything here can mean.
    #[error("\"{0}\" is longer than a year: the longest duration is \"365d\"")]
    TooLong(String),
    /// Not a rate.
    #[error(
        "\"{0}\" is not a rate: write whole bytes a second, with k, M or G for thousands, as in \"10M\"; \"0\" is unlimited"
    )]
    Rate(String),
}

/// Unit and its milliseconds, the largest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

const YEAR: u64 = 365 * 86_400_000;

impl FromStr for Span {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Span, QuantityError> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let scale = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| scale);
        let (Some(scale), false) = (scale, number.is_empty()) else {
            return Err(QuantityError::Duration(text.to_owned()));
        };
        // what does not fit a u64 is too long as well
        let millis = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*scale));
        match millis {
            Some(millis) if millis <= YEAR => Ok(Span(Duration::from_millis(millis))),
            Some(_) | None => Err(QuantityError::TooLong(text.to_owned())),
        }
    }
}

/// In the largest unit that leaves a whole number.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let whole = UNITS.iter().find(|(_, scale)| millis != 0 && millis.is_multiple_of(*scale));
        match whole {
            Some((unit, scale)) => write!(f, "{}{unit}", millis / scale),
            None => f.write_str("0s"),
        }
    }
}

/// Bytes a second; `None` is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(pub Option<u64>);

const POWERS: [(&str, u64); 4] = [("G", 1_000_000_000), ("M", 1_000_000), ("k", 1000), ("", 1)];

impl FromStr for Rate {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Rate, QuantityError> {
        let wrong = || QuantityError::Rate(text.to_owned());
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, power) = text.split_at(digits);
        let (_, scale) = POWERS.iter().find(|(name, _)| *name == power).ok_or_else(wrong)?;
        let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*scale));
        bytes.map(|bytes| Rate((bytes > 0).then_some(bytes))).ok_or_else(wrong)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.unwrap_or(0);
        let whole = POWERS.iter().find(|(_, scale)| bytes != 0 && bytes.is_multiple_of(*scale));
        match whole {
            Some((power, scale)) => write!(f, "{}{power}", bytes / scale),
            None => f.write_str("0"),
        }
    }
}

/// Text in the file, checked while it is read, so that the error carries the line.
macro_rules! as_text {
    ($name:ty) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}
as_text!(Span);
as_text!(Rate);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_whole_number_and_a_unit() {
        for (text, millis) in [("800ms", 800), ("1s", 1000), ("30m", 1_800_000), ("0s", 0), ("365d", YEAR)] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.0.as_millis(), u128::from(millis));
            assert_eq!(span.to_string(), text);
        }
        assert_eq!("90s".parse::<Span>().unwrap().to_string(), "90s");
        assert_eq!("120s".parse::<Span>().unwrap().to_string(), "2m");
    }

    #[test]
    fn what_is_not_a_duration_is_named() {
        for text in ["", "1", "s", "1.5s", "-1s", "1 s", "1S", "1min", " 1s", "1s ", "\u{661}s"] {
            let refusal = text.parse::<Span>().unwrap_err();
            assert_eq!(refusal, QuantityError::Duration(text.to_owned()));
            assert!(refusal.to_string().starts_with(&format!("\"{text}\" is not a duration: write a whole")));
        }
        for text in ["366d", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(text.parse::<Span>(), Err(QuantityError::TooLong(text.to_owned())));
        }
    }

    #[test]
    fn a_rate_is_bytes_a_second() {
        for (text, rate) in
            [("0", None), ("1500", Some(1500)), ("64k", Some(64_000)), ("10M", Some(10_000_000))]
        {
            assert_eq!(text.parse(), Ok(Rate(rate)));
            assert_eq!(Rate(rate).to_string(), text);
        }
        for text in ["", "k", "10m", "-1", "1.5M", "99999999999999999999G"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}
