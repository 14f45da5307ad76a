//! What Asterisk does with a folder, as far as it meets us: its lock, and how it stores a message under it.

use std::path::PathBuf;

use super::*;

/// Asterisk's lock of a folder.
pub(super) struct Locked(PathBuf);

impl Drop for Locked {
    fn drop(&mut self) {
        fs::remove_file(self.0.join(".lock")).unwrap();
    }
}

/// Takes it, once tried.
pub(super) fn lock(folder: PathBuf) -> Option<Locked> {
    let own = folder.join(".lock-0badcafe");
    fs::write(&own, "").unwrap();
    let linked = fs::hard_link(&own, folder.join(".lock"));
    fs::remove_file(own).unwrap();
    linked.ok().map(|()| Locked(folder))
}

/// Stores a message behind the last, unless the folder is locked: the recording's files first, the text last.
pub(super) fn store(node: &Node, folder: &str, said: u32) -> Option<String> {
    let _locked = lock(node.path(folder))?;
    let numbers =
        files(&node.path(folder)).into_iter().filter_map(|name| name.get(3..7)?.parse::<u32>().ok());
    let place = format!("{folder}/msg{:04}", numbers.max().map_or(0, |last| last + 1));
    node.message(&format!("{folder}/../tmp/recorded"), said);
    for extension in ["wav", "gsm", "txt"] {
        let recorded = node.path(&format!("{folder}/../tmp/recorded.{extension}"));
        fs::rename(recorded, node.path(&format!("{place}.{extension}"))).unwrap();
    }
    Some(place)
}
