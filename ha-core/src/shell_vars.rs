//! A file of variables that a shell reads (`KEY=value`, as `/etc/asha.conf`): its values as data, and the same file with
//! some of them set.
//!
//! Nothing is evaluated. What a shell would evaluate, or would take for something else than what is written, is refused
//! with its line: to guess would be to read another file than the shell does.

use std::ops::Range;

/// A line, or a variable's value, that a shell would take otherwise than as written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {written}: {why}")]
pub struct NotData {
    /// Counted from 1.
    pub line: usize,
    /// As it stands there: `KEY=value`, or the whole line.
    pub written: String,
    /// What a shell would do, and what would be right.
    pub why: &'static str,
}

/// The variables of a file, in its order. A name may come twice: the last one is in force, as in a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShellVars<'t> {
    text: &'t str,
    found: Vec<Variable<'t>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Variable<'t> {
    line: usize,
    name: &'t str,
    /// Where the value stands in the text, without its quotes.
    place: Range<usize>,
    quote: Option<char>,
}

impl<'t> ShellVars<'t> {
    /// Finds the variables. What their values mean is looked at by [`ShellVars::value`] only: one that nobody asks for
    /// may name other variables.
    ///
    /// # Errors
    ///
    /// A line that is neither blank nor a comment nor one assignment: a shell would run it, and it could set anything.
    pub fn parse(text: &'t str) -> Result<ShellVars<'t>, NotData> {
        let (mut found, mut at) = (Vec::new(), 0);
        for (index, line) in text.split_inclusive('\n').enumerate() {
            let content = line.strip_suffix('\n').unwrap_or(line);
            let content = content.strip_suffix('\r').unwrap_or(content);
            let refused = |why| NotData { line: index + 1, written: shown(content), why };
            if let Some(mut variable) = assignment(content).map_err(refused)? {
                variable.line = index + 1;
                variable.place = at + variable.place.start..at + variable.place.end;
                found.push(variable);
            }
            at += line.len();
        }
        Ok(ShellVars { text, found })
    }

    /// What a variable holds; `None`: the file does not have it.
    ///
    /// # Errors
    ///
    /// A shell would take the value otherwise than as written.
    pub fn value(&self, name: &str) -> Result<Option<&'t str>, NotData> {
        let Some(variable) = self.in_force(name) else { return Ok(None) };
        let value = &self.text[variable.place.clone()];
        match why_not_data(value, variable.quote) {
            None => Ok(Some(value)),
            Some(why) => {
                let written = format!("{name}={}", shown(value));
                Err(NotData { line: variable.line, written, why })
            }
        }
    }

    /// Where a variable is set, counted from 1.
    pub fn line(&self, name: &str) -> Option<usize> {
        self.in_force(name).map(|variable| variable.line)
    }

    /// The same text with these variables set: what is in force of each is replaced between its quotes, and a variable
    /// that is missing gets a line at the end. Everything else stays as it is, byte for byte.
    ///
    /// # Errors
    ///
    /// A value that no shell takes as written without quotes: nothing is set.
    pub fn set(&self, wanted: &[(&str, &str)]) -> Result<String, NotData> {
        let mut text = self.text.to_owned();
        let line_end = if self.text.contains("\r\n") { "\r\n" } else { "\n" };
        let (mut places, mut added) = (Vec::new(), String::new());
        for (name, value) in wanted {
            if let Some(why) = why_not_data(value, None) {
                let line = self.line(name).unwrap_or_else(|| self.text.lines().count() + 1);
                return Err(NotData { line, written: format!("{name}={}", shown(value)), why });
            }
            match self.in_force(name) {
                Some(variable) => places.push((variable.place.clone(), *value)),
                None => added += &format!("{name}={value}{line_end}"),
            }
        }
        // from the end, so that the places before stay true
        places.sort_by_key(|(place, _)| std::cmp::Reverse(place.start));
        for (place, value) in places {
            text.replace_range(place, value);
        }
        if !added.is_empty() && !text.is_empty() && !text.ends_with('\n') {
            text += line_end;
        }
        Ok(text + &added)
    }

    fn in_force(&self, name: &str) -> Option<&Variable<'t>> {
        self.found.iter().rfind(|variable| variable.name == name)
    }
}

/// The one assignment of a line, its place counted from the line's start; `None`: the line is blank or a comment.
fn assignment(line: &str) -> Result<Option<Variable<'_>>, &'static str> {
    let blank = [' ', '\t'];
    let words = line.trim_start_matches(blank);
    if words.is_empty() || words.starts_with('#') {
        return Ok(None);
    }
    let words = match words.strip_prefix("export") {
        Some(rest) if rest.starts_with(blank) => rest.trim_start_matches(blank),
        _ => words,
    };
    let Some((name, rest)) = words.split_once('=').filter(|(name, _)| is_name(name)) else {
        return Err("a shell would run this: write KEY=value, without blanks around the =");
    };
    let start = line.len() - rest.len();
    let (value, quote) = word(rest)?;
    let behind = &rest[value.end + usize::from(quote.is_some())..];
    let comment = behind.trim_start_matches(blank);
    if !(comment.is_empty() || comment.starts_with('#') && comment.len() < behind.len()) {
        return Err(match quote {
            Some(_) => "goes on behind its quotes: write the whole value between one pair of quotes",
            None => "a shell would run what stands behind the blank or the sign: write the value in quotes",
        });
    }
    Ok(Some(Variable { line: 0, name, place: start + value.start..start + value.end, quote }))
}

fn is_name(name: &str) -> bool {
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.starts_with(|first: char| first.is_ascii_digit()) && !name.is_empty() && name.bytes().all(in_name)
}

/// What a shell runs or expands; where it ends, on this line or on another, is a language of its own.
fn substitutes(word: &str) -> bool {
    ["`", "$(", "${", "$["].iter().any(|begin| word.contains(begin))
}

/// Where the first word of `rest` is, without its quotes, and which quotes these are.
fn word(rest: &str) -> Result<(Range<usize>, Option<char>), &'static str> {
    const SUBSTITUTES: &str = "a shell would evaluate it, ` or $( ): write the value as it is meant";
    const UNENDED: &str = "goes on in the next line: write the value, and its quotes, in one line";
    if let Some(quote @ ('"' | '\'')) = rest.chars().next() {
        let mut escaped = false;
        let end = rest[1..].find(|c| {
            let closes = c == quote && !escaped;
            escaped = quote == '"' && c == '\\' && !escaped;
            closes
        });
        if quote == '"' && substitutes(&rest[..end.map_or(rest.len(), |end| end + 1)]) {
            return Err(SUBSTITUTES);
        }
        return end.map(|end| (1..end + 1, Some(quote))).ok_or(UNENDED);
    }
    let end = rest.find([' ', '\t', ';', '&', '|', '<', '>', '(', ')']).unwrap_or(rest.len());
    let word = &rest[..end];
    if substitutes(&rest[..rest.len().min(end + 1)]) {
        return Err(SUBSTITUTES);
    }
    // quotes in the middle may hold what ends a word, or the line end
    if word.contains(['"', '\'']) {
        return Err("has quotes within its value: write the whole value between one pair of quotes");
    }
    if word.ends_with('\\') {
        return Err(UNENDED);
    }
    Ok((0..end, None))
}

/// Why a shell would take this word otherwise than as written; `None`: it would not.
fn why_not_data(value: &str, quote: Option<char>) -> Option<&'static str> {
    if value.contains(char::is_control) {
        return Some("holds a control character: write the value without it");
    }
    match quote {
        // between these, everything is data
        Some('\'') => None,
        Some(_) => {
            let special = value.contains(['$', '`', '\\', '"']);
            special
                .then_some("a shell would evaluate $, ` and \\: write the value as it is meant, without them")
        }
        None if value.contains(['$', '`', '\\']) || value.starts_with('~') || value.contains(":~") => {
            Some("a shell would evaluate $, `, \\ and ~: write the value as it is meant, without them")
        }
        None if value.contains([' ', ';', '&', '|', '<', '>', '(', ')', '"', '\'']) => {
            Some("is not one word for a shell: write it without blanks, quotes and ; & | < > ( )")
        }
        None if value.starts_with('#') => Some("is no comment for a shell: put a blank before it"),
        None => None,
    }
}

/// Characters of a line that a message shows.
const SHOWN: usize = 80;

fn shown(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut start: String = text.chars().take(SHOWN).map(plain).collect();
    if text.chars().nth(SHOWN).is_some() {
        start.push('…');
    }
    start
}

#[cfg(test)]
#[path = "shell_vars_tests.rs"]
mod tests;
