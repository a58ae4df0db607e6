//! The tables, and how the file is opened.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::JournalError;

const FILE: &str = "journal.sqlite";
/// The version of the tables, in SQLite's own `user_version`.
const VERSION: i64 = 2;
/// How long one connection waits for another's commit.
const BUSY: Duration = Duration::from_secs(5);
/// SQLite's page, in bytes.
const PAGE: u64 = 4_096;
/// The most pages that a file can have.
const MOST_PAGES: u64 = u32::MAX as u64 - 1;
/// How long an attempt can have been under way when the process was killed, with what a clock may be off, in milliseconds.
const UNDER_WAY_MS: i64 = 120_000;

/// Numbers of pages and messages are `u64` and kept as the `i64` of the same bits.
const TABLES: &str = "
    CREATE TABLE route (
        id INTEGER PRIMARY KEY, cache TEXT NOT NULL, topic TEXT NOT NULL, name TEXT NOT NULL,
        received INTEGER NOT NULL DEFAULT 0, delivered INTEGER NOT NULL DEFAULT 0,
        ceded INTEGER NOT NULL DEFAULT 0, purged INTEGER NOT NULL DEFAULT 0,
        UNIQUE (cache, topic, name)
    );
    CREATE TABLE position (
        cache TEXT NOT NULL, topic TEXT NOT NULL, page INTEGER NOT NULL, number INTEGER NOT NULL,
        since INTEGER NOT NULL, -- the number from which on nothing is missing
        PRIMARY KEY (cache, topic)
    ) WITHOUT ROWID;
    CREATE TABLE pending (
        id INTEGER PRIMARY KEY AUTOINCREMENT, route INTEGER NOT NULL REFERENCES route (id),
        page INTEGER NOT NULL, number INTEGER NOT NULL, received INTEGER NOT NULL,
        token_id TEXT NOT NULL, text TEXT NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0, uncertain INTEGER, redriven INTEGER NOT NULL DEFAULT 0, binary BLOB
    );
    CREATE INDEX pending_by_route ON pending (route, id);
    CREATE TABLE dead (
        id INTEGER PRIMARY KEY AUTOINCREMENT, route INTEGER NOT NULL REFERENCES route (id),
        page INTEGER NOT NULL, number INTEGER NOT NULL, received INTEGER NOT NULL,
        token_id TEXT NOT NULL, text TEXT, binary BLOB,
        attempts INTEGER NOT NULL, uncertain INTEGER, died INTEGER NOT NULL, reason TEXT NOT NULL
    );
    CREATE INDEX dead_by_route ON dead (route, id);
    CREATE TABLE incident (
        id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, cache TEXT NOT NULL, topic TEXT NOT NULL,
        kind TEXT NOT NULL, before_page INTEGER NOT NULL, before_number INTEGER NOT NULL,
        after_page INTEGER NOT NULL, after_number INTEGER NOT NULL, missed INTEGER
    );
    CREATE TABLE life (alive INTEGER NOT NULL);
    INSERT INTO life VALUES (0);
";

/// From the first version's tables to these. What came before its last message is not known.
const FROM_FIRST: &str = "
    ALTER TABLE position ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
    UPDATE position SET since = number;
    ALTER TABLE pending ADD COLUMN binary BLOB;
";

pub(super) fn open(folder: &Path) -> Result<Connection, JournalError> {
    let failed = |source| JournalError::Folder { path: folder.display().to_string(), source };
    make_private(folder).and_then(|()| make_private_file(&folder.join(FILE))).map_err(failed)?;
    let store = Connection::open(folder.join(FILE))?;
    store.busy_timeout(BUSY)?;
    // FULL syncs the log with every commit: what is accepted survives the machine's end, not only the process's.
    store.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
    prepare(store)
}

pub(super) fn in_memory() -> Result<Connection, JournalError> {
    prepare(Connection::open_in_memory()?)
}

fn prepare(mut store: Connection) -> Result<Connection, JournalError> {
    store.pragma_update(None, "foreign_keys", true)?;
    let tables = store.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    match tables.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))? {
        0 => tables.execute_batch(TABLES)?,
        1 => tables.execute_batch(FROM_FIRST)?,
        VERSION => {}
        _ => return Err(JournalError::Newer),
    }
    tables.pragma_update(None, "user_version", VERSION)?;
    tables.commit()?;
    Ok(store)
}

/// Lets the next commits take this much, and no more; but always what the file has already, of which some may be free.
pub(super) fn bound(store: &Connection, bytes: u64) -> rusqlite::Result<()> {
    store.pragma_update(None, "max_page_count", (bytes / PAGE).min(MOST_PAGES) as i64)
}

/// Messages lie in it, so it is for its owner alone.
fn make_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;

    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The folder may have been there before, open to others. Beside its file SQLite makes others, with that one's mode. A file that is
/// there is not opened: to close it would let go of SQLite's locks.
fn make_private_file(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;

    match File::options().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Makes sure that one relay alone uses the folder, for as long as the file is kept; `None` where another one does. Two that
/// delivered from one journal would each send everything.
pub(super) fn lock(folder: &Path) -> Result<Option<File>, JournalError> {
    let failed = |source| JournalError::Folder { path: folder.display().to_string(), source };
    make_private(folder).map_err(failed)?;
    let file = File::create(folder.join("lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Whatever was under way when the last process ended may have had its effect, and that is not known. It began before the
/// last sign of life.
pub(super) fn recover(store: &Connection) -> Result<(), JournalError> {
    store.execute(
        "UPDATE pending SET uncertain = max(received, (SELECT alive FROM life) - ?1) WHERE uncertain IS NULL",
        [UNDER_WAY_MS],
    )?;
    Ok(())
}
