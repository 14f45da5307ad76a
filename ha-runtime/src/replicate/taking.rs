//! The serving node's end of carrying: this node's own datasets, under its lock, while it serves.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;

use ha_core::replication::wire::{ErrorKind, Frame};

use super::files::{copying, holdings, still_one};
use super::returning;
use super::source;
use crate::carry::{Holding, Kept, LockWay, TakingHost, take};
use crate::command;
use crate::context::Context;
use crate::driver::Notes;
use crate::durable::STATE_DIRECTORY;
use crate::node_state;
use crate::oust::Taken;
use crate::report::{Blame, Failure};
use crate::sync::{Link, SNAPSHOTS, SyncError, Tree, TreeError};

/// Takes what is offered; what the other node asks for next, if it does.
pub(super) fn take_in<S: Read + Write + AsFd>(
    context: &Context,
    link: &mut Link<S>,
    first: Frame,
) -> Result<Option<Frame>, SyncError> {
    let (here, lock) = match Here::open(context) {
        Ok(opened) => opened,
        Err(Failure { blame, message }) => {
            let kind = if blame == Blame::Guard { ErrorKind::Passive } else { ErrorKind::Failed };
            link.send(&Frame::Error { kind, message })?;
            link.flush()?;
            return Ok(None);
        }
    };
    let mut placed = 0;
    let next = take(link, first, &here, &mut placed);
    drop(lock);
    // also of those that came before the line was cut
    if placed > 0 {
        here.tell_of(placed);
    }
    next
}

struct Here {
    context: Context,
    holdings: Vec<Holding>,
    way: LockWay,
}

impl Here {
    fn open(context: &Context) -> Result<(Here, Taken), Failure> {
        let context = context.reread()?;
        serves(&context)?;
        let lock = source::lock(&context)?;
        // it may have been waited for
        serves(&context)?;
        let (holdings, way) = (holdings(&context)?, returning::way(&context)?);
        Ok((Here { context, holdings, way }, lock))
    }

    /// Asterisk is told, so that it looks at the mailboxes now; otherwise lamps change with the next message.
    fn tell_of(&self, placed: usize) {
        let text = format!(
            "{placed} messages of the other node, which has returned, were put into this node's mailboxes"
        );
        tracing::info!("{text}");
        let told = || -> Result<(), Failure> {
            let notes = Notes::open(&self.context)?;
            notes.note("carry", &text);
            let Some(command) = copying(&self.context)?.after_messages else { return Ok(()) };
            let run = command::run(&self.context.root, &command, &mut |record| notes.command(record));
            run.map(drop).map_err(Failure::environment)
        };
        if let Err(failure) = told() {
            tracing::warn!("Asterisk was not told of them: {failure}");
        }
    }
}

fn serves(context: &Context) -> Result<(), Failure> {
    let now = node_state::now(context)?;
    now.flow.carried_to(now.role, now.active).map_err(Failure::guard)
}

impl TakingHost for Here {
    fn holdings(&self) -> &[Holding] {
        &self.holdings
    }

    fn directory(&self, tree: &Tree) -> PathBuf {
        Kept::directory_of(&self.context.root, tree)
    }

    fn way(&self) -> LockWay {
        self.way
    }

    fn still(&self, tree: &Tree) -> Result<Tree, TreeError> {
        still_one(tree, &self.context.root.path(STATE_DIRECTORY).join(SNAPSHOTS))
    }

    fn serves(&self) -> Result<(), String> {
        serves(&self.context).map_err(|failure| failure.message)
    }
}
