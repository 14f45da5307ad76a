//! Real databases, real locks, real crashes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ha_core::replication::filter::Filter;
use rusqlite::Connection;

use super::super::tree::Tree;
use super::*;
use crate::root::Root;

const WAL: &str = "WAL";
const ROLLBACK: &str = "DELETE";
const ROWS: i64 = 200;

/// A database in which every transaction counts in one table, and in another.
fn create(path: &Path, mode: &str) -> Connection {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let made = Connection::open(path).unwrap();
    made.busy_timeout(Duration::from_secs(60)).unwrap();
    made.query_row(&format!("PRAGMA journal_mode = {mode}"), (), |_| Ok(())).unwrap();
    made.execute_batch(
        "PRAGMA synchronous = OFF;
         CREATE TABLE one (id INTEGER PRIMARY KEY, n INTEGER, text TEXT);
         CREATE TABLE two (n INTEGER); INSERT INTO two VALUES (0);",
    )
    .unwrap();
    for id in 0..ROWS {
        made.execute("INSERT INTO one VALUES (?, 0, hex(randomblob(200)))", [id]).unwrap();
    }
    made
}

/// One transaction, which touches many pages.
fn count(database: &Connection) {
    database
        .execute_batch(
            "BEGIN IMMEDIATE; UPDATE one SET n = n + 1, text = hex(randomblob(200)); UPDATE two SET n = n + 1; COMMIT",
        )
        .unwrap();
}

/// How often was counted; the database is whole, and of one moment.
fn counted(path: &Path) -> i64 {
    let database = open(path).unwrap();
    let check: String = database.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    let sum: i64 = database.query_row("SELECT sum(n) FROM one", (), |row| row.get(0)).unwrap();
    let n: i64 = database.query_row("SELECT n FROM two", (), |row| row.get(0)).unwrap();
    assert_eq!(sum, n * ROWS, "a state that never was");
    n
}

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn database(&self) -> PathBuf {
        self.path("opt/sark/db/sark.db")
    }

    fn tree(&self) -> Tree {
        let root = Root::new(self.dir.path()).unwrap();
        Tree::database(&root, "/opt/sark/db/sark.db", Filter::new(&["sark.db"], &[]).unwrap()).unwrap()
    }

    fn snapshot(&self) -> Result<PathBuf, String> {
        let copies = self.path("var/lib/pbx-ha/snapshots");
        fs::create_dir_all(copies.parent().unwrap()).unwrap();
        let copied = snapshot(&self.tree(), &copies).map_err(|error| error.to_string())?;
        let copied = copied.unwrap();
        Ok(copied.path(copied.database_file().unwrap()).unwrap())
    }

    /// What lies beside the database.
    fn companions(&self) -> Vec<&'static str> {
        let path = self.database().display().to_string();
        COMPANIONS.into_iter().filter(|companion| Path::new(&format!("{path}{companion}")).exists()).collect()
    }

    /// Copies the files of a database in use, as a machine that loses its power leaves them.
    fn crash_of(&self, other: &Path) {
        fs::create_dir_all(self.database().parent().unwrap()).unwrap();
        for ending in ["", "-journal", "-wal"] {
            let [from, to] = [other, &self.database()].map(|path| format!("{}{ending}", path.display()));
            if Path::new(&from).exists() {
                fs::copy(from, to).unwrap();
            }
        }
    }

    /// Replaces the database by that file, as a switch does.
    fn replace(&self, new: &Path) {
        let old = retire(&self.database()).unwrap();
        assert!(self.companions().is_empty(), "{:?}", self.companions());
        fs::rename(new, self.database()).unwrap();
        drop(old);
    }
}

#[test]
fn fifty_copies_of_a_database_that_is_written_all_the_time_are_whole_and_of_one_moment() {
    for mode in [WAL, ROLLBACK] {
        let place = Place::new();
        let writer = create(&place.database(), mode);
        let done = AtomicBool::new(false);
        let counts: Vec<i64> = std::thread::scope(|scope| {
            scope.spawn(|| {
                let writer = writer;
                while !done.load(Ordering::SeqCst) {
                    count(&writer);
                }
            });
            let counts = (0..50).map(|_| {
                let copy = place.snapshot().unwrap();
                let away = place.path("away.db");
                fs::copy(copy, &away).unwrap();
                counted(&away)
            });
            let counts = counts.collect();
            done.store(true, Ordering::SeqCst);
            counts
        });
        assert!(counts.is_sorted(), "{mode}: {counts:?}");
        assert!(counts.last() > counts.first(), "{mode}: nobody wrote meanwhile: {counts:?}");
    }
}

#[test]
fn a_copy_changes_when_the_database_does_and_only_then() {
    for mode in [WAL, ROLLBACK] {
        let place = Place::new();
        let writer = create(&place.database(), mode);
        let stamp = |path: &Path| {
            let meta = fs::metadata(path).unwrap();
            let directory = fs::metadata(path.parent().unwrap()).unwrap();
            (meta.modified().unwrap(), meta.len(), directory.modified().unwrap())
        };
        let first = place.snapshot().unwrap();
        let before = stamp(&first);
        // a transaction that comes to nothing, and another's journal
        writer.execute_batch("BEGIN IMMEDIATE; UPDATE two SET n = 9; ROLLBACK").unwrap();
        assert_eq!(stamp(&place.snapshot().unwrap()), before, "{mode}");
        count(&writer);
        let copy = place.snapshot().unwrap();
        assert_ne!(stamp(&copy), before, "{mode}");
        let names: Vec<_> =
            fs::read_dir(copy.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["sark.db"], "{mode}");
        assert_eq!(counted(&copy), 1);
    }
}

#[test]
fn what_cannot_be_copied_is_an_error_that_names_it_and_the_last_copy_stays() {
    let place = Place::new();
    let why = place.snapshot().unwrap_err();
    assert!(why.contains("/opt/sark/db"), "{why}");
    let writer = create(&place.database(), ROLLBACK);
    let copy = place.snapshot().unwrap();
    count(&writer);
    writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let why = place.snapshot().unwrap_err();
    assert!(why.contains("sark.db") && why.contains("locked"), "{why}");
    assert_eq!(counted(&copy), 0);
    drop(writer);
    fs::write(place.database(), "not a database".repeat(1000)).unwrap();
    let why = place.snapshot().unwrap_err();
    assert!(why.contains("not a database"), "{why}");
    assert_eq!(counted(&copy), 0);
}

#[test]
fn what_a_crash_left_beside_a_database_goes_into_it_before_it_goes() {
    for mode in [WAL, ROLLBACK] {
        let (other, place) = (Place::new(), Place::new());
        let writer = create(&other.database(), mode);
        count(&writer);
        // half of a transaction is in the files: in the log, or in the database with a journal that undoes it
        writer
            .execute_batch("PRAGMA cache_size = 1; BEGIN; UPDATE one SET n = 7, text = hex(randomblob(200))")
            .unwrap();
        place.crash_of(&other.database());
        assert!(!place.companions().is_empty(), "{mode}: nothing was left");
        drop(writer);

        let old = retire(&place.database()).unwrap();
        assert!(place.companions().is_empty(), "{mode}");
        drop(old);
        // cut here, the old one is whole by itself
        assert_eq!(counted(&place.database()), 1, "{mode}");

        let new = place.path("new.db");
        let made = create(&new, mode);
        (0..5).for_each(|_| count(&made));
        made.close().unwrap();
        place.replace(&new);
        assert_eq!(counted(&place.database()), 5, "{mode}");
    }
}

#[test]
fn whoever_reads_the_old_database_goes_on_with_it_and_nobody_writes_to_it_any_more() {
    for mode in [WAL, ROLLBACK] {
        let place = Place::new();
        let writer = create(&place.database(), mode);
        count(&writer);
        let reader = open(&place.database()).unwrap();
        reader.execute_batch("BEGIN").unwrap();
        let read =
            |reader: &Connection| reader.query_row("SELECT n FROM two", (), |row| row.get::<_, i64>(0));
        assert_eq!(read(&reader), Ok(1));

        let new = place.path("new.db");
        let made = create(&new, mode);
        (0..5).for_each(|_| count(&made));
        made.close().unwrap();
        place.replace(&new);

        assert_eq!(read(&reader), Ok(1), "{mode}: its moment is another one");
        reader.execute_batch("COMMIT").unwrap();
        // its log is removed, or its file was moved: it can tell that it is not the database any more, or it does no harm
        let _ = writer.execute_batch("UPDATE two SET n = 99");
        drop((reader, writer));
        assert_eq!(counted(&place.database()), 5, "{mode}");
    }
}

#[test]
fn a_database_that_somebody_keeps_locked_stays_with_all_that_is_beside_it() {
    let place = Place::new();
    let writer = create(&place.database(), WAL);
    writer.execute_batch("BEGIN IMMEDIATE; UPDATE two SET n = 1").unwrap();
    let why = retire(&place.database()).map(drop).unwrap_err();
    assert_eq!(why.kind(), std::io::ErrorKind::ResourceBusy, "{why}");
    assert_eq!(place.companions(), ["-wal", "-shm"]);
    writer.execute_batch("UPDATE one SET n = 1; COMMIT").unwrap();
    assert_eq!(counted(&place.database()), 1);
}

#[test]
fn what_is_no_database_is_replaced_with_all_that_is_beside_it() {
    let place = Place::new();
    fs::create_dir_all(place.database().parent().unwrap()).unwrap();
    fs::write(place.database(), "torn".repeat(5000)).unwrap();
    for companion in COMPANIONS {
        fs::write(format!("{}{companion}", place.database().display()), "stale").unwrap();
    }
    let new = place.path("new.db");
    create(&new, WAL).close().unwrap();
    place.replace(&new);
    assert_eq!(counted(&place.database()), 0);
}

const DIRECTORY: &str = "PBX_HA_TEST_SQLITE_DIRECTORY";

/// Not a test of its own: replaces a database by the next one for ever, and dies in the middle.
#[test]
#[ignore = "it is started by another test"]
fn replacing_process() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { return };
    let database = Path::new(&dir).join("db/sark.db");
    let new = Path::new(&dir).join("new.db");
    loop {
        // of whoever was killed before
        for ending in ["", "-journal", "-wal", "-shm"] {
            let _ = fs::remove_file(format!("{}{ending}", new.display()));
        }
        let before = if database.exists() { counted(&database) } else { 0 };
        let made = create(&new, WAL);
        made.execute("UPDATE one SET n = ?", [before + 1]).unwrap();
        made.execute("UPDATE two SET n = ?", [before + 1]).unwrap();
        made.close().unwrap();
        let old = retire(&database).unwrap();
        fs::rename(&new, &database).unwrap();
        drop(old);
        // somebody begins a log of it, and leaves it: SQLite closes none that it does not drop
        let writer = open(&database).unwrap();
        count(&writer);
        std::mem::forget(writer);
    }
}

#[test]
fn whoever_is_killed_while_replacing_leaves_the_old_database_or_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("db/sark.db");
    fs::create_dir_all(database.parent().unwrap()).unwrap();
    let mut last = 0;
    for round in 0..30u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sync::sqlite::tests::replacing_process", "--ignored"])
            .env(DIRECTORY, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(60 + round * 7));
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();
        let now = if database.exists() { counted(&database) } else { 0 };
        assert!(now >= last, "round {round}: {now} after {last}");
        last = now;
    }
    assert!(last > 30, "hardly anything was replaced: {last}");
}
