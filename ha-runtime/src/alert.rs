//! One message to the administrator when a condition begins, one when it ends, none in between.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ha_core::effect::{Command, OnFailure};
use serde::{Deserialize, Serialize};

use crate::command::{CommandError, run_with_input};
use crate::lock::{self, LOCK_DIRECTORY};
use crate::root::Root;
use crate::state::Store;
use crate::writer::PATIENCE;

/// How long the hook may take.
const HOOK_TIMEOUT: Duration = Duration::from_secs(30);

/// What became of a message.
#[derive(Debug)]
pub enum Sent {
    /// The hook took it.
    Yes,
    /// It was sent before; or, for an end, its beginning never was.
    NotNeeded,
    /// There is no such program, which is no error: the log and the journal have the message.
    NoProgram,
    /// The hook failed; the message is tried again when the condition is raised again.
    Failed(CommandError),
}

/// The conditions that hold, by key, persisted in `/var/lib/pbx-ha/alerts.json`.
#[derive(Debug)]
pub struct Alerts {
    root: Root,
    hook: Vec<String>,
    store: Store<Open>,
    lock: PathBuf,
    /// How long the disk is waited for.
    patience: Duration,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    open: Open,
    /// The disk did not take it: what it says is older than this.
    ahead: bool,
}

type Open = BTreeMap<String, Condition>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Condition {
    subject: String,
    /// Whether the hook took the message, or there is none.
    told: bool,
}

impl Alerts {
    /// `hook`: the command's words, `{subject}` in them replaced; the text comes on its standard input. Without words
    /// nothing is sent. The program is looked up below the root.
    pub fn open(root: &Root, hook: Vec<String>) -> io::Result<Alerts> {
        Alerts::patient(root, hook, PATIENCE)
    }

    fn patient(root: &Root, hook: Vec<String>, patience: Duration) -> io::Result<Alerts> {
        let store = Store::open(root, "alerts")?;
        // in memory, not on a disk that may stall
        let lock = root.path(LOCK_DIRECTORY).join("alerts.lock");
        Ok(Alerts { root: root.clone(), hook, store, lock, patience, memory: Mutex::default() })
    }

    /// The condition holds. A message goes out only when it did not hold before, restarts of the engine included.
    ///
    /// A disk that cannot be written never stops a message; then it may go out again after a restart. Blocks as long as
    /// the hook runs, at most half a minute: nothing that keeps telephony up may wait for it.
    pub fn raise(&self, key: &str, subject: &str, text: &str) -> Sent {
        self.with_open(|open, save| {
            if open.get(key).is_some_and(|condition| condition.told) {
                return Sent::NotNeeded;
            }
            let condition = Condition { subject: subject.to_owned(), told: false };
            open.insert(key.to_owned(), condition.clone());
            let sent = self.send(subject, text);
            let told = !matches!(sent, Sent::Failed(_));
            open.insert(key.to_owned(), Condition { told, ..condition });
            save(open);
            sent
        })
    }

    /// The condition does not hold any more. A message goes out when it did.
    pub fn clear(&self, key: &str, text: &str) -> Sent {
        self.with_open(|open, save| {
            let Some(condition) = open.remove(key) else { return Sent::NotNeeded };
            save(open);
            if !condition.told {
                return Sent::NotNeeded;
            }
            self.send(&format!("over: {}", condition.subject), text)
        })
    }

    /// The subjects of the conditions that hold, by key.
    pub fn current(&self) -> BTreeMap<String, String> {
        self.with_open(|open, _| open.iter().map(|(key, c)| (key.clone(), c.subject.clone())).collect())
    }

    fn with_open<T>(&self, act: impl FnOnce(&mut Open, &mut dyn FnMut(&Open)) -> T) -> T {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        // a verb from cron and the daemon share the file; when it cannot be locked or read, memory has to do
        let _held = lock::hold(&self.lock, self.patience).ok();
        let Memory { open, ahead } = &mut *memory;
        if !*ahead && let Ok(Some(loaded)) = self.store.load_within(self.patience) {
            *open = loaded.into_value();
        }
        act(open, &mut |open| *ahead = !self.store.save_within(self.patience, open).is_durable())
    }

    fn send(&self, subject: &str, text: &str) -> Sent {
        // a subject is one line, whatever an error message held
        let subject: String = subject.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let argv: Vec<String> = self.hook.iter().map(|word| word.replace("{subject}", &subject)).collect();
        let command = Command { argv, timeout: HOOK_TIMEOUT, on_failure: OnFailure::GoOn };
        match run_with_input(&self.root, &command, text, &mut |_| {}) {
            Ok(_) => Sent::Yes,
            Err(CommandError::NotInstalled { .. }) => Sent::NoProgram,
            Err(error) => Sent::Failed(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use crate::durable::STATE_DIRECTORY;

    fn place(script: &str) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("usr/bin");
        fs::create_dir_all(&bin).unwrap();
        let out = dir.path().join("outbox");
        let script = format!("#!/bin/sh\nOUT={}\n{script}\n", out.display());
        fs::write(bin.join("mail"), script).unwrap();
        fs::set_permissions(bin.join("mail"), fs::Permissions::from_mode(0o755)).unwrap();
        let root = Root::new(dir.path()).unwrap();
        (dir, root)
    }

    fn alerts(root: &Root) -> Alerts {
        let hook = ["mail", "-s", "pbx-ha: {subject}", "root"].map(str::to_owned).to_vec();
        Alerts::patient(root, hook, Duration::from_secs(60)).unwrap()
    }

    const MAIL: &str = r#"{ echo "$2 to $3"; cat; } >> "$OUT""#;

    #[test]
    fn one_message_when_it_begins_and_one_when_it_ends_over_restarts() {
        let (dir, root) = place(MAIL);
        for minute in 0..3 {
            let sent = alerts(&root).raise("replicate", "database not replicated", "schema differs\n");
            assert_eq!(matches!(sent, Sent::Yes), minute == 0, "{sent:?}");
        }
        assert_eq!(alerts(&root).current()["replicate"], "database not replicated");
        assert!(matches!(alerts(&root).clear("replicate", "equal again\n"), Sent::Yes));
        assert!(matches!(alerts(&root).clear("replicate", "equal again\n"), Sent::NotNeeded));
        assert_eq!(
            fs::read_to_string(dir.path().join("outbox")).unwrap(),
            "pbx-ha: database not replicated to root\nschema differs\n\
             pbx-ha: over: database not replicated to root\nequal again\n"
        );
        assert!(matches!(alerts(&root).raise("replicate", "again", ""), Sent::Yes));
    }

    #[test]
    fn two_engines_that_share_the_file_send_one_message() {
        let (_dir, root) = place(MAIL);
        let (daemon, verb) = (alerts(&root), alerts(&root));
        assert!(matches!(daemon.raise("a", "a", ""), Sent::Yes));
        assert!(matches!(verb.raise("a", "a", ""), Sent::NotNeeded));
        assert!(matches!(verb.clear("a", ""), Sent::Yes));
        assert!(matches!(daemon.clear("a", ""), Sent::NotNeeded));
    }

    #[test]
    fn an_absent_program_is_no_error_and_a_failing_one_is_tried_again() {
        let (dir, root) = place("exit 1");
        assert!(matches!(alerts(&root).raise("a", "first", ""), Sent::Failed(_)));
        assert!(matches!(alerts(&root).raise("a", "first", ""), Sent::Failed(_)));
        assert!(matches!(alerts(&root).clear("a", ""), Sent::NotNeeded), "nobody was told that it began");
        fs::remove_file(dir.path().join("usr/bin/mail")).unwrap();
        assert!(matches!(alerts(&root).raise("b", "second", ""), Sent::NoProgram));
        assert!(matches!(alerts(&root).raise("b", "second", ""), Sent::NotNeeded));
    }

    #[test]
    fn a_disk_that_cannot_be_written_does_not_stop_the_message() {
        let (dir, root) = place(MAIL);
        // a file where the directory should be: nothing can be kept
        fs::create_dir_all(dir.path().join("var/lib")).unwrap();
        fs::write(dir.path().join("var/lib/pbx-ha"), "").unwrap();
        let alerts = alerts(&root);
        assert!(matches!(alerts.raise("a", "line\none", ""), Sent::Yes));
        assert!(matches!(alerts.raise("a", "line\none", ""), Sent::NotNeeded), "memory remembers");
        assert_eq!(fs::read_to_string(dir.path().join("outbox")).unwrap(), "pbx-ha: line one to root\n");
    }

    #[test]
    fn a_disk_that_stops_taking_writes_does_not_repeat_the_message() {
        let (_dir, root) = place(MAIL);
        let alerts = alerts(&root);
        assert!(matches!(alerts.raise("a", "a", ""), Sent::Yes));
        // a directory where the new file should be renamed to: what is there can be read, nothing can be replaced
        let previous = root.path(STATE_DIRECTORY).join("alerts.previous.json");
        fs::create_dir_all(previous.join("in the way")).unwrap();
        assert!(matches!(alerts.raise("b", "b", ""), Sent::Yes));
        assert!(matches!(alerts.raise("b", "b", ""), Sent::NotNeeded));
        assert!(matches!(alerts.clear("a", ""), Sent::Yes));
        assert!(matches!(alerts.clear("a", ""), Sent::NotNeeded));
    }
}
