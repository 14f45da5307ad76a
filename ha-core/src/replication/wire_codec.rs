//! Frames to bytes and back.

use super::super::listing::{Listed, Summary};
use super::super::manifest::{Digest, Entry, Kind, Meta, Mtime};
use super::super::path::RelPath;
use super::{
    Action, Content, ErrorKind, Frame, Hello, MAX_FRAME, MAX_MESSAGE, MAX_XATTRS, Outcome, State,
    Transaction, WireError,
};
use crate::role::Role;

type Read<T> = Result<T, WireError>;

/// Appends the frame to `out`, its length first. `Err(TooLong)`: `out` is as it was.
pub fn encode(frame: &Frame, out: &mut Vec<u8>) -> Result<(), WireError> {
    let start = out.len();
    out.extend([0; 4]);
    Writer(out).frame(frame);
    let length = out.len() - start - 4;
    if length > MAX_FRAME {
        out.truncate(start);
        return Err(WireError::TooLong(length));
    }
    out[start..start + 4].copy_from_slice(&(length as u32).to_be_bytes());
    Ok(())
}

/// Reads what follows a frame's length.
pub fn decode(body: &[u8]) -> Result<Frame, WireError> {
    if body.len() > MAX_FRAME {
        return Err(WireError::TooLong(body.len()));
    }
    let mut reader = Reader(body);
    let frame = reader.frame()?;
    if reader.0.is_empty() { Ok(frame) } else { Err(WireError::Malformed("bytes after its last field")) }
}

/// Frames out of a stream that arrives in arbitrary pieces.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
}

impl Decoder {
    /// The length in a frame's first four bytes, checked.
    pub fn length(header: [u8; 4]) -> Result<usize, WireError> {
        match u32::from_be_bytes(header) as usize {
            0 => Err(WireError::Malformed("it is empty")),
            length if length > MAX_FRAME => Err(WireError::TooLong(length)),
            length => Ok(length),
        }
    }

    /// Takes the next piece.
    pub fn push(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
    }

    /// The next whole frame; `None`: more must arrive first. After an error nothing sensible can follow.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, WireError> {
        let Some(header) = self.bytes.first_chunk::<4>() else { return Ok(None) };
        let end = 4 + Decoder::length(*header)?;
        let Some(body) = self.bytes.get(4..end) else { return Ok(None) };
        let frame = decode(body)?;
        self.bytes.drain(..end);
        Ok(Some(frame))
    }
}

struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
    fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }
    fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }
    fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }
    fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }
    fn flag(&mut self, value: bool) -> &mut Self {
        self.u8(value.into())
    }
    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }
    /// A length of more than four bytes is longer than any frame and is refused as a whole by `encode`.
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX)).raw(bytes)
    }
    fn path(&mut self, path: &RelPath) -> &mut Self {
        self.bytes(path.as_bytes())
    }
    fn message(&mut self, text: &str) -> &mut Self {
        let end = (0..=text.len().min(MAX_MESSAGE)).rfind(|at| text.is_char_boundary(*at)).unwrap_or(0);
        self.bytes(&text.as_bytes()[..end])
    }
    fn list<T>(&mut self, items: &[T], one: impl Fn(&mut Self, &T)) {
        self.u32(u32::try_from(items.len()).unwrap_or(u32::MAX));
        items.iter().for_each(|item| one(self, item));
    }

    fn meta(&mut self, meta: &Meta) -> &mut Self {
        self.u32(meta.uid).u32(meta.gid).u16(meta.mode);
        self.raw(&meta.mtime.seconds.to_be_bytes()).u32(meta.mtime.nanoseconds);
        self.u32(u32::try_from(meta.xattrs.len()).unwrap_or(u32::MAX));
        for (name, value) in &meta.xattrs {
            self.bytes(name).bytes(value);
        }
        self
    }

    fn summary(&mut self, summary: &Summary) {
        self.u64(summary.files).flag(summary.root.is_some());
        if let Some((meta, digest)) = &summary.root {
            self.meta(meta).raw(&digest.0);
        }
    }

    fn listed(&mut self, listed: &Listed) {
        let Listed { name, entry, below } = listed;
        self.bytes(name).meta(&entry.meta);
        match &entry.kind {
            Kind::File { size, link, digest } => {
                self.u8(0)
                    .u64(*size)
                    .flag(link.is_some())
                    .u64(link.unwrap_or(0).into())
                    .flag(digest.is_some());
                self.raw(digest.as_ref().map_or(&[], |digest| digest.0.as_slice()))
            }
            Kind::Dir => {
                self.u8(1).flag(below.is_some());
                self.raw(below.as_ref().map_or(&[], |digest| digest.0.as_slice()))
            }
            Kind::Symlink { target } => self.u8(2).bytes(target),
            Kind::Special => self.u8(3),
        };
    }

    fn action(&mut self, action: &Action) {
        match action {
            Action::MakeDir { path } => self.u8(0).path(path),
            Action::Place { path } => self.u8(1).path(path),
            Action::SetMeta { path, meta } => self.u8(2).path(path).meta(meta),
            Action::Link { path, to } => self.u8(3).path(path).path(to),
            Action::Symlink { path, target, meta } => self.u8(4).path(path).bytes(target).meta(meta),
            Action::Delete { path, directory } => self.u8(5).path(path).flag(*directory),
        };
    }

    fn frame(&mut self, frame: &Frame) {
        match frame {
            Frame::Hello(hello) => {
                self.u8(0).u16(hello.version).message(&hello.distribution).message(&hello.program);
            }
            Frame::AskState => {
                self.u8(1);
            }
            Frame::State(state) => {
                let role = Role::ALL.iter().position(|role| *role == state.role).unwrap_or(0);
                self.u8(2).u8(role as u8).u64(state.generation).flag(state.active);
                self.list(&state.datasets, |w, name| {
                    w.message(name);
                });
            }
            Frame::Arm { generation, transaction } => {
                self.u8(3).u64(*generation).u64(transaction.server).u64(transaction.id);
            }
            Frame::Armed { generation } => {
                self.u8(4).u64(*generation);
            }
            Frame::Control(bytes) => {
                self.u8(5).bytes(bytes);
            }
            Frame::ControlReply(bytes) => {
                self.u8(6).bytes(bytes);
            }
            Frame::Fetch(bytes) => {
                self.u8(43).bytes(bytes);
            }
            Frame::Fetched(bytes) => {
                self.u8(44).bytes(bytes);
            }
            Frame::Offer { dataset, part, last } => {
                self.u8(45).message(dataset).flag(*last).bytes(part);
            }
            Frame::Plan { part, last } => {
                self.u8(46).flag(*last).bytes(part);
            }
            Frame::CarryOut { step } => {
                self.u8(47).u32(*step);
            }
            Frame::Piece { bytes, last } => {
                self.u8(48).flag(*last).bytes(bytes);
            }
            Frame::CarriedOut(bytes) => {
                self.u8(49).bytes(bytes);
            }
            Frame::AskTree { dataset, digests } => {
                self.u8(7).u16(*dataset).flag(*digests);
            }
            Frame::Tree(summary) => {
                self.u8(8).summary(summary);
            }
            Frame::Begin { generation } => {
                self.u8(9).u64(*generation);
            }
            Frame::Ready { number, kept } => {
                self.u8(10).u64(*number).u64(*kept);
            }
            Frame::AskKept => {
                self.u8(40);
            }
            Frame::Kept { contents, last } => {
                self.u8(41).flag(*last).list(contents, |w, content| {
                    w.u16(content.dataset).path(&content.path).u64(content.size).meta(&content.meta);
                    w.flag(content.part.is_some()).u64(content.part.unwrap_or(0));
                });
            }
            Frame::File { generation, dataset, path, size, meta } => {
                self.u8(11).u64(*generation).u16(*dataset).path(path).u64(*size).meta(meta);
            }
            Frame::Resume { generation, length } => {
                self.u8(42).u64(*generation).u64(*length);
            }
            Frame::AskSignature => {
                self.u8(12);
            }
            Frame::Signature { size, bytes, last } => {
                self.u8(13).u64(*size).flag(*last).bytes(bytes);
            }
            Frame::Data { generation, bytes } => {
                self.u8(14).u64(*generation).bytes(bytes);
            }
            Frame::Copy { generation, offset, length } => {
                self.u8(15).u64(*generation).u64(*offset).u64(*length);
            }
            Frame::FileEnd { generation, digest } => {
                self.u8(16).u64(*generation).raw(digest);
            }
            Frame::Abandon { generation } => {
                self.u8(17).u64(*generation);
            }
            Frame::Step { generation, dataset, action } => {
                self.u8(18).u64(*generation).u16(*dataset).action(action);
            }
            Frame::Prepare { generation } => {
                self.u8(19).u64(*generation);
            }
            Frame::Prepared { files } => {
                self.u8(20).u64(*files);
            }
            Frame::Commit { generation } => {
                self.u8(21).u64(*generation);
            }
            Frame::Committed(outcome) => {
                self.u8(22).u64(outcome.number).u64(outcome.placed).u64(outcome.deleted);
                self.list(&outcome.warnings, |w, text| {
                    w.message(text);
                });
            }
            Frame::Error { kind, message } => {
                let number = ErrorKind::ALL.iter().position(|other| other == kind).unwrap_or(0);
                self.u8(23).u8(number as u8).message(message);
            }
            Frame::Sync { token } => {
                self.u8(25).u64(*token);
            }
            Frame::Bye => {
                self.u8(24);
            }
            Frame::AskDirectories { dataset, paths } => {
                self.u8(26).u16(*dataset).list(paths, |w, path| {
                    w.path(path);
                });
            }
            Frame::Directory { entries, last } => {
                self.u8(27).flag(*last).list(entries, Writer::listed);
            }
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(WireError::Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(head)
    }
    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk().ok_or(WireError::Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(*head)
    }
    fn u8(&mut self) -> Read<u8> {
        self.array().map(|[byte]: [u8; 1]| byte)
    }
    fn u16(&mut self) -> Read<u16> {
        self.array().map(u16::from_be_bytes)
    }
    fn u32(&mut self) -> Read<u32> {
        self.array().map(u32::from_be_bytes)
    }
    fn u64(&mut self) -> Read<u64> {
        self.array().map(u64::from_be_bytes)
    }
    fn flag(&mut self) -> Read<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(WireError::Malformed("a flag is neither yes nor no")),
        }
    }
    fn bytes(&mut self) -> Read<&'a [u8]> {
        let length = self.u32()?;
        self.take(length as usize)
    }
    fn path(&mut self) -> Read<RelPath> {
        RelPath::new(self.bytes()?).map_err(|_| WireError::Malformed("a path leads out of its dataset"))
    }
    fn message(&mut self) -> Read<String> {
        let bytes = self.bytes()?;
        if bytes.len() > MAX_MESSAGE {
            return Err(WireError::Malformed("a text is too long"));
        }
        String::from_utf8(bytes.to_vec()).map_err(|_| WireError::Malformed("a text is not UTF-8"))
    }
    /// Grows with what is really there: the count alone allocates nothing.
    fn list<T>(&mut self, one: impl Fn(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        (0..self.u32()?).map(|_| one(self)).collect()
    }

    fn meta(&mut self) -> Read<Meta> {
        let (uid, gid, mode) = (self.u32()?, self.u32()?, self.u16()?);
        let mtime = Mtime { seconds: i64::from_be_bytes(self.array()?), nanoseconds: self.u32()? };
        // the highest number means "leave it" to the kernel: it is nobody's
        if uid == u32::MAX || gid == u32::MAX || mode > 0o7777 || mtime.nanoseconds >= 1_000_000_000 {
            return Err(WireError::Malformed("an owner, a mode or a time cannot be"));
        }
        let mut meta = Meta { uid, gid, mode, mtime, ..Meta::default() };
        let mut total = 0;
        for _ in 0..self.u32()? {
            let (name, value) = (self.bytes()?, self.bytes()?);
            total += name.len() + value.len();
            if name.is_empty() || name.len() > RelPath::MAX_SEGMENT || name.contains(&0) || total > MAX_XATTRS
            {
                return Err(WireError::Malformed("an extended attribute cannot be"));
            }
            // in the order of the writer, so that one meaning has one encoding
            if meta.xattrs.last_key_value().is_some_and(|(last, _)| **last >= *name) {
                return Err(WireError::Malformed("extended attributes are out of order"));
            }
            meta.xattrs.insert(name.into(), value.into());
        }
        Ok(meta)
    }

    fn target(&mut self) -> Read<&'a [u8]> {
        match self.bytes()? {
            target if target.is_empty() || target.len() > RelPath::MAX || target.contains(&0) => {
                Err(WireError::Malformed("a symbolic link cannot point there"))
            }
            target => Ok(target),
        }
    }

    fn digest(&mut self) -> Read<Option<Digest>> {
        Ok(if self.flag()? { Some(Digest(self.array()?)) } else { None })
    }

    fn summary(&mut self) -> Read<Summary> {
        let files = self.u64()?;
        let root = if self.flag()? { Some((self.meta()?, Digest(self.array()?))) } else { None };
        Ok(Summary { root, files })
    }

    fn listed(&mut self) -> Read<Listed> {
        let (name, meta) = (self.bytes()?, self.meta()?);
        if !RelPath::is_name(name) {
            return Err(WireError::Malformed("a name is no name"));
        }
        let mut below = None;
        let kind = match self.u8()? {
            0 => {
                let (size, linked, link) = (self.u64()?, self.flag()?, self.u64()?);
                if !linked && link != 0 {
                    return Err(WireError::Malformed("a file without a second name has a link number"));
                }
                let link =
                    u32::try_from(link).map_err(|_| WireError::Malformed("a file's number is too high"))?;
                Kind::File { size, link: linked.then_some(link), digest: self.digest()?.map(Box::new) }
            }
            1 => {
                below = self.digest()?;
                Kind::Dir
            }
            2 => Kind::Symlink { target: self.target()?.into() },
            3 => Kind::Special,
            _ => return Err(WireError::Malformed("an entry of an unknown kind")),
        };
        Ok(Listed { name: name.into(), entry: Entry { kind, meta }, below })
    }

    fn content(&mut self) -> Read<Content> {
        let (dataset, path, size, meta) = (self.u16()?, self.path()?, self.u64()?, self.meta()?);
        let (partly, part) = (self.flag()?, self.u64()?);
        if part > size || !partly && part != 0 {
            return Err(WireError::Malformed("a part of a content cannot be"));
        }
        Ok(Content { dataset, path, size, meta, part: partly.then_some(part) })
    }

    fn action(&mut self) -> Read<Action> {
        let number = self.u8()?;
        let path = self.path()?;
        Ok(match number {
            0 => Action::MakeDir { path },
            1 => Action::Place { path },
            2 => Action::SetMeta { path, meta: self.meta()? },
            3 => Action::Link { path, to: self.path()? },
            4 => Action::Symlink { path, target: self.target()?.to_vec(), meta: self.meta()? },
            5 => Action::Delete { path, directory: self.flag()? },
            _ => return Err(WireError::Malformed("a step of an unknown kind")),
        })
    }

    fn frame(&mut self) -> Read<Frame> {
        let number = self.u8()?;
        Ok(match number {
            0 => Frame::Hello(Hello {
                version: self.u16()?,
                distribution: self.message()?,
                program: self.message()?,
            }),
            1 => Frame::AskState,
            2 => Frame::State(State {
                role: *Role::ALL
                    .get(usize::from(self.u8()?))
                    .ok_or(WireError::Malformed("an unknown role"))?,
                generation: self.u64()?,
                active: self.flag()?,
                datasets: self.list(Reader::message)?,
            }),
            3 => Frame::Arm {
                generation: self.u64()?,
                transaction: Transaction { server: self.u64()?, id: self.u64()? },
            },
            4 => Frame::Armed { generation: self.u64()? },
            5 => Frame::Control(self.bytes()?.to_vec()),
            6 => Frame::ControlReply(self.bytes()?.to_vec()),
            7 => Frame::AskTree { dataset: self.u16()?, digests: self.flag()? },
            8 => Frame::Tree(self.summary()?),
            9 => Frame::Begin { generation: self.u64()? },
            10 => Frame::Ready { number: self.u64()?, kept: self.u64()? },
            11 => Frame::File {
                generation: self.u64()?,
                dataset: self.u16()?,
                path: self.path()?,
                size: self.u64()?,
                meta: self.meta()?,
            },
            12 => Frame::AskSignature,
            13 => {
                let (size, last) = (self.u64()?, self.flag()?);
                Frame::Signature { size, bytes: self.bytes()?.to_vec(), last }
            }
            14 => Frame::Data { generation: self.u64()?, bytes: self.bytes()?.to_vec() },
            15 => Frame::Copy { generation: self.u64()?, offset: self.u64()?, length: self.u64()? },
            16 => Frame::FileEnd { generation: self.u64()?, digest: self.array()? },
            17 => Frame::Abandon { generation: self.u64()? },
            18 => Frame::Step { generation: self.u64()?, dataset: self.u16()?, action: self.action()? },
            19 => Frame::Prepare { generation: self.u64()? },
            20 => Frame::Prepared { files: self.u64()? },
            21 => Frame::Commit { generation: self.u64()? },
            22 => Frame::Committed(Outcome {
                number: self.u64()?,
                placed: self.u64()?,
                deleted: self.u64()?,
                warnings: self.list(Reader::message)?,
            }),
            23 => {
                let kind = *ErrorKind::ALL
                    .get(usize::from(self.u8()?))
                    .ok_or(WireError::Malformed("an unknown kind of error"))?;
                Frame::Error { kind, message: self.message()? }
            }
            24 => Frame::Bye,
            25 => Frame::Sync { token: self.u64()? },
            26 => Frame::AskDirectories { dataset: self.u16()?, paths: self.list(Reader::path)? },
            27 => {
                let last = self.flag()?;
                Frame::Directory { entries: self.list(Reader::listed)?, last }
            }
            40 => Frame::AskKept,
            41 => {
                let last = self.flag()?;
                Frame::Kept { contents: self.list(Reader::content)?, last }
            }
            42 => Frame::Resume { generation: self.u64()?, length: self.u64()? },
            43 => Frame::Fetch(self.bytes()?.to_vec()),
            44 => Frame::Fetched(self.bytes()?.to_vec()),
            45 => {
                let (dataset, last) = (self.message()?, self.flag()?);
                Frame::Offer { dataset, part: self.bytes()?.to_vec(), last }
            }
            46 => {
                let last = self.flag()?;
                Frame::Plan { part: self.bytes()?.to_vec(), last }
            }
            47 => Frame::CarryOut { step: self.u32()? },
            48 => {
                let last = self.flag()?;
                Frame::Piece { bytes: self.bytes()?.to_vec(), last }
            }
            49 => Frame::CarriedOut(self.bytes()?.to_vec()),
            unknown => return Err(WireError::Unknown(unknown)),
        })
    }
}
