//! When a message was received, agreed upon in a Momento cache: for relays that have no disk, or that are two.
//!
//! The time of receipt is part of the event's identity, so whoever receives a message again, after a restart or as the
//! other one of a pair, must give it the same one. The first to store it wins.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::account::Accounts;
use super::backoff::Backoff;
use super::cursor::Place;
use super::health::Health;
use super::journal::Write;
use crate::momento::Error;

/// As long as the handlers remember an event.
const TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// Nothing is accepted before its time is agreed upon, so this goes on for as long as it takes.
const RETRY: Backoff =
    Backoff { least: Duration::from_millis(50), base: Duration::from_millis(200), most: Duration::from_secs(5) };

/// A key under `relay/` for what these parts name.
pub(crate) fn key(kind: &str, parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes()); // so that ("ab","c") is not ("a","bc")
        hash.update(part);
    }
    format!("relay/{kind}/{}", hex::encode(hash.finalize()))
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Receipts {
    pub(crate) accounts: Accounts,
    /// The topic's own cache where it is not set.
    pub(crate) cache: Option<String>,
    pub(crate) health: Health,
}

impl Receipts {
    /// Gives a message the time of receipt that counts. Waits until it is known.
    pub(crate) async fn stamp(self, mut step: Write) -> Write {
        if let Write::Message { cache, topic, place, received, .. } = &mut step {
            *received = self.agree(cache, topic, *place, *received).await;
        }
        step
    }

    async fn agree(mut self, cache: &str, topic: &str, place: Place, ours: u64) -> u64 {
        let (page, number) = (place.page.to_be_bytes(), place.number.to_be_bytes());
        let key = key("receipt", &[cache.as_bytes(), topic.as_bytes(), &page, &number]);
        let mut failures = 0;
        loop {
            match self.try_agree(cache, &key, ours).await {
                Ok(Some(agreed)) => {
                    self.health.clear("receipts");
                    return agreed;
                }
                Ok(None) => {} // it ended in between
                Err(error) => {
                    failures += 1;
                    if failures > 1 {
                        self.health.set("receipts", format!("times of receipt cannot be agreed upon: {error}"));
                    }
                    tokio::time::sleep(RETRY.wait(failures)).await;
                }
            }
        }
    }

    async fn try_agree(&mut self, topic_cache: &str, key: &str, ours: u64) -> Result<Option<u64>, Error> {
        let momento = self.accounts.get().await.momento;
        let cache = self.cache.as_deref().unwrap_or(topic_cache);
        if momento.set_if_absent(cache, key, &ours.to_string(), TTL).await? {
            return Ok(Some(ours));
        }
        let stored = momento.get(cache, key).await?;
        // What cannot be read is not ours, and nobody can be given it: our own time serves.
        Ok(stored.map(|stored| std::str::from_utf8(&stored).ok().and_then(|text| text.parse().ok()).unwrap_or(ours)))
    }
}
