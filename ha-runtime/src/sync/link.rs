//! Frames over a stream.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use ha_core::replication::wire::{Decoder, Frame, decode, encode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::error::SyncError;

/// Bytes that are collected before they are written.
const BUFFER: usize = 64 << 10;

/// Frames that a far end may have said before it hears that we stopped listening: the lists of many directories. One that
/// says more is not worth the wait: a new connection is sooner there.
const MAX_PASSED_OVER: usize = 100_000;
/// Bytes of them.
const MAX_PASSED_OVER_BYTES: u64 = 64 << 20;

/// A peer's text without what a terminal would obey.
pub(crate) fn tame(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

/// Writes one frame.
pub(crate) fn write_frame(out: &mut impl Write, frame: &Frame) -> Result<u64, SyncError> {
    let mut bytes = Vec::new();
    encode(frame, &mut bytes)?;
    out.write_all(&bytes).and_then(|()| out.flush()).map_err(SyncError::Cut)?;
    Ok(bytes.len() as u64)
}

/// Reads one frame; `None`: the stream ended where a frame could have begun.
pub(crate) fn read_frame(input: &mut impl Read, bytes: &mut u64) -> Result<Option<Frame>, SyncError> {
    let mut header = [0; 4];
    let mut filled = 0;
    while filled < 4 {
        match input.read(&mut header[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(SyncError::Cut(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(SyncError::Cut(error)),
        }
    }
    let length = Decoder::length(header)?;
    let mut body = vec![0; length];
    input.read_exact(&mut body).map_err(SyncError::Cut)?;
    *bytes += 4 + length as u64;
    Ok(Some(decode(&body)?))
}

/// The near end's stream: counts, collects small frames, keeps to a rate, and notices a refusal between two answers.
#[derive(Debug)]
pub(crate) struct Link<S> {
    stream: S,
    out: Vec<u8>,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// Bytes a second, and since when how many were sent.
    rate: Option<(u64, Instant, u64)>,
    tokens: u64,
}

impl<S: Read + Write + AsFd> Link<S> {
    pub(crate) fn new(stream: S) -> Link<S> {
        Link { stream, out: Vec::new(), sent: 0, received: 0, rate: None, tokens: 0 }
    }

    /// Keeps to so many bytes a second from now on.
    pub(crate) fn limit(&mut self, rate: Option<u64>) {
        self.rate = rate.filter(|rate| *rate > 0).map(|rate| (rate, Instant::now(), 0));
    }

    /// Says something that needs no answer; it is written soon.
    pub(crate) fn send(&mut self, frame: &Frame) -> Result<(), SyncError> {
        encode(frame, &mut self.out)?;
        if self.out.len() >= BUFFER {
            self.flush()?;
            // an answer that nobody asked for is a refusal: do not send gigabytes to a full disk
            if self.is_readable() {
                self.receive("what was sent")?;
                return Err(SyncError::Unexpected { asked: "what was sent" });
            }
        }
        Ok(())
    }

    /// Says something and waits for the answer; a refusal is an error.
    pub(crate) fn ask(&mut self, asked: &'static str, frame: &Frame) -> Result<Frame, SyncError> {
        encode(frame, &mut self.out)?;
        self.flush()?;
        self.receive(asked)
    }

    /// Waits until the other end asks for something of its own accord; `None`: it hung up.
    pub(crate) fn asked(&mut self) -> Result<Option<Frame>, SyncError> {
        read_frame(&mut self.stream, &mut self.received)
    }

    /// Waits for a further answer.
    pub(crate) fn receive(&mut self, asked: &'static str) -> Result<Frame, SyncError> {
        match read_frame(&mut self.stream, &mut self.received)? {
            Some(Frame::Error { kind, message }) => Err(SyncError::Remote { kind, message: tame(&message) }),
            Some(Frame::Bye) | None => {
                let ended = format!("it ended before the answer to {asked}");
                Err(SyncError::Cut(io::Error::new(io::ErrorKind::UnexpectedEof, ended)))
            }
            Some(frame) => Ok(frame),
        }
    }

    /// After a refusal at either end: the far end drops what is open, and what it answered to things that were sent
    /// before is passed over.
    pub(crate) fn resync(&mut self) -> Result<(), SyncError> {
        // whole frames only are collected, so none is cut
        self.out.clear();
        self.tokens += 1;
        let sync = Frame::Sync { token: self.tokens };
        encode(&sync, &mut self.out)?;
        self.flush()?;
        let from = self.received;
        for _ in 0..MAX_PASSED_OVER {
            if self.received - from > MAX_PASSED_OVER_BYTES {
                break;
            }
            match self.receive("a request to go on") {
                Ok(frame) if frame == sync => return Ok(()),
                Ok(_) | Err(SyncError::Remote { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(SyncError::Unexpected { asked: "a request to go on" })
    }

    /// Says goodbye.
    pub(crate) fn end(&mut self) -> Result<(), SyncError> {
        encode(&Frame::Bye, &mut self.out)?;
        self.flush()
    }

    /// Writes what was collected, so that the other end can begin with it.
    pub(crate) fn flush(&mut self) -> Result<(), SyncError> {
        let length = self.out.len() as u64;
        let written = self.stream.write_all(&self.out).and_then(|()| self.stream.flush());
        self.out.clear();
        if let Err(error) = written {
            // whoever hung up may have said why
            return match self.is_readable().then(|| self.receive("what was sent")) {
                Some(Err(refusal @ SyncError::Remote { .. })) => Err(refusal),
                _ => Err(SyncError::Cut(error)),
            };
        }
        self.sent += length;
        if let Some((rate, since, bytes)) = &mut self.rate {
            *bytes += length;
            let due = Duration::from_secs_f64(*bytes as f64 / *rate as f64);
            std::thread::sleep(due.saturating_sub(since.elapsed()));
        }
        Ok(())
    }

    fn is_readable(&self) -> bool {
        let mut fds = [PollFd::new(&self.stream, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
    }
}
