//! The journal: what has been received and not settled, on disk before anything is delivered.
//!
//! SQLite in WAL mode, each commit synced. Three stores were measured on a virtual machine whose disk syncs in about 6 ms,
//! 10,000 records of 300 bytes, unoptimised builds, records a second for commits of 1, 16 and 256 records:
//!
//! | store | 1 | 16 | 256 | removing, 256 |
//! |---|---|---|---|---|
//! | SQLite 3 (rusqlite 0.40) | 171 | 4,081 | 69,464 | 52,089 |
//! | redb 4.6 | 242 | 3,373 | 16,965 | 13,663 |
//! | fjall 3.1 | 275 | 4,105 | 56,837 | |
//!
//! The sync is what a commit costs, so writes are gathered: while one commit is under way the next one fills. That the
//! command line can work on the journal while the relay runs, which redb and fjall lock out, decided for SQLite.
//!
//! Every message is kept once for each of its routes, and each route's counts change in the transaction that moves a
//! message. So *received = delivered + dead + pending* holds in every state that a crash can leave ([`Ledger`]).

mod letters;
mod schema;
mod write;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, Row, params};
use tokio::sync::{Notify, mpsc, watch};

use super::cursor::Place;
use super::health::Health;

pub(crate) use letters::{Filter, Letter};
pub(crate) use write::{Payload, Write};

/// How many writes wait for a commit at most; whoever has more waits. Bounds memory, and what a crash can cost, which is
/// what has been received and not accepted.
const QUEUE: usize = 1_024;

/// The journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// SQLite, or the disk beneath it, refused.
    #[error("the journal cannot be used")]
    Store(#[from] rusqlite::Error),
    /// The folder cannot be made.
    #[error("the journal's folder {path} cannot be made: name another one with --data")]
    Folder {
        /// Which one.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another relay uses it.
    #[error("another relay is using the journal in {0}: stop it, or name another folder with --data")]
    InUse(String),
    /// A newer relay wrote it.
    #[error("the journal was written by a newer relay")]
    Newer,
}

/// A message for one route.
#[derive(Clone)]
pub(crate) struct Pending {
    pub(crate) id: i64,
    pub(crate) place: Place,
    /// When it was received, in epoch milliseconds: its `event_timestamp`.
    pub(crate) received: u64,
    pub(crate) token_id: String,
    pub(crate) text: String,
    /// Set where it is not a text, which is all that the wire format can carry.
    pub(crate) binary: Option<Vec<u8>>,
    pub(crate) attempts: u32,
    /// Since when, in epoch milliseconds, an attempt may have had its effect without our knowing.
    pub(crate) uncertain: Option<u64>,
}

/// What became of all that a route received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    pub(crate) received: u64,
    pub(crate) delivered: u64,
    /// Settled by the other relay of a pair.
    pub(crate) ceded: u64,
    pub(crate) purged: u64,
    /// Counted in the table itself, not kept beside it.
    pub(crate) pending: u64,
    pub(crate) dead: u64,
}

impl Ledger {
    /// Nothing has left silently.
    pub(crate) fn balances(&self) -> bool {
        self.received == self.delivered + self.ceded + self.purged + self.dead + self.pending
    }
}

/// What a route has settled: every message of its topic from `since` on, up to `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Settled {
    #[serde(flatten)]
    pub(crate) to: Place,
    /// The first message after whatever was missed last. Before it something may never have been here, and is not settled;
    /// nor is anything where it is `None`.
    pub(crate) since: Option<u64>,
}

/// A route as the journal knows it. Its URL is not part of it: that may be corrected while messages wait.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct RouteName {
    pub(crate) cache: String,
    pub(crate) topic: String,
    #[serde(rename = "route")]
    pub(crate) name: String,
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Journal {
    /// Reads. Without a disk the writes have the same connection.
    reader: Arc<Mutex<Connection>>,
    accepts: mpsc::Sender<Write>,
    settles: mpsc::Sender<Write>,
    /// Changes with every commit that accepts something.
    accepted: watch::Receiver<u64>,
}

impl Journal {
    /// Opens or makes the journal in this folder, and starts the task that writes. It ends when every [`Journal`] is gone
    /// and all that they wrote is on disk. `max_bytes` bounds what is accepted; to settle it may take more, for that is what
    /// makes room.
    pub(crate) fn open(
        folder: Option<&Path>,
        max_bytes: u64,
        health: &Health,
    ) -> Result<(Self, tokio::task::JoinHandle<()>), JournalError> {
        let (writer, reader, held) = match folder {
            Some(folder) => {
                let in_use = || JournalError::InUse(folder.display().to_string());
                let held = schema::lock(folder)?.ok_or_else(in_use)?;
                let open = || Ok::<_, JournalError>(Arc::new(Mutex::new(schema::open(folder)?)));
                (open()?, open()?, Some(held))
            }
            None => {
                let only = Arc::new(Mutex::new(schema::in_memory()?));
                (Arc::clone(&only), only, None)
            }
        };
        schema::recover(&lock(&writer))?;
        let (accepts, accept_queue) = mpsc::channel(QUEUE);
        let (settles, settle_queue) = mpsc::channel(QUEUE);
        let (accepting, accepted) = watch::channel(0);
        let writing = write::run(writer, max_bytes, accept_queue, settle_queue, accepting, health.clone());
        let writing = tokio::spawn(async move {
            writing.await;
            drop(held); // and another relay may have the folder
        });
        Ok((Self { reader, accepts, settles, accepted }, writing))
    }

    /// A journal whose relay may be running, for the command line.
    pub(crate) fn connect(folder: &Path) -> Result<Connection, JournalError> {
        schema::open(folder)
    }

    /// Hands over what is to be accepted. [`Journal::accepted`] changes once it is.
    pub(crate) async fn accept(&self, write: Write) {
        let _ = self.accepts.send(write).await; // the task ends after the last of us
    }

    /// Hands over what became of something that was accepted.
    pub(crate) async fn settle(&self, write: Write) {
        let _ = self.settles.send(write).await;
    }

    /// Waits until everything that was handed over before, to be settled, is on disk.
    pub(crate) async fn flush(&self) {
        let done = Arc::<Notify>::default();
        self.settle(Write::Flush(Arc::clone(&done))).await;
        done.notified().await;
    }

    /// Changes whenever there is something new to read; but for what the command line puts back.
    pub(crate) fn accepted(&self) -> watch::Receiver<u64> {
        self.accepted.clone()
    }

    /// The number of a route, which is made where it is new.
    pub(crate) async fn route(&self, route: RouteName) -> Result<i64, JournalError> {
        self.read(move |store| {
            store.execute(
                "INSERT OR IGNORE INTO route (cache, topic, name) VALUES (?1, ?2, ?3)",
                [&route.cache, &route.topic, &route.name],
            )?;
            let sql = "SELECT id FROM route WHERE cache = ?1 AND topic = ?2 AND name = ?3";
            store.query_row(sql, [&route.cache, &route.topic, &route.name], |row| row.get(0))
        })
        .await
    }

    /// Every route that was ever known, with its ledger.
    pub(crate) async fn ledgers(&self) -> Result<Vec<(i64, RouteName, Ledger)>, JournalError> {
        self.read(ledgers).await
    }

    /// The last accepted message of a topic.
    pub(crate) async fn position(&self, cache: &str, topic: &str) -> Result<Option<Place>, JournalError> {
        let (cache, topic) = (cache.to_owned(), topic.to_owned());
        self.read(move |store| {
            let sql = "SELECT page, number FROM position WHERE cache = ?1 AND topic = ?2";
            store.query_row(sql, [cache, topic], place).optional()
        })
        .await
    }

    /// A route's messages after `after`, in the order in which they came, at most `limit` of them.
    pub(crate) async fn pending(&self, route: i64, after: i64, limit: usize) -> Result<Vec<Pending>, JournalError> {
        self.read(move |store| {
            let mut query = store.prepare_cached(
                "SELECT page, number, id, received, token_id, text, attempts, uncertain, binary FROM pending
                 WHERE route = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
            )?;
            query.query_map(params![route, after, limit as i64], pending)?.collect()
        })
        .await
    }

    /// What a route has settled, of what its topic has accepted. `None` where that is nothing, or not to be told by a number.
    pub(crate) async fn settled(&self, route: i64) -> Result<Option<Settled>, JournalError> {
        self.read(move |store| {
            let sql = "SELECT position.page, position.number, since FROM position JOIN route USING (cache, topic)
                       WHERE id = ?1";
            let last = |row: &Row<'_>| Ok(Settled { to: place(row)?, since: Some(row.get::<_, i64>(2)? as u64) });
            let last = store.prepare_cached(sql)?.query_row([route], last).optional()?;
            // What was redriven has an old number and would lead back.
            let oldest = "SELECT page, number FROM pending WHERE route = ?1 AND NOT redriven ORDER BY id LIMIT 1";
            let Some(oldest) = store.prepare_cached(oldest)?.query_row([route], place).optional()? else {
                return Ok(last);
            };
            let since = last.filter(|last| last.to.page == oldest.page).and_then(|last| last.since);
            let to = oldest.number.checked_sub(1).map(|number| Place { number, ..oldest });
            Ok(to.map(|to| Settled { to, since }))
        })
        .await
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, JournalError> {
        let reader = Arc::clone(&self.reader);
        let read = tokio::task::spawn_blocking(move || query(&lock(&reader)));
        Ok(read.await.map_err(|_| rusqlite::Error::InvalidQuery)??) // it does not panic
    }
}

fn ledgers(store: &Connection) -> rusqlite::Result<Vec<(i64, RouteName, Ledger)>> {
    let mut query = store.prepare_cached(
        "SELECT cache, topic, name, received, delivered, ceded, purged,
            (SELECT count(*) FROM pending WHERE route = id_), (SELECT count(*) FROM dead WHERE route = id_), id_
         FROM (SELECT *, id AS id_ FROM route) ORDER BY id_",
    )?;
    let ledger = |row: &Row<'_>| {
        let name = RouteName { cache: row.get(0)?, topic: row.get(1)?, name: row.get(2)? };
        let count = |column: usize| row.get::<_, i64>(column).map(|count| count.max(0) as u64);
        let ledger = Ledger {
            received: count(3)?,
            delivered: count(4)?,
            ceded: count(5)?,
            purged: count(6)?,
            pending: count(7)?,
            dead: count(8)?,
        };
        Ok((row.get(9)?, name, ledger))
    };
    query.query_map([], ledger)?.collect()
}

fn place(row: &Row<'_>) -> rusqlite::Result<Place> {
    Ok(Place { page: row.get::<_, i64>(0)? as u64, number: row.get::<_, i64>(1)? as u64 })
}

fn pending(row: &Row<'_>) -> rusqlite::Result<Pending> {
    Ok(Pending {
        id: row.get(2)?,
        place: place(row)?,
        received: row.get::<_, i64>(3)? as u64,
        token_id: row.get(4)?,
        text: row.get(5)?,
        attempts: row.get(6)?,
        uncertain: row.get::<_, Option<i64>>(7)?.map(|at| at as u64),
        binary: row.get(8)?,
    })
}

fn lock(store: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 7;

    fn message(route: i64, page: u64, number: u64) -> Write {
        let routes = Arc::new([route]);
        let payload = Payload::Text("text".into());
        let (place, token_id) = (Place { page, number }, String::new());
        let (cache, topic) = ("cache".into(), "topic".into());
        Write::Message { cache, topic, routes, place, received: 1, token_id, payload, incident: None }
    }

    async fn journal() -> (Journal, i64) {
        let (journal, _) = Journal::open(None, 1_000_000, &Health::default()).unwrap();
        let name = RouteName { cache: "cache".into(), topic: "topic".into(), name: "main".into() };
        let route = journal.route(name).await.unwrap();
        (journal, route)
    }

    /// Accepts them, and waits until it has.
    async fn accept(journal: &Journal, route: i64, page: u64, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            journal.accept(message(route, page, number)).await;
            let is_there = || async {
                let position = journal.position("cache", "topic").await.unwrap();
                position.is_some_and(|at| at == Place { page, number })
            };
            while !is_there().await {
                tokio::task::yield_now().await;
            }
        }
    }

    async fn pending(journal: &Journal, route: i64) -> Vec<u64> {
        let pending = journal.pending(route, 0, 100).await.unwrap();
        pending.iter().map(|pending| pending.place.number).collect()
    }

    async fn deliver_all(journal: &Journal, route: i64) {
        for Pending { id, .. } in journal.pending(route, 0, 100).await.unwrap() {
            journal.settle(Write::Delivered { id, route }).await;
        }
        journal.flush().await;
    }

    #[tokio::test]
    async fn what_the_other_relay_never_had_is_not_ceded_to_it() {
        let ((active, route), (standby, same)) = (journal().await, journal().await);
        accept(&standby, same, PAGE, 1..=17).await;
        accept(&active, route, PAGE, 1..=9).await;
        deliver_all(&active, route).await;
        let cede = async || {
            let settled = active.settled(route).await.unwrap().unwrap();
            let told = serde_json::from_str(&serde_json::json!(settled).to_string()).unwrap();
            standby.settle(Write::Ceded { route: same, settled: told }).await;
            standby.flush().await;
        };
        cede().await;
        assert_eq!(pending(&standby, same).await, (10..=17).collect::<Vec<_>>());
        accept(&active, route, PAGE, 16..=17).await; // its subscription stalled
        cede().await;
        assert_eq!(pending(&standby, same).await, (10..=17).collect::<Vec<_>>(), "16 is pending there too");
        deliver_all(&active, route).await;
        cede().await;
        assert_eq!(pending(&standby, same).await, (10..=15).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_full_journal_settles_and_opens_again() {
        const MAX_BYTES: u64 = 300_000;
        let (folder, health) = (tempfile::tempdir().unwrap(), Health::default());
        let open = || Journal::open(Some(folder.path()), MAX_BYTES, &health).unwrap();
        let (journal, writing) = open();
        let name = RouteName { cache: "cache".into(), topic: "topic".into(), name: "main".into() };
        let route = journal.route(name).await.unwrap();
        let accepting = tokio::spawn({
            let journal = journal.clone();
            async move {
                for number in 1.. {
                    journal.accept(message(route, PAGE, number)).await;
                }
            }
        });
        while !health.problems().get("journal").is_some_and(|problem| problem.contains("full")) {
            tokio::task::yield_now().await;
        }
        accepting.abort();
        let pending = journal.pending(route, 0, 10_000).await.unwrap();
        assert!(pending.len() > 2_000);
        let settling = async {
            for (at, Pending { id, .. }) in pending.into_iter().enumerate() {
                let (attempts, uncertain, reason) = (1, Some(1 << 41), "a reason that is longer than the text".into());
                match at % 3 {
                    0 => journal.settle(Write::Tried { id, attempts, uncertain }).await,
                    1 => journal.settle(Write::Dead { id, attempts, uncertain, reason, is_kept: false }).await,
                    _ => {}
                }
            }
            journal.flush().await;
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), settling).await.expect("never settled");
        assert!(journal.ledgers().await.unwrap()[0].2.dead > 600);
        drop(journal);
        writing.abort(); // what waits to be accepted never will be
        let _ = writing.await;
        let (journal, _) = open();
        let pending = journal.pending(route, 0, 10_000).await.unwrap();
        assert!(pending.iter().all(|pending| pending.uncertain.is_some()));
    }

    #[tokio::test]
    async fn a_journal_of_the_first_version_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let first = Journal::connect(folder.path()).unwrap();
        let first_version = "
            ALTER TABLE position DROP COLUMN since;
            ALTER TABLE pending DROP COLUMN binary;
            INSERT INTO position VALUES ('cache', 'topic', 7, 3);
            PRAGMA user_version = 1;";
        first.execute_batch(first_version).unwrap();
        drop(first);
        let (journal, _) = Journal::open(Some(folder.path()), 1_000_000, &Health::default()).unwrap();
        let name = RouteName { cache: "cache".into(), topic: "topic".into(), name: "main".into() };
        let route = journal.route(name).await.unwrap();
        accept(&journal, route, PAGE, [4]).await;
        deliver_all(&journal, route).await;
        let to = Place { page: PAGE, number: 4 };
        assert_eq!(journal.settled(route).await.unwrap(), Some(Settled { to, since: Some(3) }));
    }

    #[tokio::test]
    async fn its_files_are_for_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let _journal = Journal::open(Some(folder.path()), 1_000_000, &Health::default()).unwrap();
        for file in ["journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm"] {
            let mode = std::fs::metadata(folder.path().join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }

    #[tokio::test]
    async fn a_mark_of_before_says_nothing_of_what_was_there() {
        let (standby, route) = journal().await;
        accept(&standby, route, PAGE, 1..=3).await;
        let settled = serde_json::from_str(r#"{"page":7,"number":3}"#).unwrap();
        standby.settle(Write::Ceded { route, settled }).await;
        standby.flush().await;
        assert_eq!(pending(&standby, route).await, [1, 2, 3]);
    }

    #[tokio::test]
    async fn numbers_begin_at_0_and_the_first_one_is_not_settled_while_it_is_pending() {
        let (journal, route) = journal().await;
        accept(&journal, route, PAGE, 5..=6).await;
        deliver_all(&journal, route).await;
        accept(&journal, route, PAGE + 1, [0]).await;
        assert_eq!(journal.settled(route).await.unwrap(), None);
        deliver_all(&journal, route).await;
        let to = Place { page: PAGE + 1, number: 0 };
        assert_eq!(journal.settled(route).await.unwrap(), Some(Settled { to, since: Some(0) }));
    }
}
