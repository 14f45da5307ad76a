//! A long list in several frames: a spool, or a plan.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use ha_core::replication::wire::{CHUNK, Frame};
use ha_core::voicemail::{Base, Spool};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::sync::{Link, SyncError};

/// Bytes of a list that a peer may make us keep: of as many files as [`super::scan`] compares, and more of no use.
const MAX_LIST: usize = 256 << 20;

/// What an offer says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Offered {
    /// What the returning node holds.
    pub(super) spool: Spool,
    /// What both had when it last fetched, where the serving node cannot know: it is one that never fetches.
    pub(super) base: Option<Base>,
}

/// Sends a list, in frames that `frame` makes of a part and whether it is the last.
pub(super) fn send<S: Read + Write + AsFd>(
    link: &mut Link<S>,
    list: &impl Serialize,
    frame: impl Fn(Vec<u8>, bool) -> Frame,
) -> Result<(), SyncError> {
    let text = serde_json::to_vec(list).map_err(|error| SyncError::Cut(io::Error::other(error)))?;
    let mut parts = text.chunks(CHUNK).peekable();
    while let Some(part) = parts.next() {
        link.send(&frame(part.to_vec(), parts.peek().is_none()))?;
    }
    link.flush()
}

/// A list that arrives.
#[derive(Debug, Default)]
pub(super) struct List(Vec<u8>);

impl List {
    /// Takes the next part. Err: a clause.
    pub(super) fn push(&mut self, part: &[u8]) -> Result<(), String> {
        if self.0.len() + part.len() > MAX_LIST {
            return Err(format!("a list of more than {} MiB", MAX_LIST >> 20));
        }
        self.0.extend_from_slice(part);
        Ok(())
    }

    /// What it says, once all of it is there. Err: a clause.
    pub(super) fn read<T: DeserializeOwned>(self) -> Result<T, String> {
        serde_json::from_slice(&self.0).map_err(|error| format!("a list that cannot be read: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_without_an_end_is_refused() {
        let mut list = List::default();
        let part = vec![b' '; 16 << 20];
        for _ in 0..16 {
            list.push(&part).unwrap();
        }
        assert!(list.push(b" ").unwrap_err().contains("256 MiB"));
    }

    #[test]
    fn what_is_no_list_of_the_kind_is_refused() {
        let mut list = List::default();
        list.push(br#"{"steps": [{"write": {"path": "../x", "over": null}}]}"#).unwrap();
        let why = list.read::<ha_core::voicemail::Plan>().unwrap_err();
        assert!(why.starts_with("a list that cannot be read"), "{why}");
    }
}
