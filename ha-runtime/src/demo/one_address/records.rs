//! The database that is in use: whoever answers phones writes each moment into it what belongs together in two tables.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::super::timeline::Who;

/// Between two calls.
const EVERY: Duration = Duration::from_millis(20);
/// How long somebody else may keep the file locked.
const BUSY: Duration = Duration::from_secs(10);

const TABLES: &str = "
    CREATE TABLE calls (id INTEGER PRIMARY KEY, node TEXT NOT NULL);
    CREATE TABLE legs (id INTEGER PRIMARY KEY, call INTEGER NOT NULL REFERENCES calls);";

/// What is in a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Records {
    /// Of the primary.
    pub(super) primary: i64,
    /// Of the standby.
    pub(super) standby: i64,
}

impl Records {
    pub(super) fn all(self) -> i64 {
        self.primary + self.standby
    }
}

/// Makes it, without any call.
pub(super) fn create(path: &Path) -> rusqlite::Result<()> {
    let database = Connection::open(path)?;
    // with a log beside it, as a database has that is written and read at the same time
    database.pragma_update(None, "journal_mode", "wal")?;
    database.execute_batch(TABLES)
}

/// Writes until it is over.
pub(in crate::demo) fn write(path: &Path, node: &str, over: &Arc<AtomicBool>) -> rusqlite::Result<()> {
    let mut database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    database.busy_timeout(BUSY)?;
    database.pragma_update(None, "journal_mode", "wal")?;
    database.pragma_update(None, "synchronous", "normal")?;
    while !over.load(Ordering::SeqCst) {
        let call = database.transaction()?;
        call.execute("INSERT INTO calls (node) VALUES (?1)", [node])?;
        call.execute("INSERT INTO legs (call) VALUES (?1)", [call.last_insert_rowid()])?;
        call.commit()?;
        std::thread::sleep(EVERY);
    }
    Ok(())
}

/// Reads a database. `in_use`: somebody writes it; otherwise nothing is put beside it, and no lock is taken.
///
/// # Errors
///
/// It is damaged, or torn: a call without what belongs to it.
pub(super) fn read(path: &Path, in_use: bool) -> Result<Records, String> {
    let failed = |error: rusqlite::Error| format!("{}: {error}", path.display());
    let uri = format!("file:{}{}", escaped(path), if in_use { "" } else { "?immutable=1" });
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let mut database = Connection::open_with_flags(uri, flags).map_err(failed)?;
    database.busy_timeout(BUSY).map_err(failed)?;
    // all of it as of one moment
    let moment = database.transaction().map_err(failed)?;
    let check: String = moment.query_row("PRAGMA integrity_check", [], |row| row.get(0)).map_err(failed)?;
    let count = |sql: &str| moment.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(failed);
    let of = |who: Who| count(&format!("SELECT count(*) FROM calls WHERE node = '{}'", who.word()));
    let records = Records { primary: of(Who::Primary)?, standby: of(Who::Standby)? };
    let whole = count("SELECT count(*) FROM calls JOIN legs ON legs.call = calls.id")?;
    let legs = count("SELECT count(*) FROM legs")?;
    if check != "ok" || whole != records.all() || legs != records.all() {
        return Err(format!(
            "{}: torn: {check}, {} calls, {legs} legs, {whole} that belong together",
            path.display(),
            records.all()
        ));
    }
    Ok(records)
}

/// As a URI has it.
fn escaped(path: &Path) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-~".contains(&byte);
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes
        .iter()
        .map(|byte| if plain(*byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_in_use_is_read_as_of_a_moment_and_a_torn_one_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a b.db");
        create(&path).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let (written, ends) = (path.clone(), Arc::clone(&over));
        let writer = std::thread::spawn(move || write(&written, "standby", &ends));
        while read(&path, true).unwrap().standby < 3 {
            std::thread::yield_now();
        }
        over.store(true, Ordering::SeqCst);
        writer.join().unwrap().unwrap();
        let records = read(&path, false).unwrap();
        assert!(records.standby >= 3 && records.primary == 0, "{records:?}");
        Connection::open(&path).unwrap().execute("DELETE FROM legs WHERE id = 1", []).unwrap();
        assert!(read(&path, false).unwrap_err().contains("torn"));
    }
}
