//! A source at the other node and an agent of this one, brought together.
//!
//! The agent is the same program as at the far end of a push, a process of its own: it holds the lock, and a takeover ends
//! it, whoever started it. What passes between the two is looked at frame by frame, because the other node is asked for
//! files only: what a master may have its slave's daemon do is not among what a source may say.

use std::io::{self, BufReader, BufWriter, Write};
use std::net::{IpAddr, Shutdown};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ha_core::replication::wire::{Frame, encode};

use super::errand::{Errand, Told};
use crate::context::Context;
use crate::far::{Far, FarEnd, FarStream, Word};
use crate::far_node;
use crate::report::Failure;
use crate::sync::{SyncError, read_frame};
use crate::way;

/// How long the source may be silent: it reads all of its files between two frames, at most. That the line is cut is
/// noticed by SSH.
const PATIENCE: Duration = Duration::from_secs(1800);
/// How long an end may take to say why it ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// As people are told.
const SOURCE: &str = "the source on the other node";

/// A source at the other node, and the way to it.
pub(super) struct Source {
    stream: UnixStream,
    end: FarEnd,
    way: Box<dyn Far>,
}

impl Source {
    /// Opens the way to the other node, and a source there.
    pub(super) fn open(context: &Context, peer: IpAddr) -> Result<Source, Failure> {
        let way = way::to_peer(context, peer)?;
        let opened = way.open(Word::Source).map_err(Failure::environment)?;
        Source::of(way, opened).map_err(Failure::environment)
    }

    fn of(way: Box<dyn Far>, opened: FarStream) -> io::Result<Source> {
        let (stream, end) = opened.into_parts();
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Source { stream, end, way })
    }

    /// To ask it something before it leads a replication.
    pub(super) fn stream(&self) -> io::Result<UnixStream> {
        self.stream.try_clone()
    }

    /// Why it does not answer: what it said when it ended is the better explanation.
    pub(super) fn explain(&self, error: &SyncError) -> Failure {
        match self.end.wait(LAST_WORDS) {
            Ok(ending) if matches!(error, SyncError::Cut(_)) && !ending.is_success() => {
                Failure::environment(format!("{SOURCE} ended: {ending}"))
            }
            _ => far_node::failure(error),
        }
    }
}

/// Both ends, open.
pub(super) struct Between {
    source: BufReader<UnixStream>,
    source_end: FarEnd,
    agent: BufWriter<UnixStream>,
    agent_end: FarEnd,
    agent_left: Arc<AtomicBool>,
    /// The way to the other node; last, so that nothing is open over it when it is let go.
    _way: Box<dyn Far>,
}

impl Between {
    /// Opens an agent here, and brings it together with a source there.
    pub(super) fn open(context: &Context, source: Source) -> Result<Between, Failure> {
        let agent = way::own_agent(context)?.open(Word::Agent).map_err(Failure::environment)?;
        Between::of(source, agent).map_err(Failure::environment)
    }

    fn of(source: Source, agent: FarStream) -> io::Result<Between> {
        let Source { stream: source, end: source_end, way } = source;
        let (agent, agent_end) = agent.into_parts();
        let agent_left = Arc::new(AtomicBool::new(false));
        let (mut answers, mut to_source, left) =
            (agent.try_clone()?, source.try_clone()?, Arc::clone(&agent_left));
        thread::Builder::new().name("answers".to_owned()).spawn(move || {
            let copied = io::copy(&mut answers, &mut to_source);
            if copied.is_ok() {
                left.store(true, Ordering::SeqCst);
            }
            let _ = to_source.shutdown(Shutdown::Write);
        })?;
        let (source, agent) = (BufReader::new(source), BufWriter::new(agent));
        Ok(Between { source, source_end, agent, agent_end, agent_left, _way: way })
    }

    /// Has the source do it.
    pub(super) fn fetch(&mut self, errand: &Errand) -> Result<Told, Failure> {
        let errand = serde_json::to_vec(errand).map_err(Failure::environment)?;
        let told = self.converse(errand).map_err(|error| self.explain(&error))?;
        serde_json::from_slice(&told)
            .map_err(|error| Failure::environment(format!("the source's report cannot be read: {error}")))
    }

    fn converse(&mut self, errand: Vec<u8>) -> Result<Vec<u8>, SyncError> {
        let mut bytes = Vec::new();
        encode(&Frame::Fetch(errand), &mut bytes)?;
        self.source.get_mut().write_all(&bytes).map_err(SyncError::Cut)?;
        loop {
            let frame = match read_frame(&mut self.source, &mut 0)? {
                Some(Frame::Fetched(told)) => return Ok(told),
                Some(Frame::Control(_)) => {
                    return Err(SyncError::Unexpected { asked: "a request for files" });
                }
                Some(frame) => frame,
                None => return Err(SyncError::Cut(io::ErrorKind::UnexpectedEof.into())),
            };
            bytes.clear();
            encode(&frame, &mut bytes)?;
            let passed = self.agent.write_all(&bytes);
            // what follows at once is written with it
            let rests = self.source.buffer().is_empty();
            passed.and_then(|()| if rests { self.agent.flush() } else { Ok(()) }).map_err(SyncError::Cut)?;
        }
    }

    /// What the end that ended first said of it is the better explanation.
    fn explain(&self, error: &SyncError) -> Failure {
        if !matches!(error, SyncError::Cut(_)) {
            return far_node::failure(error);
        }
        let ends = [("this node's agent", &self.agent_end), (SOURCE, &self.source_end)];
        let first = usize::from(!self.agent_left.load(Ordering::SeqCst));
        for (who, end) in [ends[first], ends[1 - first]] {
            if let Some(ending) = end.wait(LAST_WORDS).ok().filter(|ending| !ending.is_success()) {
                return Failure::environment(format!("{who} ended: {ending}"));
            }
        }
        far_node::failure(error)
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        // the thread between them holds copies of both
        let _ = self.source.get_ref().shutdown(Shutdown::Both);
        let _ = self.agent.get_ref().shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::far::Child;

    /// A source that runs this script, and an agent that listens.
    fn between(source: &str) -> Between {
        let script = |text: &str| {
            Child::new(["/bin/sh", "-c", text, "agent"].map(str::to_owned).to_vec(), BTreeMap::new())
        };
        let (source, agent) = (script(source), script("cat >/dev/null"));
        let (said, heard) = (source.open(Word::Source).unwrap(), agent.open(Word::Agent).unwrap());
        Between::of(Source::of(Box::new(source), said).unwrap(), heard).unwrap()
    }

    fn refusal(source: &str) -> String {
        let errand = Errand { full: false, dry_run: false, known: Vec::new() };
        between(source).fetch(&errand).unwrap_err().message
    }

    #[test]
    fn a_source_that_asks_for_something_of_the_daemon_is_not_heard() {
        // frame 5 is a request to the daemon, without a word in it
        let why = refusal(r"printf '\000\000\000\005\005\000\000\000\000'; cat >/dev/null");
        assert!(why.contains("answered a request for files with something else"), "{why}");
    }

    #[test]
    fn a_source_that_hangs_up_is_quoted_and_one_that_speaks_nonsense_is_named() {
        let why = refusal("dd bs=1 count=4 >/dev/null 2>&1; exit 7");
        assert!(why.contains("the source on the other node ended: status 7"), "{why}");
        let why = refusal("printf hello; cat >/dev/null");
        assert!(why.contains("language"), "{why}");
    }
}
