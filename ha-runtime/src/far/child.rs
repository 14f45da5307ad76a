//! The far end's program, started on this machine.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::{Counters, Ending, EndingSlot, Exit, Far, FarError, FarStream, Tail, Traffic, Wake, Word};

/// How long a program that nobody listens to any more may take to end by itself.
const GRACE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// The far end as a child process: for the local PostgreSQL, reached as user postgres, and for a pair on one machine.
#[derive(Debug)]
pub struct Child {
    /// The program and its arguments; a last argument `agent` is replaced by the word, else the word is added.
    pub argv: Vec<String>,
    /// Environment variables that are set beside the inherited ones.
    pub env: BTreeMap<String, String>,
    counters: Arc<Counters>,
}

impl Child {
    /// A way that starts this program.
    pub fn new(argv: Vec<String>, env: BTreeMap<String, String>) -> Child {
        Child { argv, env, counters: Arc::default() }
    }
}

/// The program and arguments that stand for a word.
///
/// Errors: [`FarError::NoProgram`] when nothing but the word would be left.
pub(crate) fn command_for(argv: &[String], word: Word) -> Result<Vec<String>, FarError> {
    let program = match argv.split_last() {
        Some((last, rest)) if last == Word::Agent.as_str() => rest,
        Some(_) | None => argv,
    };
    if program.is_empty() {
        return Err(FarError::NoProgram);
    }
    Ok(program.iter().cloned().chain([word.as_str().to_owned()]).collect())
}

impl Far for Child {
    fn open(&self, word: Word) -> Result<FarStream, FarError> {
        let argv = command_for(&self.argv, word)?;
        let (ours, far) = UnixStream::pair().map_err(FarError::local)?;
        let wake = Wake::new().map_err(FarError::local)?;
        let slot = EndingSlot::new(wake.clone());

        let mut child = Command::new(&argv[0])
            .args(&argv[1..])
            .envs(&self.env)
            .env_remove("SSH_ORIGINAL_COMMAND") // ours, if any, was not meant for the child
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| FarError::Start { program: argv[0].clone(), source: Arc::new(error) })?;

        let stream = FarStream::new(ours, word, slot.clone());
        let stdin = child.stdin.take().expect("stdin was piped");
        let stdout = child.stdout.take().expect("stdout was piped");
        let stderr = child.stderr.take().expect("stderr was piped");
        let watch = Watch { child, wake, slot };
        if let Err(error) = carry(&self.counters, far, stdin, stdout, stderr, watch, word) {
            return Err(FarError::local(error));
        }
        Ok(stream)
    }

    fn traffic(&self) -> Traffic {
        self.counters.traffic()
    }
}

/// Starts the three threads that carry the bytes and the one that waits for the end.
fn carry(
    counters: &Arc<Counters>,
    far: UnixStream,
    mut stdin: impl Write + Send + 'static,
    mut stdout: impl Read + Send + 'static,
    mut stderr: impl Read + Send + 'static,
    watch: Watch,
    word: Word,
) -> io::Result<()> {
    let name = |part: &str| thread::Builder::new().name(format!("{word} {part}"));
    let mut input = far.try_clone()?;
    let counted = Arc::clone(counters);
    name("in").spawn(move || copy(&mut input, &mut stdin, |bytes| counted.add_sent(bytes)))?;

    let mut output = far;
    let counted = Arc::clone(counters);
    let said = name("out").spawn(move || {
        copy(&mut stdout, &mut output, |bytes| counted.add_received(bytes));
        // The input's copy of the socket stays open, so closing ours would not be seen.
        let _ = output.shutdown(Shutdown::Write);
        output
    })?;
    let errors = name("err").spawn(move || {
        let mut tail = Tail::default();
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = stderr.read(&mut buffer) {
            tail.push(&buffer[..read]);
        }
        tail.text()
    })?;
    name("end").spawn(move || {
        let slot = watch.slot.clone();
        let ended = watch.wait();
        let output = said.join();
        let stderr = errors.join().unwrap_or_default();
        slot.tell(match ended {
            Ok(status) => Ok(Ending { exit: exit_of(status), stderr }),
            Err(error) => Err(FarError::local(error)),
        });
        // Lets the input's thread go: nobody reads what it still carries.
        if let Ok(socket) = output {
            let _ = socket.shutdown(Shutdown::Both);
        }
    })?;
    Ok(())
}

/// Copies until either side ends; errors end it too, the program's ending tells why.
fn copy(from: &mut impl Read, to: &mut impl Write, mut counted: impl FnMut(usize)) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(read @ 1..) => {
                if to.write_all(&buffer[..read]).is_err() {
                    return;
                }
                counted(read);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Ok(0) | Err(_) => return,
        }
    }
}

/// What waits for a child's end. Dropped before that, it kills the child's process group.
struct Watch {
    child: std::process::Child,
    wake: Wake,
    slot: EndingSlot,
}

impl Watch {
    fn wait(mut self) -> io::Result<ExitStatus> {
        let process = Pid::from_child(&self.child);
        let handle: OwnedFd = pidfd_open(process, PidfdFlags::empty())?;
        let mut patience = None;
        loop {
            let mut polled = [
                PollFd::from_borrowed_fd(handle.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN),
            ];
            match poll(&mut polled, patience.as_ref()) {
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
                Ok(0) => {
                    kill_process_group(process, Signal::KILL)?;
                    patience = None;
                }
                Ok(_) if !polled[0].revents().is_empty() => return self.child.wait(),
                Ok(_) => {
                    self.wake.reset();
                    if self.slot.is_released() {
                        patience = Some(GRACE);
                    }
                }
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.map_or_else(|| "unknown".into(), |number| number.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn script(text: &str) -> Child {
        Child::new(["/bin/sh", "-c", text, "agent"].map(String::from).to_vec(), BTreeMap::new())
    }

    fn words(argv: &[&str], word: Word) -> Vec<String> {
        command_for(&argv.iter().map(ToString::to_string).collect::<Vec<_>>(), word).unwrap()
    }

    #[test]
    fn the_word_takes_the_place_of_the_agent() {
        assert_eq!(words(&["/usr/bin/wazo-ha", "agent"], Word::Relay), ["/usr/bin/wazo-ha", "relay"]);
        assert_eq!(words(&["/usr/bin/far", "-v"], Word::Agent), ["/usr/bin/far", "-v", "agent"]);
        assert!(matches!(command_for(&["agent".into()], Word::Agent), Err(FarError::NoProgram)));
        assert!(matches!(command_for(&[], Word::Agent), Err(FarError::NoProgram)));
    }

    #[test]
    fn bytes_go_through_a_child_and_are_counted() {
        let child = script("cat");
        let mut stream = child.open(Word::Agent).unwrap();
        stream.write_all(b"over and back").unwrap();
        stream.close_input().unwrap();
        let mut back = String::new();
        stream.read_to_string(&mut back).unwrap();
        assert_eq!(back, "over and back");
        assert!(stream.finish(PATIENCE).unwrap().is_success());
        assert_eq!(child.traffic(), Traffic { sent: 13, received: 13 });
    }

    #[test]
    fn a_childs_last_words_are_kept() {
        let stream = script("echo 'no such file' >&2; exit 7").open(Word::Agent).unwrap();
        let (_socket, end) = stream.into_parts();
        let failed = end.success(PATIENCE).unwrap_err();
        assert_eq!(failed.to_string(), "the far end's agent ended with status 7: no such file");
    }

    #[test]
    fn a_child_that_nobody_listens_to_is_ended() {
        let stream = script("echo $$; exec sleep 1000").open(Word::Agent).unwrap();
        let mut line = String::new();
        io::BufRead::read_line(&mut io::BufReader::new(stream.socket()), &mut line).unwrap();
        let process = Pid::from_raw(line.trim().parse().unwrap()).unwrap();
        let handle = pidfd_open(process, PidfdFlags::empty()).unwrap();
        drop(stream);
        let mut polled = [PollFd::new(&handle, PollFlags::IN)];
        let limit = Timespec { tv_sec: 60, tv_nsec: 0 };
        assert_eq!(poll(&mut polled, Some(&limit)).unwrap(), 1, "the child still runs");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let refused =
            Child::new(vec!["/nonexistent/far".into()], BTreeMap::new()).open(Word::Agent).unwrap_err();
        assert!(refused.to_string().starts_with("could not start /nonexistent/far: "), "{refused}");
    }
}
