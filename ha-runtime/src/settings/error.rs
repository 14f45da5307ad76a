//! What is wrong with a settings file, where, and what would be right.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use thiserror::Error;
use toml::de::{DeTable, DeValue};

/// The settings cannot be used; nothing was changed, and a running daemon keeps the settings it has.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// The file is there and cannot be read.
    #[error("could not read the settings in {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is read and means nothing, or nothing good.
    #[error("{place}: {why}")]
    Invalid {
        /// File, line and key.
        place: Place,
        /// The value, what is wrong with it and what would be right.
        why: String,
    },
}

/// A place in a settings file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Which file.
    pub path: PathBuf,
    /// Counted from 1; `None`: the value is a default and not in the file.
    pub line: Option<usize>,
    /// With its sections: `probe.host.timeout`. Empty when the file as a whole cannot be parsed.
    pub key: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        Ok(())
    }
}

/// A value that its type allows and its meaning does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Invalid {
    pub(super) key: &'static str,
    pub(super) why: String,
}

impl Invalid {
    pub(super) fn at(self, path: &Path, text: &str) -> SettingsError {
        let line = DeTable::parse(text)
            .ok()
            .and_then(|table| span_of(table.get_ref(), self.key))
            .map(|span| line_of(text, span.start));
        let place = Place { path: path.to_owned(), line, key: self.key.to_owned() };
        SettingsError::Invalid { place, why: self.why }
    }
}

/// The parser's own complaint, with the whole name of the key that it is about.
pub(super) fn from_parser(path: &Path, text: &str, error: &toml::de::Error) -> SettingsError {
    let key = error.span().and_then(|span| match DeTable::parse(text) {
        Ok(table) => key_at(table.get_ref(), &span),
        // a file that is not TOML has no keys, but a key given twice is what the complaint points at
        Err(_) => text.get(span).filter(|word| is_bare_key(word)).map(str::to_owned),
    });
    let line = error.span().map(|span| line_of(text, span.start));
    let place = Place { path: path.to_owned(), line, key: key.unwrap_or_default() };
    SettingsError::Invalid { place, why: error.message().replace('\n', " ") }
}

fn is_bare_key(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// Where a key is written; for `a.b.c` the place of `c`, or of the nearest section that is there.
fn span_of(table: &DeTable<'_>, key: &str) -> Option<Range<usize>> {
    let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    let (name, value) = table.iter().find(|(name, _)| name.get_ref() == first)?;
    match (rest, value.get_ref()) {
        (Some(rest), DeValue::Table(inner)) => span_of(inner, rest).or(Some(name.span())),
        (Some(_), _) => None,
        (None, _) => Some(name.span()),
    }
}

/// The innermost key whose name or value holds `span`.
fn key_at(table: &DeTable<'_>, span: &Range<usize>) -> Option<String> {
    let holds = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
    for (name, value) in table {
        // the span of a table is its header's: look inside before asking whether it holds anything
        if let DeValue::Table(inner) = value.get_ref()
            && let Some(key) = key_at(inner, span)
        {
            return Some(format!("{}.{key}", name.get_ref()));
        }
        if holds(name.span()) || holds(value.span()) {
            return Some(name.get_ref().to_string());
        }
    }
    None
}
