//! Messages: written into one buffer that is used again, and read where they lie.

/// It is a request; all requests are.
const REQUEST: u16 = 1;
/// The kernel says when it is done.
pub(in crate::cluster) const ACK: u16 = 4;
/// Everything there is of a kind.
pub(in crate::cluster) const DUMP: u16 = 0x300;
/// What is there is replaced.
pub(in crate::cluster) const REPLACE: u16 = 0x100;
/// What is not there is made.
pub(in crate::cluster) const CREATE: u16 = 0x400;

/// Length, type, flags, sequence, port.
const HEADER: usize = 16;
/// An attribute's length and type.
const ATTRIBUTE: usize = 4;
/// Attributes of attributes inside.
const NESTED: u16 = 0x8000;
/// What is left of an attribute's type without its two flags.
const TYPE: u16 = 0x3fff;

/// Requests, one after another.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Writer {
    pub(super) bytes: Vec<u8>,
    messages: u32,
    /// Where the last message begins.
    last: usize,
}

impl Writer {
    /// Forgets all messages; the room stays.
    pub(in crate::cluster) fn clear(&mut self) {
        self.bytes.clear();
        self.messages = 0;
    }

    /// How many messages there are: the sequence number of the last one.
    pub(in crate::cluster) fn messages(&self) -> u32 {
        self.messages
    }

    /// One more message: `header` is the subsystem's own.
    pub(in crate::cluster) fn message(
        &mut self,
        kind: u16,
        flags: u16,
        header: &[u8],
        body: impl FnOnce(&mut Writer),
    ) {
        self.messages += 1;
        let start = self.bytes.len();
        self.last = start;
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | REQUEST).to_ne_bytes());
        self.bytes.extend(self.messages.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend(header);
        self.align();
        body(self);
        let length = u32::try_from(self.bytes.len() - start).expect("a request is a few hundred bytes");
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Has the kernel say when it is done with the last message.
    pub(in crate::cluster) fn acknowledge(&mut self) {
        if let Some(flags) = self.bytes.get_mut(self.last + 6..self.last + 8) {
            flags.copy_from_slice(&(half(flags, 0).unwrap_or_default() | ACK).to_ne_bytes());
        }
    }

    /// One attribute.
    pub(in crate::cluster) fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.enclosed(kind, |writer| writer.bytes.extend(value));
    }

    /// A name, which ends with a zero.
    pub(in crate::cluster) fn text(&mut self, kind: u16, value: &str) {
        self.enclosed(kind, |writer| {
            writer.bytes.extend(value.as_bytes());
            writer.bytes.push(0);
        });
    }

    /// An attribute of attributes.
    pub(in crate::cluster) fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Writer)) {
        self.enclosed(kind | NESTED, body);
    }

    fn enclosed(&mut self, kind: u16, body: impl FnOnce(&mut Writer)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        body(self);
        let length = u16::try_from(self.bytes.len() - start).expect("an attribute is a few hundred bytes");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.align();
    }

    fn align(&mut self) {
        let length = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(length, 0);
    }
}

/// One message from the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cluster) struct Message<'a> {
    pub(in crate::cluster) kind: u16,
    pub(super) sequence: u32,
    /// Whose request it follows from; 0: the kernel's own doing.
    pub(in crate::cluster) port: u32,
    /// The subsystem's header, then attributes.
    pub(in crate::cluster) body: &'a [u8],
}

/// The messages that lie there; what is cut short is left out.
pub(in crate::cluster) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = word(bytes, 0)? as usize;
        let body = bytes.get(HEADER..length)?;
        let message =
            Message { kind: half(bytes, 4)?, sequence: word(bytes, 8)?, port: word(bytes, 12)?, body };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes that lie there, with their types; what is cut short is left out.
pub(in crate::cluster) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(half(bytes, 0)?);
        let attribute = (half(bytes, 2)? & TYPE, bytes.get(ATTRIBUTE..length)?);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(attribute)
    })
}

/// The first attribute of that type.
pub(in crate::cluster) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(of, _)| *of == kind).map(|(_, value)| value)
}

/// A name without the zero at its end.
pub(in crate::cluster) fn text(value: &[u8]) -> &str {
    let name = value.split(|byte| *byte == 0).next().unwrap_or_default();
    std::str::from_utf8(name).unwrap_or_default()
}

/// Four bytes at that place, in this machine's order.
pub(in crate::cluster) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

/// Two bytes at that place, in this machine's order.
fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again() {
        let mut writer = Writer::default();
        writer.message(7, ACK, &[1, 2], |writer| {
            writer.text(3, "lease");
            writer.nest(4, |writer| writer.attribute(5, &[9]));
        });
        writer.message(8, 0, &[], |_| ());
        let read: Vec<_> = messages(&writer.bytes).collect();
        assert_eq!(
            read.iter().map(|message| (message.kind, message.sequence)).collect::<Vec<_>>(),
            [(7, 1), (8, 2)]
        );
        let body = &read[0].body[4..];
        assert_eq!(attribute(body, 3).map(text), Some("lease"));
        assert_eq!(attribute(attribute(body, 4).unwrap(), 5), Some(&[9][..]));
        assert_eq!(attribute(body, 6), None);
        writer.clear();
        assert_eq!((writer.bytes.len(), writer.messages()), (0, 0));
    }

    #[test]
    fn every_beginning_of_a_message_is_read_without_harm() {
        let mut writer = Writer::default();
        writer.message(7, 0, &[0; 4], |writer| writer.nest(1, |writer| writer.text(2, "name")));
        for length in 0..writer.bytes.len() {
            assert_eq!(messages(&writer.bytes[..length]).count(), 0, "{length}");
            let _ = attributes(&writer.bytes[..length]).count();
        }
        assert_eq!(messages(&[0; 64]).count(), 0);
        assert_eq!(attributes(&[0; 64]).count(), 0);
    }
}
