//! A `.env` file of docker compose: which side its variables name, and the same file naming the other.
//!
//! Only addresses inside the values of given variables are replaced, each computed from the wanted side. So a dot is no
//! wildcard, `10.0.0.1` is not found in `10.0.0.15`, pairs that share addresses do not chain, a file that was changed by
//! half is healed, and a second run finds nothing to do (`domain.md` 3.4 lists these traps of the documented `sed`).

use std::net::IpAddr;
use std::ops::Range;

use super::{PointsAt, Side, Sides};

/// Characters of a value that a message shows.
const SHOWN: usize = 80;

/// A variable that names the side that serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it holds for each side; they differ.
    pub sides: Sides<IpAddr>,
    /// Whether its value is a list, which may hold other things beside.
    pub is_list: bool,
}

/// How a `.env` file names the side that serves.
///
/// An address may stand alone, with a port (`10.0.0.1:5060`, `[2001:db8::1]:5060`) or in a URL; a range and a network are
/// not the address. Addresses are compared as such, however they are written.
///
/// A list that names both sides stays as it is, and agrees with either: to allow both is a configuration of its own. A
/// variable that is defined twice is switched in both places, although only the last is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvFile {
    /// Every variable that names a side; all must be in the file.
    pub variables: Vec<Variable>,
}

/// A file that names no side, or not as expected: the variable, its value, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EnvFileError(pub String);

impl EnvFile {
    /// Every definition of these variables, in the file's order.
    fn definitions<'t>(&self, text: &'t str) -> Result<Vec<Definition<'t>>, EnvFileError> {
        let found: Vec<Definition<'_>> = assignments(text)
            .into_iter()
            .filter_map(|(name, value)| {
                let Variable { name, sides, is_list } =
                    *self.variables.iter().find(|variable| variable.name == name)?;
                let named = named(text, &value, is_list, sides);
                Some(Definition { name, value, sides, named })
            })
            .collect();
        let missing: Vec<&str> = self
            .variables
            .iter()
            .map(|variable| variable.name)
            .filter(|name| !found.iter().any(|definition| definition.name == *name))
            .collect();
        if missing.is_empty() {
            return Ok(found);
        }
        let missing = missing.join(", ");
        Err(EnvFileError(format!(
            "{missing}: not in the file; write each as NAME=address, as the Edge needs it"
        )))
    }

    /// Which side it points at, variable by variable.
    ///
    /// # Errors
    ///
    /// A variable is missing.
    pub fn points_at(&self, text: &str) -> Result<PointsAt, EnvFileError> {
        let definitions = self.definitions(text)?;
        let mut sides: Vec<Option<Side>> =
            definitions.iter().filter(|found| !found.names_both()).map(Definition::side).collect();
        sides.dedup();
        let side = match sides.as_slice() {
            [side] => *side,
            _ => None,
        };
        let variables = definitions
            .iter()
            .map(|found| {
                let named = if found.names_both() { side } else { found.side() };
                (found.name.to_owned(), text[found.value.clone()].to_owned(), named)
            })
            .collect();
        Ok(PointsAt { side, variables })
    }

    /// The same text, pointing at `side`: what does not name a side is as it was, to the byte. Done twice, it is as done
    /// once.
    ///
    /// # Errors
    ///
    /// A variable is missing, or names neither side; nothing is changed.
    pub fn pointed_at(&self, text: &str, side: Side) -> Result<String, EnvFileError> {
        let mut pointed = String::with_capacity(text.len());
        let mut copied = 0;
        for found in self.definitions(text)? {
            let Definition { name, sides, .. } = found;
            if found.named.is_empty() {
                let (value, Sides { master, slave }) = (shown(&text[found.value]), sides);
                return Err(EnvFileError(format!(
                    "{name}=\"{value}\" names neither side: right is {master} (master) or {slave} (slave)"
                )));
            }
            if found.names_both() {
                continue;
            }
            for Named { place, is_side, in_url } in found.named {
                if is_side != side {
                    pointed.push_str(&text[copied..place.start]);
                    pointed.push_str(&written(*sides.of(side), in_url));
                    copied = place.end;
                }
            }
        }
        pointed.push_str(&text[copied..]);
        Ok(pointed)
    }
}

/// A value for a message: it is another machine's, may be as long as the file, and its further lines may be secrets.
fn shown(value: &str) -> String {
    let line = value.lines().next().unwrap_or_default();
    let start: String =
        line.chars().take(SHOWN).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if start.chars().count() < value.chars().count() { start + "…" } else { start }
}

/// Beside a port the colons of IPv6 need brackets (RFC 3986).
fn written(address: IpAddr, in_url: bool) -> String {
    if in_url && address.is_ipv6() { format!("[{address}]") } else { address.to_string() }
}

struct Definition<'t> {
    name: &'t str,
    value: Range<usize>,
    sides: Sides<IpAddr>,
    /// What of the value names a side.
    named: Vec<Named>,
}

impl Definition<'_> {
    fn side(&self) -> Option<Side> {
        self.named.first().map(|named| named.is_side)
    }

    fn names_both(&self) -> bool {
        Side::ALL.iter().all(|side| self.named.iter().any(|named| named.is_side == *side))
    }
}

/// An address of one side, where it stands in the file: with its brackets.
struct Named {
    place: Range<usize>,
    is_side: Side,
    in_url: bool,
}

fn named(text: &str, value: &Range<usize>, is_list: bool, sides: Sides<IpAddr>) -> Vec<Named> {
    let separates = |c: char| is_list && (c.is_ascii_whitespace() || c == ',' || c == ';');
    let mut next = value.start;
    let tokens = text[value.clone()].split(separates).map(|token| {
        let start = next;
        next += token.len() + 1;
        (start, token)
    });
    tokens
        .filter_map(|(start, token)| {
            let (within, address, in_url) = address_in(token)?;
            let is_side = Side::ALL.into_iter().find(|side| *sides.of(*side) == address)?;
            Some(Named { place: start + within.start..start + within.end, is_side, in_url })
        })
        .collect()
}

/// The address in `ADDRESS`, `ADDRESS:PORT` or `SCHEME://ADDRESS[:PORT][/...]`, where it stands, and whether brackets
/// belong around IPv6.
fn address_in(token: &str) -> Option<(Range<usize>, IpAddr, bool)> {
    let scheme = token.find("://").map_or(0, |at| at + 3);
    let authority = match (scheme, &token[scheme..]) {
        (0, all) => all,
        (_, rest) => rest.split('/').next().unwrap_or(rest),
    };
    let parsed = |host: &str| host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    if let Some(address) = parsed(authority).filter(|_| scheme == 0) {
        return Some((0..authority.len(), address, false));
    }
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            port.parse::<u16>().ok()?;
            host
        }
        _ => authority,
    };
    let address = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => parsed(inner)?,
        None => parsed(host).filter(IpAddr::is_ipv4)?,
    };
    Some((scheme..scheme + host.len(), address, true))
}

/// Every variable of a `.env` and where its value stands, without its quotes and the comment behind it.
///
/// As docker compose reads it: `export`, spaces, `:` in place of `=`, quotes, and values in quotes over several lines.
fn assignments(text: &str) -> Vec<(&str, Range<usize>)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let line = at..line_end(text, at);
        let assigned = name(&text[line.clone()]).map(|(name, from)| (name, value(text, at + from)));
        let end = assigned.as_ref().map_or(line.end, |(_, value)| line_end(text, value.end));
        found.extend(assigned);
        at = end + 1;
    }
    found
}

fn line_end(text: &str, from: usize) -> usize {
    text[from..].find('\n').map_or(text.len(), |length| from + length)
}

/// The name that a line assigns to, and where in the line its value begins.
fn name(line: &str) -> Option<(&str, usize)> {
    let delimiter = line.find(['=', ':'])?;
    let name = line[..delimiter].trim_start_matches('\u{feff}').trim();
    let name = match name.strip_prefix("export") {
        Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start(),
        _ => name,
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    (!name.is_empty() && name.chars().all(is_name)).then_some((name, delimiter + 1))
}

fn value(text: &str, from: usize) -> Range<usize> {
    let line = &text[from..line_end(text, from)];
    let start = from + line.len() - line.trim_start().len();
    if let Some(quote @ ('"' | '\'')) = text[start..].chars().next()
        && let Some(end) = closing(text, start + 1, quote)
        && nothing_follows(&text[end + 1..line_end(text, end)])
    {
        return start + 1..end;
    }
    // a comment begins behind a space
    let comment = line.match_indices('#').map(|(at, _)| at).find(|at| line[..*at].ends_with([' ', '\t']));
    let end = from + line[..comment.unwrap_or(line.len())].trim_end().len();
    start.min(end)..end
}

fn closing(text: &str, from: usize, quote: char) -> Option<usize> {
    let mut escaped = false;
    text[from..]
        .char_indices()
        .find(|(_, c)| {
            let closes = *c == quote && !escaped;
            escaped = *c == '\\' && !escaped;
            closes
        })
        .map(|(at, _)| from + at)
}

fn nothing_follows(rest: &str) -> bool {
    let rest = rest.trim();
    rest.is_empty() || rest.starts_with('#')
}

#[cfg(test)]
#[path = "env_file_tests.rs"]
mod tests;
