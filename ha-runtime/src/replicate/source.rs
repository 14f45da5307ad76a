//! The far end of a fetch: the sending end of a replication, on stdin and stdout.
//!
//! It offers this node's datasets and nothing else, and only while they are what the other node is to have: here is asked
//! who may be fetched from, over there who may be replicated to.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use ha_core::replication::wire::{ErrorKind, Frame, Hello};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::errand::{Errand, Told};
use super::files;
use super::taking;
use super::trees;
use crate::agent::Client;
use crate::context::Context;
use crate::control::Answer;
use crate::far_node;
use crate::lock::Lock;
use crate::node_state;
use crate::oust::{Taken, Taker, oust};
use crate::report::{Failure, Report, Verdict};
use crate::sync::{Link, PushOptions, SyncError};

/// How long the other end may be silent: its agent reads all of its files between two answers, at most.
const PATIENCE: Duration = Duration::from_secs(1800);
/// How long a source that was left over may take to end, and anybody else who holds the lock.
const GRACE: Duration = Duration::from_secs(5);
const LOCK_PATIENCE: Duration = Duration::from_secs(600);

/// Names and warnings that a report tells, of each kind: one frame must hold them.
const TOLD: usize = 500;

/// Serves whoever is at the other end until it hangs up.
pub(crate) fn source(context: &Context) -> Verdict {
    let stream = Stdio::new().map_err(Failure::environment)?;
    let answered = serve(context, Link::new(stream));
    answered.map(|()| Report::default()).map_err(|error| far_node::failure(&error))
}

/// Takes what is carried here, if the other node has something, then leads the replications that it asks for.
fn serve<S: Read + Write + AsFd>(context: &Context, mut link: Link<S>) -> Result<(), SyncError> {
    let own = far_node::hello(context);
    let mut greeted = false;
    let mut asked = link.asked()?;
    loop {
        asked = match asked {
            None | Some(Frame::Bye) => return Ok(()),
            Some(Frame::Hello(hello)) => {
                answer(&mut link, &own, &hello)?;
                greeted = true;
                link.asked()?
            }
            Some(frame @ Frame::Offer { .. }) if greeted => taking::take_in(context, &mut link, frame)?,
            Some(Frame::Fetch(errand)) => return lead(context, Client::greet(link, &own)?, errand),
            Some(_) => return Err(SyncError::Unexpected { asked: "nothing" }),
        };
    }
}

/// Who the asker is must be right before it is told what this node holds.
fn answer<S: Read + Write + AsFd>(link: &mut Link<S>, own: &Hello, hello: &Hello) -> Result<(), SyncError> {
    if hello.version == own.version && hello.distribution == own.distribution {
        link.send(&Frame::Hello(own.clone()))?;
        return link.flush();
    }
    let Hello { version, distribution, program } = own;
    let message = format!(
        "the serving node is {distribution} {program} (protocol {version}), the other one {} {} (protocol {}): install the \
         same package on both",
        hello.distribution, hello.program, hello.version
    );
    link.send(&Frame::Error { kind: ErrorKind::Mismatch, message })?;
    link.flush()
}

/// One replication after the other, as the other node asks for them.
fn lead<S: Read + Write + AsFd>(
    context: &Context,
    mut client: Client<S>,
    mut errand: Vec<u8>,
) -> Result<(), SyncError> {
    loop {
        let told = match serde_json::from_slice(&errand) {
            Ok(errand) => fulfil(context, &mut client, &errand),
            Err(error) => Told::failed(Failure::usage(format!("what is asked for: {error}"))),
        };
        let told = serde_json::to_vec(&told).map_err(|error| SyncError::Cut(io::Error::other(error)))?;
        match client.tell(told)? {
            Some(next) => errand = next,
            None => return Ok(()),
        }
    }
}

impl Told {
    fn failed(failure: Failure) -> Told {
        Told { outcome: Answer::Failed(failure), number: None, sources: BTreeMap::new() }
    }
}

/// One replication to the agent at the other end.
fn fulfil<S: Read + Write + AsFd>(context: &Context, client: &mut Client<S>, errand: &Errand) -> Told {
    send(context, client, errand).unwrap_or_else(Told::failed)
}

fn send<S: Read + Write + AsFd>(
    context: &Context,
    client: &mut Client<S>,
    errand: &Errand,
) -> Result<Told, Failure> {
    // what an operator changed since the last errand holds for this one
    let context = &context.reread()?;
    may_be_fetched_from(context)?;
    let _lock = lock(context)?;
    // it may have been waited for
    may_be_fetched_from(context)?;
    let trees = files::still(context, trees(context)?)?;
    let options = PushOptions { known: errand.known.clone(), ..files::push_options(context, errand.full) };
    if errand.dry_run {
        let plans = client.plan_files(&trees, &options).map_err(|error| far_node::failure(&error))?;
        let outcome = Answer::Done(files::plan_report(&plans));
        return Ok(Told { outcome, number: None, sources: BTreeMap::new() });
    }
    let state = client.state().map_err(|error| far_node::failure(&error))?;
    let pushed = client.push_files(state.generation, &trees, &options, &mut |_| {});
    let mut report = pushed.map_err(|error| far_node::failure(&error))?;
    report.skipped.truncate(TOLD);
    report.warnings.truncate(TOLD);
    let outcome = Answer::Done(files::report(&report)?);
    let sources = if report.skipped.is_empty() { report.sources } else { BTreeMap::new() };
    Ok(Told { outcome, number: Some(report.number), sources })
}

/// The lock *replicate*, signed as an agent: one that was left over by a node that was cut off makes way, and so it does for
/// a takeover.
pub(super) fn lock(context: &Context) -> Result<Taken, Failure> {
    oust(Lock::Replicate, &context.root, Taker::Agent, GRACE, LOCK_PATIENCE).map_err(Failure::environment)
}

fn may_be_fetched_from(context: &Context) -> Result<(), Failure> {
    let now = node_state::now(context)?;
    now.flow.source(now.role, now.active).map_err(Failure::guard)
}

/// Standard input and output as one stream; unbuffered, since whether more has come is asked of the descriptor.
struct Stdio {
    input: File,
    output: File,
}

impl Stdio {
    fn new() -> io::Result<Stdio> {
        let input = io::stdin().as_fd().try_clone_to_owned()?.into();
        let output = io::stdout().as_fd().try_clone_to_owned()?.into();
        Ok(Stdio { input, output })
    }
}

impl Read for Stdio {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut ready = [PollFd::new(&self.input, PollFlags::IN)];
        let silence = Timespec::try_from(PATIENCE).map_err(io::Error::other)?;
        if poll(&mut ready, Some(&silence))? == 0 {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the other node has fallen silent"));
        }
        self.input.read(bytes)
    }
}

impl Write for Stdio {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

impl AsFd for Stdio {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.input.as_fd()
    }
}
