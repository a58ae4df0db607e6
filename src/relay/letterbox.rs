//! Dead letters of a relay without a disk: written to a Momento cache, where they can be read for a day.

use std::time::Duration;

use serde_json::{Value, json};

use super::account::Accounts;
use super::backoff::Backoff;
use super::journal::{Pending, RouteName};
use super::receipts::key;
use crate::clock;
use crate::momento::{Error, ListBounds, Momento};

/// Momento keeps nothing longer; and how many letters of a route it keeps at most.
const BOUNDS: ListBounds = ListBounds { ttl: Duration::from_secs(24 * 60 * 60), newest: 1_000 };
const RETRY: Backoff =
    Backoff { least: Duration::from_millis(100), base: Duration::from_secs(1), most: Duration::from_secs(30) };
/// How often it is tried to write one. The process has it too, as long as it lives.
const TRIES: u32 = 8;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Letterbox {
    pub(crate) accounts: Accounts,
    /// The topic's own cache where it is not set.
    pub(crate) cache: Option<String>,
}

impl Letterbox {
    /// Writes a letter, on its own time.
    pub(crate) fn keep(&self, route: &RouteName, pending: &Pending, reason: &str) {
        let letter = json!({
            "id": pending.id,
            "cache": route.cache,
            "topic": route.topic,
            "route": route.name,
            "page": pending.place.page,
            "number": pending.place.number,
            "received": pending.received,
            "died": clock::now(),
            "attempts": pending.attempts + 1,
            "reason": reason,
            "binary": false,
            "tokenId": pending.token_id,
            "text": pending.text,
        });
        tokio::spawn(self.clone().write(route.clone(), letter.to_string()));
    }

    async fn write(mut self, route: RouteName, letter: String) {
        let (cache, list) = (self.cache.clone().unwrap_or_else(|| route.cache.clone()), list(&route));
        for failures in 1..=TRIES {
            let momento = self.accounts.get().await.momento;
            match momento.list_push_front(&cache, &list, letter.as_bytes(), BOUNDS).await {
                Ok(()) => return,
                Err(error) => tracing::error!(%error, "a dead letter could not be written to Momento"),
            }
            tokio::time::sleep(RETRY.wait(failures)).await;
        }
    }
}

/// A route's letters, the newest first.
///
/// # Errors
/// [`Error`].
pub(crate) async fn read(momento: &Momento, route: &RouteName, cache: Option<&str>) -> Result<Vec<Value>, Error> {
    let entries = momento.list_range(cache.unwrap_or(&route.cache), &list(route), 0, BOUNDS.newest).await?;
    Ok(entries.iter().filter_map(|entry| serde_json::from_slice(entry).ok()).collect())
}

fn list(route: &RouteName) -> String {
    key("dead", &[route.cache.as_bytes(), route.topic.as_bytes(), route.name.as_bytes()])
}
