//! Paths and digests as text, for documents that are kept and sent.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{FileState, Files};
use crate::replication::manifest::Digest;
use crate::replication::path::{BadPath, RelPath};

/// A path as text that any path can be read back from: bytes that are no printable ASCII, and `%`, as `%` and two digits.
fn path_to_text(path: &RelPath) -> String {
    let mut text = String::with_capacity(path.as_bytes().len());
    for byte in path.as_bytes() {
        match byte {
            b' '..=b'~' if *byte != b'%' => text.push(char::from(*byte)),
            _ => write!(text, "%{byte:02x}").expect("a string takes all"),
        }
    }
    text
}

fn path_of_text(text: &str) -> Result<RelPath, BadPath> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        bytes.push(match (first, behind) {
            (b'%', [high, low, behind @ ..]) => {
                rest = behind;
                nibble(*high).zip(nibble(*low)).map_or(0, |(high, low)| high << 4 | low)
            }
            (b'%', _) => 0,
            (other, _) => *other,
        });
    }
    // what is no pair of digits became a NUL, which no path has
    RelPath::new(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

impl From<Files> for BTreeMap<String, FileState> {
    fn from(files: Files) -> Self {
        files.0.iter().map(|(path, state)| (path_to_text(path), *state)).collect()
    }
}

impl TryFrom<BTreeMap<String, FileState>> for Files {
    type Error = BadPath;
    fn try_from(files: BTreeMap<String, FileState>) -> Result<Files, BadPath> {
        files
            .into_iter()
            .map(|(text, state)| Ok((path_of_text(&text)?, state)))
            .collect::<Result<_, _>>()
            .map(Files)
    }
}

/// The same for a path alone: `#[serde(with = "...")]`.
impl Serialize for RelPath {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&path_to_text(self))
    }
}

impl<'de> Deserialize<'de> for RelPath {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<RelPath, D::Error> {
        path_of_text(&String::deserialize(from)?).map_err(de::Error::custom)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{self:?}"))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(from)?;
        let hash = blake3::Hash::from_hex(&text);
        hash.map(|hash| Digest(*hash.as_bytes()))
            .map_err(|_| de::Error::custom(format_args!("\"{text}\" is no digest of 64 digits")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_that_is_no_path_is_refused() {
        for bad in ["/etc/passwd", "a/../b", "a%00", "a%", "a%g0", "a%2"] {
            assert!(path_of_text(bad).is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<Digest>("\"abc\"").is_err());
    }

    proptest! {
        #[test]
        fn every_path_and_digest_comes_back_from_its_text(bytes in proptest::collection::vec(1u8.., 1..20), digest: [u8; 32]) {
            prop_assume!(RelPath::new(&bytes).is_ok());
            let files = Files([(RelPath::new(&bytes).unwrap(), FileState { size: 7, digest: Digest(digest) })].into());
            let text = serde_json::to_string(&files).unwrap();
            prop_assert!(text.is_ascii());
            prop_assert_eq!(serde_json::from_str::<Files>(&text).unwrap(), files);
        }
    }
}
