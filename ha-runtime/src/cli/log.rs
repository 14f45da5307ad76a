//! A daemon's log: a thread of its own writes it, so that nothing that logs waits for whoever reads the log. A journal that
//! stands still must not keep the engine's loop, or the address would be let go for it.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait to be written; more are lost, and counted.
const ROOM: usize = 1024;
/// How long the end of the program waits for them.
const FAREWELL: Duration = Duration::from_millis(500);

enum Word {
    Line(Vec<u8>),
    /// To be told when everything before it is written.
    End(SyncSender<()>),
}

/// Where lines go; it never waits.
#[derive(Debug, Clone)]
pub(super) struct Log {
    words: SyncSender<Word>,
    lost: Arc<AtomicU64>,
}

impl Log {
    /// Lines are written to `sink`.
    pub(super) fn start(sink: impl Write + Send + 'static) -> io::Result<Log> {
        let (words, taken) = sync_channel(ROOM);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        thread::Builder::new().name("log".to_owned()).spawn(move || write(&taken, &counted, sink))?;
        Ok(Log { words, lost })
    }

    /// Returns when everything that was logged is written, or cannot be in time.
    pub(super) fn end(&self) {
        let deadline = Instant::now() + FAREWELL;
        let (done, written) = sync_channel(1);
        let mut word = Word::End(done);
        while let Err(TrySendError::Full(back)) = self.words.try_send(word) {
            if Instant::now() >= deadline {
                return;
            }
            word = back;
            thread::sleep(Duration::from_millis(5));
        }
        let _ = written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

/// Whoever reads may have gone away: there is nobody to tell.
fn write(taken: &Receiver<Word>, lost: &AtomicU64, mut sink: impl Write) {
    for word in taken {
        match word {
            Word::Line(line) => {
                let _ = sink.write_all(&line);
            }
            Word::End(done) => drop(done.try_send(())),
        }
        match lost.swap(0, Ordering::Relaxed) {
            0 => {}
            count => {
                let _ = writeln!(
                    sink,
                    "about here {count} lines of the log were lost: they were not read in time"
                );
            }
        }
    }
}

/// The subscriber writes each line whole, with one call.
impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.words.try_send(Word::Line(line.to_owned())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Log;

    fn make_writer(&'a self) -> Log {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};

    use super::*;

    #[test]
    fn a_reader_that_stands_still_delays_nobody_and_costs_lines_that_are_counted() {
        let (reader, writer) = io::pipe().unwrap();
        let mut log = Log::start(writer).unwrap();
        let filler = "x".repeat(500);
        let begun = Instant::now();
        // the pipe takes 64 KiB, and the log its room
        let count = 3 * ROOM;
        for number in 0..count {
            log.write_all(format!("{number} {filler}\n").as_bytes()).unwrap();
        }
        log.end();
        // the farewell alone, on a machine that is busy
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());

        let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
        let (mut read, mut lost) = (0, 0);
        while read + lost < count {
            let line = lines.next().unwrap();
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                [number, _] => {
                    assert!(lost > 0 || number == read.to_string(), "in their order: {number} after {read}");
                    read += 1;
                }
                _ => lost += words[2].parse::<usize>().unwrap(),
            }
        }
        assert!(read >= ROOM && lost > 0, "{read} read, {lost} lost");
        log.write_all(b"afterwards\n").unwrap();
        assert_eq!(lines.next().unwrap(), "afterwards");
    }

    #[test]
    fn what_was_logged_is_written_before_the_end() {
        let (reader, writer) = io::pipe().unwrap();
        let mut log = Log::start(writer).unwrap();
        log.write_all(b"the last word\n").unwrap();
        log.end();
        let mut buffer = [0; 64];
        let length = (&reader).read(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"the last word\n");
    }
}
