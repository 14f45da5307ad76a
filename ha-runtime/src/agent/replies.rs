//! Many answers to one question, written together.

use std::io::Write;

use ha_core::replication::wire::{CHUNK, Frame, encode};

use super::AgentError;

/// Collects frames up to a size that is worth a write.
pub(super) struct Replies<'a, W> {
    output: &'a mut W,
    bytes: Vec<u8>,
}

impl<'a, W: Write> Replies<'a, W> {
    pub(super) fn new(output: &'a mut W) -> Replies<'a, W> {
        Replies { output, bytes: Vec::new() }
    }

    pub(super) fn add(&mut self, frame: &Frame) -> Result<(), AgentError> {
        encode(frame, &mut self.bytes).map_err(AgentError::Wire)?;
        if self.bytes.len() > CHUNK { self.flush() } else { Ok(()) }
    }

    pub(super) fn flush(&mut self) -> Result<(), AgentError> {
        let written = self.output.write_all(&self.bytes).and_then(|()| self.output.flush());
        self.bytes.clear();
        written.map_err(AgentError::Cut)
    }
}
