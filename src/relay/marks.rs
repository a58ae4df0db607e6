//! How far each route has come, in a Momento cache: from there a relay without a disk goes on, and by it the one that stands
//! by knows what it need not deliver.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::account::Accounts;
use super::journal::{Journal, RouteName, Settled, Write};
use super::receipts::key;
use crate::momento::{Error, Momento};

/// Momento keeps nothing longer.
const TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// How often a mark is written again that has not moved, so that a quiet topic keeps it.
const REFRESH: Duration = Duration::from_secs(10 * 60);
/// Between two rounds, for each twenty routes: the smallest service limit is 100 calls a second.
const ROUND: Duration = Duration::from_secs(1);

/// Where a route's mark lies.
pub(crate) struct Mark {
    route: i64,
    cache: String,
    key: String,
    /// What we know to be there, and since when.
    stored: Option<(Vec<u8>, Instant)>,
}

impl Mark {
    pub(crate) fn new(route: i64, name: &RouteName, cache: Option<&str>) -> Self {
        let parts = [name.cache.as_bytes(), name.topic.as_bytes(), name.name.as_bytes()];
        Self { route, cache: cache.unwrap_or(&name.cache).to_owned(), key: key("mark", &parts), stored: None }
    }

    pub(crate) fn route(&self) -> i64 {
        self.route
    }

    /// Where the route is, as far as it has been told.
    pub(crate) async fn read(&mut self, momento: &Momento) -> Result<Option<Settled>, Error> {
        let stored = momento.get(&self.cache, &self.key).await?;
        let settled = stored.as_ref().and_then(|stored| serde_json::from_slice(stored).ok());
        self.stored = stored.map(|stored| (stored, Instant::now()));
        Ok(settled)
    }

    /// Moves the mark forward, never back. On bytes that have been read, so that two writers cannot cross.
    async fn write(&mut self, momento: &Momento, settled: Settled) -> Result<(), Error> {
        let value = serde_json::json!(settled).to_string();
        let fresh = |since: &Instant| since.elapsed() < REFRESH;
        if self.stored.as_ref().is_some_and(|(stored, since)| *stored == value.as_bytes() && fresh(since)) {
            return Ok(());
        }
        let done = match &self.stored {
            None => momento.set_if_absent(&self.cache, &self.key, &value, TTL).await?,
            Some((stored, _)) if is_ahead(stored, settled) => return Ok(()),
            Some((stored, _)) => momento.set_if_equal(&self.cache, &self.key, &value, stored, TTL).await?,
        };
        if done {
            self.stored = Some((value.into_bytes(), Instant::now()));
        } else {
            self.read(momento).await?; // and the next round writes
        }
        Ok(())
    }
}

fn is_ahead(stored: &[u8], of: Settled) -> bool {
    let place = |settled: Settled| (settled.to.page, settled.to.number);
    serde_json::from_slice(stored).is_ok_and(|stored| place(stored) > place(of))
}

/// All marks.
pub(crate) struct Marks {
    pub(crate) marks: Vec<Mark>,
    pub(crate) journal: Journal,
    pub(crate) accounts: Accounts,
}

impl Marks {
    /// While we deliver, tells how far; while another one does, lets go of what it has settled. Until it is dropped.
    pub(crate) async fn run(&mut self, active: watch::Receiver<bool>) {
        let round = ROUND * (self.marks.len().div_ceil(20).max(1) as u32);
        let mut rounds = tokio::time::interval(round);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            let is_active = *active.borrow();
            let done = if is_active { self.tell().await } else { self.cede().await };
            if let Err(error) = done {
                tracing::warn!(error = &*error as &dyn std::error::Error, "marks in Momento not exchanged");
            }
        }
    }

    /// Tells how far every route has come.
    pub(crate) async fn tell(&mut self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let momento = self.accounts.get().await.momento;
        for mark in &mut self.marks {
            if let Some(settled) = self.journal.settled(mark.route).await? {
                mark.write(&momento, settled).await?;
            }
        }
        Ok(())
    }

    /// Lets go of what the other relay has settled.
    pub(crate) async fn cede(&mut self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let momento = self.accounts.get().await.momento;
        for mark in &mut self.marks {
            if let Some(settled) = mark.read(&momento).await? {
                self.journal.settle(Write::Ceded { route: mark.route, settled }).await;
            }
        }
        self.journal.flush().await; // before anybody reads what is left
        Ok(())
    }

    /// Has what is left count as attempted, by the other relay, since it was received.
    pub(crate) async fn doubt(&self) {
        for mark in &self.marks {
            self.journal.settle(Write::TakenOver { route: mark.route }).await;
        }
        self.journal.flush().await;
    }
}
