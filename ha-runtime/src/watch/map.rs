//! Which watch stands for which directory of a tree.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ha_core::replication::path::RelPath;

/// The kernel's number of a watch. It follows the directory when that is renamed, and is not used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Wd(pub(super) i32);

/// The watched directories of one tree: each has one watch and one place.
///
/// A name is kept once, however many entries lie below it; about 200 bytes a directory.
#[derive(Debug)]
pub(super) struct Map {
    root: Wd,
    directories: HashMap<Wd, Directory>,
}

#[derive(Debug)]
struct Directory {
    /// The directory that holds it and its name there; `None` for the tree's root.
    place: Option<(Wd, Arc<[u8]>)>,
    children: BTreeMap<Arc<[u8]>, Wd>,
}

impl Map {
    /// A tree of which only the root is watched.
    pub(super) fn new(root: Wd) -> Map {
        let directory = Directory { place: None, children: BTreeMap::new() };
        Map { root, directories: HashMap::from([(root, directory)]) }
    }

    /// The watch of the tree's root.
    pub(super) fn root(&self) -> Wd {
        self.root
    }

    /// How many directories are watched.
    pub(super) fn len(&self) -> usize {
        self.directories.len()
    }

    /// Where the directory lies; `None`: nothing is known of that watch.
    pub(super) fn path(&self, wd: Wd) -> Option<RelPath> {
        let mut names: Vec<&[u8]> = Vec::new();
        let mut here = self.directories.get(&wd)?;
        while let Some((parent, name)) = &here.place {
            names.push(name);
            here = self.directories.get(parent)?;
        }
        names.reverse();
        RelPath::new(names.join(&b'/')).ok()
    }

    /// The watch of the directory `name` in `parent`.
    pub(super) fn child(&self, parent: Wd, name: &[u8]) -> Option<Wd> {
        self.directories.get(&parent)?.children.get(name).copied()
    }

    /// Whether `wd` is `below` itself or holds it, at any depth.
    pub(super) fn is_at_or_above(&self, wd: Wd, below: Wd) -> bool {
        let mut here = Some(below);
        while let Some(at) = here {
            if at == wd {
                return true;
            }
            here = self.directories.get(&at).and_then(|own| own.place.as_ref()).map(|(parent, _)| *parent);
        }
        false
    }

    /// Puts the directory `wd`, with nothing known below it, at `name` in `parent`.
    ///
    /// Gives back the watches that stand for nothing any more: what was in that place, and what lay below `wd` in the
    /// place that it had. Nothing happens when `parent` is not watched, or lies in `wd`.
    pub(super) fn place(&mut self, wd: Wd, parent: Wd, name: &[u8]) -> Vec<Wd> {
        if !self.directories.contains_key(&parent) || self.is_at_or_above(wd, parent) {
            return Vec::new();
        }
        let mut given_up = self.forget(wd);
        given_up.retain(|own| *own != wd);
        given_up.extend(self.forget_child(parent, name));
        let name: Arc<[u8]> = name.into();
        if let Some(above) = self.directories.get_mut(&parent) {
            above.children.insert(name.clone(), wd);
            self.directories.insert(wd, Directory { place: Some((parent, name)), children: BTreeMap::new() });
        }
        given_up
    }

    /// Forgets the directory `name` in `parent` and all below; gives back their watches.
    pub(super) fn forget_child(&mut self, parent: Wd, name: &[u8]) -> Vec<Wd> {
        self.child(parent, name).map_or_else(Vec::new, |wd| self.forget(wd))
    }

    /// Forgets the directory and all below; gives back their watches.
    pub(super) fn forget(&mut self, wd: Wd) -> Vec<Wd> {
        let place = self.directories.get(&wd).and_then(|own| own.place.clone());
        if let Some((parent, name)) = place
            && let Some(above) = self.directories.get_mut(&parent)
        {
            above.children.remove(&name);
        }
        let mut gone = Vec::new();
        let mut left = vec![wd];
        while let Some(wd) = left.pop() {
            if let Some(directory) = self.directories.remove(&wd) {
                gone.push(wd);
                left.extend(directory.children.into_values());
            }
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `/a/b/c` and `/d`, numbered 1, 2, 3 and 4; the root is 0.
    fn map() -> Map {
        let mut map = Map::new(Wd(0));
        for (wd, parent, name) in [(1, 0, "a"), (2, 1, "b"), (3, 2, "c"), (4, 0, "d")] {
            assert_eq!(map.place(Wd(wd), Wd(parent), name.as_bytes()), vec![]);
        }
        map
    }

    fn path(map: &Map, wd: i32) -> Option<String> {
        map.path(Wd(wd)).map(|path| String::from_utf8_lossy(path.as_bytes()).into_owned())
    }

    #[test]
    fn a_watch_leads_to_its_path() {
        let map = map();
        assert_eq!(path(&map, 0).as_deref(), Some(""));
        assert_eq!(path(&map, 3).as_deref(), Some("a/b/c"));
        assert_eq!(path(&map, 9), None);
        assert_eq!((map.child(Wd(1), b"b"), map.child(Wd(1), b"c"), map.len()), (Some(Wd(2)), None, 5));
    }

    #[test]
    fn what_is_forgotten_takes_all_below_along() {
        let mut map = map();
        let mut gone = map.forget_child(Wd(0), b"a");
        gone.sort_by_key(|wd| wd.0);
        assert_eq!(gone, vec![Wd(1), Wd(2), Wd(3)]);
        assert_eq!((map.len(), path(&map, 2), map.child(Wd(0), b"a")), (2, None, None));
        assert_eq!(map.forget_child(Wd(0), b"a"), vec![]);
    }

    #[test]
    fn a_directory_found_elsewhere_leaves_its_old_place() {
        let mut map = map();
        assert_eq!(map.place(Wd(2), Wd(4), b"moved"), vec![Wd(3)], "what lay below is listed anew");
        assert_eq!(path(&map, 2).as_deref(), Some("d/moved"));
        assert_eq!((map.child(Wd(1), b"b"), map.len()), (None, 4));
    }

    #[test]
    fn a_directory_that_takes_another_s_place_ends_it() {
        let mut map = map();
        let mut gone = map.place(Wd(4), Wd(0), b"a");
        gone.sort_by_key(|wd| wd.0);
        assert_eq!(gone, vec![Wd(1), Wd(2), Wd(3)]);
        assert_eq!((path(&map, 4).as_deref(), map.child(Wd(0), b"d"), map.len()), (Some("a"), None, 2));
    }

    #[test]
    fn a_directory_is_never_put_into_itself() {
        let mut map = map();
        for (wd, parent) in [(1, 3), (0, 3), (3, 3), (5, 9)] {
            assert_eq!(map.place(Wd(wd), Wd(parent), b"x"), vec![]);
        }
        assert_eq!((path(&map, 3).as_deref(), map.len()), (Some("a/b/c"), 5));
    }
}
