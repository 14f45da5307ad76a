//! One channel and the socket that stands for it on this side.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use ssh2::{BlockDirections, Channel, ErrorCode, Session, Stream};

use super::pace::Pace;
use crate::far::{Counters, Ending, EndingSlot, Exit, Tail};

/// Bytes of each buffer: what one SSH packet carries. libssh2 cuts a longer write in two.
const BLOCK: usize = 32_700;

/// What all lanes share during one pass over them.
pub(super) struct Pass<'a> {
    pub(super) session: &'a Session,
    pub(super) now: Instant,
    pub(super) intake: Intake,
    pub(super) up: &'a mut Pace,
    pub(super) down: &'a mut Pace,
    pub(super) counters: &'a Counters,
    /// Whether a packet may be half sent. Sticky: libssh2 overwrites its own answer at the next call.
    pub(super) want_out: bool,
    /// Whether anything moved; then a further pass may move more.
    pub(super) moved: bool,
    /// Whether the far end's kernel took bytes: a sign of life.
    pub(super) sent: bool,
}

/// Whether lanes take new bytes from their sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intake {
    /// They do.
    Open,
    /// They finish what they have, so that no packet is half sent and a blocking call may be made.
    Paused,
}

impl Pass<'_> {
    /// Takes note, after each call into libssh2, of whether it left a packet half sent.
    fn note(&mut self) {
        self.want_out |=
            matches!(self.session.block_directions(), BlockDirections::Outbound | BlockDirections::Both);
    }
}

/// A channel that is being pumped.
pub(super) struct Lane {
    channel: Channel,
    stderr: Stream,
    local: UnixStream,
    slot: EndingSlot,
    up: Block,
    input: Input,
    down: Block,
    output: Output,
    said: Tail,
    stage: Stage,
}

/// The far program's standard input.
#[derive(Debug, PartialEq, Eq)]
enum Input {
    Open,
    /// The holder closed it; the far end is still to be told.
    Ending,
    Ended,
}

/// The far program's standard output.
#[derive(Debug, PartialEq, Eq)]
enum Output {
    Open,
    /// The holder has gone; what still comes is thrown away.
    Unheard,
    /// It is over, and the holder knows.
    Ended,
}

/// How far along the channel is.
#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// The far end has closed it and told the program's status; our own close is to be sent.
    Finished,
    /// Nobody holds the stream any more; the far end is to be told.
    LetGo,
    /// Our close is being sent.
    Closing,
    /// Nothing is left to do.
    Closed,
}

impl Lane {
    /// A lane for an open channel; `local` becomes non-blocking.
    pub(super) fn new(channel: Channel, local: UnixStream, slot: EndingSlot) -> io::Result<Lane> {
        local.set_nonblocking(true)?;
        Ok(Lane {
            stderr: channel.stderr(),
            channel,
            local,
            slot,
            up: Block::new(BLOCK),
            input: Input::Open,
            down: Block::new(BLOCK),
            output: Output::Open,
            said: Tail::default(),
            stage: Stage::Open,
        })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.stage == Stage::Closed
    }

    /// Whether a blocking call is due.
    pub(super) fn wants_blocking(&self) -> bool {
        match self.stage {
            Stage::Open => self.input == Input::Ending && self.up.is_empty(),
            Stage::Finished | Stage::LetGo => true,
            Stage::Closing | Stage::Closed => false,
        }
    }

    /// Moves what can be moved without waiting.
    ///
    /// Every pending operation is retried, with the same buffer and independently of the others: libssh2 finishes a
    /// half-sent packet only in the very call that began it.
    pub(super) fn serve(&mut self, pass: &mut Pass<'_>) -> Result<(), ssh2::Error> {
        match self.stage {
            Stage::Open => {
                self.take_in(pass);
                self.write_far(pass)?;
                self.read_far(pass)?;
                self.read_stderr(pass)?;
                self.finish_window(pass)?;
                self.give_out(pass);
                self.see_the_end(pass)
            }
            // What was half sent when the stage changed is nobody else's to finish.
            Stage::Finished | Stage::LetGo => {
                self.write_far(pass)?;
                self.finish_window(pass)
            }
            Stage::Closing => self.finish_closing(pass),
            Stage::Closed => Ok(()),
        }
    }

    /// Makes the blocking call that is due. Only while no packet is half sent.
    pub(super) fn serve_blocking(&mut self) -> Result<(), ssh2::Error> {
        match self.stage {
            Stage::Open if self.wants_blocking() => {
                self.channel.send_eof()?;
                self.input = Input::Ended;
            }
            Stage::Finished => {
                self.up.clear();
                self.channel.close()?;
                self.stage = Stage::Closed;
            }
            Stage::LetGo => {
                // What is left in the block has not begun to be sent: the far end gave no room for it.
                self.up.clear();
                if self.input != Input::Ended {
                    self.channel.send_eof()?;
                    self.input = Input::Ended;
                }
                // The close itself waits for the far end's, which may take long: not in a blocking call.
                self.stage = Stage::Closing;
            }
            Stage::Open | Stage::Closing | Stage::Closed => (),
        }
        Ok(())
    }

    /// Ends the lane when the link is gone.
    pub(super) fn cut(&mut self, error: crate::far::FarError) {
        self.slot.tell(Err(error));
        let _ = self.local.shutdown(Shutdown::Both);
        self.stage = Stage::Closed;
    }

    /// Lets libssh2 see that its socket is shut; before that it frees nothing while a packet is half sent.
    pub(super) fn see_the_shut_socket(&mut self) {
        // The only call that reads from the socket without sending anything first.
        let _ = self.channel.wait_eof();
    }

    /// Bytes from the holder.
    fn take_in(&mut self, pass: &mut Pass<'_>) {
        if self.input != Input::Open || !self.up.is_empty() || pass.intake == Intake::Paused {
            return;
        }
        let room = pass.up.allowed(pass.now).min(BLOCK);
        if room == 0 {
            return;
        }
        match recv(&self.local, &mut self.up.bytes[..room], RecvFlags::DONTWAIT) {
            Ok((1.., read)) => {
                self.up.filled(read);
                pass.up.spend(read);
                pass.moved = true;
            }
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => (),
            // End of file, or a holder that went without reading what there was.
            Ok(_) | Err(_) => {
                self.input = Input::Ending;
                pass.moved = true;
            }
        }
    }

    fn write_far(&mut self, pass: &mut Pass<'_>) -> Result<(), ssh2::Error> {
        if self.up.is_empty() {
            return Ok(());
        }
        let result = self.channel.write(self.up.pending());
        pass.note();
        match result {
            Ok(written) => {
                self.up.taken(written);
                pass.counters.add_sent(written);
                pass.moved |= written > 0;
                pass.sent |= written > 0;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                // With room in the window the packet has begun or may begin: the socket is what we wait for.
                pass.want_out |= self.channel.write_window().remaining > 0;
                Ok(())
            }
            Err(error) => lost(error),
        }
    }

    fn read_far(&mut self, pass: &mut Pass<'_>) -> Result<(), ssh2::Error> {
        if !self.down.is_empty() || self.output == Output::Ended {
            return Ok(());
        }
        let room = pass.down.allowed(pass.now).min(BLOCK);
        if room == 0 {
            return Ok(());
        }
        let result = self.channel.read(&mut self.down.bytes[..room]);
        pass.note();
        if let Some(read) = some_bytes(result)? {
            pass.down.spend(read);
            pass.counters.add_received(read);
            pass.moved = true;
            if self.output == Output::Open {
                self.down.filled(read);
            }
        }
        Ok(())
    }

    fn read_stderr(&mut self, pass: &mut Pass<'_>) -> Result<(), ssh2::Error> {
        let mut bytes = [0; 4096];
        let result = self.stderr.read(&mut bytes);
        pass.note();
        if let Some(read) = some_bytes(result)? {
            self.said.push(&bytes[..read]);
            pass.moved = true;
        }
        Ok(())
    }

    /// Finishes the packet that widens our window, where a read that began it will not be called again.
    ///
    /// `Channel::read` returns at the far end's end of file without asking libssh2. Widening by nothing finishes what
    /// was begun, and is nothing otherwise.
    fn finish_window(&mut self, pass: &mut Pass<'_>) -> Result<(), ssh2::Error> {
        if self.stage == Stage::Open && !self.channel.eof() {
            return Ok(());
        }
        let result = self.channel.adjust_receive_window(0, false);
        pass.note();
        match result {
            Ok(_) => Ok(()),
            Err(error) if would_block(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Bytes to the holder.
    fn give_out(&mut self, pass: &mut Pass<'_>) {
        if self.down.is_empty() {
            return;
        }
        match send(&self.local, self.down.pending(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) => {
                self.down.taken(sent);
                pass.moved = true;
            }
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => (),
            Err(_) => {
                self.down.clear();
                self.output = Output::Unheard;
                pass.moved = true;
            }
        }
    }

    /// The far end's end of output, then its close with the program's status; or the holder's leaving.
    fn see_the_end(&mut self, pass: &mut Pass<'_>) -> Result<(), ssh2::Error> {
        if self.output != Output::Ended && self.down.is_empty() && self.channel.eof() {
            let _ = self.local.shutdown(Shutdown::Write);
            self.output = Output::Ended;
            pass.moved = true;
        }
        if self.output == Output::Ended {
            let result = self.channel.wait_close();
            pass.note();
            match result {
                Ok(()) => {
                    let ending = Ending { exit: self.exit()?, stderr: self.said.text() };
                    self.slot.tell(Ok(ending));
                    let _ = self.local.shutdown(Shutdown::Both);
                    self.stage = Stage::Finished;
                    pass.moved = true;
                    return Ok(());
                }
                Err(error) if would_block(&error) => (),
                Err(error) => return Err(error),
            }
        }
        if self.slot.is_released() && self.is_hung_up() {
            self.stage = Stage::LetGo;
            pass.moved = true;
        }
        Ok(())
    }

    fn finish_closing(&mut self, pass: &mut Pass<'_>) -> Result<(), ssh2::Error> {
        // `close` is content with any packet; were the channel freed before the far end's own close, its number would be
        // given to the next one, which would then be told of this one's end.
        let closed = self.channel.close();
        pass.note();
        let result = closed.and_then(|()| self.channel.wait_eof()).and_then(|()| self.channel.wait_close());
        pass.note();
        match result {
            Ok(()) => {
                self.stage = Stage::Closed;
                pass.moved = true;
                Ok(())
            }
            Err(error) if would_block(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn exit(&self) -> Result<Exit, ssh2::Error> {
        Ok(match self.channel.exit_signal()?.exit_signal {
            Some(signal) => Exit::Signal(signal),
            None => Exit::Code(self.channel.exit_status()?),
        })
    }

    fn is_hung_up(&self) -> bool {
        let mut polled = [PollFd::new(&self.local, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut polled, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// Whether bytes from the far end would move this lane.
    pub(super) fn listens(&self, downward: bool) -> bool {
        match self.stage {
            Stage::Open => {
                !self.up.is_empty() || self.output == Output::Ended || (self.down.is_empty() && downward)
            }
            Stage::LetGo => !self.up.is_empty(),
            Stage::Closing => true,
            Stage::Finished | Stage::Closed => false,
        }
    }

    /// Whether it has something to do although the socket need not say so: each call on any channel reads for all of them, so
    /// what came for this one may have been read after its own turn.
    pub(super) fn was_served_too_early(&self, downward: bool, want_out: bool) -> bool {
        if self.stage != Stage::Open {
            return false;
        }
        let bytes = || self.channel.read_window().available > 0 || self.channel.eof();
        let may_read = self.down.is_empty() && self.output != Output::Ended && downward;
        let may_write = !self.up.is_empty() && !want_out;
        may_read && bytes() || may_write && self.channel.write_window().remaining > 0
    }

    /// Whether the far end's close is all that it waits for; whether that was read, no call tells.
    pub(super) fn awaits_the_close(&self) -> bool {
        match self.stage {
            Stage::Open => self.output == Output::Ended,
            Stage::Closing => true,
            Stage::Finished | Stage::LetGo | Stage::Closed => false,
        }
    }

    /// What to wait for at the holder's socket; `None`: nothing.
    pub(super) fn poll_fd(&self, upward: bool) -> Option<PollFd<'_>> {
        if self.stage != Stage::Open {
            return None;
        }
        let mut events = PollFlags::empty();
        events.set(PollFlags::IN, self.input == Input::Open && self.up.is_empty() && upward);
        events.set(PollFlags::OUT, !self.down.is_empty());
        // With nothing to wait for, a holder that hung up would end every poll at once, unless that is the news.
        let wanted = !events.is_empty() || self.slot.is_released();
        wanted.then(|| PollFd::from_borrowed_fd(self.local.as_fd(), events))
    }
}

/// A buffer that is filled only when empty, so that a retry offers the same bytes.
struct Block {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Block {
    fn new(size: usize) -> Block {
        Block { bytes: vec![0; size].into_boxed_slice(), start: 0, end: 0 }
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn pending(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    fn filled(&mut self, bytes: usize) {
        (self.start, self.end) = (0, bytes);
    }

    fn taken(&mut self, bytes: usize) {
        self.start += bytes;
    }

    fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }
}

/// The bytes that were read; `None`: none yet, or end of file, which the channel itself knows better.
fn some_bytes(result: io::Result<usize>) -> Result<Option<usize>, ssh2::Error> {
    match result {
        Ok(0) => Ok(None),
        Ok(read) => Ok(Some(read)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => lost(error),
    }
}

/// libssh2's own error out of the one that `Read` and `Write` made of it.
fn lost<T>(error: io::Error) -> Result<T, ssh2::Error> {
    let inner = error.into_inner().and_then(|inner| inner.downcast::<ssh2::Error>().ok());
    Err(inner.map_or_else(ssh2::Error::unknown, |inner| *inner))
}

/// Whether a call is to be made again later (`LIBSSH2_ERROR_EAGAIN`).
fn would_block(error: &ssh2::Error) -> bool {
    error.code() == ErrorCode::Session(-37)
}
