//! Which paths of a dataset are copied.

use thiserror::Error;

use super::manifest::Kind;
use super::path::RelPath;
use crate::profile::Dataset;

/// The include and exclude rules of a dataset, segment by segment from its root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    only: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

/// What the rules say about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is copied, and what lies below it unless that is excluded.
    Copied,
    /// It lies above what is copied: a directory is kept like its source, anything else is left alone.
    Above,
    /// It and all below it is neither copied nor removed.
    Excluded,
}

/// A pattern that cannot be read: the user's fault. The rules were not used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("pattern \"{pattern}\" cannot be used: {why}")]
pub struct BadPattern {
    /// As given.
    pub pattern: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl Filter {
    /// The rules of `only` and `exclude`, with the meaning that [`Dataset`] gives them.
    pub fn new<S: AsRef<str>>(only: &[S], exclude: &[S]) -> Result<Filter, BadPattern> {
        let parse =
            |list: &[S]| list.iter().map(|text| Pattern::parse(text.as_ref())).collect::<Result<Vec<_>, _>>();
        Ok(Filter { only: parse(only)?, exclude: parse(exclude)? })
    }

    /// The rules of a profile's dataset.
    pub fn of(dataset: &Dataset) -> Result<Filter, BadPattern> {
        Filter::new(dataset.only, dataset.exclude)
    }

    /// These rules with further exclusions, as the settings have them.
    pub fn excluding<S: AsRef<str>>(mut self, exclude: &[S]) -> Result<Filter, BadPattern> {
        self.exclude.extend(Filter::new(&[], exclude)?.exclude);
        Ok(self)
    }

    /// What the rules say about `path`.
    pub fn verdict(&self, path: &RelPath) -> Verdict {
        if self.is_empty() {
            return Verdict::Copied;
        }
        let best = |patterns: &[Pattern]| patterns.iter().map(|pattern| pattern.reaches(path)).max();
        match (best(&self.exclude), best(&self.only)) {
            (Some(Reach::Covers), _) => Verdict::Excluded,
            (_, None | Some(Reach::Covers)) => Verdict::Copied,
            (_, Some(Reach::LeadsTo)) => Verdict::Above,
            (_, Some(Reach::Misses)) => Verdict::Excluded,
        }
    }

    /// Whether there are no rules: everything is copied.
    pub fn is_empty(&self) -> bool {
        self.only.is_empty() && self.exclude.is_empty()
    }

    /// Whether an entry of this kind at `path` is copied.
    pub fn takes_part(&self, path: &RelPath, kind: &Kind) -> bool {
        match self.verdict(path) {
            Verdict::Copied => *kind != Kind::Special,
            Verdict::Above => *kind == Kind::Dir,
            Verdict::Excluded => false,
        }
    }
}

/// How a pattern and a path meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Misses,
    /// Something below the path may match.
    LeadsTo,
    /// The path or something above it matches.
    Covers,
}

/// A pattern for the first segments of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern(Vec<SegmentPattern>);

/// A pattern for one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
enum SegmentPattern {
    /// Exactly this name.
    Name(Box<[u8]>),
    /// At most [`MAX_TOKENS`].
    Wild(Vec<Token>),
}

/// Positions in a pattern are bits of one number.
const MAX_TOKENS: usize = 127;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// `?`
    One,
    /// `*`
    Any,
    /// `[a-z0-9-]`; `+` after it: once or more.
    Class {
        ranges: Vec<(u8, u8)>,
        repeated: bool,
    },
}

impl Pattern {
    fn parse(text: &str) -> Result<Pattern, BadPattern> {
        let refuse = |why| BadPattern { pattern: text.to_owned(), why };
        if text.len() > RelPath::MAX {
            return Err(refuse("it is longer than any path"));
        }
        let segments = text.strip_suffix('/').unwrap_or(text).split('/').map(|segment| match segment {
            "" => {
                Err(refuse("it is empty, absolute or has an empty segment; write it relative to the dataset"))
            }
            "." | ".." => Err(refuse("\".\" and \"..\" are not names inside a dataset")),
            _ => SegmentPattern::parse(segment.as_bytes()).map_err(refuse),
        });
        Ok(Pattern(segments.collect::<Result<_, _>>()?))
    }

    fn reaches(&self, path: &RelPath) -> Reach {
        let mut segments = path.segments();
        for wanted in &self.0 {
            match segments.next() {
                None => return Reach::LeadsTo,
                Some(segment) if wanted.matches(segment) => {}
                Some(_) => return Reach::Misses,
            }
        }
        Reach::Covers
    }
}

impl SegmentPattern {
    fn parse(mut rest: &[u8]) -> Result<SegmentPattern, &'static str> {
        let mut tokens = Vec::new();
        while let [first, tail @ ..] = rest {
            rest = tail;
            tokens.push(match first {
                b'*' => Token::Any,
                b'?' => Token::One,
                b'[' => {
                    let end = tail.iter().position(|byte| *byte == b']').ok_or("a \"[\" has no \"]\"")?;
                    let ranges = class(&tail[..end])?;
                    let repeated = tail.get(end + 1) == Some(&b'+');
                    rest = &tail[end + 1 + usize::from(repeated)..];
                    Token::Class { ranges, repeated }
                }
                byte => Token::Byte(*byte),
            });
        }
        let plain = tokens.iter().map(|token| if let Token::Byte(byte) = token { Some(*byte) } else { None });
        match plain.collect::<Option<Box<[u8]>>>() {
            Some(name) => Ok(SegmentPattern::Name(name)),
            None if tokens.len() > MAX_TOKENS => Err("a name with wildcards is longer than 127 letters"),
            None => Ok(SegmentPattern::Wild(tokens)),
        }
    }

    fn matches(&self, name: &[u8]) -> bool {
        match self {
            SegmentPattern::Name(own) => **own == *name,
            SegmentPattern::Wild(tokens) => wild_match(tokens, name),
        }
    }
}

/// Follows all readings at once: no pattern makes it slower than the product of the two lengths.
fn wild_match(tokens: &[Token], name: &[u8]) -> bool {
    let end = 1u128 << tokens.len();
    let mut at = skip_stars(tokens, 1);
    for byte in name {
        // a star at the end takes whatever follows
        if tokens.last() == Some(&Token::Any) && at & end != 0 {
            return true;
        }
        let mut next = 0;
        let mut left = at & !end;
        while left != 0 {
            let index = left.trailing_zeros() as usize;
            let here = 1 << index;
            left &= !here;
            let (stay, go) = match &tokens[index] {
                Token::Byte(wanted) => (false, wanted == byte),
                Token::One => (false, true),
                Token::Any => (true, false),
                Token::Class { ranges, repeated } => {
                    let hit = ranges.iter().any(|(low, high)| (low..=high).contains(&byte));
                    (hit && *repeated, hit)
                }
            };
            next |= if stay { here } else { 0 } | if go { here << 1 } else { 0 };
        }
        at = skip_stars(tokens, next);
        if at == 0 {
            return false;
        }
    }
    at & end != 0
}

/// `*` also stands for nothing.
fn skip_stars(tokens: &[Token], mut at: u128) -> u128 {
    for (index, token) in tokens.iter().enumerate() {
        if *token == Token::Any && at & (1 << index) != 0 {
            at |= 1 << (index + 1);
        }
    }
    at
}

fn class(mut text: &[u8]) -> Result<Vec<(u8, u8)>, &'static str> {
    if text.is_empty() || text[0] == b'!' || text[0] == b'^' {
        return Err("a class in brackets must list what it matches");
    }
    let mut ranges = Vec::new();
    while let [low, tail @ ..] = text {
        let (range, rest) = match tail {
            [b'-', high, rest @ ..] => ((*low, *high), rest),
            rest => ((*low, *low), rest),
        };
        if range.0 > range.1 {
            return Err("a range in brackets runs backwards");
        }
        ranges.push(range);
        text = rest;
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(filter: &Filter, path: &str) -> Verdict {
        filter.verdict(&RelPath::new(path).unwrap())
    }

    #[test]
    fn the_sounds_of_wazo_are_copied_by_tenant_and_category() {
        let sounds = Filter::new(&["[a-z0-9-]+/*"], &["*/monitor*", "*/recording*"]).unwrap();
        for (path, expected) in [
            ("", Verdict::Above),
            ("54eb71f8-1f4b-4ae4-8730-638062fbe521", Verdict::Above),
            ("UPPER", Verdict::Excluded),
            ("under_score", Verdict::Excluded),
            ("tenant/acd", Verdict::Copied),
            ("tenant/acd/de_DE/a.wav", Verdict::Copied),
            ("tenant/monitor", Verdict::Excluded),
            ("tenant/monitoring-jingles", Verdict::Excluded),
            ("tenant/recordings/x.wav", Verdict::Excluded),
            ("tenant/acd/monitor", Verdict::Copied),
            ("UPPER/acd", Verdict::Excluded),
        ] {
            assert_eq!(verdict(&sounds, path), expected, "{path}");
        }
    }

    #[test]
    fn a_pattern_is_read_letter_by_letter() {
        for (pattern, name, matches) in [
            ("*.conf", "a.conf", true),
            ("*.conf", ".conf", true),
            ("*.conf", "a.conf.bak", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[0-9]+x", "007x", true),
            ("[0-9]+x", "x", false),
            ("[0-9]", "07", false),
            ("*", "any", true),
            ("**", "any", true),
            ("a*", "a", true),
            ("a*b*", "axxbyy", true),
            ("a*b*", "axx", false),
            ("plain", "plain", true),
            ("plain", "plainer", false),
            ("[*]", "*", true),
            ("[*]", "a", false),
            ("[a-]+", "a-a", true),
            ("a+", "a+", true),
            ("*a*a*a*a*a*a*b", &"a".repeat(255), false),
        ] {
            let filter = Filter::new(&[pattern], &[]).unwrap();
            assert_eq!(verdict(&filter, name) == Verdict::Copied, matches, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_that_cannot_be_read_is_named() {
        let long = "a".repeat(127) + "*";
        assert!(Filter::new(&[&long], &[]).is_err() && Filter::new(&[&long[1..]], &[]).is_ok());
        assert!(Filter::new(&["a".repeat(255)], &[]).is_ok());
        for bad in ["", "/etc", "a//b", "../x", "[a", "[]", "[!a]", "[z-a]"] {
            let error = Filter::new(&[bad], &[]).unwrap_err();
            assert!(error.to_string().contains(&format!("\"{bad}\"")), "{error}");
        }
    }

    #[test]
    fn without_rules_everything_is_copied() {
        assert_eq!(verdict(&Filter::default(), "any/thing"), Verdict::Copied);
        let with = Filter::default().excluding(&["cache/"]).unwrap();
        assert_eq!(verdict(&with, "cache/x"), Verdict::Excluded);
        assert_eq!(verdict(&with, "cached"), Verdict::Copied);
    }
}
