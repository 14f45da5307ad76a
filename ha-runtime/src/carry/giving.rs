//! The returning node's side of the conversation, over the line by which it fetches afterwards.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::fd::AsFd;

use ha_core::carry::FileState;
use ha_core::replication::path::RelPath;
use ha_core::replication::wire::{CHUNK, Frame};
use ha_core::voicemail::{Base, Plan, Spool, Step};

use super::aside::Aside;
use super::parts::{self, List, Offered};
use super::receiver::Done;
use super::scan::open_file;
use super::{CarryError, point};
use crate::sync::{Link, SyncError, Tree};

/// What became of what the returning node held newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Given {
    /// Messages and files that the serving node has now.
    pub carried: usize,
    /// Files that were set aside here.
    pub aside: usize,
}

impl std::ops::AddAssign for Given {
    fn add_assign(&mut self, more: Given) {
        self.carried += more.carried;
        self.aside += more.aside;
    }
}

/// Offers what a tree holds (`mine`, read from it), gives what the other node takes of it, and sets aside what it does
/// not take. After `Ok` nothing of `mine` is here alone. `base`: what both had, where this node alone has ever fetched.
///
/// Err: it is begun again from the start, which does nothing twice.
pub(crate) fn give<S: Read + Write + AsFd>(
    link: &mut Link<S>,
    tree: &Tree,
    mine: &Spool,
    base: Option<&Base>,
    aside: &mut Aside,
) -> Result<Given, CarryError> {
    let offer_of = Offered { spool: mine.clone(), base: base.cloned() };
    let plan = offer(link, tree, &offer_of)?;
    let offered = offered(mine);
    let mut given = Given::default();
    for (index, step) in plan.steps.iter().enumerate() {
        let why = match step {
            Step::SetAside { why, .. } => Some(*why),
            Step::Put { .. } | Step::Move { .. } | Step::Write { .. } => {
                match carry_out(link, index, tree, &step.contents(mine))? {
                    Done::Placed(_) | Done::There(_) | Done::Written => {
                        given.carried += 1;
                        None
                    }
                    Done::Refused(why) => Some(why),
                    // its owner moved or deleted it there meanwhile
                    Done::Gone if matches!(step, Step::Move { .. }) => None,
                    Done::Gone | Done::NotHere => return Err(unexpected("a step")),
                }
            }
        };
        let Some(why) = why else { continue };
        let paths = match step {
            Step::SetAside { paths, .. } => paths.clone(),
            other => other.contents(mine).into_iter().map(|(path, _)| path).collect(),
        };
        if !paths.iter().all(|path| offered.contains(path)) {
            return Err(unexpected("an offer"));
        }
        for path in paths {
            given.aside += usize::from(aside.keep(tree, &path, why)?.is_some());
        }
    }
    Ok(given)
}

fn unexpected(asked: &'static str) -> CarryError {
    SyncError::Unexpected { asked }.into()
}

fn offer<S: Read + Write + AsFd>(
    link: &mut Link<S>,
    tree: &Tree,
    offered: &Offered,
) -> Result<Plan, CarryError> {
    let dataset = tree.name().to_owned();
    parts::send(link, offered, |part, last| Frame::Offer { dataset: dataset.clone(), part, last })?;
    let mut list = List::default();
    loop {
        let Frame::Plan { part, last } = link.receive("an offer")? else {
            return Err(unexpected("an offer"));
        };
        list.push(&part).map_err(|_| unexpected("an offer"))?;
        if last {
            return list.read().map_err(|_| unexpected("an offer"));
        }
    }
}

/// Every file of a spool.
fn offered(mine: &Spool) -> BTreeSet<RelPath> {
    let files = mine.files.0.keys().chain(mine.torn.0.keys()).cloned();
    files.chain(mine.messages.iter().flat_map(|message| message.paths())).collect()
}

fn carry_out<S: Read + Write + AsFd>(
    link: &mut Link<S>,
    index: usize,
    tree: &Tree,
    contents: &[(RelPath, FileState)],
) -> Result<Done, CarryError> {
    let step = u32::try_from(index).map_err(|_| CarryError::NoStep(index))?;
    link.send(&Frame::CarryOut { step })?;
    for (path, state) in contents {
        // one byte more than there should be tells the other node that it changed
        let mut content = open_file(tree, path)?.take(state.size.saturating_add(1));
        loop {
            let mut bytes = Vec::new();
            let read = content.by_ref().take(CHUNK as u64).read_to_end(&mut bytes);
            read.map_err(|error| tree.error("read", path, error))?;
            let last = bytes.is_empty();
            link.send(&Frame::Piece { bytes, last })?;
            if last {
                break;
            }
        }
        point();
    }
    link.flush()?;
    match link.receive("a step")? {
        Frame::CarriedOut(done) => serde_json::from_slice(&done).map_err(|_| unexpected("a step")),
        _ => Err(unexpected("a step")),
    }
}
