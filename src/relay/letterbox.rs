//! Dead letters of a relay without a disk: written to a Momento cache, where they are kept for a day.

use std::time::Duration;

use momento_protos::cache_client::ListRemoveRequest;
use momento_protos::cache_client::list_remove_request::Remove;
use momento_protos::cache_client::scs_client::ScsClient;
use tonic::Status;

use super::account::{Account, Accounts, CALL};
use super::backoff::Backoff;
use super::journal::{Letter, Pending, RouteName};
use super::receipts::key;
use crate::clock;
use crate::momento::{Error, ListBounds};

/// Momento keeps nothing longer; and how many letters of a route it keeps at most.
const BOUNDS: ListBounds = ListBounds { ttl: Duration::from_secs(24 * 60 * 60), newest: 1_000 };
const RETRY: Backoff =
    Backoff { least: Duration::from_millis(100), base: Duration::from_secs(1), most: Duration::from_secs(30) };
/// How often it is tried to write one. The process has it too, as long as it lives.
const TRIES: u32 = 8;
/// Letters' numbers are below this, so that every program that reads JSON gets them whole.
const NUMBERS: i64 = 1 << 53;

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
        let letter = Letter {
            id: fastrand::i64(1..NUMBERS), // each process counts its messages anew
            route: route.clone(),
            place: pending.place,
            received: pending.received,
            died: clock::now(),
            attempts: pending.attempts + 1,
            reason: reason.to_owned(),
            uncertain: pending.uncertain,
            token_id: pending.token_id.clone(),
            text: Some(pending.text.clone()),
        };
        tokio::spawn(self.clone().write(letter));
    }

    async fn write(mut self, letter: Letter) {
        let (cache, list) = (cache(self.cache.as_deref(), &letter.route), list(&letter.route));
        let Ok(entry) = serde_json::to_vec(&letter) else { return }; // texts and numbers
        for failures in 1..=TRIES {
            let momento = self.accounts.get().await.momento;
            match momento.list_push_front(cache, &list, &entry, BOUNDS).await {
                Ok(()) => return,
                Err(error) => tracing::error!(%error, "a dead letter could not be written to Momento"),
            }
            tokio::time::sleep(RETRY.wait(failures)).await;
        }
    }
}

/// A letter, and the entry that it was read from.
pub(crate) struct Kept {
    pub(crate) letter: Letter,
    entry: Vec<u8>,
}

/// A route's letters, the oldest first.
///
/// # Errors
/// [`Error`].
pub(crate) async fn read(account: &Account, in_cache: Option<&str>, route: &RouteName) -> Result<Vec<Kept>, Error> {
    let entries = account.momento.list_range(cache(in_cache, route), &list(route), 0, BOUNDS.newest).await?;
    let kept = |entry: Vec<u8>| Some(Kept { letter: serde_json::from_slice(&entry).ok()?, entry });
    Ok(entries.into_iter().rev().filter_map(kept).collect())
}

/// Removes a letter.
///
/// # Errors
/// What the service says.
pub(crate) async fn remove(account: &Account, in_cache: Option<&str>, kept: &Kept) -> Result<(), Status> {
    let route = &kept.letter.route;
    let remove = Some(Remove::AllElementsWithValue(kept.entry.clone()));
    let message = ListRemoveRequest { list_name: list(route).into(), remove };
    let mut request = account.request(cache(in_cache, route), message)?;
    request.set_timeout(CALL);
    ScsClient::new(account.channel(0)).list_remove(request).await.map(drop)
}

fn cache<'a>(configured: Option<&'a str>, route: &'a RouteName) -> &'a str {
    configured.unwrap_or(&route.cache)
}

fn list(route: &RouteName) -> String {
    key("dead", &[route.cache.as_bytes(), route.topic.as_bytes(), route.name.as_bytes()])
}
