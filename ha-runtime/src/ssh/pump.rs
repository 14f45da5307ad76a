//! The thread that owns a session and moves bytes between it and the lanes.
//!
//! libssh2 keeps at most one packet half sent, and only the call that began it can finish it. From this follow the
//! rules of this file and of `lane`:
//!
//! 1. Each pass retries every pending write, read and close, with the same buffer; none waits for another.
//! 2. Whether output is pending is remembered over a whole pass: `block_directions` speaks of the last call only.
//! 3. A call that blocks (opening, end of file, closing) is made only while no packet is half sent. When one is due, the
//!    lanes take nothing new in until it was made.
//! 4. A keepalive's packet lies on libssh2's stack and is sent only when the socket surely takes it whole.
//! 5. Each call reads what the socket has, for whatever channel. So the socket is waited for only once no lane has been
//!    given anything after its turn.

use std::collections::VecDeque;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use ssh2::ErrorCode;

use super::Request;
use super::connection::{Connection, silence_limit};
use super::lane::{Intake, Lane, Pass};
use super::pace::Pace;
use crate::far::{Counters, EndingSlot, FarError, FarStream, Wake, Word};

/// Between two looks for a far end's close, which may have been read without notice.
const CLOSE_INTERVAL: Duration = Duration::from_millis(100);

/// libssh2 sends no keepalive sooner than this after the one before.
const LEAST_KEEPALIVE: Duration = Duration::from_secs(2);

/// A session with its lanes.
pub(super) struct Pump {
    connection: Connection,
    wake: Wake,
    requests: Receiver<Request>,
    counters: Arc<Counters>,
    openings: VecDeque<Opening>,
    lanes: Vec<Lane>,
    up: Pace,
    down: Pace,
    keepalive: Duration,
    /// Last sign of life, while one could be seen.
    heard: Instant,
    /// When a sign of life was last asked for, if none has come since.
    asked: Option<Instant>,
    /// The far end has sent its last byte; what it sent before may still lie in the socket.
    hung_up: bool,
}

struct Opening {
    word: Word,
    command: String,
    answer: SyncSender<Result<FarStream, FarError>>,
}

/// Why the pump ends.
enum End {
    Asked,
    Lost(String),
}

impl From<ssh2::Error> for End {
    fn from(error: ssh2::Error) -> End {
        End::Lost(error.message().into())
    }
}

impl Pump {
    pub(super) fn new(
        connection: Connection,
        wake: Wake,
        requests: Receiver<Request>,
        counters: Arc<Counters>,
    ) -> Pump {
        let now = Instant::now();
        let (bandwidth, keepalive) = (connection.target.bandwidth, connection.target.keepalive);
        Pump {
            connection,
            wake,
            requests,
            counters,
            openings: VecDeque::new(),
            lanes: Vec::new(),
            up: Pace::new(bandwidth, now),
            down: Pace::new(bandwidth, now),
            keepalive: keepalive.max(LEAST_KEEPALIVE),
            heard: now,
            asked: None,
            hung_up: false,
        }
    }

    /// Pumps until it is asked to stop or the link is lost; then no stream is left open.
    pub(super) fn run(mut self) {
        self.connection.session.set_blocking(false);
        self.connection.session.set_keepalive(true, 1);
        let mut want_out = false;
        let end = loop {
            let result = self.settle().and_then(|out| {
                want_out = out;
                self.wait(out)
            });
            if let Err(end) = result {
                break end;
            }
        };
        self.close(&end, want_out);
    }

    /// Serves all lanes until nothing moves; whether a packet is half sent then.
    fn settle(&mut self) -> Result<bool, End> {
        let mut looked_again = false;
        loop {
            self.note_arrivals();
            self.receive_requests()?;
            let blocking_due = !self.openings.is_empty() || self.lanes.iter().any(Lane::wants_blocking);
            let mut pass = Pass {
                session: &self.connection.session,
                now: Instant::now(),
                intake: if blocking_due { Intake::Paused } else { Intake::Open },
                up: &mut self.up,
                down: &mut self.down,
                counters: &self.counters,
                want_out: false,
                moved: false,
                sent: false,
            };
            for lane in &mut self.lanes {
                lane.serve(&mut pass)?;
            }
            let Pass { want_out, moved, sent, now, .. } = pass;
            if sent {
                self.heard = now;
            }
            if blocking_due && !want_out {
                self.serve_blocking()?;
                continue;
            }
            if self.lanes.iter().any(Lane::is_closed) {
                // Closed on both sides, so that freeing them sends nothing.
                self.lanes.retain(|lane| !lane.is_closed());
            }
            if moved {
                looked_again = false;
                continue;
            }
            let downward = self.down.wait().is_none();
            if looked_again || !self.lanes.iter().any(|lane| lane.was_served_too_early(downward, want_out)) {
                return Ok(want_out);
            }
            // once: what no second pass moves cannot be moved
            looked_again = true;
        }
    }

    fn receive_requests(&mut self) -> Result<(), End> {
        loop {
            match self.requests.try_recv() {
                Ok(Request::Open { word, command, answer }) => {
                    self.openings.push_back(Opening { word, command, answer });
                }
                Err(TryRecvError::Empty) => return Ok(()),
                Ok(Request::Stop) | Err(TryRecvError::Disconnected) => return Err(End::Asked),
            }
        }
    }

    /// Makes every blocking call that is due. Each takes at most the session's time limit.
    fn serve_blocking(&mut self) -> Result<(), End> {
        self.connection.session.set_blocking(true);
        for lane in &mut self.lanes {
            lane.serve_blocking()?;
        }
        while let Some(opening) = self.openings.pop_front() {
            let opened = self.open(opening.word, &opening.command);
            // Whoever asked waits for the answer; if not, the stream is dropped and its lane let go.
            match opened {
                Ok(result) => drop(opening.answer.send(result)),
                Err(error) => {
                    let end = End::from(error);
                    let _ = opening.answer.send(Err(self.error(&end)));
                    return Err(end);
                }
            }
        }
        self.connection.session.set_blocking(false);
        self.heard = Instant::now();
        Ok(())
    }

    /// Opens a channel; the outer error is the link's, the inner one this request's.
    fn open(&mut self, word: Word, command: &str) -> Result<Result<FarStream, FarError>, ssh2::Error> {
        // libssh2.h: CHANNEL_FAILURE, CHANNEL_REQUEST_DENIED
        let refused = |error: &ssh2::Error| matches!(error.code(), ErrorCode::Session(-21 | -22));
        let refusal = |error: ssh2::Error| FarError::Refused { word, reason: error.message().into() };

        let mut channel = match self.connection.session.channel_session() {
            Ok(channel) => channel,
            Err(error) if refused(&error) => return Ok(Err(refusal(error))),
            Err(error) => return Err(error),
        };
        match channel.exec(command) {
            Ok(()) => (),
            Err(error) if refused(&error) => {
                channel.close()?;
                return Ok(Err(refusal(error)));
            }
            Err(error) => return Err(error),
        }
        let slot = EndingSlot::new(self.wake.clone());
        let pair = UnixStream::pair()
            .and_then(|(ours, local)| Ok((ours, Lane::new(channel.clone(), local, slot.clone())?)));
        match pair {
            Ok((ours, lane)) => {
                self.lanes.push(lane);
                Ok(Ok(FarStream::new(ours, word, slot)))
            }
            Err(error) => {
                channel.close()?;
                Ok(Err(FarError::local(error)))
            }
        }
    }

    /// The answer to a keepalive may arrive before the next wait, which would then not show it: reading takes it away.
    fn note_arrivals(&mut self) {
        if self.asked.is_none() {
            return;
        }
        let mut tcp = [PollFd::from_borrowed_fd(self.connection.tcp.as_fd(), PollFlags::IN)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        if matches!(poll(&mut tcp, Some(&at_once)), Ok(1..)) {
            self.heard = Instant::now();
            self.asked = None;
        }
    }

    /// Waits for whatever can move something next.
    fn wait(&mut self, want_out: bool) -> Result<(), End> {
        let (upward, downward) = (self.up.wait(), self.down.wait());
        let listens = self.lanes.iter().any(|lane| lane.listens(downward.is_none()));
        let now = Instant::now();
        if !listens && !want_out {
            self.heard = now;
            self.asked = None;
        }
        let silence = self.silence(now, listens || want_out)?;
        let paced = if self.lanes.is_empty() { None } else { upward.into_iter().chain(downward).min() };
        let close = self.lanes.iter().any(Lane::awaits_the_close).then_some(CLOSE_INTERVAL);
        let timeout = [paced, silence, close].into_iter().flatten().min().map(timespec);

        let mut tcp = PollFlags::empty();
        tcp.set(PollFlags::IN, listens);
        tcp.set(PollFlags::OUT, want_out || self.wants_to_ask(now, listens));
        tcp.set(PollFlags::RDHUP, !self.hung_up);
        let mut polled = vec![PollFd::new(&self.wake, PollFlags::IN)];
        if !tcp.is_empty() {
            polled.push(PollFd::from_borrowed_fd(self.connection.tcp.as_fd(), tcp));
        }
        let with_tcp = polled.len() == 2;
        polled.extend(self.lanes.iter().filter_map(|lane| lane.poll_fd(upward.is_none())));
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => (),
            Err(error) => return Err(End::Lost(error.to_string())),
        }
        let woken = !polled[0].revents().is_empty();
        let tcp = if with_tcp { polled[1].revents() } else { PollFlags::empty() };
        drop(polled);
        if woken {
            self.wake.reset();
        }
        self.note_link(tcp, listens)
    }

    /// Draws conclusions from what the socket shows.
    fn note_link(&mut self, tcp: PollFlags, listens: bool) -> Result<(), End> {
        let now = Instant::now();
        if tcp.contains(PollFlags::IN) {
            self.heard = now;
            self.asked = None;
        } else if tcp.contains(PollFlags::OUT) && self.wants_to_ask(now, listens) {
            self.connection.session.keepalive_send()?;
            self.asked = Some(now);
        }
        if tcp.intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR) {
            self.hung_up = true;
            if self.lanes.is_empty() {
                return Err(End::Lost("the far end closed the connection".into()));
            }
        }
        Ok(())
    }

    /// Whether a sign of life is due to be asked for: again and again, since one answer may have been read unseen.
    fn wants_to_ask(&self, now: Instant, listens: bool) -> bool {
        listens && self.next_question().saturating_duration_since(now).is_zero()
    }

    /// When the next one is due.
    fn next_question(&self) -> Instant {
        self.asked.unwrap_or(self.heard).max(self.heard) + self.keepalive
    }

    /// How long to wait at most before the silence means something; an error when it has lasted too long.
    fn silence(&self, now: Instant, outstanding: bool) -> Result<Option<Duration>, End> {
        if !outstanding {
            return Ok(None);
        }
        let limit = silence_limit(&self.connection.target).max(self.keepalive * 3);
        let silent = now.saturating_duration_since(self.heard);
        if silent >= limit {
            return Err(End::Lost(format!("no sign of life for {} s", silent.as_secs())));
        }
        let left = limit.saturating_sub(silent);
        let question = self.next_question().saturating_duration_since(now);
        // one that is due waits for room in the socket, not for the time
        Ok(Some(if question.is_zero() { left } else { question.min(left) }))
    }

    fn error(&self, end: &End) -> FarError {
        match end {
            End::Asked => FarError::Closed,
            End::Lost(reason) => {
                FarError::Lost { address: self.connection.address(), reason: reason.clone() }
            }
        }
    }

    /// Tells every holder, then leaves; politely, where that cannot take long.
    fn close(mut self, end: &End, want_out: bool) {
        let error = self.error(end);
        for lane in &mut self.lanes {
            lane.cut(error.clone());
        }
        for opening in self.openings.drain(..) {
            let _ = opening.answer.send(Err(error.clone()));
        }
        let Connection { session, tcp, .. } = &self.connection;
        if matches!(end, End::Asked) && !want_out {
            session.set_blocking(true);
            session.set_timeout(1000);
            let _ = session.disconnect(None, "done", None);
        }
        let _ = tcp.shutdown(Shutdown::Both);
        session.set_blocking(false);
        for lane in &mut self.lanes {
            lane.see_the_shut_socket();
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    // Rounded up to a millisecond, so that a wait does not end just before its reason.
    let rounded = duration + Duration::from_millis(1);
    Timespec::try_from(rounded).unwrap_or(Timespec { tv_sec: i64::from(i32::MAX), tv_nsec: 0 })
}
