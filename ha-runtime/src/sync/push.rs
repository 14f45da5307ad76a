//! The near end: scan, ask, plan, send.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::Instant;

use ha_core::replication::descent::{Descent, Differing};
use ha_core::replication::guard::{Counts, DeleteGuard};
use ha_core::replication::listing::Side;
use ha_core::replication::manifest::{MAX_ENTRIES, Mtime};
use ha_core::replication::path::RelPath;
use ha_core::replication::plan::{DeltaLimits, Plan, Rules};
use ha_core::replication::step::{Because, Removal, Step};
use ha_core::replication::wire::{Action, Content, ErrorKind, Frame, Outcome};
use serde::Serialize;

use super::error::SyncError;
use super::known::{self, KnownTree};
use super::left_out::LeftOut;
use super::link::{Link, tame};
use super::meta;
use super::scan::{Digests, meta_of, scan};
use super::source::{Kept, Sent, Target, send_file};
use super::stage::open_regular;
use super::tree::{Cursor, Tree};

/// How contents are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compare {
    /// By size and time, as `rsync` does.
    #[default]
    Quick,
    /// By digest: both nodes read every file (`--full`).
    Full,
}

/// [`Compare`] as the report names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Size and time decided.
    Incremental,
    /// Digests decided.
    Full,
}

/// What the settings say about a replication of files.
#[derive(Debug, Clone, Default)]
pub struct PushOptions {
    /// How contents are compared.
    pub compare: Compare,
    /// How much may be deleted.
    pub guard: DeleteGuard,
    /// What is patched instead of sent.
    pub delta: DeltaLimits,
    /// Bytes a second at most.
    pub bandwidth: Option<u64>,
    /// Trees that are as they should be while they look like this.
    pub known: Vec<KnownTree>,
}

/// How far a replication has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the files that are at the far end.
    pub done: u64,
    /// Bytes of all files that must get there.
    pub total: u64,
}

/// What one dataset needs. Prints as its steps, for `--dry-run`.
#[derive(Debug)]
pub struct TreePlan {
    /// Its name.
    pub dataset: String,
    /// The steps.
    pub plan: Plan,
    /// What is not copied although no rule excludes it.
    pub warnings: Vec<String>,
    index: u16,
    /// How the source's looked.
    fingerprint: String,
    /// The source's directories as they were listed, if anything is to be deleted because it is in none of them.
    directories: Vec<(RelPath, Mtime)>,
}

impl std::fmt::Display for TreePlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}:", self.dataset)?;
        self.plan.to_string().lines().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

/// What a replication of files did, in the words of `replicate --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "part", rename = "files")]
pub struct FilesReport {
    /// How contents were compared.
    pub mode: Mode,
    /// Of the replication that the slave has now, files and database.
    pub number: u64,
    /// From the first question to the last answer.
    pub seconds: f64,
    /// Files and links that take part.
    pub files: u64,
    /// Files that were sent whole.
    pub sent: u64,
    /// Files that were sent as blocks.
    pub patched: u64,
    /// Files that waited on the slave, whole or in part, since an earlier replication, which was cut.
    pub resumed: u64,
    /// Files and links that the replica lost.
    pub deleted: u64,
    /// Entries that changed in any way.
    pub changed: u64,
    /// On the connection.
    pub bytes_sent: u64,
    /// On the connection.
    pub bytes_received: u64,
    /// Whether every content that travelled had the source's digest before it was renamed into place.
    pub verified: bool,
    /// Files that changed while they were read, or vanished; the replica keeps what it had.
    pub skipped: Vec<String>,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// How each tree looked here, by its name.
    #[serde(skip)]
    pub sources: BTreeMap<String, String>,
}

/// What each tree needs, for `--dry-run`; nothing is changed. After an error the conversation can go on.
pub(crate) fn plan_only<S: Read + Write + AsFd>(
    link: &mut Link<S>,
    accepted: &[String],
    trees: &[Tree],
    options: &PushOptions,
) -> Result<Vec<TreePlan>, SyncError> {
    let planned = plan_trees(link, accepted, trees, options);
    match &planned {
        // the far end need not keep its lists
        Ok(_) => link.resync()?,
        Err(error) => drop(resynced(link, error)),
    }
    planned
}

/// Brings both ends back to the same place after an error; whether they are.
fn resynced<S: Read + Write + AsFd>(link: &mut Link<S>, error: &SyncError) -> bool {
    // the first error is the one to report, whatever becomes of the connection now
    error.leaves_the_link() && link.resync().is_ok()
}

fn plan_trees<S: Read + Write + AsFd>(
    link: &mut Link<S>,
    accepted: &[String],
    trees: &[Tree],
    options: &PushOptions,
) -> Result<Vec<TreePlan>, SyncError> {
    let position = |tree: &Tree| {
        let index = accepted.iter().position(|name| name == tree.name());
        let index = index.and_then(|index| u16::try_from(index).ok());
        index.ok_or_else(|| SyncError::UnknownDataset(tree.name().to_owned()))
    };
    let indices = trees.iter().map(position).collect::<Result<Vec<_>, _>>()?;
    let digests = match options.compare {
        Compare::Quick => Digests::No,
        Compare::Full => Digests::Yes,
    };
    // the far end reads its trees while we read ours
    for dataset in &indices {
        link.send(&Frame::AskTree { dataset: *dataset, digests: digests == Digests::Yes })?;
    }
    link.flush()?;
    let found = trees.iter().map(|tree| scan(tree, digests, Side::Source)).collect::<Result<Vec<_>, _>>()?;
    let mut summaries = Vec::new();
    for _ in trees {
        let Frame::Tree(summary) = link.receive(ASKED)? else {
            return Err(SyncError::Unexpected { asked: ASKED });
        };
        summaries.push(summary);
    }
    let mut plans = Vec::new();
    for (((tree, index), found), replica) in trees.iter().zip(indices).zip(found).zip(&summaries) {
        let rules = Rules { filter: tree.filter().clone(), delta: options.delta };
        let fingerprint = known::of(&found.listing.summary())?;
        let known = options.compare == Compare::Quick
            && is_known(&options.known, tree.name(), &fingerprint, &known::of(replica)?);
        let plan = if known {
            let counts = Counts { source: replica.files, replica: replica.files, deleted: 0 };
            Plan { counts, ..Plan::default() }
        } else {
            let descent = Descent::new(&found.listing, replica, &rules.filter);
            descend(link, index, descent)?.plan(&rules)
        };
        drop(found.listing);
        let mut warnings = found.warnings;
        warnings.extend(plan.blocked.iter().map(|path| {
            format!("{} is left alone on the replica: it holds what is excluded", tree.display(path))
        }));
        let gone = |step: &Step| matches!(step, Step::Delete { because: Removal::Gone, .. });
        let directories = if plan.steps.iter().any(gone) { found.directories } else { Vec::new() };
        plans.push(TreePlan {
            dataset: tree.name().to_owned(),
            plan,
            warnings,
            index,
            fingerprint,
            directories,
        });
    }
    Ok(plans)
}

fn is_known(known: &[KnownTree], name: &str, source: &str, replica: &str) -> bool {
    known.iter().any(|known| (&*known.name, &*known.source, &*known.replica) == (name, source, replica))
}

const ASKED: &str = "a request for its list of files";

/// Longest list of one directory that is read: half a million entries.
const MAX_DIRECTORY_BYTES: u64 = 64 << 20;

/// Longest lists that are read of one tree, and the longest of what waits.
const MAX_TREE_BYTES: u64 = 1 << 30;

/// Asks for the directories whose digests differ, level by level.
fn descend<S: Read + Write + AsFd>(
    link: &mut Link<S>,
    dataset: u16,
    mut descent: Descent<'_>,
) -> Result<Differing, SyncError> {
    let asked_from = link.received;
    loop {
        let paths = descent.ask();
        let count = paths.len();
        if count == 0 {
            return Ok(descent.finish()?);
        }
        link.send(&Frame::AskDirectories { dataset, paths })?;
        link.flush()?;
        for _ in 0..count {
            let mut all = Vec::new();
            let directory_from = link.received;
            loop {
                let Frame::Directory { entries, last } = link.receive(ASKED)? else {
                    return Err(SyncError::Unexpected { asked: ASKED });
                };
                let nothing_new = entries.is_empty();
                let too_much = link.received - directory_from > MAX_DIRECTORY_BYTES
                    || link.received - asked_from > MAX_TREE_BYTES;
                if too_much {
                    return Err(SyncError::Unexpected { asked: ASKED });
                }
                all.extend(entries);
                if last {
                    break;
                }
                if nothing_new || all.len() > MAX_ENTRIES {
                    return Err(SyncError::Unexpected { asked: ASKED });
                }
            }
            descent.answer(all)?;
        }
    }
}

/// Refuses what the guards refuse, tree by tree and all together.
fn check(plans: &[TreePlan], guard: DeleteGuard) -> Result<(), SyncError> {
    let refuse = |dataset: &str, why| SyncError::Guard { dataset: dataset.to_owned(), why };
    for tree in plans {
        guard.check(tree.plan.counts).map_err(|why| refuse(&tree.dataset, why))?;
    }
    let total = plans.iter().fold(Counts::default(), |sum, tree| sum.and(tree.plan.counts));
    // shares were looked at tree by tree
    let all = DeleteGuard { max_percent: 100, ..guard };
    if total.source > 0 {
        all.check(total).map_err(|why| refuse("all datasets together", why))
    } else {
        Ok(())
    }
}

/// What waits at the far end until it is committed.
#[derive(Debug)]
pub struct StagedFiles {
    report: FilesReport,
}

impl StagedFiles {
    /// The report of all of it, once the far end has switched to it.
    pub fn report(self, outcome: Outcome) -> FilesReport {
        let StagedFiles { mut report } = self;
        report.number = outcome.number;
        report.deleted = outcome.deleted;
        report.warnings.extend(outcome.warnings.iter().map(|text| tame(text)));
        report
    }
}

/// Opens a replication and prepares one without files.
pub(crate) fn stage_nothing<S: Read + Write + AsFd>(
    link: &mut Link<S>,
    generation: u64,
) -> Result<(), SyncError> {
    open(link, generation)?;
    prepare(link, generation)
}

/// Brings to the far end what makes its trees equal to these. See [`SyncError`] for the state that each failure leaves.
pub(crate) fn stage<S: Read + Write + AsFd>(
    link: &mut Link<S>,
    accepted: &[String],
    generation: u64,
    trees: &[Tree],
    options: &PushOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<StagedFiles, SyncError> {
    let start = Instant::now();
    let (sent_before, received_before) = (link.sent, link.received);
    link.limit(options.bandwidth);
    let mut options = options.clone();
    let run = loop {
        let error = match stage_once(link, accepted, generation, trees, &options, progress) {
            Ok(run) => break run,
            Err(error) => error,
        };
        let heard = resynced(link, &error);
        match error {
            // a block digest was wrong (they are weak): the strong one noticed, so whole files are next
            SyncError::Remote { kind: ErrorKind::Corrupt, .. } if heard && options.delta.max > 0 => {
                options.delta = DeltaLimits { min: u64::MAX, max: 0 };
            }
            error => return Err(error),
        }
    };
    let report = FilesReport {
        mode: match options.compare {
            Compare::Quick => Mode::Incremental,
            Compare::Full => Mode::Full,
        },
        number: 0,
        seconds: start.elapsed().as_secs_f64(),
        files: run.files,
        sent: run.sent,
        patched: run.patched,
        resumed: run.resumed,
        deleted: 0,
        changed: run.changed,
        bytes_sent: link.sent - sent_before,
        bytes_received: link.received - received_before,
        verified: true,
        skipped: run.skipped,
        warnings: run.warnings,
        sources: run.sources,
    };
    Ok(StagedFiles { report })
}

/// Takes the far end's lock; says how many contents wait there from an earlier time.
fn open<S: Read + Write + AsFd>(link: &mut Link<S>, generation: u64) -> Result<u64, SyncError> {
    match link.ask("the opening", &Frame::Begin { generation })? {
        Frame::Ready { kept, .. } => Ok(kept),
        _ => Err(SyncError::Unexpected { asked: "the opening" }),
    }
}

fn prepare<S: Read + Write + AsFd>(link: &mut Link<S>, generation: u64) -> Result<(), SyncError> {
    match link.ask("the preparation", &Frame::Prepare { generation })? {
        Frame::Prepared { .. } => Ok(()),
        _ => Err(SyncError::Unexpected { asked: "the preparation" }),
    }
}

type KeptContents = BTreeMap<(u16, RelPath), Kept>;

/// Contents that wait at the far end. Of two of the same path, the later one.
fn ask_kept<S: Read + Write + AsFd>(link: &mut Link<S>) -> Result<KeptContents, SyncError> {
    let asked = "a request for what waits there";
    let mut all = KeptContents::new();
    let asked_from = link.received;
    let mut answer = link.ask(asked, &Frame::AskKept)?;
    loop {
        let Frame::Kept { contents, last } = answer else { return Err(SyncError::Unexpected { asked }) };
        let nothing_new = contents.is_empty();
        for Content { dataset, path, size, meta, part } in contents {
            all.insert((dataset, path), Kept { size, meta, part });
        }
        if last {
            return Ok(all);
        }
        if nothing_new || all.len() > MAX_ENTRIES || link.received - asked_from > MAX_TREE_BYTES {
            return Err(SyncError::Unexpected { asked });
        }
        answer = link.receive(asked)?;
    }
}

#[derive(Default)]
struct Run {
    files: u64,
    sent: u64,
    patched: u64,
    resumed: u64,
    changed: u64,
    skipped: Vec<String>,
    warnings: Vec<String>,
    sources: BTreeMap<String, String>,
}

fn stage_once<S: Read + Write + AsFd>(
    link: &mut Link<S>,
    accepted: &[String],
    generation: u64,
    trees: &[Tree],
    options: &PushOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Run, SyncError> {
    let kept = open(link, generation)?;
    let mut plans = plan_trees(link, accepted, trees, options)?;
    check(&plans, options.guard)?;
    let mut kept = if kept > 0 { ask_kept(link)? } else { KeptContents::new() };
    match options.compare {
        Compare::Quick => {}
        // by size and time is not good enough; a part is digested with the rest
        Compare::Full => kept.retain(|_, kept| kept.part.is_some()),
    }

    let mut run = Run::default();
    let size = |step: &Step| match step {
        Step::Send { size, .. } | Step::Patch { size, .. } => *size,
        _ => 0,
    };
    let total = plans.iter().flat_map(|tree| &tree.plan.steps).map(size).sum();
    let mut done = 0;
    let mut left_out: Vec<LeftOut> = Vec::new();
    for (tree, planned) in trees.iter().zip(&plans) {
        let mut missing = LeftOut::default();
        let mut cursor = tree.open()?.map(Cursor::new);
        for step in &planned.plan.steps {
            let (path, patch) = match step {
                Step::Send { path, .. } => (path, false),
                Step::Patch { path, .. } => (path, true),
                // another name of what did not arrive does not arrive either
                Step::Link { path, to } if missing.misses(to) => {
                    missing.miss(path);
                    continue;
                }
                _ => continue,
            };
            let waits = kept.get(&(planned.index, path.clone()));
            if let (Some(kept @ Kept { part: None, .. }), Some(cursor)) = (waits, &mut cursor)
                && is_still(tree, cursor, path, kept)?
            {
                run.resumed += 1;
                done += size(step);
                progress(Progress { done, total });
                continue;
            }
            let (dataset, max_basis) = (planned.index, options.delta.max);
            let mut target = Target { link: &mut *link, generation, dataset, max_basis };
            let sent = match &mut cursor {
                Some(cursor) => send_file(&mut target, tree, cursor, path, patch, waits)?,
                None => Sent::Vanished,
            };
            let why = match sent {
                Sent::Whole | Sent::Rest => None,
                Sent::Vanished => Some("vanished"),
                Sent::Unsteady => Some("changed each time that it was read"),
            };
            if let Some(why) = why {
                run.skipped.push(format!("{} {why}", tree.display(path)));
                missing.miss(path);
            } else if sent == Sent::Rest {
                run.resumed += 1;
            } else if patch {
                run.patched += 1;
            } else {
                run.sent += 1;
            }
            done += size(step);
            progress(Progress { done, total });
        }
        left_out.push(missing);
    }
    for ((tree, planned), left_out) in trees.iter().zip(&plans).zip(&mut left_out) {
        let steps = &planned.plan.steps;
        // only now: the contents of all trees have been sent, which may have taken long
        run.warnings.extend(left_out.look_again(tree, steps, &planned.directories)?);
        for step in steps.iter().filter(|step| left_out.leaves(step)) {
            run.changed += u64::from(!matches!(step, Step::SetMeta { because: Because::Touched, .. }));
            link.send(&Frame::Step { generation, dataset: planned.index, action: action(step) })?;
        }
        run.files += planned.plan.counts.source;
    }
    run.sources = plans.iter().map(|tree| (tree.dataset.clone(), tree.fingerprint.clone())).collect();
    run.warnings.extend(plans.iter_mut().flat_map(|tree| std::mem::take(&mut tree.warnings)));

    prepare(link, generation)?;
    Ok(run)
}

/// Whether the source's file is what was read when its content was sent.
fn is_still(tree: &Tree, cursor: &mut Cursor, path: &RelPath, kept: &Kept) -> Result<bool, SyncError> {
    let fail = |error: std::io::Error| tree.error("read", path, error);
    let Some(file) = open_regular(cursor, path).map_err(fail)? else { return Ok(false) };
    let stat = meta::stat_fd(&file).map_err(|error| fail(error.into()))?;
    let own = meta_of(&file, &stat).map_err(|error| fail(error.into()))?;
    Ok(kept.is_of(stat.stx_size, &own))
}

fn action(step: &Step) -> Action {
    match step {
        Step::MakeDir { path } => Action::MakeDir { path: path.clone() },
        Step::Send { path, .. } | Step::Patch { path, .. } => Action::Place { path: path.clone() },
        Step::SetMeta { path, meta, .. } => Action::SetMeta { path: path.clone(), meta: (**meta).clone() },
        Step::Link { path, to } => Action::Link { path: path.clone(), to: to.clone() },
        Step::Symlink { path, target, meta } => {
            Action::Symlink { path: path.clone(), target: target.to_vec(), meta: (**meta).clone() }
        }
        Step::Delete { path, directory, .. } => Action::Delete { path: path.clone(), directory: *directory },
    }
}
