//! Group commit: while one transaction is being synced, the next one is gathered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::{Connection, Transaction, params};
use tokio::sync::{Notify, mpsc, watch};

use super::super::cursor::{Incident, Place};
use super::super::health::Health;
use super::{JournalError, QUEUE, Settled, lock, schema};
use crate::clock;

/// How long a journal that cannot be written is left alone before it is tried again.
const PAUSE: Duration = Duration::from_millis(500);
/// How many incidents are kept; older ones live on in the logs and the counters.
const MAX_INCIDENTS: i64 = 10_000;
/// How often a quiet journal notes that it lives.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);

/// What a message carries.
#[derive(Clone)]
pub(crate) enum Payload {
    Text(String),
    /// Which the wire format cannot carry.
    Binary(Vec<u8>),
}

/// A change. Applied again from the start where a commit fails.
pub(crate) enum Write {
    /// A message, for each of its topic's routes.
    Message {
        cache: Arc<str>,
        topic: Arc<str>,
        routes: Arc<[i64]>,
        place: Place,
        received: u64,
        token_id: String,
        payload: Payload,
        /// What happened before it.
        incident: Option<Incident>,
    },
    Incident {
        cache: Arc<str>,
        topic: Arc<str>,
        incident: Incident,
    },
    Delivered {
        id: i64,
        route: i64,
    },
    Dead {
        id: i64,
        attempts: u32,
        uncertain: Option<u64>,
        reason: String,
        /// What it says is kept elsewhere.
        is_kept: bool,
    },
    Tried {
        id: i64,
        attempts: u32,
        uncertain: Option<u64>,
    },
    /// The other relay of a pair delivered until now, and may have attempted any of this route's.
    TakenOver {
        route: i64,
    },
    /// Nothing; told once everything before it is on disk.
    Flush(Arc<Notify>),
    /// The other relay of a pair has settled these.
    Ceded {
        route: i64,
        settled: Settled,
    },
}

/// Commits what comes through the queues until both have ended. A full journal accepts nothing more, and then what is settled
/// is committed by itself, without a bound: it is what makes room, but on the way a longer row may need a page.
pub(super) async fn run(
    store: Arc<Mutex<Connection>>,
    max_bytes: u64,
    mut accepts: mpsc::Receiver<Write>,
    mut settles: mpsc::Receiver<Write>,
    accepted: watch::Sender<u64>,
    health: Health,
) {
    let mut batch = Batch { settles: Vec::new(), accepts: Vec::new(), portion: QUEUE, max_bytes };
    let mut life = tokio::time::interval(SIGN_OF_LIFE);
    let (mut ended, mut failed) = (false, false);
    loop {
        if failed {
            tokio::time::sleep(PAUSE).await;
        } else if batch.is_empty() {
            tokio::select! {
                count = settles.recv_many(&mut batch.settles, QUEUE) => ended = count == 0,
                count = accepts.recv_many(&mut batch.accepts, QUEUE) => ended = count == 0,
                _ = life.tick() => {}
            }
        }
        fill(&mut settles, &mut batch.settles);
        fill(&mut accepts, &mut batch.accepts);
        let (store, now, waiting) = (Arc::clone(&store), clock::now(), batch.accepts.len());
        let committing = tokio::task::spawn_blocking(move || {
            let done = batch.commit(&mut lock(&store), now);
            (batch, done)
        });
        let Ok((rest, done)) = committing.await else { return }; // the runtime is ending
        (batch, failed) = (rest, done.is_err());
        match done {
            Ok(()) => health.clear("journal"),
            Err(error) => health.set("journal", format!("the journal cannot be written: {}", reason(&error))),
        }
        if batch.accepts.len() < waiting {
            accepted.send_modify(|count| *count += 1);
        }
        if ended && batch.is_empty() {
            return;
        }
    }
}

/// What goes into the next commit.
struct Batch {
    settles: Vec<Write>,
    accepts: Vec<Write>,
    /// How many are accepted at once: fewer after a failure, since a few may fit where many do not.
    portion: usize,
    max_bytes: u64,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.settles.is_empty() && self.accepts.is_empty()
    }

    /// What has been committed is gone from the batch afterwards.
    fn commit(&mut self, store: &mut Connection, now: u64) -> Result<(), JournalError> {
        let count = self.accepts.len().min(self.portion);
        let bound = if count == 0 { u64::MAX } else { self.max_bytes };
        let all = commit(store, self.settles.iter().chain(&self.accepts[..count]), now, bound);
        if all.is_ok() {
            self.accepts.drain(..count);
            self.portion = (self.portion * 2).min(QUEUE);
        } else {
            self.portion = (count / 2).max(1);
            commit(store, self.settles.iter(), now, u64::MAX)?;
        }
        for settled in self.settles.drain(..) {
            if let Write::Flush(done) = settled {
                done.notify_one();
            }
        }
        all
    }
}

fn fill(queue: &mut mpsc::Receiver<Write>, batch: &mut Vec<Write>) {
    while batch.len() < QUEUE
        && let Ok(write) = queue.try_recv()
    {
        batch.push(write);
    }
}

fn reason(error: &JournalError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

fn commit<'a>(
    store: &mut Connection,
    writes: impl Iterator<Item = &'a Write>,
    now: u64,
    max_bytes: u64,
) -> Result<(), JournalError> {
    schema::bound(store, max_bytes)?;
    let transaction = store.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    transaction.prepare_cached("UPDATE life SET alive = ?1")?.execute([now as i64])?;
    let mut sums = Sums::default();
    for write in writes {
        apply(&transaction, write, now, &mut sums)?;
    }
    sums.write(&transaction)?;
    Ok(transaction.commit()?)
}

/// What a commit changes again and again, and so writes once.
#[derive(Default)]
struct Sums<'a> {
    /// For each route: received, delivered, ceded.
    routes: BTreeMap<i64, [usize; 3]>,
    /// The last accepted message of each topic, and the number from which on none is missing before it.
    positions: BTreeMap<(&'a str, &'a str), (Place, u64)>,
}

impl<'a> Sums<'a> {
    fn received(&mut self, route: i64) {
        self.routes.entry(route).or_default()[0] += 1;
    }

    fn delivered(&mut self, route: i64, count: usize) {
        self.routes.entry(route).or_default()[1] += count;
    }

    fn ceded(&mut self, route: i64, count: usize) {
        self.routes.entry(route).or_default()[2] += count;
    }

    fn accepted(&mut self, cache: &'a str, topic: &'a str, place: Place) {
        let position = self.positions.entry((cache, topic)).or_insert((place, place.number));
        let follows = place.follows(position.0);
        *position = (place, if follows { position.1 } else { place.number });
    }

    fn write(self, store: &Transaction<'_>) -> rusqlite::Result<()> {
        for (route, [received, delivered, ceded]) in self.routes {
            let sql = "UPDATE route SET received = received + ?2, delivered = delivered + ?3, ceded = ceded + ?4
                       WHERE id = ?1";
            let values = params![route, received as i64, delivered as i64, ceded as i64];
            store.prepare_cached(sql)?.execute(values)?;
        }
        for ((cache, topic), (Place { page, number }, since)) in self.positions {
            let sql = "INSERT INTO position VALUES (?1, ?2, ?3, ?4, ?5)
                       ON CONFLICT DO UPDATE SET page = excluded.page, number = excluded.number, since =
                           CASE WHEN page = excluded.page AND number + 1 = excluded.since THEN since ELSE excluded.since END";
            let values = params![cache, topic, page as i64, number as i64, since as i64];
            store.prepare_cached(sql)?.execute(values)?;
        }
        Ok(())
    }
}

fn apply<'a>(store: &Transaction<'_>, write: &'a Write, now: u64, sums: &mut Sums<'a>) -> rusqlite::Result<()> {
    match write {
        Write::Message { cache, topic, routes, place, received, token_id, payload, incident } => {
            if let Some(incident) = incident {
                record(store, cache, topic, incident, now)?;
            }
            sums.accepted(cache, topic, *place);
            for route in routes.iter() {
                insert(store, *route, *place, *received, token_id, payload)?;
                sums.received(*route);
            }
            Ok(())
        }
        Write::Incident { cache, topic, incident } => record(store, cache, topic, incident, now),
        Write::Delivered { id, route } => {
            let deleted = store.prepare_cached("DELETE FROM pending WHERE id = ?1")?.execute([id])?;
            sums.delivered(*route, deleted);
            Ok(())
        }
        Write::Dead { id, attempts, uncertain, reason, is_kept } => {
            let sql =
                "INSERT INTO dead (route, page, number, received, token_id, text, binary, attempts, uncertain, died, reason)
                       SELECT route, page, number, received, token_id, CASE WHEN ?6 THEN '' WHEN binary IS NULL THEN text END,
                           CASE WHEN NOT ?6 THEN binary END, ?2, ?3, ?4, ?5 FROM pending WHERE id = ?1";
            let uncertain = uncertain.map(|at| at as i64);
            store.prepare_cached(sql)?.execute(params![id, attempts, uncertain, now as i64, reason, is_kept])?;
            store.prepare_cached("DELETE FROM pending WHERE id = ?1")?.execute([id])?;
            Ok(())
        }
        Write::Tried { id, attempts, uncertain } => {
            let sql = "UPDATE pending SET attempts = ?2, uncertain = ?3 WHERE id = ?1";
            store.prepare_cached(sql)?.execute(params![id, attempts, uncertain.map(|at| at as i64)])?;
            Ok(())
        }
        Write::TakenOver { route } => {
            let sql = "UPDATE pending SET uncertain = received WHERE route = ?1 AND uncertain IS NULL";
            store.prepare_cached(sql)?.execute([route])?;
            Ok(())
        }
        Write::Flush(_) => Ok(()),
        Write::Ceded { route, settled: Settled { to, since } } => {
            let Some(since) = since else { return Ok(()) };
            let sql = "DELETE FROM pending WHERE route = ?1 AND NOT redriven
                       AND page = ?2 AND number BETWEEN ?3 AND ?4";
            let values = params![route, to.page as i64, *since as i64, to.number as i64];
            let deleted = store.prepare_cached(sql)?.execute(values)?;
            sums.ceded(*route, deleted);
            Ok(())
        }
    }
}

fn insert(
    store: &Transaction<'_>,
    route: i64,
    place: Place,
    received: u64,
    token_id: &str,
    payload: &Payload,
) -> rusqlite::Result<()> {
    let (text, binary) = match payload {
        Payload::Text(text) => (text.as_str(), None),
        Payload::Binary(bytes) => ("", Some(bytes)),
    };
    let sql = "INSERT INTO pending (route, page, number, received, token_id, text, binary)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let values = params![route, place.page as i64, place.number as i64, received as i64, token_id, text, binary];
    store.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

fn record(store: &Transaction<'_>, cache: &str, topic: &str, incident: &Incident, now: u64) -> rusqlite::Result<()> {
    let Incident { kind, before, after, missed } = incident;
    let sql = "INSERT INTO incident
               (at, cache, topic, kind, before_page, before_number, after_page, after_number, missed)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    store.prepare_cached(sql)?.execute(params![
        now as i64,
        cache,
        topic,
        kind.name(),
        before.page as i64,
        before.number as i64,
        after.page as i64,
        after.number as i64,
        missed.map(|missed| missed as i64),
    ])?;
    let forget = "DELETE FROM incident WHERE id <= (SELECT max(id) FROM incident) - ?1";
    store.prepare_cached(forget)?.execute([MAX_INCIDENTS])?;
    Ok(())
}
