//! A path inside a dataset.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// A path relative to a dataset's root: bytes, because file names need not be UTF-8.
///
/// Never absolute, no `.` or `..`, no empty segment, no NUL; at most [`RelPath::MAX`] bytes with segments of at most
/// [`RelPath::MAX_SEGMENT`]. The empty path is the root itself. Ordered segment by segment, so that a directory is
/// followed by all that lies below it before its next sibling comes. Copies share their bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RelPath(Arc<[u8]>);

/// Not a path inside a dataset. Nothing was done with it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadPath {
    /// It begins with a slash.
    #[error("\"{0}\" is absolute; paths are relative to their dataset")]
    Absolute(String),
    /// It has an empty segment, `.` or `..`, or is no segment where one is wanted.
    #[error("\"{0}\" has an empty, \".\" or \"..\" segment, or is not one name")]
    Segment(String),
    /// It contains a NUL byte.
    #[error("\"{0}\" contains a NUL byte")]
    Nul(String),
    /// It is longer than the kernel accepts.
    #[error("a path of {0} bytes is too long; the limit is {max} bytes, {segment} in one name",
        max = RelPath::MAX, segment = RelPath::MAX_SEGMENT)]
    TooLong(usize),
}

impl RelPath {
    /// Longest path in bytes: `PATH_MAX` without its NUL.
    pub const MAX: usize = 4095;
    /// Longest name in bytes: `NAME_MAX`.
    pub const MAX_SEGMENT: usize = 255;

    /// The dataset's root itself.
    pub fn root() -> RelPath {
        RelPath(Arc::default())
    }

    /// Checks `bytes`; an empty path is the root.
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<RelPath, BadPath> {
        let bytes = bytes.as_ref();
        if bytes.len() > RelPath::MAX {
            return Err(BadPath::TooLong(bytes.len()));
        }
        if bytes.is_empty() {
            return Ok(RelPath::root());
        }
        if bytes[0] == b'/' {
            return Err(BadPath::Absolute(printable(bytes)));
        }
        if bytes.contains(&0) {
            return Err(BadPath::Nul(printable(bytes)));
        }
        for segment in bytes.split(|byte| *byte == b'/') {
            match segment {
                b"" | b"." | b".." => return Err(BadPath::Segment(printable(bytes))),
                long if long.len() > RelPath::MAX_SEGMENT => return Err(BadPath::TooLong(long.len())),
                _ => {}
            }
        }
        Ok(RelPath(bytes.into()))
    }

    /// This path's entry called `name`.
    pub fn join(&self, name: impl AsRef<[u8]>) -> Result<RelPath, BadPath> {
        if self.is_root() {
            return RelPath::new(name);
        }
        RelPath::new([&self.0, b"/".as_slice(), name.as_ref()].concat())
    }

    /// This path's entry called `name`, which must be one segment.
    pub fn entry(&self, name: &[u8]) -> Result<RelPath, BadPath> {
        if RelPath::is_name(name) { self.join(name) } else { Err(BadPath::Segment(printable(name))) }
    }

    /// Whether `name` can be one segment.
    pub fn is_name(name: &[u8]) -> bool {
        !matches!(name, b"" | b"." | b"..")
            && name.len() <= RelPath::MAX_SEGMENT
            && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
    }

    /// The bytes, segments separated by `/`; empty for the root.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the dataset's root itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The segments from the root on; none for the root.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|segment| !segment.is_empty())
    }

    /// How far below the root it lies; 0 for the root.
    pub fn depth(&self) -> usize {
        self.segments().count()
    }

    /// The last segment; `None` for the root.
    pub fn name(&self) -> Option<&[u8]> {
        self.segments().next_back()
    }

    /// The directory that holds it; `None` for the root.
    pub fn parent(&self) -> Option<RelPath> {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => Some(RelPath(self.0[..slash].into())),
            None if self.is_root() => None,
            None => Some(RelPath::root()),
        }
    }

    /// Whether it lies below `directory`, at any depth. Nothing lies below itself.
    pub fn is_below(&self, directory: &RelPath) -> bool {
        match self.0.strip_prefix(directory.as_bytes()) {
            Some(rest) if directory.is_root() => !rest.is_empty(),
            Some(rest) => rest.first() == Some(&b'/'),
            None => false,
        }
    }
}

/// Bytes that are compared at once.
const BLOCK: usize = 8;

impl Ord for RelPath {
    fn cmp(&self, other: &RelPath) -> Ordering {
        // block by block, which the processor compares at once: paths of one directory begin alike
        let alike =
            self.0.chunks_exact(BLOCK).zip(other.0.chunks_exact(BLOCK)).take_while(|(a, b)| a == b).count();
        let from = alike * BLOCK;
        let differ = self.0[from..].iter().zip(&other.0[from..]).find(|(a, b)| a != b);
        // the separator sorts before every byte of a name: "a/b" belongs before "a-b"
        let rank = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
        match differ {
            Some((a, b)) => rank(a).cmp(&rank(b)),
            None => self.0.len().cmp(&other.0.len()),
        }
    }
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &RelPath) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Readable on a terminal: control characters and bytes that are not UTF-8 are escaped; the root is `.`.
impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_root() { "." } else { "" })?;
        f.write_str(&printable(&self.0))
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// `bytes` as text that is safe to print.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if letter.is_control() || letter == '\\' {
                text.extend(letter.escape_default());
            } else {
                text.push(letter);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text).unwrap()
    }

    #[test]
    fn what_could_leave_the_dataset_is_not_a_path() {
        for bad in ["/etc", "..", "a/../b", "a//b", "a/", "./a", "a/.", "a\0b"] {
            assert!(RelPath::new(bad).is_err(), "{bad:?}");
        }
        assert!(RelPath::new(vec![b'a'; 4096]).is_err());
        assert!(RelPath::new(vec![b'a'; 256]).is_err());
        assert!(path("a").join("..").is_err());
        for bad in ["", ".", "..", "a/b", "a\0", &"a".repeat(256)] {
            assert!(!RelPath::is_name(bad.as_bytes()), "{bad:?}");
            assert!(path("d").entry(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(RelPath::is_name(b"...") && RelPath::is_name(&[b'a'; 255]));
        // one name, not two segments, is a caller's rule; the result is checked either way
        assert_eq!(path("a").join("b").unwrap(), path("a/b"));
    }

    #[test]
    fn a_directory_is_followed_by_all_that_lies_below_it() {
        let mut paths: Vec<RelPath> = ["a-b", "a/c", "a", "b", "a/c/d", "", "a.b"].map(path).into();
        paths.sort();
        let text: Vec<String> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(text, [".", "a", "a/c", "a/c/d", "a-b", "a.b", "b"]);
    }

    #[test]
    fn names_that_are_not_text_are_kept_and_printed_escaped() {
        let odd = RelPath::new(b"caf\xe9\n\x1b[2J").unwrap();
        assert_eq!(odd.as_bytes(), b"caf\xe9\n\x1b[2J");
        assert_eq!(odd.to_string(), "caf\\xe9\\n\\u{1b}[2J");
    }

    #[test]
    fn a_parent_is_one_segment_shorter_and_holds_it() {
        assert_eq!(path("a/b").parent(), Some(path("a")));
        assert_eq!(path("a").parent(), Some(RelPath::root()));
        assert_eq!(RelPath::root().parent(), None);
        assert!(path("a/b").is_below(&path("a")) && path("a").is_below(&RelPath::root()));
        assert!(!path("ab").is_below(&path("a")) && !path("a").is_below(&path("a")));
    }

    proptest! {
        #[test]
        fn the_order_is_the_order_of_the_lists_of_segments(
            a in proptest::collection::vec("[a./-]{1,3}", 0..4), b in proptest::collection::vec("[a./-]{1,3}", 0..4),
        ) {
            if let (Ok(a), Ok(b)) = (RelPath::new(a.join("/")), RelPath::new(b.join("/"))) {
                prop_assert_eq!(a.cmp(&b), a.segments().collect::<Vec<_>>().cmp(&b.segments().collect::<Vec<_>>()));
            }
        }
    }
}
