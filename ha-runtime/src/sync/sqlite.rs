//! An SQLite database as one file: copied while it is in use, and replaced while somebody may have it open.

mod retire;
mod snapshot;

pub(super) use retire::{Retired, retire};
pub(crate) use snapshot::{SNAPSHOTS, snapshot};

use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

/// How long a lock of another process is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two attempts to get at a database that is locked.
const PAUSE: Duration = Duration::from_millis(10);

/// Beside a database lie its journal, or its log and the index of that (sqlite.org, "Temporary Files Used By SQLite").
pub(crate) const COMPANIONS: [&str; 3] = ["-journal", "-wal", "-shm"];

/// Opens a database that is there; no symbolic link is followed. What a crash left of a transaction is undone by the first
/// read.
fn open(path: &Path) -> rusqlite::Result<Connection> {
    // to undo, and to read beside a writer with a log, it must be written to as well
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(PATIENCE)?;
    Ok(connection)
}

/// What SQLite says of a lock.
fn busy() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY), None)
}

/// As the file system's errors are, so that whoever names the path names it once.
fn failed(error: rusqlite::Error) -> io::Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!("another process has kept the database locked for {} s", PATIENCE.as_secs()),
        ),
        Some(ErrorCode::DiskFull) => io::Error::new(io::ErrorKind::StorageFull, error),
        _ => io::Error::other(error),
    }
}

#[cfg(test)]
mod tests;
