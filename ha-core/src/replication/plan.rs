//! What must be done so that a replica becomes its source, in an order in which no step fails.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::filter::Filter;
use super::guard::Counts;
use super::manifest::{Entry, Kind, Manifest, Meta};
use super::path::RelPath;
use super::step::{Because, Removal, Step};

/// What decides beside the two trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Which paths take part.
    pub filter: Filter,
    /// Which contents are patched.
    pub delta: DeltaLimits,
}

/// Sizes between which a changed file is patched block by block instead of sent whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaLimits {
    /// Bytes; below it, asking for block digests costs more than the file.
    pub min: u64,
    /// Bytes.
    pub max: u64,
}

impl Default for DeltaLimits {
    fn default() -> DeltaLimits {
        DeltaLimits { min: 16 << 10, max: 4 << 30 }
    }
}

/// Steps for one dataset. Nothing is left to decide to whoever executes them.
///
/// In this order: what is in the way is removed, deepest first; directories, files and links in the order of their
/// paths, so parents before children; deletions, deepest first; metadata of directories, deepest first, because every
/// step before changes a directory's time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// What to do.
    pub steps: Vec<Step>,
    /// Directories of the replica that stand where the source has something else, and hold what is never removed.
    pub blocked: Vec<RelPath>,
    /// The amounts that guards and reports look at.
    pub counts: Counts,
}

/// What makes `replica` equal to `source` as far as `rules` let it take part.
///
/// Contents are compared by their digests where both trees have them, otherwise by size and time. What is excluded is
/// neither read nor removed, and the directories that hold it stay.
pub fn plan(source: &Manifest, replica: &Manifest, rules: &Rules) -> Plan {
    Planner::new(source, replica, rules).plan()
}

struct Planner<'a> {
    source: &'a Manifest,
    replica: &'a Manifest,
    rules: &'a Rules,
    /// Directories of the replica that hold, at any depth, what is never removed.
    kept: BTreeSet<RelPath>,
    /// Every name of a file of the replica that has several.
    names: BTreeMap<u32, Vec<&'a RelPath>>,
    /// The first name of a source's file, and the replica's file that it stays, if it does.
    leaders: BTreeMap<u32, (&'a RelPath, Option<u32>)>,
    touched: BTreeSet<RelPath>,
    out: Plan,
}

impl<'a> Planner<'a> {
    fn new(source: &'a Manifest, replica: &'a Manifest, rules: &'a Rules) -> Planner<'a> {
        let mut planner = Planner {
            source,
            replica,
            rules,
            kept: BTreeSet::new(),
            names: BTreeMap::new(),
            leaders: BTreeMap::new(),
            touched: BTreeSet::new(),
            out: Plan::default(),
        };
        for (path, entry) in replica.iter() {
            if let Kind::File { link: Some(link), .. } = entry.kind {
                planner.names.entry(link).or_default().push(path);
            }
            if planner.is_protected(path, entry) {
                let mut above = path.parent();
                while let Some(directory) = above {
                    above = directory.parent();
                    if !planner.kept.insert(directory) {
                        break;
                    }
                }
            } else if entry.kind != Kind::Dir {
                planner.out.counts.replica += 1;
            }
        }
        planner
    }

    /// What the source wants at `path`, if it takes part.
    fn wanted(&self, path: &RelPath) -> Option<&'a Entry> {
        self.source.get(path).filter(|entry| self.rules.filter.takes_part(path, &entry.kind))
    }

    /// Never removed: excluded, or special, or merely above what is copied, unless the source wants its place.
    fn is_protected(&self, path: &RelPath, entry: &Entry) -> bool {
        !self.rules.filter.takes_part(path, &entry.kind) && self.wanted(path).is_none()
    }

    fn plan(mut self) -> Plan {
        let mut clear = Vec::new();
        let mut gone = Vec::new();
        // at most a step for each entry, and at the end one more for each directory: a list that grows would for a moment
        // be there twice
        let directories = self.source.iter().filter(|(_, entry)| entry.kind == Kind::Dir).count();
        let mut bring = Vec::with_capacity(self.source.len() + directories);
        let mut metas = Vec::new();
        // what lies below a directory that is cleared is cleared with it
        let mut cleared: Option<&RelPath> = None;
        for (path, wanted, present) in merge(self.source, self.replica) {
            let wanted = wanted.filter(|entry| self.rules.filter.takes_part(path, &entry.kind));
            self.out.counts.source += u64::from(wanted.is_some_and(|entry| entry.kind != Kind::Dir));
            if cleared.is_some_and(|above| path.is_below(above)) {
                clear.extend(present.map(|entry| (path, entry)));
                continue;
            }
            match (wanted, present) {
                (None, None) => {}
                (None, Some(entry)) => {
                    if !path.is_root() && !self.is_protected(path, entry) && !self.kept.contains(path) {
                        gone.push((path, entry));
                    }
                }
                (Some(wanted), Some(present)) if wanted.kind == Kind::Dir && present.kind == Kind::Dir => {
                    if wanted.meta != present.meta {
                        metas.push(path);
                    }
                }
                (Some(wanted), present) => {
                    let is_dir = |entry: &Entry| entry.kind == Kind::Dir;
                    if let Some(entry) = present.filter(|entry| is_dir(entry) != is_dir(wanted)) {
                        if self.kept.contains(path) {
                            self.out.blocked.push(path.clone());
                            continue;
                        }
                        clear.push((path, entry));
                        cleared = is_dir(entry).then_some(path);
                        bring.extend(self.bring(path, wanted, None));
                    } else {
                        bring.extend(self.bring(path, wanted, present));
                    }
                }
            }
        }
        self.assemble(&clear, bring, &gone, metas)
    }

    /// The step that brings one entry that is not a directory on both sides.
    fn bring(&mut self, path: &'a RelPath, wanted: &'a Entry, present: Option<&Entry>) -> Option<Step> {
        match &wanted.kind {
            Kind::Dir => Some(Step::MakeDir { path: path.clone() }),
            Kind::Symlink { target } => (present != Some(wanted)).then(|| Step::Symlink {
                path: path.clone(),
                target: target.clone(),
                meta: meta_of(wanted),
            }),
            Kind::File { link: Some(link), .. } if self.leaders.contains_key(link) => {
                let (leader, stays) = self.leaders[link];
                let same = present.and_then(link_of).is_some_and(|link| Some(link) == stays);
                (!same).then(|| Step::Link { path: path.clone(), to: leader.clone() })
            }
            Kind::File { link, .. } => {
                let step = self.file(path, wanted, present);
                if let Some(link) = link {
                    let replaced = matches!(step, Some(Step::Send { .. } | Step::Patch { .. }));
                    let stays = present.filter(|_| !replaced).and_then(link_of);
                    self.leaders.insert(*link, (path, stays));
                }
                step
            }
            // `takes_part` never lets one in
            Kind::Special => None,
        }
    }

    fn file(&self, path: &RelPath, wanted: &Entry, present: Option<&Entry>) -> Option<Step> {
        let Kind::File { size, ref digest, .. } = wanted.kind else { return None };
        let send = Step::Send { path: path.clone(), size };
        let Some(present) = present else { return Some(send) };
        let Kind::File { size: old_size, digest: ref old_digest, .. } = present.kind else {
            return Some(send);
        };
        let same_content = size == old_size
            && match (digest, old_digest) {
                (Some(new), Some(old)) => new == old,
                _ => wanted.meta.mtime == present.meta.mtime,
            };
        if same_content && !self.shared_with_another(wanted, present, path) {
            return (wanted.meta != present.meta).then(|| Step::SetMeta {
                path: path.clone(),
                meta: meta_of(wanted),
                because: Because::Differs,
            });
        }
        let limits = self.rules.delta.min..=self.rules.delta.max;
        let patched = limits.contains(&size) && limits.contains(&old_size);
        Some(if patched { Step::Patch { path: path.clone(), size } } else { send })
    }

    /// Whether the replica's file has a further name that stays and is not the same file in the source.
    fn shared_with_another(&self, wanted: &Entry, present: &Entry, path: &RelPath) -> bool {
        let names = link_of(present).and_then(|link| self.names.get(&link));
        names.into_iter().flatten().any(|name| {
            *name != path
                && match self.wanted(name) {
                    Some(other) => link_of(other).is_none() || link_of(other) != link_of(wanted),
                    None => self.replica.get(name).is_some_and(|entry| self.is_protected(name, entry)),
                }
        })
    }

    fn assemble(
        mut self,
        clear: &[(&RelPath, &Entry)],
        bring: Vec<Step>,
        gone: &[(&RelPath, &Entry)],
        metas: Vec<&RelPath>,
    ) -> Plan {
        let delete = |because| {
            move |(path, entry): &(&RelPath, &Entry)| {
                let directory = entry.kind == Kind::Dir;
                Step::Delete { path: (*path).clone(), because, directory }
            }
        };
        let is_file = |(_, entry): &&(&RelPath, &Entry)| entry.kind != Kind::Dir;
        self.out.counts.deleted = clear.iter().chain(gone).filter(is_file).count() as u64;
        // paths were collected in order, so the reverse is deepest first
        // most often nothing is in the way, and then nothing is moved
        self.out.steps = bring;
        self.out.steps.splice(0..0, clear.iter().rev().map(delete(Removal::InTheWay)));
        self.out.steps.extend(gone.iter().rev().map(delete(Removal::Gone)));
        for step in &self.out.steps {
            match step {
                Step::MakeDir { path } => {
                    self.touched.extend(path.parent());
                    self.touched.insert(path.clone());
                }
                Step::SetMeta { .. } => {}
                // contents are prepared in the root before they are renamed into place
                Step::Send { path, .. }
                | Step::Patch { path, .. }
                | Step::Symlink { path, .. }
                | Step::Link { path, .. } => {
                    self.touched.insert(RelPath::root());
                    self.touched.extend(path.parent());
                }
                Step::Delete { path, .. } => self.touched.extend(path.parent()),
            }
        }
        let differs: BTreeSet<&RelPath> = metas.into_iter().collect();
        let mut finish: BTreeSet<&RelPath> = self.touched.iter().collect();
        finish.extend(&differs);
        let blocked = &self.out.blocked;
        let finish = finish.into_iter().rev().filter(|path| !blocked.contains(path)).filter_map(|path| {
            let wanted = self.wanted(path).filter(|entry| entry.kind == Kind::Dir)?;
            let because = if differs.contains(path) { Because::Differs } else { Because::Touched };
            Some(Step::SetMeta { path: path.clone(), meta: meta_of(wanted), because })
        });
        let finish: Vec<Step> = finish.collect();
        self.out.steps.extend(finish);
        self.out
    }
}

fn link_of(entry: &Entry) -> Option<u32> {
    match entry.kind {
        Kind::File { link, .. } => link,
        Kind::Dir | Kind::Symlink { .. } | Kind::Special => None,
    }
}

fn meta_of(entry: &Entry) -> Box<Meta> {
    Box::new(entry.meta.clone())
}

/// Both trees in the order of their paths.
fn merge<'a>(
    source: &'a Manifest,
    replica: &'a Manifest,
) -> impl Iterator<Item = (&'a RelPath, Option<&'a Entry>, Option<&'a Entry>)> {
    let mut left = source.iter().peekable();
    let mut right = replica.iter().peekable();
    std::iter::from_fn(move || {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        let new = left.next_if(|_| order != Ordering::Greater);
        let old = right.next_if(|_| order != Ordering::Less);
        let (path, _) = new.or(old)?;
        Some((path, new.map(|(_, entry)| entry), old.map(|(_, entry)| entry)))
    })
}

/// A line for each step that a person would want to know of, and for each path that must be left alone.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            if !matches!(step, Step::SetMeta { because: Because::Touched, .. }) {
                writeln!(f, "{step}")?;
            }
        }
        self.blocked.iter().try_for_each(|path| {
            writeln!(f, "leave {path}: it holds what is excluded, where the source has something else")
        })
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
