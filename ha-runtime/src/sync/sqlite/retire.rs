//! The last moment of a database that another is about to take the place of.
//!
//! What lies beside a database under its name (a journal to be rolled back, a log to be gone on with) would be taken for
//! the new one's, and spoil it. So the old one is first made whole in itself, its companions are removed, and only then,
//! while nobody can write to it, the new one is renamed over it. Whatever is cut in between leaves the old database or
//! the new one, and nothing beside it that belongs to the other. Whoever has the old one open keeps it as it is: SQLite
//! refuses to write to a file that was moved (SQLITE_READONLY_DBMOVED).

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};

use super::{COMPANIONS, PATIENCE, PAUSE, busy, failed, open};

/// The old database, which nobody writes to as long as this lives. `None`: there was none that could be read.
#[must_use = "the old database may be written to again when this is dropped"]
pub(in super::super) struct Retired {
    _old: Option<Connection>,
}

/// Makes the database at `path` whole in itself, removes what lies beside it, and keeps it from being written to.
///
/// Errors: somebody keeps it locked, or reads it as of a moment that is not its last; it is readable with what lies
/// beside it, as it was.
pub(in super::super) fn retire(path: &Path) -> io::Result<Retired> {
    let old = match path.try_exists()? {
        true => match make_whole(path) {
            Ok(old) => Some(old),
            // there is nothing to lose that could be read
            Err(error)
                if matches!(
                    error.sqlite_error_code(),
                    Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt)
                ) =>
            {
                None
            }
            Err(error) => return Err(failed(error)),
        },
        false => None,
    };
    for companion in COMPANIONS {
        match fs::remove_file(beside(path, companion)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    // on disk before the rename can be
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()?;
    Ok(Retired { _old: old })
}

/// The path of what lies beside a database.
fn beside(path: &Path, companion: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(companion);
    PathBuf::from(name)
}

/// Everything that was committed is in the file afterwards, and nobody else can write.
fn make_whole(path: &Path) -> rusqlite::Result<Connection> {
    let old = open(path)?;
    // what lies beside it when it is closed is not its own any more
    old.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // the first read rolls back what a crash left
    old.query_row("PRAGMA schema_version", (), |_| Ok(()))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        // when nobody else has it open, it goes on without a log, and whoever writes locks the file itself
        let mode = old.query_row("PRAGMA journal_mode = DELETE", (), |row| row.get::<_, String>(0));
        if mode.as_deref() == Ok("delete") {
            old.execute_batch("BEGIN IMMEDIATE")?;
            return Ok(old);
        }
        if holds_all_of_its_log(&old)? {
            return Ok(old);
        }
        if Instant::now() > deadline {
            return Err(busy());
        }
        std::thread::sleep(PAUSE);
    }
}

/// Whether the log has nothing that the file has not; then nobody else can write any more.
fn holds_all_of_its_log(old: &Connection) -> rusqlite::Result<bool> {
    let version = || old.query_row("PRAGMA data_version", (), |row| row.get::<_, i64>(0));
    let before = version()?;
    let all = old.query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |row| {
        Ok(row.get::<_, i64>(0)? == 0 && row.get::<_, i64>(1)? == row.get::<_, i64>(2)?)
    })?;
    old.execute_batch("BEGIN IMMEDIATE")?;
    // somebody may have written in between
    if all && version()? == before {
        return Ok(true);
    }
    old.execute_batch("ROLLBACK")?;
    Ok(false)
}
