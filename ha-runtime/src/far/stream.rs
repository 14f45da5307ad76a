//! One stream to a program at the far end.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::{Ending, EndingSlot, FarError, Word};

/// The standard input and output of a program at the far end, and later its ending.
///
/// Reading gives end of file when the program closed its output, and also when the way to it broke: only the
/// [ending](FarStream::finish) tells these apart, so ask for it before believing that the data is complete (a
/// protocol that marks its own end knows by itself).
#[derive(Debug)]
pub struct FarStream {
    socket: UnixStream,
    end: FarEnd,
}

impl FarStream {
    pub(crate) fn new(socket: UnixStream, word: Word, slot: EndingSlot) -> FarStream {
        FarStream { socket, end: FarEnd { word, slot } }
    }

    /// The socket, blocking.
    pub fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Closes the program's standard input; its output can still be read.
    pub fn close_input(&self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }

    /// The socket and the ending apart, for a caller that hands the socket to an event loop.
    ///
    /// When both are dropped the program is let go: its channel is closed, or, started on this machine, it is killed
    /// if it has not ended by itself within five seconds.
    pub fn into_parts(self) -> (UnixStream, FarEnd) {
        (self.socket, self.end)
    }

    /// Closes the program's input, reads what it still says into nothing, and waits for its end.
    ///
    /// Errors: as [`FarEnd::wait`].
    pub fn finish(self, patience: Duration) -> Result<Ending, FarError> {
        let deadline = Instant::now() + patience;
        // Both fail only when the way is gone already; the ending says why.
        let _ = self.socket.shutdown(Shutdown::Write);
        let mut rest = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.socket.set_read_timeout(Some(left)).is_err() {
                break;
            }
            match (&self.socket).read(&mut rest) {
                Ok(1..) => (),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Ok(0) | Err(_) => break,
            }
        }
        self.end.wait(deadline.saturating_duration_since(Instant::now()))
    }
}

impl Read for FarStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.read(buffer)
    }
}

impl Write for FarStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// The end of a program at the far end, to be waited for.
#[derive(Debug)]
pub struct FarEnd {
    word: Word,
    slot: EndingSlot,
}

impl FarEnd {
    /// Waits for the program's end, at most `patience`.
    ///
    /// Errors: [`FarError::StillRunning`] after `patience` (ask again, or drop it); whatever broke the way.
    pub fn wait(&self, patience: Duration) -> Result<Ending, FarError> {
        self.slot.wait(patience).unwrap_or(Err(FarError::StillRunning { word: self.word, patience }))
    }

    /// Waits for the program's end and takes any but status 0 for an error.
    ///
    /// Errors: [`FarError::Ended`] with what the program said; those of [`FarEnd::wait`].
    pub fn success(&self, patience: Duration) -> Result<(), FarError> {
        let ending = self.wait(patience)?;
        if ending.is_success() { Ok(()) } else { Err(FarError::Ended { word: self.word, ending }) }
    }
}

impl Drop for FarEnd {
    fn drop(&mut self) {
        self.slot.release();
    }
}
