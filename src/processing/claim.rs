//! Who processes an event, and whether that has been done: one record for each event, in Momento.
//!
//! A record is `held` by whoever processes the event, until its lease ends; `tried` after an attempt that failed; and `done`
//! after one that succeeded. It is never deleted, lives 24 h, and changes only by a conditional write on the bytes that
//! were read, so that of any number of takers one wins. The records lie in a cache: a flush or an eviction ends what
//! they guarantee.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Fault;
use crate::event::{Event, EventId};
use crate::momento::{self, Momento};

/// How long a record lives: the longest that Momento keeps anything, and longer than any sender goes on trying.
const TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// Where records lie, and how long an attempt may hold one.
pub(super) struct Claims {
    cache: Option<String>,
    lease: Duration,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
enum Record {
    Held {
        owner: String,
        /// When the lease ends, in epoch milliseconds.
        until: u64,
    },
    Tried,
    Done,
}

impl Record {
    fn to_json(&self) -> String {
        #[allow(clippy::expect_used, reason = "text and numbers always serialise")]
        serde_json::to_string(self).expect("text and numbers always serialise")
    }
}

/// What asking for an event came to.
pub(super) enum Claimed {
    /// It is ours until the lease ends.
    Won(Claim),
    /// It has been processed.
    Done,
    /// Another attempt at it is under way until then, in epoch milliseconds, unless it ends before.
    UnderWay(u64),
}

/// The right to process one event.
#[derive(Debug)]
pub(super) struct Claim {
    cache: String,
    key: String,
    held: String,
    /// Was there an attempt before, which may have had its effect?
    pub(super) takes_over: bool,
}

impl Claims {
    pub(super) fn new(cache: Option<String>, lease: Duration) -> Self {
        Self { cache, lease }
    }

    /// Asks for an event. `owner` must be of this attempt alone; `now` in epoch milliseconds.
    pub(super) async fn claim(
        &self,
        momento: &Momento,
        event: &Event,
        id: EventId,
        owner: &str,
        now: u64,
    ) -> Result<Claimed, Fault> {
        let until = now.saturating_add(self.lease.as_millis() as u64);
        let mut claim = Claim {
            cache: self.cache.as_deref().unwrap_or(&event.cache).to_owned(),
            key: format!("claim/{id}"),
            held: Record::Held { owner: owner.to_owned(), until }.to_json(),
            takes_over: false,
        };
        if claim.take(momento, None).await? {
            return Ok(Claimed::Won(claim));
        }
        let Some(found) = momento.get(&claim.cache, &claim.key).await? else {
            // It ended just now. Whoever is asked again finds it absent, or finds the next one.
            return Err(Fault::Failed("the claim ended while it was read".into()));
        };
        let record = serde_json::from_slice(&found).map_err(|_| Fault::Failed("the claim cannot be read".into()))?;
        match record {
            Record::Done => return Ok(Claimed::Done),
            // The answer to our own write was lost on its way, and the write was sent again.
            Record::Held { owner: held_by, .. } if held_by == owner => return Ok(Claimed::Won(claim)),
            Record::Held { until, .. } if now < until => return Ok(Claimed::UnderWay(until)),
            Record::Held { .. } | Record::Tried => claim.takes_over = true,
        }
        if claim.take(momento, Some(&found)).await? {
            return Ok(Claimed::Won(claim));
        }
        Ok(Claimed::UnderWay(until)) // someone was faster, and has just begun
    }
}

impl Claim {
    async fn take(&self, momento: &Momento, found: Option<&[u8]>) -> Result<bool, momento::Error> {
        match found {
            None => momento.set_if_absent(&self.cache, &self.key, &self.held, TTL).await,
            Some(found) => momento.set_if_equal(&self.cache, &self.key, &self.held, found, TTL).await,
        }
    }

    /// Records that the effect is there. `false`: the lease had ended, and another attempt has taken over.
    pub(super) async fn done(&self, momento: &Momento) -> Result<bool, momento::Error> {
        self.settle(momento, &Record::Done).await
    }

    /// Records that the attempt has failed, so that the next one need not wait for the lease to end.
    pub(super) async fn tried(&self, momento: &Momento) -> Result<bool, momento::Error> {
        self.settle(momento, &Record::Tried).await
    }

    async fn settle(&self, momento: &Momento, record: &Record) -> Result<bool, momento::Error> {
        momento.set_if_equal(&self.cache, &self.key, &record.to_json(), self.held.as_bytes(), TTL).await
    }
}
